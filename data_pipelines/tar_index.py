"""The index of one tar, from its headers and its small JSON members."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from data_pipelines.remote_files import RemoteFile, RemoteFiles
from data_pipelines.samples import Member, Sample, Shard, metadata_from_json, parse_json
from data_pipelines.tar_headers import ShardError, TarMember, open_tar, split_name, walk_open_tar
from data_pipelines.urls import shown

MAX_JSON_BYTES = 1 << 20


def index_tar(path: str | Path, *, remote: RemoteFiles | None = None) -> Shard:
    """Builds the index of one tar from its headers and its small JSON members.

    Args:
        path: a path, or a URL, of which headers and JSON members alone are fetched.
        remote: how to read a URL; None takes the usual patience.

    Raises:
        ShardError: if the tar is damaged, if a sample has no video, if its members do not lie
            together, or if a JSON member cannot be read.
        OSError: if the file cannot be read.
    """
    name = shown(str(path))
    with open_tar(path, remote=remote) as file:
        num_bytes = file.seek(0, os.SEEK_END)
        groups = list(_grouped(walk_open_tar(file, name), name))
        samples = [_sample_of_members(file, str(path), key, parts) for key, parts in groups]
    return Shard(str(path), num_bytes, tuple(samples))


def _grouped(members: Iterable[TarMember], path: str) -> Iterator[tuple[str, dict[str, TarMember]]]:
    """Yields key and members of each sample; members of one sample lie together."""
    key, parts, seen = "", {}, set()
    for member in members:
        try:
            member_key, extension = split_name(member.name)
        except ShardError as error:
            raise ShardError(f"{path}: {error}") from None
        if member_key != key:
            if parts:
                yield key, parts
            if member_key in seen:
                raise ShardError(f"{path}: key '{member_key}' reappears at byte {member.offset}")
            key, parts = member_key, {}
            seen.add(key)
        parts[extension] = member
    if parts:
        yield key, parts


def _sample_of_members(
    file: BinaryIO | RemoteFile, path: str, key: str, parts: Mapping[str, TarMember]
) -> Sample:
    values: dict[str, Any] = {}
    if "json" in parts:
        where = f"{shown(path)}: '{key}.json'"
        if parts["json"].size > MAX_JSON_BYTES:
            raise ShardError(f"{where} has {parts['json'].size} bytes, at most {MAX_JSON_BYTES}")
        file.seek(parts["json"].offset)
        values = parse_json(file.read(parts["json"].size), where)
    sample = Sample(
        key,
        path,
        {name: Member(member.offset, member.size) for name, member in parts.items()},
        metadata_from_json(values),
        label=_text(values.get("label")),
        source=_text(values.get("source")),
        group=_text(values.get("group")) or "",
    )
    _ = sample.image_extension if sample.is_image else sample.video_extension  # raises if none
    return sample


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
