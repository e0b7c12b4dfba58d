"""The options of `jepa anticipate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from jepa.command_line import OneLineParser

BASELINES = ("last_frame", "untrained")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the parser of the evaluation."""
    parser = OneLineParser(
        prog="jepa anticipate",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(parser.add_argument_group("data"))
    _add_clips(parser.add_argument_group("clips"))
    _add_features(parser.add_argument_group("features"))
    _add_probes(parser.add_argument_group("probes"))
    parser.add_argument("--seed", type=int, default=0, help="of draws, probes and intervals")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="of each interval (default: 1000)"
    )
    parser.add_argument("--device", default="cpu", help="as torch names it (default: cpu)")
    parser.add_argument(
        "--official-maximum",
        action="store_true",
        help="show as well what the released code reports: the maximum over probes on validation, "
        "of verb, noun and action each",
    )
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    return parser


def make_set_parser() -> argparse.ArgumentParser:
    """Returns the parser of `jepa anticipate make`."""
    parser = OneLineParser(
        prog="jepa anticipate make",
        description="Writes videos of a ball, eight gates, and what the ball does there.",
    )
    parser.add_argument("folder", type=Path, help="to write to")
    parser.add_argument("--train-videos", type=int, default=128, help="of five actions each")
    parser.add_argument("--validation-videos", type=int, default=32)
    parser.add_argument("--test-videos", type=int, default=64)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument(
        "--shuffle-gates", action="store_true", help="a colour has another place in every video"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--encoder", required=True, help="a run or model folder, an official .pt, a name on the hub"
    )
    group.add_argument(
        "--videos", type=Path, required=True, help="a folder; files named video_id.*"
    )
    group.add_argument("--annotations", type=Path, required=True, help="the table to train on")
    group.add_argument("--validation-annotations", type=Path, help="to choose the probe on")
    group.add_argument("--test-annotations", type=Path, help="to score on")
    group.add_argument(
        "--held-out",
        type=float,
        default=0.2,
        help="share of the training videos for each table that is not given (default: 0.2)",
    )
    group.add_argument("--decoder", default="decord", help="of videos (default: decord)")


def _add_clips(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--frames", type=int, help="of a clip (default: half of what the encoder is made for)"
    )
    group.add_argument("--fps", type=float, default=8.0, help="of a clip (default: 8)")
    group.add_argument(
        "--anticipation", type=float, default=1.0, help="seconds ahead when scoring (default: 1)"
    )
    group.add_argument(
        "--train-anticipation",
        type=float,
        nargs=2,
        default=(0.25, 1.75),
        metavar=("LEAST", "GREATEST"),
        help="seconds ahead in training, drawn for each clip (default: 0.25 1.75)",
    )
    group.add_argument(
        "--anchor",
        choices=("start", "official"),
        default="start",
        help="count back from the action's start, as the V-JEPA 2 paper says, or, as its released "
        "code does, from the action's end (default: start)",
    )
    group.add_argument(
        "--short-start",
        choices=("skip", "repeat_first"),
        default="skip",
        help="of an action too near the start of its video (default: skip, and say so)",
    )
    group.add_argument(
        "--draws", type=int, default=2, help="clips of every training action (default: 2)"
    )


def _add_features(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--modes",
        nargs="+",
        choices=("both", "encoder", "predictor"),
        help="which tokens the probes see, a row of the table each; baselines have the first one "
        "(default: all that the model has)",
    )
    group.add_argument(
        "--step-tubelets",
        type=int,
        help="roll the predictor forward, so many tubelets at a time (default: one jump)",
    )
    group.add_argument("--batch", type=int, default=16, help="clips encoded at once (default: 16)")
    group.add_argument("--cache", type=Path, help="keep features there as float16, not in memory")
    group.add_argument(
        "--baselines", nargs="*", choices=BASELINES, default=BASELINES, help="(default: both)"
    )


def _add_probes(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, default=20, help="(default: 20)")
    group.add_argument(
        "--learning-rates", type=float, nargs="+", default=(5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    )
    group.add_argument("--weight-decays", type=float, nargs="+", default=(1e-4, 1e-3, 1e-2, 1e-1))
    group.add_argument("--batch-size", type=int, default=128, help="clips of a step (default: 128)")
    group.add_argument("--depth", type=int, default=4, help="blocks of a probe (default: 4)")
    group.add_argument(
        "--heads", type=int, help="attention heads of a probe (default: 16, fewer if narrow)"
    )
