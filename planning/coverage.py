"""What recorded episodes cover: cells of state space, ranges, actions at bounds, contacts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

CELLS_PER_AXIS = 16
SATURATION_MARGIN = 0.01  # of the range: so near to a bound, an action counts as at it


@dataclass(frozen=True)
class Coverage:
    """Of all episodes of a set together.

    Attributes:
        num_episodes: how many.
        num_steps: actions, in all episodes together.
        visited_cells: "x, y" -> share, 0 to 1, of the cells of the plane of two state columns in
            which some state lies; `CELLS_PER_AXIS` cells along each, over what the set itself
            spans. Of a single column its own cells.
        state_ranges: state column -> (least, greatest) value.
        action_ranges: action column -> (least, greatest) value.
        action_saturation: action column -> share of the steps in which it is at a bound.
        moving_steps: share of the steps in which an object moved; None where there is none.
        goals_reached: in all episodes together.
        early_ends: reason -> of how many episodes, that have fewer steps than were asked for.
        redrawn_starts: episode -> why each start was refused that was drawn for it before.
    """

    num_episodes: int
    num_steps: int
    visited_cells: dict[str, float]
    state_ranges: dict[str, tuple[float, float]]
    action_ranges: dict[str, tuple[float, float]]
    action_saturation: dict[str, float]
    moving_steps: float | None
    goals_reached: int
    early_ends: dict[str, int] = field(default_factory=dict)
    redrawn_starts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def mean_visited(self) -> float:
        """Mean share of visited cells, over the planes."""
        return float(np.mean(list(self.visited_cells.values()))) if self.visited_cells else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"mean_visited_cells": self.mean_visited, **asdict(self)}

    def lines(self) -> list[str]:
        """Returns what a user should see, a line each."""
        lines = [f"steps      {self.num_steps} in {self.num_episodes} episodes, "
                 f"goals reached: {self.goals_reached}"]  # fmt: skip
        if self.visited_cells:
            least = min(self.visited_cells, key=self.visited_cells.__getitem__)
            lines.append(
                f"visited    {self.mean_visited:.0%} of the cells of the planes of two state "
                f"columns, least ({least}): {self.visited_cells[least]:.0%}"
            )
        for title, ranges in (("states", self.state_ranges), ("actions", self.action_ranges)):
            told = (f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in ranges.items())
            lines.append(f"{title:<10} {', '.join(told)}")
        saturated = (f"{name} {share:.0%}" for name, share in self.action_saturation.items())
        lines.append(f"at a bound {', '.join(saturated)} of the steps")
        if self.moving_steps is not None:
            lines.append(f"moving     an object moves in {self.moving_steps:.0%} of the steps")
        for reason, count in self.early_ends.items():
            lines.append(f"shorter    {count} of {self.num_episodes} episodes: {reason}")
        if self.redrawn_starts:
            key, reasons = next(iter(self.redrawn_starts.items()))
            count = sum(map(len, self.redrawn_starts.values()))
            lines.append(f"redrawn    {count} starts, such as one of {key}: {reasons[0]}")
        return lines


def coverage_of(
    states: Sequence[np.ndarray],
    actions: Sequence[np.ndarray],
    *,
    state_names: Sequence[str],
    action_names: Sequence[str],
    action_low: Sequence[float],
    action_high: Sequence[float],
    moving_shares: Sequence[float] = (),
    goals_reached: int = 0,
    early_ends: Mapping[str, int] = MappingProxyType({}),
    redrawn_starts: Mapping[str, list[str]] = MappingProxyType({}),
) -> Coverage:
    """Counts.

    Args:
        states: of each episode (steps + 1, state_dim).
        actions: of each episode (steps, action_dim).
        state_names: of the columns.
        action_names: of the columns.
        action_low: bounds of the actions.
        action_high: likewise.
        moving_shares: of each episode, the share of its steps in which an object moved; empty if
            there are no objects.
        goals_reached: in all episodes together.
        early_ends: see `Coverage`.
        redrawn_starts: see `Coverage`.

    Raises:
        ValueError: if there is no episode.
    """
    if not states:
        raise ValueError("no episode to count the coverage of")
    all_states, all_actions = np.concatenate(states), np.concatenate(actions)
    low, high = np.array(action_low), np.array(action_high)
    margin = SATURATION_MARGIN * (high - low)
    at_bound = (all_actions <= low + margin) | (all_actions >= high - margin)
    moving = None
    if len(moving_shares):
        moving = float(np.average(moving_shares, weights=[len(rows) for rows in actions]))
    return Coverage(
        num_episodes=len(states),
        num_steps=len(all_actions),
        visited_cells=_visited(all_states, state_names),
        state_ranges=_ranges(all_states, state_names),
        action_ranges=_ranges(all_actions, action_names),
        action_saturation=dict(zip(action_names, at_bound.mean(0).tolist(), strict=True)),
        moving_steps=moving,
        goals_reached=goals_reached,
        early_ends=dict(early_ends),
        redrawn_starts=dict(redrawn_starts),
    )


def _visited(states: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    low, high = states.min(0), states.max(0)
    span = np.where(high > low, high - low, 1.0)
    cells = np.minimum((states - low) / span * CELLS_PER_AXIS, CELLS_PER_AXIS - 1).astype(int)
    if len(names) == 1:
        return {names[0]: len(np.unique(cells)) / CELLS_PER_AXIS}
    visited = {}
    for one, other in itertools.combinations(range(len(names)), 2):
        plane = cells[:, one] * CELLS_PER_AXIS + cells[:, other]
        visited[f"{names[one]}, {names[other]}"] = len(np.unique(plane)) / CELLS_PER_AXIS**2
    return visited


def _ranges(rows: np.ndarray, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    return {
        name: (float(column.min()), float(column.max()))
        for name, column in zip(names, rows.T, strict=True)
    }
