"""Physics generalisation: the same measures where masses, friction, colours or the camera differ.

An error in another world is compared with that in the nominal one twice: as it is, and as a share
of the error of a copy of the start, as heavier things move less and are easier to copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jepa.evaluation.scores import Interval
from jepa.evaluation.world_model_card.controllability import action_errors
from jepa.evaluation.world_model_card.drift import Drift, measure_drift
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.rollouts import copy_errors
from jepa.evaluation.world_model_card.verdict import (
    LEAST_EPISODES,
    NotMeasured,
    Verdict,
    mean_interval,
    ratio_between_sets,
    ratio_interval,
)
from jepa.models.world_model import LatentWorldModel

MAX_RATIO = 2.0  # of the errors in the shifted and in the nominal world


@dataclass(frozen=True)
class Shift:
    """One world that differs from the nominal one; errors are means over the horizon.

    Attributes:
        name: what differs.
        num_episodes: recorded there.
        error: latent distance to what came true.
        error_ratio: error over that in the nominal world.
        copy_ratio: error over that of a copy of the start, in this world.
        shuffled_ratio: error with actions of other episodes over error, in this world.
        useful_horizon: see `Drift`, in this world.
        verdict: passes if the interval of error_ratio lies below `MAX_RATIO`, and that of
            copy_ratio below 1.
    """

    name: str
    num_episodes: int
    error: Interval
    error_ratio: Interval
    copy_ratio: Interval
    shuffled_ratio: Interval
    useful_horizon: int
    verdict: Verdict


@dataclass(frozen=True)
class Generalisation:
    """The nominal world, and others.

    Attributes:
        error: in the nominal world.
        copy_ratio: in the nominal world.
        shifts: one for each of the others.
        verdict: passes if each of them does.
    """

    error: Interval
    copy_ratio: Interval
    shifts: tuple[Shift, ...]
    verdict: Verdict


def measure_generalisation(
    model: LatentWorldModel,
    nominal: HeldOutWindows,
    shifted: Mapping[str, HeldOutWindows],
    *,
    seed: int = 0,
) -> Generalisation | NotMeasured:
    """Imagines in the nominal world and in others.

    Args:
        model: imagines.
        nominal: windows of the world as it was trained on.
        shifted: windows of others, by what differs.
        seed: of shuffles and intervals.

    Returns:
        The numbers, or why there are none.
    """
    if not shifted:
        return NotMeasured.because("no shifted recordings are given: --shift NAME=SHARDS")
    short = [name for name, part in shifted.items() if part.num_episodes < LEAST_EPISODES]
    if short or nominal.num_episodes < LEAST_EPISODES:
        return NotMeasured.because(
            f"needs two episodes of each world; there is one of {', '.join(short) or 'the data'}"
        )
    errors = action_errors(model, nominal, seed=seed)["true"]
    copied = nominal.per_episode(copy_errors(model, nominal).mean(1))
    shifts = tuple(_shift(model, name, windows, errors, seed) for name, windows in shifted.items())
    return Generalisation(
        error=mean_interval(errors, seed=seed),
        copy_ratio=ratio_interval(errors, copied, seed=seed),
        shifts=shifts,
        verdict=_verdict(shifts),
    )


def _shift(
    model: LatentWorldModel, name: str, windows: HeldOutWindows, nominal: np.ndarray, seed: int
) -> Shift:
    errors = action_errors(model, windows, seed=seed)
    copied = windows.per_episode(copy_errors(model, windows).mean(1))
    drift = measure_drift(model, windows, seed=seed)
    error_ratio = ratio_between_sets(errors["true"], nominal, seed=seed)
    copy_ratio = ratio_interval(errors["true"], copied, seed=seed)
    return Shift(
        name=name,
        num_episodes=windows.num_episodes,
        error=mean_interval(errors["true"], seed=seed),
        error_ratio=error_ratio,
        copy_ratio=copy_ratio,
        shuffled_ratio=ratio_interval(errors["shuffled"], errors["true"], seed=seed),
        useful_horizon=drift.useful_horizon if isinstance(drift, Drift) else 0,
        verdict=_verdict_of_shift(error_ratio, copy_ratio),
    )


def _verdict_of_shift(error_ratio: Interval, copy_ratio: Interval) -> Verdict:
    told = f"the error is {error_ratio} of the nominal one, and {copy_ratio} of a copy's"
    if error_ratio.high < MAX_RATIO and copy_ratio.high < 1:
        return Verdict("pass", told)
    return Verdict("fail", f"{told}: the intervals must lie below {MAX_RATIO:g} and 1")


def _verdict(shifts: tuple[Shift, ...]) -> Verdict:
    failed = [shift for shift in shifts if shift.verdict.outcome != "pass"]
    if not failed:
        return Verdict("pass", f"holds under every shift: {', '.join(s.name for s in shifts)}")
    return Verdict("fail", "; ".join(f"{shift.name}: {shift.verdict.reason}" for shift in failed))
