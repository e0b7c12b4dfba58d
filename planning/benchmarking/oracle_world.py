"""A world model that is the simulator itself: what a planner reaches if nothing else is to blame.

Its latents are the distances to the goal that `Simulates.simulate` returns, one token of one number
each, and the goal is zero. So the cost of planning, the distance of latents, is the true distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from planning.actions.space import ActionSteps
from planning.capabilities import Simulates
from planning.control.limited_actions import NO_LIMITS, ActionLimits
from planning.control.mpc import PlanningPolicy, PlanRecord
from planning.costs import Reduction
from planning.search.rounds import SearchPlanner
from planning.types import Environment, Latent, TimeStep


class OracleWorld:
    """Imagines in the environment that is being played, from where it is.

    Args:
        environment: offers `planning.capabilities.Simulates`.
        action_steps: how many steps of it an action spans, so that plans are those of the world
            model that is to be judged.

    Raises:
        ValueError: if the environment cannot be simulated.
    """

    context_frames = 1
    seconds_per_step = None
    device = torch.device("cpu")

    def __init__(self, environment: Environment, action_steps: ActionSteps | None = None) -> None:
        if (reason := why_not(environment)) is not None:
            raise ValueError(reason)
        self._environment: Any = environment
        self.action_steps = action_steps or ActionSteps()

    @property
    def action_dim(self) -> int:
        """Of one action of the plan."""
        return self.action_steps.joined(self._environment.action_spec).dim

    def encode(self, frame: np.ndarray, state: np.ndarray | None = None) -> Latent:
        """Looks at no frame: returns the true distance now, or, without a state, the goal's: 0."""
        distance = 0.0 if state is None else self._environment.distance_to_goal()
        return Latent(torch.tensor([[distance]], dtype=torch.float32))

    def rollout(self, start: Latent, actions: Tensor, *, memory: Any = None) -> Latent:  # noqa: ANN401
        """Tries actions (samples, horizon, action_dim) from where the environment is.

        Returns:
            Distances to the goal after each action: tokens (samples, horizon, 1, 1).
        """
        per_action = self.action_steps.num_steps
        distances = [
            self._environment.simulate(self.action_steps.split(sequence).numpy())
            for sequence in actions.detach().cpu()
        ]
        ends = np.stack(distances)[:, per_action - 1 :: per_action]
        return Latent(torch.from_numpy(ends.astype(np.float32))[..., None, None])

    def distance(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Difference of latents (..., 1, 1) and a goal (1, 1): (...)."""
        return (latents - goal).abs().sum((-2, -1))


class OraclePolicy:
    """A `PlanningPolicy` whose world model is the environment that it is called with.

    Holds the state of one episode.

    Args:
        planner: chooses action sequences.
        execute_steps: see `PlanningPolicy`.
        reduction: see `PlanningPolicy`.
        action_steps: see `OracleWorld`.
        seed: of the planner's samples.
        limits: see `PlanningPolicy`.
    """

    def __init__(
        self,
        planner: SearchPlanner,
        *,
        execute_steps: int,
        reduction: Reduction,
        action_steps: ActionSteps,
        seed: int,
        limits: ActionLimits = NO_LIMITS,
    ) -> None:
        self._options: dict[str, Any] = {
            "planner": planner,
            "execute_steps": execute_steps,
            "reduction": reduction,
            "seed": seed,
            "limits": limits,
        }
        self._action_steps = action_steps
        self._policy: PlanningPolicy | None = None

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the next action, as `PlanningPolicy` does."""
        if self._policy is None:
            world: Any = OracleWorld(environment, self._action_steps)
            self._policy = PlanningPolicy(world, **self._options)
        return self._policy(environment, time_step, generator)

    @property
    def plans(self) -> list[PlanRecord]:
        """See `PlanningPolicy`."""
        return [] if self._policy is None else self._policy.plans

    @property
    def latent_distances(self) -> list[float]:
        """See `PlanningPolicy`: here true distances."""
        return [] if self._policy is None else self._policy.latent_distances

    def observe(self, time_step: TimeStep) -> object:
        """See `PlanningPolicy`."""
        return None if self._policy is None else self._policy.observe(time_step)


def why_not(environment: Environment) -> str | None:
    """Returns why an environment offers no oracle; None if it does."""
    inner = getattr(environment, "environment", environment)
    if isinstance(inner, Simulates):
        return None
    return f"{environment.name} cannot be simulated ahead (planning.capabilities.Simulates)"
