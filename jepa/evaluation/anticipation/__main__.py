"""`jepa anticipate`: which action comes next, from what an encoder sees and its predictor expects.

    jepa anticipate make gates
    jepa anticipate --encoder runs/gates --videos gates/videos --annotations gates/train.csv \
        --validation-annotations gates/validation.csv --test-annotations gates/test.csv
    jepa anticipate --encoder vitg.pt --videos EPIC --annotations EPIC_100_train.csv \
        --test-annotations EPIC_100_validation.csv --cache features

Tables have the layout of EPIC-KITCHENS-100. A clip ends --anticipation seconds before the action;
attentive probes with a query for verb, noun and action are trained on frozen tokens of the clip and
on those that the predictor expects --anticipation seconds later. The best of the sweep is chosen on
validation and scored on test by class-mean recall@5, beside baselines.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa.evaluation.anticipation.options import make_parser, make_set_parser

if TYPE_CHECKING:
    from jepa.evaluation.anticipation.data import AnticipationData, ClipOptions
    from jepa.evaluation.anticipation.study import Row, Study
    from jepa.models.jepa_model import JepaModel

TRACKS = "tracks.npz"


def main(argv: list[str] | None = None) -> int:
    """Runs the verb; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["make"]:
        return _make(words[1:])
    arguments = make_parser(__doc__).parse_args(words)
    from jepa.evaluation.anticipation.data import PARTS, read_data
    from jepa.evaluation.anticipation.result_table import as_json, describe_skipped, table

    model, options = _load(arguments.encoder), _clip_options(arguments)
    length, size = _clip_shape(model, arguments.frames)
    _refuse_impossible(_anticipator(model, arguments), options, (length, size, size))
    data = read_data(
        arguments.videos, _tables(arguments), options, clip_length_frames=length, image_size=size
    )
    rows = _rows(_study(data, arguments), model, arguments, options)
    print(table(rows, official=arguments.official_maximum))
    for part in PARTS:
        print(describe_skipped(part, data))
    if arguments.out is not None:
        about = {"encoder": arguments.encoder, "frames": length, "image_size": size}
        report = as_json(rows, data, about | {"options": asdict(options)})
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _make(words: list[str]) -> int:
    arguments = make_set_parser().parse_args(words)
    module = importlib.import_module("data_pipelines.synthetic_actions")
    folder = module.write_synthetic_actions(
        arguments.folder,
        num_videos=(arguments.train_videos, arguments.validation_videos, arguments.test_videos),
        size=arguments.size,
        shuffle_gates=arguments.shuffle_gates,
        seed=arguments.seed,
    )
    print(f"{folder}: videos, train.csv, validation.csv, test.csv and tracks.npz")
    return 0


def _tables(arguments: argparse.Namespace) -> dict[str, Path | None]:
    return {
        "train": arguments.annotations,
        "validation": arguments.validation_annotations,
        "test": arguments.test_annotations,
    }


def _rows(
    study: Study, model: JepaModel, arguments: argparse.Namespace, options: ClipOptions
) -> list[Row]:
    from jepa.evaluation.anticipation.future_tokens import untrained_twin

    modes = _modes(model, arguments.modes)
    anticipator = _anticipator(model, arguments)
    rows = study.rows("trained", anticipator, modes)
    if "last_frame" in arguments.baselines:
        rows += study.rows("last frame only", anticipator, modes[:1], still=True)
    if "untrained" in arguments.baselines:
        twin = _anticipator(untrained_twin(model, seed=arguments.seed), arguments)
        rows += study.rows("untrained", twin, modes[:1])
    rows.append(study.chance_row())
    tracks = arguments.annotations.parent / TRACKS
    module = importlib.import_module("data_pipelines.gate_actions")
    seen_until = options.anticipation_seconds + 1 / options.frames_per_second
    if tracks.is_file() and math.isclose(seen_until, module.SEEN_UNTIL_SECONDS):
        rows.append(study.oracle_row(tracks))
    return rows


def _study(data: AnticipationData, arguments: argparse.Namespace) -> Study:
    from jepa.evaluation.anticipation.study import Study
    from jepa.evaluation.head_training import Sweep

    sweep = Sweep(
        arguments.learning_rates,
        arguments.weight_decays,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        device=arguments.device,
    )
    return Study(
        data,
        sweep,
        depth=arguments.depth,
        num_heads=arguments.heads,
        batch_size=arguments.batch,
        cache=arguments.cache,
        num_resamples=arguments.resamples,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _load(name: str) -> JepaModel:
    from jepa.checkpoints.pretrained import from_pretrained
    from jepa.models.jepa_model import JepaModel

    model = from_pretrained(name)
    if not isinstance(model, JepaModel):
        raise ValueError(
            f"{name} is a world model, which waits for actions; give the run or the folder of an "
            "encoder that was pretrained with a masked-latent predictor"
        )
    return model


def _anticipator(model: JepaModel, arguments: argparse.Namespace) -> Any:  # noqa: ANN401
    from jepa.evaluation.anticipation.future_tokens import Anticipator

    anticipator = Anticipator(
        model, frames_per_second=arguments.fps, step_tubelets=arguments.step_tubelets
    )
    return anticipator.to(arguments.device).eval()


def _clip_shape(model: JepaModel, frames: int | None) -> tuple[int, int]:
    """Returns frames and pixels of a clip: by default half as long as the encoder is made for."""
    tubelet, patch = model.encoder.tubelet[:2]
    times, side = model.encoder.grid[:2]
    return frames or max(times // 2, 1) * tubelet, side * patch


def _refuse_impossible(
    anticipator: Any,  # noqa: ANN401
    options: ClipOptions,
    size: tuple[int, int, int],
) -> None:
    """Raises ValueError if the clip does not fit; says if the predictor was never asked so far."""
    if options.frames_per_second <= 0:
        raise ValueError(f"--fps must be above 0, got {options.frames_per_second:g}")
    grid = anticipator.encoder.grid_of(size)
    if anticipator.predictor is None:
        return
    anticipator.refuse_too_far(options.greatest_seconds, grid)
    trained = anticipator.trained_seconds(grid)
    if options.greatest_seconds >= trained:
        print(
            f"note: the encoder is made for clips of {anticipator.encoder.grid[0]} tubelets: after "
            f"{grid[0]} of them its predictor was asked for less than {trained:g} s ahead in "
            f"training, here for up to {options.greatest_seconds:g} s; fewer --frames leave room",
            file=sys.stderr,
        )


def _modes(model: JepaModel, wanted: Sequence[str] | None) -> Sequence[Any]:
    """Returns the modes asked for; by default those that the model has."""
    from jepa.evaluation.anticipation.features import MODES

    if model.predictor is None and wanted is None:
        return ("encoder",)
    if model.predictor is None and wanted is not None and set(wanted) != {"encoder"}:
        raise ValueError("this encoder comes without a predictor: only --modes encoder is possible")
    return MODES if wanted is None else wanted


def _clip_options(arguments: argparse.Namespace) -> ClipOptions:
    from jepa.evaluation.anticipation.data import ClipOptions

    return ClipOptions(
        frames_per_second=arguments.fps,
        anticipation_seconds=arguments.anticipation,
        training_seconds=tuple(arguments.train_anticipation),
        anchor=arguments.anchor,
        short_start=arguments.short_start,
        draws_per_action=arguments.draws,
        held_out_fraction=arguments.held_out,
        decoder=arguments.decoder,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    sys.exit(main())
