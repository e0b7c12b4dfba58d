"""The verbs `scan` and `pack`: videos to a manifest, and to tar shards."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipelines.recoding import RecodeSettings

SOURCE_HELP = (
    "a folder (a sub-folder is a label), a list of videos (.csv, .parquet or lines `path label`), "
    "or a bucket's URL"
)


def add_verbs(verbs: Any, parents: list[argparse.ArgumentParser]) -> None:  # noqa: ANN401
    """Adds the verbs of this file.

    Args:
        verbs: what `add_subparsers` returned.
        parents: parsers of options that are shared: debugging, and which decoder.
    """
    verb = verbs.add_parser("pack", parents=parents, help="videos to tar shards")
    verb.add_argument("source", help=SOURCE_HELP)
    verb.add_argument("out", help="where the shards go")
    verb.add_argument("--samples-per-shard", type=int, default=256)
    verb.add_argument("--max-shard-megabytes", type=int, default=1024)
    verb.add_argument("--workers", type=int, default=1, help="processes that decode")
    verb.add_argument(
        "--resume", action="store_true", help="be content if OUT holds this set, finished, already"
    )
    verb.add_argument("--overwrite", action="store_true", help="replace the shards in OUT")
    verb.add_argument("--min-seconds", type=float, default=0.0, help="skip what is shorter")
    verb.add_argument("--min-frames", type=int, default=0, help="skip what has fewer")
    _add_recoding(verb)
    verb.set_defaults(run=pack)

    verb = verbs.add_parser("scan", parents=parents, help="videos to a table of what they are")
    verb.add_argument("source", help=SOURCE_HELP)
    verb.add_argument("out", help="the manifest to write: .csv or .parquet; `pack` takes it")
    verb.add_argument("--sha256", action="store_true", help="hash the files too")
    verb.add_argument("--workers", type=int, default=1, help="processes that decode")
    verb.set_defaults(run=scan)


def _add_recoding(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group(
        "encoding anew", "with one of these, videos are not copied but encoded, without sound"
    )
    group.add_argument("--copy", action="store_true", help="leave bytes unchanged (the default)")
    group.add_argument("--fps", help="frames per second, such as 4 or 30000/1001")
    group.add_argument("--short-side", type=int, help="pixels; nothing is made larger")
    group.add_argument("--gop", type=int, help="frames from one keyframe to the next (8)")
    group.add_argument("--codec", choices=["h264", "hevc", "vp9"], help="(h264)")
    group.add_argument("--crf", type=int, help="quality, lower is better and larger (23)")
    group.add_argument(
        "--split-scenes",
        type=float,
        metavar="THRESHOLD",
        help="begin a new sample where two frames (grey, 32 x 32, 0 to 255) differ by more than "
        "this on average; 20 to 30 finds most cuts",
    )


def _recode_settings(arguments: argparse.Namespace) -> RecodeSettings | None:
    """Returns how to encode, None to copy."""
    from data_pipelines.recoding import RecodeSettings

    asked = {
        "frames_per_second": arguments.fps,
        "short_side": arguments.short_side,
        "keyframe_interval": arguments.gop,
        "codec": arguments.codec,
        "crf": arguments.crf,
        "split_scenes": arguments.split_scenes,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if asked and arguments.copy:
        raise ValueError("--copy leaves videos as they are; leave out --fps, --gop and the like")
    return RecodeSettings(**asked) if asked else None


def pack(arguments: argparse.Namespace) -> int:
    """Packs videos into shards."""
    from data_pipelines.packing import pack_videos

    result = pack_videos(
        arguments.source,
        arguments.out,
        samples_per_shard=arguments.samples_per_shard,
        max_shard_bytes=arguments.max_shard_megabytes << 20,
        decoder=arguments.decoder,
        verify_frames="all" if arguments.full else "ends",
        recode=_recode_settings(arguments),
        min_seconds=arguments.min_seconds,
        min_frames=arguments.min_frames,
        overwrite=arguments.overwrite,
        resume=arguments.resume,
        num_workers=arguments.workers,
    )
    total = result.num_samples + len(result.skipped)
    for number, video in enumerate(result.skipped, start=1):
        print(f"skipped {number} of {total}: {video.path}: {video.reason}")
    hours = result.index.duration_seconds / 3600
    print(
        f"packed {result.num_samples} of {total} videos ({hours:.2f} hours) into "
        f"{result.folder}, shards: {len(result.index.shards)}"
    )
    return 0


def scan(arguments: argparse.Namespace) -> int:
    """Writes a manifest of videos."""
    from data_pipelines.scanning import scan_videos

    result = scan_videos(
        arguments.source,
        arguments.out,
        decoder=arguments.decoder,
        verify_frames="all" if arguments.full else "ends",
        with_sha256=arguments.sha256,
        num_workers=arguments.workers,
    )
    total = len(result.rows) + len(result.skipped)
    for number, video in enumerate(result.skipped, start=1):
        print(f"skipped {number} of {total}: {video.path}: {video.reason}")
    beside = f", the others into {result.skipped_list}" if result.skipped else ""
    print(f"wrote {len(result.rows)} of {total} videos into {result.manifest}{beside}")
    return 0
