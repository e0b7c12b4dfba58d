"""Checking shards: every fault found is named, none stops the check."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.decoders.isolated import DecodingProcess
from data_pipelines.frames import DecodeError
from data_pipelines.images import decode_image
from data_pipelines.remote_files import (
    RemoteFileError,
    RemoteFileMissingError,
    RemoteFiles,
    RetryPolicy,
)
from data_pipelines.samples import ACTIONS, STATES, Sample, Shard, name_of_shard
from data_pipelines.shard_index import ShardIndex, Shards
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import sha256_of_file
from data_pipelines.tar_headers import ShardError
from data_pipelines.tar_index import index_tar
from data_pipelines.urls import is_url, shown

DECODING_TIMEOUT_SECONDS = 600.0  # of one video, as in packing


@dataclass(frozen=True)
class Problem:
    """A fault: where, and what."""

    where: str
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """What a check saw.

    Attributes:
        num_shards: shards looked at.
        num_samples: samples looked at.
        problems: empty if all is well.
    """

    num_shards: int
    num_samples: int
    problems: tuple[Problem, ...]


def check_shards(
    shards: Shards,
    *,
    decoder: DecoderName = "decord",
    full: bool = False,
    retry: RetryPolicy | None = None,
) -> CheckReport:
    """Checks hashes, headers, and that the frames or the picture of every sample decode.

    Samples of a shard that changed are looked at all the same, each by its own checksum. Videos are
    decoded in a child process, so that one that crashes or hangs a decoder is a line as any other.
    A remote shard is fetched whole, once, to the folder for temporary files, and removed after.

    Args:
        shards: as in `ShardIndex.load`.
        decoder: which decoder to decode with.
        full: decode all frames, not only the first, the middle and the last.
        retry: how often and how long a URL is tried.

    Raises:
        FileNotFoundError: if the place does not exist.
        ShardError: if there is no index to check by and the tars cannot be walked.
        OSError: if a URL's index cannot be read, or if a remote shard finds no room.
    """
    index = ShardIndex.load(shards, verify_files=False, retry=retry)
    problems: list[Problem] = []
    process = DecodingProcess(decoder_class(decoder), timeout_seconds=DECODING_TIMEOUT_SECONDS)
    with process:
        for shard in index.shards:
            problems += _problems(shard, process, full=full, retry=retry)
    return CheckReport(len(index.shards), index.num_samples, tuple(problems))


def _problems(
    shard: Shard, process: DecodingProcess, *, full: bool, retry: RetryPolicy | None
) -> list[Problem]:
    """Returns what is wrong with a shard and with its samples."""
    name = shown(shard.path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            copied = _local_copy(shard, Path(folder), retry)
        except RemoteFileError as error:
            is_missing = isinstance(error, RemoteFileMissingError)
            return [Problem(name, "missing" if is_missing else _without_name(error, shard.path))]
        if not Path(copied.path).is_file():
            return [Problem(name, "missing")]
        found = [*_shard_problems(copied, name), *_sample_problems(copied, process, full=full)]
        return [_named(problem, copied.path, name) for problem in found]


def _local_copy(shard: Shard, folder: Path, retry: RetryPolicy | None) -> Shard:
    """Returns a shard of this machine as it is, and a remote one as its copy in the folder."""
    if not is_url(shard.path):
        return shard
    remote, path = RemoteFiles(retry), folder / name_of_shard(shard.path)
    with path.open("wb") as file:
        for piece in remote.pieces(shard.path, 0, remote.size(shard.path)):
            file.write(piece)
    samples = tuple(replace(sample, shard=str(path)) for sample in shard.samples)
    return replace(shard, path=str(path), samples=samples)


def _shard_problems(shard: Shard, name: str) -> Iterator[Problem]:
    """Yields what is wrong with a tar as a whole."""
    if shard.sha256 is not None and sha256_of_file(shard.path) != shard.sha256:
        yield Problem(name, "changed since it was packed (SHA-256 differs)")
    try:
        walked = index_tar(shard.path)
    except ShardError as error:
        yield Problem(name, _without_name(error, shard.path))
        return
    damaged = {video.path: video.reason for video in (*walked.damaged, *shard.damaged)}
    for path, reason in damaged.items():
        yield Problem(f"{name}: '{path}'", reason)
    if _places(walked, but=damaged) != _places(shard, but=damaged):
        yield Problem(name, "its members are not those of the index")


def _sample_problems(shard: Shard, process: DecodingProcess, *, full: bool) -> Iterator[Problem]:
    """Yields the samples that are not what was packed, or do not decode."""
    reader = ShardReader()
    for sample in shard.samples:
        try:
            if sample.is_image:
                _decode_picture(reader, sample)
                continue
            num_frames = _decode(reader, sample, process, full=full)
            if sample.is_trajectory:
                _compare_lengths(reader, sample, num_frames)
        except DecodeError as error:
            yield Problem(f"{shard.path}: '{sample.key}'", error.reason)
        except ShardError as error:
            yield Problem(f"{shard.path}: '{sample.key}'", _without_name(error, shard.path))
    reader.close()


def _named(problem: Problem, path: str, name: str) -> Problem:
    """Returns a problem with a copy as that of the shard it was copied from."""
    return Problem(problem.where.replace(path, name), problem.reason.replace(path, name))


def _without_name(error: Exception, path: str) -> str:
    return str(error).removeprefix(f"{shown(path)}: ")


def _decode(reader: ShardReader, sample: Sample, process: DecodingProcess, *, full: bool) -> int:
    """Decodes frames of a sample; returns how many it has."""
    data = reader.read(sample, sample.video_extension)
    with process.open(data, sample.key) as video:
        num_frames = len(video.timestamps_seconds())
        chosen = range(num_frames) if full else sorted({0, num_frames // 2, num_frames - 1})
        for start in range(0, len(chosen), 64):
            video.frames_at(chosen[start : start + 64])
    if sample.metadata is not None and sample.metadata.num_frames != num_frames:
        raise ShardError(f"{num_frames} frames, the index says {sample.metadata.num_frames}")
    return num_frames


def _decode_picture(reader: ShardReader, sample: Sample) -> None:
    """Decodes a picture and compares its size, upright, with that of the index."""
    data = reader.read(sample, sample.image_extension)
    height, width = decode_image(data, sample.key).shape[:2]
    about = sample.metadata
    if about is not None and (about.height, about.width) != (height, width):
        raise ShardError(
            f"{width} x {height} pixels, the index says {about.width} x {about.height}"
        )


def _compare_lengths(reader: ShardReader, sample: Sample, num_frames: int) -> None:
    num_states = len(reader.read_array(sample, STATES))
    num_actions = len(reader.read_array(sample, ACTIONS))
    if num_states != num_frames or num_actions != num_frames - 1:
        raise ShardError(
            f"{num_frames} frames, {num_states} states, {num_actions} actions; "
            "T frames need T states and T - 1 actions"
        )


def _places(shard: Shard, *, but: Container[str]) -> dict[str, dict[str, tuple[int, int]]]:
    return {
        sample.key: {name: (m.offset, m.size) for name, m in sample.members.items()}
        for sample in shard.samples
        if sample.key not in but
    }
