"""The verbs `scan` and `pack`: videos to a manifest, and to tar shards."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipelines.packing import PackResult
    from data_pipelines.packing_engines import PackingEngine
    from data_pipelines.recoding import RecodeSettings

SOURCE_HELP = (
    "a folder (a sub-folder is a label), a list of videos (.csv, .parquet or lines `path label`), "
    "or a bucket's URL"
)
IMAGES_HELP = "look for pictures (jpg, png, webp) instead of videos"


def add_verbs(verbs: Any, parents: list[argparse.ArgumentParser]) -> None:  # noqa: ANN401
    """Adds the verbs of this file.

    Args:
        verbs: what `add_subparsers` returned.
        parents: parsers of options that are shared: debugging, and which decoder.
    """
    verb = verbs.add_parser("pack", parents=parents, help="videos to tar shards")
    verb.add_argument("source", help=SOURCE_HELP)
    verb.add_argument("out", help="where the shards go")
    verb.add_argument("--images", action="store_true", help=IMAGES_HELP)
    verb.add_argument("--samples-per-shard", type=int, help="(256, of images 4096)")
    verb.add_argument("--max-shard-megabytes", type=int, default=1024)
    verb.add_argument("--overwrite", action="store_true", help="replace the shards in OUT")
    verb.add_argument("--min-seconds", type=float, default=0.0, help="skip what is shorter")
    verb.add_argument("--min-frames", type=int, default=0, help="skip what has fewer")
    _add_engine(verb)
    add_recoding_options(verb)
    verb.set_defaults(run=pack, goes_on=True)

    verb = verbs.add_parser("scan", parents=parents, help="videos to a table of what they are")
    verb.add_argument("source", help=SOURCE_HELP)
    verb.add_argument("out", help="the manifest to write: .csv or .parquet; `pack` takes it")
    verb.add_argument("--images", action="store_true", help=IMAGES_HELP)
    verb.add_argument("--sha256", action="store_true", help="hash the files too")
    verb.add_argument("--workers", type=int, default=1, help="processes that decode")
    verb.set_defaults(run=scan)


def _add_engine(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group(
        "who packs",
        "a pack that was stopped goes on when it is started again, with any engine; with ray, the "
        "videos and OUT must lie on storage that all nodes see under the same path",
    )
    group.add_argument("--engine", choices=["local", "ray"], default="local")
    group.add_argument(
        "--workers",
        type=int,
        help="local: processes that decode (1); ray: shards packed at a time (twice the CPUs)",
    )
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of a Ray cluster, or auto for this machine's; none starts Ray on this machine",
    )


def _engine(arguments: argparse.Namespace) -> PackingEngine:
    """Returns who packs."""
    from data_pipelines.packing_engines import LocalEngine

    if arguments.engine == "ray":
        from data_pipelines.ray_engine import RayEngine

        return RayEngine(arguments.ray_address, max_tasks=arguments.workers)
    if arguments.ray_address is not None:
        raise ValueError("--ray-address is for --engine ray")
    return LocalEngine(1 if arguments.workers is None else arguments.workers)


def add_recoding_options(verb: argparse.ArgumentParser) -> None:
    """Adds the options of encoding anew; `recode_settings` reads them."""
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


def recode_settings(arguments: argparse.Namespace) -> RecodeSettings | None:
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
    """Packs videos or images into shards."""
    result = _packed_images(arguments) if arguments.images else _packed_videos(arguments)
    num_shards = len(result.index.shards)
    for remark in result.remarks:
        print(remark)
    if result.was_there:
        print(
            f"already packed: {result.folder} holds these {result.num_samples} samples, "
            f"shards: {num_shards}; nothing to do"
        )
        return 0
    total = result.num_samples + len(result.skipped)
    for number, video in enumerate(result.skipped, start=1):
        print(f"skipped {number} of {total}: {video.path}: {video.reason}")
    hours = f" ({result.index.duration_seconds / 3600:.2f} hours)"
    what = "images" if arguments.images else f"videos{hours}"
    print(
        f"packed {result.num_samples} of {total} {what} into {result.folder}, shards: {num_shards}"
    )
    return 0


def _packed_videos(arguments: argparse.Namespace) -> PackResult:
    from data_pipelines.packing import pack_videos

    asked = arguments.samples_per_shard
    return pack_videos(
        arguments.source,
        arguments.out,
        samples_per_shard=256 if asked is None else asked,
        max_shard_bytes=arguments.max_shard_megabytes << 20,
        decoder=arguments.decoder,
        verify_frames="all" if arguments.full else "ends",
        recode=recode_settings(arguments),
        min_seconds=arguments.min_seconds,
        min_frames=arguments.min_frames,
        overwrite=arguments.overwrite,
        engine=_engine(arguments),
    )


def _packed_images(arguments: argparse.Namespace) -> PackResult:
    from data_pipelines.packing import pack_images

    of_videos = ("fps", "gop", "codec", "crf", "split_scenes", "min_seconds", "min_frames")
    for name in of_videos:
        if getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} is for videos; leave it or --images out")
    if arguments.copy and arguments.short_side is not None:
        raise ValueError("--copy leaves images as they are; leave out --short-side")
    asked = arguments.samples_per_shard
    return pack_images(
        arguments.source,
        arguments.out,
        samples_per_shard=4096 if asked is None else asked,
        max_shard_bytes=arguments.max_shard_megabytes << 20,
        short_side=arguments.short_side,
        overwrite=arguments.overwrite,
        engine=_engine(arguments),
    )


def scan(arguments: argparse.Namespace) -> int:
    """Writes a manifest of videos or images."""
    from data_pipelines.scanning import scan_videos

    result = scan_videos(
        arguments.source,
        arguments.out,
        decoder=arguments.decoder,
        verify_frames="all" if arguments.full else "ends",
        with_sha256=arguments.sha256,
        num_workers=arguments.workers,
        images=arguments.images,
    )
    for remark in result.remarks:
        print(remark)
    total = len(result.rows) + len(result.skipped)
    for number, video in enumerate(result.skipped, start=1):
        print(f"skipped {number} of {total}: {video.path}: {video.reason}")
    beside = f", the others into {result.skipped_list}" if result.skipped else ""
    what = "images" if arguments.images else "videos"
    print(f"wrote {len(result.rows)} of {total} {what} into {result.manifest}{beside}")
    return 0
