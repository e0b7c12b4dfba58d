"""Where windows lie in a video, how much of each is shown, and what becomes of their surprises.

Pure arithmetic, after Garrido et al., "Intuitive physics understanding emerges from self-supervised
pretraining on natural videos" (arXiv:2502.11831): windows slide over the video; the first frames of
each are shown, the others are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

OverWindows = Literal["mean", "max"]
OverContexts = Literal["mean", "min"]


@dataclass(frozen=True)
class WindowPlan:
    """How a video is cut.

    Attributes:
        length_frames: of a window.
        stride_frames: from one window's start to the next one's.
        contexts_frames: how many frames are shown at the beginning of a window; each number is a
            question of its own.
    """

    length_frames: int = 16
    stride_frames: int = 2
    contexts_frames: tuple[int, ...] = (2, 4, 6, 8, 10)

    def __post_init__(self) -> None:
        if self.length_frames < 2 or self.stride_frames < 1:
            raise ValueError(
                "windows must be at least 2 frames long and at least 1 apart, got length_frames="
                f"{self.length_frames} and stride_frames={self.stride_frames}"
            )
        contexts = self.contexts_frames
        if not contexts or not all(1 <= context < self.length_frames for context in contexts):
            raise ValueError(
                f"contexts_frames must be in [1, {self.length_frames - 1}], so that something is "
                f"shown and something asked for; got {contexts}"
            )

    def starts(self, num_frames: int) -> np.ndarray:
        """Returns the first frame of each window: (windows,). Windows do not leave the video.

        Raises:
            ValueError: if the video is shorter than a window.
        """
        if num_frames < self.length_frames:
            raise ValueError(
                f"the video has {num_frames} frames, a window {self.length_frames}; take a smaller "
                "frame step or window"
            )
        return np.arange(0, num_frames - self.length_frames + 1, self.stride_frames)


def usual_contexts(length_frames: int, tubelet_frames: int) -> tuple[int, ...]:
    """Returns one to five eighths of a window, rounded up to tubelets: 2, 4, 6, 8 and 10 of 16."""
    wanted = (-(-eighths * length_frames // (8 * tubelet_frames)) for eighths in range(1, 6))
    most = length_frames // tubelet_frames - 1
    return tuple(tubelet_frames * count for count in sorted({min(count, most) for count in wanted}))


class VideoSurprise(NamedTuple):
    """The surprise of one video.

    Attributes:
        values: (contexts, windows, frames of a window); NaN at frames that were shown.
        starts: (windows,), first frame of each window.
        num_frames: of the video.
    """

    values: np.ndarray
    starts: np.ndarray
    num_frames: int

    def per_window(self) -> np.ndarray:
        """Mean over the predicted frames of each window: (contexts, windows)."""
        return np.nanmean(self.values, axis=2)

    def score(
        self, over_windows: OverWindows = "mean", over_contexts: OverContexts = "mean"
    ) -> float:
        """Returns one number for the video.

        Args:
            over_windows: "mean", to compare videos of a pair; or "max", to judge one by itself.
            over_contexts: of each window, "mean"; or "min" ("filtered"): a window is surprising
                only if it is so however much of it was shown.

        Raises:
            ValueError: if a choice is none.
        """
        for choice, choices in ((over_windows, OverWindows), (over_contexts, OverContexts)):
            if choice not in get_args(choices):
                raise ValueError(f"choose from {', '.join(get_args(choices))}; got {choice!r}")
        windows = self.per_window()
        windows = windows.mean(0) if over_contexts == "mean" else windows.min(0)
        return float(windows.mean() if over_windows == "mean" else windows.max())

    def curve(self) -> np.ndarray:
        """Returns the surprise at each frame: (num_frames,).

        It is the mean over all windows and contexts in which the frame was predicted; NaN at
        frames that never were, as the first ones.
        """
        total, count = np.zeros(self.num_frames), np.zeros(self.num_frames)
        length = self.values.shape[2]
        for window, start in enumerate(self.starts):
            frames = self.values[:, window]  # (contexts, frames of a window)
            total[start : start + length] += np.nan_to_num(frames).sum(0)
            count[start : start + length] += np.isfinite(frames).sum(0)
        return np.divide(total, count, out=np.full(self.num_frames, np.nan), where=count > 0)
