"""The table of `jepa anticipate`, and its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jepa.evaluation.anticipation.data import AnticipationData
from jepa.evaluation.anticipation.study import Row


def table(rows: Sequence[Row], *, official: bool = False) -> str:
    """Returns a table for the terminal.

    Args:
        rows: with the same tasks.
        official: add the released way of reporting: the maximum over probes on validation, of
            verb, noun and action each.
    """
    tasks = rows[0].scores
    width = max(len(row.name) for row in rows) + 2
    heads = [f"{task}@{score.top}" for task, score in tasks.items()] + ["action@1"]
    lines = ["class-mean recall on the test videos [95 % interval over videos]"]
    lines.append(" " * width + "".join(f"{head:<24}" for head in heads).rstrip())
    for row in rows:
        cells = [*(score.recall for score in row.scores.values()), row.scores["action"].recall_at_1]
        lines.append(f"{row.name:<{width}}" + "".join(f"{cell!s:<24}" for cell in cells).rstrip())
    if official:
        lines.append("official reporting: maximum over probes on validation, each on its own")
        key = "official_maximum_of_each_on_validation"
        for row in rows:
            cells = row.details.get(key, {}).values()
            if cells:
                lines.append(f"{row.name:<{width}}" + "".join(f"{cell:<24.3f}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def describe_skipped(part: str, data: AnticipationData) -> str:
    """Returns a line on the actions of a part, and what was left out of it."""
    skipped, count = data.all_skipped(part), len(data.segments[part])
    line = f"{part}: {count} actions, {len(skipped)} left out"
    if not skipped:
        return line
    named = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    return f"{line} ({named}{'; ...' if len(skipped) > 3 else ''})"


def as_json(rows: Sequence[Row], data: AnticipationData, about: dict[str, Any]) -> dict[str, Any]:
    """Returns all numbers, and the name of every action that was left out."""
    return {
        **about,
        "num_classes": dict(data.num_classes),
        "actions": {part: len(segments) for part, segments in data.segments.items()},
        "left_out": {
            part: [{"name": name, "reason": reason} for name, reason in data.all_skipped(part)]
            for part in data.segments
        },
        "rows": [
            {
                "name": row.name,
                "scores": {task: score.as_json() for task, score in row.scores.items()},
                "details": row.details,
            }
            for row in rows
        ],
    }
