"""`jepa plan run`: one run to a goal image, told as it goes, with a film, a landscape and a log."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from planning.verbs.action_options import (
    add_action_options,
    add_standstill_option,
    limits_of,
    standstill_of,
)
from planning.verbs.cost_options import add_cost_options, asked_costs_of
from planning.verbs.number_options import MAX_CELLS, at_most
from planning.verbs.options import (
    add_config_option,
    add_environment_options,
    add_planner_options,
    add_precision_options,
    add_world_options,
    deadline_of,
    execute_steps_of,
    load_world,
    planner_of,
    prepare_results,
    threads_of,
    world_loader_of,
)
from planning.verbs.situation import (
    environment_of,
    first_landscape,
    goals_of,
    has_landscape,
    refuse_other_plans,
)

if TYPE_CHECKING:
    from planning.control.goal_pursuit import ArrivalRule
    from planning.control.mpc import PlanRecord
    from planning.control.running import Goals, Outcome, RunSettings
    from planning.landscape import Landscape
    from planning.latent_world import LatentWorld
    from planning.search.rounds import SearchPlanner
    from planning.types import Environment
    from planning.verbs.cost_terms import CostTerms

DESCRIPTION = """Acts until the goal is reached or the steps are used up.

Writes episode.gif, landscape.png and log.json; a run that fails leaves a log.json that says why.
Success is what the simulator says if the goal's state is given; of a goal image alone, a latent
distance below one typical step (--reached-distance says another). Exit code: 0 the goal was
reached, 1 it was not, 2 the input is no good, 3 a fault of ours."""
PICTURES = ("episode.gif", "landscape.png")
PERIOD_RANGE_MS = (0.1, 60_000.0)
GIVE_UP_RANGE_SECONDS = (0.1, 3600.0)
LANDSCAPE_STEPS = 4  # that an action is held in landscape.png


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
    add_precision_options(verb)
    add_action_options(verb)
    add_standstill_option(verb)
    add_cost_options(verb)
    verb.add_argument(
        "--robot-limits", type=Path,
        help="YAML of RobotLimits: hold for whatever is sent, besides the bounds of the actions",
    )  # fmt: skip
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
        "--planner-process", action="store_true",
        help="with --async: plan in a process of its own, which tells of its best plan so far",
    )  # fmt: skip
    verb.add_argument(
        "--give-up-seconds", type=float,
        help="with --planner-process: end it where it tells of no better plan for so long "
        "(default: 10, or twice the deadline)",
    )  # fmt: skip
    verb.add_argument(
        "--stale", choices=("continue", "hold", "zero"),
        help="with --async: what bridges a late plan (default: continue)",
    )  # fmt: skip
    verb.add_argument(
        "--period-ms", type=float, help="with --async: from step to step; default: real time"
    )
    verb.add_argument(
        "--cells", type=at_most(MAX_CELLS), default=21, help="of landscape.png, along each axis"
    )
    verb.add_argument("--no-pictures", action="store_true", help="write log.json only")
    verb.add_argument("--out", type=Path, default=Path("runs/plan"), help="folder of the results")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    prepared = _prepare(arguments)
    landscape = _landscape(prepared, seed=arguments.seed, num_cells=arguments.cells)
    asked = _asked(arguments) | _settled(prepared, landscape)
    outcome = _run_logged(prepared, asked, arguments.out)
    print(verdict(outcome))
    if arguments.no_pictures:
        print(f"wrote log.json: {arguments.out}")
    else:
        _write_pictures(arguments.out, outcome, landscape)
    return 0 if outcome.is_success else 1


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


@dataclass(frozen=True)
class _Prepared:
    """What a run needs; nothing has moved yet."""

    world: LatentWorld
    planner: SearchPlanner
    environment: Environment
    goals: Goals
    terms: CostTerms
    settings: RunSettings
    arrival: ArrivalRule


def _prepare(arguments: argparse.Namespace) -> _Prepared:
    """Reads all options, then loads: what is wrong is said as early as it can be known."""
    import torch

    from planning.safety.robot_limits import RobotLimits
    from planning.verbs.cost_terms import cost_terms_of

    planner, asked_costs = planner_of(arguments), asked_costs_of(arguments)
    settings, arrival = _settings(arguments, planner), _arrival(arguments)
    _refuse_wrong_patience(arguments)
    limits_of(arguments)
    robot_limits = RobotLimits.load(arguments.robot_limits) if arguments.robot_limits else None
    torch.set_num_threads(threads_of(arguments))
    pictures = () if arguments.no_pictures else PICTURES
    prepare_results(arguments.out, "log.json", *pictures)
    world = load_world(arguments)
    environment = environment_of(arguments, world)
    refuse_other_plans(planner, world, environment)
    standstill = standstill_of(arguments.standstill, environment.action_spec)
    goals = goals_of(arguments, world, environment)
    terms = cost_terms_of(
        asked_costs, world, environment, goal_state=goals.state,
        num_steps=max(planner.horizon, LANDSCAPE_STEPS), out=arguments.out,
    )  # fmt: skip
    cost_of = terms.cost_of(planner.horizon)
    settings = replace(settings, cost_of=cost_of, standstill=standstill, limits=robot_limits)
    if arguments.planner_process:
        settings = replace(
            settings,
            load_world=world_loader_of(arguments),
            give_up_seconds=arguments.give_up_seconds,
        )
    return _Prepared(world, planner, environment, goals, terms, settings, arrival)


def _landscape(prepared: _Prepared, *, seed: int, num_cells: int) -> Landscape | None:
    """Returns the landscape at the start, and prints its warnings; None if there can be none."""
    if not has_landscape(prepared.environment):
        return None
    landscape = first_landscape(
        prepared.world, prepared.environment, prepared.goals, seed=seed,
        num_steps=LANDSCAPE_STEPS, num_cells=num_cells,
        cost_of=prepared.terms.cost_of(LANDSCAPE_STEPS),
    )  # fmt: skip
    for warning in landscape.warnings:
        print(f"warning: {warning}")
    return landscape


def _run_logged(prepared: _Prepared, asked: dict[str, Any], out: Path) -> Outcome:
    """Runs to the goal, and writes log.json whatever comes of it."""
    from planning.control.progress import Progress
    from planning.control.running import run_to_goal
    from planning.verbs.log import WatchedEnvironment, failed_run_log, run_log, write_json

    environment, goals = prepared.environment, prepared.goals
    watched, plans = WatchedEnvironment(environment), []
    num_goals = len(goals.frames or [None])
    progress = Progress(sys.stdout, max_steps=environment.max_steps, num_goals=num_goals)

    def on_plan(record: PlanRecord) -> None:
        plans.append(record)
        progress.on_plan(record)

    try:
        outcome = run_to_goal(
            prepared.world, prepared.planner, cast("Environment", watched), goals,
            settings=prepared.settings, arrival=prepared.arrival, on_plan=on_plan,
        )  # fmt: skip
    except BaseException as error:  # Ctrl-C, too: the log must tell of every run that acted
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
    options = {
        "--stale": arguments.stale,
        "--period-ms": period,
        "--planner-process": arguments.planner_process or None,
    }
    for option, value in options.items():
        if value is not None and not arguments.is_asynchronous:
            raise ValueError(f"{option} is of --async runs only; add --async, or leave it out")
    return None if period is None else period / 1e3


def _refuse_wrong_patience(arguments: argparse.Namespace) -> None:
    """Raises ValueError if a time is out of range, or nobody is waited for."""
    seconds, (low, high) = arguments.give_up_seconds, GIVE_UP_RANGE_SECONDS
    if seconds is None:
        return
    if not low <= seconds <= high:
        raise ValueError(f"--give-up-seconds must be from {low:g} to {high:g}, got {seconds:g}")
    if not arguments.planner_process:
        raise ValueError(
            "--give-up-seconds is of --planner-process only; add that, or leave it out"
        )


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


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what was asked for, for the log."""
    options = {k: v for k, v in vars(arguments).items() if k != "run"}
    return {
        "command": f"jepa {shlex.join(sys.argv[1:])}" if sys.argv[1:2] == ["plan"] else "",
        "options": {k: v if isinstance(v, (int, float, type(None))) else str(v)
                    for k, v in options.items()},
    }  # fmt: skip


