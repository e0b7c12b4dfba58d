"""`jepa report`: one HTML page that shows what a checkpoint knows, and what it does not.

    jepa report two_rooms --data held_out --out report.html
    jepa report runs/pretrain/tiny --data held_out --physics pairs --numbers report.json

Give data that were not trained on. The page needs nothing but itself: pictures, style and script
are inside, so it can be mailed, printed, or kept beside the checkpoint. What cannot be measured of
a checkpoint is said on the page, with the reason.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Writes the report; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(words)
    _refuse_settings(arguments)
    # Heavy imports wait until the options have been read.
    from jepa.evaluation.report.clips import held_out_clips
    from jepa.evaluation.report.subject import load_subject
    from jepa.evaluation.report.summary import size_line
    from jepa.evaluation.report.writing import Inputs, make_report, write_report

    began = time.perf_counter()
    subject = load_subject(arguments.checkpoint, device=arguments.device, seed=arguments.seed)
    clips = held_out_clips(
        subject,
        arguments.data,
        num_clips=arguments.clips,
        horizon=arguments.horizon,
        frame_stride=arguments.frame_stride,
        frames_per_second=arguments.fps,
        seed=arguments.seed,
    )
    inputs = Inputs(
        subject,
        clips,
        decoder_steps=arguments.decoder_steps,
        physics=arguments.physics,
        seed=arguments.seed,
        command=f"jepa report {shlex.join(words)}",
    )
    report = make_report(inputs)
    write_report(report, arguments.out, numbers=arguments.numbers)
    for line in report.lines:
        print(line)
    for title, reason in report.unmeasured.items():
        print(f"not measured: {title}: {reason}")
    size = size_line(arguments.out.stat().st_size, time.perf_counter() - began)
    print(f"wrote {arguments.out} ({size})")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jepa report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", help="a run, an encoder or world model folder, an official file, or a name")
    add("--data", required=True, help="shards that were not trained on")
    add("--out", type=Path, default=Path("report.html"), help="the page (report.html)")
    add("--numbers", type=Path, help="write all numbers to this JSON file, too")
    add("--clips", type=int, default=48, help="videos that are looked at, at most (48)")
    add("--horizon", type=int, default=8, help="actions that a world model imagines (8)")
    add("--frame-stride", type=int, default=1, help="an encoder's clips take every so many frames")
    add("--fps", type=float, help="frames per second of an encoder's clips, instead of a stride")
    add("--decoder-steps", type=int, default=400, help="of the pixel decoder; 0: none (400)")
    add("--physics", type=Path, help="folder of possible and impossible videos, for surprise")
    add("--device", default="cpu", help="where to compute (cpu)")
    add("--seed", type=int, default=0, help="of all that is drawn (0)")
    return parser


def _refuse_settings(arguments: argparse.Namespace) -> None:
    """What is out of range is said before anything is loaded."""
    least = {"clips": 2, "horizon": 1, "frame_stride": 1, "decoder_steps": 0}
    for name, low in least.items():
        value = getattr(arguments, name)
        if value < low:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {low}, got {value}")
    if arguments.out.is_dir():
        raise IsADirectoryError(f"--out {arguments.out} is a folder; name a file")


if __name__ == "__main__":
    sys.exit(main())
