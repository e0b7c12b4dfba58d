"""Packing: videos or trajectories become tar shards with an index.

A set appears whole or not at all: shards are written under temporary names, renamed together at
the end, and the index is written last.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.decoders.base import DecoderName
from data_pipelines.frames import VideoMetadata
from data_pipelines.isolated_probe import ProbeProcess
from data_pipelines.manifest import SkippedVideo, VerifyFrames, VideoRow, find_videos
from data_pipelines.samples import ACTIONS, STATES, Member, Sample, Shard
from data_pipelines.shard_index import INDEX_NAME, ShardIndex
from data_pipelines.shard_reader import ShardReader, read_member
from data_pipelines.tar_headers import ShardError, split_name, walk_tar
from data_pipelines.trajectories import (
    ColumnStatistics,
    Episode,
    StatisticsOfEpisodes,
    TrajectorySpecification,
    refuse_bad_episode,
)
from data_pipelines.video_writing import encode_mp4

__all__ = [
    "PackResult",
    "Sample",
    "Shard",
    "ShardError",
    "ShardIndex",
    "ShardReader",
    "pack_trajectories",
    "pack_videos",
    "read_member",
]


@dataclass(frozen=True)
class PackResult:
    """What was packed, and what was not.

    Attributes:
        folder: where the shards are.
        index: as written to `index.json`.
    """

    folder: Path
    index: ShardIndex

    @property
    def num_samples(self) -> int:
        """Returns how many videos or trajectories were packed."""
        return self.index.num_samples

    @property
    def skipped(self) -> tuple[SkippedVideo, ...]:
        """Returns the videos that could not be packed, with reasons."""
        return self.index.skipped


def pack_videos(
    folder: str | Path,
    out: str | Path,
    *,
    samples_per_shard: int = 256,
    max_shard_bytes: int = 1 << 30,
    decoder: DecoderName = "decord",
    verify_frames: VerifyFrames = "ends",
    overwrite: bool = False,
) -> PackResult:
    """Packs every readable video below a folder, bytes unchanged.

    Args:
        folder: searched with its sub-folders; a video's sub-folder is its label.
        out: where `shard-000000.tar`, ... and `index.json` go.
        samples_per_shard: at most so many videos in one shard.
        max_shard_bytes: a shard is closed before it grows beyond this (one video may).
        decoder: which decoder must be able to read a video for it to be packed.
        verify_frames: decode the first and last frame of each video ("ends"), or all of them.
        overwrite: replace the shards that are in `out`.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no video, or none that can be read.
        ShardError: if `out` holds shards already and overwrite is False.
    """
    folder = Path(folder)
    paths = find_videos(folder)
    skipped: list[SkippedVideo] = []
    keys: set[str] = set()
    with (
        _ShardFolder(out, samples_per_shard, max_shard_bytes, overwrite=overwrite) as shards,
        ProbeProcess(folder, decoder=decoder, verify_frames=verify_frames) as probe,
    ):
        for path in paths:
            row = probe.read_row(path)
            if isinstance(row, SkippedVideo):
                skipped.append(row)
            else:
                shards.add(*_video_sample(folder, row, keys))
        if len(skipped) == len(paths):
            first = skipped[0]
            raise ValueError(
                f"no usable video in {folder}: {len(skipped)} of {len(paths)} skipped; "
                f"first: {first.path}: {first.reason}"
            )
        index = shards.finish(skipped=tuple(skipped))
    return PackResult(Path(out), index)


def pack_trajectories(
    episodes: Iterable[Episode],
    out: str | Path,
    *,
    specification: TrajectorySpecification,
    samples_per_shard: int = 256,
    max_shard_bytes: int = 1 << 30,
    crf: int = 18,
    keyframe_interval: int = 8,
    overwrite: bool = False,
) -> PackResult:
    """Packs episodes: frames as H.264, states and actions as plain arrays.

    Args:
        episodes: taken one by one, so a generator may record while this packs.
        out: where the shards and `index.json` go.
        specification: what the columns mean; kept in the index and in each sample.
        samples_per_shard: at most so many episodes in one shard.
        max_shard_bytes: a shard is closed before it grows beyond this (one episode may).
        crf: H.264 quality, 0 (lossless) to 51.
        keyframe_interval: frames between keyframes; short, for windows start anywhere.
        overwrite: replace the shards that are in `out`.

    Raises:
        ValueError: if there is no episode, or one does not fit the specification.
        ShardError: if `out` holds shards already and overwrite is False, or a key comes twice.
    """
    statistics = StatisticsOfEpisodes(specification)
    keys: set[str] = set()
    with _ShardFolder(out, samples_per_shard, max_shard_bytes, overwrite=overwrite) as shards:
        for episode in episodes:
            refuse_bad_episode(episode, specification)
            if episode.key in keys or not _is_plain_key(episode.key):
                raise ShardError(
                    f"episode key '{episode.key}' comes twice or has characters other than "
                    "letters, digits, '_', '-' and '/'"
                )
            keys.add(episode.key)
            statistics.add(episode.states, episode.actions)
            video = encode_mp4(
                episode.frames,
                frames_per_second=episode.frames_per_second,
                crf=crf,
                keyframe_interval=keyframe_interval,
            )
            shards.add(*_trajectory_sample(episode, video, specification))
        if not keys:
            raise ValueError("no episode to pack")
        index = shards.finish(specification=specification, statistics=statistics.result())
    return PackResult(Path(out), index)


def _video_sample(folder: Path, row: VideoRow, keys: set[str]) -> tuple[Sample, dict[str, bytes]]:
    """Returns the sample of a row and its members' bytes."""
    data = (folder / row.path).read_bytes()
    key = key_of_path(row.path, taken=keys)
    keys.add(key)
    sample = Sample(key, "", {}, row.metadata, label=row.label, source=row.path)
    extension = row.path.rpartition(".")[2].lower()
    return sample, {extension: data, "json": _json_bytes(sample, num_bytes=len(data))}


