"""`jepa world-model`: a report card of an action-conditioned world model, on held-out recordings.

    jepa world-model --model two_rooms --data held_out
    jepa world-model --model runs/world_model --data held_out --shift colour=held_out_blue \
        --shift mass=held_out_heavy --out card.json --figures figures

Five properties that a useful world model needs, each with numbers, intervals over episodes and a
verdict with its rule: causality, controllability, persistence, responsiveness and generalisation.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jepa.command_line import OneLineParser

if TYPE_CHECKING:
    from jepa.evaluation.world_model_card.card import CardSettings, WorldModelCard

INVERSES = ("auto", "negate", "none")
COVERS = ("blank", "mean")


def main(argv: list[str] | None = None) -> int:
    """Measures the card; returns the exit code: 0 measured, whatever the verdicts.

    Raises:
        ValueError: what the user can mend, as OSError is.
    """
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    shifts = named_shards(arguments.shift)
    _refuse_short_horizon(arguments)

    from jepa.evaluation.world_model_card.table import card_table

    card = _measured(arguments, shifts)
    print(card_table(card))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(card.to_json(), indent=1) + "\n", encoding="utf-8")
    if arguments.figures is not None:
        _write_figures(card, arguments.figures)
    return 0


def named_shards(pairs: list[str]) -> dict[str, str]:
    """Returns `["colour=shards/blue", ...]` by name.

    Raises:
        ValueError: if a pair is not NAME=SHARDS, or a name comes twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, shards = pair.partition("=")
        if not (name and sign and shards):
            raise ValueError(f"--shift must be NAME=SHARDS, such as mass=heavy, got {pair!r}")
        if name in found:
            raise ValueError(f"--shift {name} is given twice; give each its own name")
        found[name] = shards
    return found


def _measured(arguments: argparse.Namespace, shifts: dict[str, str]) -> WorldModelCard:
    """Loads the model and the recordings, and measures."""
    from jepa.evaluation.world_model_card.card import measure_card
    from jepa.evaluation.world_model_card.held_out import load_windows
    from jepa.evaluation.world_model_card.loading import load_model

    settings = _settings(arguments)
    model = load_model(arguments.model, device=arguments.device)
    sets = {
        name: load_windows(
            model,
            shards,
            horizon=arguments.horizon,
            windows_per_episode=arguments.windows,
            max_episodes=arguments.episodes,
            seed=arguments.seed,
        )
        for name, shards in {"": arguments.data, **shifts}.items()
    }
    return measure_card(
        model,
        sets.pop(""),
        sets,
        settings=settings,
        model_name=arguments.model,
        data_name=arguments.data,
    )


def _settings(arguments: argparse.Namespace) -> CardSettings:
    from jepa.evaluation.world_model_card.card import CardSettings

    return CardSettings(
        num_hidden=arguments.hidden,
        cover=arguments.cover,
        round_trip_steps=arguments.there_and_back,
        inverse=arguments.inverse,
        num_samples=arguments.samples,
        deadline_hz=arguments.deadline_hz,
        repeats=arguments.repeats,
        seed=arguments.seed,
    )


def _write_figures(card: WorldModelCard, folder: Path) -> None:
    from jepa.evaluation.world_model_card.figures import card_figures

    folder.mkdir(parents=True, exist_ok=True)
    for name, png in card_figures(card).items():
        (folder / f"{name}.png").write_bytes(png)


def _refuse_short_horizon(arguments: argparse.Namespace) -> None:
    if arguments.horizon < arguments.hidden + 2:
        raise ValueError(
            f"--horizon {arguments.horizon} leaves no room for {arguments.hidden} hidden frames: "
            f"it must be at least {arguments.hidden + 2}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="jepa world-model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", required=True,
        help="a world model folder, a run that holds one, the name of one that comes with a clone, "
        "or an official V-JEPA 2-AC checkpoint (.pt)",
    )  # fmt: skip
    parser.add_argument("--data", required=True, help="trajectory shards it was not trained on")
    parser.add_argument(
        "--shift", action="append", default=[], metavar="NAME=SHARDS",
        help="the same world with another mass, friction, colour or camera; may be given again",
    )  # fmt: skip
    parser.add_argument("--horizon", type=int, default=8, help="imagined actions (8)")
    parser.add_argument("--windows", type=int, default=4, help="of each episode (4)")
    parser.add_argument("--episodes", type=int, default=64, help="at most, of each set (64)")
    parser.add_argument("--hidden", type=int, default=2, help="frames under the cover (2)")
    parser.add_argument(
        "--cover", choices=COVERS, default="blank",
        help="what is under it: blank frames, or the mean latent, which is less strange",
    )  # fmt: skip
    parser.add_argument("--there-and-back", type=int, default=3, help="actions each way (3)")
    parser.add_argument(
        "--inverse", choices=INVERSES, default="auto",
        help="what undoes an action; auto: minus, where all are displacements such as dx",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=64, help="plans imagined at once (64)")
    parser.add_argument("--deadline-hz", type=float, default=10.0, help="control steps a second")
    parser.add_argument("--repeats", type=int, default=50, help="of what is timed (50)")
    parser.add_argument("--seed", type=int, default=0, help="of windows, shuffles and intervals")
    parser.add_argument("--device", default="cpu", help="of the world model, for example cuda")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    parser.add_argument("--figures", type=Path, help="write the charts into this folder")
    return parser


if __name__ == "__main__":
    from jepa.command_line import run

    sys.exit(run(main, sys.argv[1:]))
