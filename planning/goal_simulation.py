"""What environments have in common whose start and goal are configurations of a simulation.

An episode from a start to a goal, its end, and what `planning.capabilities` offers beyond the
contract: to keep a simulation and put it back, to try actions without pictures, to look otherwise.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from planning.actions.space import ActionSpec
from planning.capabilities import Factor, simulated_distances
from planning.types import Goal, TimeStep

Values = Mapping[str, tuple[float, ...]]
MAX_GOALS_DRAWN = 100


def checked_values(
    factors: Mapping[str, Factor], values: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """Returns the value of every factor: as given, or its default.

    Raises:
        ValueError: if there is no such factor, or a value is outside its bounds.
    """
    for name in values:
        if name not in factors:
            close = difflib.get_close_matches(name, factors, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"no factor {name!r}; {hint}there are: {', '.join(factors)}")
    return {
        name: factor.check(name, values[name]) if name in values else factor.default
        for name, factor in factors.items()
    }


def unreached_goal(
    draw: Callable[[], np.ndarray], distance_to: Callable[[np.ndarray], float], *, beyond: float
) -> np.ndarray:
    """Draws goals until one is far enough not to be reached already.

    Args:
        draw: draws a configuration.
        distance_to: how far it is from here.
        beyond: so far away a goal must be.

    Raises:
        ValueError: if all of `MAX_GOALS_DRAWN` are nearer.
    """
    for _ in range(MAX_GOALS_DRAWN):
        goal = draw()
        if distance_to(goal) >= beyond:
            return goal
    raise ValueError(
        f"all of {MAX_GOALS_DRAWN} goals that were drawn are nearer than {beyond:g} already"
    )


class GoalSimulation(ABC):
    """Goes from a start to a goal; below are the few things that a simulation must say.

    A subclass draws nothing and simulates nothing when it is made but what it must, and leaves
    `_act` free of pictures: it is what an oracle plans with.
    """

    name: str
    max_steps: int
    success_distance: float
    _goal: Goal | None = None
    _goal_configuration: np.ndarray | None = None
    _num_steps: int = 0
    _wanted: Values | None = None
    _applied: Values | None = None

    # ------------------------------------------------------------------ what a simulation says

    @property
    @abstractmethod
    def action_spec(self) -> ActionSpec:
        """Names, units and bounds of an action."""

    @property
    @abstractmethod
    def configuration(self) -> np.ndarray:
        """(len(configuration_names),), float64: where everything is now, at rest."""

    @abstractmethod
    def sample_configuration(self, generator: np.random.Generator) -> np.ndarray:
        """Draws where an episode may start or end."""

    @abstractmethod
    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns it as float64, a copy; raises ValueError "<what> must be ..." if it cannot be."""

    @abstractmethod
    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws where everything would be: (height, width, 3) uint8; moves nothing."""

    @abstractmethod
    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        """Returns the state (state_dim,) of a configuration, at rest."""

    @abstractmethod
    def _state_now(self) -> np.ndarray:
        """Returns the state (state_dim,) now."""

    @abstractmethod
    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        """Returns how far a configuration is from a goal, in the unit of `success_distance`."""

    @abstractmethod
    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        """Puts the simulation there, with nothing left of the episode before."""

    @abstractmethod
    def _act(self, action: np.ndarray) -> None:
        """Simulates one step with an action inside the bounds."""

    @abstractmethod
    def _saved(self) -> np.ndarray:
        """Returns (size,), float64: the whole simulation."""

    @abstractmethod
    def _load(self, saved: np.ndarray) -> None:
        """Goes back to what `_saved` returned."""

    # ------------------------------------------------------------------ the contract

    def reset(
        self,
        generator: np.random.Generator,
        *,
        start: np.ndarray | None = None,
        goal: np.ndarray | None = None,
    ) -> TimeStep:
        """Starts an episode; configurations that are not given are drawn.

        Raises:
            ValueError: if a configuration cannot be.
        """
        self._apply_what_is_wanted()
        first = self._drawn_or_checked(start, "start", generator)
        last = self._drawn_or_checked(goal, "goal", generator)
        self._aim_for(last)
        self._begin_at(first, generator)
        return self._time_step()

    def new_goal(self, generator: np.random.Generator) -> TimeStep:
        """Draws a goal that suits where everything is, and begins the budget of steps anew.

        The simulation is as it was before to the last bit, its speeds too.

        Raises:
            ValueError: if no goal can be drawn from here.
            RuntimeError: before the first reset.
        """
        if self._goal is None:
            raise RuntimeError("there is no episode to go on before the first reset")
        here, saved = self.configuration, self._saved()
        try:  # some move their simulation to draw
            drawn = unreached_goal(
                lambda: self._drawn_goal(here, generator),
                lambda goal: self._distance_between(here, goal),
                beyond=self.success_distance,
            )
        finally:
            self._load(saved)
        self._aim_for(drawn)
        return self._time_step()

    def step(self, action: np.ndarray) -> TimeStep:
        """Acts once."""
        if self._goal is None or self._is_last():
            raise RuntimeError("the episode is over; call reset before the next step")
        self._act(self.action_spec.validate(np.array(action)))
        self._num_steps += 1
        return self._time_step()

    @property
    def goal(self) -> Goal:
        """The goal of this episode."""
        if self._goal is None:
            raise RuntimeError("there is no goal before the first reset")
        return self._goal

    @property
    def goal_configuration(self) -> np.ndarray:
        """(len(configuration_names),), float64: where everything is at the goal; a copy."""
        if self._goal_configuration is None:
            raise RuntimeError("there is no goal before the first reset")
        return self._goal_configuration.copy()

    def distance_to_goal(self) -> float:
        """How far the true configuration is from the goal's, in the unit of `success_distance`."""
        if self._goal_configuration is None:
            raise RuntimeError("there is no distance before the first reset")
        return self._distance_between(self.configuration, self._goal_configuration)

    def draw_task(
        self, generator: np.random.Generator, index: int
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Draws start and goal, which are not yet a success, and the group "any"."""
        while True:
            start = self.sample_configuration(generator)
            goal = self.sample_configuration(generator)
            if self._distance_between(start, goal) >= self.success_distance:
                return start, goal, "any"

    # ------------------------------------------------------------------ keeping, trying, varying

    def save_state(self) -> np.ndarray:
        """Returns (size,), float64: all that decides what happens next, also the steps so far."""
        return np.concatenate([[float(self._num_steps)], self._saved()])

    def load_state(self, saved: np.ndarray) -> None:
        """Goes back to what `save_state` returned, within the same episode."""
        self._load(np.asarray(saved[1:], dtype=np.float64))
        self._num_steps = int(saved[0])

    def simulate(self, actions: np.ndarray) -> np.ndarray:
        """Tries actions (horizon, action_dim) from where it is, and goes back.

        Success and the budget of steps end nothing here.

        Returns:
            (horizon,): `distance_to_goal` after each action.
        """
        spec = self.action_spec
        return simulated_distances(self, actions, lambda action: self._act(spec.validate(action)))

    @property
    def factors(self) -> Mapping[str, Factor]:
        """What can vary; nothing where a simulation does not say otherwise."""
        return {}

    def vary(self, values: Mapping[str, Sequence[float]]) -> None:
        """Sets factors from the next reset on; those that are not named get their defaults.

        Raises:
            ValueError: if there is no such factor, or the value is outside its bounds.
        """
        self._wanted = checked_values(self.factors, values)

    def _apply(self, values: Values) -> None:  # noqa: B027 - not everything can vary
        """Makes the simulation look and behave as the factors say."""

    # ------------------------------------------------------------------ private

    def _drawn_goal(self, here: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draws a goal for who is at `here`; it may move the simulation."""
        return self.sample_configuration(generator)

    def _aim_for(self, goal: np.ndarray) -> None:
        self._goal = Goal(self.render(goal), self._state_at(goal).astype(np.float32))
        self._goal_configuration = goal
        self._num_steps = 0

    def _apply_what_is_wanted(self) -> None:
        values = checked_values(self.factors, self._wanted or {})
        if values != self._applied:
            self._apply(values)
            self._applied = values

    def _time_step(self) -> TimeStep:
        state = self._state_now().astype(np.float32)
        is_success = self.distance_to_goal() < self.success_distance
        return TimeStep(self.render(self.configuration), state, is_success, self._is_last())

    def _is_last(self) -> bool:
        return self._num_steps >= self.max_steps or self.distance_to_goal() < self.success_distance

    def _drawn_or_checked(
        self, configuration: np.ndarray | None, what: str, generator: np.random.Generator
    ) -> np.ndarray:
        if configuration is None:
            return self.sample_configuration(generator)
        return self.checked_configuration(configuration, what)
