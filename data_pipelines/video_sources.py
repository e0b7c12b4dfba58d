"""Where videos come from: a folder, a list of paths, or a bucket; and how their bytes are read.

A list is a CSV or Parquet file with a column `path` (and optionally `label`, `group`, `start` and
`end` in seconds), or a text file of lines `path label` or `path::label`, as the official recipes
have it. Relative paths are relative to the list. A bucket is a URL that fsspec can read.

Of a folder, linked folders are searched too, each real folder once.
"""

from __future__ import annotations

import csv
import io
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from data_pipelines.remote_files import PARALLEL_REQUESTS, RemoteFileRefusedError, RemoteFiles
from data_pipelines.urls import is_url, join_url, shown

VIDEO_EXTENSIONS = (
    *("mp4", "mov", "mkv", "webm", "avi", "m4v", "3gp", "3g2", "f4v"),
    *("flv", "ts", "m2ts", "mts", "mpg", "mpeg", "vob", "wmv", "asf", "ogv"),
)
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LIST_EXTENSIONS = ("csv", "txt", "tsv", "list", "parquet")
_NAMES_OF_A_PATH = r"(video|file|clip|image)?[ _-]?(path|file|name|filename|video|url|uri)s?"


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
        end = "" if self.end_seconds is None else exact(self.end_seconds)
        return f"{self.path}[{exact(self.start_seconds or 0.0)}-{end}]"


@dataclass(frozen=True)
class VideoSources:
    """All videos of a folder, a list or a bucket, sorted.

    Attributes:
        root: folder or URL that the paths are relative to.
        videos: sorted by path and start.
        other_files: extension -> how many files there are that are no videos, by their names.
        repeated: names of videos that a list has twice, on equal lines; they are taken once.
    """

    root: str
    videos: tuple[VideoSource, ...]
    other_files: Mapping[str, int] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Returns what was not taken, a line each."""
        lines = []
        if num_others := sum(self.other_files.values()):
            kinds = sorted(self.other_files, key=lambda kind: (-self.other_files[kind], kind))
            more = ", ..." if len(kinds) > 8 else ""
            of = ", ".join(f"{kind} {self.other_files[kind]}" for kind in kinds[:8])
            lines.append(f"left out: {num_others} files of other types ({of}{more})")
        if self.repeated:
            first = self.repeated[0]
            lines.append(f"listed twice, taken once: {len(self.repeated)} lines, first {first}")
        return tuple(lines)


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
    others: Mapping[str, int] = {}
    if is_url(str(place)):
        root = str(place).rstrip("/")
        paths, others = _of_types(_names_in_bucket(root), extensions)
        videos = [VideoSource(path, _folder_name(path)) for path in paths]
    elif Path(place).is_dir():
        root = str(place)
        paths, others = _of_types(_walk(Path(place)), extensions)
        videos = [VideoSource(path, _folder_name(path)) for path in paths]
    elif Path(place).is_file():
        if str(place).rpartition(".")[2].lower() not in LIST_EXTENSIONS:
            raise ValueError(f"{place} is no list of videos; its name must end in .csv or .parquet")
        root, videos = _relative_to_common_root(read_list(place, extensions), Path(place))
    else:
        raise FileNotFoundError(f"no folder and no list of videos at {place}")
    if not videos:
        _refuse_none(shown(str(place)), extensions, others)
    videos, repeated = _without_repeats(shown(str(place)), videos)
    return VideoSources(root, videos, others, repeated)


def find_videos(folder: str | Path, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> list[str]:
    """Returns the paths of all video files below a folder, relative to it and sorted.

    Args:
        folder: searched with its sub-folders, linked ones too; hidden files are left alone.
        extensions: of the files to look for.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no video file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    paths, others = _of_types(_walk(folder), extensions)
    if not paths:
        _refuse_none(folder, extensions, others)
    return paths


