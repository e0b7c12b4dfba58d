"""Goals that lie so many steps ahead in an episode of somebody who acted: where published ones are.

Each task is from an episode of its own. Its seed is in a range that recordings must leave alone, so
that no world model was trained on it. The goal is not a later row of the episode but where its
actions lead from the start at rest, as in DINO-WM (arXiv:2411.04983): it can be reached within so
many steps, and replaying the actions reaches it exactly.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from planning.benchmarking.whole_budget import WholeBudget
from planning.capabilities import Acts
from planning.evaluation import Task, TaskSet, options_of
from planning.recording import (
    MOVED,
    RECORDING_SEEDS_BELOW,
    configuration_of,
    object_columns,
)
from planning.types import Environment

EVALUATION_SEEDS_FROM = RECORDING_SEEDS_BELOW
MAX_TRIES = 200
NUMBERS = r"-?\d+(\.\d+)?(e-?\d+)?(, -?\d+(\.\d+)?(e-?\d+)?)*"  # also several, with commas


@dataclass(frozen=True)
class TasksAhead:
    """How tasks are cut out of episodes.

    Args:
        num_steps: from start to goal.
        episode_steps: of the episodes that they are cut out of.

    Raises:
        ValueError: if the episodes are too short.
    """

    num_steps: int
    episode_steps: int

    def __post_init__(self) -> None:
        if not 1 <= self.num_steps <= self.episode_steps:
            raise ValueError(
                f"goals {self.num_steps} steps ahead need episodes at least as long, got "
                f"{self.episode_steps}"
            )


def freeze_ahead(
    environment: Environment,
    make_policy: Callable[[], Acts],
    ahead: TasksAhead,
    *,
    name: str,
    num_tasks: int,
    seed: int,
    tell: Callable[[str], object] = lambda line: None,
) -> TaskSet:
    """Draws tasks; the same seed draws the same ones.

    Tasks whose start is already a success are drawn anew: there is nothing to plan. So are those
    that the environment refuses, as places that it reaches but does not start from.

    Args:
        environment: where.
        make_policy: makes whoever acts, for one episode, looking at states and not at pictures:
            none are drawn. See `planning.data_policies.DataPolicy`.
        ahead: how tasks are cut out.
        name: of the set.
        num_tasks: how many, each from an episode of its own.
        seed: from 0; episodes are seeded above `EVALUATION_SEEDS_FROM`.
        tell: is told how many were drawn anew and why, a line at a time.

    Raises:
        ValueError: if the seed is out of range, or an environment refuses or solves
            `MAX_TRIES` tasks in a row.
    """
    if not 0 <= seed < EVALUATION_SEEDS_FROM:
        raise ValueError(f"seed must be from 0 to 2**31 - 1, got {seed}")
    success_distance, max_steps = environment.success_distance, environment.max_steps
    world = WholeBudget(environment, max_steps=10**9, success_distance=success_distance)
    anew: Counter[str] = Counter()
    try:
        with _without_pictures(environment):
            tasks = [
                _task(world, make_policy, ahead, seed, index, anew) for index in range(num_tasks)
            ]
    finally:
        environment.max_steps = max_steps
    for reason, count in anew.most_common():
        tell(f"drawn anew {count} times: {reason}")
    return TaskSet(
        name=name,
        environment=environment.name,
        max_steps=max_steps,
        success_distance=success_distance,
        seed=seed,
        tasks=tuple(tasks),
        options=options_of(environment),
    )


@contextmanager
def _without_pictures(environment: Any) -> Iterator[None]:  # noqa: ANN401
    """Drawing takes most of an episode's time, and nobody looks."""
    if not hasattr(environment, "render"):
        yield
        return
    blank = np.zeros((environment.image_size, environment.image_size, 3), np.uint8)
    environment.render = lambda configuration: blank
    try:
        yield
    finally:
        del environment.render  # the one of its class is back


