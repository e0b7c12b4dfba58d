"""A model and its baselines on a folder of pairs: surprises, verdicts, curves.

`data_pipelines` is found by name: `jepa` does not import it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.surprise.models import PredictingModel, untrained_predicting_model
from jepa.evaluation.surprise.sources import (
    Distance,
    LatentSurprise,
    PixelSurprise,
    SurpriseSource,
)
from jepa.evaluation.surprise.verdicts import PairScore, Verdict, verdicts
from jepa.evaluation.surprise.windows import (
    OverContexts,
    OverWindows,
    VideoSurprise,
    WindowPlan,
)

READING = "data_pipelines.physics_videos.reading"
TRAINED, UNTRAINED = "model", "untrained"
DIFFERENCE, EXTRAPOLATION = "pixels: frame difference", "pixels: constant velocity"
BATCH_WINDOWS = 16


class MeasuredPair(NamedTuple):
    """The surprises at the two videos of a pair.

    Attributes:
        concept: that the impossible video violates.
        variant: how.
        set_name: of pairs that share a scene.
        pair: its name.
        violation_frame: in frames of the curves; None if it is not known.
        possible: surprise at the possible video, by the name of what is surprised.
        impossible: the same at the impossible one.
    """

    concept: str
    variant: str
    set_name: str
    pair: str
    violation_frame: int | None
    possible: Mapping[str, VideoSurprise]
    impossible: Mapping[str, VideoSurprise]


@dataclass(frozen=True)
class MeasuredFolder:
    """All pairs of a folder.

    Attributes:
        layout: whose layout the folder has.
        frame_step: every so many frames one was taken.
        pairs: in the order of the folder.
        refused: what was left out, and why: (path, reason).
    """

    layout: str
    frame_step: int
    pairs: tuple[MeasuredPair, ...]
    refused: tuple[tuple[str, str], ...]

    def pair_scores(
        self, source: str, over_windows: OverWindows, over_contexts: OverContexts
    ) -> list[PairScore]:
        """Returns one number for each video; see `VideoSurprise.score`."""
        return [
            PairScore(
                pair.concept,
                pair.set_name,
                pair.possible[source].score(over_windows, over_contexts),
                pair.impossible[source].score(over_windows, over_contexts),
            )
            for pair in self.pairs
        ]

    def verdicts(
        self,
        source: str,
        *,
        over_windows: OverWindows = "mean",
        over_contexts: OverContexts = "mean",
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> dict[str, Verdict]:
        """Judges what one source makes of the folder; see `verdicts.verdicts`."""
        scores = self.pair_scores(source, over_windows, over_contexts)
        return verdicts(scores, num_resamples=num_resamples, seed=seed)


def sources_of(
    model: PredictingModel, *, distance: Distance = "l1", seed: int = 0
) -> dict[str, SurpriseSource]:
    """Returns what is compared: the model, the same untrained, and pixels.

    Args:
        model: the trained one.
        distance: between predicted and true latents.
        seed: of the untrained weights.
    """

    def latent(parts: PredictingModel) -> LatentSurprise:
        return LatentSurprise(
            parts.context_encoder, parts.predictor, parts.target_encoder, distance=distance
        )

    return {
        TRAINED: latent(model),
        UNTRAINED: latent(untrained_predicting_model(model, seed=seed)),
        DIFFERENCE: PixelSurprise(),
        EXTRAPOLATION: PixelSurprise(extrapolates=True),
    }


def measure_folder(
    folder: str | Path,
    sources: Mapping[str, SurpriseSource],
    *,
    plan: WindowPlan,
    image_size: int,
    frame_step: int | None = None,
) -> MeasuredFolder:
    """Measures the surprise of each source at every video of a folder.

    Args:
        folder: videos that `jepa surprise make` made, or a benchmark: IntPhys, GRASP, InfLevel.
        sources: by name.
        plan: of the windows.
        image_size: height and width that frames are brought to.
        frame_step: every so many frames one is taken; None: as is usual for the layout.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if nothing in it can be used, or a video is shorter than a window.
    """
    reading = importlib.import_module(READING)
    found = reading.open_physics_folder(folder)
    step = frame_step or found.frame_step
    pairs = []
    for possible, impossible in _by_pair(found.content.videos):
        surprises = []
        for row in (possible, impossible):
            video = reading.read_video(row, image_size=image_size, frame_step=step)
            try:
                surprises.append(measure_video(video, sources, plan=plan))
            except ValueError as error:
                raise ValueError(f"{row.path}: {error}") from error
        moment = impossible.violation_frame
        if moment is not None:
            moment = -(-(moment - impossible.first_frame) // step)
        pairs.append(
            MeasuredPair(
                impossible.concept,
                impossible.variant,
                impossible.set_name,
                impossible.pair,
                moment,
                surprises[0],
                surprises[1],
            )
        )
    refused = tuple((refusal.path, refusal.reason) for refusal in found.content.refused)
    return MeasuredFolder(found.layout, step, tuple(pairs), refused)


def measure_video(
    video: Tensor, sources: Mapping[str, SurpriseSource], *, plan: WindowPlan
) -> dict[str, VideoSurprise]:
    """Measures the surprise of each source at one video.

    Args:
        video: (3, time, height, width), uint8.
        sources: by name.
        plan: of the windows.

    Raises:
        ValueError: if the video is shorter than a window, or the windows do not fit a source.
    """
    starts = plan.starts(video.shape[1])
    clips = video.unfold(1, plan.length_frames, 1)[:, starts]  # (3, windows, height, width, time)
    clips = clips.permute(1, 0, 4, 2, 3)  # (windows, 3, time, height, width)
    surprises = {}
    for name, source in sources.items():
        parts = [
            source.surprise(part.contiguous(), plan.contexts_frames)
            for part in clips.split(BATCH_WINDOWS)
        ]
        values = torch.cat(parts, dim=1).numpy().astype(np.float64)
        surprises[name] = VideoSurprise(values, starts, video.shape[1])
    return surprises


def _by_pair(videos: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yields (possible, impossible) rows, in the order in which pairs first occur."""
    pairs: dict[str, dict[bool, Any]] = {}
    for video in videos:
        pairs.setdefault(video.pair, {})[video.is_possible] = video
    for pair in pairs.values():
        yield pair[True], pair[False]