def read_list(path: str | Path, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> list[VideoSource]:
    """Reads a list of videos; paths are as they stand there.

    Args:
        path: of the list.
        extensions: that tell a path with spaces from a label behind it.

    Raises:
        ValueError: if a table has no column `path`, if a time is no number, or if no video is
            named.
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


def exact(seconds: float) -> str:
    """Returns a number in decimal notation that `float` reads back: "12345.61", "2"."""
    text = format(Decimal(repr(float(seconds))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def size_and_time(root: str, path: str) -> tuple[int | None, int | str | None]:
    """Returns a video's size in bytes and when it was changed.

    Both are None if there is no such file, or one that we may not read, which stays so. The time
    is in nanoseconds for a file, and what the service says for a URL.

    Raises:
        OSError: if it cannot be looked up now, which says nothing of the video.
        ImportError: if its kind of URL needs a package that is not installed.
    """
    try:
        if not is_url(root):
            about = os.stat(join(root, path))
            return about.st_size, about.st_mtime_ns
        return RemoteFiles().about(join(root, path))
    except (FileNotFoundError, NotADirectoryError, PermissionError, RemoteFileRefusedError):
        return None, None


def sizes_and_times(
    root: str, paths: Iterable[str]
) -> dict[str, tuple[int | None, int | str | None]]:
    """Returns path -> `size_and_time`; asks a store for several at a time; raises the same."""
    different = list(dict.fromkeys(paths))
    if not is_url(root):
        return {path: size_and_time(root, path) for path in different}
    first = [size_and_time(root, path) for path in different[:1]]  # connects, once for all
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as executor:
        rest = executor.map(lambda path: size_and_time(root, path), different[1:])
        return dict(zip(different, [*first, *rest], strict=True))


def _names_in_bucket(url: str) -> list[str]:
    return [path for path in RemoteFiles().names_in(url) if "/." not in f"/{path}"]


def _of_types(
    paths: Iterable[str], extensions: Sequence[str]
) -> tuple[list[str], Mapping[str, int]]:
    """Returns the paths with one of these extensions, sorted, and extension -> number of others."""
    chosen: list[str] = []
    others: Counter[str] = Counter()
    for path in paths:
        name = posixpath.basename(path)
        if _has_one(extensions, name):
            chosen.append(path)
        else:
            others[posixpath.splitext(name)[1].lower() or "no extension"] += 1
    return sorted(chosen), others


def _without_repeats(
    place: str, videos: Iterable[VideoSource]
) -> tuple[tuple[VideoSource, ...], tuple[str, ...]]:
    """Returns videos sorted, each once, and the names of those that came again.

    Raises:
        ValueError: if one comes again and something else is said of it.
    """
    by_name: dict[str, VideoSource] = {}
    repeated = []
    for video in videos:
        before = by_name.setdefault(video.name, video)
        if before is video:
            continue
        if before != video:
            said = [f"label {one.label}, group '{one.group}'" for one in (before, video)]
            raise ValueError(f"{place}: {video.name} is listed twice: {said[0]}; {said[1]}")
        repeated.append(video.name)
    order = sorted(
        by_name.values(), key=lambda v: (v.path, v.start_seconds or 0.0, v.end_seconds or 0.0)
    )
    return tuple(order), tuple(repeated)


def _folder_name(path: str) -> str | None:
    return posixpath.basename(posixpath.dirname(path)) or None


def _refuse_none(
    place: str | Path, extensions: Sequence[str], others: Mapping[str, int]
) -> NoReturn:
    noun = "video" if tuple(extensions) == VIDEO_EXTENSIONS else "image"
    remarks = "".join(f"; {line}" for line in VideoSources("", (), others).remarks)
    raise ValueError(f"no {noun} in {place}; looked for {', '.join(extensions)}{remarks}")


def _has_one(extensions: Sequence[str], name: str) -> bool:
    return name.rpartition(".")[2].lower() in extensions and not name.startswith(".")


def _walk(folder: Path) -> Iterator[str]:
    """Yields all files below a folder but hidden ones, relative to it.

    Real folders come before linked ones, and each is entered once: links may form rings, and a
    recording that is found by two names could come to lie in training and validation.
    """
    waiting, seen = [folder], set()
    while waiting:
        start = waiting.pop(0)
        if _identity(start) in seen:
            continue
        for parent, folders, files in os.walk(start):
            seen.add(_identity(parent))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += [Path(parent, name) for name in folders if Path(parent, name).is_symlink()]
            folders[:] = [name for name in folders if _identity(Path(parent, name)) not in seen]
            for name in files:
                if not name.startswith("."):
                    yield (Path(parent) / name).relative_to(folder).as_posix()


def _identity(folder: str | Path) -> tuple[int, int]:
    about = os.stat(folder)
    return about.st_dev, about.st_ino


def _text_rows(path: Path, extensions: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table, or of a text file without a header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file (UTF-8)") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max("\t,;", key=first.count)  # the first of them that the line has most of
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if "path" in header:
        yield from _rows_of_table(path, text, delimiter)
        return
    has_header = first.split() == ["path", "label"]
    if not has_header:
        _refuse_other_header(path, header if len(header) > 1 else first.split())
    for number, line in enumerate(filter(str.strip, text.splitlines())):
        if number > 0 or not has_header:
            yield _row_of_plain_line(line.strip(), extensions)


def _rows_of_table(path: Path, text: str, delimiter: str) -> Iterator[dict[str, Any]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(row for row in rows if any(row))]
        for row in rows:
            if any(row):
                yield dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: no CSV: {error}") from None


def _refuse_other_header(path: Path, header: Sequence[str]) -> None:
    """Raises if the first line names columns, but none `path`; it would be taken for a video."""
    if any(re.fullmatch(_NAMES_OF_A_PATH, name, re.IGNORECASE) for name in header):
        raise ValueError(
            f"{path}: no column 'path'; columns are {', '.join(header)}; name the column of the "
            "videos 'path' (and others 'label', 'group', 'start', 'end')"
        )


def _row_of_plain_line(line: str, extensions: Sequence[str]) -> dict[str, str]:
    """Splits `path label`, `path,label` or `path::label`; a path may have spaces.

    The label is the last word, if it is a number or if what comes before ends as a video does.
    """
    if line.startswith('"'):
        path, *label = next(csv.reader([line]))
        return {"path": path, "label": label[0].strip() if label else ""}
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
    path = _word(row.get("path"))
    if path is None:
        is_there = "path" in row
        said = "no path" if is_there else "no column 'path'"
        raise ValueError(f"{where}: {said}; columns are {', '.join(map(str, row))}")
    return VideoSource(
        path=path,
        label=_word(row.get("label")),
        start_seconds=_seconds(row.get("start"), where),
        end_seconds=_seconds(row.get("end"), where),
        group=_word(row.get("group")) or "",
    )


def _word(value: object) -> str | None:
    """Returns a cell as text; None for an empty one.

    A column of whole numbers with gaps is one of floats to pandas, and gaps are NaN: 1.0 is "1".
    """
    if value is None or value == "" or _is_nan(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _seconds(value: object, where: str) -> float | None:
    if value is None or value == "" or _is_nan(value):
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
