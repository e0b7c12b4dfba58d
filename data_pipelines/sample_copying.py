"""Samples of finished sets on their way into new ones: chosen, checked, copied byte for byte.

Splitting, merging and converting are packs whose sources are samples of shards: a plan, jobs, and
one moment when the set appears, with the same machinery (`pack_plan`, `shard_jobs`,
`pack_staging`). A run that was killed therefore goes on where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_pipelines.manifest import SkippedVideo
from data_pipelines.pack_plan import PackPlan, PackSettings, PlannedVideo
from data_pipelines.pack_staging import Staging
from data_pipelines.packing_engines import LocalEngine
from data_pipelines.remote_files import RemoteFileError
from data_pipelines.samples import ACTIONS, STATES, Sample, name_of_shard, parse_json
from data_pipelines.shard_index import ShardIndex, Shards
from data_pipelines.shard_jobs import Packed, Packer, PackingStopped, ShardJob
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import (
    ColumnStatistics,
    StatisticsOfEpisodes,
    TrajectorySpecification,
    differing_field,
)
from data_pipelines.urls import is_url, shown, split_url
from data_pipelines.video_sources import VideoSource, size_and_time

BAD_KEY = "its key leads out of its folder, or is no plain relative path"


@dataclass(frozen=True)
class ShardSet:
    """A set of shards and the place it was read from."""

    place: str
    index: ShardIndex

    @property
    def is_of_tars(self) -> bool:
        """Returns whether tars were named, not a folder."""
        return self.place.endswith(".tar")

    @property
    def folder(self) -> str:
        """Returns the folder or URL that the shards lie in."""
        return os.path.dirname(self.place) if self.is_of_tars else self.place

    @property
    def name(self) -> str:
        """Returns the last part of the place, without ".tar"."""
        if is_url(self.place):
            return split_url(self.place.rstrip("/"))[1].removesuffix(".tar")
        return Path(os.path.abspath(self.place)).name.removesuffix(".tar")


@dataclass(frozen=True)
class OutgoingSample:
    """A sample and what it will be called.

    Attributes:
        sample: where it lies.
        key: its key in the new set.
        group: its group in the new set.
    """

    sample: Sample
    key: str
    group: str

    @property
    def num_bytes(self) -> int:
        """Returns the size of all members."""
        return sum(member.size for member in self.sample.members.values())


@dataclass(frozen=True)
class Layout:
    """How samples are divided into shards, and whether old ones are replaced.

    Attributes:
        samples_per_shard: at most so many in one shard.
        max_shard_bytes: a shard's files together are at most so large (one sample may be larger).
        overwrite: replace the shards that are in the folder.
    """

    samples_per_shard: int = 256
    max_shard_bytes: int = 1 << 30
    overwrite: bool = False

    def __post_init__(self) -> None:
        PackSettings(self.samples_per_shard, self.max_shard_bytes)  # refuses what is below 1


def load_sets(shards: Shards) -> list[ShardSet]:
    """Reads the index of every place.

    Raises:
        FileNotFoundError: if a place is missing.
        ShardError: if one cannot be read, if a shard comes twice, or if the sets do not go
            together; it says in what.
    """
    places = [shards] if isinstance(shards, str | Path) else list(shards)
    if not places:
        raise ShardError("no shards given: name a folder or a tar")
    sets = [ShardSet(str(place), ShardIndex.load(place)) for place in places]
    for other in sets[1:]:
        if difference := _explain_specifications(sets[0], other):
            raise ShardError(f"these sets do not go together: {difference}")
    seen: set[str] = set()
    for shard in (shard for one in sets for shard in one.index.shards):
        path = shard.path if is_url(shard.path) else os.path.realpath(shard.path)
        if path in seen:
            raise ShardError(f"shard {shown(shard.path)} is listed twice")
        seen.add(path)
    return sets


def places_of(sets: Sequence[ShardSet]) -> str:
    """Returns where sets were read from, for a message."""
    return ", ".join(shown(one.place) for one in sets)


def unchanged(samples: Iterable[Sample]) -> list[OutgoingSample]:
    """Returns samples that keep their keys and groups."""
    return [OutgoingSample(sample, sample.key, sample.group) for sample in samples]


def refuse_out_in_inputs(out: str | Path, sets: Sequence[ShardSet]) -> None:
    """Raises if a folder to write to is one of the sets, lies in one, or holds tars of one.

    Raises:
        ShardError: that names both.
    """
    real = Path(os.path.realpath(out))
    for one in sets:
        if is_url(one.place):
            continue
        folder = Path(os.path.realpath(one.folder))
        is_inside = folder in real.parents and not one.is_of_tars
        if folder == real or is_inside:
            raise ShardError(f"{out} is, or lies in, the set {one.place}; write to another folder")


def refuse_repeated_keys(outgoing: Sequence[OutgoingSample], *, advice: str) -> None:
    """Raises if two samples would have the same key.

    Raises:
        ShardError: that names the key and both shards, and ends in the advice.
    """
    before: dict[str, OutgoingSample] = {}
    for one in outgoing:
        if one.key in before:
            raise ShardError(
                f"key '{one.key}' is in {shown(before[one.key].sample.shard)} and in "
                f"{shown(one.sample.shard)}; {advice}"
            )
        before[one.key] = one


def leads_out(key: str) -> bool:
    """Returns whether a key, taken for a path, may lie outside its folder, on any system."""
    return any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key or ":" in key


def explain_bad_key(key: str, extensions: Sequence[str]) -> str | None:
    """Returns why a sample cannot have this key, in a tar or in a folder; None if it can."""
    if leads_out(key):
        return BAD_KEY
    for extension in extensions:
        if extension.startswith("_"):
            return f"WebDataset keeps names such as '{extension}' for itself"
        try:
            tarfile.TarInfo(f"{key}.{extension}").tobuf(tarfile.USTAR_FORMAT)
        except ValueError:
            return f"its key has {len(key)} characters, too long for a tar"
    return None


def make_copy_plan(
    outgoing: Sequence[OutgoingSample],
    settings: Mapping[str, Any],
    layout: Layout,
    *,
    specification: TrajectorySpecification | None = None,
) -> PackPlan:
    """Returns which sample goes into which shard, in the order given.

    The plan's fingerprint knows what the samples are, not where they lie.

    Args:
        outgoing: all samples of the new set, with different keys.
        settings: what else the result depends on, as plain values.
        layout: how large shards are.
        specification: of trajectories.
    """
    seen = _changes_of_shards(outgoing)
    planned = [
        PlannedVideo(
            VideoSource(one.key, one.sample.label), one.key, one.num_bytes, seen[one.sample.shard]
        )
        for one in outgoing
    ]
    sizes = {name: value for name, value in asdict(layout).items() if name != "overwrite"}
    all_settings = {**settings, **sizes, "which_samples": _digest(outgoing, specification)}
    runs = even_runs([one.num_bytes for one in outgoing], layout)
    return PackPlan(
        json.loads(json.dumps(all_settings)),
        tuple(tuple(planned[run.start : run.stop]) for run in runs),
    )


def even_runs(num_bytes: Sequence[int], layout: Layout) -> list[range]:
    """Divides samples into as few shards as the layout allows, of equal counts if bytes allow it.

    Args:
        num_bytes: of each sample, in their order.
        layout: the limits.
    """
    runs: list[range] = []
    total = 0
    for number, size in enumerate(num_bytes):
        is_full = not runs or len(runs[-1]) >= layout.samples_per_shard
        if is_full or total + size > layout.max_shard_bytes:
            runs.append(range(number, number))
            total = 0
        runs[-1] = range(runs[-1].start, number + 1)
        total += size
    edges = [len(num_bytes) * n // max(len(runs), 1) for n in range(len(runs) + 1)]
    even = [range(start, stop) for start, stop in itertools.pairwise(edges)]
    fits = all(
        len(run) == 1 or sum(num_bytes[run.start : run.stop]) <= layout.max_shard_bytes
        for run in even
    )
    return even if fits else runs


class SampleCopier(Packer):
    """Reads samples and gives them on as they are; those that cannot be read are named.

    Args:
        outgoing: key in the new set -> sample.
    """

    def __init__(self, outgoing: Mapping[str, OutgoingSample]) -> None:
        super().__init__("")
        self.outgoing = outgoing
        self.reader = ShardReader()

    def samples(
        self, videos: tuple[PlannedVideo, ...], skipped: list[SkippedVideo]
    ) -> Iterator[Packed]:
        """Yields the samples of a shard; what cannot be used goes to `skipped`."""
        for video in videos:
            answers = self.pack(video)
            if self.is_stopped:  # a child may have been ended: its answer counts no more
                raise PackingStopped
            for answer in answers:
                if isinstance(answer, SkippedVideo):
                    skipped.append(answer)
                else:
                    yield answer

    def pack(self, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        """Returns the samples that one sample becomes, or why it gives none."""
        one = self.outgoing[video.key]
        reason = explain_bad_key(one.key, tuple(one.sample.members))
        if leads_out(one.sample.key):
            reason = BAD_KEY
        if reason:
            return [SkippedVideo(one.sample.key, reason)]
        try:
            return self.make(one, read_members(self.reader, one.sample))
        except ShardError as error:
            raise_if_unreachable(error)
            return [SkippedVideo(one.sample.key, plain_reason(error, one.sample))]

    def make(self, one: OutgoingSample, members: dict[str, bytes]) -> list[Packed | SkippedVideo]:
        """Returns what a sample becomes, given the bytes of its members."""
        if one.group != one.sample.group and "json" in members:
            values = parse_json(
                members["json"], f"{shown(one.sample.shard)}: '{one.sample.key}.json'"
            )
            members["json"] = json.dumps({**values, "group": one.group}).encode()
        return [(replace(one.sample, key=one.key, group=one.group), members)]

    def close(self) -> None:
        """Closes the shards."""
        self.reader.close()


def read_members(reader: ShardReader, sample: Sample) -> dict[str, bytes]:
    """Returns all members of a sample, extension -> bytes.

    Raises:
        ShardError: if one is damaged, or an array of a trajectory is none.
    """
    if sample.is_trajectory:
        for extension in (STATES, ACTIONS):
            reader.read_array(sample, extension)
    return {extension: reader.read(sample, extension) for extension in sample.members}


def plain_reason(error: ShardError, sample: Sample) -> str:
    """Returns what is wrong with a sample, without the folder that it lies in."""
    return str(error).replace(shown(sample.shard), name_of_shard(sample.shard))


def raise_if_unreachable(error: ShardError) -> None:
    """Raises an error anew if its sample may be whole, but cannot be fetched from afar now.

    To skip such a sample would lose data because a store was out of reach for a while.
    """
    if isinstance(error.__context__, RemoteFileError):
        raise error


@dataclass(frozen=True)
class NewSet:
    """A set that was written.

    Attributes:
        folder: where it is.
        index: as written to `index.json`.
        skipped: samples that were to be in it and could not be read.
        was_there: the same set was finished before, and nothing was done.
    """

    folder: Path
    index: ShardIndex
    skipped: tuple[SkippedVideo, ...]
    was_there: bool = False


class SetInProgress:
    """A new set from its plan to its index; the lock on its folder goes with the `with` block.

    Args:
        out: the folder.
        outgoing: the samples.
        plan: of these samples.
        specification: of trajectories.
        inherited: videos that were skipped when the old sets were made.
        overwrite: replace the shards that are in `out`.

    Raises:
        ShardError: if `out` holds other shards and overwrite is False.
    """

    def __init__(
        self,
        out: str | Path,
        outgoing: Sequence[OutgoingSample],
        plan: PackPlan,
        *,
        specification: TrajectorySpecification | None = None,
        inherited: tuple[SkippedVideo, ...] = (),
        overwrite: bool = False,
    ) -> None:
        self.outgoing = {one.key: one for one in outgoing}
        self.specification = specification
        self.inherited = inherited
        self.staging = Staging(Path(out))
        self._finished = self.staging.begin(plan, overwrite=overwrite)

    @classmethod
    def of_sets(
        cls,
        sets: Sequence[ShardSet],
        out: str | Path,
        outgoing: Sequence[OutgoingSample],
        plan: PackPlan,
        *,
        overwrite: bool,
    ) -> SetInProgress:
        """Begins one set of all samples of others: what those say of their samples goes along."""
        return cls(
            out,
            outgoing,
            plan,
            specification=sets[0].index.specification,
            inherited=tuple(video for one in sets for video in one.index.skipped),
            overwrite=overwrite,
        )

    def missing_jobs(self) -> list[ShardJob]:
        """Returns the shards that are not written yet."""
        return [] if self._finished else self.staging.missing_jobs("", PackSettings())

    def write(self, opener: Callable[[], Packer] | None = None, *, num_workers: int = 1) -> None:
        """Writes the shards that are missing; nobody sees them yet.

        Args:
            opener: makes what a worker packs with; None copies.
            num_workers: threads.
        """

        def open_one(_: ShardJob) -> Packer:
            return opener() if opener else SampleCopier(self.outgoing)

        LocalEngine(num_workers, open_one).run(self.missing_jobs())

    def finish(self, source: str) -> NewSet:
        """Makes the set appear."""
        index = self._finished or self.staging.finish(source, complete=self._complete)
        skipped = index.skipped[len(self.inherited) :]
        return NewSet(self.staging.out, index, skipped, was_there=self._finished is not None)

    def abandon(self) -> None:
        """Takes back what was begun, before any shard was written."""
        self.staging.abandon()

    def __enter__(self) -> SetInProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.staging.__exit__()

    def _complete(self, index: ShardIndex) -> ShardIndex:
        skipped = (*self.inherited, *index.skipped)
        if self.specification is None:
            return replace(index, skipped=skipped)
        samples = [self.outgoing[sample.key].sample for sample in index.samples]
        return replace(
            index,
            skipped=skipped,
            specification=self.specification,
            statistics=_statistics(self.specification, samples),
        )


def _statistics(
    specification: TrajectorySpecification, samples: Sequence[Sample]
) -> ColumnStatistics:
    """Returns the statistics of these trajectories and of no others."""
    statistics, reader = StatisticsOfEpisodes(specification), ShardReader()
    for sample in samples:
        statistics.add(reader.read_array(sample, STATES), reader.read_array(sample, ACTIONS))
    reader.close()
    return statistics.result()


def _changes_of_shards(outgoing: Sequence[OutgoingSample]) -> dict[str, str]:
    """Returns path of a shard -> where it is and when it was changed, as far as that is known."""
    shards = {one.sample.shard for one in outgoing}
    times = {shard: None if is_url(shard) else size_and_time("", shard)[1] for shard in shards}
    return {shard: f"{shown(shard)} {time}" for shard, time in times.items()}


def _digest(
    outgoing: Sequence[OutgoingSample], specification: TrajectorySpecification | None
) -> str:
    """Returns a hash of what the samples are and of their order."""
    digest = hashlib.sha256(json.dumps(specification and specification.to_json()).encode())
    for one in outgoing:
        sample = one.sample
        members = sorted((name, m.size, m.crc32) for name, m in sample.members.items())
        about = [sample.key, one.key, one.group, sample.label, sample.source, members]
        digest.update(json.dumps(about).encode())
    return digest.hexdigest()[:16]


def _explain_specifications(one: ShardSet, other: ShardSet) -> str | None:
    """Returns the first thing in which two sets' specifications differ, or None."""
    first, second = one.index.specification, other.index.specification
    if first is None or second is None:
        if first is second:
            return None
        with_, without = (other, one) if first is None else (one, other)
        return f"{shown(with_.place)} holds trajectories and {shown(without.place)} holds videos"
    name = differing_field(first, second)
    if name is None:
        return None
    value, other_value = getattr(first, name), getattr(second, name)
    return f"{name} is {value} in {shown(one.place)}, {other_value} in {shown(other.place)}"
