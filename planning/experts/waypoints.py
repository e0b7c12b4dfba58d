"""The way round obstacles in the plane, and a controller that follows it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from planning.types import Environment, TimeStep

IsFree = Callable[[np.ndarray], np.ndarray]

_NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


class WaypointMap:
    """Shortest ways over a square grid of free points.

    Args:
        is_free: whether points (num_points, 2) may be stood upon: (num_points,) bool.
        low: smallest x and y of the grid.
        high: largest x and y.
        spacing: between points of the grid; an obstacle thinner than that may be stepped over by
            the grid, though no way between waypoints leads through one.
    """

    def __init__(self, is_free: IsFree, low: float, high: float, spacing: float) -> None:
        self._is_free = is_free
        self._spacing = spacing
        ticks = np.linspace(low, high, max(2, round((high - low) / spacing) + 1))
        x, y = np.meshgrid(ticks, ticks, indexing="ij")
        self._num_ticks = len(ticks)
        self._points = np.stack([x, y], axis=-1)  # (ticks, ticks, 2)
        self._free = np.asarray(is_free(self._points.reshape(-1, 2))).reshape(x.shape)
        self._distances: dict[tuple[int, int], np.ndarray] = {}

    def is_visible(self, start: np.ndarray, end: np.ndarray) -> bool:
        """True where the straight line between two points is free, its ends apart."""
        num_points = max(2, math.ceil(float(np.linalg.norm(end - start)) / self._spacing * 4))
        shares = np.linspace(0, 1, num_points + 1)[1:-1, None]
        return bool(self._is_free(start + shares * (end - start)).all())

    def next_waypoint(self, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Returns the goal if it can be seen, else the furthest visible point of the way there."""
        if self.is_visible(position, goal):
            return goal
        cell = self._nearest_free(position)
        distances = self._distances_to(self._nearest_free(goal))
        waypoint = self._points[cell]
        if math.isinf(distances[cell]):
            return waypoint
        while distances[cell] > 0:
            cell = min(self._neighbours(cell), key=lambda neighbour: distances[neighbour])
            if not self.is_visible(position, self._points[cell]):
                break
            waypoint = self._points[cell]
        else:
            return goal  # its own cell can be seen, or is where we are
        return waypoint

    def length(self, start: np.ndarray, goal: np.ndarray) -> float:
        """Returns the length of the way over the grid; infinity where there is none."""
        distances = self._distances_to(self._nearest_free(goal))
        return float(distances[self._nearest_free(start)])

    # ------------------------------------------------------------------ private

    def _nearest_free(self, position: np.ndarray) -> tuple[int, int]:
        squared = ((self._points - position) ** 2).sum(axis=-1)
        index = int(np.where(self._free, squared, np.inf).argmin())
        return divmod(index, self._num_ticks)

    def _neighbours(self, cell: tuple[int, int]) -> list[tuple[int, int]]:
        """Returns the free cells beside a cell; also diagonally, where no corner is cut."""
        around = [(cell[0] + i, cell[1] + j) for i, j in _NEIGHBOURS]
        return [
            (i, j)
            for i, j in around
            if 0 <= i < self._num_ticks
            and 0 <= j < self._num_ticks
            and self._free[i, j]
            and self._free[cell[0], j]
            and self._free[i, cell[1]]
        ]

    def _distances_to(self, goal: tuple[int, int]) -> np.ndarray:
        """Dijkstra's algorithm from the goal: (ticks, ticks); kept for the next question."""
        if goal not in self._distances:
            distances = np.full(self._free.shape, np.inf)
            distances[goal] = 0.0
            queue = [(0.0, goal)]
            while queue:
                distance, cell = heapq.heappop(queue)
                if distance > distances[cell]:
                    continue
                for other in self._neighbours(cell):
                    step = self._spacing * math.dist(cell, other)
                    if distance + step < distances[other]:
                        distances[other] = distance + step
                        heapq.heappush(queue, (distance + step, other))
            self._distances = {goal: distances}  # one goal an episode
        return self._distances[goal]


class WaypointExpert:
    """Steers a mass along the way: a force towards the next waypoint, less a share of the speed.

    For environments whose state is (x, y, x_velocity, y_velocity) and whose action is a force
    along x and y.

    Args:
        ways: where one can go.
        stiffness: force per distance to the waypoint.
        damping: force per speed, against it.
    """

    def __init__(self, ways: WaypointMap, *, stiffness: float, damping: float) -> None:
        self._ways = ways
        self._stiffness = stiffness
        self._damping = damping

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """The force of the largest size that still points the right way."""
        state = time_step.state.astype(np.float64)
        waypoint = self._ways.next_waypoint(state[:2], environment.goal.state[:2])
        force = self._stiffness * (waypoint - state[:2]) - self._damping * state[2:]
        bound = np.array(environment.action_spec.high)
        return (force / max(1.0, float((np.abs(force) / bound).max()))).astype(np.float32)
