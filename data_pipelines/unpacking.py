"""Unpacking: shards become a folder of videos with a list of them, which `pack` takes back."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.manifest import SkippedVideo
from data_pipelines.sample_copying import (
    OutgoingSample,
    ShardSet,
    explain_bad_key,
    load_sets,
    plain_reason,
    raise_if_unreachable,
    read_members,
    refuse_out_in_inputs,
    refuse_repeated_keys,
)
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import Shards
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shard_writing import write_whole
from data_pipelines.tar_headers import ShardError

LIST_NAME = "videos.csv"
SPECIFICATION_NAME = "specification.json"


@dataclass(frozen=True)
class UnpackResult:
    """What was written.

    Attributes:
        folder: where the videos are.
        rows: of the list, column -> value.
        skipped: samples that could not be read.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    skipped: tuple[SkippedVideo, ...]


def unpack_shards(shards: Shards, out: str | Path, *, overwrite: bool = False) -> UnpackResult:
    """Writes each video or image as `key.mp4` (or its own extension), and `videos.csv` last.

    Beside trajectories lie `key.states.npy` and `key.actions.npy`, and what the columns mean is in
    `specification.json`. A new folder appears whole or not at all; with overwrite, files of the
    same names are replaced one by one and all others are left alone.

    Args:
        shards: as for `ShardIndex.load`.
        out: the folder to make.
        overwrite: write into a folder that holds something.

    Raises:
        FileNotFoundError: if a set is missing.
        ValueError: if no sample can be read.
        ShardError: if a key comes twice, if `out` is not empty and overwrite is False, if it is
            one of the sets, or if a set cannot be read.
    """
    out = Path(out)
    sets = load_sets(shards)
    refuse_out_in_inputs(out, sets)
    samples = [sample for one in sets for sample in one.index.samples]
    refuse_repeated_keys(
        [OutgoingSample(sample, sample.key, sample.group) for sample in samples],
        advice="merge the sets first, with --prefix-keys",
    )
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not overwrite:
        raise ShardError(f"{out} is not empty; choose another folder or --overwrite its files")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        rows, skipped = _write_samples(samples, unfinished)
        if not rows:
            raise ValueError(
                f"no usable sample: {len(skipped)} of {len(skipped)} skipped; "
                f"first: {skipped[0].path}: {skipped[0].reason}"
            )
        _write_specification(sets, unfinished)
        write_whole(unfinished / LIST_NAME, _csv_bytes(rows))
        _put_in_place(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return UnpackResult(out, tuple(rows), tuple(skipped))


def _write_samples(
    samples: Sequence[Sample], folder: Path
) -> tuple[list[dict[str, Any]], list[SkippedVideo]]:
    """Returns the rows of the list, and what cannot be written."""
    reader = ShardReader()
    rows, skipped = [], []
    for sample in samples:
        if reason := explain_bad_key(sample.key, tuple(sample.members)):
            skipped.append(SkippedVideo(sample.key, reason))
            continue
        try:
            members = read_members(reader, sample)
        except ShardError as error:
            raise_if_unreachable(error)
            skipped.append(SkippedVideo(sample.key, plain_reason(error, sample)))
            continue
        wanted = (_extension(sample), *((STATES, ACTIONS) if sample.is_trajectory else ()))
        for extension in wanted:
            path = folder / f"{sample.key}.{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(members[extension])
        rows.append(_row(sample))
    reader.close()
    return rows, skipped


def _row(sample: Sample) -> dict[str, Any]:
    metadata = sample.metadata
    return {
        "path": f"{sample.key}.{_extension(sample)}",
        "label": sample.label,
        "source": sample.source,
        "group": sample.group,
        "num_frames": metadata and metadata.num_frames,
        "frames_per_second": metadata and metadata.frames_per_second,
        "duration_seconds": metadata and metadata.duration_seconds,
    }


def _extension(sample: Sample) -> str:
    return sample.image_extension if sample.is_image else sample.video_extension


def _write_specification(sets: Sequence[ShardSet], folder: Path) -> None:
    specification = sets[0].index.specification
    if specification is not None:
        text = json.dumps(specification.to_json(), indent=1)
        write_whole(folder / SPECIFICATION_NAME, text.encode())


def _csv_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _put_in_place(unfinished: Path, out: Path) -> None:
    """Gives the folder its name, or moves its files into the one that is there, the list last."""
    if not out.exists() or not any(out.iterdir()):
        if out.exists():
            out.rmdir()
        os.replace(unfinished, out)
        return
    (out / LIST_NAME).unlink(missing_ok=True)
    for path in sorted(_files(unfinished), key=lambda path: path.name == LIST_NAME):
        target = out / path.relative_to(unfinished)
        if not target.parent.resolve().is_relative_to(out.resolve()):
            raise ShardError(f"{target.parent} is a link to another place; nothing goes there")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
