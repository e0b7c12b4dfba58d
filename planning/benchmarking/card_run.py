"""Plays the tasks of a card: the planner, and the controls on the same starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from planning.benchmarking.controls import (
    Bench,
    Control,
    MakePolicy,
    NotOfferedError,
    make_control,
    planning_policy,
)
from planning.benchmarking.episode_film import film
from planning.benchmarking.episode_outcome import EpisodeOutcome, PolicyOutcome, by_rule
from planning.benchmarking.protocol_card import ProtocolCard
from planning.benchmarking.whole_budget import WholeBudget
from planning.control.lockstep import Player, play_together
from planning.control.mpc import PlanningPolicy, run_episode
from planning.evaluation import TaskSet

Tells = Callable[[str], object]
MAX_FAILED = 0.05  # of the episodes of one policy, whose environment may fail; one always may


def play_planner(bench: Bench, *, batch_size: int) -> PolicyOutcome:
    """Plays the planner under test."""

    def make(index: int) -> PlanningPolicy:
        return planning_policy(bench.world, bench.setup, seed=bench.seed + index)

    planner = Control("planner", make, plans_together=True, note=bench.setup.name)
    return play_control(bench, planner, batch_size=batch_size, kind="planner")


def make_controls(
    bench: Bench, names: Sequence[str], *, tell: Tells
) -> tuple[list[Control], dict[str, str]]:
    """Makes controls, also trains those that must be, before anything is played.

    Args:
        bench: what they are made of.
        names: of `planning.benchmarking.controls.CONTROLS`.
        tell: is told what there is not, a line at a time.

    Returns:
        The controls, and of those that there are not: why.
    """
    controls, not_run = [], {}
    for name in names:
        try:
            controls.append(make_control(name, bench))
        except NotOfferedError as reason:
            not_run[name] = str(reason)
            tell(f"{name}: not run: {reason}")
    return controls, not_run


def play_control(
    bench: Bench, control: Control, *, batch_size: int, kind: str = "control"
) -> PolicyOutcome:
    """Plays one policy on all tasks.

    An episode whose environment fails is no success, and says why; the others go on, in a fresh
    environment.

    Raises:
        ValueError: if the batch size is below 1.
        RuntimeError: if more environments failed than `MAX_FAILED` of the tasks.
    """
    if batch_size < 1:
        raise ValueError(f"the batch must be at least 1 episode, got {batch_size}")
    began = time.perf_counter()
    if control.plans_together and batch_size > 1:
        episodes = _together(bench.card, bench.tasks, control.make_policy, batch_size)
    else:
        episodes = _one_by_one(bench.card, bench.tasks, control.make_policy)
    seconds = time.perf_counter() - began
    outcome = PolicyOutcome(control.name, kind, tuple(episodes), seconds, control.note)
    _refuse_too_many_failures(outcome)
    return outcome


def write_films(
    bench: Bench, outcome: PolicyOutcome, folder: Path
) -> dict[str, dict[str, float | int | str]]:
    """Writes worst.gif, median.gif and best.gif by final distance; returns which episodes they are.

    The episodes are played again, by their actions: nobody has kept all pictures.
    """
    shown: dict[str, dict[str, float | int | str]] = {}
    for rule, episode in by_rule(outcome.episodes).items():
        frames, goal = _seen_again(bench.card, bench.tasks, episode)
        verdict = f"{rule}: {episode.final_distance:.3g} {bench.card.success.unit} from the goal"
        path = folder / f"{rule}.gif"
        path.write_bytes(film(frames, goal, verdict=verdict, is_success=episode.is_success))
        shown[rule] = {
            "file": path.name,
            "task": episode.task,
            "final_distance": episode.final_distance,
        }
    return shown


def _one_by_one(
    card: ProtocolCard, tasks: TaskSet, make_policy: MakePolicy
) -> list[EpisodeOutcome]:
    environment, outcomes = card.make_environment(), []
    for index, task in enumerate(tasks.tasks):
        card.prepare(environment, index)
        record = run_episode(
            environment,
            make_policy(index),
            start=task.start,
            goal=task.goal,
            generator=_generator(tasks, index),
        )
        failure = environment.failure
        outcome = EpisodeOutcome.of(card, task, index, record, environment.distances, failure)
        outcomes.append(outcome)
        if failure:
            environment = card.make_environment()
    return outcomes


def _together(
    card: ProtocolCard, tasks: TaskSet, make_policy: MakePolicy, batch_size: int
) -> list[EpisodeOutcome]:
    indices, outcomes = range(len(tasks.tasks)), []
    environments = [card.make_environment() for _ in indices[:batch_size]]
    for first in indices[::batch_size]:
        batch = indices[first : first + batch_size]
        used = environments[: len(batch)]  # the last batch may be smaller
        players = [
            _player(card, tasks, environment, make_policy, index)
            for environment, index in zip(used, batch, strict=True)
        ]
        records = play_together(players)
        for place, (index, record) in enumerate(zip(batch, records, strict=True)):
            task, environment = tasks.tasks[index], environments[place]
            distances, failure = environment.distances, environment.failure
            outcomes.append(EpisodeOutcome.of(card, task, index, record, distances, failure))
            if failure:
                environments[place] = card.make_environment()
    return outcomes


def _refuse_too_many_failures(outcome: PolicyOutcome) -> None:
    failures, num_tasks = outcome.failures, len(outcome.episodes)
    if len(failures) > max(1, MAX_FAILED * num_tasks):
        raise RuntimeError(
            f"{outcome.policy}: the environment failed in {len(failures)} of {num_tasks} episodes, "
            f"of which at most {MAX_FAILED:.0%} may; the first is {failures[0]}"
        )


def _player(
    card: ProtocolCard,
    tasks: TaskSet,
    environment: WholeBudget,
    make_policy: MakePolicy,
    index: int,
) -> Player:
    policy, task = make_policy(index), tasks.tasks[index]
    assert isinstance(policy, PlanningPolicy)
    generator = _generator(tasks, index)
    card.prepare(environment, index)
    return Player(environment, policy, start=task.start, goal=task.goal, generator=generator)


def _seen_again(
    card: ProtocolCard, tasks: TaskSet, episode: EpisodeOutcome
) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the frames of an episode, and its goal's."""
    environment, task = card.make_environment(), tasks.tasks[episode.task]
    generator = _generator(tasks, episode.task)
    card.prepare(environment, episode.task)
    frames = [environment.reset(generator, start=task.start, goal=task.goal).frame]
    frames += [environment.step(action).frame for action in episode.actions]
    return frames, environment.goal.frame


def _generator(tasks: TaskSet, index: int) -> np.random.Generator:
    return np.random.default_rng((tasks.seed, index))
