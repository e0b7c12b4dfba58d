"""Re-encoding: a video becomes smaller and quicker to read at random places.

A clip at 4 frames per second out of a video of 30 makes the decoder work through seven frames for
each one it shows. What nobody reads is better not stored: frames are chosen by time, made smaller,
and encoded with a keyframe every few frames and no B-frames. Sound is left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from data_pipelines.clip_sampling import frames_on_screen
from data_pipelines.decoders.base import DecoderName, VideoDecoder, decoder_class
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.manifest import VerifyFrames, probe
from data_pipelines.video_sources import exact
from data_pipelines.video_writing import Codec, Mp4Writer, encoder_name

SCENE_SIDE = 32  # frames are compared at this size
PRESET = "veryfast"
_FRAMES_AT_ONCE = 32


@dataclass(frozen=True)
class RecodeSettings:
    """How videos are encoded anew.

    Attributes:
        frames_per_second: a number such as "4" or "30000/1001"; None keeps the average rate.
        short_side: in pixels; a smaller video is not made larger. None keeps the size.
        keyframe_interval: frames from one keyframe to the next.
        codec: "h264", "hevc" or "vp9", each in an MP4 file.
        crf: quality: 0 to 51, for vp9 to 63; lower is better and larger.
        split_scenes: where the mean absolute difference of two frames (grey, 32 by 32, 0 to 255)
            exceeds this, a new scene begins, which is a sample of its own. None splits nothing.
    """

    frames_per_second: str | None = None
    short_side: int | None = None
    keyframe_interval: int = 8
    codec: Codec = "h264"
    crf: int = 23
    split_scenes: float | None = None

    def __post_init__(self) -> None:
        encoder_name(self.codec)
        if not 0 <= self.crf <= (63 if self.codec == "vp9" else 51):
            raise ValueError(f"crf={self.crf} is not a quality of {self.codec}: 0 to 51 (vp9: 63)")
        if self.keyframe_interval < 1:
            raise ValueError(f"keyframe_interval={self.keyframe_interval} must be at least 1")
        if self.short_side is not None and not 16 <= self.short_side <= 8192:
            raise ValueError(f"short_side={self.short_side} must be from 16 to 8192 pixels")
        if self.split_scenes is not None and not 0 < self.split_scenes <= 255:
            raise ValueError(f"split_scenes={self.split_scenes} must be above 0, at most 255")
        if self.frames_per_second is not None:
            exact_rate(self.frames_per_second)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values; `RecodeSettings(**values)` is the inverse."""
        return asdict(self)


@dataclass(frozen=True)
class RecodedScene:
    """One scene, or the whole video.

    Attributes:
        data: the MP4 file.
        metadata: of the new file.
        start_seconds: where it begins in the original.
    """

    data: bytes
    metadata: VideoMetadata
    start_seconds: float


