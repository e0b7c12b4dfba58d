"""`jepa plan landscape`: what the planner will see, before anything moves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from planning.verbs.action_options import add_action_options, limits_of
from planning.verbs.cost_options import add_cost_options, asked_costs_of
from planning.verbs.number_options import MAX_CELLS, MAX_HELD_STEPS, at_most
from planning.verbs.options import (
    add_config_option,
    add_environment_options,
    add_precision_options,
    add_world_options,
    load_world,
    prepare_results,
    threads_of,
)
from planning.verbs.situation import environment_of, first_landscape, goals_of

if TYPE_CHECKING:
    from planning.landscape import Landscape
    from planning.types import Environment

DESCRIPTION = """Draws the cost over two dimensions of one action that is held for some steps.

Writes landscape.png and landscape.json, and warns where the landscape is flat or misleading. Exit
code: 0 a planner can work with it, 1 it is flat, 2 the input is no good, 3 a fault of ours."""


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "landscape", help="the energy over two action dimensions", description=DESCRIPTION
    )
    verb.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_option(verb)
    add_world_options(verb)
    add_environment_options(verb)
    add_precision_options(verb)
    add_action_options(verb)
    add_cost_options(verb)
    verb.add_argument(
        "--steps", type=at_most(MAX_HELD_STEPS), default=4,
        help="how long the action is held; 1: once",
    )  # fmt: skip
    verb.add_argument("--cells", type=at_most(MAX_CELLS), default=21, help="along each axis")
    verb.add_argument("--axes", help="names of two action dimensions, for example dx,dy")
    verb.add_argument("--out", type=Path, default=Path("runs/plan"), help="folder of the results")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    import torch

    from planning.verbs.cost_terms import cost_terms_of
    from planning.verbs.log import versions, write_json
    from planning.verbs.pictures import landscape_png

    asked, out = asked_costs_of(arguments), Path(arguments.out)
    limits_of(arguments)  # what cannot be read is said before anything is loaded
    torch.set_num_threads(threads_of(arguments))
    prepare_results(out, "landscape.png", "landscape.json")
    world = load_world(arguments)
    environment = environment_of(arguments, world)
    goals, steps = goals_of(arguments, world, environment), max(arguments.steps, 1)
    terms = cost_terms_of(
        asked, world, environment, goal_state=goals.state, num_steps=steps, out=out
    )
    landscape = first_landscape(
        world, environment, goals, seed=arguments.seed,
        num_steps=arguments.steps, num_cells=arguments.cells,
        axes=axes_of(arguments.axes, environment), cost_of=terms.cost_of(steps),
    )  # fmt: skip
    (out / "landscape.png").write_bytes(landscape_png(landscape))
    told = {"precision": world.precision, "cost": terms.to_json(steps)}
    write_json(
        out / "landscape.json", {"versions": versions(), "settings": told, **landscape.to_json()}
    )
    print(numbers(landscape))
    for warning in landscape.warnings:
        print(f"warning: {warning}")
    print(f"wrote landscape.png and landscape.json: {out}")
    return 1 if landscape.is_flat else 0


def axes_of(names: str | None, environment: Environment) -> tuple[int, int]:
    """Returns the indices of two action dimensions, the first two if none are named.

    Raises:
        ValueError: if they are not two dimensions of the environment's actions.
    """
    known = environment.action_spec.names
    if names is None:
        return (0, 1)
    parts = [name.strip() for name in names.split(",")]
    if len(parts) != 2 or len(set(parts)) != 2 or not set(parts) <= set(known):
        raise ValueError(f"--axes must be two of {', '.join(known)}, got {names!r}")
    return known.index(parts[0]), known.index(parts[1])


def numbers(landscape: Landscape) -> str:
    """Returns the landscape's numbers, one a line."""
    best = ", ".join(
        f"{name} {value:.3g} {unit}"
        for name, value, unit in zip(
            landscape.names, landscape.best_action, landscape.units, strict=True
        )
    )
    facts = landscape.to_json()
    lines = [
        f"cost                 {facts['minimum']:.4g} to {facts['maximum']:.4g}, "
        f"latent distance now {landscape.start_distance:.4g}",
        f"lowest at            {best}",
        f"relief               {landscape.relief:.3g} typical steps",
        f"contrast             {landscape.contrast:.3g} (mean to lowest, in standard deviations)",
    ]
    if landscape.true_distances is not None:
        correlation = landscape.rank_correlation
        told = "undefined" if correlation is None else f"{correlation:.3f}"
        lines.append(f"rank correlation     {told} (with the true distance)")
    return "\n".join(lines)
