"""Which frames of a file become which rows of its features: arithmetic, known before any decoding.

A video is cut into clips that tile it. A clip adds the rows that no earlier clip gave: the last
clip ends where the video ends and gives only what is new, so that no frame is lost and no pixel is
made up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from torch import Tensor

from data_pipelines.clip_sampling import frames_on_screen
from data_pipelines.decoders import DecoderName
from data_pipelines.transforms import CropBox
from jepa.models.encoder import VideoEncoder

Kind = Literal["video", "image"]
Pool = Literal["none", "frame", "clip"]
StoredType = Literal["float32", "float16"]

LEAST_PART_OF_A_FRAME = 0.01  # a moment this near to the end of the video is its end


@dataclass(frozen=True)
class Options:
    """How features are taken.

    Attributes:
        size: height and width of a clip in pixels, or its short side if `full_frame`; None: what
            the encoder was made for.
        clip_length_frames: None: what the encoder was made for. A video with fewer frames is
            encoded in a clip of as many tubelets as it fills.
        frames_per_second: at which the video is looked at; None takes every frame.
        stride_frames: from the start of one clip to the next, in frames looked at; None: the clip's
            length. A smaller one gives every row but those of the first clip more past to see.
        layers: blocks, from 0, whose outputs are stored instead of the last one's.
        levels: store all levels of the encoder side by side.
        pool: "frame" stores the mean over the tokens of a row, "clip" over all tokens of a clip.
        full_frame: keep the whole frame, its sides rounded to the patch; else the largest centred
            square.
        dtype: of what is stored; the encoder computes in its own.
        batch: clips encoded at once.
        decoder: pyav is not crashed by damaged files, and reads narrow ones.

    Raises:
        ValueError: if a value is out of range, or two exclude each other.
    """

    size: int | None = None
    clip_length_frames: int | None = None
    frames_per_second: float | None = None
    stride_frames: int | None = None
    layers: tuple[int, ...] = ()
    levels: bool = False
    pool: Pool = "none"
    full_frame: bool = False
    dtype: StoredType = "float32"
    batch: int = 1
    decoder: DecoderName = "pyav"

    def __post_init__(self) -> None:
        rate = self.frames_per_second
        if rate is not None and not 0 < rate <= 1000:
            raise ValueError(f"--fps must be above 0 and at most 1000, got {rate:g}")
        if self.batch < 1:
            raise ValueError(f"--batch must be at least 1, got {self.batch}")
        if self.layers and self.levels:
            raise ValueError("--layers and --levels exclude each other: levels are layers")


@dataclass(frozen=True)
class Source:
    """A file of the user's, looked at but not decoded.

    Attributes:
        path: as the user named it.
        kind: "video" or "image".
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        frame_starts_seconds: presentation times, counted from the first frame: (num_frames,).
        frame_ends_seconds: when the next frame starts, or the video ends: (num_frames,).
    """

    path: str
    kind: Kind
    height: int
    width: int
    frame_starts_seconds: np.ndarray
    frame_ends_seconds: np.ndarray

    @property
    def duration_seconds(self) -> float:
        """From the first frame's start to the last frame's end; 0 for an image."""
        return float(self.frame_ends_seconds[-1])


@dataclass(frozen=True)
class Plan:
    """What will be computed of a source: known before its first frame is decoded.

    Attributes:
        source: the file.
        frame_indices: the frames looked at, in order, indices of the source: (frames,).
        box: what is cut out of a frame, in its pixels.
        size: height and width of a clip in pixels.
        clip_length_frames: of every clip of this source.
        clip_starts: places in `frame_indices`, increasing.
        grid: (time, height, width) of one clip in tokens.
        pool: see `Options`.
    """

    source: Source
    frame_indices: np.ndarray
    box: CropBox
    size: tuple[int, int]
    clip_length_frames: int
    clip_starts: tuple[int, ...]
    grid: tuple[int, int, int]
    pool: Pool

    @property
    def tubelet_frames(self) -> int:
        """Frames that one row of tokens stands for."""
        return self.clip_length_frames // self.grid[0]

    @cached_property
    def first_new_rows(self) -> tuple[int, ...]:
        """For each clip the first of its rows that holds a frame of no earlier clip."""
        rows, covered = [], 0
        for start in self.clip_starts:
            rows.append((covered - start) // self.tubelet_frames if start < covered else 0)
            covered = start + self.clip_length_frames
        return tuple(rows)

    @cached_property
    def row_frames(self) -> np.ndarray:
        """Which frames of the source each row of the result has seen: (rows, frames), int64."""
        if self.pool == "clip":
            starts, length = np.array(self.clip_starts), self.clip_length_frames
        else:
            length = self.tubelet_frames
            starts = np.array(
                [
                    start + row * length
                    for start, first in zip(self.clip_starts, self.first_new_rows, strict=True)
                    for row in range(first, self.grid[0])
                ]
            )
        return self.frame_indices[starts[:, None] + np.arange(length)]

    def rows_of(self, clip: int, tokens: Tensor) -> Tensor:
        """Returns what a clip adds to the result.

        Args:
            clip: its number.
            tokens: (tokens, dim) of the whole clip.

        Returns:
            (rows, height, width, dim); with pool "frame" (rows, dim), with "clip" (1, dim).
        """
        if self.pool == "clip":
            return tokens.mean(0, keepdim=True)
        rows = tokens.unflatten(0, self.grid)[self.first_new_rows[clip] :]
        return rows if self.pool == "none" else rows.mean((1, 2))

    def feature_shape(self, dim: int) -> tuple[int, ...]:
        """Returns the shape of the result for tokens of this width."""
        places = self.grid[1:] if self.pool == "none" else ()
        return (len(self.row_frames), *places, dim)

    def annotations(self) -> dict[str, np.ndarray]:
        """Returns the times of the rows, the frames they saw, and where their tokens lie.

        Returns:
            time_start_seconds and time_end_seconds (rows,) float64: start of a row's first frame,
            end of its last; frame_indices (rows, frames) int64; if nothing is pooled boxes_pixels
            (height, width, 4) float32: top, left, bottom, right of each token in the source.
        """
        frames = self.row_frames
        arrays = {
            "time_start_seconds": self.source.frame_starts_seconds[frames[:, 0]],
            "time_end_seconds": self.source.frame_ends_seconds[frames[:, -1]],
            "frame_indices": frames,
        }
        if self.pool == "none":
            arrays["boxes_pixels"] = token_boxes(self.box, self.grid[1:])
        return arrays

    def describe(self) -> dict[str, Any]:
        """Returns what a reader of the result may ask about this source."""
        source, looked_at = self.source, np.unique(self.frame_indices)
        num_frames = len(source.frame_starts_seconds)
        facts = {
            "path": source.path,
            "kind": source.kind,
            "frame_height_pixels": source.height,
            "frame_width_pixels": source.width,
            "crop_box_pixels": self.box._asdict(),
            "resized_to_pixels": list(self.size),
            "grid": [len(self.row_frames), *self.grid[1:]],
        }
        if source.kind == "image":
            return facts
        return facts | {
            "num_frames": num_frames,
            "duration_seconds": source.duration_seconds,
            "frames_per_second": num_frames / source.duration_seconds,
            "frames_encoded": len(looked_at),
            "frames_not_looked_at": num_frames - len(looked_at),
            "frames_repeated": len(self.frame_indices) - len(looked_at),
            "num_clips": len(self.clip_starts),
            "clip_length_frames": self.clip_length_frames,
            "clip_starts": list(self.clip_starts),
        }


def make_plan(encoder: VideoEncoder, source: Source, options: Options) -> Plan:
    """Decides clips, cut and grid of one source.

    Raises:
        ValueError: if sizes do not fit the encoder, or the video is shorter than a tubelet.
    """
    tubelet, patch, _ = encoder.tubelet
    side = encoder.grid[1] * patch if options.size is None else options.size
    _refuse_indivisible("--size", side, patch, "patch", "pixels")
    box, size = choose_cut(source.height, source.width, side, patch, whole=options.full_frame)
    if source.kind == "image":
        frame_indices, length, starts = np.zeros(1, dtype=np.int64), 1, (0,)
    else:
        length, stride = options.clip_length_frames, options.stride_frames
        length = encoder.grid[0] * tubelet if length is None else length
        stride = length if stride is None else stride
        _refuse_indivisible("--frames", length, tubelet, "tubelet", "frames")
        _refuse_indivisible("--stride", stride, tubelet, "tubelet", "frames")
        if stride > length:
            raise ValueError(
                f"--stride {stride} exceeds the clip's {length} frames: those in between would be "
                "lost; to look at fewer frames use --fps"
            )
        frame_indices = sample_frames(source, options.frames_per_second)
        if len(frame_indices) < tubelet:
            found = count_in_words(len(frame_indices), "frame")
            raise ValueError(
                f"{source.path}: {found} to look at, but a token needs {tubelet}; "
                "use a longer video or a higher --fps"
            )
        length = min(length, len(frame_indices) // tubelet * tubelet)
        starts = tile(len(frame_indices), length, stride)
    grid = encoder.grid_of((length, *size))
    return Plan(source, frame_indices, box, size, length, starts, grid, options.pool)


def sample_frames(source: Source, frames_per_second: float | None) -> np.ndarray:
    """Returns which frames are looked at: all, or those on screen at k / frames_per_second.

    Returns:
        (frames,), int64, not decreasing; a rate above the video's repeats frames.
    """
    num_frames = len(source.frame_starts_seconds)
    if frames_per_second is None:
        return np.arange(num_frames)
    end_seconds = source.duration_seconds * (1 - LEAST_PART_OF_A_FRAME / num_frames)
    wanted_seconds = np.arange(math.ceil(end_seconds * frames_per_second)) / frames_per_second
    return frames_on_screen(source.frame_starts_seconds, wanted_seconds)


def tile(num_frames: int, clip_length_frames: int, stride_frames: int) -> tuple[int, ...]:
    """Returns where clips start so that every frame is in one: the last ends at the last frame."""
    last = num_frames - clip_length_frames
    starts = list(range(0, last + 1, stride_frames))
    return tuple(starts if starts[-1] == last else [*starts, last])


def choose_cut(
    height: int, width: int, side: int, patch: int, *, whole: bool
) -> tuple[CropBox, tuple[int, int]]:
    """Returns what is cut out of a frame and to which (height, width) it is resized.

    Args:
        height: of the frame, in pixels.
        width: of the frame, in pixels.
        side: of the square, or the short side of the whole frame, in pixels.
        patch: what the sides of a whole frame are rounded to a multiple of, in pixels.
        whole: keep the whole frame; else the largest centred square.
    """
    short = min(height, width)
    if not whole:
        box = CropBox((height - short) // 2, (width - short) // 2, short, short)
        return box, (side, side)
    rows, columns = (max(1, round(n * side / short / patch)) for n in (height, width))
    return CropBox(0, 0, height, width), (rows * patch, columns * patch)


def token_boxes(box: CropBox, grid: tuple[int, int]) -> np.ndarray:
    """Returns top, left, bottom, right of each token in the frame: (height, width, 4) float32."""
    rows = box.top + box.height * np.arange(grid[0] + 1) / grid[0]
    columns = box.left + box.width * np.arange(grid[1] + 1) / grid[1]
    top, left = np.meshgrid(rows[:-1], columns[:-1], indexing="ij")
    bottom, right = np.meshgrid(rows[1:], columns[1:], indexing="ij")
    return np.stack((top, left, bottom, right), axis=-1).astype(np.float32)


def count_in_words(number: int, noun: str) -> str:
    """Returns "1 clip", "2 clips"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _refuse_indivisible(option: str, value: int, step: int, noun: str, unit: str) -> None:
    if value < step or value % step:
        low = max(step, value // step * step)
        raise ValueError(
            f"{option} {value} is not a multiple of the {noun}'s {step} {unit}; "
            f"use {low} or {low + step}"
        )
