"""Options of `jepa plan` that say what a plan costs: read here, made into costs in `cost_terms`."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from planning.verbs.action_options import interval, named_values, number

if TYPE_CHECKING:
    from planning.costs import Reduction, Region

TERMS = {
    "goal": "the distance to the goal; 1 if it is not named",
    "action_size": "mean square of the actions, in half-ranges",
    "action_change": "mean square of what changes from action to action, in half-ranges",
    "action_jerk": "likewise of the change of that change",
    "disagreement": "how far the members of an ensemble are apart",
    "out_of_distribution": "how far what is imagined is from --known-data",
    "state_distance": "the imagined state's distance to --goal-state, in standard deviations",
    "keep_out": "how far a --keep-out is entered, instead of ruling that out",
    "workspace": "how far the --workspace is left, instead of ruling that out",
}
KNOWN_FRAMES = 2000
BANK_SUFFIX = ".safetensors"
DISTANCES = ("own", "l1", "l2", "squared_l2", "cosine")


@dataclass(frozen=True)
class AskedCosts:
    """What a plan shall cost, as far as words go.

    Attributes:
        distance: name of the distance of latents, see `planning.costs.distance_named`.
        is_pooled: compare mean tokens.
        reduction: over the steps of a rollout.
        weights: of every term by its name; the goal is one of them.
        keep_out: regions of the state, as text.
        workspace: the region of the state to stay in, as text.
        margin: distance to keep from both.
        known_data: trajectory shards, or the file of a bank of latents.
        known_frames: of the shards, to be encoded, about.
    """

    distance: str
    is_pooled: bool
    reduction: Reduction
    weights: Mapping[str, float]
    keep_out: tuple[str, ...] = ()
    workspace: str | None = None
    margin: float = 0.0
    known_data: Path | None = None
    known_frames: int = KNOWN_FRAMES

    @property
    def knows_a_bank(self) -> bool:
        """Whether what is known comes as a bank of latents, not as trajectories."""
        return self.known_data is not None and self.known_data.suffix == BANK_SUFFIX


def add_cost_options(verb: argparse.ArgumentParser) -> None:
    """Adds what a plan costs besides, or instead of, the world model's distance to the goal."""
    terms = "; ".join(f"{name}: {meaning}" for name, meaning in TERMS.items())
    verb.add_argument(
        "--cost-term", action="append", default=[], metavar="NAME=WEIGHT",
        help=f"adds a term to the cost. {terms}",
    )  # fmt: skip
    verb.add_argument(
        "--distance", choices=DISTANCES, default="own", help="of latents; default: the model's own"
    )
    verb.add_argument(
        "--pooled", action="store_true", help="compare mean tokens: what there is, not where"
    )
    verb.add_argument(
        "--discount", type=float,
        help="in (0, 1]: each step of a plan counts so many times the one before",
    )  # fmt: skip
    verb.add_argument(
        "--keep-out", action="append", default=[], metavar="x=LOW:HIGH,y=LOW:HIGH",
        help="rule out plans into this box of the state, or disc: x=10,y=20,radius=5",
    )  # fmt: skip
    verb.add_argument(
        "--workspace", metavar="x=LOW:HIGH,y=LOW:HIGH", help="rule out plans that leave this box"
    )
    verb.add_argument(
        "--margin", type=float, help="distance to keep from both, in the unit of the state"
    )
    verb.add_argument(
        "--known-data", type=Path,
        help="for out_of_distribution and disagreement: trajectory shards of what is known, or, "
        "for the former, a bank that was made of them",
    )  # fmt: skip
    verb.add_argument(
        "--known-frames", type=int,
        help=f"of --known-data: encode about so many (default: {KNOWN_FRAMES})",
    )  # fmt: skip


def asked_costs_of(arguments: argparse.Namespace) -> AskedCosts:
    """Returns what the options ask for.

    Args:
        arguments: of a verb that has these options; `cost`, `goal` and `goal_state` are looked at
            where it has them.

    Raises:
        ValueError: if something cannot be read, or would decide nothing.
    """
    asked = AskedCosts(
        distance=arguments.distance,
        is_pooled=arguments.pooled,
        reduction=_reduction_of(arguments),
        weights=_weights_of(arguments.cost_term),
        keep_out=tuple(arguments.keep_out),
        workspace=arguments.workspace,
        margin=0.0 if arguments.margin is None else arguments.margin,
        known_data=arguments.known_data,
        known_frames=KNOWN_FRAMES if arguments.known_frames is None else arguments.known_frames,
    )
    _refuse_pooled_own(asked)
    _refuse_missing_regions(asked, has_margin=arguments.margin is not None)
    _refuse_missing_data(asked, has_frames=arguments.known_frames is not None)
    _refuse_missing_goal_state(arguments, asked)
    return asked


