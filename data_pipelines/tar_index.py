"""The index of one tar, from its headers and its small JSON members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.samples import Member, Sample, Shard, metadata_from_json, parse_json
from data_pipelines.shard_reader import read_member
from data_pipelines.tar_headers import ShardError, TarMember, split_name, walk_tar

MAX_JSON_BYTES = 1 << 20


def index_tar(path: str | Path) -> Shard:
    """Builds the index of one tar from its headers and its small JSON members.

    Raises:
        ShardError: if the tar is damaged, if a sample has no video, if its members do not lie
            together, or if a JSON member cannot be read.
    """
    path = Path(path)
    samples = [_sample_of_members(path, key, parts) for key, parts in _grouped(path)]
    return Shard(str(path), path.stat().st_size, tuple(samples))


def _grouped(path: Path) -> Iterator[tuple[str, dict[str, TarMember]]]:
    """Yields key and members of each sample; members of one sample lie together."""
    key, parts, seen = "", {}, set()
    for member in walk_tar(path):
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


def _sample_of_members(path: Path, key: str, parts: Mapping[str, TarMember]) -> Sample:
    values: dict[str, Any] = {}
    if "json" in parts:
        where = f"{path}: '{key}.json'"
        if parts["json"].size > MAX_JSON_BYTES:
            raise ShardError(f"{where} has {parts['json'].size} bytes, at most {MAX_JSON_BYTES}")
        values = parse_json(read_member(path, parts["json"].offset, parts["json"].size), where)
    sample = Sample(
        key,
        str(path),
        {name: Member(member.offset, member.size) for name, member in parts.items()},
        metadata_from_json(values),
        label=_text(values.get("label")),
        source=_text(values.get("source")),
        group=_text(values.get("group")) or "",
    )
    _ = sample.video_extension  # raises if there is none
    return sample


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
