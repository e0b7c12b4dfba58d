"""`jepa surprise`: is the impossible video the more surprising one?

    jepa surprise make physics --pairs 40
    jepa surprise --model runs/pretrain/physics_tiny --data physics --figure curves

`make` writes pairs of possible and impossible videos, or, with --possible-only, videos to learn
from. --data also takes the folders of IntPhys, GRASP and InfLevel. Beside the model stand the same
model untrained, and two expectations of pixels that know no physics.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from jepa.command_line import OneLineParser
from jepa.version import __version__

WRITING = "data_pipelines.physics_videos.writing"  # by name: `jepa` does not import the pipelines
FRAMES_BEFORE, FRAMES_AFTER = 12, 12  # of the violation, in figures


def main(argv: list[str] | None = None) -> int:
    """Runs `jepa surprise`; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["make"]:
        return _make(arguments[1:])
    return _measure(arguments)


def _make(argv: list[str]) -> int:
    writing = importlib.import_module(WRITING)
    parser = OneLineParser(prog="jepa surprise make", description="Makes physics videos.")
    parser.add_argument("folder", type=Path, help="where to; must be empty or new")
    parser.add_argument("--pairs", type=int, default=40, help="pairs of each concept, even")
    parser.add_argument(
        "--concepts", nargs="+", choices=writing.concept_names(), help="only these; all otherwise"
    )
    parser.add_argument("--frames", type=int, default=32, help="of each video, 10 a second")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same videos")
    parser.add_argument(
        "--possible-only", action="store_true", help="--videos videos to learn from, unlabelled"
    )
    parser.add_argument("--videos", type=int, default=2000, help="how many, with --possible-only")
    options = parser.parse_args(argv)
    if options.folder.exists() and any(options.folder.iterdir()):
        raise ValueError(f"{options.folder} is not empty; give a new folder")
    shape = {"num_frames": options.frames, "size": options.size, "seed": options.seed}
    if options.possible_only:
        paths = writing.write_possible_videos(options.folder, num_videos=options.videos, **shape)
        print(f"{len(paths)} possible videos in {options.folder}; next: jepa data pack")
        return 0
    concepts = tuple(options.concepts) if options.concepts else None
    index = writing.write_matched_videos(
        options.folder, num_pairs=options.pairs, concepts=concepts, **shape
    )
    print(f"{options.pairs} pairs of each concept; {index} says what is what")
    return 0


