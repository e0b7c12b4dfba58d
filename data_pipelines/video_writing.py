"""Frames to MP4, with PyAV."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from data_pipelines.pixel_conversion import one_thread

if TYPE_CHECKING:
    import av

Codec = Literal["h264", "hevc", "vp9"]

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9"}


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
        preset: H.264 speed against size; no B-frames are written.

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
    _refuse_bad_frames(frames, frames_per_second)
    buffer = io.BytesIO()
    with Mp4Writer(
        buffer,
        height=frames.shape[1],
        width=frames.shape[2],
        frames_per_second=frames_per_second,
        crf=crf,
        keyframe_interval=keyframe_interval,
        preset=preset,
    ) as video:
        video.add(frames)
    return buffer.getvalue()


class Mp4Writer:
    """Writes an MP4 file in pieces, for videos that are too long to be held as frames.

    Args:
        file: what to write to, empty and seekable; it stays open.
        height: of all frames, in pixels, even.
        width: likewise.
        frames_per_second: above 0; a fraction is taken exactly.
        crf: as in `write_mp4`, and so for the rest.
        keyframe_interval: frames from one keyframe to the next.
        preset: H.264 and HEVC speed against size; no B-frames are written.
        codec: "h264", "hevc" or "vp9".
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        height: int,
        width: int,
        frames_per_second: float | Fraction,
        crf: int = 18,
        keyframe_interval: int = 30,
        preset: str = "ultrafast",
        codec: Codec = "h264",
    ) -> None:
        import av

        self.num_frames = 0
        self.num_bytes = 0  # of the frames that are encoded so far
        self._frames_per_second = frames_per_second
        self._from_ndarray = av.VideoFrame.from_ndarray
        self._one_thread: dict[str, Any] = dict(one_thread())
        options = _encoder_options(codec, crf, keyframe_interval, preset)
        rate = frames_per_second
        if not isinstance(rate, Fraction):
            rate = Fraction(rate).limit_denominator(1001)
        self._container = av.open(file, mode="w", format="mp4")
        self._stream: Any = self._container.add_stream(
            encoder_name(codec), rate=rate, options=options
        )
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 1

    def add(self, frames: np.ndarray) -> None:
        """Writes frames after those before: (time, height, width, 3), uint8, RGB.

        Raises:
            ValueError: if their shape or type does not fit.
        """
        _refuse_bad_frames(frames, self._frames_per_second)
        if frames.shape[1:3] != (self._stream.height, self._stream.width):
            raise ValueError(
                f"frames are {frames.shape[1:3]} (height, width), the video is "
                f"{(self._stream.height, self._stream.width)}"
            )
        for pixels in frames:
            frame = self._from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(format="yuv420p", **self._one_thread)
            frame.pts = self.num_frames
            self._write(self._stream.encode(frame))
            self.num_frames += 1

    def close(self) -> None:
        """Writes what the encoder still holds, and the end of the file."""
        self._write(self._stream.encode())
        self._container.close()

    def _write(self, packets: Sequence[av.Packet]) -> None:
        self.num_bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self.close()
        else:
            self._container.close()


def encoder_name(codec: str) -> str:
    """Returns the name of the library that encodes a codec.

    Raises:
        ValueError: if there is no such codec, or if this PyAV was built without it.
    """
    import av

    if codec not in _ENCODERS:
        raise ValueError(f"no codec '{codec}'; choose from {', '.join(_ENCODERS)}")
    name = _ENCODERS[codec]
    if name not in av.codecs_available:
        raise ValueError(f"this PyAV cannot encode {codec} ({name}); choose another codec")
    return name


def _encoder_options(codec: Codec, crf: int, keyframe_interval: int, preset: str) -> dict[str, str]:
    """Returns what the encoder is told: no B-frames, and what makes equal frames equal bytes."""
    options = {"crf": str(crf), "g": str(keyframe_interval)}
    if codec == "vp9":  # b: the rate follows the quality; no frame waits for a later one
        return {**options, "b": "0", "lag-in-frames": "0", "auto-alt-ref": "0", "cpu-used": "4"}
    if codec == "hevc":
        interval = f"keyint={keyframe_interval}:min-keyint={keyframe_interval}"
        quiet = "bframes=0:scenecut=0:pools=none:frame-threads=1:log-level=none"
        return {**options, "preset": preset, "x265-params": f"{interval}:{quiet}"}
    # x264's macroblock tree reads memory that it did not write: of four thousand encodings of equal
    # frames, up to a quarter were different, mostly none. Without it, none of 60,000 was.
    return {**options, "preset": preset, "bf": "0", "x264-params": "mbtree=0"}


def _refuse_bad_frames(frames: np.ndarray, frames_per_second: float | Fraction) -> None:
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
