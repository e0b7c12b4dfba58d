"""`jepa plan run`: one run to a goal image, told as it goes, with a film, a landscape and a log."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from planning.verbs.options import (
    add_config_option,
    add_environment_options,
    add_planner_options,
    add_world_options,
    deadline_of,
    device_of,
    execute_steps_of,
    planner_of,
    prepare_results,
    state_of,
    threads_of,
)

if TYPE_CHECKING:
    from planning.control.goal_pursuit import ArrivalRule, CostMaker
    from planning.control.mpc import PlanRecord
    from planning.control.running import Goals, Outcome, RunSettings
    from planning.landscape import Landscape
    from planning.latent_world import LatentWorld
    from planning.search.rounds import SearchPlanner
    from planning.types import Environment

DESCRIPTION = """Acts until the goal is reached or the steps are used up.

Writes episode.gif, landscape.png and log.json; a run that fails leaves a log.json that says why.
Success is what the simulator says if the goal's state is given; of a goal image alone, a latent
distance below one typical step (--reached-distance says another). Exit code: 0 the goal was
reached, 1 it was not, 2 the input is no good, 3 a fault of ours."""
PICTURES = ("episode.gif", "landscape.png")
PERIOD_RANGE_MS = (0.1, 60_000.0)


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "run", help="act until a goal image is reached", description=DESCRIPTION
    )
    verb.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_option(verb)
    add_world_options(verb)
    add_environment_options(verb)
    add_planner_options(verb)
    verb.add_argument("--max-steps", type=int, help="budget; default: the environment's")
    verb.add_argument(
        "--reached-distance", type=float,
        help="latent distance of a reached goal, where no simulator judges",
    )  # fmt: skip
    verb.add_argument(
        "--sub-goal-steps", type=int,
        help="with several --goal: go on to the next after so many steps",
    )  # fmt: skip
    verb.add_argument(
        "--async", dest="is_asynchronous", action="store_true", help="plan while acting, real time"
    )
    verb.add_argument(
        "--stale", choices=("continue", "hold", "zero"),
        help="with --async: what bridges a late plan (default: continue)",
    )  # fmt: skip
    verb.add_argument(
        "--period-ms", type=float, help="with --async: from step to step; default: real time"
    )
    verb.add_argument("--cells", type=int, default=21, help="of landscape.png, along each axis")
    verb.add_argument("--no-pictures", action="store_true", help="write log.json only")
    verb.add_argument("--out", type=Path, default=Path("runs/plan"), help="folder of the results")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    import torch

    from planning.latent_world import LatentWorld

    planner = planner_of(arguments)
    settings, arrival = _settings(arguments, planner), _arrival(arguments)
    torch.set_num_threads(threads_of(arguments))
    device = device_of(arguments)
    pictures = () if arguments.no_pictures else PICTURES
    prepare_results(arguments.out, "log.json", *pictures)
    world = LatentWorld.load(arguments.checkpoint, device=device)
    environment = environment_of(arguments, world)
    goals = goals_of(arguments, world, environment)
    landscape = _landscape(arguments, world, environment, goals, settings)
    asked = _asked(arguments, planner, landscape)
    outcome = _run_logged(
        world, planner, environment, goals, settings, arrival, asked, arguments.out
    )
    print(verdict(outcome))
    if arguments.no_pictures:
        print(f"wrote log.json: {arguments.out}")
    else:
        _write_pictures(arguments.out, outcome, landscape)
    return 0 if outcome.is_success else 1


def has_landscape(environment: Environment) -> bool:
    """True if actions have two dimensions in which they can be more or less."""
    spec = environment.action_spec
    return spec.dim >= 2 and spec.kind != "one_hot"


def environment_of(arguments: argparse.Namespace, world: LatentWorld) -> Environment:
    """Returns the environment that was asked for.

    Raises:
        ValueError: if there is none of that name, or the world model sees frames of another size.
    """
    from planning.environments import make_environment

    environment = make_environment(arguments.env)
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
    return environment


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
            f"{','.join(environment.state_names)} and let the simulator draw it"
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


def verdict(outcome: Outcome) -> str:
    """Says in one line how a run ended, and who says so."""
    episode = outcome.episode
    ended = "goal reached" if outcome.is_success else "goal not reached"
    text = f"{ended} after {episode.num_steps} steps, {len(episode.plans)} plans"
    if outcome.judge == "simulator":
        text += f"; {episode.final_distance:.3g} from the goal (the simulator judges)"
    elif outcome.reached_distance is not None:
        text += f"; judged by the latent distance: reached below {outcome.reached_distance:.3g}"
    if (lateness := outcome.lateness) is not None:
        text += (
            f"; {lateness.num_late_plans} late plans, {lateness.num_missed_steps} steps bridged, "
            f"{lateness.num_waiting_steps} steps until the first plan, "
            f"{outcome.num_late_steps} steps off the beat"
        )
    return text


def _landscape(
    arguments: argparse.Namespace,
    world: LatentWorld,
    environment: Environment,
    goals: Goals,
    settings: RunSettings,
) -> Landscape | None:
    """Returns the landscape at the start, and prints its warnings; None if there can be none."""
    from planning.control.mpc import goal_distance

    if not has_landscape(environment):
        return None
    landscape = first_landscape(
        world, environment, goals, seed=arguments.seed, num_cells=arguments.cells,
        cost_of=goal_distance(settings.reduction),
    )  # fmt: skip
    for warning in landscape.warnings:
        print(f"warning: {warning}")
    return landscape


def _run_logged(
    world: LatentWorld,
    planner: SearchPlanner,
    environment: Environment,
    goals: Goals,
    settings: RunSettings,
    arrival: ArrivalRule,
    asked: dict[str, Any],
    out: Path,
) -> Outcome:
    """Runs to the goal, and writes log.json whatever comes of it."""
    from planning.control.progress import Progress
    from planning.control.running import run_to_goal
    from planning.verbs.log import WatchedEnvironment, failed_run_log, run_log, write_json

    watched, plans = WatchedEnvironment(environment), []
    num_goals = len(goals.frames or [None])
    progress = Progress(sys.stdout, max_steps=environment.max_steps, num_goals=num_goals)

    def on_plan(record: PlanRecord) -> None:
        plans.append(record)
        progress.on_plan(record)

    try:
        outcome = run_to_goal(
            world, planner, cast("Environment", watched), goals,
            settings=settings, arrival=arrival, on_plan=on_plan,
        )  # fmt: skip
    except BaseException as error:  # Ctrl-C, too
        told = failed_run_log(error, settings=asked, plans=plans, watched=watched)
        with suppress(OSError):  # a full disk, a closed pipe: what failed first must be told
            write_json(out / "log.json", told)
            progress.close()
            print(f"wrote log.json, of a run that was cut short: {out}")
        raise
    write_json(out / "log.json", run_log(outcome, settings=asked))
    progress.close()
    return outcome


def _settings(arguments: argparse.Namespace, planner: SearchPlanner) -> RunSettings:
    from planning.control.running import RunSettings

    return RunSettings(
        execute_steps=execute_steps_of(arguments, planner),
        reduction=arguments.cost,
        deadline_seconds=deadline_of(arguments),
        seed=arguments.seed,
        is_asynchronous=arguments.is_asynchronous,
        stale=arguments.stale or "continue",
        period_seconds=_period_of(arguments),
    )


def _period_of(arguments: argparse.Namespace) -> float | None:
    """Returns the period of an asynchronous run in seconds; None: what the environment says.

    Raises:
        ValueError: if it is out of range, or what only an asynchronous run has is asked of another.
    """
    period = arguments.period_ms
    low, high = PERIOD_RANGE_MS
    if period is not None and not low <= period <= high:
        raise ValueError(f"--period-ms must be from {low:g} to {high:g}, got {period:g}")
    for option, value in (("--stale", arguments.stale), ("--period-ms", period)):
        if value is not None and not arguments.is_asynchronous:
            raise ValueError(f"{option} is of --async runs only; add --async, or leave it out")
    return None if period is None else period / 1e3


def _arrival(arguments: argparse.Namespace) -> ArrivalRule:
    """Returns when a goal counts as reached.

    Raises:
        ValueError: if a number is not positive, or would decide nothing.
    """
    from planning.control.goal_pursuit import ArrivalRule

    rule = ArrivalRule(arguments.reached_distance, arguments.sub_goal_steps)
    num_goals = len(arguments.goal or [])
    if rule.max_steps is not None and num_goals < 2:
        raise ValueError(
            f"--sub-goal-steps needs at least 2 --goal, got {num_goals}; the last goal is never "
            "given up"
        )
    if rule.distance is not None and arguments.goal_state is not None and num_goals < 2:
        raise ValueError(
            "--reached-distance would decide nothing: with --goal-state the simulator judges; "
            "leave out one of the two"
        )
    return rule


def _asked(
    arguments: argparse.Namespace, planner: SearchPlanner, landscape: Landscape | None
) -> dict[str, Any]:
    """Returns what was asked for and what was seen before the run, for the log."""
    from planning.search.settings import settings_of

    options = {k: v for k, v in vars(arguments).items() if k != "run"}
    return {
        "command": f"jepa {shlex.join(sys.argv[1:])}" if sys.argv[1:2] == ["plan"] else "",
        "options": {k: v if isinstance(v, (int, float, type(None))) else str(v)
                    for k, v in options.items()},
        "planner": {"class": type(planner).__name__, **settings_of(planner)},
        "landscape": None if landscape is None else landscape.to_json(),
    }  # fmt: skip


def _write_pictures(out: Path, outcome: Outcome, landscape: Landscape | None) -> None:
    from planning.verbs.film import film
    from planning.verbs.pictures import landscape_png

    (out / "episode.gif").write_bytes(film(outcome))
    if landscape is not None:
        (out / "landscape.png").write_bytes(landscape_png(landscape))
    pictures = "episode.gif" if landscape is None else "episode.gif, landscape.png"
    print(f"wrote log.json, {pictures}: {out}")
