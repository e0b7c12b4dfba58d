"""Where a verb of `jepa plan` acts: environment, start and goals, and the landscape there."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from planning.verbs.action_options import limited, limits_of
from planning.verbs.freeze import options_of
from planning.verbs.options import start_names_of, state_of

if TYPE_CHECKING:
    from planning.control.goal_pursuit import CostMaker
    from planning.control.running import Goals
    from planning.landscape import Landscape
    from planning.latent_world import LatentWorld
    from planning.search.rounds import SearchPlanner
    from planning.types import Environment


def environment_of(arguments: argparse.Namespace, world: LatentWorld) -> Environment:
    """Returns the environment that was asked for, within the limits that were.

    Raises:
        ValueError: if there is none of that name, if the world model sees frames of another size,
            or if a limit does not fit.
    """
    from planning.environments import make_environment

    options = options_of(getattr(arguments, "env_option", []))
    environment = make_environment(arguments.env, **options)
    size, shown = world.image_size, environment.image_size
    if size != shown:
        raise ValueError(
            f"the world model sees {size} x {size} pixels, {environment.name} shows {shown} x "
            f"{shown}; use a world model that was trained on this environment"
        )
    max_steps = getattr(arguments, "max_steps", None)
    if max_steps is not None:
        if max_steps < 1:
            raise ValueError(f"--max-steps must be at least 1, got {max_steps}")
        environment.max_steps = max_steps
    return limited(environment, limits_of(arguments))


def goals_of(arguments: argparse.Namespace, world: LatentWorld, environment: Environment) -> Goals:
    """Returns where to start and where to go.

    Raises:
        ValueError: if there is no goal, an image has another size, or a state is none.
    """
    from planning.control.running import Goals
    from planning.goal_images import read_goal_image

    if not arguments.goal and arguments.goal_state is None:
        raise ValueError(
            "no goal: give --goal image.png, or --goal-state "
            f"{','.join(start_names_of(environment))} and let the simulator draw it"
        )
    frames = [
        read_goal_image(path, image_size=world.image_size, resizes=arguments.resize_goal)
        for path in arguments.goal or []
    ]
    return Goals(
        frames=frames or None,
        state=state_of(arguments.goal_state, environment, option="--goal-state"),
        start=state_of(arguments.start, environment, option="--start"),
    )


def refuse_other_plans(
    planner: SearchPlanner, world: LatentWorld, environment: Environment
) -> None:
    """Raises ValueError if the planner cannot plan such actions, or chooses more than there are."""
    from planning.search.settings import planner_class, planner_names

    spec = environment.action_spec
    if planner.action_kind != spec.kind:
        able = [name for name in planner_names() if planner_class(name).action_kind == spec.kind]
        kinds = {"one_hot": "choices", "continuous": "continuous actions"}
        raise ValueError(
            f"{type(planner).__name__} plans {kinds[planner.action_kind]}, those of "
            f"{environment.name} are {kinds[spec.kind]} ({', '.join(spec.names)}); use --planner "
            f"{' or '.join(able)}"
        )
    num_steps = planner.horizon * world.action_steps.joined(spec).num_steps
    planner.parameterization.first_steps(num_steps)


def has_landscape(environment: Environment) -> bool:
    """True if actions have two dimensions in which they can be more or less."""
    spec = environment.action_spec
    return spec.dim >= 2 and spec.kind != "one_hot"


def first_landscape(
    world: LatentWorld, environment: Environment, goals: Goals, *, seed: int, num_steps: int = 4,
    num_cells: int = 21, axes: tuple[int, int] = (0, 1), cost_of: CostMaker | None = None,
) -> Landscape:  # fmt: skip
    """Returns the landscape at the start, towards the first goal; as the run will begin."""
    from planning.goal_images import ImageGoal
    from planning.landscape import energy_landscape

    shown, knows_state = environment, goals.frames is None
    if goals.frames:
        knows_state = goals.state is not None and len(goals.frames) == 1
        shown = ImageGoal(environment, goals.frames[0])
    generator = np.random.default_rng(seed)
    goal = goals.state if goals.frames is None else None
    time_step = shown.reset(generator, start=goals.start, goal=goal)
    return energy_landscape(
        world, shown, time_step,
        goal_state=goals.state if knows_state else None,
        simulator=environment, cost_of=cost_of, axes=axes, num_steps=num_steps,
        num_cells=num_cells,
    )  # fmt: skip
