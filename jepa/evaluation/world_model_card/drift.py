"""Persistence, first part: how a rollout drifts from what came true, step by step.

Beside it stand two predictions that know no actions: the start, copied, and the mean latent of the
data. Where copying is as good, imagining is of no more use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepa.evaluation.scores import Interval
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.rollouts import copy_errors, distances, rollout_errors
from jepa.evaluation.world_model_card.verdict import (
    LEAST_EPISODES,
    NotMeasured,
    Verdict,
    mean_interval,
    ratio_interval,
)
from jepa.models.world_model import LatentWorldModel


@dataclass(frozen=True)
class Drift:
    """Latent distance to what came true, after 1 ... horizon actions.

    Attributes:
        imagined: (horizon,), of the rollout.
        copied: (horizon,), of the start, copied.
        mean: (horizon,), of the mean latent of all windows.
        ratio_to_copy: (horizon,), imagined over copied; below 1 imagining is of use.
        useful_horizon: steps up to which the interval of ratio_to_copy lies below 1, without a gap.
        verdict: passes if that is the whole horizon.
    """

    imagined: tuple[Interval, ...]
    copied: tuple[Interval, ...]
    mean: tuple[Interval, ...]
    ratio_to_copy: tuple[Interval, ...]
    useful_horizon: int
    verdict: Verdict


def measure_drift(
    model: LatentWorldModel, windows: HeldOutWindows, *, seed: int = 0
) -> Drift | NotMeasured:
    """Imagines what was done in every window, and compares step by step.

    Args:
        model: imagines.
        windows: what came true.
        seed: of the intervals.

    Returns:
        The numbers, or why there are none.
    """
    if windows.num_episodes < LEAST_EPISODES:
        return NotMeasured.because("needs two episodes for an interval")
    copied = windows.per_episode(copy_errors(model, windows))  # (episodes, horizon)
    if not copied.sum() > 0:
        return NotMeasured.because("the latents of the recordings do not move")
    imagined = windows.per_episode(rollout_errors(model, windows))
    mean = windows.per_episode(_mean_errors(model, windows))
    ratios = tuple(
        ratio_interval(ours, theirs, seed=seed)
        for ours, theirs in zip(imagined.T, copied.T, strict=True)
    )
    useful = useful_steps(ratios)
    return Drift(
        imagined=_intervals(imagined, seed),
        copied=_intervals(copied, seed),
        mean=_intervals(mean, seed),
        ratio_to_copy=ratios,
        useful_horizon=useful,
        verdict=_verdict(ratios, useful),
    )


def useful_steps(ratios: tuple[Interval, ...]) -> int:
    """Returns for how many steps, from the first on, the whole interval lies below 1."""
    is_useful = [ratio.high < 1 for ratio in ratios]
    return is_useful.index(False) if False in is_useful else len(is_useful)


def _mean_errors(model: LatentWorldModel, windows: HeldOutWindows) -> np.ndarray:
    mean = windows.latents.mean((0, 1))  # (tokens, dim)
    return distances(model, windows.future_latents, mean)


def _intervals(per_episode: np.ndarray, seed: int) -> tuple[Interval, ...]:
    return tuple(mean_interval(values, seed=seed) for values in per_episode.T)


def _verdict(ratios: tuple[Interval, ...], useful: int) -> Verdict:
    if useful == len(ratios):
        return Verdict(
            "pass",
            f"nearer to the truth than a copy of the start over all {useful} steps; at the last "
            f"its error is {ratios[-1]} of the copy's",
        )
    return Verdict(
        "fail",
        f"after {useful + 1} of {len(ratios)} steps the error is {ratios[useful]} of that of a "
        "copy of the start: the interval must lie below 1",
    )
