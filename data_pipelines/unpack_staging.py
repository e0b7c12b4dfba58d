"""Where unpacked files wait until all of them are there, and the moment when the folder appears.

Beside the folder to make lies a hidden one while the work goes on: the plan, a lock, and the files
that are finished. A run that was killed therefore goes on where it was. At the end a record is
written among the files: from then on a run that is started again only moves them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from data_pipelines.folder_lock import LOCK_NAME, FolderLock
from data_pipelines.manifest import SkippedVideo
from data_pipelines.pack_plan import PackPlan, explain_difference
from data_pipelines.samples import parse_json
from data_pipelines.shard_writing import write_whole
from data_pipelines.tar_headers import ShardError

RECORD_NAME = ".unpacked.json"
PLAN_NAME = "plan.json"


class FolderInProgress:
    """A folder of files from its plan to its end; the lock goes with the `with` block.

    Args:
        out: the folder to make.
        plan: of what is unpacked.
        overwrite: write into a folder that holds something, or throw away what another plan began.

    Attributes:
        files: where finished files wait, under the paths that they will have in `out`.
        finished: what an earlier run of this plan could not unpack, if it is finished; else None.

    Raises:
        ShardError: if something is in the way and overwrite is False, or if another process is
            writing there.
    """

    def __init__(self, out: Path, plan: PackPlan, *, overwrite: bool) -> None:
        real = Path(os.path.abspath(out))  # also "." has a name
        self.out = out
        self.plan = plan
        self.folder = real.with_name(f".{real.name}.unpacking")
        self.files = self.folder / "files"
        self._lock = FolderLock(self.folder, out)
        self.finished = None if overwrite else self._record_in(out)
        if self.finished is None:
            self._begin(overwrite=overwrite)
        elif self.folder.is_dir():  # the run was stopped while it tidied up
            self._lock.take()
            self.abandon()

    @property
    def written(self) -> tuple[SkippedVideo, ...] | None:
        """Returns what could not be unpacked, if all the rest waits to be moved; else None."""
        return self._record_in(self.files)

    def keep(self, name: str, data: bytes) -> None:
        """Puts a file among the finished ones, whole or not at all."""
        path, unfinished = self.files / name, self.folder / "unfinished"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        os.replace(unfinished, path)

    def finish(self, lists: Mapping[str, bytes], skipped: Sequence[SkippedVideo]) -> None:
        """Makes the folder appear, or moves the files into the one that is there.

        Args:
            lists: name -> content of the files that say what is there; they come last.
            skipped: what could not be unpacked.

        Raises:
            ShardError: if a folder in `out` is a link to another place.
        """
        if self.written is None:
            for name, data in lists.items():
                self.keep(name, data)
            record = {"plan": self.plan.fingerprint, "skipped": [asdict(one) for one in skipped]}
            text = json.dumps(record, indent=1)
            write_whole(self.files / RECORD_NAME, text.encode(), unfinished=self.folder / "record")
        self._put_in_place([*lists, RECORD_NAME])
        self.abandon()

    def abandon(self) -> None:
        """Removes the hidden folder with all that waits in it."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> FolderInProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _begin(self, *, overwrite: bool) -> None:
        """Takes the hidden folder, new or begun by a run that was stopped."""
        if _holds_something(self.out) and not overwrite:
            raise ShardError(
                f"{self.out} is not empty; choose another folder or --overwrite its files"
            )
        goes_on = self._goes_on(overwrite=overwrite)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        if not goes_on:
            self._empty()
            write_whole(self.folder / PLAN_NAME, json.dumps(self.plan.to_json()).encode())
        self.files.mkdir(exist_ok=True)

    def _goes_on(self, *, overwrite: bool) -> bool:
        """Returns whether the hidden folder holds files of this plan.

        Raises:
            ShardError: if they are of another one, and may not be thrown away.
        """
        path = self.folder / PLAN_NAME
        if not path.is_file() or not self.files.is_dir():
            return False
        try:
            difference = explain_difference(PackPlan.load(path), self.plan)
        except ShardError:
            if overwrite:
                return False
            raise
        if difference and not overwrite:
            raise ShardError(
                f"{self.folder} holds an unfinished unpacking of other samples: {difference}; "
                "start anew with --overwrite"
            )
        return not difference

    def _empty(self) -> None:
        shutil.rmtree(self.files, ignore_errors=True)
        for path in self.folder.iterdir():
            if path.name != LOCK_NAME:
                path.unlink()

    def _record_in(self, folder: Path) -> tuple[SkippedVideo, ...] | None:
        """Returns what the record in a folder says was skipped; None if it is of another plan."""
        path = folder / RECORD_NAME
        if not path.is_file():
            return None
        values = parse_json(path.read_bytes(), str(path))
        if values.get("plan") != self.plan.fingerprint:
            return None
        return tuple(SkippedVideo(**one) for one in values["skipped"])

    def _put_in_place(self, last: Sequence[str]) -> None:
        """Gives the folder its name, or moves its files into the one that is there.

        Args:
            last: names that are taken away first and put there last, in this order.
        """
        if not _holds_something(self.out):
            if self.out.exists():
                self.out.rmdir()
            os.replace(self.files, self.out)
            return
        for name in reversed(last):
            if (self.files / name).exists():
                (self.out / name).unlink(missing_ok=True)
        order = {name: number for number, name in enumerate(last, start=1)}
        paths = {path.relative_to(self.files).as_posix(): path for path in _files(self.files)}
        for name in sorted(paths, key=lambda name: (order.get(name, 0), name)):
            target = self.out / name
            if not target.parent.resolve().is_relative_to(self.out.resolve()):
                raise ShardError(f"{target.parent} is a link to another place; nothing goes there")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(paths[name], target)


def _holds_something(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
