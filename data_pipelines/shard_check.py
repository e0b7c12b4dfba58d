"""Checking shards: every fault found is named, none stops the check."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.remote_files import (
    RemoteFileError,
    RemoteFileMissingError,
    RemoteFiles,
    RetryPolicy,
)
from data_pipelines.samples import ACTIONS, STATES, Sample, Shard
from data_pipelines.shard_index import ShardIndex, Shards
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import sha256_of_file
from data_pipelines.tar_headers import ShardError
from data_pipelines.tar_index import index_tar
from data_pipelines.urls import is_url, shown


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
    """Checks hashes, headers, and that the frames of every sample decode.

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
    for shard in index.shards:
        with tempfile.TemporaryDirectory() as folder:
            try:
                copied = _local_copy(shard, Path(folder), retry)
            except RemoteFileError as error:
                is_missing = isinstance(error, RemoteFileMissingError)
                reason = "missing" if is_missing else _without_name(error, shard.path)
                problems.append(Problem(shown(shard.path), reason))
                continue
            faults = list(_shard_problems(copied, shown(shard.path)))
            if not faults:
                samples = _sample_problems(copied, decoder=decoder, full=full)
                faults = [_named(fault, copied.path, shown(shard.path)) for fault in samples]
            problems.extend(faults)
    return CheckReport(len(index.shards), index.num_samples, tuple(problems))


def _local_copy(shard: Shard, folder: Path, retry: RetryPolicy | None) -> Shard:
    """Returns a shard of this machine as it is, and a remote one as its copy in the folder."""
    if not is_url(shard.path):
        return shard
    remote, path = RemoteFiles(retry), folder / "shard.tar"
    with path.open("wb") as file:
        for piece in remote.pieces(shard.path, 0, remote.size(shard.path)):
            file.write(piece)
    samples = tuple(replace(sample, shard=str(path)) for sample in shard.samples)
    return replace(shard, path=str(path), samples=samples)


def _shard_problems(shard: Shard, name: str) -> Iterator[Problem]:
    """Yields what is wrong with a tar as a whole."""
    if not Path(shard.path).is_file():
        yield Problem(name, "missing")
        return
    if shard.sha256 is not None and sha256_of_file(shard.path) != shard.sha256:
        yield Problem(name, "changed since it was packed (SHA-256 differs)")
    try:
        walked = index_tar(shard.path)
    except ShardError as error:
        yield Problem(name, _without_name(error, shard.path))
        return
    if _places(walked) != _places(shard):
        yield Problem(name, "its members are not those of the index")


def _sample_problems(shard: Shard, *, decoder: DecoderName, full: bool) -> Iterator[Problem]:
    reader = ShardReader()
    for sample in shard.samples:
        try:
            num_frames = _decode(reader, sample, decoder=decoder, full=full)
            if sample.is_trajectory:
                _compare_lengths(reader, sample, num_frames)
        except (DecodeError, ShardError) as error:
            yield Problem(f"{shard.path}: '{sample.key}'", str(error))
    reader.close()


def _named(problem: Problem, path: str, name: str) -> Problem:
    """Returns a problem with a copy as that of the shard it was copied from."""
    return Problem(problem.where.replace(path, name), problem.reason.replace(path, name))


def _without_name(error: Exception, path: str) -> str:
    return str(error).removeprefix(f"{shown(path)}: ")


def _decode(reader: ShardReader, sample: Sample, *, decoder: DecoderName, full: bool) -> int:
    """Decodes frames of a sample; returns how many it has."""
    data = reader.read(sample, sample.video_extension)
    with decoder_class(decoder)(data, sample.key) as video:
        num_frames = len(video.timestamps_seconds())
        chosen = range(num_frames) if full else sorted({0, num_frames // 2, num_frames - 1})
        for start in range(0, len(chosen), 64):
            video.frames_at(chosen[start : start + 64])
    if sample.metadata is not None and sample.metadata.num_frames != num_frames:
        raise ShardError(f"{num_frames} frames, the index says {sample.metadata.num_frames}")
    return num_frames


def _compare_lengths(reader: ShardReader, sample: Sample, num_frames: int) -> None:
    num_states = len(reader.read_array(sample, STATES))
    num_actions = len(reader.read_array(sample, ACTIONS))
    if num_states != num_frames or num_actions != num_frames - 1:
        raise ShardError(
            f"{num_frames} frames, {num_states} states, {num_actions} actions; "
            "T frames need T states and T - 1 actions"
        )


def _places(shard: Shard) -> dict[str, dict[str, tuple[int, int]]]:
    return {
        sample.key: {name: (m.offset, m.size) for name, m in sample.members.items()}
        for sample in shard.samples
    }
