"""What is in a set of shards, and where.

A shard is an uncompressed tar as WebDataset reads it: `key.mp4` and `key.json`, for a trajectory
also `key.states.npy` and `key.actions.npy`. `index.json` beside the shards says where each member
lies, so any sample is one seek and one read away. Without it the headers are walked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data_pipelines.manifest import SkippedVideo
from data_pipelines.samples import (
    ACTIONS,
    STATES,
    Sample,
    Shard,
    parse_json,
    shard_from_json,
    shard_to_json,
)
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shard_writing import write_whole
from data_pipelines.tar_headers import ShardError
from data_pipelines.tar_index import index_tar
from data_pipelines.trajectories import (
    ColumnStatistics,
    StatisticsOfEpisodes,
    TrajectorySpecification,
)

INDEX_NAME = "index.json"
INDEX_FORMAT = "video-shards"
INDEX_VERSION = 1

Shards = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class ShardIndex:
    """All samples of one or several sets of shards, in a fixed order.

    Attributes:
        shards: in the order of their names.
        skipped: videos that could not be packed.
        specification: of trajectories, else None.
        statistics: of trajectories, else None.
        plan_fingerprint: of the plan that the set was packed by, None if there was none.
    """

    shards: tuple[Shard, ...]
    skipped: tuple[SkippedVideo, ...] = ()
    specification: TrajectorySpecification | None = None
    statistics: ColumnStatistics | None = field(default=None, compare=False)
    plan_fingerprint: str | None = field(default=None, compare=False)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Returns all samples, shard after shard."""
        return tuple(sample for shard in self.shards for sample in shard.samples)

    @property
    def num_samples(self) -> int:
        """Returns the number of samples."""
        return len(self.samples)

    @property
    def samples_per_shard(self) -> list[int]:
        """Returns the number of samples of each shard."""
        return [len(shard.samples) for shard in self.shards]

    @property
    def duration_seconds(self) -> float:
        """Returns how long all videos last together, as far as the shards say."""
        return sum(s.metadata.duration_seconds for s in self.samples if s.metadata is not None)

    @property
    def fingerprint(self) -> str:
        """Returns a short hash of all keys and sizes in their order: equal for equal sets."""
        digest = hashlib.sha256()
        for sample in self.samples:
            sizes = sorted((name, member.size) for name, member in sample.members.items())
            digest.update(f"{sample.key}{sizes}".encode())
        return digest.hexdigest()[:16]

    @classmethod
    def load(cls, shards: Shards, *, verify_files: bool = True) -> ShardIndex:
        """Reads the index of a folder of shards, of one tar, or of several of both.

        Args:
            shards: folder with `index.json`, folder with tars only, a tar, or a list of these.
            verify_files: refuse shards that are missing or whose size changed.

        Raises:
            FileNotFoundError: if a folder or a tar is missing.
            ShardError: if there is no tar, if a shard changed, is damaged or comes twice, if an
                index is of another version, or if sets do not go together.
        """
        places = [shards] if isinstance(shards, str | Path) else list(shards)
        if not places:
            raise ShardError("no shards given: name a folder or a tar")
        parts = [_load_one(Path(place), verify_files=verify_files) for place in places]
        index = parts[0] if len(parts) == 1 else _joined(parts)
        _refuse_repeated_shards(index)
        if index.num_samples == 0:
            raise ShardError(f"no sample in {', '.join(str(place) for place in places)}")
        return index

    def save(self, folder: str | Path) -> Path:
        """Writes `index.json`; it appears whole or not at all."""
        path = Path(folder) / INDEX_NAME
        write_whole(path, json.dumps(_index_to_json(self), indent=1).encode())
        return path


def _load_one(place: Path, *, verify_files: bool) -> ShardIndex:
    if place.is_file() and place.suffix == ".tar":
        return _load_tar(place, verify_files=verify_files)
    if not place.is_dir():
        raise FileNotFoundError(f"no shard folder or .tar at {place}")
    if (place / INDEX_NAME).is_file():
        return _read_index(place / INDEX_NAME, verify_files=verify_files)
    tars = sorted(path for path in place.iterdir() if path.suffix == ".tar")
    if not tars:
        found = "is empty" if not any(place.iterdir()) else "holds no .tar and no index.json"
        raise ShardError(f"shard folder {place} {found}; make one with `data pack`")
    return _index_of_tars(tars)


def _load_tar(tar: Path, *, verify_files: bool) -> ShardIndex:
    """One tar: its part of the index beside it, if there is one that lists it."""
    if (tar.parent / INDEX_NAME).is_file():
        index = _read_index(tar.parent / INDEX_NAME, verify_files=False)
        shards = tuple(shard for shard in index.shards if Path(shard.path).name == tar.name)
        if shards:
            if verify_files:
                _refuse_changed_shard(shards[0])
            return ShardIndex(shards, (), index.specification, index.statistics)
    return _index_of_tars([tar])


