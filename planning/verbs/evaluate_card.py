"""`jepa plan evaluate --card`: success under a protocol card, with controls on the same starts."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planning.verbs.options import (
    SHORT_OPTIONS,
    deadline_of,
    load_world,
    parameterization_of,
    prepare_results,
    threads_of,
)

if TYPE_CHECKING:
    from planning.benchmarking.controls import Bench
    from planning.benchmarking.episode_outcome import PolicyOutcome
    from planning.benchmarking.planning_setup import Wishes
    from planning.benchmarking.protocol_card import ProtocolCard
    from planning.benchmarking.training_data import TrainingData

CLONING_STEPS = 1500


def add_options(verb: argparse.ArgumentParser) -> None:
    """Adds what a card needs."""
    verb.add_argument("--card", help="a protocol card: a YAML file, or a name in protocols/")
    verb.add_argument(
        "--controls",
        help="on the same starts: all (default), none, or names such as random,oracle,untrained",
    )
    verb.add_argument("--data", type=Path, help="recorded shards, for behaviour cloning")
    verb.add_argument(
        "--cloning-steps", type=int, help=f"of its training (default: {CLONING_STEPS})"
    )
    verb.add_argument(
        "--training-minutes", type=float, help="of the world model, for the page of results"
    )


def refuse_options_without_card(arguments: argparse.Namespace) -> None:
    """Raises ValueError if an option was given that means nothing without a card."""
    for name in ("controls", "data", "cloning_steps", "training_minutes"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for --card; give one, or leave it out")


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from planning.benchmarking.controls import controls_named
    from planning.benchmarking.run_folder import SUMMARY

    out = _refuse_misfits(arguments)
    names = controls_named(arguments.controls or "all")
    bench, training, deviates = _bench(arguments, out / SUMMARY)
    card, num_tasks = bench.card, len(bench.tasks.tasks)
    print(f"{card.title}: {num_tasks} frozen tasks, {card.budget_steps} steps each")
    for line in deviates:
        print(f"deviates: {line}")
    facts = _facts(arguments, bench, training, deviates)
    outcomes = _play(arguments, bench, names, out, facts)
    print(outcome_table(outcomes))
    for outcome in outcomes:
        for line in outcome.failures:
            print(f"{outcome.policy}: no success: {line}")
    print(f"{out / SUMMARY}, episodes/, worst.gif, median.gif, best.gif")
    return 0


def _play(
    arguments: argparse.Namespace,
    bench: Bench,
    names: Sequence[str],
    out: Path,
    facts: dict[str, Any],
) -> list[PolicyOutcome]:
    """Plays everything; what has been played is written at once, should the rest not come to be."""
    from planning.benchmarking.card_run import (
        make_controls,
        play_control,
        play_planner,
        write_films,
    )
    from planning.benchmarking.run_folder import write_run

    controls, not_offered = make_controls(bench, names, tell=print)
    outcomes = [play_planner(bench, batch_size=arguments.batch)]
    facts["films"] = write_films(bench, outcomes[0], out)
    to_come = {control.name: "the run was not finished" for control in controls}
    write_run(out, outcomes, facts | {"not_run": not_offered | to_come})
    for control in controls:
        outcomes.append(play_control(bench, control, batch_size=arguments.batch))
        print(f"{control.name}: {outcomes[-1].success} in {outcomes[-1].seconds:.0f} s")
        del to_come[control.name]
        write_run(out, outcomes, facts | {"not_run": not_offered | to_come})
    return outcomes


def outcome_table(outcomes: list[PolicyOutcome]) -> str:
    """Returns a table for the terminal, one policy a line."""
    width = max(len(outcome.policy) for outcome in outcomes)
    lines = [
        f"{'':<{width}}  {'success [95 %]':<19}{'any step':>9}{'last step':>10}{'distance':>10}"
        f"{'s/plan':>9}{'rollouts/s':>11}"
    ]
    for outcome in outcomes:
        row = outcome.summary()
        seconds, rollouts = row["seconds_per_plan"], row["rollouts_per_second"]
        lines.append(
            f"{outcome.policy:<{width}}  {outcome.success!s:<19}"
            f"{row['success_at_any_step']['rate']:>9.0%}{row['success_at_last_step']['rate']:>10.0%}"
            f"{row['final_distance']['median']:>10.3g}"
            f"{'-' if seconds is None else format(seconds, '.3g'):>9}"
            f"{'-' if rollouts is None else format(rollouts, '.0f'):>11}"
        )
    return "\n".join(lines)


def _refuse_misfits(arguments: argparse.Namespace) -> Path:
    """Returns the folder of the results."""
    if arguments.tasks is not None:
        raise ValueError("--tasks with --card: the card names its tasks; leave out one of the two")
    if arguments.out is None:
        raise ValueError("--card needs --out FOLDER for the episodes, the films and summary.json")
    if arguments.batch < 1:
        raise ValueError(f"--batch must be at least 1 episode, got {arguments.batch}")
    if arguments.cloning_steps is not None and arguments.cloning_steps < 1:
        raise ValueError(
            f"--cloning-steps must be at least 1, got {arguments.cloning_steps}; --controls with "
            "other names leaves cloning out"
        )
    return arguments.out


def _wishes(arguments: argparse.Namespace) -> Wishes:
    from planning.benchmarking.planning_setup import Wishes
    from planning.search.settings import parse_settings

    options = vars(arguments)
    short = {field: options[name] for name, field in SHORT_OPTIONS.items() if name != "horizon"}
    settings = {field: value for field, value in short.items() if value is not None}
    settings |= parse_settings(arguments.set)
    horizon = settings.pop("horizon", arguments.horizon)
    return Wishes(
        planner=arguments.planner,
        settings=settings,
        horizon=None if horizon is None else int(horizon),
        execute=arguments.execute,
        cost=arguments.cost,
        parameterization=parameterization_of(arguments),
        deadline_seconds=deadline_of(arguments),
    )


def _bench(arguments: argparse.Namespace, summary: Path) -> tuple[Bench, TrainingData, list[str]]:
    """Returns what is played, what is known of the world model's data, and all deviations."""
    import torch

    from planning.benchmarking.controls import Bench
    from planning.benchmarking.model_fit import fit_deviations, refuse_other_environment
    from planning.benchmarking.planning_setup import card_setup, wished_setup
    from planning.benchmarking.protocol_card import ProtocolCard
    from planning.benchmarking.training_data import TrainingData
    from planning.latent_world import checkpoint_folder

    card, wishes = ProtocolCard.load(arguments.card), _wishes(arguments)
    tasks = card.load_tasks()
    if arguments.episodes is not None:
        tasks = tasks.first(arguments.episodes)
    prepare_results(summary.parent, summary.name)
    torch.set_num_threads(threads_of(arguments))
    world = load_world(arguments)
    training = TrainingData.of_checkpoint(checkpoint_folder(arguments.checkpoint))
    card, deviates = _drawn_for(world.image_size, card)
    steps = world.action_steps
    setup = wished_setup(card, steps, wishes)
    oracle_setup = replace(setup, deadline_seconds=None)
    if card.oracle_planner is not None:
        oracle_setup = card_setup(card, steps, card.oracle_planner)
    bench = Bench(
        card,
        tasks,
        world,
        setup,
        oracle_setup,
        seed=arguments.seed,
        shards=arguments.data,
        cloning_steps=arguments.cloning_steps or CLONING_STEPS,  # 0 has been refused
        device=arguments.device,
    )
    refuse_other_environment(card, bench.environment, world, training)
    deviates += _deviations_of_the_run(arguments, bench)
    deviates += fit_deviations(card, bench.environment, world, training)
    return bench, training, deviates


