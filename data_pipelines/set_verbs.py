"""The verbs `split`, `merge` and `convert`: sets of shards to other sets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_pipelines.packing_verbs import add_recoding_options, recode_settings

if TYPE_CHECKING:
    from data_pipelines.manifest import SkippedVideo
    from data_pipelines.sample_copying import Layout, NewSet
    from data_pipelines.shard_index import ShardIndex
    from data_pipelines.unpacking import UnpackResult

SHARDS_HELP = "shard folders or tars"


def add_verbs(
    verbs: Any,  # noqa: ANN401
    shared: Sequence[argparse.ArgumentParser],
    decoding: argparse.ArgumentParser,
) -> None:
    """Adds the verbs of this file.

    Args:
        verbs: what `add_subparsers` returned.
        shared: parsers of the options that all verbs have.
        decoding: parser of the options of decoding.
    """
    _add_split(
        verbs.add_parser("split", parents=shared, help="shards to train and validation shards")
    )
    _add_merge(verbs.add_parser("merge", parents=shared, help="several sets of shards to one"))
    _add_convert(
        verbs.add_parser(
            "convert",
            parents=[*shared, decoding],
            help="shards (any WebDataset with videos or images) to new ones, or to a folder",
        )
    )


def _add_split(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("shards", nargs="+", help=SHARDS_HELP)
    verb.add_argument("--out", required=True, help="gets a folder of shards for each part")
    verb.add_argument(
        "--parts", nargs="+", required=True, metavar="NAME=SHARE", help="train=0.9 val=0.1"
    )
    verb.add_argument("--seed", type=int, default=0, help="same seed, same parts")
    verb.add_argument(
        "--by",
        choices=["group", "source-folder", "label", "key"],
        default="group",
        help="what stays together; groups do in all but the last (group)",
    )
    verb.add_argument(
        "--of", choices=["samples", "seconds"], default="samples", help="what shares are of"
    )
    verb.add_argument("--stratify", choices=["label"], help="give every label the same shares")
    _add_layout(verb)
    verb.set_defaults(run=split, goes_on=True)


def _add_merge(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("shards", nargs="+", help=SHARDS_HELP)
    verb.add_argument("--out", required=True, help="where the shards go")
    verb.add_argument(
        "--prefix-keys", action="store_true", help="put a set's folder before its keys and groups"
    )
    verb.add_argument(
        "--copy-shards",
        action="store_true",
        help="take whole tars under new names: quick, nothing is read or divided anew",
    )
    _add_layout(verb)
    verb.set_defaults(run=merge, goes_on=True)


def _add_convert(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("shards", nargs="+", help=SHARDS_HELP)
    verb.add_argument("out", help="where the shards or videos go")
    verb.add_argument(
        "--to", choices=["shards", "folder"], default="shards", help="(shards); folder unpacks"
    )
    verb.add_argument("--workers", type=int, default=1, help="processes that decode")
    _add_layout(verb)
    add_recoding_options(verb)
    verb.set_defaults(run=convert, goes_on=True)


def split(arguments: argparse.Namespace) -> int:
    """Divides a set into parts that share no recording."""
    from data_pipelines.splitting import SplitSettings, split_shards

    settings = SplitSettings(
        _parts(arguments.parts),
        seed=arguments.seed,
        by=arguments.by,
        of=arguments.of,
        stratify=arguments.stratify is not None,
    )
    result = split_shards(arguments.shards, arguments.out, settings, layout=_layout(arguments))
    for part in result.parts:
        _print_skipped(part.written.skipped)
    for part in result.parts:
        index = part.written.index
        print(
            f"{part.name}: {index.num_samples} {_noun(index)}, {part.num_groups} groups, "
            f"{_hours(index, '{}, ')}{part.share:.1%} of the "
            f"{arguments.of} ({part.asked:.1%} asked), in {part.written.folder}"
            f"{_was_there(part.written)}"
        )
    for remark in result.remarks:
        print(f"note: {remark}")
    return 0


def merge(arguments: argparse.Namespace) -> int:
    """Makes one set of several."""
    from data_pipelines.merging import merge_shards

    result = merge_shards(
        arguments.shards,
        arguments.out,
        prefix_keys=arguments.prefix_keys,
        copy_shards=arguments.copy_shards,
        layout=_layout(arguments),
    )
    _print_skipped(result.skipped)
    _print_set("merged", result)
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """Writes shards anew, or unpacks them."""
    recode = recode_settings(arguments)
    if arguments.to == "folder":
        if recode is not None:
            raise ValueError("--to folder copies videos as they are; leave out --fps and the like")
        return _unpack(arguments)
    from data_pipelines.converting import convert_shards

    result = convert_shards(
        arguments.shards,
        arguments.out,
        recode=recode,
        decoder=arguments.decoder,
        verify_frames="all" if arguments.full else "ends",
        num_workers=arguments.workers,
        layout=_layout(arguments),
    )
    _print_skipped(result.skipped)
    _print_set("converted", result)
    return 0


def _unpack(arguments: argparse.Namespace) -> int:
    from data_pipelines.unpacking import IMAGE_LIST_NAME, unpack_shards

    result = unpack_shards(arguments.shards, arguments.out, overwrite=arguments.overwrite)
    _print_skipped(result.skipped)
    total = len(result.rows) + len(result.skipped)
    packed_by = [
        f"`pack {result.folder / name} OUT{' --images' if name == IMAGE_LIST_NAME else ''}`"
        for name in result.lists
    ]
    print(
        f"unpacked {len(result.rows)} of {total} samples into {result.folder}"
        f"{_was_there(result)}; to pack them again: {' and '.join(packed_by)}"
    )
    return 0


def _add_layout(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--samples-per-shard", type=int, default=256)
    verb.add_argument("--max-shard-megabytes", type=int, default=1024)
    verb.add_argument("--overwrite", action="store_true", help="replace what is in the way")


def _layout(arguments: argparse.Namespace) -> Layout:
    from data_pipelines.sample_copying import Layout

    return Layout(
        arguments.samples_per_shard,
        arguments.max_shard_megabytes << 20,
        overwrite=arguments.overwrite,
    )


def _parts(texts: Sequence[str]) -> dict[str, float]:
    """Reads name=share.

    Raises:
        ValueError: if one has another form, or a name comes twice.
    """
    parts: dict[str, float] = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            value = float(share)
        except ValueError:
            raise ValueError(f"a part is NAME=SHARE, such as train=0.9, got '{text}'") from None
        if name in parts:
            raise ValueError(f"part '{name}' is named twice")
        parts[name] = value
    return parts


def _print_skipped(skipped: Sequence[SkippedVideo]) -> None:
    for number, video in enumerate(skipped, start=1):
        print(f"skipped {number} of {len(skipped)}: {video.path}: {video.reason}")


def _print_set(done: str, result: NewSet) -> None:
    index = result.index
    print(
        f"{done} {index.num_samples} {_noun(index)}{_hours(index, ' ({})')} into "
        f"{result.folder}, shards: {len(index.shards)}{_was_there(result)}"
    )


def _noun(index: ShardIndex) -> str:
    return "images" if index.num_images == index.num_samples else "samples"


def _hours(index: ShardIndex, form: str) -> str:
    """Returns how long the videos last, in a form such as " ({})"; nothing of pictures."""
    hours = f"{index.duration_seconds / 3600:.3f} hours"
    return "" if index.num_images == index.num_samples else form.format(hours)


def _was_there(result: NewSet | UnpackResult) -> str:
    return " (was there already)" if result.was_there else ""
