"""An environment that goes on after a success, and keeps note of every distance.

Protocols disagree on when to judge: at any step, at the last one, after each plan. Who has all
distances can judge by any of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from planning.actions.space import ActionSpec
from planning.types import Environment, Goal, TimeStep


class WholeBudget:
    """An environment whose episodes last for `max_steps`, unless its simulation ends by itself.

    By the contract of environments an episode succeeds, and ends, where `distance_to_goal` is below
    `success_distance`. Nothing is below zero: so long as the environment acts, that is its success
    distance. It has its own one back before anybody asks for a distance.

    Args:
        environment: does everything else; its budget is set.
        max_steps: the budget.
        success_distance: what counts as a success here.

    A step in which the environment fails, or after which its distance is no number, ends the
    episode without a success; what was done in it stays, and others may go on.

    Attributes:
        distances: to the goal, after the reset and after each step of this episode.
        failure: why the environment ended this episode; None: it did not fail.
    """

    def __init__(
        self, environment: Environment, *, max_steps: int, success_distance: float
    ) -> None:
        self.environment = environment
        environment.max_steps = max_steps
        self.max_steps, self.success_distance = max_steps, success_distance
        self.name, self.image_size = environment.name, environment.image_size
        self.frames_per_second = environment.frames_per_second
        self.state_names, self.state_units = environment.state_names, environment.state_units
        self.distances: list[float] = []
        self.failure: str | None = None
        self._last: TimeStep | None = None

    @property
    def action_spec(self) -> ActionSpec:
        """That of the environment."""
        return self.environment.action_spec

    @property
    def goal(self) -> Goal:
        """The goal of this episode."""
        return self.environment.goal

    def reset(
        self, generator: np.random.Generator, *, start: np.ndarray | None, goal: np.ndarray | None
    ) -> TimeStep:
        """Starts an episode; see `planning.types.Environment`."""
        self.distances, self.failure = [], None
        with self._without_success():
            time_step = self.environment.reset(generator, start=start, goal=goal)
        return self._noted(time_step, self.environment.distance_to_goal())

    def step(self, action: np.ndarray) -> TimeStep:
        """Acts once.

        Raises:
            RuntimeError: when the budget is spent, or the environment has failed.
            ValueError: if the action is none of the environment's.
        """
        if self.failure is not None or len(self.distances) > self.max_steps:
            reason = self.failure or f"its budget of {self.max_steps} steps is spent"
            raise RuntimeError(f"the episode is over ({reason}): call reset")
        action = self.action_spec.validate(action)  # what is not the environment's fault
        try:
            with self._without_success():
                time_step = self.environment.step(action)
            distance = self.environment.distance_to_goal()
        except Exception as error:  # a simulator's own, of whatever kind
            return self._failed(f"{type(error).__name__}: {error}")
        if not math.isfinite(distance):
            return self._failed(f"its distance to the goal is {distance}")
        return self._noted(time_step, distance)

    def distance_to_goal(self) -> float:
        """How far the true state is from the goal."""
        return self.environment.distance_to_goal()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else it offers
        if name == "environment":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.environment, name)

    @contextmanager
    def _without_success(self) -> Iterator[None]:
        own = self.environment.success_distance
        self.environment.success_distance = 0.0
        try:
            yield
        finally:
            self.environment.success_distance = own

    def _noted(self, time_step: TimeStep, distance: float) -> TimeStep:
        self.distances.append(distance)
        # With no success it can only be the budget, or a task that ends by itself.
        is_last = time_step.is_last or len(self.distances) > self.max_steps
        is_success = distance < self.success_distance
        self._last = time_step._replace(is_success=is_success, is_last=is_last)
        return self._last

    def _failed(self, reason: str) -> TimeStep:
        assert self._last is not None
        step = len(self.distances)
        self.failure = " ".join(f"the environment failed at step {step}: {reason}".split())
        return self._last._replace(is_success=False, is_last=True)
