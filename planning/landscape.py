"""The energy over two dimensions of one held action: what the planner sees before it moves.

Where the landscape is flat, no planner finds a way: the goal is out of sight of the latent space,
or actions move nothing in it. Heights are told in typical steps, which makes worlds comparable: a
typical step is how far one random action moves the latent (`typical_step_distance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from planning.actions.model_actions import model_actions
from planning.actions.space import ActionSpec
from planning.control.goal_pursuit import CostMaker, typical_step_distance
from planning.control.mpc import goal_distance, joined_spec
from planning.costs import WeightedSum, finite_costs
from planning.latent_world import LatentWorld
from planning.types import Cost, Environment, Latent, TimeStep

# Below so many typical steps from the lowest to the highest point, for an action held for four
# steps, the landscape is called flat. Measured on 20 tasks of two_rooms each: trained worlds of the
# demo 2.6 to 8.1, three weaker ones 0.46 to 6.6, a demo's with its weights drawn anew 0.06 to 0.41,
# dynamics trained on the patch tokens of an untrained encoder 0.003 to 0.04.
MIN_RELIEF = 0.5
MIN_RANK_CORRELATION = 0.3  # with the true distance, where it is known: below, it misleads


@dataclass(frozen=True)
class Landscape:
    """Costs of one action, held for some steps, over two of its dimensions.

    Attributes:
        costs: (second, first): rows follow the second dimension, columns the first.
        first: (first,), values of the first dimension, in `units[0]`.
        second: (second,), values of the second dimension.
        names: of both dimensions.
        units: of both.
        num_steps: how long the action is held, in actions of the world model.
        start_distance: latent distance to the goal before moving.
        step_distance: a typical step, see `typical_step_distance`.
        true_distances: like `costs`, the distance in the simulator; None where it is not known.
        start_frame: what the camera sees.
        goal_frame: the goal.
        goal_costs: (second, first), what the distance to the goal adds to the costs; None: it is
            all that they are.
    """

    costs: np.ndarray
    first: np.ndarray
    second: np.ndarray
    names: tuple[str, str]
    units: tuple[str, str]
    num_steps: int
    start_distance: float
    step_distance: float
    true_distances: np.ndarray | None
    start_frame: np.ndarray
    goal_frame: np.ndarray
    goal_costs: np.ndarray | None = None

    @property
    def relief(self) -> float:
        """From the lowest to the highest cost of not being at the goal, in typical steps."""
        costs = self.costs if self.goal_costs is None else self.goal_costs
        costs = costs[np.isfinite(costs)]
        return float(np.ptp(costs) / self.step_distance) if self.step_distance > 0 else 0.0

    @property
    def contrast(self) -> float:
        """How far the lowest cost is below the mean, in standard deviations; 0 if all are equal."""
        costs = self.costs[np.isfinite(self.costs)]
        return float((costs.mean() - costs.min()) / costs.std()) if np.ptp(costs) > 0 else 0.0

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, with the true distances; None where they are not known or all equal."""
        if self.true_distances is None:
            return None
        return rank_correlation(self.costs, self.true_distances)

    @property
    def best_action(self) -> np.ndarray:
        """(2,), where the cost is lowest."""
        return self._lowest(self.costs)

    @property
    def truly_best_action(self) -> np.ndarray | None:
        """(2,), where the true distance is lowest; None where it is not known."""
        return None if self.true_distances is None else self._lowest(self.true_distances)

    @property
    def is_flat(self) -> bool:
        """True if a planner can hardly tell one action from another."""
        return not self.relief >= MIN_RELIEF

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known before moving, one line each."""
        lines = []
        if self.is_flat:
            lines.append(
                f"flat landscape: holding any action for {self.num_steps} steps changes the cost "
                f"by {self.relief:.2g} typical steps (below {MIN_RELIEF}); the goal is out of "
                "sight of this world model, or it is not trained: try a nearer goal"
            )
        correlation = self.rank_correlation
        if correlation is not None and correlation < MIN_RANK_CORRELATION:
            lines.append(
                f"misleading landscape: the rank correlation of cost and true distance is "
                f"{correlation:.2f} (below {MIN_RANK_CORRELATION}); going downhill leads elsewhere"
            )
        return tuple(lines)

    def to_json(self) -> dict[str, Any]:
        """Every number, the grid included; costs that are not finite are None."""
        best, truth = self.best_action, self.truly_best_action
        return {
            "names": self.names,
            "units": self.units,
            "num_steps": self.num_steps,
            "start_distance": self.start_distance,
            "typical_step_distance": self.step_distance,
            "minimum": float(np.nanmin(self.costs)),
            "maximum": float(self.costs[np.isfinite(self.costs)].max()),
            "relief_in_typical_steps": self.relief,
            "contrast": self.contrast,
            "rank_correlation_with_true_distance": self.rank_correlation,
            "best_action": best.tolist(),
            "truly_best_action": None if truth is None else truth.tolist(),
            "is_flat": self.is_flat,
            "warnings": self.warnings,
            "first": self.first.tolist(),
            "second": self.second.tolist(),
            "costs": [[float(c) if np.isfinite(c) else None for c in row] for row in self.costs],
        }

    def _lowest(self, values: np.ndarray) -> np.ndarray:
        values = np.where(np.isfinite(values), values, np.inf)
        row, column = np.unravel_index(values.argmin(), values.shape)
        return np.array([self.first[column], self.second[row]])


def energy_landscape(
    world: LatentWorld,
    environment: Environment,
    time_step: TimeStep,
    *,
    goal_state: np.ndarray | None = None,
    simulator: Environment | None = None,
    cost_of: CostMaker | None = None,
    axes: tuple[int, int] = (0, 1),
    num_steps: int = 4,
    num_cells: int = 21,
) -> Landscape:
    """Returns the landscape of the situation that an environment is in.

    Args:
        world: the trained world model.
        environment: after its reset; its goal's picture is the goal.
        time_step: what it shows.
        goal_state: of the goal, where it is known.
        simulator: tells the true distances to that state, and is reset for it; None: the
            environment.
        cost_of: makes the cost; None: the latent distance, averaged over the steps.
        axes: two dimensions of an action of the environment; the others are 0.
        num_steps: how long the action is held, in actions of the world model; 1: the first only.
        num_cells: along each axis.

    Raises:
        ValueError: if world and environment do not fit, or a setting is out of range.
        FloatingPointError: if all costs are NaN or infinite.
    """
    _refuse_settings(environment, axes, num_steps, num_cells)
    joined, grid = joined_spec(world, environment), _grid(environment.action_spec, axes, num_cells)
    start = world.encode(time_step.frame, time_step.state)
    goal_frame = environment.goal.frame
    goal = world.encode(goal_frame)
    cost = (cost_of or goal_distance())(goal, world)
    costs, goal_costs = _imagined_costs(world, start, cost, grid.actions, num_steps)
    truth = None
    if goal_state is not None:
        place = np.asarray(time_step.state, np.float64)
        held = num_steps * world.action_steps.num_steps
        known = true_distances(simulator or environment, place, goal_state, grid.actions, held)
        truth = grid.as_map(known)
    return Landscape(
        costs=grid.as_map(costs),
        first=grid.first,
        second=grid.second,
        names=grid.names,
        units=grid.units,
        num_steps=num_steps,
        start_distance=float(world.distance(start.tokens, goal.tokens)),
        step_distance=typical_step_distance(world, start, joined),
        true_distances=truth,
        start_frame=time_step.frame,
        goal_frame=goal_frame,
        goal_costs=None if goal_costs is None else grid.as_map(goal_costs),
    )


def true_distances(
    environment: Environment,
    start: np.ndarray,
    goal: np.ndarray,
    actions: np.ndarray,
    num_steps: int,
) -> np.ndarray:
    """Executes each action for some steps, each time from the same start.

    Args:
        environment: is reset for each of them.
        start: state.
        goal: state.
        actions: (actions, action_dim).
        num_steps: of the environment.

    Returns:
        (actions,), the distance to the goal, averaged over the steps: the length of the way where
        the environment knows it. Where the goal is reached, that distance counts for the rest.
    """
    generator, outcomes = np.random.default_rng(0), []
    for action in actions:
        time_step, distances = environment.reset(generator, start=start, goal=goal), []
        for _ in range(num_steps):
            if not time_step.is_last:
                time_step = environment.step(action)
            distances.append(_way_to_goal(environment, time_step, goal))
        outcomes.append(np.mean(distances))
    environment.reset(generator, start=start, goal=goal)
    return np.array(outcomes)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Returns Spearman's correlation of the finite pairs; None where there is no order."""
    first, second = np.ravel(first), np.ravel(second)
    both = np.isfinite(first) & np.isfinite(second)
    ranks = [_ranks(values[both]) for values in (first, second)]
    if both.sum() < 2 or any(np.ptp(part) == 0 for part in ranks):
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _way_to_goal(environment: Environment, time_step: TimeStep, goal: np.ndarray) -> float:
    length = getattr(environment, "shortest_path_length", None)
    if length is None:
        return environment.distance_to_goal()
    return float(length(np.asarray(time_step.state, np.float64), goal))


