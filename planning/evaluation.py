"""Episodes on frozen starts and goals: success with intervals, beside baselines on the same."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from planning.baselines import StickyRandom, do_nothing, oracle, random_actions, straight_line
from planning.control.lockstep import Player, play_together
from planning.control.mpc import EpisodeRecord, PlanningPolicy, Policy, run_episode
from planning.environments import make_environment
from planning.types import Environment

TASKS_FORMAT = 2
READABLE_FORMATS = (1, TASKS_FORMAT)  # 1 says nothing of options and packages


class Task(NamedTuple):
    """Where to start and where to go.

    Attributes:
        start: a configuration, which is (state_dim,) where the environment has no other.
        goal: likewise.
        group: what kind of task it is, for example "different_rooms".
        actions: (steps, action_dim), what leads from the start to the goal, where it is known.
        source: the episode that it is from, where it is from one.
    """

    start: np.ndarray
    goal: np.ndarray
    group: str
    actions: np.ndarray | None = None
    source: str = ""


@dataclass(frozen=True)
class TaskSet:
    """Frozen tasks, so that numbers can be compared.

    Attributes:
        name: of the set.
        environment: its name.
        max_steps: budget of an episode in environment steps.
        success_distance: an episode succeeds when it comes this close at any step.
        seed: the tasks were drawn with.
        tasks: in order.
        options: of the environment's constructor, all but the budget; {}: nobody said.
        packages: versions of the simulator's packages; {}: there are none, or nobody said.
    """

    name: str
    environment: str
    max_steps: int
    success_distance: float
    seed: int
    tasks: tuple[Task, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> TaskSet:
        """Reads a file written by `save`.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is not a task file of this format.
        """
        try:
            content = json.loads(Path(path).read_text())
        except (ValueError, RecursionError) as error:  # no text, no JSON, nested too deeply
            raise ValueError(f"{path} is not a task file: {error}") from error
        found = content.pop("format", None) if isinstance(content, dict) else None
        if found not in READABLE_FORMATS:
            known = " or ".join(map(str, READABLE_FORMATS))
            raise ValueError(f"{path} is not a task file of format {known}")
        try:
            tasks = tuple(_read_task(task) for task in content.pop("tasks"))
            return cls(**content, tasks=tasks)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path} is not a task file of format {found} ({reason})") from error

    def save(self, path: str | Path) -> Path:
        """Writes JSON, one task a line."""
        rows = ",\n  ".join(json.dumps(_task_row(task)) for task in self.tasks)
        head = {"format": TASKS_FORMAT, **{k: v for k, v in vars(self).items() if k != "tasks"}}
        Path(path).write_text(f'{json.dumps(head)[:-1]},\n "tasks": [\n  {rows}\n]}}\n')
        return Path(path)

    def first(self, num_tasks: int) -> TaskSet:
        """Returns the set's first tasks."""
        if not 1 <= num_tasks <= len(self.tasks):
            raise ValueError(
                f"{self.name} has {len(self.tasks)} tasks, cannot take {num_tasks} of them"
            )
        return replace(self, tasks=self.tasks[:num_tasks])

    def make_environment(self) -> Environment:
        """Returns the environment with this set's options and budget.

        Raises:
            ValueError: if the environment now means something else by success.
        """
        environment = make_environment(self.environment, **self.options)
        environment.max_steps = self.max_steps
        if environment.success_distance != self.success_distance:
            raise ValueError(
                f"{self.name} was frozen for success within {self.success_distance}, the "
                f"environment has {environment.success_distance}"
            )
        return environment