def _measure(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    from jepa.checkpoints.official_config import OfficialConfig
    from jepa.evaluation.surprise.measuring import measure_folder, sources_of
    from jepa.evaluation.surprise.models import load_predicting_model
    from jepa.evaluation.surprise.windows import WindowPlan, usual_contexts

    sizes = None if options.sizes is None else OfficialConfig.read(options.sizes)
    model = load_predicting_model(options.model, config=sizes)
    if options.mask_token is not None:
        model.predictor.use_mask_token(options.mask_token)
    encoder = model.target_encoder
    window = options.window or encoder.grid[0] * encoder.tubelet[0]
    contexts = tuple(options.contexts or usual_contexts(window, encoder.tubelet[0]))
    measured = measure_folder(
        options.data,
        sources_of(model, distance=options.distance, seed=options.seed),
        plan=WindowPlan(window, options.stride, contexts),
        image_size=encoder.grid[1] * encoder.tubelet[1],
        frame_step=options.frame_step,
    )
    for path, reason in measured.refused:
        print(f"refused: {path}: {reason}", file=sys.stderr)
    judged = {
        source: measured.verdicts(
            source,
            over_windows=options.over_windows,
            over_contexts=options.over_contexts,
            num_resamples=options.resamples,
            seed=options.seed,
        )
        for source in measured.pairs[0].possible
    }
    print(verdict_table(judged))
    if options.out is not None:
        content = report(measured, judged) | {"options": _as_json(vars(options))}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.figure is not None:
        _write_figures(measured, options.figure)
    return 0


def verdict_table(judged: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a table for the terminal.

    Args:
        judged: source -> concept -> `Verdict`.
    """
    width = max(map(len, judged))
    head = f"{'concept':<12} {'source':<{width}}  {'relative accuracy':<22}{'AUROC':<22}"
    lines = [f"{head}{'found / false alarms at 90 %'}"]
    for concept in next(iter(judged.values())):
        for source, by_concept in judged.items():
            verdict = by_concept[concept]
            row = f"{concept:<12} {source:<{width}}  {verdict.relative_accuracy!s:<22}"
            row += f"{verdict.auroc!s:<22}"
            if verdict.calibrated is not None:
                row += f"{verdict.calibrated.detected:.2f} / {verdict.calibrated.false_alarms:.2f}"
            lines.append(row.rstrip())
    first = next(iter(judged.values()))
    pairs = ", ".join(f"{concept} {verdict.num_pairs}" for concept, verdict in first.items())
    lines += [f"pairs: {pairs}; chance is 0.5; intervals: 95 %, scenes drawn anew"]
    return "\n".join(lines)


def report(measured: Any, judged: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:  # noqa: ANN401
    """Returns all that was measured as JSON can hold it; frames without surprise are null."""
    return {
        "version": __version__,
        "layout": measured.layout,
        "frame_step": measured.frame_step,
        "refused": [{"path": path, "reason": reason} for path, reason in measured.refused],
        "verdicts": {
            source: {concept: _verdict_json(verdict) for concept, verdict in by_concept.items()}
            for source, by_concept in judged.items()
        },
        "pairs": [
            {
                "pair": pair.pair,
                "set": pair.set_name,
                "concept": pair.concept,
                "variant": pair.variant,
                "violation_frame": pair.violation_frame,
                "possible": _curves_json(pair.possible),
                "impossible": _curves_json(pair.impossible),
            }
            for pair in measured.pairs
        ],
    }


def _verdict_json(verdict: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "num_pairs": verdict.num_pairs,
        "num_sets": verdict.num_sets,
        "relative_accuracy": verdict.relative_accuracy._asdict(),
        "auroc": verdict.auroc._asdict(),
        "calibrated": None if verdict.calibrated is None else verdict.calibrated._asdict(),
    }


def _curves_json(surprises: Mapping[str, Any]) -> dict[str, Any]:
    return {
        source: {
            "mean": surprise.score("mean"),
            "max": surprise.score("max"),
            "curve": [round(v, 6) if v == v else None for v in surprise.curve().tolist()],
        }
        for source, surprise in surprises.items()
    }


def _write_figures(measured: Any, folder: Path) -> None:  # noqa: ANN401
    """Writes, for each concept, the mean curve of all pairs around the moment of violation."""
    from jepa.evaluation.surprise.figure import mean_curves, surprise_figure
    from jepa.evaluation.surprise.measuring import TRAINED

    folder.mkdir(parents=True, exist_ok=True)
    for concept in sorted({pair.concept for pair in measured.pairs}):
        curves = [
            (pair.possible[TRAINED].curve(), pair.impossible[TRAINED].curve(), pair.violation_frame)
            for pair in measured.pairs
            if pair.concept == concept and pair.violation_frame is not None
        ]
        if curves:
            means = mean_curves(curves, before=FRAMES_BEFORE, after=FRAMES_AFTER)
            title = f"{concept}: mean of {len(curves)} pairs"
            picture = surprise_figure(
                *means, violation_frame=FRAMES_BEFORE, title=title, paper="#ffffff"
            )
            (folder / f"{concept}.png").write_bytes(picture)


def _as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}


def _parser() -> argparse.ArgumentParser:
    from jepa.evaluation.surprise.sources import Distance
    from jepa.evaluation.surprise.windows import OverContexts, OverWindows

    parser = OneLineParser(
        prog="jepa surprise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="a run, a folder with a predictor, or an official .pt")
    add("--data", type=Path, required=True, help="a folder of pairs of videos")
    add("--sizes", type=Path, help="JSON with what a .pt of an unusual size does not say")
    add("--window", type=int, help="frames of a window; the model's clip if left out")
    add("--stride", type=int, default=2, help="frames from window to window")
    add(
        "--contexts", type=int, nargs="+", help="frames shown; 1/8 to 5/8 of the window if left out"
    )
    add("--frame-step", type=int, help="every so many frames one is taken; as usual for the data")
    add("--distance", choices=get_args(Distance), default="l1", help="of latents")
    add("--over-windows", choices=get_args(OverWindows), default="mean", help="score of a video")
    add("--over-contexts", choices=get_args(OverContexts), default="mean", help="of a window")
    add("--mask-token", type=int, help="index of the mask token that asks; chosen if left out")
    add("--resamples", type=int, default=1000, help="draws of scenes for the intervals")
    add("--seed", type=int, default=0, help="of the untrained weights and the intervals")
    add("--out", type=Path, help="write everything to this JSON file")
    add("--figure", type=Path, help="write a curve of each concept into this folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
