"""Writing one shard: keys, members, and a tar that is whole before it has its name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data_pipelines.samples import Member, Sample, Shard
from data_pipelines.tar_headers import split_name, walk_tar

KEY_CHARACTERS = 90  # longer keys are shortened; a tar holds names of 100


def shard_name(number: int) -> str:
    """Returns the file name of a shard."""
    return f"shard-{number:06d}.tar"


def statistics_name(digest: str) -> str:
    """Returns the file name of statistics that are kept beside the shards of a set.

    Args:
        digest: 16 hexadecimal digits, of the data and of how it is seen.
    """
    return f"statistics-{digest}.json"


def remove_old_set(folder: Path, names: Collection[str]) -> None:
    """Removes the shards of an older set, and all statistics, which were of its data.

    Args:
        folder: of the set.
        names: of the shards that stay.
    """
    statistics = folder.glob(statistics_name("[0-9a-f]" * 16))
    old_shards = [path for path in folder.glob("shard-*.tar") if path.name not in names]
    for path in [*old_shards, *statistics]:
        path.unlink()


def write_shard(
    unfinished: Path, samples: Iterable[tuple[Sample, dict[str, bytes]]], *, final: str
) -> Shard:
    """Writes samples one after another with WebDataset's own writer, and waits for the disk.

    Times and owners are left out, so that equal samples give equal bytes.

    Args:
        unfinished: the file to write; renaming it is the caller's affair.
        samples: each with its members, extension -> bytes; taken one by one.
        final: the path that the shard will have.

    Returns:
        The shard as it will be at `final`, with the places of all members.
    """
    from webdataset.writer import TarWriter

    written: list[tuple[Sample, dict[str, int]]] = []  # with each member's CRC-32
    with unfinished.open("wb") as file:
        with TarWriter(file, user="", group="", mode=0o444, encoder=False, mtime=0) as tar:
            for sample, parts in samples:
                tar.write({"__key__": sample.key, **parts})
                checks = {extension: zlib.crc32(data) for extension, data in parts.items()}
                written.append((sample, checks))
        file.flush()
        os.fsync(file.fileno())
    places = {split_name(member.name): member for member in walk_tar(unfinished)}
    placed = []
    for sample, checks in written:
        members = {}
        for extension, crc32 in checks.items():
            place = places[sample.key, extension]
            members[extension] = Member(place.offset, place.size, crc32)
        placed.append(replace(sample, shard=final, members=members))
    return Shard(final, unfinished.stat().st_size, tuple(placed), sha256_of_file(unfinished))


def write_whole(path: Path, data: bytes, *, unfinished: Path | None = None) -> None:
    """Writes a small file that appears whole or not at all, also if the machine stops.

    Args:
        path: the file.
        data: its bytes.
        unfinished: temporary name on the same disk; None takes a hidden one beside the file.
    """
    unfinished = unfinished or path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    replace_durably(unfinished, path)


def replace_durably(unfinished: Path, path: Path) -> None:
    """Renames a file that is on the disk, and waits until the new name is there too."""
    os.replace(unfinished, path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sample_json(sample: Sample, *, num_bytes: int, **more: Any) -> bytes:  # noqa: ANN401
    """Returns the JSON member of a sample: what is known of it, and more values."""
    metadata = asdict(sample.metadata) if sample.metadata else {}
    about = {"label": sample.label, "source": sample.source, "group": sample.group}
    return json.dumps({**metadata, "num_bytes": num_bytes, **about, **more}).encode()


def key_of_path(path: str, *, taken: set[str], max_characters: int = KEY_CHARACTERS) -> str:
    """Returns a key for a video's path: only letters, digits, '_', '-' and '/', and not taken.

    Names that had to be changed beyond recognition, or that collide, end in a hash of the path.
    """
    stem = path.rpartition(".")[0]
    key = re.sub(r"[^A-Za-z0-9_/-]", "_", stem)
    if len(key) > max_characters or key in taken or not is_plain_key(key):
        digest = hashlib.sha256(path.encode()).hexdigest()[:10]
        key = f"{key[: max_characters - len(digest)].strip('/')}-{digest}"
    return key


def is_plain_key(key: str) -> bool:
    """Returns whether a key can be a name in a tar, read alike by all readers."""
    return re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", key) is not None and len(key) <= 95


def sha256_of_file(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
