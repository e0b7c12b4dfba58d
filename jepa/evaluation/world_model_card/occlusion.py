"""Persistence, second part: what is hidden for a while and comes back, is it still known?

The camera is covered for some frames: these are blank (the mean colour of their window), and the
states that go with them are unknown (the mean of the data); what is done goes on, and is known. The
model then predicts the frame in which everything is back. The control is the same with another
episode before the cover: a model that keeps nothing predicts as well after another past as after
the true one.

A covered frame is nothing that was trained on, and a model that writes its prediction as a change
of the latest latent begins at the cover: it may have a memory and lose it here. With cover="mean"
the latents under the cover are the mean latent of the data, which says nothing either and is not as
strange. What a planner can do instead, imagine through the cover, is measured beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.scores import Interval
from jepa.evaluation.world_model_card.held_out import HeldOutWindows, encode_frames
from jepa.evaluation.world_model_card.rollouts import distances, imagine, predict_next
from jepa.evaluation.world_model_card.verdict import (
    LEAST_EPISODES,
    NotMeasured,
    Verdict,
    mean_interval,
    ratio_interval,
)
from jepa.models.world_model import LatentWorldModel

Cover = Literal["blank", "mean"]
LEAST_VISIBLE = 2  # frames before the cover, so that there is a movement to remember


@dataclass(frozen=True)
class Occlusion:
    """Latent distances to the frame in which everything is back.

    Attributes:
        num_visible: frames before the cover.
        num_hidden: frames under it.
        cover: what is under it: blank frames, or the mean latent.
        seen: of the prediction without a cover.
        covered: with it.
        other_past: with it, and another episode before it.
        imagined: of imagining from the last visible frame through the cover, nothing being seen.
        copied: of the last visible frame itself.
        kept_ratio: covered over other_past; below 1 something is kept.
        covered_ratio: covered over copied; below 1 what is kept is of use.
        imagined_ratio: imagined over copied; below 1 it is known where things went.
        verdict: passes if the intervals of kept_ratio and of covered_ratio lie below 1.
    """

    num_visible: int
    num_hidden: int
    cover: Cover
    seen: Interval
    covered: Interval
    other_past: Interval
    imagined: Interval
    copied: Interval
    kept_ratio: Interval
    covered_ratio: Interval
    imagined_ratio: Interval
    verdict: Verdict


def measure_occlusion(
    model: LatentWorldModel,
    windows: HeldOutWindows,
    *,
    num_hidden: int = 2,
    cover: Cover = "blank",
    seed: int = 0,
) -> Occlusion | NotMeasured:
    """Covers the camera for some frames in the middle of every window.

    Args:
        model: predicts and imagines.
        windows: of at least `frames_needed` frames, of several episodes.
        num_hidden: frames under the cover.
        cover: "blank": the frames have one colour. "mean": the latents are the mean of the windows.
        seed: of the other pasts and the intervals.

    Returns:
        The numbers, or why there are none.
    """
    if windows.num_episodes < LEAST_EPISODES:
        return NotMeasured.because("needs two episodes: the control is another past")
    if windows.latents.shape[1] < frames_needed(model, num_hidden):
        return NotMeasured.because(
            f"needs windows of {frames_needed(model, num_hidden)} frames to cover {num_hidden}"
        )
    errors = _errors(model, windows, num_hidden, cover, seed)
    told = {name: mean_interval(values, seed=seed) for name, values in errors.items()}
    kept = ratio_interval(errors["covered"], errors["other_past"], seed=seed)
    covered = ratio_interval(errors["covered"], errors["copied"], seed=seed)
    imagined = ratio_interval(errors["imagined"], errors["copied"], seed=seed)
    sees = model.dynamics.max_context_frames
    return Occlusion(
        num_visible=_num_visible(model),
        num_hidden=num_hidden,
        cover=cover,
        **told,
        kept_ratio=kept,
        covered_ratio=covered,
        imagined_ratio=imagined,
        verdict=_verdict(kept, covered, imagined, num_hidden, sees),
    )


def frames_needed(model: LatentWorldModel, num_hidden: int) -> int:
    """Returns how many frames a window must have: visible ones, covered ones, and the return."""
    return _num_visible(model) + num_hidden + 1


def covered_frames(frames: Tensor) -> Tensor:
    """Returns frames (windows, 3, time, height, width), uint8, as blank as their mean colour."""
    mean = frames.float().mean((2, 3, 4), keepdim=True).round().to(frames.dtype)
    return mean.expand_as(frames)


def _errors(
    model: LatentWorldModel, windows: HeldOutWindows, num_hidden: int, cover: Cover, seed: int
) -> dict[str, np.ndarray]:
    """Returns (episodes,) of every way to know the frame of the return."""
    visible = _num_visible(model)
    back = visible + num_hidden
    true = windows.latents[:, back]
    known = windows.latents[:, :back], windows.states[:, :back], windows.actions[:, :back]
    covered = _covered(model, windows, known, slice(visible, back), cover)
    donors = torch.from_numpy(windows.donors(np.random.default_rng(seed)))
    others = [_with_other_past(values, donors, visible) for values in covered]
    cut = replace(windows, num_past=visible - 1)
    found = {
        "seen": predict_next(model, *known)[:, -1],
        "covered": predict_next(model, *covered)[:, -1],
        "other_past": predict_next(model, *others)[:, -1],
        "imagined": imagine(model, cut, windows.actions[:, visible - 1 : back])[:, -1],
        "copied": windows.latents[:, visible - 1],
    }
    return {
        name: windows.per_episode(distances(model, latents, true))
        for name, latents in found.items()
    }


def _covered(
    model: LatentWorldModel,
    windows: HeldOutWindows,
    known: tuple[Tensor, Tensor, Tensor],
    hidden: slice,
    cover: Cover,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns latents, states and actions, the first two without what is hidden."""
    latents, states = known[0].clone(), known[1].clone()
    if cover == "mean":
        latents[:, hidden] = windows.latents.mean((0, 1))
    else:
        latents[:, hidden] = encode_frames(model, covered_frames(windows.frames[:, :, hidden]))
    states[:, hidden] = 0.0  # normalised: the mean of the data
    return latents, states, known[2]


def _with_other_past(values: Tensor, donors: Tensor, visible: int) -> Tensor:
    """Returns values (windows, time, ...) with the visible part of other windows."""
    others = values[donors.to(values.device)]
    return torch.cat([others[:, :visible], values[:, visible:]], 1)


def _num_visible(model: LatentWorldModel) -> int:
    return max(model.context_frames, LEAST_VISIBLE)


def _verdict(
    kept: Interval, covered: Interval, imagined: Interval, num_hidden: int, sees: int | None
) -> Verdict:
    beside = f"imagined through, its error is {imagined} of a copy's"
    if sees is not None and sees <= num_hidden:
        return Verdict(
            "not measurable",
            f"the model sees {sees} frame(s) at a time, so nothing can outlast {num_hidden} "
            f"covered ones: what it knows then is what it imagines; {beside}",
        )
    told = (
        f"after {num_hidden} covered frames the error is {kept} of that after another past, and "
        f"{covered} of a copy's"
    )
    if kept.high < 1 and covered.high < 1:
        return Verdict("pass", f"kept: {told}; {beside}")
    how = "too little is kept" if kept.high < 1 else "not kept"
    return Verdict("fail", f"{how}: {told}, both must lie below 1; {beside}")
