"""Random shooting: the simplest planner, and the file to copy for a new one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Generator

from planning.action_sampling import initial_distribution, sample_sequences, warm_distribution
from planning.action_space import ActionSpec
from planning.costs import finite_costs
from planning.types import Cost, Latent, Plan, WorldModel


@dataclass(frozen=True)
class RandomShooting:
    """Imagines many random sequences and returns the best.

    One of them is the rest of the previous plan, or, without one, the middle of the bounds.

    Args:
        horizon: actions in a sequence.
        num_samples: sequences, in all.
        std: standard deviation, in half-ranges of the action bounds.
        smoothness: correlation of the noise of neighbouring steps, in [0, 1).
    """

    horizon: int = 8
    num_samples: int = 1024
    std: float = 0.7
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizon", "num_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.std < math.inf:
            raise ValueError(f"std must be positive and finite, got {self.std}")
        if not 0 <= self.smoothness < 1:
            raise ValueError(f"smoothness must be in [0, 1), got {self.smoothness}")

    @torch.inference_mode()
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
        deadline_seconds: float | None = None,
    ) -> Plan:
        """Returns the best plan found; see `planning.types.Planner`.

        It is one batch, so a deadline cannot shorten it.
        """
        began = time.perf_counter()
        distribution = initial_distribution(
            action_spec, self.horizon, std=self.std, reference=start.tokens
        )
        actions = sample_sequences(
            distribution,
            self.num_samples,
            action_spec=action_spec,
            smoothness=self.smoothness,
            generator=generator,
        )
        if previous_plan is not None:
            warm = warm_distribution(
                distribution,
                previous_plan.actions,
                executed_steps=executed_steps,
                warm_std=distribution.std[0],
            )
            actions[0] = action_spec.clip(warm.mean)
        costs = finite_costs(cost(world.rollout(start, actions), actions))
        best = int(costs.argmin())
        return Plan(
            actions=actions[best].clone(),
            cost=costs[best].item(),
            iterations=1,
            best_costs=[costs[best].item()],
            elite_costs=[costs[best].item()],
            spread=distribution.std,
            mean=distribution.mean,
            num_rollouts=self.num_samples,
            seconds=time.perf_counter() - began,
        )
