"""Every planner on the same world models: success at equal rollouts and at equal time.

    python benchmarks/planner_shootout.py [--world PATH ...] [--tasks two_rooms] [--episodes 100]
        [--settings closed noise far open] [--rollouts 16 24 48 96 192] [--milliseconds 20 100]
        [--quick]

Any world model on any tasks: `--world runs/pusht --tasks pusht.json`, where `jepa plan freeze`
wrote the tasks. Without `--world`, runs/demo/world_model is used; if it is not there, the quick
demo's world is trained first (a minute). Four settings, the same for all planners:

- closed: horizon 8, 4 actions executed of each plan;
- noise: the same, and Gaussian noise of half the half-range of the actions on each that is
  executed, the same for all planners;
- far: tasks in different rooms only (all, where there are no rooms); horizon 16, whole plans are
  executed;
- open: horizon 16, one plan, which is executed to its end: nobody looks again.

Budgets: `--rollouts` of a plan, small ones too, as an easy world lets every planner win with many;
one whose gradient is computed counts as three. Or `--milliseconds` of processor time of a plan made
alone, on one thread: how many rollouts a planner can have for that is measured in the same run, and
all episodes are planned with that number, side by side. No clock ends a plan, and waiting for other
work on the machine is not counted; that such work slows memory down remains. "ms" is measured once
more before the episodes, planners in turns: the median, which tells how equal the time was.

No setting is chosen on the tasks that are told: at each budget and horizon each planner has those
settings of its grid that find the lowest energy (mean over first plans) on 12 tasks of another seed
(1107; the frozen ones have 2026). `--tune` prints these and stops.

"in time": solved within 1.25 times the steps of the oracle, at least one more, if there is one.
Intervals are Wilson's, 95 %. "against CEM": tasks that only the planner solved, that only CEM
solved, and the p of McNemar's exact test; then the same in time. With six planners and several
budgets, some p below .05 come by chance. Energy: of first plans, in percent above the lowest that
any planner of the table found for that task. Rollouts: median over plans.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# Beside this file lies planning.py, which must not be taken for the package.
FOLDER = Path(__file__).resolve().parent
others = (p for p in sys.path if Path(p or ".").resolve() != FOLDER)
sys.path[:] = [str(FOLDER.parent), *others, str(FOLDER)]

# isort: split
import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch

from planning.__main__ import find_tasks
from planning.actions.space import ActionSpec
from planning.control.mpc import EpisodeRecord, PlanningPolicy, joined_spec
from planning.costs import GoalDistance
from planning.evaluation import (
    Rate,
    TaskSet,
    baselines,
    evaluate,
    evaluate_together,
    freeze_tasks,
)
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.planners.cem_gradient import CEMGradient
from planning.planners.cma_es import CMAES
from planning.planners.gradient import Gradient
from planning.planners.icem import ICEM
from planning.planners.mppi import MPPI
from planning.planners.random_shooting import RandomShooting
from planning.search.rounds import Problem, SearchPlanner, plan_together
from planning.types import Environment, Latent, Plan, TimeStep

# isort: split
from uncertainty import mcnemar

TUNING_SEED, TUNING_TASKS = 1107, 12
GRADIENT_COST = 3  # rollouts that one with its gradient is counted as
SPENDS = (0.7, 1.1)  # of the budget, by which settings are allowed
SLACK = 1.25  # times the oracle's steps are in time
REFERENCE = "CEM"
DEMO_WORLD = Path("runs/demo/world_model")
QUICK_STEPS = 12  # of an episode
TURNS = 9  # of timing
MAX_ROLLOUTS = 20_000


# The settings.


class Setting(NamedTuple):
    """What all planners have to cope with.

    Attributes:
        horizon: actions of a plan, of the world model.
        execute_steps: of them, that are executed.
        noise: standard deviation of noise on executed actions, in half-ranges of their bounds.
        group: of the tasks, if there is such a group; None: all.
        is_open_loop: the first plan is the only one.
    """

    horizon: int = 8
    execute_steps: int = 4
    noise: float = 0.0
    group: str | None = None
    is_open_loop: bool = False


SETTINGS = {
    "closed": Setting(),
    "noise": Setting(noise=0.5),
    "far": Setting(horizon=16, execute_steps=16, group="different_rooms"),
    "open": Setting(horizon=16, execute_steps=16, is_open_loop=True),
}


class Shaken:
    """An environment in which what is executed is not quite what was asked for.

    Args:
        environment: executes.
        noise: standard deviation, in half-ranges of the bounds; the sum stays inside the bounds.
    """

    def __init__(self, environment: Environment, noise: float) -> None:
        self._environment, self._noise = environment, noise
        self._generator = np.random.default_rng()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def reset(self, generator: np.random.Generator, **places: Any) -> TimeStep:
        """Resets; the noise is drawn by a seed of the generator, whatever planners draw."""
        self._generator = np.random.default_rng(generator.integers(2**63))
        return self._environment.reset(generator, **places)

    def step(self, action: np.ndarray) -> TimeStep:
        """Acts, and a little else."""
        spec = self._environment.action_spec
        low, high = np.array(spec.low, np.float32), np.array(spec.high, np.float32)
        noise = self._generator.standard_normal(low.shape).astype(np.float32)
        shaken = action + self._noise * (high - low) / 2 * noise
        return self._environment.step(np.clip(shaken, low, high))


@dataclass(frozen=True)
class ShakenTasks(TaskSet):
    """Tasks whose environment is `Shaken`."""

    noise: float = 0.0

    def make_environment(self) -> Environment:
        """See `TaskSet.make_environment`."""
        return cast(Environment, Shaken(super().make_environment(), self.noise))


def tasks_of(setting: Setting, tasks: TaskSet, world: LatentWorld) -> TaskSet:
    """Returns the tasks of a setting."""
    chosen = tuple(task for task in tasks.tasks if task.group == setting.group)
    if chosen:
        tasks = replace(tasks, tasks=chosen)
    if setting.is_open_loop:
        one_plan = setting.horizon * world.action_steps.num_steps
        tasks = replace(tasks, max_steps=min(tasks.max_steps, one_plan))
    return ShakenTasks(**vars(tasks), noise=setting.noise) if setting.noise else tasks


# The planners.


def random_shooting(
    rollouts: int, horizon: int, *, std: float = 0.9, smoothness: float = 0.9
) -> SearchPlanner:
    return RandomShooting(horizon, num_samples=rollouts, std=std, smoothness=smoothness)


def cem(
    rollouts: int,
    horizon: int,
    *,
    rounds: int = 3,
    elites: float = 0.1,
    smoothness: float = 0.3,
) -> SearchPlanner:
    samples = max(2, rollouts // rounds)
    return CEM(
        horizon,
        num_samples=samples,
        num_elites=max(2, round(elites * samples)),
        num_iterations=rounds,
        smoothness=smoothness,
    )


def icem(
    rollouts: int, horizon: int, *, rounds: int = 3, elites: float = 0.1, exponent: float = 2.0
) -> SearchPlanner:
    samples = max(4, int(rollouts / sum(1.25**-i for i in range(rounds))))
    return ICEM(
        horizon,
        num_samples=samples,
        num_elites=max(2, round(elites * samples)),
        num_iterations=rounds,
        noise_exponent=exponent,
    )


def mppi(
    rollouts: int,
    horizon: int,
    *,
    rounds: int = 3,
    temperature: float = 0.5,
    smoothness: float = 0.3,
) -> SearchPlanner:
    samples = max(2, rollouts // rounds)
    return MPPI(
        horizon,
        num_samples=samples,
        num_elites=max(2, samples // 4),
        num_iterations=rounds,
        temperature=temperature,
        smoothness=smoothness,
    )


def gradient(
    rollouts: int, horizon: int, *, starts: int = 4, step_size: float = 0.4
) -> SearchPlanner:
    rounds = max(1, rollouts // (GRADIENT_COST * starts))
    return Gradient(
        horizon, num_starts=starts, num_iterations=rounds, step_size=step_size, smoothness=0.3
    )


def cem_gradient(
    rollouts: int,
    horizon: int,
    *,
    starts: int = 4,
    rounds: int = 2,
    share: float = 0.75,
    step_size: float = 0.5,
) -> SearchPlanner:
    """`share` of the rollouts are spent on gradients."""
    steps = max(1, round(share * rollouts / (rounds * starts * GRADIENT_COST)))
    samples = max(8, rollouts // rounds - steps * starts * GRADIENT_COST)
    return CEMGradient(
        horizon,
        num_samples=samples,
        num_elites=max(2, samples // 8),
        num_iterations=rounds,
        num_starts=starts,
        num_steps=steps,
        step_size=step_size,
        smoothness=0.3,
    )


def cma_es(
    rollouts: int, horizon: int, *, samples: int = 16, initial_std: float = 0.5
) -> SearchPlanner:
    rounds = max(1, rollouts // (samples + 1))
    return CMAES(horizon, num_samples=samples, num_iterations=rounds, initial_std=initial_std)


class Contender(NamedTuple):
    """A planner with the settings to choose from.

    Attributes:
        of: makes it for a number of rollouts and a horizon.
        grid: values of each setting.
    """

    of: Callable[..., SearchPlanner]
    grid: Mapping[str, Sequence[Any]]

    def choices(self) -> list[dict[str, Any]]:
        """Returns every point of the grid."""
        points = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, point, strict=True)) for point in points]


CONTENDERS = {
    "random shooting": Contender(
        random_shooting, {"std": (0.5, 0.7, 0.9), "smoothness": (0.0, 0.5, 0.9)}
    ),
    "CEM": Contender(cem, {"rounds": (2, 3, 5), "elites": (0.1, 0.2), "smoothness": (0.3, 0.7)}),
    "iCEM": Contender(icem, {"rounds": (2, 3, 5), "elites": (0.1, 0.2), "exponent": (2.0, 3.0)}),
    "MPPI": Contender(
        mppi, {"rounds": (2, 3, 5), "temperature": (0.5, 1.0), "smoothness": (0.3, 0.7)}
    ),
    "gradient": Contender(gradient, {"starts": (1, 2, 4), "step_size": (0.4, 0.6)}),
    "CEM + gradient": Contender(
        cem_gradient, {"starts": (1, 2), "rounds": (1, 2), "share": (0.5, 0.75)}
    ),
    "CMA-ES": Contender(cma_es, {"samples": (4, 8, 16), "initial_std": (0.3, 0.5)}),
}


def spending(planner: SearchPlanner) -> int:
    """Returns the rollouts of a plan; one with its gradient counts as three."""
    match planner:
        case RandomShooting():
            return planner.num_samples
        case ICEM():  # before CEM's kind: later rounds draw less
            return sum(planner.num_drawn(i) for i in range(planner.num_iterations))
        case CEM() | MPPI():
            return planner.num_samples * planner.num_iterations
        case Gradient():
            return GRADIENT_COST * planner.num_starts * planner.num_iterations
        case CEMGradient():
            descent = GRADIENT_COST * planner.num_starts * planner.num_steps
            return planner.num_iterations * (planner.num_samples + descent)
        case CMAES():
            return (planner.num_samples + 1) * planner.num_iterations
    raise TypeError(f"nobody knows what {type(planner).__name__} spends")


# Budgets, and what is chosen for them.


class Budget(NamedTuple):
    """What a plan may cost."""

    amount: float
    unit: Literal["rollouts", "ms"]

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


class Chosen(NamedTuple):
    """A planner for a budget, with the settings of least energy.

    Attributes:
        energy: mean over first plans of the tuning tasks.
        worst: of the settings that were tried.
    """

    planner: SearchPlanner
    settings: Mapping[str, Any]
    energy: float
    worst: float


def choose(
    world: LatentWorld, contender: Contender, budget: Budget, tasks: TaskSet, *, horizon: int
) -> Chosen | None:
    """Returns the settings of a planner whose first plans have the least mean energy.

    The tasks to choose on are none of those that are told. None: no settings come near the budget.
    """
    tried = []
    for settings in contender.choices():

        def make(rollouts: int, settings: Mapping[str, Any] = settings) -> SearchPlanner:
            return contender.of(rollouts, horizon, **settings)

        planner = affordable(world, make, budget, tasks)
        if planner is None:
            continue
        plans = plan_together(planner, world, list(first_problems(world, tasks)))
        tried.append((statistics.mean(plan.cost for plan in plans), settings, planner))
    if not tried:
        return None
    energy, settings, planner = min(tried, key=lambda row: row[0])
    return Chosen(planner, settings, energy, max(row[0] for row in tried))


def affordable(
    world: LatentWorld, make: Callable[[int], SearchPlanner], budget: Budget, tasks: TaskSet
) -> SearchPlanner | None:
    """Returns the planner that spends the budget; None if it cannot come near."""
    if budget.unit == "rollouts":
        planner = make(int(budget.amount))
        return planner if _is_near(spending(planner), budget.amount) else None
    rollouts = rollouts_within(world, make, budget.amount / 1e3, tasks)
    return None if rollouts is None else make(rollouts)


def rollouts_within(
    world: LatentWorld, make: Callable[[int], SearchPlanner], seconds: float, tasks: TaskSet
) -> int | None:
    """Returns for how many rollouts a plan takes so much processor time; None if for none."""
    problem, rollouts = next(first_problems(world, tasks)), 32
    low, high = 0, MAX_ROLLOUTS  # of those that take less, and more
    for _ in range(7):
        taken = plan_seconds(world, make(rollouts), problem)
        if _is_near(taken, seconds, (0.9, 1.05)):
            return rollouts
        low, high = (rollouts, high) if taken < seconds else (low, rollouts)
        guess = min(4 * rollouts, round(rollouts * seconds / taken))
        if not low < guess < high:
            guess = (low + high) // 2
        if guess in (low, high):
            break
        rollouts = guess
    return rollouts if _is_near(taken, seconds) else None


def plan_seconds(world: LatentWorld, planner: SearchPlanner, problem: Problem) -> float:
    """Returns the processor time of a plan: the least of two, what else runs can only add."""
    taken = []
    for _ in range(2):
        began = time.process_time()
        plan_together(planner, world, [problem])
        taken.append(time.process_time() - began)
    return min(taken)


def _is_near(spent: float, amount: float, shares: tuple[float, float] = SPENDS) -> bool:
    return shares[0] * amount <= spent <= shares[1] * amount


def first_problems(world: LatentWorld, tasks: TaskSet) -> Iterator[Problem]:
    """Yields the first planning problem of each task."""
    for index in range(len(tasks.tasks)):
        yield start(world, tasks, index, seed=0).problem(world, 0)


# Episodes.


class Played(NamedTuple):
    """What became of an episode."""

    is_success: bool
    num_steps: int
    plans: list[Plan]


@dataclass
class Player:
    """An episode as `PlanningPolicy` plays it, but it looks only where it plans, and draws nothing.

    Attributes:
        environment: of this episode alone.
        time_step: where it is.
        goal: as the camera would see it.
        spec: of the world model's actions here.
        generator: of the planner's samples.
        plans: so far.
        actions: so far.
        queue: what is left to execute of the last plan.
    """

    environment: Environment
    time_step: TimeStep
    goal: Latent
    spec: ActionSpec
    generator: torch.Generator
    plans: list[Plan] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    queue: list[np.ndarray] = field(default_factory=list)

    def problem(self, world: LatentWorld, execute_steps: int) -> Problem:
        """Looks, and returns what is to be planned."""
        start = world.encode(self.time_step.frame, self.time_step.state)
        before = torch.as_tensor(self.actions[-1]).to(start.tokens) if self.actions else None
        return Problem(
            start,
            GoalDistance(self.goal, world.distance),
            self.spec,
            self.generator,
            previous_plan=self.plans[-1] if self.plans else None,
            executed_steps=execute_steps if self.plans else 0,
            previous_action=before,
        )

    def accept(self, world: LatentWorld, plan: Plan, execute_steps: int) -> None:
        """Takes a plan."""
        self.plans.append(plan)
        self.queue = list(world.action_steps.split(plan.actions[:execute_steps].cpu()).numpy())

    def act(self) -> None:
        """Executes what is left of the plan, or what there is time for."""
        for action in self.queue:
            if self.time_step.is_last:
                return
            before = self.actions[-1] if self.actions else None
            action = self.environment.action_spec.validate(action, before)
            self.time_step = self.environment.step(action)
            self.actions.append(action)


def play(
    world: LatentWorld,
    planner: SearchPlanner,
    tasks: TaskSet,
    *,
    execute_steps: int,
    seed: int,
    batch: int,
) -> list[Played]:
    """Plays one episode per task, some at a time; the k-th has the same samples whatever is tried.

    Equal to `evaluate_together`, which also encodes what it does not plan from; where rollouts
    start from several frames it must, and is used.
    """
    if world.context_frames > 1:

        def policy(index: int) -> PlanningPolicy:
            return PlanningPolicy(world, planner, execute_steps=execute_steps, seed=seed + index)

        evaluation = evaluate_together("", policy, tasks, batch_size=batch)
        return [Played(bool(e.is_success), e.num_steps, [record.plan for record in e.plans])
                for e in evaluation.episodes]  # fmt: skip
    played, indices = [], range(len(tasks.tasks))
    for part in (indices[first : first + batch] for first in indices[::batch]):
        players = [start(world, tasks, index, seed=seed) for index in part]
        while playing := [player for player in players if not player.time_step.is_last]:
            problems = [player.problem(world, execute_steps) for player in playing]
            for player, plan in zip(playing, plan_together(planner, world, problems), strict=True):
                player.accept(world, plan, execute_steps)
                player.act()
        played += [Played(bool(p.time_step.is_success), len(p.actions), p.plans) for p in players]
    return played


def start(world: LatentWorld, tasks: TaskSet, index: int, *, seed: int) -> Player:
    """Returns the episode of a task, at its beginning."""
    environment, task = tasks.make_environment(), tasks.tasks[index]
    generator = np.random.default_rng((tasks.seed, index))
    return Player(
        environment,
        environment.reset(generator, start=task.start, goal=task.goal),
        world.encode(environment.goal.frame),
        joined_spec(world, environment),
        torch.Generator(device=world.device).manual_seed(seed + index),
    )


class Row(NamedTuple):
    """What one planner did.

    Attributes:
        name: of the planner.
        episodes: one for each task.
        in_time: which of them were solved within the limit of their task; None: there is none.
        milliseconds: of processor time of a plan that is made alone.
    """

    name: str
    episodes: list[Played]
    in_time: list[bool] | None
    milliseconds: float

    @property
    def solved(self) -> list[bool]:
        """Which tasks were solved."""
        return [episode.is_success for episode in self.episodes]

    @property
    def steps(self) -> float | None:
        """Mean steps of the successes."""
        steps = [episode.num_steps for episode in self.episodes if episode.is_success]
        return statistics.mean(steps) if steps else None

    @property
    def rollouts(self) -> float:
        """Median over plans; one with its gradient counts as three."""
        plans = [plan for episode in self.episodes for plan in episode.plans]
        counts = [p.num_rollouts + (GRADIENT_COST - 1) * p.num_differentiated for p in plans]
        return statistics.median(counts)

    @property
    def first_costs(self) -> np.ndarray:
        """Energies of first plans (episodes,)."""
        return np.array([episode.plans[0].cost for episode in self.episodes])


def oracle_limits(tasks: TaskSet) -> list[int] | None:
    """Returns the steps within which each task is solved in time; None if nobody knows the way."""
    makers = baselines(tasks.make_environment())
    if "oracle" not in makers:
        return None
    episodes = evaluate("oracle", makers["oracle"], tasks).episodes
    return [max(math.ceil(SLACK * e.num_steps), e.num_steps + 1) for e in episodes]


def in_time(episodes: Sequence[Played | EpisodeRecord], limits: Sequence[int]) -> list[bool]:
    """Returns which tasks were solved within their limits."""
    pairs = zip(episodes, limits, strict=True)
    return [bool(e.is_success) and e.num_steps <= limit for e, limit in pairs]


def milliseconds_in_turns(
    world: LatentWorld, planners: Mapping[str, SearchPlanner], tasks: TaskSet
) -> dict[str, float]:
    """Returns the median processor time of a plan made alone; the planners take turns."""
    problem = next(first_problems(world, tasks))
    taken: dict[str, list[float]] = {name: [] for name in planners}
    for _ in range(TURNS):
        for name, planner in planners.items():
            began = time.process_time()
            plan_together(planner, world, [problem])
            taken[name].append(time.process_time() - began)
    return {name: 1e3 * statistics.median(seconds) for name, seconds in taken.items()}


# The shoot-out.


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(1)
    if arguments.quick:
        arguments.episodes = min(arguments.episodes, 2)
    with tempfile.TemporaryDirectory() as scratch:
        for path in arguments.world or [demo_world(Path(scratch), arguments.tasks)]:
            tasks = TaskSet.load(find_tasks(arguments.tasks))
            tasks = tasks.first(min(arguments.episodes, len(tasks.tasks)))
            tasks = replace(tasks, max_steps=QUICK_STEPS) if arguments.quick else tasks
            shoot_out(path, tasks, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--world", type=Path, nargs="+", help="folders of world models")
    parser.add_argument("--tasks", default="two_rooms", help="a task file, or a protocol's name")
    parser.add_argument("--episodes", type=int, default=100, help="at most, of the tasks")
    parser.add_argument(
        "--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="NAME"
    )
    parser.add_argument(
        "--rollouts", type=int, nargs="*", default=[16, 24, 48, 96, 192], help="of a plan"
    )
    parser.add_argument(
        "--milliseconds", type=float, nargs="*", default=[20, 100],
        help="of a plan, of processor time",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=50, help="episodes side by side")
    parser.add_argument("--seed", type=int, default=0, help="of the planners' samples")
    parser.add_argument("--tune", action="store_true", help="print the settings, and stop")
    parser.add_argument("--quick", action="store_true", help="2 short episodes: proves the path")
    return parser


def shoot_out(path: Path, tasks: TaskSet, arguments: argparse.Namespace) -> None:
    """Prints the tables of one world."""
    world, chosen = LatentWorld.load(path), {}
    print(f"\n{path}: {len(tasks.tasks)} tasks of {tasks.name}", flush=True)
    tuning = tuning_tasks(tasks)
    budgets = [Budget(amount, "rollouts") for amount in arguments.rollouts]
    budgets += [Budget(amount, "ms") for amount in arguments.milliseconds]
    for name in arguments.settings:
        setting = SETTINGS[name]
        own = tasks_of(setting, tasks, world)
        limits, curve = oracle_limits(own), {}
        for budget in budgets:
            key = setting.horizon, budget
            if key not in chosen:
                chosen[key] = choose_all(world, budget, tuning, horizon=setting.horizon)
            if not arguments.tune:
                planners = {name: found.planner for name, found in chosen[key].items()}
                curve[budget] = play_all(world, planners, own, setting, limits, arguments)
                print_table(f"{name}, {budget}: {len(own.tasks)} tasks", curve[budget])
        if not arguments.tune:
            print_curve(name, curve)
            print_baselines(own, limits)


def tuning_tasks(tasks: TaskSet) -> TaskSet:
    """Returns other tasks of the same environment."""
    return freeze_tasks(
        tasks.make_environment(), name="tuning", num_tasks=TUNING_TASKS, seed=TUNING_SEED
    )


def choose_all(
    world: LatentWorld, budget: Budget, tasks: TaskSet, *, horizon: int
) -> dict[str, Chosen]:
    """Returns, with its settings, every planner that can plan within a budget; prints them."""
    print(f"\nsettings for {budget}, horizon {horizon}, by energy on {TUNING_TASKS} other tasks")
    chosen = {}
    for name, contender in CONTENDERS.items():
        found = choose(world, contender, budget, tasks, horizon=horizon)
        if found is None:
            print(f"{name:<17}cannot plan for about {budget}: it has no row", flush=True)
            continue
        chosen[name] = found
        settings = ", ".join(f"{key} {value:g}" for key, value in found.settings.items())
        print(
            f"{name:<17}{settings}; {spending(found.planner)} rollouts, energy {found.energy:.4f}, "
            f"worst of the grid {found.worst:.4f}",
            flush=True,
        )
    return chosen


def play_all(
    world: LatentWorld,
    planners: Mapping[str, SearchPlanner],
    tasks: TaskSet,
    setting: Setting,
    limits: Sequence[int] | None,
    arguments: argparse.Namespace,
) -> list[Row]:
    """Returns what every planner did in a setting."""
    milliseconds, rows = milliseconds_in_turns(world, planners, tasks), []
    for name, planner in planners.items():
        episodes = play(
            world,
            planner,
            tasks,
            execute_steps=setting.execute_steps,
            seed=arguments.seed,
            batch=arguments.batch,
        )
        timely = None if limits is None else in_time(episodes, limits)
        rows.append(Row(name, episodes, timely, milliseconds[name]))
    return rows


# Tables.


def print_table(title: str, rows: Sequence[Row]) -> None:
    if not rows:
        print(f"\n{title}: no planner can plan for that", flush=True)
        return
    lowest = np.min([row.first_costs for row in rows], axis=0)
    reference = next((row for row in rows if row.name == REFERENCE), None)
    print(
        f"\n{title}\n{'':<17}{'success [95 %]':<18}{'in time [95 %]':<18}{'steps':>6}{'energy':>8}"
        f"{'rollouts':>10}{'ms':>7}  against {REFERENCE}: success; in time"
    )
    for row in rows:
        above = float(np.mean(row.first_costs / lowest - 1))
        timely = "-" if row.in_time is None else str(Rate.of(row.in_time))
        print(
            f"{row.name:<17}{Rate.of(row.solved)!s:<18}{timely:<18}"
            f"{'-' if row.steps is None else f'{row.steps:.1f}':>6}{above:>+8.1%}"
            f"{row.rollouts:>10.0f}{row.milliseconds:>7.1f}  {against(row, reference)}",
            flush=True,
        )


def against(row: Row, reference: Row | None) -> str:
    """Returns what the planner solved and the reference did not, and the other way round."""
    if reference is None or row is reference:
        return ""
    pairs = [mcnemar(reference.solved, row.solved)]
    if row.in_time is not None and reference.in_time is not None:
        pairs.append(mcnemar(reference.in_time, row.in_time))
    return "; ".join(f"+{gained} -{lost} p={p:.2g}" for gained, lost, p in pairs)


def print_curve(title: str, curve: Mapping[Budget, Sequence[Row]]) -> None:
    """Prints success, and success in time, by budget."""
    print(f"\n{title}: success (in time) by budget\n{'':<17}"
          + "".join(f"{budget!s:>16}" for budget in curve))  # fmt: skip
    for name in CONTENDERS:
        cells = []
        for rows in curve.values():
            row = next((row for row in rows if row.name == name), None)
            if row is None:
                cells.append("-")
                continue
            timely = "" if row.in_time is None else f" ({Rate.of(row.in_time).rate:.0%})"
            cells.append(f"{Rate.of(row.solved).rate:.0%}{timely}")
        print(f"{name:<17}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def print_baselines(tasks: TaskSet, limits: Sequence[int] | None) -> None:
    print("\nwithout a plan")
    for name, make in baselines(tasks.make_environment()).items():
        if name == "straight line" and not _moves_the_state(tasks.make_environment()):
            continue
        evaluation = evaluate(name, make, tasks)
        timely = "-" if limits is None else str(Rate.of(in_time(evaluation.episodes, limits)))
        print(f"{name:<17}{evaluation.success!s:<18}{timely:<18}", flush=True)


def _moves_the_state(environment: Environment) -> bool:
    """True if actions are changes of the state, as the straight line needs."""
    units = tuple(f"{unit}/step" for unit in environment.state_units)
    return environment.action_spec.units == units


def demo_world(scratch: Path, tasks: str) -> Path:
    """Returns the demo's world model, or trains the quick demo's.

    Raises:
        ValueError: if the tasks are of another environment.
    """
    environment = TaskSet.load(find_tasks(tasks)).environment
    if environment != "two_rooms":
        raise ValueError(f"{tasks} has tasks of {environment}: say with --world which world model "
                         "plans there; the demo's knows two_rooms")  # fmt: skip
    if DEMO_WORLD.is_dir():
        return DEMO_WORLD
    from jepa.demo.__main__ import QUICK, Demo

    print(f"no {DEMO_WORLD}: training the quick demo's world model")
    demo = Demo(scratch, QUICK, seed=0)
    scratch.mkdir(parents=True, exist_ok=True)
    demo.record()
    demo.pretrain()
    demo.train_world_model()
    return scratch / "world_model"


if __name__ == "__main__":
    main()
