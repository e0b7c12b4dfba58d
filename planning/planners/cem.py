"""The cross-entropy method over action sequences (V-JEPA 2, arXiv:2506.09985, Sec. 3.2)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from planning.action_sampling import (
    ActionDistribution,
    initial_distribution,
    refit,
    sample_sequences,
    warm_distribution,
)
from planning.action_space import ActionSpec
from planning.costs import finite_costs
from planning.types import Cost, Latent, Plan, WorldModel


@dataclass(frozen=True)
class CEM:
    """Samples, keeps the elites, refits, repeats; returns the best sequence it ever evaluated.

    Args:
        horizon: actions in a sequence.
        num_samples: sequences per iteration.
        num_elites: best sequences that the next distribution is fitted to; fewer where fewer
            have a finite cost.
        num_iterations: rounds.
        momentum: share of the old mean and std that is kept, in [0, 1).
        initial_std: first standard deviation, in half-ranges of the action bounds.
        warm_std: first standard deviation of the steps that a previous plan covers.
        min_std: floor of the standard deviation, in half-ranges.
        smoothness: correlation of the noise of neighbouring steps, in [0, 1).
    """

    horizon: int = 8
    num_samples: int = 256
    num_elites: int = 24
    num_iterations: int = 6
    momentum: float = 0.1
    initial_std: float = 0.7
    warm_std: float = 0.4
    min_std: float = 0.05
    smoothness: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizon", "num_samples", "num_elites", "num_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_elites > self.num_samples:
            raise ValueError(
                f"num_elites={self.num_elites} exceeds num_samples={self.num_samples}; "
                "raise num_samples or lower num_elites"
            )
        for name in ("momentum", "smoothness"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("initial_std", "warm_std", "min_std"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")

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
        """Returns the best plan found; see `planning.types.Planner`."""
        began = time.perf_counter()
        distribution = self._first(action_spec, start.tokens, previous_plan, executed_steps)
        low, high = action_spec.bounds(start.tokens)
        min_std = self.min_std * (high - low) / 2
        best_actions, best_cost = distribution.mean, float("inf")
        best_costs: list[float] = []
        elite_costs: list[float] = []
        for _ in range(self.num_iterations):
            actions = sample_sequences(
                distribution,
                self.num_samples,
                action_spec=action_spec,
                smoothness=self.smoothness,
                generator=generator,
            )
            costs = finite_costs(cost(world.rollout(start, actions), actions))
            num_elites = min(self.num_elites, int(costs.isfinite().sum()))
            elites = costs.topk(num_elites, largest=False)
            if elites.values[0].item() < best_cost:
                best_cost, best_actions = elites.values[0].item(), actions[elites.indices[0]]
            distribution = refit(
                distribution, actions[elites.indices], momentum=self.momentum, min_std=min_std
            )
            best_costs.append(best_cost)
            elite_costs.append(elites.values.mean().item())
            if deadline_seconds is not None and time.perf_counter() - began > deadline_seconds:
                break
        return Plan(
            actions=best_actions.clone(),
            cost=best_cost,
            iterations=len(best_costs),
            best_costs=best_costs,
            elite_costs=elite_costs,
            spread=distribution.std,
            mean=distribution.mean,
            num_rollouts=len(best_costs) * self.num_samples,
            seconds=time.perf_counter() - began,
        )

    def _first(
        self, spec: ActionSpec, reference: Tensor, previous: Plan | None, executed_steps: int
    ) -> ActionDistribution:
        first = initial_distribution(spec, self.horizon, std=self.initial_std, reference=reference)
        if previous is None:
            return first
        return warm_distribution(
            first,
            previous.actions,
            executed_steps=executed_steps,
            warm_std=first.std[0] * (self.warm_std / self.initial_std),
        )
