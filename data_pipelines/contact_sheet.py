"""`jepa data viz`: what training would see of a set of shards, in one picture.

A row is a random clip: some of its frames, whole, with the crops that training would take; of a
trajectory also its states and actions. What cannot be read has a row too, which says why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # their libraries are slow to import, and `--help` needs none
    from data_pipelines.contact_sheet_rows import Row, SheetSettings
    from data_pipelines.shard_index import ShardIndex, Shards


@dataclass(frozen=True)
class ContactSheet:
    """What a sheet shows.

    Attributes:
        path: of the PNG.
        rows: from top to bottom.
        num_samples: in the shards.
    """

    path: Path
    rows: tuple[Row, ...]
    num_samples: int

    @property
    def unusable(self) -> tuple[Row, ...]:
        """Returns the rows of clips that cannot be read, or are too short."""
        return tuple(row for row in self.rows if row.reason is not None)


def make_contact_sheet(shards: Shards, out: str | Path, settings: SheetSettings) -> ContactSheet:
    """Draws random clips of shards.

    Args:
        shards: as in `ShardIndex.load`.
        out: the PNG to write.
        settings: which clips, and how many frames of each.

    Raises:
        FileNotFoundError: if there are no such shards.
        ValueError: if the name of the picture does not end in .png.
        ShardError: if an index is damaged.
    """
    from data_pipelines.contact_sheet_drawing import draw_sheet, png_bytes
    from data_pipelines.contact_sheet_rows import read_rows
    from data_pipelines.shard_index import ShardIndex
    from data_pipelines.shard_writing import write_whole

    out = Path(out)
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: the name of a contact sheet ends in .png")
    index = ShardIndex.load(shards, verify_files=False)  # a shard that is cut shows what is left
    rows = tuple(read_rows(index, settings))
    places = [shards] if isinstance(shards, str | Path) else shards
    title = ", ".join(str(place) for place in places)
    picture = draw_sheet(rows, title=title, about=list(_about(index, settings, rows)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, png_bytes(picture))
    return ContactSheet(out, rows, index.num_samples)


def add_verbs(verbs: Any, parents: Sequence[argparse.ArgumentParser]) -> None:  # noqa: ANN401
    """Adds `viz` to a parser's verbs.

    Args:
        verbs: what `add_subparsers` returned.
        parents: parsers of the options that all verbs have.
    """
    verb = verbs.add_parser(
        "viz", parents=parents, help="a picture of random clips, with the crops of training"
    )
    verb.add_argument("shards", nargs="+", help="shard folders, tars or URLs")
    verb.add_argument("--out", required=True, metavar="PNG", help="the picture to write")
    verb.add_argument("--clips", type=int, default=12, help="rows (12)")
    verb.add_argument("--frames", type=int, default=8, help="shown of each clip (8)")
    verb.add_argument("--clip-length", type=int, default=16, help="frames of a clip (16)")
    verb.add_argument("--fps", type=float, help="of a clip; none takes consecutive frames")
    _add_crop(verb)
    verb.add_argument("--seed", type=int, default=0, help="another one shows other clips")
    verb.add_argument("--decoder", metavar="NAME", default="decord", help="what decodes (decord)")
    verb.set_defaults(run=viz)


def _add_crop(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group(
        "crops", "as in the data part of a training's config, with the same defaults"
    )
    group.add_argument("--image-size", type=int, default=256, help="of a crop, resized (256)")
    group.add_argument(
        "--crop-scale",
        type=float,
        nargs=2,
        default=(0.3, 1.0),
        metavar=("LEAST", "MOST"),
        help="part of the frame's area that a crop keeps (0.3 1)",
    )
    group.add_argument(
        "--crop-aspect-ratio",
        type=float,
        nargs=2,
        default=(0.75, 1.35),
        metavar=("LEAST", "MOST"),
        help="width / height of a crop (0.75 1.35)",
    )
    group.add_argument("--no-horizontal-flip", action="store_true", help="mirror none of them")
    group.add_argument("--crops", type=int, default=1, help="random draws of each clip (1)")


def viz(arguments: argparse.Namespace) -> int:
    """Writes a contact sheet; 1 if it shows nothing but reasons."""
    from data_pipelines.contact_sheet_rows import SheetSettings

    settings = SheetSettings(
        num_clips=arguments.clips,
        num_frames=arguments.frames,
        clip_length_frames=arguments.clip_length,
        frames_per_second=arguments.fps,
        image_size=arguments.image_size,
        crop_scale=tuple(arguments.crop_scale),
        crop_aspect_ratio=tuple(arguments.crop_aspect_ratio),
        horizontal_flip=not arguments.no_horizontal_flip,
        num_crops=arguments.crops,
        seed=arguments.seed,
        decoder=arguments.decoder,
    )
    sheet = make_contact_sheet(arguments.shards, arguments.out, settings)
    for row in sheet.unusable:
        print(f"unusable: {row.key}: {row.reason}")
    if len(sheet.unusable) == len(sheet.rows):
        first = sheet.rows[0]
        print(
            f"nothing to show: {len(sheet.rows)} of {len(sheet.rows)} samples cannot be used; "
            f"first: key '{first.key}': {first.reason}",
            file=sys.stderr,
        )
        return 1
    print(
        f"wrote {len(sheet.rows)} of {sheet.num_samples} samples to {sheet.path}, "
        f"unusable: {len(sheet.unusable)}"
    )
    return 0


def _about(index: ShardIndex, settings: SheetSettings, rows: tuple[Row, ...]) -> Iterator[str]:
    """Yields lines that say what the sheet shows."""
    rate = settings.frames_per_second
    at = "consecutive" if rate is None else f"at {rate:g} per second"
    yield (
        f"{len(rows)} of {index.num_samples} samples, seed {settings.seed}; clips of "
        f"{settings.clip_length_frames} frames ({at}), {settings.num_frames} of them shown"
    )
    if any(row.crops for row in rows):
        scale, ratio, size = settings.crop_scale, settings.crop_aspect_ratio, settings.image_size
        what = "rectangle: the random crop of training"
        if settings.num_crops > 1:
            what = f"rectangles: {settings.num_crops} random crops of training"
        yield (
            f"{what} ({scale[0]:g} to {scale[1]:g} of the area, width / height {ratio[0]:g} to "
            f"{ratio[1]:g}), resized to {size} x {size}"
        )
    if any(row.columns for row in rows):
        yield "trajectories: frames are not cropped; each column is drawn from its min to its max"