class DrawsTasks(Protocol):
    """An environment that offers tasks of several kinds."""

    def draw_task(
        self, generator: np.random.Generator, index: int
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Returns start, goal and group of the index-th task."""
        ...


def freeze_tasks(
    environment: Environment, *, name: str, num_tasks: int, seed: int, group: str | None = None
) -> TaskSet:
    """Draws tasks; the same seed draws the same ones.

    Args:
        environment: where.
        name: of the set.
        num_tasks: how many.
        seed: of all.
        group: only tasks of this group; None: of all.

    Raises:
        ValueError: if the environment draws no task of this group.
    """
    generator, tasks = np.random.default_rng(seed), []
    for index in itertools.count():
        if len(tasks) == num_tasks:
            break
        task = _draw_task(environment, generator, index)
        if group in (None, task.group):
            tasks.append(task)
        elif index >= 100 and not tasks:
            raise ValueError(f"{environment.name} drew no task of the group {group!r}")
    return TaskSet(
        name=name,
        environment=environment.name,
        max_steps=environment.max_steps,
        success_distance=environment.success_distance,
        seed=seed,
        tasks=tuple(tasks),
        options=options_of(environment),
    )


def options_of(environment: Environment) -> dict[str, Any]:
    """Returns what its constructor was told, and the defaults of what it was not; no budget.

    An option is an attribute of the same name, as dataclasses have it.
    """
    names = inspect.signature(type(environment)).parameters
    values = {name: getattr(environment, name) for name in names if hasattr(environment, name)}
    values.pop("max_steps", None)
    # As JSON has it: what is read back must be equal.
    return json.loads(json.dumps(values))


class Rate(NamedTuple):
    """A share with its 95 % Wilson interval."""

    successes: int
    episodes: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> Rate:
        """Counts outcomes."""
        low, high = wilson_interval(sum(outcomes), len(outcomes))
        return cls(sum(outcomes), len(outcomes), sum(outcomes) / len(outcomes), low, high)

    def __str__(self) -> str:
        return f"{self.rate:4.0%} [{self.low:.0%}, {self.high:.0%}]"


@dataclass(frozen=True)
class Evaluation:
    """Outcomes of one policy on one task set.

    Attributes:
        policy: its name.
        tasks: what it was tried on.
        episodes: one record per task, in order.
        seconds: wall-clock time of all episodes.
    """

    policy: str
    tasks: TaskSet
    episodes: tuple[EpisodeRecord, ...]
    seconds: float

    @property
    def success(self) -> Rate:
        """Share of the tasks solved."""
        return Rate.of([episode.is_success for episode in self.episodes])

    def success_in(self, group: str) -> Rate:
        """Share of one group's tasks solved."""
        return Rate.of([e.is_success for e, t in self._pairs() if t.group == group])

    @property
    def groups(self) -> list[str]:
        """Groups of the tasks, sorted."""
        return sorted({task.group for task in self.tasks.tasks})

    @property
    def milliseconds_per_plan(self) -> float | None:
        """Median planning time; None for a policy that does not plan."""
        seconds = [record.plan.seconds for e in self.episodes for record in e.plans]
        return float(np.median(seconds)) * 1e3 if seconds else None

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, episode by episode."""
        return {
            "policy": self.policy,
            "tasks": self.tasks.name,
            "success": self.success._asdict(),
            "groups": {group: self.success_in(group)._asdict() for group in self.groups},
            "mean_steps_of_successes": self.mean_steps_of_successes,
            "milliseconds_per_plan": self.milliseconds_per_plan,
            "seconds": self.seconds,
            "episodes": [
                {
                    "group": task.group,
                    "is_success": bool(episode.is_success),
                    "num_steps": episode.num_steps,
                    "final_distance": episode.final_distance,
                }
                for episode, task in self._pairs()
            ],
        }

    @property
    def mean_steps_of_successes(self) -> float | None:
        """Environment steps; None if nothing succeeded."""
        steps = [episode.num_steps for episode in self.episodes if episode.is_success]
        return float(np.mean(steps)) if steps else None

    def _pairs(self) -> list[tuple[EpisodeRecord, Task]]:
        return list(zip(self.episodes, self.tasks.tasks, strict=True))


def evaluate(policy: str, make_policy: Callable[[int], Policy], tasks: TaskSet) -> Evaluation:
    """Runs one episode per task.

    Args:
        policy: name for the results.
        make_policy: makes a fresh policy for the index-th episode.
        tasks: what to try.
    """
    environment, began = tasks.make_environment(), time.perf_counter()
    episodes = [
        run_episode(
            environment,
            make_policy(index),
            start=task.start,
            goal=task.goal,
            generator=np.random.default_rng((tasks.seed, index)),
        )
        for index, task in enumerate(tasks.tasks)
    ]
    return Evaluation(policy, tasks, tuple(episodes), time.perf_counter() - began)


def evaluate_together(
    policy: str,
    make_policy: Callable[[int], PlanningPolicy],
    tasks: TaskSet,
    *,
    batch_size: int,
) -> Evaluation:
    """Runs one episode per task, several at a time, whose plans are made together.

    Args:
        policy: name for the results.
        make_policy: makes a fresh policy for the index-th episode; all share one world model and
            one planner.
        tasks: what to try.
        batch_size: episodes side by side; 1 is `evaluate`. Outcomes are those of `evaluate`, but
            for the rounding of larger batches; milliseconds per plan are a plan's share. A deadline
            of the policies is one for all plans that are made together: outcomes differ then.

    Raises:
        ValueError: if the batch size is below 1, or the planner cannot plan together.
    """
    if batch_size < 1:
        raise ValueError(f"the batch must be at least 1 episode, got {batch_size}")
    if batch_size == 1:
        return evaluate(policy, make_policy, tasks)
    began = time.perf_counter()
    indices = range(len(tasks.tasks))
    episodes: list[EpisodeRecord] = []
    for first in indices[::batch_size]:
        batch = indices[first : first + batch_size]
        episodes += play_together([_player(tasks, make_policy(index), index) for index in batch])
    return Evaluation(policy, tasks, tuple(episodes), time.perf_counter() - began)


def _player(tasks: TaskSet, policy: PlanningPolicy, index: int) -> Player:
    task, generator = tasks.tasks[index], np.random.default_rng((tasks.seed, index))
    environment = tasks.make_environment()
    return Player(environment, policy, start=task.start, goal=task.goal, generator=generator)


def baselines(environment: Environment) -> dict[str, Callable[[int], Policy]]:
    """Returns a maker of each policy that a planner must be compared with, by name.

    The straight line knows both positions and the oracle the way; they exist where the
    environment knows it.
    """
    makers: dict[str, Callable[[int], Policy]] = {
        "random actions": lambda index: random_actions,
        "sticky random": lambda index: StickyRandom(),
        "do nothing": lambda index: do_nothing,
    }
    if hasattr(environment, "shortest_path_action"):
        makers["straight line"] = lambda index: straight_line
        makers["oracle"] = lambda index: oracle
    return makers


def wilson_interval(successes: int, episodes: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Returns the Wilson score interval of a share, 95 % by default.

    Raises:
        ValueError: if there were no episodes.
    """
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"need 0 <= successes <= episodes and episodes >= 1, got {successes} "
                         f"of {episodes}")  # fmt: skip
    share, n = successes / episodes, episodes
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, center - half), min(1.0, center + half)


