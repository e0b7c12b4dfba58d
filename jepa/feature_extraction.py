"""`jepa predict --video | --image`: the tokens of one's own files, with their times and places.

    jepa predict --model MODEL --video my.mp4 --out features.safetensors
    jepa predict --model MODEL --image a.png b.jpg --out features.safetensors

A video is cut into clips that tile it; each clip is encoded, and every row of the result stands for
one tubelet of frames. A clip adds the rows that no earlier clip gave: the last clip ends where the
video ends and gives only what is new, so that no frame is lost and no pixel is made up. Neither the
video nor the result is ever in memory as a whole: rows go to a file beside the final one, which
takes its name when it is complete.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn, get_args

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from data_pipelines.clip_sampling import frames_on_screen
from data_pipelines.decoders import DecoderName, decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.images import read_image
from data_pipelines.transforms import CropBox
from jepa.models.encoder import VideoEncoder
from jepa.version import __version__

Kind = Literal["video", "image"]
Pool = Literal["none", "frame", "clip"]
StoredType = Literal["float32", "float16"]

DECODED_BYTES = 128 << 20  # source pixels held at once; a decoder seeks anew for each such piece
SECONDS_BETWEEN_LINES = 10.0
LEAST_PART_OF_A_FRAME = 0.01  # a moment this near to the end of the video is its end

_SAFETENSORS_NAMES = {"float64": "F64", "int64": "I64", "float32": "F32", "float16": "F16"}


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
        decoder: pyav is not crashed by damaged files, and reads narrow ones; but only decord turns
            videos that a telephone recorded sideways.

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


class Clip(NamedTuple):
    """One clip on its way to the encoder: source and clip by number, (3, time, height, width)."""

    source: int
    number: int
    video: Tensor


def main(argv: list[str]) -> int:
    """Runs the verb; returns the exit code."""
    arguments = _parser().parse_args(argv)
    options = Options(
        size=arguments.size,
        clip_length_frames=arguments.frames,
        frames_per_second=arguments.fps,
        stride_frames=arguments.stride,
        layers=tuple(arguments.layers),
        levels=arguments.levels,
        pool=arguments.pool,
        full_frame=arguments.full_frame,
        dtype=arguments.dtype,
        batch=arguments.batch,
        decoder=arguments.decoder,
    )
    if not arguments.sources:
        raise ValueError("nothing to encode: give --video PATH or --image PATH")
    device = _device(arguments.device)
    with whole_file(arguments.out) as file:  # what can be refused is refused before a model loads
        sources = [look_at(path, kind, options.decoder) for kind, path in arguments.sources]
        encoder = _load_encoder(arguments.model).to(device)
        plans = [make_plan(encoder, source, options) for source in sources]
        write_features(encoder, plans, file, options=options, model=arguments.model, say=_print)
    print(f"{arguments.out}: {_summary(plans, options)}")
    return 0


def extract_features(
    encoder: VideoEncoder,
    out: str | Path,
    *,
    videos: Sequence[str | Path] = (),
    images: Sequence[str | Path] = (),
    options: Options | None = None,
    model: str = "",
) -> list[Plan]:
    """Encodes files and writes one safetensors file, whole or not at all.

    One file for all inputs: of a single input the names are `features`, `time_start_seconds`,
    `time_end_seconds`, `frame_indices` and `boxes_pixels` (see `Plan`); of several, videos first,
    they begin with `0/`, `1/` and so on. With layers, `features_layer_5` takes the place of
    `features`. The file's metadata say the rest: `inputs` is JSON, one object per input.

    Args:
        encoder: as `from_pretrained(name).encoder`; its device is where it computes.
        out: ends in .safetensors; replaced if it exists.
        videos: paths.
        images: paths.
        options: None: all defaults.
        model: named in the metadata.

    Returns:
        What was computed, per input.

    Raises:
        FileNotFoundError: if a file, or the folder of `out`, is missing.
        ValueError: if sizes do not fit the encoder, or the result does not fit on the disk.
        DecodeError: if an input cannot be read; nothing is written then.
    """
    options = options or Options()
    if not videos and not images:
        raise ValueError("nothing to encode: name a video or an image")
    with whole_file(out) as file:
        sources = [look_at(path, "video", options.decoder) for path in videos]
        sources += [look_at(path, "image") for path in images]
        plans = [make_plan(encoder, source, options) for source in sources]
        write_features(encoder, plans, file, options=options, model=model)
    return plans


def look_at(path: str | Path, kind: Kind, decoder: DecoderName = "pyav") -> Source:
    """Reads size and times of a file.

    Raises:
        FileNotFoundError: if there is none.
        DecodeError: if it is no video, or no image.
    """
    if kind == "image":
        height, width = read_image(path).shape[:2]
        return Source(str(path), kind, height, width, np.zeros(1), np.zeros(1))
    if not Path(path).is_file():
        raise FileNotFoundError(f"no video file {path}")
    with decoder_class(decoder)(Path(path).read_bytes(), str(path)) as video:
        metadata, starts = video.metadata(), video.timestamps_seconds()
    ends = np.append(starts[1:], metadata.duration_seconds)
    return Source(str(path), kind, metadata.height, metadata.width, starts, ends)


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
            found = _count(len(frame_indices), "frame")
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


def write_features(
    encoder: VideoEncoder,
    plans: Sequence[Plan],
    file: BinaryIO,
    *,
    options: Options,
    model: str = "",
    say: Callable[[str], None] | None = None,
) -> None:
    """Encodes what was planned and fills a file with it; see `extract_features`.

    `say` is told how much there is to do, and every ten seconds how much is done.
    """
    names = [f"features_layer_{index}" for index in options.layers] or ["features"]
    dim = encoder.dim * (len(encoder.level_indices) if options.levels else 1)
    prefixes = [f"{index}/" if len(plans) > 1 else "" for index in range(len(plans))]
    annotations = {
        f"{prefix}{name}": array
        for prefix, plan in zip(prefixes, plans, strict=True)
        for name, array in plan.annotations().items()
    }
    tensors = {name: (array.dtype, array.shape) for name, array in annotations.items()}
    for prefix, plan in zip(prefixes, plans, strict=True):
        shape = plan.feature_shape(dim)
        tensors |= {f"{prefix}{name}": (np.dtype(options.dtype), shape) for name in names}
    rows = RowFile(file, tensors, _metadata(plans, options, model))
    for name, array in annotations.items():
        rows.append(name, array)
    device = next(encoder.parameters()).device
    num_clips = sum(len(plan.clip_starts) for plan in plans)
    say = say or _be_silent
    say(f"{_count(num_clips, 'clip')} to encode, {_size(rows.num_bytes)} to write")
    batches = _batches(read_clips(plans, options.decoder), options.batch)
    for clips in _told(batches, num_clips, say):
        video = torch.stack([clip.video for clip in clips]).to(device)
        for name, tokens in zip(names, encode(encoder, video, options), strict=True):
            for clip, clip_tokens in zip(clips, tokens, strict=True):
                added = plans[clip.source].rows_of(clip.number, clip_tokens)
                rows.append(f"{prefixes[clip.source]}{name}", _stored(added, options.dtype))
    rows.finish()


@torch.inference_mode()
def encode(encoder: VideoEncoder, video: Tensor, options: Options) -> list[Tensor]:
    """Returns tokens (batch, tokens, dim): one tensor, or one per layer asked for."""
    if options.layers:
        return encoder.layers(video, options.layers)
    return [encoder.levels(video) if options.levels else encoder(video)]


def read_clips(plans: Iterable[Plan], decoder: DecoderName) -> Iterator[Clip]:
    """Yields every clip of every source, in order; frames are decoded once, when needed.

    Raises:
        DecodeError: if a frame cannot be decoded; says how far it went.
    """
    for index, plan in enumerate(plans):
        frames = _image_frame(plan) if plan.source.kind == "image" else _frames(plan, decoder)
        held, first = next(frames), 0  # held: (3, frames from `first` on, height, width)
        for number, start in enumerate(plan.clip_starts):
            held, first = held[:, start - first :], start
            while held.shape[1] < plan.clip_length_frames:
                held = torch.cat((held, next(frames)), dim=1)
            yield Clip(index, number, held[:, : plan.clip_length_frames])


def fit(frames: Tensor, box: CropBox, size: tuple[int, int]) -> Tensor:
    """Cuts and resizes frames as `data_pipelines.transforms` does, also to what is no square.

    Args:
        frames: (time, height, width, 3), uint8.
        box: inside the frame, in pixels.
        size: height and width of the result, in pixels.

    Returns:
        (3, time, height, width), uint8.
    """
    images = frames[:, box.top : box.top + box.height, box.left : box.left + box.width]
    images = images.permute(0, 3, 1, 2)  # (time, 3, height, width)
    if (box.height, box.width) != size:
        images = functional.resize(images, list(size), antialias=True)
    return images.transpose(0, 1)


class RowFile:
    """A safetensors file whose tensors are filled row by row, without holding them in memory.

    Args:
        file: to write from its start.
        tensors: name -> (dtype, shape); the first axis is the one that is filled.
        metadata: for the header.

    Raises:
        ValueError: if the file would not fit on its disk.
    """

    def __init__(
        self,
        file: BinaryIO,
        tensors: dict[str, tuple[np.dtype, tuple[int, ...]]],
        metadata: dict[str, str],
    ) -> None:
        self.file = file
        header: dict[str, Any] = {"__metadata__": metadata}
        spans: dict[str, tuple[int, int]] = {}
        offset = 0
        for name in sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name)):
            dtype, shape = tensors[name]
            spans[name] = (offset, offset + dtype.itemsize * math.prod(shape))
            offset = spans[name][1]
            header[name] = {
                "dtype": _SAFETENSORS_NAMES[dtype.name],
                "shape": list(shape),
                "data_offsets": list(spans[name]),
            }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.num_bytes = 8 + len(text) + offset
        self._refuse_full_disk()
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        self.tensors = tensors
        self.ends = {name: start + end for name, (_, end) in spans.items()}
        self.places = {name: start + begin for name, (begin, _) in spans.items()}

    def append(self, name: str, rows: np.ndarray) -> None:
        """Writes the next rows of a tensor."""
        dtype, shape = self.tensors[name]
        if (rows.dtype, rows.shape[1:]) != (dtype, shape[1:]):
            raise RuntimeError(
                f"{name}: rows are {rows.dtype} {rows.shape[1:]}, not {dtype} {shape[1:]}"
            )
        self.file.seek(self.places[name])
        self.file.write(np.ascontiguousarray(rows).data)
        self.places[name] = self.file.tell()

    def finish(self) -> None:
        """Checks that every tensor is full."""
        if self.places != self.ends:
            short = [name for name, end in self.ends.items() if self.places[name] != end]
            raise RuntimeError(f"{', '.join(short)} not filled")

    def _refuse_full_disk(self) -> None:
        folder = Path(self.file.name).parent
        free = shutil.disk_usage(folder).free
        if self.num_bytes > free:
            raise ValueError(
                f"the features take {_size(self.num_bytes)}, but {folder} has "
                f"{_size(free)} free; --pool frame, --dtype float16 or --fps make them smaller"
            )


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a file beside `path`, which takes its name at the end, or vanishes on an error.

    Raises:
        ValueError: if the name does not end in .safetensors.
        FileNotFoundError: if there is no such folder.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors, got {path}")
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}; make it first")
    unfinished = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _frames(plan: Plan, decoder: DecoderName) -> Iterator[Tensor]:
    """Yields the frames looked at, fitted, in pieces of (3, frames, height, width)."""
    source, indices = plan.source, plan.frame_indices
    num_at_once = max(1, DECODED_BYTES // (3 * source.height * source.width))
    with decoder_class(decoder)(Path(source.path).read_bytes(), source.path) as video:
        for start in range(0, len(indices), num_at_once):
            wanted = indices[start : start + num_at_once]
            try:
                pixels = video.frames_at(wanted).pixels  # (frames, height, width, 3)
                if pixels.shape[1:3] != (source.height, source.width):
                    raise DecodeError(source.path, "the frame size changes within the video")
            except DecodeError as error:
                raise DecodeError(source.path, _how_far(source, wanted[0], error)) from None
            yield fit(torch.from_numpy(pixels), plan.box, plan.size)


def _how_far(source: Source, index: int, error: DecodeError) -> str:
    """What was decoded before the piece that begins with frame `index` failed, and why it did."""
    total = len(source.frame_starts_seconds)
    before = f"frames before {index} of {total} ({source.frame_starts_seconds[index]:.1f} s)"
    return f"{before} were decoded, then {error.reason[:100]}; nothing is written"


def _image_frame(plan: Plan) -> Iterator[Tensor]:
    pixels = torch.from_numpy(read_image(plan.source.path)[None])  # (1, height, width, 3)
    yield fit(pixels, plan.box, plan.size)


def _batches(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    """Yields runs of up to `size` clips of one shape, also across sources."""
    batch: list[Clip] = []
    for clip in clips:
        if batch and (len(batch) == size or clip.video.shape != batch[0].video.shape):
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


def _told(
    batches: Iterable[list[Clip]], num_clips: int, say: Callable[[str], None]
) -> Iterator[list[Clip]]:
    """Hands batches on, and says now and then how many clips are done."""
    done, told = 0, time.monotonic()
    for batch in batches:
        yield batch
        done += len(batch)
        if time.monotonic() - told > SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            say(f"clip {done} of {num_clips}")


def _stored(rows: Tensor, dtype: StoredType) -> np.ndarray:
    """Returns rows as they are stored.

    Raises:
        ValueError: if a number is not finite, or too large for the type.
    """
    stored = rows.float().cpu().numpy().astype(np.float32)
    if not np.isfinite(stored).all():
        raise ValueError("the encoder gave features that are not finite; nothing is written")
    if dtype == "float16":
        if np.abs(stored).max() > np.finfo(np.float16).max:
            raise ValueError("a feature is too large for float16; use --dtype float32")
        stored = stored.astype(np.float16)
    return stored


def _metadata(plans: Sequence[Plan], options: Options, model: str) -> dict[str, str]:
    """What the header says, as text; `inputs` and `options` are JSON."""
    cut = "whole frame" if options.full_frame else "largest centred square"
    rate = options.frames_per_second
    return {
        "format": "pt",
        "model": str(model),
        "version": __version__,
        "resize": f"{cut}, resized to {plans[0].size[0]} x {plans[0].size[1]} pixels"
        if len({plan.size for plan in plans}) == 1
        else f"{cut}, resized to the sizes of each input",
        "frames_per_second": "every frame" if rate is None else f"{rate:g}",
        "layers": " ".join(map(str, options.layers)),
        "decoder": options.decoder,
        "time_zero": "the first frame of each video",
        "options": json.dumps(asdict(options)),
        "inputs": json.dumps([plan.describe() for plan in plans]),
    }


def _refuse_indivisible(option: str, value: int, step: int, noun: str, unit: str) -> None:
    if value < step or value % step:
        low = max(step, value // step * step)
        raise ValueError(
            f"{option} {value} is not a multiple of the {noun}'s {step} {unit}; "
            f"use {low} or {low + step}"
        )


def _device(name: str) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this torch sees no GPU; use --device cpu or auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _summary(plans: Sequence[Plan], options: Options) -> str:
    num_clips = sum(len(plan.clip_starts) for plan in plans)
    videos = [plan.source for plan in plans if plan.source.kind == "video"]
    rows = [(len(plan.row_frames), *plan.grid[1:]) for plan in plans]
    shape = "x".join(map(str, rows[0])) if len(plans) == 1 else f"{len(plans)} inputs"
    seconds = sum(source.duration_seconds for source in videos)
    covered = f"{seconds:.2f} s of video" if videos else _count(len(plans), "image")
    pooled = "" if options.pool == "none" else f", pooled per {options.pool}"
    return f"{shape} tokens{pooled} as {options.dtype}, {covered} in {_count(num_clips, 'clip')}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:,.1f} kB"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print(line: str) -> None:
    print(line, flush=True)


def _be_silent(_: str) -> None:
    pass


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the page of usage."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(f"{message} (jepa predict --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="jepa predict",
        description=__doc__,
        epilog="Without --video and --image, `jepa predict --config FILE` runs a trained model on "
        "the shards of a config; `jepa predict --config FILE --help` tells its options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = Options()
    add = parser.add_argument
    add("--model", required=True, help="a folder, an official .pt, a name on the Hugging Face hub")
    for kind in ("video", "image"):
        add(
            f"--{kind}",
            dest="sources",
            type=lambda path, kind=kind: (kind, path),
            action="extend",
            nargs="+",
            default=[],
            metavar="PATH",
            help=f"one or more {kind}s; may be repeated. Names of several begin with 0/, 1/ ...",
        )
    add("--out", required=True, metavar="FILE.safetensors", help="one file for all inputs")
    add("--size", type=int, metavar="PIXELS", help="default: what the encoder was made for")
    add(
        "--full-frame",
        action="store_true",
        help="keep the whole frame, short side --size, both sides rounded to the patch; default: "
        "the short side is resized to --size and the centre is cut out",
    )
    add("--frames", type=int, help="clip length in frames; default: the encoder's")
    add("--fps", type=float, help="look at so many frames a second; default: every frame")
    add(
        "--stride",
        type=int,
        help="frames from one clip to the next; default: --frames. Fewer: rows see more past",
    )
    add("--layers", type=int, nargs="+", default=[], help="store these blocks, from 0, instead")
    add("--levels", action="store_true", help="store all levels side by side (V-JEPA 2.1)")
    add(
        "--pool",
        choices=get_args(Pool),
        default=default.pool,
        help="store means over the tokens of a time step (frame), or of a clip",
    )
    add("--dtype", choices=get_args(StoredType), default=default.dtype, help="of what is stored")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if any")
    add("--batch", type=int, default=default.batch, help="clips encoded at once")
    add(
        "--decoder",
        choices=get_args(DecoderName),
        default=default.decoder,
        help="decord turns videos recorded sideways; pyav survives damaged ones. Default: pyav",
    )
    return parser


def _load_encoder(name: str) -> VideoEncoder:
    from jepa.checkpoints.pretrained import from_pretrained

    encoder = from_pretrained(name).encoder
    if not isinstance(encoder, VideoEncoder):
        raise ValueError(f"{name} has a {type(encoder).__name__}: only video encoders are run here")
    return encoder
