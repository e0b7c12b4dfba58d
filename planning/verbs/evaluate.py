"""`jepa plan evaluate`: success on frozen tasks, beside baselines or a card's controls."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from planning.verbs import evaluate_card
from planning.verbs.options import (
    add_config_option,
    add_planner_options,
    add_precision_options,
    add_world_options,
    deadline_of,
    device_of,
    execute_steps_of,
    load_world,
    planner_of,
    prepare_results,
    threads_of,
)

PROTOCOLS = Path(__file__).parents[1] / "protocols"


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "evaluate", help="success under a protocol card, or on frozen tasks, beside controls"
    )
    add_config_option(verb)
    add_world_options(verb)
    add_precision_options(verb)
    add_planner_options(verb)
    verb.set_defaults(planner=None, cost=None)  # None: as the card says; without one cem and mean
    verb.add_argument("--tasks", help="a task file, or a name in protocols/ (default: two_rooms)")
    verb.add_argument("--episodes", type=int, help="only the first so many tasks")
    verb.add_argument(
        "--batch", type=int, default=1,
        help="episodes that advance, and are planned, together; above 1 without --deadline-ms",
    )  # fmt: skip
    verb.add_argument(
        "--out", type=Path,
        help="a folder with --card; else a JSON file for every episode's outcome",
    )  # fmt: skip
    evaluate_card.add_options(verb)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    if arguments.deadline_ms is not None and arguments.batch > 1:
        deadline_of(arguments)
        raise ValueError(
            f"--batch {arguments.batch} with --deadline-ms: plans of a batch would share one "
            "deadline, so each would be searched less than alone; leave out one of the two"
        )
    if arguments.card is not None:
        return evaluate_card.run(arguments)
    evaluate_card.refuse_options_without_card(arguments)
    arguments.planner, arguments.cost = arguments.planner or "cem", arguments.cost or "mean"
    return _run_on_tasks(arguments)


def _run_on_tasks(arguments: argparse.Namespace) -> int:
    import torch

    from planning.control.mpc import PlanningPolicy
    from planning.evaluation import TaskSet, baselines, evaluate, evaluate_together, success_table

    planner, deadline_seconds = planner_of(arguments), deadline_of(arguments)
    execute_steps = execute_steps_of(arguments, planner)
    torch.set_num_threads(threads_of(arguments))
    device_of(arguments)
    tasks = TaskSet.load(find_tasks(arguments.tasks or "two_rooms"))
    tasks = tasks.first(arguments.episodes) if arguments.episodes is not None else tasks
    if arguments.out is not None:
        prepare_results(arguments.out.parent, arguments.out.name)
    world = load_world(arguments)

    def planning(index: int) -> PlanningPolicy:
        return PlanningPolicy(
            world,
            planner,
            execute_steps=execute_steps,
            reduction=arguments.cost,
            seed=arguments.seed + index,
            deadline_seconds=deadline_seconds,
        )

    evaluations = [
        evaluate_together(arguments.planner, planning, tasks, batch_size=arguments.batch)
    ]
    makers = baselines(tasks.make_environment())
    evaluations += [evaluate(name, make, tasks) for name, make in makers.items()]
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([e.to_json() for e in evaluations], indent=1))
    print(f"{tasks.name}: {len(tasks.tasks)} frozen tasks, {tasks.max_steps} steps each")
    print(success_table(evaluations))
    return 0


def find_tasks(name: str) -> Path:
    """Returns the task file of a path, or of a name in `planning/protocols`.

    Raises:
        FileNotFoundError: if there is neither.
    """
    for path in (Path(name), PROTOCOLS / f"{name}.json"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in PROTOCOLS.glob("*.json")))
    raise FileNotFoundError(f"no task file {name!r}, and the protocols are: {known}")