def _task(
    world: WholeBudget,
    make_policy: Callable[[], Acts],
    ahead: TasksAhead,
    seed: int,
    index: int,
    anew: Counter[str],
) -> Task:
    """Draws a task; counts in `anew` why others were not taken."""
    reason = ""
    for attempt in range(MAX_TRIES):
        generator = np.random.default_rng((EVALUATION_SEEDS_FROM + seed, index, attempt))
        try:
            configurations, actions = _episode(world, make_policy, ahead, generator)
            first = int(generator.integers(ahead.episode_steps - ahead.num_steps + 1))
            start, part = configurations[first], actions[first : first + ahead.num_steps]
            goal = _replayed(world, start, part, generator)
            # Who asks for a goal and gets it drawn finds out here whether it can be one.
            shown = world.reset(generator, start=start, goal=goal)
        except ValueError as error:
            reason = re.sub(NUMBERS, "#", str(error))  # so that the same ones can be counted
            anew[reason] += 1
            continue
        if not shown.is_success:
            group, source = _group(world, start, goal), f"{world.name}-{seed}-{index}-{attempt}"
            return Task(start, goal, group, part, source)
        reason = (
            f"the goal {ahead.num_steps} steps ahead was within the success distance "
            f"{world.success_distance} of its start"
        )
        anew[reason] += 1
    raise ValueError(f"no task in {MAX_TRIES} tries; at last {reason}; let goals be further ahead")


def _group(world: WholeBudget, start: np.ndarray, goal: np.ndarray) -> str:
    """Returns whether an object must be moved, or the robot only; "any" where there is none."""
    columns = object_columns(world.environment)
    if not columns:
        return "any"
    is_moved = bool((np.abs(goal - start)[columns] > MOVED).any())
    return "object_moves" if is_moved else "object_stays"


def _episode(
    world: WholeBudget,
    make_policy: Callable[[], Acts],
    ahead: TasksAhead,
    generator: np.random.Generator,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Plays an episode; whoever reaches a goal gets a new one, from where he is.

    Returns:
        Configurations, steps + 1, and rounded actions (steps, action_dim).

    Raises:
        ValueError: if the environment refuses a start, or ends the episode by itself.
    """
    environment, policy = world.environment, make_policy()
    time_step = world.reset(generator, start=None, goal=None)
    configurations, actions = [configuration_of(environment, time_step)], []
    while len(actions) < ahead.episode_steps:
        if time_step.is_success:
            try:
                time_step = world.reset(generator, start=configurations[-1], goal=None)
            except ValueError:  # not a place to start from: stays where it is
                time_step = time_step._replace(is_success=False)
            continue
        if time_step.is_last:
            raise ValueError(f"{environment.name} ended an episode by itself")
        action = np.asarray(policy(environment, time_step, generator), dtype=np.float64)
        action = _rounded(action, environment)
        time_step = world.step(action)
        configurations.append(configuration_of(environment, time_step))
        actions.append(action)
    return configurations, np.stack(actions)


def _replayed(
    world: WholeBudget, start: np.ndarray, actions: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Returns where these actions lead from `start`, at rest."""
    time_step = world.reset(generator, start=start, goal=None)
    for action in actions:
        if time_step.is_last:
            raise ValueError(f"{world.name} ended a replay by itself")
        time_step = world.step(action)
    return configuration_of(world.environment, time_step)


def _rounded(action: np.ndarray, environment: Environment) -> np.ndarray:
    """Returns what a file of tasks can hold in few digits: about a thousandth of the range."""
    spec = environment.action_spec
    action = spec.validate(action)
    ranges = np.array(spec.high) - np.array(spec.low)
    digits = np.maximum(0, 3 - np.floor(np.log10(ranges))).astype(int)
    rounded = [round(float(value), int(digit)) for value, digit in zip(action, digits, strict=True)]
    return spec.validate(np.array(rounded, dtype=np.float32))
