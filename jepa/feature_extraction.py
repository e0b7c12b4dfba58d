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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from data_pipelines.decoders import DecoderName, decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.images import read_image
from data_pipelines.transforms import crop_and_resize
from jepa.command_line import OneLineParser
from jepa.feature_file import RowFile, size_in_words, whole_file
from jepa.feature_plan import (
    Kind,
    Options,
    Plan,
    Pool,
    Source,
    StoredType,
    count_in_words,
    make_plan,
)
from jepa.models.encoder import VideoEncoder
from jepa.version import __version__

DECODED_BYTES = 128 << 20  # source pixels held at once; a decoder seeks anew for each such piece
SECONDS_BETWEEN_LINES = 10.0
MAX_SIDE_PIXELS = 16_384  # more would be refused by the memory, after a while and in other words


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
    _refuse_huge(options)
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
    _refuse_huge(options)
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
    say(f"{count_in_words(num_clips, 'clip')} to encode, {size_in_words(rows.num_bytes)} to write")
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
            yield crop_and_resize(torch.from_numpy(pixels), plan.box, plan.size, antialias=True)


def _how_far(source: Source, index: int, error: DecodeError) -> str:
    """What was decoded before the piece that begins with frame `index` failed, and why it did."""
    total = len(source.frame_starts_seconds)
    before = f"frames before {index} of {total} ({source.frame_starts_seconds[index]:.1f} s)"
    return f"{before} were decoded, then {error.reason[:100]}; nothing is written"


def _image_frame(plan: Plan) -> Iterator[Tensor]:
    pixels = torch.from_numpy(read_image(plan.source.path)[None])  # (1, height, width, 3)
    yield crop_and_resize(pixels, plan.box, plan.size, antialias=True)


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


def _refuse_huge(options: Options) -> None:
    if options.size is not None and options.size > MAX_SIDE_PIXELS:
        raise ValueError(f"--size must be at most {MAX_SIDE_PIXELS} pixels, got {options.size}")


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
    covered = f"{seconds:.2f} s of video" if videos else count_in_words(len(plans), "image")
    pooled = "" if options.pool == "none" else f", pooled per {options.pool}"
    clips = count_in_words(num_clips, "clip")
    return f"{shape} tokens{pooled} as {options.dtype}, {covered} in {clips}"


def _print(line: str) -> None:
    print(line, flush=True)


def _be_silent(_: str) -> None:
    pass


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
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
        help="pyav survives damaged videos, which may crash decord. Default: pyav",
    )
    return parser


def _load_encoder(name: str) -> VideoEncoder:
    from jepa.checkpoints.pretrained import from_pretrained

    encoder = from_pretrained(name).encoder
    if not isinstance(encoder, VideoEncoder):
        raise ValueError(f"{name} has a {type(encoder).__name__}: only video encoders are run here")
    return encoder
