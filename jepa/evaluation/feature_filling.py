"""Filling a feature cache so that a killed process loses no more than the batch it was at.

A row is on the disk before progress.json counts it, and meta.json, which says that a cache is
complete, comes last.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_pipelines.batch import SkippedSample
from jepa.evaluation.encoders import ProbeEncoder
from jepa.evaluation.labelled_clips import LabelledClips, LabelledSample

FEATURES, ROWS, META = "features.npy", "rows.npz", "meta.json"
PROGRESS, LOCK = "progress.json", "lock"
StoredType = Literal["float16", "float32"]


class Progress(NamedTuple):
    """How much of a cache is on the disk.

    Attributes:
        num_samples: samples looked at, from the first on.
        num_rows: rows written, from the first on.
        skipped: samples among them that could not be read.
    """

    num_samples: int = 0
    num_rows: int = 0
    skipped: tuple[SkippedSample, ...] = ()


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Keeps other processes out while a cache is filled.

    Raises:
        BlockingIOError: if another one is filling it.
    """
    with (place / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another process is filling the cache {place}") from None
        yield


class CacheFilling:
    """A cache that is being filled, block by block of samples.

    A block is as many samples as give a batch of rows, counted from the first: the same ones
    wherever a killed run goes on, so that the numbers are the same to the last bit.
    """

    def __init__(
        self,
        place: Path,
        encoder: ProbeEncoder,
        data: LabelledClips,
        batch_size: int,
        dtype: np.dtype,
    ) -> None:
        self.place, self.encoder, self.data = place, encoder, data
        self.batch_size, self.dtype = batch_size, dtype
        self.rows_per_sample = data.num_clips * data.num_views
        self.samples_per_block = max(1, batch_size // self.rows_per_sample)
        self.features = place / FEATURES

    def fill(
        self, num_workers: int, max_skipped_fraction: float, say: Callable[[str], None]
    ) -> None:
        """Encodes what is not on the disk yet."""
        rows, progress = self._open()
        self._refuse_too_many_skipped(progress, max_skipped_fraction)
        if progress.num_samples:
            say(f"going on after {progress.num_samples} of {len(self.data)} samples")
        for block in self._blocks(progress.num_samples, num_workers):
            progress = self._written(rows, progress, block)
            self._refuse_too_many_skipped(progress, max_skipped_fraction)
            say(f"{progress.num_samples} of {len(self.data)} samples encoded")

    def finish(self, about: dict[str, Any]) -> None:
        """Cuts off the rows of skipped samples, and writes what the rows are; meta.json last."""
        rows, progress = self._open()
        shape = (progress.num_rows, *rows.shape[1:])
        del rows
        skipped = {skip.key for skip in progress.skipped}
        if len(skipped) == len(self.data):
            raise ValueError(f"not one sample can be read; {': '.join(progress.skipped[0])}")
        _shorten(self.features, shape, self.dtype)
        kept = [n for n, key in enumerate(self.data.keys) if key not in skipped]
        write_whole(self.place / ROWS, _npz_bytes(_row_arrays(self.data, kept)))
        write_json(
            self.place / META,
            {
                **about,
                "shape": list(shape),
                "keys": [self.data.keys[n] for n in kept],
                "classes": None if self.data.classes is None else list(self.data.classes),
                "targets": list(self.data.targets),
                "skipped": [list(skip) for skip in (*self.data.left_out, *progress.skipped)],
            },
        )
        (self.place / PROGRESS).unlink()

    def _open(self) -> tuple[np.memmap, Progress]:
        """Returns the rows, to be written, and how many are; makes the files if need be."""
        shape = (len(self.data) * self.rows_per_sample, *self.encoder.feature_shape)
        if not (self.place / PROGRESS).is_file():
            _refuse_full_disk(self.place, shape, self.dtype)
            rows = np.lib.format.open_memmap(
                self.features, mode="w+", dtype=self.dtype, shape=shape, version=(1, 0)
            )
            rows.flush()
            write_json(self.place / PROGRESS, Progress()._asdict())
            return rows, Progress()
        values = json.loads((self.place / PROGRESS).read_text())
        skipped = tuple(SkippedSample(*skip) for skip in values["skipped"])
        rows = np.lib.format.open_memmap(self.features, mode="r+")
        return rows, Progress(values["num_samples"], values["num_rows"], skipped)

    def _blocks(
        self, first: int, num_workers: int
    ) -> Iterator[list[LabelledSample | SkippedSample]]:
        numbers = range(first, len(self.data))
        step = self.samples_per_block
        loader = DataLoader(
            _ItemsOf(self.data),
            batch_sampler=[list(numbers[n : n + step]) for n in range(0, len(numbers), step)],
            collate_fn=list,
            num_workers=num_workers,
        )
        yield from loader

    def _written(
        self,
        rows: np.memmap,
        progress: Progress,
        block: Sequence[LabelledSample | SkippedSample],
    ) -> Progress:
        """Encodes and writes a block; what the progress speaks of is on the disk before it does."""
        skipped = tuple(sample for sample in block if isinstance(sample, SkippedSample))
        videos = [sample.video for sample in block if not isinstance(sample, SkippedSample)]
        end = progress.num_rows
        for part in torch.cat(videos).split(self.batch_size) if videos else ():
            rows[end : end + len(part)] = _stored(self.encoder.encode(part), self.dtype)
            end += len(part)
        rows.flush()
        progress = Progress(progress.num_samples + len(block), end, (*progress.skipped, *skipped))
        write_json(self.place / PROGRESS, progress._asdict())
        return progress

    def _refuse_too_many_skipped(self, progress: Progress, max_skipped_fraction: float) -> None:
        skipped = progress.skipped
        if len(skipped) > max_skipped_fraction * len(self.data):
            raise ValueError(
                f"{len(skipped)} of {len(self.data)} samples cannot be read, more than the allowed "
                f"{max_skipped_fraction:.0%}; the first, {': '.join(skipped[0])}"
            )


class _ItemsOf(Dataset):
    """What a DataLoader asks for; a map over any set."""

    def __init__(self, data: LabelledClips) -> None:
        self.data = data.take(range(len(data)))  # with files of its own, for a forked process

    def __getitem__(self, number: int) -> LabelledSample | SkippedSample:
        return self.data[number]


def _row_arrays(data: LabelledClips, kept: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns the arrays of a `FeatureSet` but for its features, for the samples that are kept."""
    clips, views = data.num_clips, data.num_views
    names = [data.recordings[n] for n in kept]
    _, recordings = np.unique(names, return_inverse=True)
    return {
        "groups": np.repeat(np.arange(len(kept)), clips * views),
        "clips": np.tile(np.repeat(np.arange(clips), views), len(kept)),
        "views": np.tile(np.arange(views), len(kept) * clips),
        "labels": data.labels[list(kept)],
        "recordings": recordings.astype(np.int64),
    }


def _stored(features: Tensor, dtype: np.dtype) -> np.ndarray:
    """Returns features (rows, layers, tokens, dim) as they are stored.

    Raises:
        ValueError: if a number is not finite, or too large for the type.
    """
    stored = features.cpu().numpy()
    if not np.isfinite(stored).all():
        raise ValueError("the encoder gave features that are not finite numbers")
    if np.abs(stored).max() > np.finfo(dtype).max:
        raise ValueError(f"a feature is too large for {dtype}; store float32")
    return stored.astype(dtype)


def _shorten(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Leaves the first rows of an .npy file only; its header keeps its length."""
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        file.seek(0)
        described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, described)
        assert file.tell() == start, "NumPy leaves room for the first axis to grow"
        file.truncate(start + int(np.prod(shape)) * dtype.itemsize)
        file.flush()
        os.fsync(file.fileno())


def _refuse_full_disk(place: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    about = os.statvfs(place)
    needed, free = int(np.prod(shape)) * dtype.itemsize, about.f_bavail * about.f_frsize
    if needed > free:
        raise OSError(
            f"features {shape} as {dtype} take {needed / 1e9:.1f} GB, and {place} has "
            f"{free / 1e9:.1f} GB left: take fewer clips, views or layers, or another folder"
        )


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes values as JSON, as `write_whole` does."""
    write_whole(path, json.dumps(values, indent=1).encode())


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, and does not return before it is on the disk."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()
