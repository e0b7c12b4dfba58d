"""`jepa dense`: what frozen patch features know of every pixel, beside what knows nothing.

    jepa dense make shapes --clips 40
    jepa dense --encoder runs/demo/pretrain --data shapes --task propagation
    jepa dense --encoder runs/demo/pretrain --data DAVIS --task propagation --image-size 480

Tasks: segmentation (classes of pixels, mIoU) and depth fit a linear head on a share of the clips;
propagation (masks of the first frame carried on, J and F) and tracking (points, as TAP-Vid scores
them) train nothing. Each is also done with the same encoder untrained and with raw pixels, and with
the place alone (or with nothing that moves). Intervals are 95 % over clips.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jepa.evaluation.dense.measured_clips import ChosenClips, Measurements

BASE = "data_pipelines.dense_readers.base"  # by name: `jepa` does not import the pipelines
SYNTHETIC = "data_pipelines.dense_synthetic"
FITTED_TASKS = ("segmentation", "depth")
TASKS = (*FITTED_TASKS, "propagation", "tracking")
LESS_IS_BETTER = ("rmse", "abs_rel")


def main(argv: list[str] | None = None) -> int:
    """Runs the verb; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["make"]:
        return _make(arguments[1:])
    options = _parser().parse_args(arguments)
    settings = DenseSettings(
        task=options.task,
        test_data=options.test_data,
        layout=options.layout,
        head=options.head,
        layers=options.layers,
        frame_by_frame=None if options.frames == "auto" else options.frames == "single",
        image_size=options.image_size,
        test_share=options.test_share,
        max_clips=options.max_clips,
        seed=options.seed,
    )
    result = dense_probe(
        options.encoder, options.data, settings, say=lambda line: print(line, file=sys.stderr)
    )
    print(score_table(result))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1))
    return 0


@dataclass(frozen=True)
class DenseSettings:
    """What is measured, and how.

    Args:
        task: one of `TASKS`.
        test_data: clips to score a head on; None: a share of the data.
        layout: of the data; None: found out.
        head: of segmentation and depth: "closed_form" or "trained".
        layers: blocks whose tokens are put side by side; None: the encoder's output.
        frame_by_frame: encode single frames; False: whole clips; None: as the encoder was trained.
        image_size: height and width that frames get; None: the encoder's.
        test_share: share of the clips that a head is scored on, where there is no `test_data`.
        max_clips: of each data set; None: all.
        seed: of the split, of heads, of untrained weights and of the bootstrap.

    Raises:
        ValueError: if an option is out of range.
    """

    task: str
    test_data: str | Path | None = None
    layout: str | None = None
    head: str = "closed_form"
    layers: Sequence[int] | None = None
    frame_by_frame: bool | None = True
    image_size: int | None = None
    test_share: float = 0.3
    max_clips: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share must be between 0 and 1, got {self.test_share}")
        if self.max_clips is not None and self.max_clips < 1:
            raise ValueError(f"max_clips must be at least 1, got {self.max_clips}")

    @property
    def fits_a_head(self) -> bool:
        """Whether clips are needed to fit on."""
        return self.task in FITTED_TASKS


