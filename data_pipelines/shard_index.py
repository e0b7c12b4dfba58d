"""What is in a set of shards, and where.

A shard is an uncompressed tar as WebDataset reads it: `key.mp4` and `key.json`, for a trajectory
also `key.states.npy` and `key.actions.npy`. `index.json` beside the shards says where each member
lies, so any sample is one seek and one read away. Without it the headers are walked. All of this
may lie in a folder or behind a URL.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.manifest import SkippedVideo
from data_pipelines.remote_files import RemoteFileError, RemoteFiles, RetryPolicy
from data_pipelines.sample_columns import Chained
from data_pipelines.samples import (
    ACTIONS,
    STATES,
    Sample,
    Shard,
    are_of_image,
    are_of_trajectory,
    name_of_shard,
    parse_json,
    shard_from_json,
    shard_to_json,
)
from data_pipelines.shard_places import INDEX_NAME, ShardPlace, shard_place
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shard_writing import write_whole
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import (
    ColumnStatistics,
    StatisticsOfEpisodes,
    TrajectorySpecification,
)
from data_pipelines.urls import is_url, join_url, shown

logger = logging.getLogger(__name__)

INDEX_FORMAT = "video-shards"
INDEX_VERSION = 1
MAX_LISTED = 20  # damaged samples named in the log
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)  # a value of no sense

Shards = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class ShardIndex:
    """All samples of one or several sets of shards, in a fixed order.

    Attributes:
        shards: in the order of their names.
        skipped: videos that could not be packed, and `damaged`.
        specification: of trajectories, else None.
        statistics: of trajectories, else None.
        plan_fingerprint: of the plan that the set was packed by, None if there was none.
        plan_settings: of that plan, as plain values.
    """

    shards: tuple[Shard, ...]
    skipped: tuple[SkippedVideo, ...] = ()
    specification: TrajectorySpecification | None = None
    statistics: ColumnStatistics | None = field(default=None, compare=False)
    plan_fingerprint: str | None = field(default=None, compare=False)
    plan_settings: Mapping[str, Any] | None = field(default=None, compare=False)

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """Returns all samples, shard after shard; each is made anew when it is asked for."""
        return Chained(shard.samples for shard in self.shards)

    @property
    def num_samples(self) -> int:
        """Returns the number of samples."""
        return len(self.samples)

    @property
    def damaged(self) -> tuple[SkippedVideo, ...]:
        """Returns what was left out of tars without an index since it cannot be used, and why."""
        return tuple(video for shard in self.shards for video in shard.damaged)

    @property
    def samples_per_shard(self) -> list[int]:
        """Returns the number of samples of each shard."""
        return [len(shard.samples) for shard in self.shards]

    @property
    def duration_seconds(self) -> float:
        """Returns how long all videos last together, as far as the shards say; pictures do not."""
        return sum(shard.columns.duration_seconds for shard in self.shards)

    @property
    def num_images(self) -> int:
        """Returns how many samples are pictures."""
        return sum(shard.columns.count_of(are_of_image) for shard in self.shards)

    @property
    def num_trajectories(self) -> int:
        """Returns how many samples have states and actions."""
        return sum(shard.columns.count_of(are_of_trajectory) for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Returns a short hash of all keys and sizes in their order: equal for equal sets."""
        digest = hashlib.sha256()
        for shard in self.shards:
            for key, sizes in shard.columns.keys_and_sizes():
                digest.update(f"{key}{sizes}".encode())
        return digest.hexdigest()[:16]

    @classmethod
    def load(
        cls, shards: Shards, *, verify_files: bool = True, retry: RetryPolicy | None = None
    ) -> ShardIndex:
        """Reads the index of a folder of shards, of one tar, or of several of both.

        Tars without an index are those of anybody: what in them cannot be used is left out, named
        in the log and in `damaged` (see `index_tar`); a tar of which nothing can be used is
        refused. A set with an index is refused if it is not what was packed.

        Args:
            shards: folder with `index.json`, folder with tars only, a tar, several tars as
                `shard-{000000..000007}.tar`, or a list of these; a path, or a URL such as
                `http://host/set` or `s3://bucket/set`.
            verify_files: refuse shards that are missing or whose size changed.
            retry: how often and how long a URL is tried.

        Raises:
            FileNotFoundError: if a folder or a tar is missing.
            ShardError: if there is no tar, if a shard changed, comes twice or is of no use, if an
                index is of another version, or if sets do not go together.
            OSError: if a URL cannot be read.
            ValueError: if its kind of URL is not known.
            ImportError: if its kind of URL needs a package that is not installed.
        """
        places = [shards] if isinstance(shards, str | Path) else list(shards)
        if not places:
            raise ShardError("no shards given: name a folder or a tar")
        found = [shard_place(place, RemoteFiles(retry)) for place in places]
        parts = [_load_one(place, verify_files=verify_files, retry=retry) for place in found]
        index = parts[0] if len(parts) == 1 else _joined(parts, retry)
        _refuse_repeated_shards(index)
        if index.num_samples == 0:
            raise ShardError(f"no sample in {', '.join(shown(str(place)) for place in places)}")
        _tell_of_damage(index)
        return index

    def save(self, folder: str | Path) -> Path:
        """Writes `index.json`; it appears whole or not at all."""
        path = Path(folder) / INDEX_NAME
        write_whole(path, json.dumps(_index_to_json(self), indent=1).encode())
        return path


