"""Where shards wait until all of them are there, and the moment when the set appears.

While a pack goes on, `plan.json` and a hidden folder lie in the output folder. A finished shard
has a record beside it and is never written again, so a pack that was killed goes on where it was.
At the end the index is written in the hidden folder: from then on a pack that is started again
only moves files. The shards are renamed, then `index.json` appears, then the plan goes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from data_pipelines.folder_lock import LOCK_NAME, FolderLock
from data_pipelines.manifest import SkippedVideo
from data_pipelines.pack_plan import (
    ImagePackSettings,
    PackPlan,
    PackSettings,
    explain_difference,
    explain_other_set,
)
from data_pipelines.samples import Shard, parse_json, shard_from_json
from data_pipelines.shard_index import INDEX_NAME, ShardIndex
from data_pipelines.shard_jobs import ShardJob
from data_pipelines.shard_writing import (
    remove_old_set,
    replace_durably,
    shard_name,
    write_whole,
)
from data_pipelines.tar_headers import ShardError

PLAN_NAME = "plan.json"
STAGING_NAME = ".packing"


class Staging:
    """The hidden folder in which shards wait until all of them are there."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / STAGING_NAME
        self._lock = FolderLock(self.folder, out)
        self._begins_anew = self._makes_out = False

    def begin(self, plan: PackPlan, *, overwrite: bool) -> ShardIndex | None:
        """Takes the folder for this plan, new or begun; returns the index if it is finished.

        A finished set of this plan is left alone, unless overwrite asks for it anew.

        Raises:
            ShardError: if shards or an unfinished pack are in the way, or a pack is running.
        """
        self._makes_out = not self.out.exists()
        self.out.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        goes_on = self._goes_on(overwrite=overwrite)
        if not goes_on and not overwrite:
            present = [*self.out.glob("shard-*.tar"), *self.out.glob(INDEX_NAME)]
            if present:
                return self._finished_set(present[0].name)
        self._lock.take()
        for unfinished in self.folder.glob("*.tmp*"):  # of a pack that was killed
            unfinished.unlink()
        self._begins_anew = not goes_on
        if not goes_on:
            (self.out / PLAN_NAME).unlink(missing_ok=True)
            self._empty()
            text = json.dumps(plan.to_json(), indent=1)
            write_whole(self.out / PLAN_NAME, text.encode(), unfinished=self.folder / "plan")
        return None

    def abandon(self) -> None:
        """Takes back what `begin` wrote, if no shard was written since, and gives the folder free.

        What an earlier run had begun stays as it is.
        """
        if self._begins_anew:
            self._remove()
        self._lock.release()
        if self._makes_out and not any(self.out.iterdir()):
            self.out.rmdir()

    def missing_jobs(self, root: str, settings: PackSettings | ImagePackSettings) -> list[ShardJob]:
        """Returns the jobs whose shards are not written yet.

        Args:
            root: that the plan's paths are relative to.
            settings: of the plan.
        """
        if self._is_committed:
            return []
        encoder = self.plan.settings.get("encoder")
        jobs = [
            ShardJob(number, videos, settings, root, str(self.folder), encoder)
            for number, videos in enumerate(self.plan.shards)
        ]
        return [job for job in jobs if not job.record.is_file()]

    def finish(
        self, source: str, *, complete: Callable[[ShardIndex], ShardIndex] | None = None
    ) -> ShardIndex:
        """Makes the set appear; returns its index.

        Args:
            source: where the videos came from, for the message that none can be used.
            complete: adds to the index what only the end knows, such as statistics.
        """
        journal = self.folder / INDEX_NAME
        records = [_read_record(self._record(n), self.out) for n in range(len(self.plan.shards))]
        filled = [shard for shard, _ in records if shard is not None]
        skipped = tuple(video for _, videos in records for video in videos)
        if not filled:
            self._remove()
            num_videos = sum(1 for _ in self.plan.videos)
            raise ValueError(
                f"no usable {self.plan.noun} in {source}: {num_videos} of {num_videos} skipped; "
                f"first: {skipped[0].path}: {skipped[0].reason}"
            )
        names = [shard_name(number) for number in range(len(filled))]
        shards = tuple(
            _renamed(shard, self.out / name) for shard, name in zip(filled, names, strict=True)
        )
        index = ShardIndex(
            shards,
            skipped,
            plan_fingerprint=self.plan.fingerprint,
            plan_settings=self.plan.settings,
        )
        if complete is not None:
            index = complete(index)
        if not self._is_committed:
            index.save(self.folder)
        (self.out / INDEX_NAME).unlink(missing_ok=True)
        for shard, name in zip(filled, names, strict=True):
            waiting = self.folder / Path(shard.path).name
            if waiting.exists():  # else it was moved before the pack was stopped
                replace_durably(waiting, self.out / name)
        remove_old_set(self.out, names)
        write_whole(
            self.out / INDEX_NAME, journal.read_bytes(), unfinished=self.folder / "finished"
        )
        self._remove()
        return index

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

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
                f"{self.out} already holds shards: {explain_other_set(index, self.plan)}; choose "
                "another folder or overwrite them (--overwrite)"
            )
        if self.folder.is_dir():  # the pack was stopped while it tidied up
            self._lock.take()
            self._remove()
        return index

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.name != LOCK_NAME:
                path.unlink()

    def _remove(self) -> None:
        (self.out / PLAN_NAME).unlink(missing_ok=True)
        self._lock.release()
        shutil.rmtree(self.folder)


def _read_record(path: Path, folder: Path) -> tuple[Shard | None, tuple[SkippedVideo, ...]]:
    values = parse_json(path.read_bytes(), str(path))
    shard = values["shard"] and shard_from_json(values["shard"], folder)
    return shard, tuple(SkippedVideo(**video) for video in values["skipped"])


def _renamed(shard: Shard, path: Path) -> Shard:
    """Returns the shard as it will be under another name."""
    samples = tuple(replace(sample, shard=str(path)) for sample in shard.samples)
    return Shard(str(path), shard.num_bytes, samples, shard.sha256)
