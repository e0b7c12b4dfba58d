"""Packing videos: a plan, workers that take its shards, and one moment when the set appears.

While a pack goes on, `plan.json` and a hidden folder lie in the output folder. A finished shard
has a record beside it and is never written again, so a pack that was killed goes on where it was.
At the end the index is written in the hidden folder: from then on a pack that is started again
only moves files. The shards are renamed, then `index.json` appears, then the plan goes.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.frames import VideoMetadata
from data_pipelines.isolated_probe import ProbeProcess
from data_pipelines.manifest import SkippedVideo, VerifyFrames
from data_pipelines.pack_plan import (
    PackPlan,
    PackSettings,
    PlannedVideo,
    explain_difference,
    make_plan,
)
from data_pipelines.recoding import RecodedScene, RecodeSettings
from data_pipelines.samples import Sample, Shard, parse_json, shard_from_json, shard_to_json
from data_pipelines.shard_index import INDEX_NAME, ShardIndex
from data_pipelines.shard_writing import (
    replace_durably,
    sample_json,
    shard_name,
    write_shard,
    write_whole,
)
from data_pipelines.tar_headers import ShardError
from data_pipelines.video_sources import find_sources, read_source, size_and_time

PLAN_NAME = "plan.json"
STAGING_NAME = ".packing"
RECODE_TIMEOUT_SECONDS = 4 * 3600.0  # for one video

Packed = tuple[Sample, dict[str, bytes]]  # a sample and its members, extension -> bytes


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
    recode: RecodeSettings | None = None,
    min_seconds: float = 0.0,
    min_frames: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    num_workers: int = 1,
) -> PackResult:
    """Packs every readable video of a folder or a list, bytes unchanged or encoded anew.

    A pack that was stopped goes on when it is asked for again with the same arguments; the shards
    and the index are then, byte for byte, those of a pack that was not stopped.

    Args:
        folder: searched with its sub-folders, and a video's sub-folder is its label; or a list of
            videos, or a bucket's URL (see `video_sources`).
        out: where `shard-000000.tar`, ... and `index.json` go.
        samples_per_shard: at most so many videos in one shard.
        max_shard_bytes: a shard is closed before the files in it exceed this (one file may).
        decoder: which decoder must be able to read a video for it to be packed.
        verify_frames: decode the first and last frame of each video ("ends"), or all of them.
        recode: how videos are encoded anew; None leaves their bytes as they are.
        min_seconds: a sample that is shorter is skipped and named.
        min_frames: a sample with fewer frames is skipped and named.
        overwrite: replace the shards that are in `out`, or an unfinished pack of something else.
        resume: if `out` holds the finished set already, return it instead of raising.
        num_workers: processes that decode, each with a shard of its own.

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if it holds no video, or none that can be read.
        ShardError: if `out` holds shards already and overwrite is False, if it holds an unfinished
            pack of other videos or settings, or if a video changes while it is packed.
    """
    settings = PackSettings(
        samples_per_shard,
        max_shard_bytes,
        decoder,
        verify_frames,
        recode=recode,
        min_seconds=min_seconds,
        min_frames=min_frames,
    )
    if num_workers < 1:
        raise ValueError(f"num_workers={num_workers} must be at least 1")
    decoder_class(decoder)  # not installed: say so before the work
    sources = find_sources(folder)
    plan = make_plan(sources, settings)
    staging = _Staging(Path(out))
    finished = staging.begin(plan, overwrite=overwrite, resume=resume)
    if finished is None:
        with staging:
            worker = _Packer(sources.root, settings, staging.stopped)
            staging.write_missing_shards(worker, num_workers=num_workers)
            finished = staging.finish(str(folder))
    return PackResult(Path(out), finished)


@dataclass(frozen=True)
class _Packer:
    """Makes the samples of videos; each worker opens a child process of its own for decoding."""

    root: str
    settings: PackSettings
    stopped: threading.Event

    def open_probe(self) -> ProbeProcess:
        recode = self.settings.recode
        return ProbeProcess(
            self.root,
            decoder=self.settings.decoder,
            verify_frames=self.settings.verify_frames,
            timeout_seconds=600.0 if recode is None else RECODE_TIMEOUT_SECONDS,
            recode_settings=recode,
        )

    def samples(
        self, probe: ProbeProcess, videos: tuple[PlannedVideo, ...], skipped: list[SkippedVideo]
    ) -> Iterator[Packed]:
        """Yields the samples of a shard; a video that cannot be used goes to `skipped`."""
        pack = self._copy if self.settings.recode is None else self._recode
        for video in videos:
            self._refuse_changed(video)
            answers = pack(probe, video)
            if self.stopped.is_set():  # the child may have been ended: its answer counts no more
                raise _Stopped
            self._refuse_changed(video)
            for answer in answers:
                if isinstance(answer, SkippedVideo):
                    skipped.append(answer)
                else:
                    yield answer

    def _copy(self, probe: ProbeProcess, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        path = video.source.path
        row = probe.read_row(path)
        if isinstance(row, SkippedVideo):
            return [row]
        if misfit := self._misfit(row.metadata):
            return [SkippedVideo(path, misfit)]
        data = read_source(self.root, path)
        sample = Sample(video.key, "", {}, row.metadata, label=video.source.label, source=path)
        extension = path.rpartition(".")[2].lower()
        return [(sample, {extension: data, "json": sample_json(sample, num_bytes=len(data))})]

    def _recode(self, probe: ProbeProcess, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        source = video.source
        answer = probe.recode(
            source.path, start_seconds=source.start_seconds, end_seconds=source.end_seconds
        )
        if isinstance(answer, SkippedVideo):
            return [SkippedVideo(source.name, answer.reason)]
        original, scenes = answer
        return [self._scene(video, original, *scene) for scene in enumerate(scenes)]

    def _scene(
        self, video: PlannedVideo, original: VideoMetadata, number: int, scene: RecodedScene
    ) -> Packed | SkippedVideo:
        """Returns the sample of a scene, or of the whole video if nothing is split."""
        source, settings = video.source, self.settings.recode
        assert settings is not None
        splits = self.settings.splits_scenes
        if misfit := self._misfit(scene.metadata):
            name = f"{source.name} (scene {number})" if splits else source.name
            return SkippedVideo(name, misfit)
        sample = Sample(
            f"{video.key}-scene{number:03d}" if splits else video.key,
            "",
            {},
            scene.metadata,
            label=source.label,
            source=source.path,
            group=source.path if splits or source.is_part else "",
        )
        about = sample_json(
            sample,
            num_bytes=len(scene.data),
            start_seconds=scene.start_seconds,
            original={**asdict(original), "num_bytes": video.num_bytes},
            recoded=settings.to_json(),
        )
        return sample, {"mp4": scene.data, "json": about}

    def _misfit(self, metadata: VideoMetadata) -> str | None:
        """Returns why a sample is too short, or None."""
        if metadata.duration_seconds < self.settings.min_seconds:
            return (
                f"too short: {metadata.duration_seconds:.2f} s, "
                f"at least {self.settings.min_seconds:g} s are asked for"
            )
        if metadata.num_frames < self.settings.min_frames:
            return (
                f"too short: {metadata.num_frames} frames, "
                f"at least {self.settings.min_frames} are asked for"
            )
        return None

    def _refuse_changed(self, video: PlannedVideo) -> None:
        now = size_and_time(self.root, video.source.path)
        if now != (video.num_bytes, video.modified):
            raise ShardError(
                f"{video.source.path} changed while it was packed (size or time); pack again when "
                "the videos are at rest, with --overwrite"
            )


class _Stopped(Exception):
    """Another worker failed, or the user stopped the pack."""


class _Staging:
    """The hidden folder in which shards wait until all of them are there."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / STAGING_NAME
        self.stopped = threading.Event()
        self._lock: TextIO | None = None

    def begin(self, plan: PackPlan, *, overwrite: bool, resume: bool) -> ShardIndex | None:
        """Takes the folder for this plan, new or begun; returns the index if it is finished.

        Raises:
            ShardError: if shards or an unfinished pack are in the way, or a pack is running.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        goes_on = self._goes_on(overwrite=overwrite)
        if not goes_on and not overwrite:
            present = [*self.out.glob("shard-*.tar"), *self.out.glob(INDEX_NAME)]
            if present and resume:
                return self._finished_set(present[0].name)
            if present:
                self._refuse_present(present[0].name)
        self._take_lock()
        if not goes_on:
            (self.out / PLAN_NAME).unlink(missing_ok=True)
            self._empty()
            text = json.dumps(plan.to_json(), indent=1)
            write_whole(self.out / PLAN_NAME, text.encode(), unfinished=self.folder / "plan")
        return None

    def write_missing_shards(self, packer: _Packer, *, num_workers: int) -> None:
        """Writes the shards that have no record yet."""
        if self._is_committed:
            return
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        missing = [n for n in range(len(self.plan.shards)) if not self._record(n).is_file()]
        for number in missing:
            numbers.put(number)
        probes: list[ProbeProcess] = []

        def work() -> None:
            probe = packer.open_probe()
            probes.append(probe)
            try:
                while not self.stopped.is_set():
                    self._write_shard(numbers.get_nowait(), packer, probe)
            except (queue.Empty, _Stopped):
                pass
            except BaseException:
                self.stopped.set()
                raise
            finally:
                probe.close()

        _run_in_threads(work, min(num_workers, len(missing)), stop=self._stop(probes))

    def finish(self, source: str) -> ShardIndex:
        """Makes the set appear; returns its index."""
        journal = self.folder / INDEX_NAME
        records = [_read_record(self._record(n), self.out) for n in range(len(self.plan.shards))]
        filled = [shard for shard, _ in records if shard is not None]
        skipped = tuple(video for _, videos in records for video in videos)
        if not filled:
            self._remove()
            num_videos = sum(1 for _ in self.plan.videos)
            raise ValueError(
                f"no usable video in {source}: {num_videos} of {num_videos} skipped; "
                f"first: {skipped[0].path}: {skipped[0].reason}"
            )
        names = [shard_name(number) for number in range(len(filled))]
        shards = tuple(
            _renamed(shard, self.out / name) for shard, name in zip(filled, names, strict=True)
        )
        index = ShardIndex(shards, skipped, plan_fingerprint=self.plan.fingerprint)
        if not self._is_committed:
            index.save(self.folder)
        (self.out / INDEX_NAME).unlink(missing_ok=True)
        for shard, name in zip(filled, names, strict=True):
            waiting = self.folder / Path(shard.path).name
            if waiting.exists():  # else it was moved before the pack was stopped
                replace_durably(waiting, self.out / name)
        for old in self.out.glob("shard-*.tar"):
            if old.name not in names:
                old.unlink()
        write_whole(
            self.out / INDEX_NAME, journal.read_bytes(), unfinished=self.folder / "finished"
        )
        self._remove()
        return index

    def __enter__(self) -> _Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self._release_lock()

    @property
    def _is_committed(self) -> bool:
        return (self.folder / INDEX_NAME).is_file()

    def _record(self, number: int) -> Path:
        return self.folder / f"{shard_name(number)}.json"

    def _goes_on(self, *, overwrite: bool) -> bool:
        """Returns whether an unfinished pack of this plan is here.

        Raises:
            ShardError: if one of another plan is, and may not be thrown away.
        """
        if not (self.out / PLAN_NAME).is_file():
            return False
        try:
            difference = explain_difference(PackPlan.load(self.out / PLAN_NAME), self.plan)
        except ShardError:
            if overwrite:
                return False
            raise
        if difference and not overwrite:
            raise ShardError(
                f"{self.out} holds an unfinished pack of other videos or settings: {difference}; "
                "pack with the old ones, or start anew with --overwrite"
            )
        has_old_set = (self.out / INDEX_NAME).is_file() and not self._is_committed
        if has_old_set and not overwrite:
            self._refuse_present(INDEX_NAME)
        return not difference

    def _refuse_present(self, name: str) -> None:
        raise ShardError(
            f"{self.out} already holds shards ({name}); choose another folder or overwrite them "
            "(--overwrite)"
        )

    def _finished_set(self, name: str) -> ShardIndex:
        """Returns the index of the set in the folder if it is of this plan."""
        if not (self.out / INDEX_NAME).is_file():
            self._refuse_present(name)
        index = ShardIndex.load(self.out)
        if index.plan_fingerprint != self.plan.fingerprint:
            raise ShardError(
                f"{self.out} holds a finished set of other videos or settings; choose another "
                "folder or overwrite it (--overwrite)"
            )
        if self.folder.is_dir():  # the pack was stopped while it tidied up
            self._take_lock()
            self._remove()
        return index

    def _take_lock(self) -> None:
        """Makes sure that one process writes here; the lock goes when its process goes."""
        self.folder.mkdir(exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release_lock()
            raise ShardError(f"another pack is writing to {self.out}; wait for it") from None

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()

    def _remove(self) -> None:
        (self.out / PLAN_NAME).unlink(missing_ok=True)
        self._release_lock()
        shutil.rmtree(self.folder)

    def _write_shard(self, number: int, packer: _Packer, probe: ProbeProcess) -> None:
        """Writes one shard and its record, each under a temporary name first."""
        final = self.folder / shard_name(number)
        unfinished = final.with_suffix(".tmp")
        skipped: list[SkippedVideo] = []
        samples = packer.samples(probe, self.plan.shards[number], skipped)
        shard: Shard | None = write_shard(unfinished, samples, final=str(final))
        if shard.samples:
            replace_durably(unfinished, final)
        else:
            unfinished.unlink()
            shard = None
        record = {
            "shard": shard and shard_to_json(shard),
            "skipped": [asdict(video) for video in skipped],
        }
        write_whole(
            self._record(number),
            json.dumps(record).encode(),
            unfinished=self._record(number).with_suffix(".tmp-json"),
        )

    def _stop(self, probes: list[ProbeProcess]) -> Callable[[], None]:
        def stop() -> None:
            self.stopped.set()
            for probe in probes:
                probe.kill()

        return stop


def _run_in_threads(work: Callable[[], None], num_threads: int, *, stop: Callable) -> None:
    """Runs workers to their ends; the first failure, or Ctrl-C, stops the others and is raised."""
    if num_threads == 0:
        return
    with ThreadPoolExecutor(num_threads) as executor:
        workers = [executor.submit(work) for _ in range(num_threads)]
        try:
            for worker in workers:
                worker.result()
        except BaseException:
            stop()
            raise


def _read_record(path: Path, folder: Path) -> tuple[Shard | None, tuple[SkippedVideo, ...]]:
    values = parse_json(path.read_bytes(), str(path))
    shard = values["shard"] and shard_from_json(values["shard"], folder)
    return shard, tuple(SkippedVideo(**video) for video in values["skipped"])


def _renamed(shard: Shard, path: Path) -> Shard:
    """Returns the shard as it will be under another name."""
    samples = tuple(replace(sample, shard=str(path)) for sample in shard.samples)
    return Shard(str(path), shard.num_bytes, samples, shard.sha256)
