"""Would a planner find its way by this cost? True actions beside random ones, in imagination."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.scores import Interval, bootstrap_interval
from jepa.models.world_model import LatentWorldModel

HORIZON = 4
NUM_RANDOM = 32
MAX_WINDOWS = 64
LEAST_MOTION = 0.5  # of the median window's change of latent: goals that hardly differ from the
# start are no goals


class PlanningSignal(NamedTuple):
    """What the planning cost tells of actions.

    Attributes:
        signal_to_noise: mean over windows of (mean cost of random actions - cost of the true ones)
            over the standard deviation of the random ones' costs, with its interval over windows. 0
            if the true actions look like any others, above 1 if they stand out of the spread.
        true_costs: (windows,).
        random_means: (windows,).
        random_stds: (windows,).
        share_beaten: mean share of the random sequences whose cost is above that of the true one,
            in [0, 1]; .5 if the cost knows nothing.
    """

    signal_to_noise: Interval
    true_costs: list[float]
    random_means: list[float]
    random_stds: list[float]
    share_beaten: float


@torch.no_grad()
def planning_signal(
    model: LatentWorldModel,
    latents: Tensor,
    states: Tensor,
    actions: Tensor,
    *,
    horizon: int = HORIZON,
    num_random: int = NUM_RANDOM,
    seed: int = 0,
) -> PlanningSignal:
    """Measures how far true actions stand out of random ones by the distance that planners use.

    The goal of a window is its frame after `horizon` actions, so the true actions approach it.
    Random sequences are those of other windows, which are as long and of the same kind. The cost is
    the latent distance (`LatentSpace.distance`) of what is imagined last to the goal. Windows whose
    latent changes less than half as much as the median one's are left out.

    Args:
        model: the world model.
        latents: (windows, time, tokens, dim) of true frames.
        states: (windows, time, state_dim), raw units.
        actions: (windows, time - 1, action_dim), raw units.
        horizon: actions to the goal.
        num_random: random sequences a window, at most; with fewer windows, fewer.
        seed: of their choice.

    Raises:
        ValueError: if windows are too short, or too few.
    """
    past = model.context_frames - 1
    if latents.shape[1] < past + horizon + 1 or len(latents) < 3:
        raise ValueError(
            f"planning over {horizon} actions needs at least 3 windows of {past + horizon + 1} "
            f"frames, got {len(latents)} of {latents.shape[1]}"
        )
    goals = latents[:, past + horizon]
    moved = _distances(model, latents[:, past : past + 1], goals)[:, 0]
    kept = torch.nonzero(moved >= LEAST_MOTION * moved.median())[:MAX_WINDOWS, 0]
    generator = torch.Generator().manual_seed(seed)
    rows = [_costs(model, latents, states, actions, int(window), horizon=horizon,
                   num_random=num_random, generator=generator) for window in kept]  # fmt: skip
    costs = torch.stack(rows).double().cpu().numpy()  # (windows, 1 + random), the true one first
    return _summed_up(costs[:, 0], costs[:, 1:])


def _summed_up(true: np.ndarray, random: np.ndarray) -> PlanningSignal:
    """Sums up costs: true (windows,), random (windows, samples)."""
    stds = random.std(1)
    ratios = (random.mean(1) - true) / np.maximum(stds, 1e-12 + 1e-6 * np.abs(random).mean(1))
    return PlanningSignal(
        signal_to_noise=bootstrap_interval(ratios),
        true_costs=true.tolist(),
        random_means=random.mean(1).tolist(),
        random_stds=stds.tolist(),
        share_beaten=float(((random > true[:, None]) + 0.5 * (random == true[:, None])).mean()),
    )


def _costs(
    model: LatentWorldModel,
    latents: Tensor,
    states: Tensor,
    actions: Tensor,
    window: int,
    *,
    horizon: int,
    num_random: int,
    generator: torch.Generator,
) -> Tensor:
    """Returns costs (1 + random,) of the true sequence of one window and of others'."""
    past = model.context_frames - 1
    others = torch.randperm(len(actions) - 1, generator=generator)[:num_random]
    others = others + (others >= window)
    chosen = torch.cat((torch.tensor([window]), others)).to(actions.device)
    sequences = actions[chosen, past : past + horizon]  # (1 + random, horizon, action_dim)
    normal = model.normalize_states(states[window : window + 1, : past + 1])
    memory = None
    if past:
        before = latents[window : window + 1, :past], normal[:, :past]
        known = [value.expand(len(chosen), *value.shape[1:]) for value in before]
        done = actions[window : window + 1, :past].expand(len(chosen), -1, -1)
        memory = model.remember(known[0], known[1], done)
    start = latents[window, past].expand(len(chosen), -1, -1)
    imagined = model.rollout(
        start, normal[:, past].expand(len(chosen), -1), sequences, memory=memory
    )
    return model.latents.distance(imagined.tokens[:, -1], latents[window, past + horizon])


def _distances(model: LatentWorldModel, latents: Tensor, goals: Tensor) -> Tensor:
    """Returns distances (windows, time) of latents (windows, time, tokens, dim) to each's goal."""
    return torch.stack([model.latents.distance(*pair) for pair in zip(latents, goals, strict=True)])
