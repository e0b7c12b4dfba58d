"""What environments, world models, costs and planners owe one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Generator, Tensor

from planning.actions.space import ActionSpec


class TimeStep(NamedTuple):
    """What an environment shows after a reset or a step.

    Attributes:
        frame: (height, width, 3), uint8, RGB.
        state: (state_dim,), float32: proprioception, in the units of the environment.
        is_success: True where the goal is reached in this very step.
        is_last: True when the episode is over; the next call must be a reset.
        captured_seconds: when the camera took the frame, by `time.monotonic`; None where that
            means nothing, as in a simulator.
    """

    frame: np.ndarray
    state: np.ndarray
    is_success: bool
    is_last: bool
    captured_seconds: float | None = None


class Goal(NamedTuple):
    """Where the episode should end: the image is all that a planner may look at.

    Attributes:
        frame: (height, width, 3), uint8, RGB.
        state: (state_dim,), float32, for the success test and for the oracle only.
    """

    frame: np.ndarray
    state: np.ndarray


class Environment(Protocol):
    """A seeded simulator (or robot) that can be asked to start here and to go there."""

    name: str
    frames_per_second: float
    image_size: int
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    success_distance: float
    max_steps: int

    @property
    def action_spec(self) -> ActionSpec:
        """Names, units and bounds of an action."""
        ...

    def reset(
        self, generator: np.random.Generator, *, start: np.ndarray | None, goal: np.ndarray | None
    ) -> TimeStep:
        """Starts an episode at `start` with `goal`, both states; drawn at random where None."""
        ...

    def step(self, action: np.ndarray) -> TimeStep:
        """Acts once. Raises RuntimeError after the end of the episode."""
        ...

    @property
    def goal(self) -> Goal:
        """The goal of this episode."""
        ...

    def distance_to_goal(self) -> float:
        """How far the true state is from the goal, in the unit of `success_distance`."""
        ...


class WorldModel(Protocol):
    """Imagines the consequences of actions in latent space. Holds no episode state."""

    @property
    def action_dim(self) -> int:
        """Number of action dimensions it imagines with."""
        ...

    def encode(self, frame: np.ndarray, state: np.ndarray | None = None) -> Latent:
        """Encodes one camera frame (height, width, 3) uint8, once."""
        ...

    def rollout(
        self,
        start: Latent,
        actions: Tensor,
        *,
        memory: Any = None,  # noqa: ANN401 - the world model's own
    ) -> Latent:
        """Imagines `actions` (samples, horizon, action_dim) from one start.

        Or from several: tokens (environments, tokens, dim) and actions (environments, samples,
        horizon, action_dim). `memory` is what the world model knows of frames before the start.

        Returns:
            Latents after each action: tokens (samples, horizon, tokens, dim), after the
            environments if there are several.
        """
        ...


class Latent(NamedTuple):
    """An encoded (or imagined) situation.

    Attributes:
        tokens: (..., tokens, dim), in the latent space of the world model.
        state: (..., state_dim), the normalised proprioception, or None where it is not known, as
            for a goal.
        disagreement: (...), at least 0: how far the members of an ensemble are apart; None where
            the world model has one member, or nothing was imagined.
    """

    tokens: Tensor
    state: Tensor | None = None
    disagreement: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Latent:
        """Returns the same of changed tensors."""
        state, disagreement = (
            None if part is None else change(part) for part in (self.state, self.disagreement)
        )
        return Latent(change(self.tokens), state, disagreement)


class Cost(Protocol):
    """What a planner minimises. Knows the goal; the planner does not."""

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores imagined rollouts.

        Args:
            imagined: latents after each action, tokens (samples, horizon, tokens, dim).
            actions: (samples, horizon, action_dim).

        Returns:
            (samples,) costs, lower is better; NaN or infinite rules a sequence out.
        """
        ...


@dataclass(frozen=True)
class Plan:
    """A planner's answer.

    Attributes:
        actions: (horizon, action_dim), the best sequence evaluated, inside the bounds; the next
            plan's warm start.
        cost: its cost.
        iterations: rounds of sampling done before the answer (or the deadline).
        best_costs: best cost known after each round.
        elite_costs: mean cost of the elites of each round; where all of a round were ruled out,
            that of the round before.
        spread: (horizon, action_dim), standard deviation of the final sampling distribution.
        mean: (horizon, action_dim), mean of the final sampling distribution.
        num_rollouts: imagined sequences in total.
        seconds: wall-clock time spent, on all problems that were planned together.
        elite_cost_spreads: standard deviation of the elites' costs of each round: small beside the
            cost, and the planner cannot tell its candidates apart.
        uncertainty: (horizon,), how far the members of an ensemble are apart along `actions`; None
            where the world model has one member.
        saturation: share of the values of `actions` that lie at a bound, 0 to 1; without those
            that are there by nature: choices, binary grippers, and what bounds of a step pin.
        warnings: what a user should know of this plan, one line each; empty if all is well.
        num_ruled_out: imagined sequences whose cost was NaN or infinite.
        num_differentiated: imagined sequences whose gradients were computed too.
        source: which part of the planner proposed `actions`, if it has several.
        elites: (elites, horizon, action_dim), the best sequences of the last round, best first.
        is_finished: the search went to its end: no deadline cut it short, and it is not the best of
            a search that goes on.
    """

    actions: Tensor
    cost: float
    iterations: int
    best_costs: Sequence[float]
    elite_costs: Sequence[float]
    spread: Tensor
    mean: Tensor
    num_rollouts: int
    seconds: float
    elite_cost_spreads: Sequence[float] = ()
    uncertainty: Tensor | None = None
    saturation: float = 0.0
    warnings: tuple[str, ...] = ()
    num_ruled_out: int = 0
    num_differentiated: int = 0
    source: str = ""
    elites: Tensor | None = None
    is_finished: bool = True


class Planner(Protocol):
    """Chooses actions by imagining them. Keeps no hidden state between calls."""

    @property
    def horizon(self) -> int:
        """Actions in a plan."""
        ...

    def plan(
        self,
        world: WorldModel,
        start: Latent,
        *,
        cost: Cost,
        action_spec: ActionSpec,
        generator: Generator,
        previous_plan: Plan | None = None,
        executed_steps: int = 0,
        previous_action: Tensor | None = None,
        deadline_seconds: float | None = None,
    ) -> Plan:
        """Returns the best plan found; at the deadline, the best so far.

        Args:
            world: imagines.
            start: where the robot is now.
            cost: what to minimise; knows the goal.
            action_spec: bounds of every action.
            generator: randomness; the same generator state gives the same plan.
            previous_plan: the plan made before, for a warm start.
            executed_steps: how many of its actions have been executed since, up to all.
            previous_action: (dimension of one step of the environment,), raw units: what was
                executed last, for limits of change; None at the beginning of an episode.
            deadline_seconds: no round begins that would end later, judging by the longest so far;
                the first always runs.

        Raises:
            ValueError: if the deadline is not positive, if the world model has other actions, or if
                `previous_plan` has another shape, an action that is not finite, or fewer steps than
                were executed.
            NotFiniteStop: if too few sequences of the first round have a finite cost: any action
                chosen then would be meaningless.
        """
        ...
