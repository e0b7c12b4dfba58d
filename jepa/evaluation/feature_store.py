"""Features of a data set, computed once and kept on the disk: killed at any moment, it goes on.

    store = FeatureStore.build(None, load_probe_encoder("two_rooms"), labelled_clips)
    for batch in store.as_set().batches(32): ...

A cache is a folder named by a hash of all that decides the numbers in it (encoder, data, clips,
type), inside the folder that is given; other encoders and data lie beside it. It holds

    features.npy   (rows, layers, tokens, dim), read as a memory map
    rows.npz       which sample, clip and view a row is; labels
    meta.json      names, shapes, fingerprints, and what was skipped; written last

and, until it is complete, progress.json, which says how many rows are on the disk. Nothing in it is
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.batch import SkippedSample
from jepa.evaluation.encoders import ProbeEncoder
from jepa.evaluation.feature_filling import (
    FEATURES,
    META,
    PROGRESS,
    ROWS,
    CacheFilling,
    StoredType,
    locked,
)
from jepa.evaluation.feature_set import FeatureBatch, FeatureSet
from jepa.evaluation.labelled_clips import LabelledClips

__all__ = ["FeatureBatch", "FeatureSet", "FeatureStore", "default_cache_folder"]

FORMAT = "jepa-features-1"


@dataclass(frozen=True)
class FeatureStore:
    """A complete cache.

    Attributes:
        folder: with meta.json.
        meta: what meta.json says.
        was_cached: whether all of it was there before, and nothing was encoded.
    """

    folder: Path
    meta: dict[str, Any]
    was_cached: bool = True

    @classmethod
    def build(
        cls,
        folder: str | Path | None,
        encoder: ProbeEncoder,
        data: LabelledClips,
        *,
        batch_size: int = 16,
        dtype: StoredType = "float16",
        num_workers: int = 0,
        max_skipped_fraction: float = 0.05,
        say: Callable[[str], None] | None = None,
    ) -> FeatureStore:
        """Returns the features of all samples: read if they are there, else encoded now.

        What was begun and killed goes on with the first batch that is not on the disk, and ends
        with the same bytes.

        Args:
            folder: gets a folder named by a hash; None: `default_cache_folder()`.
            encoder: on the device where it is to compute.
            data: samples that become rows.
            batch_size: rows encoded at once.
            dtype: of the features on the disk.
            num_workers: processes that decode; 0: this one.
            max_skipped_fraction: stop if more of the samples cannot be read.
            say: is told what is done, a line at a time.

        Raises:
            ValueError: if a setting is out of range, too many samples cannot be read, or a feature
                is not finite or too large for the type.
            BlockingIOError: if another process is filling this cache.
            OSError: if the disk is too small.
        """
        if batch_size < 1 or not 0 <= max_skipped_fraction <= 1:
            raise ValueError(
                f"batch_size must be at least 1 and max_skipped_fraction in [0, 1], got "
                f"{batch_size} and {max_skipped_fraction}"
            )
        about = _about(encoder, data, dtype)
        root = default_cache_folder() if folder is None else Path(folder)
        place = root / hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        if (place / META).is_file():
            return cls.open(place)
        place.mkdir(parents=True, exist_ok=True)
        with locked(place):
            if not (place / META).is_file():
                filling = CacheFilling(place, encoder, data, batch_size, np.dtype(dtype))
                filling.fill(num_workers, max_skipped_fraction, say or _be_silent)
                filling.finish(about)
        return cls(place, _read_meta(place), was_cached=False)

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Returns a complete cache.

        Raises:
            FileNotFoundError: if there is none, or it is not complete.
            ValueError: if its files do not go together.
        """
        folder = Path(folder)
        if not (folder / META).is_file():
            begun = " was begun and is not complete" if (folder / PROGRESS).is_file() else ""
            raise FileNotFoundError(f"no feature cache: {folder}{begun} (no {META})")
        return cls(folder, _read_meta(folder))

    @property
    def features(self) -> np.ndarray:
        """Returns (rows, layers, tokens, dim), a read-only memory map."""
        return np.load(self.folder / FEATURES, mmap_mode="r", allow_pickle=False)

    @property
    def skipped(self) -> tuple[SkippedSample, ...]:
        """Returns the samples that could not be read, and why."""
        return tuple(SkippedSample(*skip) for skip in self.meta["skipped"])

    def as_set(self) -> FeatureSet:
        """Returns the features with their labels; features stay on the disk until they are read.

        Raises:
            ValueError: if the files do not go together.
        """
        with np.load(self.folder / ROWS, allow_pickle=False) as rows:
            arrays = {name: rows[name] for name in rows.files}
        return FeatureSet(
            self.features,
            keys=self.meta["keys"],
            classes=self.meta["classes"],
            targets=tuple(self.meta["targets"]),
            **arrays,
        )


def default_cache_folder() -> Path:
    """Returns the user's: $XDG_CACHE_HOME/jepa/features, or ~/.cache/jepa/features."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "jepa" / "features"


def _about(encoder: ProbeEncoder, data: LabelledClips, dtype: str) -> dict[str, Any]:
    """Returns all that decides the numbers of a cache."""
    if dtype not in ("float16", "float32"):
        raise ValueError(f"features are stored as float16 or float32, got {dtype!r}")
    return {
        "format": FORMAT,
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "data": data.fingerprint,
        "num_clips": data.num_clips,
        "num_views": data.num_views,
        "dtype": dtype,
    }


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / META).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / META} is damaged ({error}); remove the folder") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"{folder / META} is no feature cache of format {FORMAT}")
    return meta


def _be_silent(_: str) -> None:
    pass
