"""`python -m data_pipelines VERB`: videos to shards, shards to shards, and what is in them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipelines import collecting, contact_sheet, importing, packing_verbs, set_verbs

if TYPE_CHECKING:
    from data_pipelines.shard_index import ShardIndex


def main(argv: Sequence[str] | None = None, *, program: str = "data_pipelines") -> int:
    """Runs one verb.

    Args:
        argv: the words after the program's name; None takes them from the command line.
        program: the name that `--help` shows.

    Returns:
        The exit status: 0 well, 1 faults were found by `check`, 2 an error, said in one line, 130
        interrupted by Ctrl-C.
    """
    arguments = _parser(program).parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        goes_on = getattr(arguments, "goes_on", False)
        how = "; run the same command again to go on" if goes_on else ""
        print(f"interrupted{how}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        if arguments.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


def info(arguments: argparse.Namespace) -> int:
    """Prints what is in shards."""
    from data_pipelines.shards import ShardIndex

    index = ShardIndex.load(arguments.shards)
    num_skipped = len(index.skipped) - len(index.damaged)
    print(f"shards     {len(index.shards)}")
    print(f"samples    {index.num_samples}, skipped when packed {num_skipped}")
    if index.damaged:
        print(f"damaged    {len(index.damaged)}, left out; `check` names them")
    if index.num_images:
        print(f"images     {index.num_images}")
    print(f"bytes      {sum(shard.num_bytes for shard in index.shards)}")
    _print_sizes(index)
    labels = {sample.label for sample in index.samples if sample.label}
    if labels:
        print(f"labels     {len(labels)}: {', '.join(sorted(labels)[:8])}")
    if index.specification is not None:
        specification = index.specification
        print(f"states     {_columns(specification.state_names, specification.state_units)}")
        print(f"actions    {_columns(specification.action_names, specification.action_units)}")
    return 0


def _print_sizes(index: ShardIndex) -> None:
    """Prints how long, quick and large the samples are; pictures only have a size."""
    known = [sample.metadata for sample in index.samples if sample.metadata is not None]
    videos = [s.metadata for s in index.samples if s.metadata is not None and not s.is_image]
    if index.num_images < index.num_samples:
        print(f"hours      {index.duration_seconds / 3600:.3f}")
    if videos:
        print(f"frames     {_range([m.num_frames for m in videos])}")
        print(f"rate       {_range([round(m.frames_per_second, 3) for m in videos])} per second")
    if known:
        print(f"height     {_range([m.height for m in known])}")
        print(f"width      {_range([m.width for m in known])}")


def check(arguments: argparse.Namespace) -> int:
    """Checks hashes, headers, and frames or pictures of shards."""
    from data_pipelines.shard_check import check_shards

    report = check_shards(arguments.shards, decoder=arguments.decoder, full=arguments.full)
    for problem in report.problems:
        print(f"{problem.where}: {problem.reason}")
    verdict = f"{len(report.problems)} problems" if report.problems else "no problem"
    print(f"checked {report.num_samples} samples in {report.num_shards} shards: {verdict}")
    return 1 if report.problems else 0


def synthesize(arguments: argparse.Namespace) -> int:
    """Writes moving shapes: a folder of videos, or shards of trajectories."""
    from data_pipelines.shards import pack_trajectories
    from data_pipelines.synthetic import (
        MOVING_SHAPE_SPECIFICATION,
        moving_shape_episodes,
        write_moving_shapes,
    )

    if arguments.trajectories is None:
        paths = write_moving_shapes(
            arguments.out,
            num_videos=arguments.videos,
            num_frames=arguments.frames,
            size=arguments.size,
            seed=arguments.seed,
        )
        print(f"wrote {len(paths)} videos below {arguments.out}; pack them next")
        return 0
    episodes = moving_shape_episodes(
        num_episodes=arguments.trajectories,
        num_frames=arguments.frames,
        size=arguments.size,
        seed=arguments.seed,
    )
    result = pack_trajectories(
        episodes,
        arguments.out,
        specification=MOVING_SHAPE_SPECIFICATION,
        overwrite=arguments.overwrite,
    )
    print(f"packed {result.num_samples} trajectories in {result.folder}")
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Videos and their shards.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    decoding = argparse.ArgumentParser(add_help=False)
    decoding.add_argument(
        "--decoder",
        type=_decoder_name,
        default="decord",
        metavar="NAME",
        help="what decodes (decord); another word lists the names there are",
    )
    decoding.add_argument("--full", action="store_true", help="decode all frames, not only some")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    packing_verbs.add_verbs(verbs, [shared, decoding])

    verb = verbs.add_parser("info", parents=[shared], help="what is in shards")
    verb.add_argument("shards", nargs="+", help="shard folders or tars")
    verb.set_defaults(run=info)

    verb = verbs.add_parser("check", parents=[shared, decoding], help="find damaged shards")
    verb.add_argument("shards", nargs="+", help="shard folders or tars")
    verb.set_defaults(run=check)

    set_verbs.add_verbs(verbs, [shared], decoding)
    contact_sheet.add_verbs(verbs, [shared])
    importing.add_verbs(verbs, [shared])
    collecting.add_verbs(verbs, [shared])
    _add_synthesize(verbs.add_parser("synthesize", parents=[shared], help="small made-up data"))
    return parser


def _decoder_name(name: str) -> str:
    """Returns the name of a decoder; the folder of decoders is looked at when one is asked for."""
    from data_pipelines.decoders.base import decoder_names

    if name not in decoder_names():
        raise argparse.ArgumentTypeError(
            f"no decoder named '{name}'; choose from {', '.join(decoder_names())}"
        )
    return name


def _add_synthesize(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("out", help="folder to write to")
    kind = verb.add_mutually_exclusive_group()
    kind.add_argument("--videos", type=int, default=32, help="a folder of so many videos")
    kind.add_argument("--trajectories", type=int, help="shards of so many trajectories")
    verb.add_argument("--frames", type=int, default=32, help="of each video or trajectory")
    verb.add_argument("--size", type=int, default=64, help="height and width, even")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--overwrite", action="store_true", help="replace the shards in OUT")
    verb.set_defaults(run=synthesize)


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _columns(names: Sequence[str], units: Sequence[str]) -> str:
    return ", ".join(f"{name} [{unit}]" for name, unit in zip(names, units, strict=True))


if __name__ == "__main__":
    sys.exit(main())
