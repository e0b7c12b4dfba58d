"""Frames to H.264 MP4, with PyAV."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import numpy as np


def write_mp4(
    path: str | Path,
    frames: np.ndarray,
    *,
    frames_per_second: float,
    crf: int = 18,
    keyframe_interval: int = 30,
    preset: str = "ultrafast",
) -> Path:
    """Writes frames as an MP4 file; the file appears whole or not at all.

    Args:
        path: the file to write; its folder is made.
        frames: (time, height, width, 3), uint8, RGB; height and width even.
        frames_per_second: above 0.
        crf: H.264 quality, 0 (lossless) to 51.
        keyframe_interval: frames from one keyframe to the next; a short one seeks fast.
        preset: H.264 speed against size; "ultrafast" writes no B-frames.

    Returns:
        The path.

    Raises:
        ValueError: if shape, type, size or rate do not fit.
    """
    path = Path(path)
    data = encode_mp4(
        frames,
        frames_per_second=frames_per_second,
        crf=crf,
        keyframe_interval=keyframe_interval,
        preset=preset,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)
    return path


def encode_mp4(
    frames: np.ndarray,
    *,
    frames_per_second: float,
    crf: int = 18,
    keyframe_interval: int = 30,
    preset: str = "ultrafast",
) -> bytes:
    """Returns frames as the bytes of an MP4 file. Arguments as in `write_mp4`."""
    import av

    _refuse_bad_frames(frames, frames_per_second)
    buffer = io.BytesIO()
    options = {"crf": str(crf), "preset": preset, "g": str(keyframe_interval)}
    rate = Fraction(frames_per_second).limit_denominator(1001)
    with av.open(buffer, mode="w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return buffer.getvalue()


def _refuse_bad_frames(frames: np.ndarray, frames_per_second: float) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            "frames must be (time, height, width, 3) uint8, "
            f"got {tuple(frames.shape)} {frames.dtype}"
        )
    time, height, width = frames.shape[:3]
    if time == 0:
        raise ValueError("frames is empty: a video needs at least one frame")
    if height % 2 or width % 2:
        raise ValueError(
            f"H.264 with yuv420p needs even sizes, got height={height}, width={width}; "
            "crop or pad by one pixel"
        )
    if not 0 < frames_per_second <= 1000:
        raise ValueError(f"frames_per_second must be in (0, 1000], got {frames_per_second}")