def _load_one(place: ShardPlace, *, verify_files: bool, retry: RetryPolicy | None) -> ShardIndex:
    data = place.read_index()
    if data is None:
        return _index_of_tars(place, retry)
    index = _parse_index(data, place.folder)
    _refuse_repeated_keys(index)
    if place.tars is not None:
        listed = {name_of_shard(shard.path): shard for shard in index.shards}
        if not all(name in listed for name in place.tars):
            return _index_of_tars(place, retry)
        shards = tuple(listed[name] for name in place.tars)
        index = ShardIndex(shards, (), index.specification, index.statistics)
    if verify_files:
        place.refuse_changed(index.shards)
    return index


def _index_of_tars(place: ShardPlace, retry: RetryPolicy | None) -> ShardIndex:
    """Builds an index in memory; trajectories are read once for their statistics."""
    index = ShardIndex(tuple(place.walk()))
    _refuse_repeated_keys(index)
    if 2 * index.num_trajectories <= index.num_samples:
        return replace(index, skipped=index.damaged)
    specification = _specification_of([s for s in index.samples if s.is_trajectory], retry)
    statistics, damaged = _statistics_of_readable(index.samples, specification, retry)
    shards = tuple(_without(shard, damaged) for shard in index.shards)
    index = ShardIndex(shards, (), specification, statistics)
    return replace(index, skipped=index.damaged)


def _without(shard: Shard, damaged: Mapping[str, str]) -> Shard:
    """Returns a shard whose damaged samples, key -> why, are left out."""
    kept = tuple(sample for sample in shard.samples if sample.key not in damaged)
    named = [SkippedVideo(s.key, damaged[s.key]) for s in shard.samples if s.key in damaged]
    return replace(shard, samples=kept, damaged=(*shard.damaged, *named))


def _statistics_of(
    samples: Iterable[Sample], specification: TrajectorySpecification, retry: RetryPolicy | None
) -> ColumnStatistics:
    statistics, reader = StatisticsOfEpisodes(specification), ShardReader(retry=retry)
    for sample in samples:
        statistics.add(*_arrays(reader, sample, specification))
    reader.close()
    return statistics.result()


def _statistics_of_readable(
    samples: Sequence[Sample], specification: TrajectorySpecification, retry: RetryPolicy | None
) -> tuple[ColumnStatistics, dict[str, str]]:
    """Returns the statistics of the trajectories among samples, and what is none: key -> why."""
    statistics, reader = StatisticsOfEpisodes(specification), ShardReader(retry=retry)
    damaged: dict[str, str] = {}
    for sample in samples:
        try:
            statistics.add(*_arrays(reader, sample, specification))
        except ShardError as error:
            if isinstance(error.__context__, RemoteFileError):
                raise  # out of reach is not damaged: who left it out would lose it for a whole run
            tar = name_of_shard(sample.shard)
            damaged[sample.key] = str(error).replace(shown(sample.shard), tar)
    reader.close()
    if len(damaged) == len(samples):
        raise ShardError(next(iter(damaged.values())))
    return statistics.result(), damaged


def _arrays(
    reader: ShardReader, sample: Sample, specification: TrajectorySpecification
) -> tuple[np.ndarray, np.ndarray]:
    """Returns states (T, state_dim) and actions (T - 1, action_dim) of a trajectory."""
    where = f"{shown(sample.shard)}: sample '{sample.key}'"
    if not sample.is_trajectory:
        raise ShardError(f"{where} has no {STATES} or no {ACTIONS}, which the others have")
    reader.prefetch(sample, (STATES, ACTIONS))
    states, actions = reader.read_array(sample, STATES), reader.read_array(sample, ACTIONS)
    time = len(states) if states.ndim else 0
    expected = (time, specification.state_dim), (time - 1, specification.action_dim)
    if (states.shape, actions.shape) != expected:
        raise ShardError(
            f"{where} has states {states.shape} and actions {actions.shape}; they must be "
            f"(T, {specification.state_dim}) and (T - 1, {specification.action_dim})"
        )
    return states, actions


