"""`jepa probe`: what a frozen encoder knows, beside baselines, with 95 % intervals.

    jepa probe --kind attentive --encoder runs/pretrain/tiny --data shards --baselines pixels
    jepa probe --kind linear --encoder two_rooms --train shards --test held_out --target states
    jepa probe --kind knn --encoder timm:vit_small_patch16_224 --data photos

Shards of videos or images with labels, a folder per class or a list of "path label" are probed for
the label; shards of trajectories for the states, or another --target. Settings are chosen on a
validation split and reported on a test split. Features are computed once and kept on the disk.

A quick look, in memory and without validation, at frames of trajectories or clips of videos:

    jepa probe --encoder runs/demo/pretrain --shards shards --test-shards held_out
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.command_line import OneLineParser

if TYPE_CHECKING:
    from jepa.evaluation.probing import Probe, ProbeData, Row

KINDS = ("linear", "linear-head", "attentive", "knn")  # as probing.KINDS, which imports torch
QUICK_ROWS, QUICK_TEST_ROWS = 3000, 1000


def main(argv: list[str] | None = None) -> int:
    """Runs the probe; returns the exit code."""
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    _refuse_mixed(arguments)
    if arguments.shards is not None:
        report = _quick_look(arguments)
    else:
        report = _probe(arguments)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def table(rows: list[Row], *, is_official: bool = False) -> str:
    """Returns the rows as text.

    Args:
        rows: of `probe_table`.
        is_official: show also what the released code reports: the best setting's score on the data
            that chose it.
    """
    metrics = list(rows[0].scores)[:2]
    heads = ["", *metrics]
    if any(row.over_seeds for row in rows):
        heads.append(f"{metrics[0]} over seeds")
    heads.append("gain of the first")
    if is_official:
        heads.append("best on validation*")
    lines = [heads]
    for row in rows:
        cells = [row.name, *(str(row.scores[metric]) for metric in metrics)]
        if any(other.over_seeds for other in rows):
            cells.append("" if row.over_seeds is None else str(row.over_seeds))
        cells.append("" if row.gain is None else str(row.gain))
        if is_official:
            best = row.best_on_validation
            cells.append("" if best is None else f"{best:.3f}")
        lines.append(cells)
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    note = "\n* on the data that chose the setting, as the official code reports"
    return text + (note if is_official else "")


def _probe(arguments: argparse.Namespace) -> dict[str, Any]:
    from jepa.evaluation.probing import probe_table

    data, probe = _data(arguments), _probe_settings(arguments)
    rows = probe_table(
        arguments.encoder,
        data,
        probe,
        baselines=arguments.baselines,
        layers=arguments.layers,
        frame_by_frame=True if arguments.frame_by_frame else None,
        clip_length_frames=arguments.clip_length,
        cache=arguments.cache,
        seeds=range(arguments.seed, arguments.seed + arguments.seeds),
        num_resamples=arguments.resamples,
        save=arguments.save,
        build_options={
            "batch_size": arguments.encode_batch,
            "num_workers": arguments.workers,
            "dtype": arguments.dtype,
        },
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(table(rows, is_official=arguments.official))
    return {
        "kind": arguments.kind,
        "encoder": arguments.encoder,
        "data": {name: getattr(data, name) for name in ("data", "train", "validation", "test")},
        "settings": _plain(arguments),
        "rows": [row.to_json() for row in rows],
    }


def _quick_look(arguments: argparse.Namespace) -> dict[str, Any]:
    from jepa.evaluation.probes import probe_against_untrained, score_table

    scores = probe_against_untrained(
        arguments.encoder,
        arguments.shards,
        arguments.test_shards,
        num_rows=arguments.rows or QUICK_ROWS,
        num_test_rows=arguments.test_rows or QUICK_TEST_ROWS,
        seed=arguments.seed,
    )
    print(score_table(scores))
    return scores


def _data(arguments: argparse.Namespace) -> ProbeData:
    from jepa.evaluation.probing import ProbeData

    options = {
        "target": arguments.target,
        "crop": arguments.crop,
        "frames_per_second": arguments.frames_per_second,
        "frame_stride": arguments.frame_stride,
        "windows_per_trajectory": arguments.windows,
    }
    return ProbeData(
        arguments.data,
        arguments.train,
        arguments.validation,
        arguments.test,
        num_clips=arguments.clips,
        num_views=arguments.views,
        training_views=arguments.training_views,
        max_rows=arguments.rows,
        max_test_rows=arguments.test_rows,
        options=options,
    )


def _probe_settings(arguments: argparse.Namespace) -> Probe:
    from jepa.evaluation import head_training, linear_probe
    from jepa.evaluation.probing import Probe

    source = linear_probe if arguments.kind == "linear-head" else head_training
    sweep = head_training.Sweep(
        learning_rates=arguments.learning_rates or source.LEARNING_RATES,
        weight_decays=arguments.weight_decays or source.WEIGHT_DECAYS,
        epochs=arguments.epochs,
        batch_size=arguments.batch,
    )
    return Probe(arguments.kind, arguments.pool, sweep, arguments.depth, arguments.device)


def _refuse_mixed(arguments: argparse.Namespace) -> None:
    if (arguments.shards is None) != (arguments.test_shards is None):
        raise ValueError("--shards and --test-shards go together")
    named = [name for name in ("data", "train", "test") if getattr(arguments, name) is not None]
    if arguments.shards is not None and (named or arguments.kind != "linear"):
        raise ValueError(
            "--shards and --test-shards are a quick look with a linear probe; with --kind, or with "
            f"--{named[0] if named else 'train'}, name the sets by --train and --test"
        )
    if arguments.save is not None and arguments.kind != "attentive":
        raise ValueError(f"--save keeps an attentive probe; --kind is {arguments.kind}")
    for name in ("seeds", "clips", "views", "resamples", "encode_batch"):
        if getattr(arguments, name) < 1:
            raise ValueError(
                f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}"
            )


def _plain(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
    }


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="jepa probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="a run, a checkpoint, or timm:NAME")
    parser.add_argument("--kind", choices=KINDS, default="linear")
    parser.add_argument(
        "--baselines", nargs="*", default=["untrained"],
        help="untrained, pixels, efficientnet-lite0, or any other encoder",
    )  # fmt: skip
    parser.add_argument("--layers", type=int, nargs="+", help="blocks; -1 is the last")
    parser.add_argument("--frame-by-frame", action="store_true", help="encode single frames")
    _add_data(parser.add_argument_group("samples"))
    _add_fitting(parser.add_argument_group("the probe"))
    _add_running(parser.add_argument_group("running"))
    return parser


def _add_data(group: Any) -> None:  # noqa: ANN401 - argparse has no public name for a group
    group.add_argument("--data", help="shards, a folder per class, or a list; split 60/20/20")
    group.add_argument("--train", help="to fit on, instead of --data")
    group.add_argument("--validation", help="to choose on; else a quarter of --train")
    group.add_argument("--test", help="to score on")
    group.add_argument("--shards", help="quick look: fit on these")
    group.add_argument("--test-shards", help="quick look: score on these")
    group.add_argument("--rows", type=int, help="at most so many samples to fit on")
    group.add_argument("--test-rows", type=int, help="at most so many samples to score on")
    group.add_argument("--target", help="of trajectories: states, actions, motion, states:x,y")
    group.add_argument("--clips", type=int, default=1, help="moments of each video")
    group.add_argument("--views", type=int, default=1, help="spatial crops of each moment")
    group.add_argument(
        "--training-views", type=int, default=0, help="random crops of each training moment"
    )
    group.add_argument("--windows", type=int, default=8, help="of each trajectory")
    group.add_argument("--crop", choices=("official", "square", "whole"))
    group.add_argument("--clip-length", type=int, help="frames of a clip; else the encoder's own")
    group.add_argument("--frames-per-second", type=float, help="of a clip, by time stamps")
    group.add_argument("--frame-stride", type=int, default=1)


def _add_fitting(group: Any) -> None:  # noqa: ANN401
    group.add_argument("--pool", choices=("mean", "all"), default="mean", help="linear: of tokens")
    group.add_argument("--depth", type=int, default=4, help="attentive: blocks")
    group.add_argument("--epochs", type=int, default=20)
    group.add_argument("--batch", type=int, default=128, help="samples of a training step")
    group.add_argument("--learning-rates", type=float, nargs="+", help="of the sweep")
    group.add_argument("--weight-decays", type=float, nargs="+", help="of the sweep")
    group.add_argument(
        "--official", action="store_true",
        help="show also the best setting's score on validation, as the official code reports",
    )  # fmt: skip
    group.add_argument("--save", type=Path, help="folder for the chosen attentive probe")


def _add_running(group: Any) -> None:  # noqa: ANN401
    group.add_argument("--cache", type=Path, help="folder of features; else the user's cache")
    group.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    group.add_argument("--seeds", type=int, default=1, help="so many, from --seed on")
    group.add_argument("--seed", type=int, default=0, help="of probes and untrained weights")
    group.add_argument("--resamples", type=int, default=1000, help="of the intervals")
    group.add_argument("--device", default="cpu")
    group.add_argument("--encode-batch", type=int, default=16, help="clips encoded at once")
    group.add_argument("--workers", type=int, default=0, help="processes that decode")
    group.add_argument("--out", type=Path, help="write the scores to this JSON file")


if __name__ == "__main__":
    sys.exit(main())
