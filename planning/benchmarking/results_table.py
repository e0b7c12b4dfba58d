"""The page of results, written from run folders: nobody types a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planning.benchmarking.protocol_card import ProtocolCard
from planning.benchmarking.run_folder import RunFolder

HEAD = """# Benchmarks

Written by `jepa plan results`; do not edit. Every row is one run of `jepa plan evaluate --card`, on
the frozen starts and goals of a protocol card (`planning/protocols/`, docs/protocols.md). Intervals
are 95 % Wilson intervals. Any step and last step are two ways of judging; success is the one that
the card prescribes. "sees" is what a policy gets beside pictures: nothing, the robot's own state
(proprioception), or all (objects, too; the true simulator). Controls are on the same starts; what
each of them is stands below its table. Numbers of others stand here only where the card says that
the protocol is the same, and our run kept to it."""
UNKNOWN = "unknown"
# What controls see; those that plan with a world model see what it sees.
SEES = {"do_nothing": "", "random": "", "expert": "all", "replay": "", "cloning": "none",
        "oracle": "all"}  # fmt: skip


def results_page(runs: Sequence[RunFolder]) -> str:
    """Returns the page in Markdown: a section for each card and version.

    Raises:
        ValueError: if there are no runs, or two of one card and version are of different files.
    """
    if not runs:
        raise ValueError("there are no runs to write about; give at least one folder")
    _refuse_mixed_cards(runs)
    titles = sorted({run.title for run in runs})
    sections = [_section(title, [run for run in runs if run.title == title]) for title in titles]
    return "\n\n".join([HEAD, *sections]) + "\n"


def _refuse_mixed_cards(runs: Sequence[RunFolder]) -> None:
    first = {}
    for run in runs:
        other = first.setdefault(run.title, run)
        for key, called in (("sha256", "card files"), ("tasks_sha256", "tasks")):
            if run.card[key] != other.card[key]:
                raise ValueError(
                    f"{run.title} of {other.path} and of {run.path} are different {called}; "
                    "evaluate again those that are older"
                )


def _section(title: str, runs: Sequence[RunFolder]) -> str:
    card = runs[0].card
    lines = [
        f"## {title}",
        "",
        f"{card['described']}. A world model may see the state: {card['state']}. "
        f"Source: {card['source']}.",
        "",
        "| policy | planner | sees | success | any step | last step | final distance | s per plan "
        "| n |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, run in enumerate(runs, start=1):
        lines += _rows(run, number)
    rows = _published(runs)
    lines += rows
    lines += ["", *(_footnote(run, number) for number, run in enumerate(runs, start=1))]
    if rows:
        lines += _differences(card)
    return "\n".join(lines)


def _rows(run: RunFolder, number: int) -> list[str]:
    rows = []
    for policy in run.summary["policies"]:
        is_planner = policy["kind"] == "planner"
        model = run.summary["checkpoint"]
        name = f"**{model['name']}** [{number}]" if is_planner else f"{policy['policy']} [{number}]"
        sees = str(SEES.get(policy["policy"], model["state"]))
        planner = _planner_of(run, policy)
        rows.append(_row((name, planner, sees), policy, run.card["unit"]))
    for name in run.summary["not_run"]:
        rows.append(f"| {name} [{number}] | | | not run | | | | | |")
    return rows


_PLANNED_BY = ("name", "settings", "execute", "cost", "limits")


def _planner_of(run: RunFolder, policy: Mapping[str, Any]) -> str:
    """Returns what a policy searches with: the same planner may be weaker for the oracle."""
    if policy["kind"] == "planner" or policy["policy"] == "untrained":
        return run.summary["planner"]["name"]
    if policy["policy"] != "oracle":
        return ""
    ours, theirs = run.summary["planner"], run.summary["oracle_planner"]
    is_same = all(ours.get(key) == theirs.get(key) for key in _PLANNED_BY)
    return theirs["name"] if is_same else f"{theirs['name']}, other settings"


def _row(begin: Sequence[str], policy: Mapping[str, Any], unit: str) -> str:
    seconds = policy["seconds_per_plan"]
    cells = (
        *begin,
        _rate(policy["success"]),
        f"{policy['success_at_any_step']['rate']:.0%}",
        f"{policy['success_at_last_step']['rate']:.0%}",
        f"{policy['final_distance']['median']:.3g} {unit}",
        "" if seconds is None else f"{seconds:.3g}",
        str(policy["success"]["episodes"]),
    )
    return f"| {' | '.join(cells)} |"


def _published(runs: Sequence[RunFolder]) -> list[str]:
    """Returns rows of published numbers, if they may stand beside ours."""
    card = runs[0].card
    if not card["is_comparable"] or all(run.summary["deviations"] for run in runs):
        return []
    return [
        f"| {row['model']} (published) | {row['planner']} | | {row['success']:.0%}, "
        f"{row['citation']} | | | | | {row['episodes']} |"
        for row in card["published"]
    ]


def _footnote(run: RunFolder, number: int) -> str:
    summary = run.summary
    machine, minutes = summary["hardware"], summary["training_minutes"]
    trained = "in an unknown time" if minutes is None else f"in {minutes:g} minutes, as is said"
    parts = [
        f"- [{number}] `{summary['command']}`",
        f"weights {summary['checkpoint']['sha256'][:12]}",
        f"trained {trained}, {_data(summary)}",
        f"planned with seed {summary['planner_seeds']}",
        f"{machine.get('gpu', machine['cpu'])}, {machine['threads']} threads",
        _versions(summary),
    ]
    if summary["deviations"]:
        parts.append(f"**deviates from the card**: {'; '.join(summary['deviations'])}")
    lines = ["; ".join(parts) + "."]
    lines += [
        f"  - {policy['policy']}: {policy['note']}."
        for policy in summary["policies"]
        if policy["note"] and policy["kind"] != "planner"
    ]
    lines += [
        f"  - {policy['policy']}: the environment failed in {policy['num_failures']} episodes, "
        "which are no successes."
        for policy in summary["policies"]
        if policy.get("num_failures")
    ]
    lines += [f"  - {name} not run: {reason}." for name, reason in summary["not_run"].items()]
    return "\n".join(lines)


def _data(summary: Mapping[str, Any]) -> str:
    """Returns what is known of the recordings, in words; what is not is said to be unknown."""
    data = summary["training_data"]
    vary = data["vary"]
    varied = UNKNOWN if vary is None else ", ".join(vary) or "none"
    parts = [
        f"seed {_known(data['training_seed'])}",
        f"on recordings {_known(data['index_sha256'])[:12]} of {_known(data['environment'])}",
        f"factors varied there: {varied}",
    ]
    if (cloning := summary["cloning_data"]) is not None:
        parts.append(f"cloning on recordings {_known(cloning['index_sha256'])[:12]}")
    return ", ".join(parts)


def _versions(summary: Mapping[str, Any]) -> str:
    found = {name: summary["versions"].get(name, UNKNOWN) for name in ("jepa-planning", "torch")}
    return ", ".join(
        f"{name} {version}" for name, version in (found | summary["simulator"]).items()
    )


def _known(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def _differences(card: Mapping[str, Any]) -> list[str]:
    if not card["differences"]:
        return []
    return ["", f"Ours differs from the published protocol in: {'; '.join(card['differences'])}."]


def card_facts(card: ProtocolCard) -> dict[str, Any]:
    """Returns what a summary, and this page, say of a card."""
    return {
        "name": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "tasks_sha256": card.tasks.sha256,
        "source": card.source,
        "described": (
            f"{card.goal.described}; {card.budget_steps} steps, a plan of {card.horizon_steps} of "
            f"which {card.execute_steps} are executed; success within {card.success.within:g} "
            f"{card.success.unit} at {card.success.judged_at.replace('_', ' ')}"
        ),
        "unit": card.success.unit,
        "state": card.state,
        "packages": dict(card.environment.packages),
        "is_comparable": card.is_comparable,
        "differences": list(card.differences),
        "published": [vars(row) for row in card.published],
    }


def _rate(rate: Mapping[str, float]) -> str:
    return f"{rate['rate']:.0%} [{rate['low']:.0%}, {rate['high']:.0%}]"