def _settled(prepared: _Prepared, landscape: Landscape | None) -> dict[str, Any]:
    """Returns what the options became, and what was seen before the run, for the log."""
    from planning.search.settings import settings_of

    planner, world, settings = prepared.planner, prepared.world, prepared.settings
    spec = prepared.environment.action_spec
    return {
        "planner": {"class": type(planner).__name__, **settings_of(planner)},
        "world": {
            "precision": world.precision,
            "is_compiled": world.is_compiled,
            "context_frames": world.context_frames,
            "num_members": world.num_members,
            "steps_per_action": world.action_steps.num_steps,
        },
        "actions": {
            "names": spec.names,
            "units": spec.units,
            "kind": spec.kind,
            "low": spec.low,
            "high": spec.high,
            "max_change": spec.max_change,
            "standstill": settings.standstill,
        },
        "cost": prepared.terms.to_json(planner.horizon),
        "landscape": None if landscape is None else landscape.to_json(),
    }


def _write_pictures(out: Path, outcome: Outcome, landscape: Landscape | None) -> None:
    from planning.verbs.film import film
    from planning.verbs.pictures import landscape_png

    (out / "episode.gif").write_bytes(film(outcome))
    if landscape is not None:
        (out / "landscape.png").write_bytes(landscape_png(landscape))
    pictures = "episode.gif" if landscape is None else "episode.gif, landscape.png"
    print(f"wrote log.json, {pictures}: {out}")