def dense_probe(
    encoder: str,
    data: str | Path,
    settings: DenseSettings,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Scores an encoder and its baselines on one task.

    Args:
        encoder: as `jepa.evaluation.encoders.load_probe_encoder` takes it.
        data: a folder in one of the layouts of `data_pipelines.dense_readers`.
        settings: the task, and how it is done.
        say: is told what goes on.

    Returns:
        {"task", "num_clips", "num_fitted", "scores": {method: {score: [value, low, high]}}, ...}.

    Raises:
        FileNotFoundError: if there is nothing at `data`.
        ValueError: if the data do not fit the task.
    """
    fitted, scored = _clips(data, settings)
    scores = {}
    for name, features in _methods(encoder, settings).items():
        say(f"{settings.task}: {name}")
        measured = _measure(features, fitted, scored, settings)
        scores[name] = {
            score: list(interval)
            for score, interval in measured.intervals(seed=settings.seed).items()
        }
    return {
        "task": settings.task,
        "encoder": encoder,
        "data": str(data),
        "head": settings.head if settings.fits_a_head else None,
        "num_fitted": len(fitted),
        "num_clips": len(scored),
        "seed": settings.seed,
        "scores": scores,
    }


def score_table(result: dict[str, Any]) -> str:
    """Returns a table for the terminal: a line for each method, a column for each score."""
    names = list(next(iter(result["scores"].values())))
    marked = [f"{name} (less is better)" if name in LESS_IS_BETTER else name for name in names]
    fitted = f", head fitted on {result['num_fitted']} others" if result["num_fitted"] else ""
    lines = [f"{result['task']} on {result['num_clips']} clips{fitted}; 95 % intervals over clips"]
    lines.append(f"{'':<12}" + "".join(f"{name:>26}" for name in marked))
    for method, row in result["scores"].items():
        cells = "".join(
            f"{f'{value:.3f} [{low:.3f}, {high:.3f}]':>26}" for value, low, high in row.values()
        )
        lines.append(f"{method:<12}{cells}")
    return "\n".join(lines)


def _measure(
    features: Any,  # noqa: ANN401 - `PatchFeatures`, or None: imported when it is needed
    fitted: ChosenClips,
    scored: ChosenClips,
    settings: DenseSettings,
) -> Measurements:
    """Runs the task for one method."""
    from jepa.evaluation.dense import fitted_tasks, matching_tasks

    if settings.fits_a_head:
        measure = getattr(fitted_tasks, settings.task)
        return measure(features, fitted, scored, head=settings.head, seed=settings.seed)
    return getattr(matching_tasks, settings.task)(features, scored)


def _methods(source: str, settings: DenseSettings) -> dict[str, Any]:
    """Returns what makes features, by name; None is the baseline in which nothing moves."""
    from jepa.evaluation.dense.patches import EncoderPatches, PixelPatches, PlacePatches
    from jepa.evaluation.encoders import PIXELS, UNTRAINED, load_probe_encoder

    def loaded(name: str) -> EncoderPatches:
        return EncoderPatches(
            load_probe_encoder(
                name,
                layers=settings.layers,
                frame_by_frame=settings.frame_by_frame,
                image_size=settings.image_size,
                seed=settings.seed,
            )
        )

    trained = loaded(source)
    methods: dict[str, Any] = {"encoder": trained}
    if source != PIXELS and not source.startswith(UNTRAINED):
        methods["untrained"] = loaded(UNTRAINED + source)
    methods["pixels"] = PixelPatches(trained.grid)
    if settings.fits_a_head:
        return methods | {"place alone": PlacePatches(trained.grid)}
    return methods | {"no motion": None}


def _clips(data: str | Path, settings: DenseSettings) -> tuple[ChosenClips, ChosenClips]:
    """Returns the clips to fit a head on (none where no head is fitted), and those to score."""
    from jepa.evaluation.dense.measured_clips import chosen_clips

    opened = importlib.import_module(BASE).open_dense
    most = settings.max_clips
    source = opened(data, layout=settings.layout)
    order = np.random.default_rng(settings.seed).permutation(len(source))[:most]
    if not settings.fits_a_head:
        return chosen_clips(source, []), chosen_clips(source, sorted(order.tolist()))
    if settings.test_data is not None:
        other = opened(settings.test_data, layout=settings.layout)
        return chosen_clips(source, order.tolist()), chosen_clips(other, range(len(other))[:most])
    num_scored = max(1, round(settings.test_share * len(order)))
    if num_scored >= len(order):
        raise ValueError(
            f"{data} has {len(order)} clips to use: too few to fit on some and score on others; "
            "give more, or --test-data"
        )
    return (
        chosen_clips(source, order[num_scored:].tolist()),
        chosen_clips(source, sorted(order[:num_scored].tolist())),
    )


def _make(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="jepa dense make",
        description="Writes clips of moving shapes with exact masks, depths and point tracks.",
        epilog="example: jepa dense make shapes --clips 40 --size 64",
    )
    parser.add_argument("folder", type=Path, help="gets one .npz file per clip")
    parser.add_argument("--clips", type=int, default=40, help="how many")
    parser.add_argument("--frames", type=int, default=16, help="of each clip")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--shapes", type=int, default=3, help="of each clip")
    parser.add_argument("--points", type=int, default=32, help="that are followed in each clip")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same clips")
    options = parser.parse_args(argv)
    paths = importlib.import_module(SYNTHETIC).write_dense_shapes(
        options.folder,
        num_clips=options.clips,
        num_frames=options.frames,
        size=options.size,
        num_shapes=options.shapes,
        num_points=options.points,
        seed=options.seed,
    )
    print(f"wrote {len(paths)} clips to {options.folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jepa dense", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--encoder", required=True, help="a run, a checkpoint, timm:NAME, pixels, untrained:...")
    add("--data", required=True, help="clips with labels")
    add("--task", required=True, choices=TASKS, help="what is asked of the features")
    add("--test-data", help="score heads on these; else on a share of --data")
    add("--layout", help=_layout_help())
    add(
        "--head",
        choices=("closed_form", "trained"),
        default="closed_form",
        help="ridge or logistic regression on patches, or the published trained head",
    )
    add("--layers", type=int, nargs="+", help="blocks, -1 the last; default: the output")
    add(
        "--frames",
        choices=("single", "clip", "auto"),
        default="single",
        help="encode frames one by one, whole clips, or as the encoder was trained",
    )
    add("--image-size", type=int, help="frames get this height and width; default: the encoder's")
    add("--test-share", type=float, default=0.3, help="of the clips, to score heads on")
    add("--max-clips", type=int, help="use no more")
    add("--seed", type=int, default=0, help="of splits, heads, untrained weights, intervals")
    add("--out", type=Path, help="write the scores to this JSON file")
    return parser


def _layout_help() -> str:
    return "; ".join(
        f"{name}: {summary}" for name, summary in importlib.import_module(BASE).layouts().items()
    ).replace("%", "%%")


if __name__ == "__main__":
    sys.exit(main())
