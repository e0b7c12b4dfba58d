"""`jepa data import FORMAT SOURCE OUT` and `jepa data export lerobot SHARDS OUT`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from data_pipelines.importers.base import importer_module, summaries


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
        description="Makes trajectory shards of a data set that another program wrote.",
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
    verb.set_defaults(run=import_source)

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
    from data_pipelines.shards import pack_trajectories

    source = importer_module(arguments.format).open_source(
        arguments.source,
        camera=arguments.camera,
        frames_per_second=arguments.fps,
        image_size=arguments.image_size,
    )
    result = pack_trajectories(
        source.episodes(),
        arguments.out,
        specification=source.specification,
        overwrite=arguments.overwrite,
    )
    hours = result.index.duration_seconds / 3600
    print(
        f"imported {result.num_samples} episodes ({hours:.2f} hours) into {result.folder}, "
        f"shards: {len(result.index.shards)}"
    )
    return 0


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
