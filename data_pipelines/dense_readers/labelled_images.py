"""Pictures with a class at every pixel: VOC, ADE20K, Cityscapes, or two folders of one's own.

A label is a PNG of the same name whose pixels are class numbers. What the numbers mean is told by
`classes.txt` beside the folders, one name a line, from 0; else they are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.dense_labels import IGNORED, DenseClip
from data_pipelines.dense_readers.base import DenseSource, one_size
from data_pipelines.images import read_image, read_pixel_values
from data_pipelines.importers.base import SourceError

SUMMARY = "VOC, ADE20K, Cityscapes (labelTrainIds), or images/ and labels/: a PNG of classes each"
CLASSES = "classes.txt"
NOT_SCORED = 255  # in VOC its outlines, in Cityscapes what is left out


class _Layout(NamedTuple):
    """Where pictures and labels lie, below a folder.

    Attributes:
        pictures: folder of pictures.
        picture_end: how their names end.
        labels: folder of labels.
        label_end: how their names end; what is before it is the same.
        zero_is_unlabelled: 0 is no class, and classes count from 1.
    """

    pictures: str
    picture_end: str
    labels: str
    label_end: str
    zero_is_unlabelled: bool = False


LAYOUTS = (
    _Layout("JPEGImages", ".jpg", "SegmentationClass", ".png"),  # PASCAL VOC
    _Layout("images", ".jpg", "annotations", ".png", zero_is_unlabelled=True),  # ADE20K
    _Layout("leftImg8bit", "_leftImg8bit.png", "gtFine", "_gtFine_labelTrainIds.png"),
    _Layout("images", ".jpg", "labels", ".png"),
    _Layout("images", ".png", "labels", ".png"),
)


def open_source(source: Path) -> LabelledImages:
    """Opens a folder; see `base`.

    Raises:
        SourceError: if it has none of the layouts.
    """
    for layout in LAYOUTS:
        labels = source / layout.labels
        if (source / layout.pictures).is_dir() and labels.is_dir():
            files = sorted(labels.rglob(f"*{layout.label_end}"))
            pairs = [(_picture_of(source, layout, file), file) for file in files]
            there = tuple((picture, file) for picture, file in pairs if picture.is_file())
            if there:
                return LabelledImages(source, there, layout.zero_is_unlabelled, _names(source))
    raise SourceError(
        f"{source}: no folders of pictures and labels: "
        + ", ".join(f"{layout.pictures} and {layout.labels}" for layout in LAYOUTS[:4])
    )


def _picture_of(source: Path, layout: _Layout, label: Path) -> Path:
    place = label.relative_to(source / layout.labels)
    name = place.name.removesuffix(layout.label_end) + layout.picture_end
    return source / layout.pictures / place.with_name(name)


def _names(source: Path) -> tuple[str, ...]:
    if not (source / CLASSES).is_file():
        return ()
    lines = (source / CLASSES).read_text().splitlines()
    return tuple(line.strip() for line in lines if line.strip())


@dataclass(frozen=True)
class LabelledImages(DenseSource):
    """Pictures, each a clip of one frame.

    Attributes:
        folder: as opened.
        pairs: picture and label.
        zero_is_unlabelled: see `_Layout`.
        names: of the classes; () if nobody tells.
    """

    folder: Path
    pairs: tuple[tuple[Path, Path], ...]
    zero_is_unlabelled: bool
    names: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the labels, with their folders."""
        places = (label.relative_to(self.folder).with_suffix("") for _, label in self.pairs)
        return tuple("-".join(place.parts[1:]).replace(" ", "_") for place in places)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: of 255 possible ones, where nobody tells."""
        return self.names or tuple(f"class {number}" for number in range(NOT_SCORED))

    def clip(self, number: int) -> DenseClip:
        """Reads a picture; see `base`.

        Raises:
            SourceError: if sizes differ, or a label has a class that has no name.
        """
        picture, file = self.pairs[number]
        frame, values = read_image(picture), read_pixel_values(file).astype(np.int64)
        one_size(str(file), {frame.shape[:2], values.shape})
        is_scored = values != NOT_SCORED
        if self.zero_is_unlabelled:
            is_scored &= values != 0
            values = values - 1
        known = values[is_scored]
        if known.size and known.max() >= len(self.class_names):
            raise SourceError(
                f"{file}: class {known.max()}, but there are {len(self.class_names)}, from 0"
            )
        return DenseClip(
            key=self.keys[number],
            frames=frame[None],
            object_ids=np.where(is_scored, values, IGNORED).astype(np.uint16)[None],
            object_classes=tuple(range(len(self.class_names))),
            class_names=self.class_names,
        )
