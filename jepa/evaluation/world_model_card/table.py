"""The report card as a table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from jepa.evaluation.world_model_card.card import WorldModelCard
from jepa.evaluation.world_model_card.causality import Causality
from jepa.evaluation.world_model_card.controllability import Controllability
from jepa.evaluation.world_model_card.drift import Drift
from jepa.evaluation.world_model_card.generalisation import Generalisation
from jepa.evaluation.world_model_card.occlusion import Occlusion
from jepa.evaluation.world_model_card.responsiveness import Responsiveness
from jepa.evaluation.world_model_card.round_trip import RoundTrip

WIDTH = 100


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        property: of which it is.
        measure: what is measured.
        value: the number with its interval, as text.
        baseline: what it is to be compared with, as text; "" where there is nothing.
    """

    property: str
    measure: str
    value: str
    baseline: str = ""


def card_table(card: WorldModelCard) -> str:
    """Returns the numbers, then the verdicts with their reasons."""
    lines = [
        f"{card.model} on {card.data}: {card.num_episodes} episodes, {card.num_windows} windows of "
        f"{card.horizon} actions; [95 % over episodes]",
        "",
        f"{'':<16}{'measure':<40}{'value':<26}beside",
    ]
    last = ""
    for row in rows(card):
        name = "" if row.property == last else row.property
        last = row.property
        lines.append(f"{name:<16}{row.measure:<40}{row.value:<26}{row.baseline}".rstrip())
    lines.append("")
    for name, verdict in card.verdicts.items():
        told = f"{verdict.outcome.upper():<15}{name}: {verdict.reason}"
        lines += textwrap.wrap(told, WIDTH, subsequent_indent=" " * 15)
    return "\n".join(lines)


def rows(card: WorldModelCard) -> Iterator[Row]:
    """Yields the lines of all that was measured."""
    if isinstance(card.causality, Causality):
        yield from _causality_rows(card.causality)
    if isinstance(card.controllability, Controllability):
        yield from _controllability_rows(card.controllability)
    if isinstance(card.drift, Drift):
        yield from _drift_rows(card.drift)
    if isinstance(card.occlusion, Occlusion):
        yield from _occlusion_rows(card.occlusion)
    if isinstance(card.round_trip, RoundTrip):
        yield from _round_trip_rows(card.round_trip)
    if isinstance(card.responsiveness, Responsiveness):
        yield from _responsiveness_rows(card.responsiveness)
    if isinstance(card.generalisation, Generalisation):
        yield from _generalisation_rows(card.generalisation)


def _causality_rows(part: Causality) -> Iterator[Row]:
    largest = f"{part.largest_change:.2g}"
    yield Row("causality", "change before a change", largest, f"allowed {part.tolerance:.1g}")
    yield Row("causality", "change after it", f"{part.later_change:.2g}")


def _controllability_rows(part: Controllability) -> Iterator[Row]:
    name = "controllability"
    yield Row(name, "error, true actions", str(part.true_error))
    yield Row(name, "error, shuffled actions", str(part.shuffled_error))
    yield Row(name, "error, zero actions", str(part.zero_error))
    yield Row(name, "shuffled / true", str(part.shuffled_ratio), "1: actions ignored")
    yield Row(name, "zero / true", str(part.zero_ratio), "1: actions ignored")
    response = part.response
    for action, share in zip(response.names, response.share_of_step, strict=True):
        is_dead = " (dead)" * (action in response.dead)
        yield Row(name, f"response to {action}{is_dead}", str(share), "shares of a recorded step")


def _drift_rows(part: Drift) -> Iterator[Row]:
    horizon = len(part.imagined)
    for step in sorted({1, (horizon + 1) // 2, horizon}):
        index = step - 1
        beside = f"copy {part.copied[index].value:.3f}, mean {part.mean[index].value:.3f}"
        yield Row("persistence", f"error after {step}", str(part.imagined[index]), beside)
    useful = f"{part.useful_horizon} of {horizon} steps"
    yield Row("persistence", "better than a copy", useful)


def _occlusion_rows(part: Occlusion) -> Iterator[Row]:
    hidden = f"{part.num_hidden} frames hidden"
    beside = f"seen {part.seen.value:.3f}, copy {part.copied.value:.3f}"
    yield Row("persistence", f"error, {hidden}", str(part.covered), beside)
    yield Row("persistence", f"kept, {hidden}", str(part.kept_ratio), "1: nothing kept")
    yield Row("persistence", f"error / copy, {hidden}", str(part.covered_ratio), "1: as a copy")
    yield Row("persistence", "imagined through", str(part.imagined_ratio), "1: as a copy")


def _round_trip_rows(part: RoundTrip) -> Iterator[Row]:
    yield Row(
        "persistence",
        f"{part.num_steps} there and back: returned / out",
        str(part.ratio),
        "0: the start, 1: as far",
    )


def _responsiveness_rows(part: Responsiveness) -> Iterator[Row]:
    for latency in part.latencies:
        p50, p95, p99 = (1000 * latency.percentile_seconds(p) for p in (50, 95, 99))
        size = f" {latency.batch_size} x {latency.num_steps}" if latency.num_steps else ""
        yield Row(
            "responsiveness",
            f"{latency.name}{size}: p50, p95, p99",
            f"{p50:.2f}, {p95:.2f}, {p99:.2f} ms",
            f"{latency.hz:.0f} Hz",
        )
    share = f"{part.share_in_time:.0%}"
    yield Row("responsiveness", f"in time at {part.deadline_hz:g} Hz", share, part.machine)


def _generalisation_rows(part: Generalisation) -> Iterator[Row]:
    name = "generalisation"
    yield Row(name, "nominal: error", str(part.error), f"of a copy's {part.copy_ratio}")
    for shift in part.shifts:
        yield Row(name, f"{shift.name}: error", str(shift.error), f"of a copy's {shift.copy_ratio}")
        yield Row(name, f"{shift.name}: / nominal", str(shift.error_ratio), "1: no worse")
        yield Row(name, f"{shift.name}: shuffled / true", str(shift.shuffled_ratio))
