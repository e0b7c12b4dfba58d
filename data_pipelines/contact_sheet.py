"""`jepa data viz`: what training would see of a set of shards, in one picture.

A row is a random clip: some of its frames, whole, with the crop that training would take; of a
trajectory also its states and actions. What cannot be read has a row too, which says why.
"""

from __future__ import annotations

import argparse
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
        "viz", parents=parents, help="a picture of random clips, with the crop of training"
    )
    verb.add_argument("shards", nargs="+", help="shard folders, tars or URLs")
    verb.add_argument("--out", required=True, metavar="PNG", help="the picture to write")
    verb.add_argument("--clips", type=int, default=12, help="rows (12)")
    verb.add_argument("--frames", type=int, default=8, help="shown of each clip (8)")
    verb.add_argument("--clip-length", type=int, default=16, help="frames of a clip (16)")
    verb.add_argument("--fps", type=float, help="of a clip; none takes consecutive frames")
    verb.add_argument("--image-size", type=int, default=256, help="of the crop, resized (256)")
    verb.add_argument("--seed", type=int, default=0, help="another one shows other clips")
    verb.add_argument("--decoder", metavar="NAME", default="decord", help="what decodes (decord)")
    verb.set_defaults(run=viz)


def viz(arguments: argparse.Namespace) -> int:
    """Writes a contact sheet."""
    from data_pipelines.contact_sheet_rows import SheetSettings

    settings = SheetSettings(
        num_clips=arguments.clips,
        num_frames=arguments.frames,
        clip_length_frames=arguments.clip_length,
        frames_per_second=arguments.fps,
        image_size=arguments.image_size,
        seed=arguments.seed,
        decoder=arguments.decoder,
    )
    sheet = make_contact_sheet(arguments.shards, arguments.out, settings)
    for row in sheet.unusable:
        print(f"unusable: {row.key}: {row.reason}")
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
    if any(row.crop is not None for row in rows):
        scale, ratio = settings.transform.scale, settings.transform.aspect_ratio
        yield (
            f"rectangle: the random crop of training ({scale[0]:g} to {scale[1]:g} of the area, "
            f"width / height {ratio[0]:g} to {ratio[1]:g}), resized to "
            f"{settings.image_size} x {settings.image_size}"
        )
    if any(row.columns for row in rows):
        yield "trajectories: frames are not cropped; each column is drawn from its min to its max"
