"""Unpacking: shards become a folder of files with a list of them, which `pack` takes back."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.manifest import SkippedVideo
from data_pipelines.sample_copying import (
    Layout,
    ShardSet,
    explain_bad_key,
    load_sets,
    make_copy_plan,
    plain_reason,
    raise_if_unreachable,
    read_members,
    refuse_out_in_inputs,
    refuse_repeated_keys,
    unchanged,
)
from data_pipelines.samples import ACTIONS, STATES, Member, Sample
from data_pipelines.shard_index import Shards
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError
from data_pipelines.unpack_staging import FolderInProgress

VIDEO_LIST_NAME, IMAGE_LIST_NAME = "videos.csv", "images.csv"
SPECIFICATION_NAME = "specification.json"


@dataclass(frozen=True)
class UnpackResult:
    """What was written.

    Attributes:
        folder: where the files are.
        rows: of the lists, column -> value.
        skipped: samples that could not be read.
        lists: names of the lists in the folder.
        was_there: the folder was finished before, and nothing was done.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    skipped: tuple[SkippedVideo, ...]
    lists: tuple[str, ...]
    was_there: bool = False


def unpack_shards(shards: Shards, out: str | Path, *, overwrite: bool = False) -> UnpackResult:
    """Writes each video or image as `key.mp4` (or its own extension), and lists of them last.

    Videos are in `videos.csv`, images in `images.csv`. Beside trajectories lie `key.states.npy` and
    `key.actions.npy`, and what the columns mean is in `specification.json`.

    A new folder appears whole or not at all. A run that was stopped goes on when it is asked for
    again: files that are finished are not written twice. With overwrite, files of the same names
    are replaced one by one and all others are left alone.

    Args:
        shards: as for `ShardIndex.load`.
        out: the folder to make.
        overwrite: write into a folder that holds something.

    Raises:
        FileNotFoundError: if a set is missing.
        ValueError: if no sample can be read.
        ShardError: if a key comes twice, if `out` is not empty and overwrite is False, if it is
            one of the sets, if an unfinished unpacking of other samples is in the way, or if a set
            cannot be read.
    """
    out = Path(out)
    sets = load_sets(shards)
    refuse_out_in_inputs(out, sets)
    samples = [sample for one in sets for sample in one.index.samples]
    outgoing = unchanged(samples)
    refuse_repeated_keys(outgoing, advice="merge the sets first, with --prefix-keys")
    specification = sets[0].index.specification
    plan = make_copy_plan(outgoing, {"verb": "unpack"}, Layout(), specification=specification)
    with FolderInProgress(out, plan, overwrite=overwrite) as new:
        if new.finished is not None:
            _refuse_changed(out, samples, new.finished)
            return _result(out, samples, new.finished, was_there=True)
        skipped = _write_samples(samples, new) if new.written is None else new.written
        result = _result(out, samples, skipped)
        if not result.rows:
            new.abandon()
            raise ValueError(
                f"no usable sample: {len(skipped)} of {len(skipped)} skipped; "
                f"first: {skipped[0].path}: {skipped[0].reason}"
            )
        new.finish({**_specification_file(sets), **_list_files(result)}, skipped)
    return result


def _write_samples(samples: Sequence[Sample], new: FolderInProgress) -> tuple[SkippedVideo, ...]:
    """Writes the files that are missing; returns what cannot be written."""
    reader = ShardReader()
    skipped = []
    for sample in samples:
        if reason := explain_bad_key(sample.key, tuple(sample.members)):
            skipped.append(SkippedVideo(sample.key, reason))
            continue
        try:
            wanted = _wanted(sample)
            missing = [name for name in wanted if not _is_finished(new.files, sample, name)]
            members = read_members(reader, sample) if missing else {}
        except ShardError as error:
            raise_if_unreachable(error)
            skipped.append(SkippedVideo(sample.key, plain_reason(error, sample)))
            continue
        for extension in missing:
            new.keep(f"{sample.key}.{extension}", members[extension])
    reader.close()
    return tuple(skipped)


def _is_finished(folder: Path, sample: Sample, extension: str) -> bool:
    """Returns whether a file is there, and is what was packed as far as the index can tell."""
    path, member = folder / f"{sample.key}.{extension}", sample.members[extension]
    if not _has_size(path, member):
        return False
    return member.crc32 is None or zlib.crc32(path.read_bytes()) == member.crc32


def _has_size(path: Path, member: Member) -> bool:
    return path.is_file() and path.stat().st_size == member.size


def _refuse_changed(out: Path, samples: Sequence[Sample], skipped: Sequence[SkippedVideo]) -> None:
    """Raises if a file of a finished folder is gone or has another size."""
    left_out = {one.path for one in skipped}
    for sample in samples:
        for extension in _wanted(sample) if sample.key not in left_out else ():
            path = out / f"{sample.key}.{extension}"
            if not _has_size(path, sample.members[extension]):
                raise ShardError(
                    f"{path} is gone or was changed since it was unpacked; --overwrite writes all "
                    "files of the shards anew"
                )


def _result(
    out: Path,
    samples: Sequence[Sample],
    skipped: Sequence[SkippedVideo],
    *,
    was_there: bool = False,
) -> UnpackResult:
    left_out = {one.path for one in skipped}
    written = [sample for sample in samples if sample.key not in left_out]
    names = sorted({_list_name(sample.is_image) for sample in written}, reverse=True)
    rows = tuple(_row(sample) for sample in written)
    return UnpackResult(out, rows, tuple(skipped), tuple(names), was_there)


def _list_name(is_image: bool) -> str:
    return IMAGE_LIST_NAME if is_image else VIDEO_LIST_NAME


def _row(sample: Sample) -> dict[str, Any]:
    row = {
        "path": f"{sample.key}.{_wanted(sample)[0]}",
        "label": sample.label,
        "source": sample.source,
        "group": sample.group,
    }
    if sample.is_image:
        return row
    metadata = sample.metadata
    return row | {
        "num_frames": metadata and metadata.num_frames,
        "frames_per_second": metadata and metadata.frames_per_second,
        "duration_seconds": metadata and metadata.duration_seconds,
    }


def _wanted(sample: Sample) -> tuple[str, ...]:
    """Returns the extensions of the members that become files, the video or image first."""
    if sample.is_image:
        return (sample.image_extension,)
    return (sample.video_extension, *((STATES, ACTIONS) if sample.is_trajectory else ()))


def _specification_file(sets: Sequence[ShardSet]) -> dict[str, bytes]:
    specification = sets[0].index.specification
    if specification is None:
        return {}
    return {SPECIFICATION_NAME: json.dumps(specification.to_json(), indent=1).encode()}


def _list_files(result: UnpackResult) -> dict[str, bytes]:
    """Returns the lists of videos and of images, those that have rows."""
    images = [row for row in result.rows if "num_frames" not in row]
    videos = [row for row in result.rows if "num_frames" in row]
    rows_of = {VIDEO_LIST_NAME: videos, IMAGE_LIST_NAME: images}
    return {name: _csv_bytes(rows_of[name]) for name in result.lists}


def _csv_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