def _deviations_of_the_run(arguments: argparse.Namespace, bench: Bench) -> list[str]:
    """Returns how the planner, its numbers, the simulator and the tasks deviate from the card."""
    from planning.benchmarking.planning_setup import deviations

    card = bench.card
    found = deviations(card, bench.setup, bench.world.action_steps)
    if arguments.precision != "fp32":
        found.append(f"precision {arguments.precision} (card: fp32)")
    if arguments.compile:  # fused kernels round otherwise, so plans may differ
        found.append("compiled dynamics (card: as they are)")
    if (num_tasks := len(bench.tasks.tasks)) < (num_all := len(card.load_tasks().tasks)):
        found.append(f"the first {num_tasks} of {num_all} tasks")
    return found + card.package_differences()


def _drawn_for(image_size: int, card: ProtocolCard) -> tuple[ProtocolCard, list[str]]:
    """Returns the card with frames that the world model sees, if it may; and the deviation."""
    size = card.environment.options.get("image_size")
    if size == image_size or not card.drawn_at_any_size:
        return card, []
    return card.drawn_at(image_size), [f"frames of {image_size} pixels (card: {size})"]


def _facts(
    arguments: argparse.Namespace, bench: Bench, training: TrainingData, deviates: list[str]
) -> dict[str, Any]:
    """Returns what a summary says beside outcomes."""
    from planning.benchmarking.model_fit import state_use
    from planning.benchmarking.provenance import (
        checkpoint_hash,
        hardware,
        simulator_packages,
        versions,
    )
    from planning.benchmarking.results_table import card_facts
    from planning.benchmarking.training_data import recordings_hash
    from planning.latent_world import checkpoint_folder

    model, folder = bench.world.model, checkpoint_folder(arguments.checkpoint)
    steps = bench.world.action_steps
    return {
        "card": card_facts(bench.card),
        "deviations": deviates,
        "command": shlex.join(["jepa", "plan", *arguments.words]),
        "planner": bench.setup.described(),
        "oracle_planner": bench.oracle_setup.described(),
        "seed": arguments.seed,
        "planner_seeds": f"{arguments.seed} + the task's index",
        "batch": arguments.batch,
        "checkpoint": {
            "name": folder.parent.name if folder.name == "world_model" else folder.name,
            "sha256": checkpoint_hash(folder),
            "parameters": sum(weights.numel() for weights in model.parameters()),
            "action_block": {"steps": steps.num_steps, "joined": steps.way},
            "context_frames": bench.world.context_frames,
            "state": state_use(bench.world, bench.environment),
            "precision": bench.world.precision,
            "is_compiled": arguments.compile,
        },
        "training_data": training.to_json(),
        "cloning_data": None
        if bench.shards is None
        else {
            "shards": str(bench.shards),
            "index_sha256": recordings_hash(bench.shards),
        },
        "simulator": simulator_packages(bench.environment.name),
        "training_minutes": arguments.training_minutes,
        "versions": versions(),
        "hardware": hardware(arguments.device),
    }