def _trajectory_sample(
    episode: Episode, video: bytes, specification: TrajectorySpecification
) -> tuple[Sample, dict[str, bytes]]:
    """Returns the sample of an episode and its members' bytes."""
    num_frames, height, width = episode.frames.shape[:3]
    rate = episode.frames_per_second
    metadata = VideoMetadata(num_frames, rate, num_frames / rate, height, width)
    sample = Sample(episode.key, "", {}, metadata, group=episode.group)
    values = _json_bytes(sample, num_bytes=len(video), specification=specification.to_json())
    return sample, {
        "mp4": video,
        "json": values,
        STATES: _array_bytes(episode.states),
        ACTIONS: _array_bytes(episode.actions),
    }


def key_of_path(path: str, *, taken: set[str]) -> str:
    """Returns a key for a video's path: only letters, digits, '_', '-' and '/', and not taken.

    Names that had to be changed beyond recognition, or that collide, end in a hash of the path.
    """
    stem = path.rpartition(".")[0]
    key = re.sub(r"[^A-Za-z0-9_/-]", "_", stem)
    if len(key) > 90 or key in taken or not _is_plain_key(key):
        key = f"{key[:80].strip('/')}-{hashlib.sha256(path.encode()).hexdigest()[:10]}"
    return key


def _is_plain_key(key: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", key) is not None and len(key) <= 95


def _json_bytes(sample: Sample, *, num_bytes: int, **more: Any) -> bytes:  # noqa: ANN401
    metadata = asdict(sample.metadata) if sample.metadata else {}
    about = {"label": sample.label, "source": sample.source, "group": sample.group}
    return json.dumps({**metadata, "num_bytes": num_bytes, **about, **more}).encode()


def _array_bytes(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


class _ShardFolder:
    """Writes shards under temporary names and puts them in place together."""

    def __init__(
        self,
        out: str | Path,
        samples_per_shard: int,
        max_shard_bytes: int,
        *,
        overwrite: bool,
    ) -> None:
        if samples_per_shard < 1 or max_shard_bytes < 1:
            raise ValueError(
                f"samples_per_shard={samples_per_shard} and max_shard_bytes={max_shard_bytes} "
                "must be at least 1"
            )
        self.out = Path(out)
        self.samples_per_shard = samples_per_shard
        self.max_shard_bytes = max_shard_bytes
        self._pending: list[tuple[Sample, dict[str, bytes]]] = []
        self._pending_bytes = 0
        self._shards: list[Shard] = []
        self._make_folder(overwrite=overwrite)

    def add(self, sample: Sample, parts: dict[str, bytes]) -> None:
        """Takes one sample; its place in the shard is filled in when the shard is written."""
        num_bytes = sum(len(data) for data in parts.values())
        is_full = len(self._pending) >= self.samples_per_shard
        if self._pending and (is_full or self._pending_bytes + num_bytes > self.max_shard_bytes):
            self._write_shard()
        self._pending.append((sample, parts))
        self._pending_bytes += num_bytes

    def finish(
        self,
        *,
        skipped: tuple[SkippedVideo, ...] = (),
        specification: TrajectorySpecification | None = None,
        statistics: ColumnStatistics | None = None,
    ) -> ShardIndex:
        """Puts all shards in place, removes those of an older set, writes the index."""
        if self._pending:
            self._write_shard()
        (self.out / INDEX_NAME).unlink(missing_ok=True)
        for shard in self._shards:
            os.replace(self._unfinished(Path(shard.path).name), shard.path)
        names = {Path(shard.path).name for shard in self._shards}
        for old in self.out.glob("shard-*.tar"):
            if old.name not in names:
                old.unlink()
        index = ShardIndex(tuple(self._shards), skipped, specification, statistics)
        index.save(self.out)
        return index

    def __enter__(self) -> _ShardFolder:
        return self

    def __exit__(self, *_: object) -> None:
        for unfinished in self.out.glob(f".*.tmp-{os.getpid()}"):
            unfinished.unlink()

    def _make_folder(self, *, overwrite: bool) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        present = [*self.out.glob("shard-*.tar"), *self.out.glob(INDEX_NAME)]
        if present and not overwrite:
            raise ShardError(
                f"{self.out} already holds shards ({present[0].name}); choose another folder or "
                "overwrite them (--overwrite)"
            )
        probe = self._unfinished("probe")  # not writable: say so before the work, not after
        probe.touch()
        probe.unlink()

    def _unfinished(self, name: str) -> Path:
        return self.out / f".{name}.tmp-{os.getpid()}"

    def _write_shard(self) -> None:
        name = f"shard-{len(self._shards):06d}.tar"
        unfinished = self._unfinished(name)
        _write_tar(unfinished, {sample.key: parts for sample, parts in self._pending})
        final = str(self.out / name)
        samples = _placed_samples(self._pending, unfinished, final)
        self._shards.append(
            Shard(final, unfinished.stat().st_size, samples, sha256_of_file(unfinished))
        )
        self._pending, self._pending_bytes = [], 0


def _write_tar(path: Path, samples: Mapping[str, dict[str, bytes]]) -> None:
    """Writes samples with WebDataset's own writer; times are zero, so equal sets are equal."""
    from webdataset.writer import TarWriter

    with path.open("wb") as file:
        with TarWriter(file, user="", group="", mode=0o444, encoder=False, mtime=0) as tar:
            for key, parts in samples.items():
                tar.write({"__key__": key, **parts})
        file.flush()
        os.fsync(file.fileno())


def _placed_samples(
    samples: list[tuple[Sample, dict[str, bytes]]], tar: Path, final: str
) -> tuple[Sample, ...]:
    """Returns the samples with their places, read back from the tar that was written."""
    places = {split_name(member.name): member for member in walk_tar(tar)}
    placed = []
    for sample, parts in samples:
        members = {}
        for extension, data in parts.items():
            place = places[sample.key, extension]
            members[extension] = Member(place.offset, place.size, zlib.crc32(data))
        placed.append(
            Sample(
                sample.key,
                final,
                members,
                sample.metadata,
                label=sample.label,
                source=sample.source,
                group=sample.group,
            )
        )
    return tuple(placed)


def sha256_of_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
