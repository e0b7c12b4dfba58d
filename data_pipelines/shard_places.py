"""Where shards lie: in a folder of this machine or behind a URL, as a set or as single tars."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_pipelines.remote_files import (
    PARALLEL_REQUESTS,
    RemoteFileMissingError,
    RemoteFileRefusedError,
    RemoteFiles,
)
from data_pipelines.samples import Shard
from data_pipelines.tar_headers import ShardError
from data_pipelines.tar_index import index_tar
from data_pipelines.urls import (
    expand_ranges,
    is_http,
    is_url,
    join_url,
    scheme_of,
    shown,
    split_url,
)

INDEX_NAME = "index.json"


class ShardPlace(ABC):
    """A place where shards lie, and how to look at it.

    Attributes:
        folder: a path or a URL.
        tars: the names of the tars asked for; None asks for the whole folder.
    """

    def __init__(self, folder: str, tars: Sequence[str] | None) -> None:
        self.folder = folder
        self.tars = tars

    @abstractmethod
    def read_index(self) -> bytes | None:
        """Returns the bytes of the index, None if there is none.

        Raises:
            OSError: if it cannot be read.
        """

    @abstractmethod
    def refuse_changed(self, shards: Sequence[Shard]) -> None:
        """Raises ShardError if a shard is missing or has another size than the index says."""

    @abstractmethod
    def walk(self) -> list[Shard]:
        """Returns the tars as their headers tell them.

        Raises:
            ShardError: if a tar is damaged, or if none is there.
            OSError: if one cannot be read.
        """


class FolderPlace(ShardPlace):
    """Shards in a folder of this machine."""

    def read_index(self) -> bytes | None:
        """Returns the bytes of the index, None if there is none."""
        path = Path(self.folder, INDEX_NAME)
        return path.read_bytes() if path.is_file() else None

    def refuse_changed(self, shards: Sequence[Shard]) -> None:
        """Raises ShardError if a shard is missing or has another size than the index says."""
        for shard in shards:
            path = Path(shard.path)
            _refuse_other_size(shard, path.stat().st_size if path.exists() else None)

    def walk(self) -> list[Shard]:
        """Returns the tars as their headers tell them."""
        names = self._all_tars() if self.tars is None else self.tars
        return [index_tar(Path(self.folder, name)) for name in names]

    def _all_tars(self) -> list[str]:
        paths = list(Path(self.folder).iterdir())
        tars = sorted(path.name for path in paths if path.suffix == ".tar")
        if not tars:
            found = f"holds no .tar and no {INDEX_NAME}" if paths else "is empty"
            raise ShardError(f"shard folder {self.folder} {found}; make one with `data pack`")
        return tars


class RemotePlace(ShardPlace):
    """Shards behind a URL."""

    def __init__(self, folder: str, tars: Sequence[str] | None, remote: RemoteFiles) -> None:
        super().__init__(folder, tars)
        self.remote = remote

    def read_index(self) -> bytes | None:
        """Returns the bytes of the index, None if there is none."""
        try:
            return self.remote.read_whole(join_url(self.folder, INDEX_NAME))
        except RemoteFileMissingError:
            return None
        except RemoteFileRefusedError:
            if self.tars is None:
                raise
            return None  # a single tar needs none, and its signed URL opens no other file

    def refuse_changed(self, shards: Sequence[Shard]) -> None:
        """Raises ShardError if a shard is missing or has another size than the index says."""
        sizes = self.remote.sizes([shard.path for shard in shards])
        for shard, found in zip(shards, sizes, strict=True):
            if isinstance(found, RemoteFileMissingError):
                _refuse_other_size(shard, None)
            elif isinstance(found, OSError):
                raise found
            else:
                _refuse_other_size(shard, found)

    def walk(self) -> list[Shard]:
        """Returns the tars as their headers tell them; several are walked at a time."""

        def index(name: str) -> Shard:
            return index_tar(join_url(self.folder, name), remote=self.remote)

        names = self._all_tars() if self.tars is None else self.tars
        first = [index(name) for name in names[:1]]  # connects, once for all
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as executor:
            return first + list(executor.map(index, names[1:]))

    def _all_tars(self) -> list[str]:
        if is_http(self.folder):
            raise ShardError(
                f"{shown(self.folder)} has no {INDEX_NAME}, and a web server does not list its "
                f"files: put the {INDEX_NAME} that `data pack` wrote beside the shards, or name "
                "the tars, as in shard-{000000..000007}.tar"
            )
        try:
            names = self.remote.names_in(self.folder)
        except RemoteFileMissingError:
            names = []
        tars = [name for name in names if name.endswith(".tar") and "/" not in name]
        if not tars:
            raise ShardError(f"{shown(self.folder)} holds no .tar and no {INDEX_NAME}")
        return tars


def shard_place(place: str | Path, remote: RemoteFiles) -> ShardPlace:
    """Returns what a place names: a folder, a tar, or several as `shard-{000000..000007}.tar`.

    Raises:
        FileNotFoundError: if there is no such folder or tar on this machine.
        ShardError: if a range is not one.
        ValueError: if its kind of URL is not known.
    """
    place = str(place)
    if is_url(place):
        scheme_of(place)
        if not split_url(place)[1].endswith(".tar"):
            return RemotePlace(place, None, remote)
        folder, tars = _folder_and_names([split_url(tar) for tar in _expanded(place)], place)
        return RemotePlace(folder, tars, remote)
    if Path(place).is_dir():
        return FolderPlace(place, None)
    paths = [Path(tar) for tar in ([place] if Path(place).exists() else _expanded(place))]
    for path in paths:
        if path.suffix != ".tar" or not path.is_file():
            raise FileNotFoundError(f"no shard folder or .tar at {path}")
    folder, tars = _folder_and_names([(str(path.parent), path.name) for path in paths], place)
    return FolderPlace(folder, tars)


def _folder_and_names(split: Sequence[tuple[str, str]], place: str) -> tuple[str, list[str]]:
    if len({folder for folder, _ in split}) > 1:
        raise ShardError(f"{shown(place)}: a range must be in the name of the tar, not before it")
    return split[0][0], [name for _, name in split]


def _expanded(place: str) -> list[str]:
    try:
        return expand_ranges(place)
    except ValueError as error:
        raise ShardError(str(error)) from None


def _refuse_other_size(shard: Shard, num_bytes: int | None) -> None:
    if num_bytes is None:
        raise ShardError(f"shard {shown(shard.path)} is in the index but missing")
    if num_bytes != shard.num_bytes:
        raise ShardError(
            f"shard {shown(shard.path)} changed: {num_bytes} bytes, the index says "
            f"{shard.num_bytes}; pack again"
        )
