"""Packing the episodes of an importer: a plan, workers that take its shards, one moment at the end.

It is packing of videos once more (see `packing`), with the same machinery: an import that was
killed goes on where it was, an episode that cannot be used is named and costs itself only, and too
many of those stop the import.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_pipelines.importers.base import Importer, ListedEpisode
from data_pipelines.isolated_import import ImportProcess, VideoSettings
from data_pipelines.manifest import SkippedVideo
from data_pipelines.pack_plan import PackPlan, PackSettings, PlannedVideo, encoder_version
from data_pipelines.pack_staging import Staging
from data_pipelines.packing_engines import LocalEngine
from data_pipelines.samples import ACTIONS, STATES, parse_json
from data_pipelines.shard_index import INDEX_NAME, MAX_LISTED, ShardIndex
from data_pipelines.shard_jobs import Packed, Packer, PackingStopped, ShardJob
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import ColumnStatistics, StatisticsOfEpisodes
from data_pipelines.video_sources import VideoSource


class TooManySkippedError(ValueError):
    """More episodes cannot be used than the import allows."""


@dataclass(frozen=True)
class ImportSettings:
    """How episodes become shards.

    Attributes:
        samples_per_shard: so many episodes in one shard; what a killed import does again is at
            most one shard for each worker.
        video: how frames are encoded.
        max_skipped_fraction: the import stops when more than this part of all episodes cannot be
            used.
        asked: what the source was opened with, as plain values; an import goes on only if these
            are the same.
    """

    samples_per_shard: int = 64
    video: VideoSettings = field(default_factory=VideoSettings)
    max_skipped_fraction: float = 0.5
    asked: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        PackSettings(self.samples_per_shard)  # refuses what is below 1
        if not 0 <= self.max_skipped_fraction <= 1:
            raise ValueError(
                f"max_skipped_fraction must be in [0, 1], got {self.max_skipped_fraction}"
            )


@dataclass(frozen=True)
class ImportResult:
    """What was imported, and what was not.

    Attributes:
        folder: where the shards are.
        index: as written to `index.json`; `skipped` names what could not be used.
        remarks: remark -> of how many episodes it was made.
        was_there: the set was finished before, and nothing was done.
    """

    folder: Path
    index: ShardIndex
    remarks: Mapping[str, int]
    was_there: bool = False


def import_episodes(
    importer: Importer,
    out: str | Path,
    settings: ImportSettings | None = None,
    *,
    num_workers: int = 1,
    overwrite: bool = False,
) -> ImportResult:
    """Packs every episode of a source that can be used.

    Args:
        importer: the opened source; it is carried into the workers.
        out: where `shard-000000.tar`, ... and `index.json` go.
        settings: how episodes become shards.
        num_workers: processes that read and encode, each with a shard of its own.
        overwrite: replace the shards that are in `out`, or an unfinished import of something else.

    Raises:
        ValueError: if no episode can be used.
        TooManySkippedError: if more than `max_skipped_fraction` cannot be used. What is finished
            is kept: the import goes on from there when it is asked for again.
        ShardError: if `out` holds another set or an unfinished import of something else and
            overwrite is False, or if a file changes while it is read.
    """
    settings, out = settings or ImportSettings(), Path(out)
    engine_settings, staging = PackSettings(settings.samples_per_shard), Staging(out)
    plan = make_import_plan(importer, settings)
    finished = staging.begin(plan, overwrite=overwrite)
    if finished is not None:
        return ImportResult(out, finished, {}, was_there=True)
    with staging:
        _remove_remains(out)
        jobs = staging.missing_jobs("", engine_settings)
        budget = SkipBudget(len(importer.listed), settings.max_skipped_fraction)
        budget.count_finished(staging.folder)

        def opener(_: ShardJob) -> Packer:
            return EpisodePacker(importer, settings.video, budget)

        LocalEngine(num_workers, opener).run(jobs)
        completion = _Completion(importer, staging.folder)
        source = str(settings.asked.get("source", "this source"))
        index = staging.finish(source, complete=completion)
    return ImportResult(out, index, completion.remarks)


def make_import_plan(importer: Importer, settings: ImportSettings) -> PackPlan:
    """Returns which episode goes into which shard; looks at sizes and times of files only."""
    seen: dict[Path, tuple[int, int]] = {}
    planned = []
    for listed in importer.listed:
        size, time = _state_of(listed.files, seen)
        planned.append(PlannedVideo(VideoSource(listed.name), listed.key, size, time))
    values = {
        "kind": "episodes",
        "samples_per_shard": settings.samples_per_shard,
        **settings.video._asdict(),
        **{name: value for name, value in settings.asked.items() if name != "source"},
        "specification": importer.specification.to_json(),
        "encoder": encoder_version("av"),
    }
    size = settings.samples_per_shard
    shards = [tuple(planned[start : start + size]) for start in range(0, len(planned), size)]
    return PackPlan(json.loads(json.dumps(values)), tuple(shards))


class SkipBudget:
    """Counts episodes that cannot be used, for all workers, and stops an import of too many.

    Args:
        num_episodes: of the source.
        max_skipped_fraction: the greatest allowed part of them.
    """

    def __init__(self, num_episodes: int, max_skipped_fraction: float) -> None:
        self.num_episodes = num_episodes
        self.max_skipped_fraction = max_skipped_fraction
        self.skipped: list[SkippedVideo] = []
        self._lock = threading.Lock()

    def count_finished(self, folder: Path) -> None:
        """Takes what the finished shards of an import that goes on have left out."""
        for record in sorted(folder.glob("shard-*.tar.json")):
            for video in parse_json(record.read_bytes(), str(record))["skipped"]:
                self.skipped.append(SkippedVideo(**video))

    def add(self, skipped: SkippedVideo) -> None:
        """Takes one more.

        Raises:
            TooManySkippedError: naming them, if they are too many.
        """
        with self._lock:
            self.skipped.append(skipped)
            if len(self.skipped) <= self.max_skipped_fraction * self.num_episodes:
                return
            listed = "; ".join(f"{one.path}: {one.reason}" for one in self.skipped[:MAX_LISTED])
            raise TooManySkippedError(
                f"{len(self.skipped)} of {self.num_episodes} episodes cannot be used, more than "
                f"max_skipped_fraction={self.max_skipped_fraction:g}: {listed}. Finished shards "
                "are kept: mend the source's files, or allow more (--max-skipped-fraction), and "
                "import again to go on"
            )


class EpisodePacker(Packer):
    """Makes samples of episodes; a child process of its own reads and encodes them.

    Args:
        importer: the opened source.
        video: how frames are encoded.
        budget: of episodes that cannot be used, shared by all packers.
    """

    def __init__(self, importer: Importer, video: VideoSettings, budget: SkipBudget) -> None:
        super().__init__("")
        self.importer = importer
        self.budget = budget
        self.process = ImportProcess(importer, video)
        self._numbers = {listed.key: number for number, listed in enumerate(importer.listed)}

    def samples(
        self, videos: tuple[PlannedVideo, ...], skipped: list[SkippedVideo]
    ) -> Iterator[Packed]:
        """Yields the samples of a shard; what cannot be used goes to `skipped`.

        Raises:
            TooManySkippedError: past the budget.
            ShardError: if a file changed since the plan was made.
        """
        for video in videos:
            (answer,) = self.pack(video)
            if self.is_stopped:  # the child may have been ended: its answer counts no more
                raise PackingStopped
            _refuse_changed(self.importer.listed[self._numbers[video.key]], video)
            if isinstance(answer, SkippedVideo):
                skipped.append(answer)
                self.budget.add(answer)
            else:
                yield answer

    def pack(self, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        """Returns the sample of an episode, or why it gives none."""
        return [self.process.read(self._numbers[video.key])]

    def stop(self) -> None:
        """Ends the child too."""
        super().stop()
        self.process.kill()

    def close(self) -> None:
        """Ends the child."""
        self.process.close()


class _Completion:
    """Adds to an index what the columns mean and what their numbers are like.

    Attributes:
        remarks: remark -> of how many episodes it was made.
    """

    def __init__(self, importer: Importer, waiting: Path) -> None:
        self.specification = importer.specification
        self.waiting = waiting  # the folder that shards are in until the index is written
        self.remarks: Counter[str] = Counter()

    def __call__(self, index: ShardIndex) -> ShardIndex:
        if (self.waiting / INDEX_NAME).is_file():  # stopped while shards were moved
            statistics = ShardIndex.load(self.waiting, verify_files=False).statistics
        else:
            statistics = self._read_through(index)
        return replace(index, specification=self.specification, statistics=statistics)

    def _read_through(self, index: ShardIndex) -> ColumnStatistics:
        """Reads the numbers and the remarks of all episodes."""
        statistics, reader = StatisticsOfEpisodes(self.specification), ShardReader()
        waiting = sorted(self.waiting.glob("shard-*.tar"))  # numbered with gaps, the index without
        for path, shard in zip(waiting, index.shards, strict=True):
            for sample in (replace(one, shard=str(path)) for one in shard.samples):
                states, actions = (reader.read_array(sample, name) for name in (STATES, ACTIONS))
                statistics.add(states, actions)
                about = parse_json(reader.read(sample, "json"), f"{path}: {sample.key}.json")
                self.remarks.update(about.get("remarks", []))
        reader.close()
        return statistics.result()


def _state_of(files: tuple[Path, ...], seen: dict[Path, tuple[int, int]]) -> tuple[int, int]:
    """Returns the sizes of files together, and the latest time of change in nanoseconds."""
    for path in files:
        if path not in seen:
            try:
                about = path.stat()
                seen[path] = about.st_size, about.st_mtime_ns
            except FileNotFoundError:  # said when its episodes are read
                seen[path] = 0, 0
    states = [seen[path] for path in files]
    return sum(size for size, _ in states), max((time for _, time in states), default=0)


def _refuse_changed(listed: ListedEpisode, video: PlannedVideo) -> None:
    if _state_of(listed.files, {}) != (video.num_bytes, video.modified):
        raise ShardError(
            f"{listed.name} changed while it was imported (size or time of its files); import "
            "again when they are at rest, with --overwrite"
        )


def _remove_remains(out: Path) -> None:
    """Removes unfinished shards that earlier versions left in the folder when they were killed."""
    for path in out.glob(".shard-*.tar.tmp-*"):
        path.unlink()
