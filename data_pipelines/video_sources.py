"""Where videos come from: a folder, a list of paths, or a bucket; and how their bytes are read.

A list is a CSV or Parquet file with a column `path` (and optionally `label`, `group`, `start` and
`end` in seconds), or a text file of lines `path label` or `path::label`, as the official recipes
have it. Relative paths are relative to the list. A bucket is a URL that fsspec can read.
"""

from __future__ import annotations

import csv
import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from data_pipelines.remote_files import RemoteFiles
from data_pipelines.urls import is_url, join_url, shown

VIDEO_EXTENSIONS = ("mp4", "mov", "mkv", "webm", "avi", "m4v")
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LIST_EXTENSIONS = ("csv", "txt", "tsv", "list", "parquet")


@dataclass(frozen=True)
class VideoSource:
    """A video, or a part of one, before anybody looked at it.

    Attributes:
        path: relative to the root, with forward slashes.
        label: what the list says; else the folder the video lies in; None without either.
        start_seconds: where the part begins, None for the beginning.
        end_seconds: where it ends, None for the end.
        group: what must stay together when the set is split; "" if the list does not say.
    """

    path: str
    label: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    group: str = ""

    @property
    def is_part(self) -> bool:
        """Returns whether a start or an end is asked for."""
        return self.start_seconds is not None or self.end_seconds is not None

    @property
    def name(self) -> str:
        """Returns the path, and the part of it if it is one: unique in its list."""
        if not self.is_part:
            return self.path
        start, end = self.start_seconds or 0.0, self.end_seconds
        return f"{self.path}[{start:g}-{'' if end is None else f'{end:g}'}]"


@dataclass(frozen=True)
class VideoSources:
    """All videos of a folder, a list or a bucket, sorted.

    Attributes:
        root: folder or URL that the paths are relative to.
        videos: sorted by path and start.
    """

    root: str
    videos: tuple[VideoSource, ...]


def find_sources(
    place: str | Path, *, extensions: Sequence[str] = VIDEO_EXTENSIONS
) -> VideoSources:
    """Returns the videos of a folder (with its sub-folders), a list, or a bucket's URL.

    Args:
        place: folder, list or URL.
        extensions: of the files to look for in a folder or a bucket, such as those of images.

    Raises:
        FileNotFoundError: if there is nothing at that place.
        ValueError: if it names no video, or one twice, or if a list cannot be read.
        ImportError: if the place needs a package that is not installed.
    """
    if is_url(str(place)):
        root = str(place).rstrip("/")
        videos = _videos_in_bucket(root, extensions)
    elif Path(place).is_dir():
        root = str(place)
        videos = [VideoSource(path, _folder_name(path)) for path in find_videos(place, extensions)]
    elif Path(place).is_file():
        if str(place).rpartition(".")[2].lower() not in LIST_EXTENSIONS:
            raise ValueError(f"{place} is no list of videos; its name must end in .csv or .parquet")
        root, videos = _relative_to_common_root(read_list(place, extensions), Path(place))
    else:
        raise FileNotFoundError(f"no folder and no list of videos at {place}")
    videos = sorted(videos, key=lambda v: (v.path, v.start_seconds or 0.0, v.end_seconds or 0.0))
    for before, video in itertools.pairwise(videos):
        if before.name == video.name:
            raise ValueError(f"{shown(str(place))}: {video.name} is listed twice")
    return VideoSources(root, tuple(videos))


