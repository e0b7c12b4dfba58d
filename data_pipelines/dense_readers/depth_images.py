"""Pictures with depths: 16-bit PNGs as KITTI's, or an HDF5 file as NYU Depth v2's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data_pipelines.dense_labels import DenseClip
from data_pipelines.dense_readers.base import DenseSource, one_size
from data_pipelines.hdf5_files import HDF5_EXTENSIONS, has_array, open_hdf5, read_array
from data_pipelines.images import read_image, read_pixel_values
from data_pipelines.importers.base import SourceError

SUMMARY = "images/ and depth/ with 16-bit PNGs (KITTI: value / 256 metres), or NYU v2's .mat or .h5"
PICTURES, DEPTHS, SCALE = "images", "depth", "depth_scale.txt"
KITTI_VALUES_PER_METRE = 256.0
NYU_EXTENSIONS = (*HDF5_EXTENSIONS, ".mat")


def open_source(source: Path) -> DepthImages | NyuFile:
    """Opens a folder or an HDF5 file; see `base`.

    A folder may hold `depth_scale.txt`: how many values of its PNGs are a metre (1000 where they
    are millimetres); else they are KITTI's.

    Raises:
        SourceError: if it is neither.
    """
    if source.is_file() and source.suffix.lower() in NYU_EXTENSIONS:
        return NyuFile(source, _num_pictures(source))
    if not (source / PICTURES).is_dir() or not (source / DEPTHS).is_dir():
        raise SourceError(f"{source}: no folders {PICTURES} and {DEPTHS}, and no HDF5 file")
    depths = sorted((source / DEPTHS).rglob("*.png"))
    pairs = tuple((_picture_of(source, file), file) for file in depths)
    if not pairs:
        raise SourceError(f"{source / DEPTHS}: no depths (*.png)")
    return DepthImages(source, pairs, _values_per_metre(source / SCALE))


def _picture_of(source: Path, depth: Path) -> Path:
    place = source / PICTURES / depth.relative_to(source / DEPTHS)
    return next((p for end in (".png", ".jpg") if (p := place.with_suffix(end)).is_file()), place)


def _values_per_metre(file: Path) -> float:
    if not file.is_file():
        return KITTI_VALUES_PER_METRE
    try:
        values = float(file.read_text())
    except ValueError:
        values = 0.0
    if not 0 < values < np.inf:
        raise SourceError(f"{file} must hold one number above 0: how many values are a metre")
    return values


@dataclass(frozen=True)
class DepthImages(DenseSource):
    """Pictures, each a clip of one frame; a value of 0 is an unknown depth.

    Attributes:
        folder: as opened.
        pairs: picture and depth.
        values_per_metre: of the PNGs.
    """

    folder: Path
    pairs: tuple[tuple[Path, Path], ...]
    values_per_metre: float

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the depths, with their folders."""
        places = (depth.relative_to(self.folder / DEPTHS) for _, depth in self.pairs)
        return tuple("-".join(p.with_suffix("").parts).replace(" ", "_") for p in places)

    def clip(self, number: int) -> DenseClip:
        """Reads a picture; see `base`."""
        picture, file = self.pairs[number]
        if not picture.is_file():
            raise SourceError(f"{file}: there is no picture {picture.with_suffix('')} (.png, .jpg)")
        frame, values = read_image(picture), read_pixel_values(file)
        one_size(str(file), {frame.shape[:2], values.shape})
        metres = np.where(values > 0, values / self.values_per_metre, np.nan)
        return DenseClip(self.keys[number], frame[None], depth=metres.astype(np.float32)[None])


@dataclass(frozen=True)
class NyuFile(DenseSource):
    """The file of NYU Depth v2: `images` (n, 3, width, height) and `depths` (n, width, height).

    Files of single pictures, `rgb` (3, height, width) and `depth` (height, width), are read too.

    Attributes:
        file: as opened.
        num_pictures: in it.
    """

    file: Path
    num_pictures: int

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Numbers of the pictures."""
        return tuple(f"{self.file.stem}-{number:05d}" for number in range(self.num_pictures))

    def clip(self, number: int) -> DenseClip:
        """Reads a picture; see `base`."""
        rows = slice(number, number + 1)
        with open_hdf5(self.file) as file:
            if has_array(file, "rgb"):
                frame = read_array(file, "rgb", ndim=3).transpose(1, 2, 0)
                depth = read_array(file, "depth", ndim=2)
            else:  # MATLAB's order: the last axis first
                frame = read_array(file, "images", ndim=4, rows=rows)[0].transpose(2, 1, 0)
                depth = read_array(file, "depths", ndim=3, rows=rows)[0].T
        one_size(str(self.file), {frame.shape[:2], depth.shape})
        if frame.dtype != np.uint8:
            raise SourceError(f"{self.file}: pictures must be uint8, are {frame.dtype}")
        known = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)
        return DenseClip(self.keys[number], np.ascontiguousarray(frame)[None], depth=known[None])


def _num_pictures(path: Path) -> int:
    with open_hdf5(path) as file:
        if has_array(file, "rgb") and has_array(file, "depth"):
            return 1
        if not (has_array(file, "images") and has_array(file, "depths")):
            raise SourceError(f"{path}: no 'images' and 'depths', and no 'rgb' and 'depth'")
        return int(file["depths"].shape[0])