def success_table(evaluations: Sequence[Evaluation]) -> str:
    """Returns a table for the terminal, one policy a line."""
    groups = evaluations[0].groups
    width = max(len(e.policy) for e in evaluations)
    titles = "".join(f"{group:>18}" for group in groups)
    lines = [f"{'':<{width}}  {'success [95 %]':<19}{titles}{'steps':>8}{'ms/plan':>9}"]
    for e in evaluations:
        cells = "".join(f"{e.success_in(group).rate:>18.0%}" for group in groups)
        steps = f"{e.mean_steps_of_successes:8.1f}" if e.mean_steps_of_successes else f"{'-':>8}"
        plan = f"{e.milliseconds_per_plan:9.0f}" if e.milliseconds_per_plan else f"{'-':>9}"
        lines.append(f"{e.policy:<{width}}  {e.success!s:<19}{cells}{steps}{plan}")
    return "\n".join(lines)


def _read_task(row: dict[str, Any]) -> Task:
    actions = row.get("actions")
    return Task(
        np.array(row["start"]),
        np.array(row["goal"]),
        row["group"],
        None if actions is None else np.array(actions, dtype=np.float32),
        row.get("source", ""),
    )


def _task_row(task: Task) -> dict[str, Any]:
    row = {"start": task.start.tolist(), "goal": task.goal.tolist(), "group": task.group}
    if task.actions is not None:
        row["actions"] = [[float(str(value)) for value in action] for action in task.actions]
    return row | ({"source": task.source} if task.source else {})


def _draw_task(environment: Environment, generator: np.random.Generator, index: int) -> Task:
    if hasattr(environment, "draw_task"):
        return Task(*cast(DrawsTasks, environment).draw_task(generator, index))
    start = environment.reset(generator, start=None, goal=None).state
    return Task(start.astype(np.float64), environment.goal.state.astype(np.float64), "any")