def _index_of_tars(tars: Sequence[Path]) -> ShardIndex:
    """Builds an index in memory; trajectories are read once for their statistics."""
    index = ShardIndex(tuple(index_tar(tar) for tar in tars))
    _refuse_repeated_keys(index)
    samples = index.samples
    if not samples or not all(sample.is_trajectory for sample in samples):
        return index
    reader = ShardReader()
    specification = _specification_of(reader, samples[0])
    statistics = StatisticsOfEpisodes(specification)
    for sample in samples:
        statistics.add(reader.read_array(sample, STATES), reader.read_array(sample, ACTIONS))
    reader.close()
    return ShardIndex(index.shards, (), specification, statistics.result())


def _specification_of(reader: ShardReader, sample: Sample) -> TrajectorySpecification:
    values = parse_json(reader.read(sample, "json"), f"{sample.shard}: '{sample.key}.json'")
    if "specification" not in values:
        raise ShardError(f"{sample.shard}: '{sample.key}.json' has no specification")
    return TrajectorySpecification.from_json(values["specification"])


def _joined(parts: Sequence[ShardIndex]) -> ShardIndex:
    """Several sets as one; trajectory sets must mean the same by their columns."""
    specifications = {part.specification for part in parts}
    if len(specifications) > 1:
        raise ShardError(
            "these sets do not go together: their specifications (names, units, bounds, rate of "
            "states and actions) differ"
        )
    return ShardIndex(
        shards=tuple(shard for part in parts for shard in part.shards),
        skipped=tuple(video for part in parts for video in part.skipped),
        specification=parts[0].specification,
        statistics=_joined_statistics(parts),
    )


def _joined_statistics(parts: Sequence[ShardIndex]) -> ColumnStatistics | None:
    specification = parts[0].specification
    if specification is None:
        return None
    statistics, reader = StatisticsOfEpisodes(specification), ShardReader()
    for sample in (sample for part in parts for sample in part.samples):
        statistics.add(reader.read_array(sample, STATES), reader.read_array(sample, ACTIONS))
    reader.close()
    return statistics.result()


def _index_to_json(index: ShardIndex) -> dict[str, Any]:
    return {
        "format": INDEX_FORMAT,
        "version": INDEX_VERSION,
        "plan": index.plan_fingerprint,
        "shards": [shard_to_json(shard) for shard in index.shards],
        "skipped": [asdict(video) for video in index.skipped],
        "specification": index.specification and index.specification.to_json(),
        "statistics": index.statistics and index.statistics.to_json(),
    }


def _read_index(path: Path, *, verify_files: bool) -> ShardIndex:
    values = parse_json(path.read_bytes(), str(path))
    if values.get("format") != INDEX_FORMAT or values.get("version") != INDEX_VERSION:
        raise ShardError(
            f"{path}: format '{values.get('format')}' version {values.get('version')}, this "
            f"program reads '{INDEX_FORMAT}' version {INDEX_VERSION}; pack again"
        )
    try:
        index = _index_from_json(values, path.parent)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ShardError(f"{path} is damaged ({type(error).__name__}: {error})") from None
    if verify_files:
        for shard in index.shards:
            _refuse_changed_shard(shard)
    return index


def _index_from_json(values: Mapping[str, Any], folder: Path) -> ShardIndex:
    specification, statistics = values["specification"], values["statistics"]
    return ShardIndex(
        shards=tuple(shard_from_json(shard, folder) for shard in values["shards"]),
        skipped=tuple(SkippedVideo(**video) for video in values["skipped"]),
        specification=specification and TrajectorySpecification.from_json(specification),
        statistics=statistics
        and ColumnStatistics(**{name: tuple(column) for name, column in statistics.items()}),
        plan_fingerprint=values.get("plan"),
    )


def _refuse_changed_shard(shard: Shard) -> None:
    try:
        num_bytes = os.stat(shard.path).st_size
    except FileNotFoundError:
        raise ShardError(f"shard {shard.path} is in the index but missing") from None
    if num_bytes != shard.num_bytes:
        raise ShardError(
            f"shard {shard.path} changed: {num_bytes} bytes, the index says {shard.num_bytes}; "
            "pack again"
        )


def _refuse_repeated_shards(index: ShardIndex) -> None:
    seen: set[str] = set()
    for shard in index.shards:
        path = os.path.realpath(shard.path)
        if path in seen:
            raise ShardError(f"shard {shard.path} is listed twice")
        seen.add(path)


def _refuse_repeated_keys(index: ShardIndex) -> None:
    shard_of: dict[str, str] = {}
    for sample in index.samples:
        if sample.key in shard_of:
            raise ShardError(
                f"key '{sample.key}' is in two shards: {shard_of[sample.key]} and {sample.shard}"
            )
        shard_of[sample.key] = sample.shard