def find_videos(folder: str | Path, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> list[str]:
    """Returns the paths of all video files below a folder, relative to it and sorted.

    Args:
        folder: searched with its sub-folders; hidden files are left alone.
        extensions: of the files to look for.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no video file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    paths = sorted(_walk(folder, extensions))
    if not paths:
        _refuse_none(folder, extensions)
    return paths


def read_list(path: str | Path, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> list[VideoSource]:
    """Reads a list of videos; paths are as they stand there.

    Args:
        path: of the list.
        extensions: that tell a path with spaces from a label behind it.

    Raises:
        ValueError: if there is no column `path`, if a time is no number, or if no video is named.
        ImportError: for a Parquet file without pyarrow.
    """
    path = Path(path)
    rows = (
        _parquet_rows(path) if path.suffix.lower() == ".parquet" else _text_rows(path, extensions)
    )
    videos = [_source_of_row(row, f"{path}, row {n}") for n, row in enumerate(rows, start=1)]
    if not videos:
        raise ValueError(f"{path} names no video")
    return videos


def join(root: str, path: str) -> str:
    """Returns where a video lies: a path or a URL."""
    return join_url(root, path) if is_url(root) else os.path.join(root, path)


def read_source(root: str, path: str) -> bytes:
    """Returns the bytes of a video; a URL is asked again if it fails (see `remote_files`).

    Raises:
        OSError: if it cannot be read.
        ImportError: if its kind of URL needs a package that is not installed.
    """
    if not is_url(root):
        return Path(root, path).read_bytes()
    return RemoteFiles().read_whole(join(root, path))


def size_and_time(root: str, path: str) -> tuple[int | None, int | str | None]:
    """Returns a video's size in bytes and when it was changed; None if it cannot be looked up.

    The time is in nanoseconds for a file, and what the service says for a URL.
    """
    try:
        if not is_url(root):
            about = os.stat(join(root, path))
            return about.st_size, about.st_mtime_ns
        return RemoteFiles().about(join(root, path))
    except OSError:
        return None, None


def _videos_in_bucket(url: str, extensions: Sequence[str]) -> list[VideoSource]:
    paths = [
        path
        for path in RemoteFiles().names_in(url)
        if _has_one(extensions, posixpath.basename(path)) and "/." not in f"/{path}"
    ]
    if not paths:
        _refuse_none(shown(url), extensions)
    return [VideoSource(path, _folder_name(path)) for path in paths]


def _folder_name(path: str) -> str | None:
    return posixpath.basename(posixpath.dirname(path)) or None


def _refuse_none(place: str | Path, extensions: Sequence[str]) -> NoReturn:
    noun = "video" if tuple(extensions) == VIDEO_EXTENSIONS else "image"
    raise ValueError(f"no {noun} in {place}; looked for {', '.join(extensions)}")


def _has_one(extensions: Sequence[str], name: str) -> bool:
    return name.rpartition(".")[2].lower() in extensions and not name.startswith(".")


def _walk(folder: Path, extensions: Sequence[str]) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if _has_one(extensions, name):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _text_rows(path: Path, extensions: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file (UTF-8)") from None
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    header = [name.strip() for name in lines[0].split(delimiter)] if lines else []
    if "path" in header:
        yield from csv.DictReader(lines, delimiter=delimiter)
        return
    for line in lines:
        if line.strip():
            yield _row_of_plain_line(line.strip(), extensions)


def _row_of_plain_line(line: str, extensions: Sequence[str]) -> dict[str, str]:
    """Splits `path label`, `path,label` or `path::label`; a path may have spaces.

    The label is the last word, if it is a number or if what comes before ends as a video does.
    """
    for separator in ("::", ",", " "):
        path, found, label = line.rpartition(separator)
        path, label = path.strip(), label.strip()
        is_label = separator == "::" or label.lstrip("-").isdigit() or _has_one(extensions, path)
        if found and is_label:
            return {"path": path, "label": label}
    return {"path": line}


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    from data_pipelines.parquet import ParquetReader

    with ParquetReader(path) as file:
        columns = {name: file.values(name) for name in file.names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _source_of_row(row: dict[str, Any], where: str) -> VideoSource:
    if not row.get("path"):
        raise ValueError(f"{where}: no path; columns are {', '.join(map(str, row))}")
    label = row.get("label")
    return VideoSource(
        path=str(row["path"]),
        label=None if label in (None, "") else str(label),
        start_seconds=_seconds(row.get("start"), where),
        end_seconds=_seconds(row.get("end"), where),
        group="" if row.get("group") is None else str(row["group"]),
    )


def _seconds(value: object, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{where}: '{value}' is no time in seconds")
    return seconds


def _relative_to_common_root(
    videos: Sequence[VideoSource], list_path: Path
) -> tuple[str, list[VideoSource]]:
    """Shortens paths by the folder that all of them lie in, so that keys are short too."""
    num_urls = sum(is_url(video.path) for video in videos)
    if 0 < num_urls < len(videos):
        raise ValueError(f"{list_path} names both files and URLs; make two lists")
    if num_urls:
        places = [video.path for video in videos]
        if len({place.partition("://")[0] for place in places}) > 1:
            raise ValueError(f"{list_path} names URLs of several kinds; make two lists")
        schemes, rests = zip(*(place.split("://", 1) for place in places), strict=True)
        root = f"{schemes[0]}://{posixpath.commonpath([posixpath.dirname(r) for r in rests])}"
    else:
        folder = list_path.resolve().parent
        places = [os.path.normpath(folder / video.path) for video in videos]
        root = os.path.commonpath([os.path.dirname(place) for place in places])
    paths = [place[len(root) :].lstrip("/" + os.sep).replace(os.sep, "/") for place in places]
    return root, [replace(video, path=path) for video, path in zip(videos, paths, strict=True)]
