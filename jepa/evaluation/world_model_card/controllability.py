"""Controllability: do the imagined futures depend on the actions, as the real ones did?

A predictor that ignores actions can predict well, wherever the world mostly goes on by itself, and
no planner finds anything in it. Here the same starts are imagined with the true actions, with those
of other episodes, and with zeros: if the true ones do not come closer to what came true, the
actions are not heard. The response of each action dimension is in `response`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from jepa.evaluation.scores import Interval
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.response import ActionResponse, measure_response
from jepa.evaluation.world_model_card.rollouts import rollout_errors
from jepa.evaluation.world_model_card.verdict import (
    LEAST_EPISODES,
    NotMeasured,
    Verdict,
    mean_interval,
    ratio_interval,
)
from jepa.models.world_model import LatentWorldModel

MIN_RATIO = 1.01  # of the errors with shuffled and with true actions: a per cent is rounding
NUM_SHUFFLES = 4


@dataclass(frozen=True)
class Controllability:
    """Rollout errors with three kinds of actions; all are means over the horizon.

    Attributes:
        true_error: latent distance to what came true, with the actions that were done.
        shuffled_error: with those of other episodes.
        zero_error: with zeros, in raw units.
        shuffled_ratio: shuffled_error over true_error; 1: the actions make no difference.
        zero_ratio: zero_error over true_error.
        response: of each action dimension.
        verdict: passes if the interval of shuffled_ratio lies above `MIN_RATIO`.
    """

    true_error: Interval
    shuffled_error: Interval
    zero_error: Interval
    shuffled_ratio: Interval
    zero_ratio: Interval
    response: ActionResponse
    verdict: Verdict

    @property
    def is_controllable(self) -> bool:
        """True if the actions are heard."""
        return self.verdict.outcome == "pass"


def measure_controllability(
    model: LatentWorldModel, windows: HeldOutWindows, *, seed: int = 0
) -> Controllability | NotMeasured:
    """Imagines with true, shuffled and zero actions.

    Args:
        model: imagines.
        windows: of several episodes, in which something was done.
        seed: of the shuffles and the intervals.

    Returns:
        The numbers, or why there are none.
    """
    if windows.num_episodes < LEAST_EPISODES:
        return NotMeasured.because("needs two episodes: actions are taken from another one")
    if not bool((windows.actions != windows.actions[:1, :1]).any()):
        return NotMeasured.because("all recorded actions are alike: there is nothing to shuffle")
    errors = action_errors(model, windows, seed=seed)
    true, shuffled, zero = (errors[name] for name in ("true", "shuffled", "zero"))
    if not shuffled.sum() > 0 and not true.sum() > 0:
        return NotMeasured.because("every future is imagined without error: nothing moves")
    ratio = ratio_interval(shuffled, true, seed=seed)
    return Controllability(
        true_error=mean_interval(true, seed=seed),
        shuffled_error=mean_interval(shuffled, seed=seed),
        zero_error=mean_interval(zero, seed=seed),
        shuffled_ratio=ratio,
        zero_ratio=ratio_interval(zero, true, seed=seed),
        response=measure_response(model, windows, seed=seed),
        verdict=_verdict(ratio),
    )


def action_errors(
    model: LatentWorldModel, windows: HeldOutWindows, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns errors (episodes,), averaged over the horizon: "true", "shuffled" and "zero".

    Raises:
        FloatingPointError: if the model imagines NaN or infinity.
    """
    actions, generator = windows.future_actions, np.random.default_rng(seed)
    draws = [torch.from_numpy(windows.donors(generator)) for _ in range(NUM_SHUFFLES)]
    shuffled = [rollout_errors(model, windows, actions[d.to(actions.device)]) for d in draws]
    errors = {
        "true": rollout_errors(model, windows),
        "shuffled": np.mean(shuffled, axis=0),
        "zero": rollout_errors(model, windows, torch.zeros_like(actions)),
    }
    for name, values in errors.items():
        if not np.isfinite(values).all():
            raise FloatingPointError(f"the model imagines NaN or infinity with {name} actions")
    return {name: windows.per_episode(values.mean(1)) for name, values in errors.items()}


def _verdict(ratio: Interval) -> Verdict:
    if ratio.low > MIN_RATIO:
        return Verdict(
            "pass", f"controllable: with other actions the error is {ratio} times as large"
        )
    return Verdict(
        "fail",
        f"uncontrollable: with other actions the error is {ratio} times as large; the interval "
        f"must lie above {MIN_RATIO}",
    )