def recode(
    data: bytes,
    name: str,
    settings: RecodeSettings,
    *,
    decoder: DecoderName,
    verify_frames: VerifyFrames = "ends",
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> tuple[VideoMetadata, list[RecodedScene]]:
    """Encodes a video anew.

    Args:
        data: the file's bytes.
        name: path or key, for error messages.
        settings: what the new video is like.
        decoder: what decodes; it must read the new file too.
        verify_frames: which frames of the new file are decoded to see that it is whole.
        start_seconds: where to begin; None: at the beginning.
        end_seconds: where to end; None: at the end.

    Returns:
        The metadata of the original, and the scenes in order: one if nothing is split.

    Raises:
        DecodeError: if the video cannot be read, or has nothing between start and end. One that
            ends before `end_seconds` gives what there is.
    """
    if end_seconds is not None and end_seconds <= (start_seconds or 0.0):
        raise DecodeError(
            name,
            f"the part asked for ends at {exact(end_seconds)} s, which is not after its start at "
            f"{exact(start_seconds or 0.0)} s",
        )
    with decoder_class(decoder)(data, name) as video:
        metadata = video.metadata()
        rate = (
            Fraction(metadata.frames_per_second).limit_denominator(1001)
            if settings.frames_per_second is None
            else exact_rate(settings.frames_per_second)
        )
        start = Fraction(start_seconds or 0)
        wanted_seconds = output_times(
            rate, start=start, end_seconds=_end(metadata, end_seconds), metadata=metadata
        )
        if len(wanted_seconds) == 0:
            raise DecodeError(
                name,
                f"nothing between {exact(float(start))} s and its end: "
                f"it lasts {metadata.duration_seconds:.2f} s",
            )
        indices = frames_on_screen(video.timestamps_seconds(), wanted_seconds)
        height, width = output_size(metadata.height, metadata.width, settings.short_side)
        frames = _resized_frames(video, indices, height, width)
        encoded = list(_encoded_scenes(frames, (height, width), rate, settings))
    scenes = []
    for first, file in encoded:
        about = probe(file, name, decoder=decoder, verify_frames=verify_frames)
        scenes.append(RecodedScene(file, about, float(start + first / rate)))
    return metadata, scenes


def exact_rate(text: str) -> Fraction:
    """Returns a rate as a fraction: of "4", "12.5" or "30000/1001".

    Raises:
        ValueError: if it is none, or not in (0, 1000].
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise ValueError(f"'{text}' is no rate: a number or a fraction in (0, 1000], such as 4")
    return rate


def output_times(
    rate: Fraction, *, start: Fraction, end_seconds: float, metadata: VideoMetadata
) -> np.ndarray:
    """Returns start, start + 1 / rate, ... before the end: (time,), float64, each rounded once.

    A moment less than a hundredth of an original frame before the end is no frame any more.
    """
    slack = 0.01 * metadata.duration_seconds / metadata.num_frames
    last = (Fraction(end_seconds - slack) - start) * rate
    num_frames = max(int(np.ceil(float(last))), 0)
    return np.array([float(start + index / rate) for index in range(num_frames)])


def output_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Returns height and width: even, the aspect ratio kept, never larger than they were."""
    short = min(height, width)
    if short_side is None or short_side >= short:
        return max(height // 2 * 2, 2), max(width // 2 * 2, 2)
    scale = Fraction(short_side, short)
    return _even(height * scale), _even(width * scale)


def _even(length: Fraction) -> int:
    """Returns the nearest even number, at least 2; halves go up."""
    return max(2 * int(length / 2 + Fraction(1, 2)), 2)


def _end(metadata: VideoMetadata, end_seconds: float | None) -> float:
    if end_seconds is None:
        return metadata.duration_seconds
    return min(end_seconds, metadata.duration_seconds)


def _resized_frames(
    video: VideoDecoder, indices: np.ndarray, height: int, width: int
) -> Iterator[np.ndarray]:
    """Yields the frames at indices: (height, width, 3), uint8."""
    from PIL import Image

    for start in range(0, len(indices), _FRAMES_AT_ONCE):
        for pixels in video.frames_at(indices[start : start + _FRAMES_AT_ONCE]).pixels:
            if pixels.shape[:2] == (height, width):
                yield pixels
            else:
                image = Image.fromarray(pixels)
                yield np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _encoded_scenes(
    frames: Iterator[np.ndarray],
    size: tuple[int, int],
    rate: Fraction,
    settings: RecodeSettings,
) -> Iterator[tuple[int, bytes]]:
    """Yields each scene: the number of its first frame, and its file."""
    scene, first, before = _Scene(size, rate, settings), 0, None
    for number, pixels in enumerate(frames):
        if settings.split_scenes is not None:
            small = small_grey(pixels)
            if before is not None and np.abs(small - before).mean() > settings.split_scenes:
                yield first, scene.finish()
                scene, first = _Scene(size, rate, settings), number
            before = small
        scene.writer.add(pixels[None])
    yield first, scene.finish()


class _Scene:
    """The file of one scene, while it grows."""

    def __init__(self, size: tuple[int, int], rate: Fraction, settings: RecodeSettings) -> None:
        self.file = io.BytesIO()
        self.writer = Mp4Writer(
            self.file,
            height=size[0],
            width=size[1],
            frames_per_second=rate,
            crf=settings.crf,
            keyframe_interval=settings.keyframe_interval,
            preset=PRESET,
            codec=settings.codec,
        )

    def finish(self) -> bytes:
        """Returns the file's bytes."""
        self.writer.close()
        return self.file.getvalue()


def small_grey(pixels: np.ndarray) -> np.ndarray:
    """Returns a frame as scenes are told apart by: (32, 32), float32, 0 to 255."""
    from PIL import Image

    image = Image.fromarray(pixels).convert("L")
    size = (SCENE_SIDE, SCENE_SIDE)
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32)
