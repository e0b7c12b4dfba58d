"""The index of one tar, from its headers and its small JSON members."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from data_pipelines.manifest import SkippedVideo
from data_pipelines.remote_files import RemoteFile, RemoteFiles
from data_pipelines.samples import (
    Member,
    Sample,
    Shard,
    metadata_from_json,
    name_of_shard,
    parse_json,
)
from data_pipelines.tar_headers import (
    BLOCK,
    ShardError,
    TarFault,
    TarMember,
    open_tar,
    split_name,
    survey_open_tar,
)
from data_pipelines.urls import shown
from data_pipelines.video_sources import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS

MAX_JSON_BYTES = 1 << 20


def index_tar(path: str | Path, *, remote: RemoteFiles | None = None) -> Shard:
    """Builds the index of one tar from its headers and its small JSON members.

    A sample that cannot be used is left out and named, with the reason, in the shard's `damaged`:
    one without a video or image, with a JSON member that cannot be read, with a member that is cut
    off, or whose key comes twice (nobody can say which is meant, so none is taken). JSON may be
    missing. Where a header is damaged, the walk goes on at the next whole one; a sample beside the
    gap that lacks a member which the others have is left out too, for it may have been there.

    Args:
        path: a path, or a URL, of which headers and JSON members alone are fetched, and what lies
            between a damaged header and the next whole one.
        remote: how to read a URL; None takes the usual patience.

    Raises:
        ShardError: if nothing of it can be used, or if a global PAX header renames all members.
        OSError: if the file cannot be read.
    """
    name, grouping = shown(str(path)), _Grouping(name_of_shard(str(path)))
    with open_tar(path, remote=remote) as file:
        num_bytes = file.seek(0, os.SEEK_END)
        for found in survey_open_tar(file, name):
            grouping.add(found)
        samples = _samples(file, str(path), grouping)
    damaged = grouping.damaged
    if damaged and not samples:
        raise ShardError(f"{name}: {grouping.first_fault or next(iter(damaged.values()))}")
    left_out = [SkippedVideo(key, f"{grouping.tar}: {reason}") for key, reason in damaged.items()]
    return Shard(str(path), num_bytes, tuple(samples), damaged=tuple(left_out))


@dataclass(frozen=True)
class _Group:
    """Members that lie together and share a key.

    Attributes:
        key: what their names begin with.
        parts: extension -> member.
        gaps: damaged places beside or between them, where more of them may have been: place -> why.
    """

    key: str
    parts: dict[str, TarMember] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> frozenset[str]:
        """Returns the extensions, all those of videos or images as one."""
        pixels = {*VIDEO_EXTENSIONS, *IMAGE_EXTENSIONS}
        return frozenset("video or image" if name in pixels else name for name in self.parts)


class _Grouping:
    """The members of one tar by key, and what of it is damaged.

    Args:
        tar: its name, for places of which no key is known.

    Attributes:
        groups: in the order of the tar.
        damaged: key, or place in the tar if no key is known -> why it cannot be used.
        first_fault: of the tar itself, "" if it has none.
    """

    def __init__(self, tar: str) -> None:
        self.tar = tar
        self.groups: list[_Group] = []
        self.damaged: dict[str, str] = {}
        self.first_fault = ""
        self._keys: set[str] = set()
        self._gap: dict[str, str] = {}  # the damaged place right before the next member

    def add(self, found: TarMember | TarFault) -> None:
        """Takes what comes next in the tar."""
        key, extension = _split(found.name or "")
        if isinstance(found, TarFault):
            place = key or (f"{self.tar}/{found.name}" if found.name else "")
            self._add_fault(place or f"{self.tar} at byte {found.offset}", found)
        elif key:
            self._add_member(key, extension, found)
        else:
            said = f"member '{found.name}' has no key or no extension"
            self.damaged[f"{self.tar}/{found.name}"] = said

    def _add_fault(self, place: str, fault: TarFault) -> None:
        left_out = fault.end - fault.offset
        reason = f"{fault.reason}; {left_out} bytes are left out" if left_out else fault.reason
        self.damaged.setdefault(place, reason)
        self.first_fault = self.first_fault or fault.reason
        if fault.name is None:
            self._gap = {place: reason}
            if self.groups:
                self.groups[-1].gaps.update(self._gap)

    def _add_member(self, key: str, extension: str, member: TarMember) -> None:
        if not self.groups or self.groups[-1].key != key:
            if key in self._keys:
                self.damaged.setdefault(key, f"key '{key}' reappears at byte {member.offset}")
            self.groups.append(_Group(key))
            self._keys.add(key)
        group = self.groups[-1]
        if extension in group.parts:
            self.damaged.setdefault(key, f"member '{member.name}' comes twice")
        group.parts[extension] = member
        group.gaps.update(self._gap)
        self._gap = {}


def _split(name: str) -> tuple[str, str]:
    """Returns key and extension, both empty if the name has none."""
    try:
        return split_name(name)
    except ShardError:
        return "", ""


def _samples(file: BinaryIO | RemoteFile, path: str, grouping: _Grouping) -> list[Sample]:
    """Returns the samples that can be used; the others become damaged."""
    usual = _usual_kinds(grouping.groups)
    samples = []
    for group in grouping.groups:
        if group.key in grouping.damaged:
            continue
        try:
            sample = _sample_of_members(file, path, group.key, group.parts)
            _refuse_lost_members(group, usual)
            _refuse_zeroed_end(file, group)
        except ShardError as error:
            reason = str(error).removeprefix(f"{shown(path)}: ")
            for place in group.gaps:  # what was there has a name now
                grouping.damaged.pop(place, None)
            grouping.damaged[group.key] = "; ".join([reason, *group.gaps.values()])
        else:
            samples.append(sample)
    return samples


def _usual_kinds(groups: Sequence[_Group]) -> frozenset[str]:
    """Returns what most samples consist of, of those that certainly lost nothing."""
    kinds = Counter(group.kinds for group in groups if not group.gaps)
    return kinds.most_common(1)[0][0] if kinds else frozenset()


def _refuse_lost_members(group: _Group, usual: frozenset[str]) -> None:
    lost = usual - group.kinds
    if group.gaps and lost:
        raise ShardError(f"sample '{group.key}' has no {', '.join(sorted(lost))}")


def _refuse_zeroed_end(file: BinaryIO | RemoteFile, group: _Group) -> None:
    """Raises if the last block of a sample is zeros and a gap is beside it, which began earlier."""
    last = max(group.parts.values(), key=lambda member: member.offset)
    if not group.gaps or not last.size:
        return
    size = 1 + (last.size - 1) % BLOCK  # of its bytes in that block
    file.seek(last.offset + last.size - size)
    if not file.read(size).strip(b"\0"):
        raise ShardError(f"'{last.name}' ends in zeros, beside what is damaged")


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