def region_of(
    text: str, state_names: Sequence[str], *, option: str
) -> tuple[Region, tuple[int, ...]]:
    """Returns a region of the state, and the columns that it is in.

    Args:
        text: `x=10:20,y=30:40`, a box; or `x=10,y=20,radius=5`, a disc.
        state_names: of all columns.
        option: whose value it is, for errors.

    Raises:
        ValueError: if it cannot be read, or names no column of the state.
    """
    from planning.costs import Box, Disc

    form = "x=LOW:HIGH,y=LOW:HIGH or x=AT,y=AT,radius=SIZE"
    sides = named_values(text.split(","), option=option, form=form)
    radius = sides.pop("radius", None)
    unknown = [name for name in sides if name not in state_names]
    if unknown or not sides:
        raise ValueError(
            f"{option} must name columns of the state ({', '.join(state_names)}), got {text!r}"
        )
    columns = tuple(state_names.index(name) for name in sides)
    try:
        if radius is not None:
            center = tuple(number(side, option=option) for side in sides.values())
            return Disc(center, number(radius, option=option)), columns
        low, high = zip(*(interval(side, option=option) for side in sides.values()), strict=True)
        return Box(low, high), columns
    except ValueError as error:
        prefix = "" if str(error).startswith(option) else f"{option} {text!r}: "
        raise ValueError(f"{prefix}{error}") from error


def _reduction_of(arguments: argparse.Namespace) -> Reduction:
    from planning.costs import Discounted

    over_steps: Literal["mean", "last"] = getattr(arguments, "cost", "mean")
    if arguments.discount is None:
        return over_steps
    if over_steps == "last":
        raise ValueError("--discount weighs all steps, --cost last counts one; leave one out")
    if not 0 < arguments.discount <= 1:
        raise ValueError(f"--discount must be in (0, 1], got {arguments.discount:g}")
    return Discounted(arguments.discount)


def _weights_of(pairs: Sequence[str]) -> dict[str, float]:
    words = named_values(pairs, option="--cost-term", form="NAME=WEIGHT")
    weights = {"goal": 1.0}
    for word, text in words.items():
        name, option = word.replace("-", "_"), f"--cost-term {word}"
        if name not in TERMS:
            close = difflib.get_close_matches(name, TERMS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"there is no {option}; {hint}there are: {', '.join(TERMS)}")
        weights[name] = number(text, option=option)
        if weights[name] < 0:
            raise ValueError(f"{option} must be at least 0, got {text}")
    if not any(weights.values()):
        raise ValueError("all weights of --cost-term are 0, so every plan would cost the same")
    return weights


def _refuse_pooled_own(asked: AskedCosts) -> None:
    if asked.is_pooled and asked.distance == "own":
        raise ValueError("--pooled needs --distance: the world model's own cannot be pooled")


def _refuse_missing_regions(asked: AskedCosts, *, has_margin: bool) -> None:
    regions = {"keep_out": asked.keep_out, "workspace": asked.workspace}
    for name, region in regions.items():
        if name in asked.weights and not region:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"--cost-term {name} needs {option}, the region that it is about")
    if has_margin and not any(regions.values()):
        raise ValueError("--margin is kept from --keep-out and --workspace; give one of them")
    if not 0 <= asked.margin < math.inf:
        raise ValueError(f"--margin must be at least 0 and finite, got {asked.margin:g}")


def _refuse_missing_data(asked: AskedCosts, *, has_frames: bool) -> None:
    wanting = [name for name in ("out_of_distribution", "disagreement") if asked.weights.get(name)]
    if has_frames and (asked.known_data is None or asked.knows_a_bank):
        raise ValueError("--known-frames is of trajectory shards in --known-data; leave it out")
    if asked.known_frames < 1:
        raise ValueError(f"--known-frames must be at least 1, got {asked.known_frames}")
    if asked.known_data is None:
        if "out_of_distribution" in wanting:
            raise ValueError(
                "--cost-term out_of_distribution needs --known-data: the trajectory shards that "
                "the world model was trained on"
            )
        return
    if not wanting:
        raise ValueError(
            "--known-data would decide nothing; add --cost-term out_of_distribution=1, or "
            "disagreement=1"
        )
    if not asked.known_data.exists():
        raise FileNotFoundError(f"--known-data: there is no {asked.known_data}")
    if asked.knows_a_bank and "disagreement" in wanting:
        raise ValueError(
            f"--known-data {asked.known_data} is a bank of latents, which says nothing of "
            "disagreement; give the trajectory shards"
        )


def _refuse_missing_goal_state(arguments: argparse.Namespace, asked: AskedCosts) -> None:
    if not asked.weights.get("state_distance"):
        return
    if arguments.goal_state is None or len(arguments.goal or []) > 1:
        raise ValueError(
            "--cost-term state_distance needs --goal-state, and at most one --goal: of the others "
            "nobody knows the state"
        )