class _Grid(NamedTuple):
    """Actions over two dimensions: (second * first, action_dim), the first changing fastest."""

    actions: np.ndarray
    first: np.ndarray
    second: np.ndarray
    names: tuple[str, str]
    units: tuple[str, str]

    def as_map(self, values: np.ndarray) -> np.ndarray:
        """Returns values of the actions as (second, first)."""
        return values.reshape(len(self.second), len(self.first))


def _grid(spec: ActionSpec, axes: tuple[int, int], num_cells: int) -> _Grid:
    """Returns the grid; what is not on an axis is 0, or the nearest bound."""
    first, second = (np.linspace(spec.low[axis], spec.high[axis], num_cells) for axis in axes)
    still = np.clip(np.zeros(spec.dim), spec.low, spec.high)
    actions = np.tile(still, (num_cells, num_cells, 1))
    actions[..., axes[0]], actions[..., axes[1]] = first[None, :], second[:, None]
    names = spec.names[axes[0]], spec.names[axes[1]]
    units = spec.units[axes[0]], spec.units[axes[1]]
    return _Grid(actions.reshape(-1, spec.dim).astype(np.float32), first, second, names, units)


def _imagined_costs(
    world: LatentWorld, start: Latent, cost: Cost, actions: np.ndarray, num_steps: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the costs of holding each action (actions, action_dim) for some of the model's.

    Also what the goal adds to them, where it is one of several terms.
    """
    steps = world.action_steps
    each = torch.from_numpy(actions)[:, None].expand(-1, steps.num_steps, -1)
    wide = torch.stack([model_actions(steps, part)[0] for part in each])
    held = wide.to(start.tokens)[:, None].expand(-1, num_steps, -1)
    with torch.inference_mode():
        imagined = world.rollout(start, held)
        costs = finite_costs(cost(imagined, held)).cpu().numpy()
        if not isinstance(cost, WeightedSum) or "goal" not in cost.terms:
            return costs, None
        return costs, cost.parts(imagined, held)["goal"].cpu().numpy()


def _refuse_settings(
    environment: Environment, axes: tuple[int, int], num_steps: int, num_cells: int
) -> None:
    spec = environment.action_spec
    if spec.kind == "one_hot":
        raise ValueError(f"the actions of {environment.name} are choices, which have no landscape")
    if len(set(axes)) != 2 or not all(0 <= axis < spec.dim for axis in axes):
        raise ValueError(
            f"a landscape needs two of the {spec.dim} action dimensions of {environment.name} "
            f"({', '.join(spec.names)}), got {', '.join(map(str, axes))}"
        )
    if num_steps < 1 or num_cells < 3:
        raise ValueError(
            f"num_steps must be at least 1 and num_cells at least 3, got {num_steps}, {num_cells}"
        )
