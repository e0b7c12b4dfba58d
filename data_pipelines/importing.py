"""`jepa data import FORMAT SOURCE OUT` and `jepa data export lerobot SHARDS OUT`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_pipelines.importers.base import importer_module, summaries

if TYPE_CHECKING:
    from data_pipelines.episode_packing import ImportResult


def add_verbs(verbs: Any, parents: Sequence[argparse.ArgumentParser]) -> None:  # noqa: ANN401
    """Adds `import` and `export` to a parser's verbs; imports no library of any format.

    Args:
        verbs: what `add_subparsers` returned.
        parents: parsers of the options that all verbs have.
    """
    formats = summaries()
    verb = verbs.add_parser(
        "import",
        parents=parents,
        help="other programs' data sets to trajectory shards",
        description="Makes trajectory shards of a data set that another program wrote. An episode "
        "that cannot be used is named and left out; an import that was stopped goes on when it is "
        "started again.",
        epilog="formats:\n" + "".join(f"  {name:<12} {line}\n" for name, line in formats.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "format", choices=sorted(formats), metavar="FORMAT", help="one of those below"
    )
    verb.add_argument("source", help="the data set: a folder or a file")
    verb.add_argument("out", help="where the shards go")
    verb.add_argument("--camera", help="which camera, if there are several")
    verb.add_argument("--fps", type=float, help="frames per second, lower than recorded")
    verb.add_argument("--image-size", type=int, help="height and width in pixels, even")
    verb.add_argument("--overwrite", action="store_true", help="replace the shards in OUT")
    verb.add_argument(
        "--workers", type=int, default=1, help="processes that read and encode, each a shard (1)"
    )
    verb.add_argument("--samples-per-shard", type=int, default=64, help="episodes in a shard (64)")
    verb.add_argument(
        "--max-skipped-fraction",
        type=float,
        default=0.5,
        metavar="PART",
        help="stop when more than this part of the episodes cannot be used (0.5)",
    )
    verb.set_defaults(run=import_source, goes_on=True)

    verb = verbs.add_parser(
        "export", parents=parents, help="trajectory shards to another program's data set"
    )
    verb.add_argument("format", choices=["lerobot"], metavar="FORMAT", help="lerobot (v3.0)")
    verb.add_argument("shards", help="shard folder or tar")
    verb.add_argument("out", help="the folder to make")
    verb.add_argument("--camera", default="observation.images.camera", help="name of the frames")
    verb.add_argument("--robot-type", default="unknown", help="name of the robot")
    verb.add_argument("--task", default="", help="what the robot was asked to do, in words")
    verb.set_defaults(run=export_shards)


def import_source(arguments: argparse.Namespace) -> int:
    """Packs the episodes of a foreign data set."""
    from data_pipelines.episode_packing import ImportSettings, import_episodes

    opened_with = {
        "camera": arguments.camera,
        "frames_per_second": arguments.fps,
        "image_size": arguments.image_size,
    }
    importer = importer_module(arguments.format).open_source(arguments.source, **opened_with)
    settings = ImportSettings(
        arguments.samples_per_shard,
        max_skipped_fraction=arguments.max_skipped_fraction,
        asked={"source": arguments.source, "format": arguments.format, **opened_with},
    )
    result = import_episodes(
        importer,
        arguments.out,
        settings,
        num_workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    _print_result(result)
    return 0


def _print_result(result: ImportResult) -> None:
    index = result.index
    num_shards, num_skipped = len(index.shards), len(index.skipped)
    if result.was_there:
        print(
            f"already imported: {result.folder} holds these {index.num_samples} episodes, "
            f"shards: {num_shards}; nothing to do"
        )
        return
    total = index.num_samples + num_skipped
    for number, episode in enumerate(index.skipped, start=1):
        print(f"skipped {number} of {total}: {episode.path}: {episode.reason}")
    for remark, count in sorted(result.remarks.items()):
        print(f"{count} of {index.num_samples} episodes {remark}")
    hours = index.duration_seconds / 3600
    of_total = f" of {total}" if num_skipped else ""
    print(
        f"imported {index.num_samples}{of_total} episodes ({hours:.2f} hours) into "
        f"{result.folder}, shards: {num_shards}"
    )


def export_shards(arguments: argparse.Namespace) -> int:
    """Writes trajectory shards in a foreign format."""
    from data_pipelines.lerobot_export import export_lerobot

    result = export_lerobot(
        arguments.shards,
        arguments.out,
        camera=arguments.camera,
        robot_type=arguments.robot_type,
        task=arguments.task,
    )
    print(
        f"exported {result.num_episodes} episodes ({result.num_frames} frames) to {result.folder}"
    )
    return 0
