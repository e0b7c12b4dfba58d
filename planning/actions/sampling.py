"""Sequences of bounded actions: drawn, refitted to the elites, shifted for a warm start."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor


class Clips(Protocol):
    """Something with bounds."""

    def clip(self, actions: Tensor, /) -> Tensor:
        """Clamps sequences (..., steps, dim) into the bounds."""
        ...


class ActionDistribution(NamedTuple):
    """Independent Gaussians over the actions of a sequence.

    Attributes:
        mean: (horizon, action_dim).
        std: (horizon, action_dim).
    """

    mean: Tensor
    std: Tensor


def sample_sequences(
    distribution: ActionDistribution,
    num_samples: int,
    *,
    space: Clips,
    smoothness: float,
    generator: Generator,
) -> Tensor:
    """Draws sequences inside the bounds; the first one is the mean itself.

    Args:
        distribution: what to draw from.
        num_samples: sequences, at least 1.
        space: bounds.
        smoothness: correlation in [0, 1) of one step's noise with the step before; 0 is white
            noise. The marginal standard deviation, before clipping, stays that of the distribution.
        generator: randomness.

    Returns:
        (samples, horizon, action_dim).
    """
    horizon, action_dim = distribution.mean.shape
    mean = distribution.mean
    noise = torch.randn(
        (num_samples, horizon, action_dim), generator=generator, device=generator.device
    ).to(mean)
    for step in range(1, horizon if smoothness > 0 else 0):
        fresh = (1 - smoothness**2) ** 0.5
        noise[:, step] = smoothness * noise[:, step - 1] + fresh * noise[:, step]
    noise[0] = 0
    return space.clip(mean + distribution.std * noise)


def refit(
    distribution: ActionDistribution, elites: Tensor, *, momentum: float, min_std: Tensor
) -> ActionDistribution:
    """Moves the distribution towards the elites.

    Args:
        distribution: the one the elites were drawn from.
        elites: (elites, horizon, action_dim); where there is none, it stays where it is.
        momentum: share of the old mean and std that is kept, in [0, 1).
        min_std: (action_dim,) or (horizon, action_dim), floor of the new std.
    """
    if not len(elites):
        return distribution
    mean = torch.lerp(elites.mean(0), distribution.mean, momentum)
    std = torch.lerp(elites.std(0, correction=0), distribution.std, momentum)
    return ActionDistribution(mean, torch.maximum(std, min_std))


def shift(distribution: ActionDistribution, steps: int, *, tail_std: Tensor) -> ActionDistribution:
    """Drops the first `steps` actions, which were executed, and repeats the last mean at the end.

    Args:
        distribution: of the previous plan.
        steps: executed actions, from 0 to the horizon.
        tail_std: (action_dim,), std of the appended, unplanned steps.

    Raises:
        ValueError: if `steps` is negative or beyond the horizon.
    """
    horizon = distribution.mean.shape[0]
    if not 0 <= steps <= horizon:
        raise ValueError(f"cannot shift a plan of {horizon} steps by {steps}")
    mean = torch.cat((distribution.mean[steps:], distribution.mean[-1:].expand(steps, -1)))
    std = torch.cat((distribution.std[steps:], tail_std.expand(steps, -1)))
    return ActionDistribution(mean, std)
