"""Packing trajectories into tar shards with an index, and the names that a user of shards needs.

Videos are packed in `packing`. A set of trajectories appears whole or not at all: shards are
written under temporary names, renamed together at the end, and the index is written last.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.frames import VideoMetadata
from data_pipelines.manifest import SkippedVideo
from data_pipelines.packing import PackResult, pack_videos
from data_pipelines.samples import ACTIONS, STATES, Sample, Shard
from data_pipelines.shard_index import INDEX_NAME, ShardIndex
from data_pipelines.shard_reader import ShardReader, read_member
from data_pipelines.shard_writing import (
    is_plain_key,
    key_of_path,
    remove_old_set,
    sample_json,
    sha256_of_file,
    shard_name,
    write_shard,
)
from data_pipelines.tar_headers import ShardError
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
    "key_of_path",
    "pack_trajectories",
    "pack_videos",
    "read_member",
    "sha256_of_file",
]


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
            if episode.key in keys or not is_plain_key(episode.key):
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
            shards.add(*trajectory_sample(episode, video, specification))
        if not keys:
            raise ValueError("no episode to pack")
        index = shards.finish(specification=specification, statistics=statistics.result())
    return PackResult(Path(out), index)


def trajectory_sample(
    episode: Episode,
    video: bytes,
    specification: TrajectorySpecification,
    *,
    source: str | None = None,
) -> tuple[Sample, dict[str, bytes]]:
    """Returns the sample of an episode and its members' bytes.

    Args:
        episode: that fits the specification.
        video: its frames as an MP4 file.
        specification: what its columns mean.
        source: where it came from.
    """
    num_frames, height, width = episode.frames.shape[:3]
    rate = episode.frames_per_second
    metadata = VideoMetadata(num_frames, rate, num_frames / rate, height, width)
    sample = Sample(episode.key, "", {}, metadata, source=source, group=episode.group)
    more: dict[str, Any] = {"remarks": list(episode.remarks)} if episode.remarks else {}
    if episode.about:
        more["about"] = dict(episode.about)
    values = sample_json(
        sample, num_bytes=len(video), specification=specification.to_json(), **more
    )
    return sample, {
        "mp4": video,
        "json": values,
        STATES: _array_bytes(episode.states),
        ACTIONS: _array_bytes(episode.actions),
    }


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
        remove_old_set(self.out, {Path(shard.path).name for shard in self._shards})
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
        name = shard_name(len(self._shards))
        final = str(self.out / name)
        self._shards.append(write_shard(self._unfinished(name), self._pending, final=final))
        self._pending, self._pending_bytes = [], 0
