"""Our own format: a folder of `.npz` clips, see `data_pipelines.dense_labels`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_pipelines.dense_labels import SUFFIX, DenseClip, read_dense_clip
from data_pipelines.dense_readers.base import DenseSource
from data_pipelines.importers.base import SourceError

SUMMARY = "a folder of .npz clips, as `jepa dense make` and recordings write them"


def open_source(source: Path) -> ClipFolder:
    """Opens a folder; see `base`."""
    files = sorted(source.glob(f"*{SUFFIX}")) if source.is_dir() else []
    if not files:
        raise SourceError(f"{source}: no folder with {SUFFIX} clips")
    return ClipFolder(tuple(files))


@dataclass(frozen=True)
class ClipFolder(DenseSource):
    """The clips of a folder, by name.

    Attributes:
        files: one per clip.
    """

    files: tuple[Path, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the files, without the suffix."""
        return tuple(file.stem for file in self.files)

    def clip(self, number: int) -> DenseClip:
        """Reads a clip; see `base`."""
        return read_dense_clip(self.files[number])
