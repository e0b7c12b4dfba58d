"""Causality: what comes later must not change what was predicted before.

For every step, all later frames, states and actions are exchanged for those of another episode, and
the predictions up to that step are compared number by number. A model that looks ahead has an
error that no held-out number shows: in a rollout there is nothing ahead to look at. The test is
exact, so a few windows are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.world_model_card.held_out import HeldOutWindows, encode_frames
from jepa.evaluation.world_model_card.rollouts import imagine, predict_next
from jepa.evaluation.world_model_card.verdict import NotMeasured, Verdict
from jepa.models.world_model import LatentWorldModel

TOLERANCE = 1e-6  # of the greatest number that is compared, if that is above 1
NUM_WINDOWS = 16
ENCODED_WINDOWS = 2  # the encoder sees each of them once for every step


@dataclass(frozen=True)
class Causality:
    """How much predictions change when only what follows them does.

    Attributes:
        predicted: one per step: the greatest absolute change of the predictions of next frames up
            to it, when later frames, states and actions are others.
        imagined: likewise, of imagined frames, when later actions are others.
        encoded: likewise, of latents, when later frames are others.
        later_change: the greatest change of what comes after: shows that the exchange was felt.
        tolerance: what counts as no change.
        verdict: passes if every change is within the tolerance.
    """

    predicted: tuple[float, ...]
    imagined: tuple[float, ...]
    encoded: tuple[float, ...]
    later_change: float
    tolerance: float
    verdict: Verdict

    @property
    def largest_change(self) -> float:
        """The greatest change of anything that must not change; NaN if any is."""
        return float(np.max([*self.predicted, *self.imagined, *self.encoded]))


def measure_causality(
    model: LatentWorldModel, windows: HeldOutWindows, *, seed: int = 0
) -> Causality | NotMeasured:
    """Exchanges the future at every step, and looks whether the past notices.

    Args:
        model: is looked at.
        windows: with other episodes to take the futures from.
        seed: of which.

    Returns:
        The numbers, or why there are none.
    """
    if windows.num_episodes < 2 or windows.actions.shape[1] < 2:
        return NotMeasured.because("needs two episodes, and windows of at least two actions")
    windows = windows.some(NUM_WINDOWS)
    donors = windows.donors(np.random.default_rng(seed))
    predicted, scale, later = _predicted_changes(model, windows, donors)
    imagined, imagined_scale, imagined_later = _imagined_changes(model, windows, donors)
    encoded = _encoded_changes(model, windows, donors)
    tolerance = TOLERANCE * max(1.0, scale, imagined_scale)
    changes = {"predicted": predicted, "imagined": imagined, "encoded": encoded}
    return Causality(
        **changes,
        later_change=max(later, imagined_later),
        tolerance=tolerance,
        verdict=_verdict(changes, tolerance),
    )


def _predicted_changes(
    model: LatentWorldModel, windows: HeldOutWindows, donors: np.ndarray
) -> tuple[tuple[float, ...], float, float]:
    """Returns the changes of teacher-forced predictions, their scale, and the change after."""
    known = windows.latents[:, :-1], windows.states[:, :-1], windows.actions
    before = predict_next(model, *known)
    changes, later = [], 0.0
    for step in range(before.shape[1] - 1):
        after = predict_next(model, *(_with_other_future(v, donors, step) for v in known))
        changes.append(_largest(after[:, : step + 1] - before[:, : step + 1]))
        later = max(later, _largest(after[:, step + 1 :] - before[:, step + 1 :]))
    return tuple(changes), _largest(before), later


def _imagined_changes(
    model: LatentWorldModel, windows: HeldOutWindows, donors: np.ndarray
) -> tuple[tuple[float, ...], float, float]:
    """Returns the same for rollouts: all that can change later on are actions."""
    actions = windows.future_actions
    before = imagine(model, windows)
    changes, later = [], 0.0
    for step in range(before.shape[1] - 1):
        after = imagine(model, windows, _with_other_future(actions, donors, step))
        changes.append(_largest(after[:, : step + 1] - before[:, : step + 1]))
        later = max(later, _largest(after[:, step + 1 :] - before[:, step + 1 :]))
    return tuple(changes), _largest(before), later


def _encoded_changes(
    model: LatentWorldModel, windows: HeldOutWindows, donors: np.ndarray
) -> tuple[float, ...]:
    """Returns the changes of the latents of earlier frames, of a few windows."""
    few, changes = slice(ENCODED_WINDOWS), []
    frames, others = windows.frames[few], windows.frames[torch.from_numpy(donors[few])]
    before = encode_frames(model, frames)
    for step in range(frames.shape[2] - 1):
        mixed = torch.cat([frames[:, :, : step + 1], others[:, :, step + 1 :]], 2)
        after = encode_frames(model, mixed)
        changes.append(_largest(after[:, : step + 1] - before[:, : step + 1]))
    return tuple(changes)


def _with_other_future(values: Tensor, donors: np.ndarray, step: int) -> Tensor:
    """Returns values (windows, time, ...) with those after `step` of other windows."""
    others = values[torch.from_numpy(donors).to(values.device)]
    return torch.cat([values[:, : step + 1], others[:, step + 1 :]], 1)


def _largest(values: Tensor) -> float:
    """The greatest absolute value, 0 of none; NaN if any is."""
    return float(values.abs().max()) if values.numel() else 0.0


def _verdict(changes: dict[str, tuple[float, ...]], tolerance: float) -> Verdict:
    for name, values in changes.items():
        for step, change in enumerate(values):
            if not change <= tolerance:
                return Verdict(
                    "fail",
                    f"looks ahead: what is {name} up to step {step + 1} changes by {change:.3g} "
                    f"when only what follows does (allowed: {tolerance:.0e})",
                )
    return Verdict("pass", f"causal: nothing before a change moves by more than {tolerance:.0e}")
