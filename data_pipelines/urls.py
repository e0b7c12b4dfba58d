"""URLs as text: what is one, how names are joined, what of one may be shown, ranges in braces."""

from __future__ import annotations

import itertools
import re
from urllib.parse import urlsplit, urlunsplit

SCHEMES = (
    "http",
    "https",
    "s3",
    "s3a",
    "gs",
    "gcs",
    "az",
    "abfs",
    "hf",
    "hdfs",
    "webhdfs",
    "oss",
    "oci",
    "file",
    "memory",
)
MAX_NAMES_OF_A_RANGE = 100_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_url(place: str) -> bool:
    """Returns whether a place is a URL, not a path of this machine."""
    return "://" in place


def is_http(url: str) -> bool:
    """Returns whether a URL is one of a web server, which cannot list its files."""
    return url.startswith(("http://", "https://"))


def scheme_of(url: str) -> str:
    """Returns what stands before `://`.

    Raises:
        ValueError: if it is none of `SCHEMES`; a URL must not start programs or chain file systems.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(
            f"{shown(url)}: '{scheme}://' is not read here; known are {', '.join(SCHEMES)}"
        )
    return scheme


def join_url(folder: str, name: str) -> str:
    """Returns the URL of a name in a folder; the query of a web address stays at its end."""
    if not is_http(folder):
        return f"{folder.rstrip('/')}/{name}"
    parts = urlsplit(folder)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def split_url(url: str) -> tuple[str, str]:
    """Returns the folder and the name; `join_url` is the inverse."""
    if not is_http(url):
        folder, _, name = url.rstrip("/").rpartition("/")
        return folder, name
    parts = urlsplit(url)
    folder, _, name = parts.path.rstrip("/").rpartition("/")
    return urlunsplit(parts._replace(path=folder)), name


def shown(place: str) -> str:
    """Returns a place as messages may name it: without `user:password@` and without the query."""
    return without_secrets(place) if is_url(place) else place


def without_secrets(text: str) -> str:
    """Returns a text whose URLs have lost `user:password@` and their query."""
    text = re.sub(r"://[^/\s'\"]*@", "://", text)
    return re.sub(r"(://[^\s'\"?)]*)\?[^\s'\")]*", r"\1", text)


def expand_ranges(place: str) -> list[str]:
    """Returns the names of `shard-{000000..000007}.tar`, in order; digits are filled up with zeros.

    Raises:
        ValueError: if a range runs backwards, or if there are more than `MAX_NAMES_OF_A_RANGE`.
    """
    choices, num_names = [], 1
    for first, last in _RANGE.findall(place):
        count = int(last) - int(first) + 1
        num_names *= count
        if count < 1 or num_names > MAX_NAMES_OF_A_RANGE:
            raise ValueError(
                f"{shown(place)}: the range {{{first}..{last}}} must run upwards, and there may be "
                f"{MAX_NAMES_OF_A_RANGE} names at most"
            )
        choices.append([f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)])
    texts = _RANGE.sub("\0", place).split("\0")
    return [
        "".join(itertools.chain(*zip(texts, (*chosen, ""), strict=True)))
        for chosen in itertools.product(*choices)
    ]