def _specification_of(
    samples: Sequence[Sample], retry: RetryPolicy | None
) -> TrajectorySpecification:
    """Returns the first specification that the JSON of a trajectory holds."""
    complaints = []
    for sample in samples:
        where = f"{shown(sample.shard)}: '{sample.key}.json'"
        if "json" not in sample.members:
            complaints.append(f"{where} is not there, which should hold the specification")
            continue
        values = parse_json(ShardReader(retry=retry).read(sample, "json"), where)
        if "specification" in values:
            return TrajectorySpecification.from_json(values["specification"])
        complaints.append(f"{where} has no specification")
    raise ShardError(complaints[0])


def _tell_of_damage(index: ShardIndex) -> None:
    """Names what was left out, in the log."""
    damaged = index.damaged
    for video in damaged[:MAX_LISTED]:
        logger.warning("left out '%s': %s", video.path, video.reason)
    if len(damaged) > MAX_LISTED:
        logger.warning("left out %d more; `data check` names them all", len(damaged) - MAX_LISTED)


def _joined(parts: Sequence[ShardIndex], retry: RetryPolicy | None) -> ShardIndex:
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
        statistics=_joined_statistics(parts, retry),
    )


def _joined_statistics(
    parts: Sequence[ShardIndex], retry: RetryPolicy | None
) -> ColumnStatistics | None:
    specification = parts[0].specification
    if specification is None:
        return None
    samples = (sample for part in parts for sample in part.samples)
    return _statistics_of(samples, specification, retry)


def _index_to_json(index: ShardIndex) -> dict[str, Any]:
    return {
        "format": INDEX_FORMAT,
        "version": INDEX_VERSION,
        "plan": index.plan_fingerprint,
        "settings": index.plan_settings,
        "shards": [shard_to_json(shard) for shard in index.shards],
        "skipped": [asdict(video) for video in index.skipped],
        "specification": index.specification and index.specification.to_json(),
        "statistics": index.statistics and index.statistics.to_json(),
    }


def _parse_index(data: bytes, folder: str) -> ShardIndex:
    where = shown(join_url(folder, INDEX_NAME) if is_url(folder) else str(Path(folder, INDEX_NAME)))
    values = parse_json(data, where, object_hook=lambda one: _shard_or_values(one, folder))
    if values.get("format") != INDEX_FORMAT or values.get("version") != INDEX_VERSION:
        raise ShardError(
            f"{where}: format '{values.get('format')}' version {values.get('version')}, this "
            f"program reads '{INDEX_FORMAT}' version {INDEX_VERSION}; pack again"
        )
    try:
        return _index_from_json(values, folder)
    except _DAMAGED as error:
        raise ShardError(f"{where} is damaged ({type(error).__name__}: {error})") from None


def _shard_or_values(values: dict[str, Any], folder: str) -> Shard | dict[str, Any]:
    """Returns a shard as soon as it is read, so that an index never is a million dictionaries."""
    if "samples" not in values or "num_bytes" not in values:
        return values
    try:
        return shard_from_json(values, folder)
    except _DAMAGED:
        return values  # who uses it says what is wrong


def _index_from_json(values: Mapping[str, Any], folder: str) -> ShardIndex:
    specification, statistics = values["specification"], values["statistics"]
    return ShardIndex(
        shards=tuple(
            shard if isinstance(shard, Shard) else shard_from_json(shard, folder)
            for shard in values["shards"]
        ),
        skipped=tuple(SkippedVideo(**video) for video in values["skipped"]),
        specification=specification and TrajectorySpecification.from_json(specification),
        statistics=statistics
        and ColumnStatistics(**{name: tuple(column) for name, column in statistics.items()}),
        plan_fingerprint=values.get("plan"),
        plan_settings=values.get("settings"),
    )


def _refuse_repeated_shards(index: ShardIndex) -> None:
    seen: set[str] = set()
    for shard in index.shards:
        path = shard.path if is_url(shard.path) else os.path.realpath(shard.path)
        if path in seen:
            raise ShardError(f"shard {shown(shard.path)} is listed twice")
        seen.add(path)


def _refuse_repeated_keys(index: ShardIndex) -> None:
    """Looks at the keys' hashes first: eight bytes for each of millions of samples."""
    keys = (key for shard in index.shards for key in shard.columns.keys())
    hashes = np.fromiter(map(hash, keys), np.int64)
    values, counts = np.unique(hashes, return_counts=True)
    suspects = set(values[counts > 1].tolist())
    shard_of: dict[str, str] = {}
    for sample in index.samples if suspects else ():
        if hash(sample.key) not in suspects:
            continue
        if sample.key in shard_of:
            first, second = shown(shard_of[sample.key]), shown(sample.shard)
            where = f"in two shards: {first} and {second}"
            if first == second:
                where = f"twice in {first}"
            raise ShardError(f"key '{sample.key}' is {where}; pack again, with keys of their own")
        shard_of[sample.key] = sample.shard
