"""Every planner on the same world models: at equal imagination, and at equal time.

    python benchmarks/planner_shootout.py [--world PATH ...] [--episodes 100] [--rollouts 192]
        [--milliseconds 100] [--tasks two_rooms] [--pusht PATH] [--tune] [--quick]

Frozen starts and goals (`planning/protocols/two_rooms.json`), the same for all planners; horizon
8, 4 actions executed of each plan, warm starts, mean cost over the steps. Success with its 95 %
Wilson interval; steps of the successes; energy: of the first plan of each episode, in percent above
the lowest that any planner of the table found for it (mean over episodes); rollouts and
milliseconds: median over plans. A rollout whose gradient is computed counts as three.

"equal rollouts": settings that spend about `--rollouts` on a plan; episodes run side by side, so
milliseconds are a plan's share. "equal time": each plan ends at the deadline, or a little before;
episodes run one by one. Random shooting, which is one batch, is given as many samples as fit.

Settings were chosen by `--tune`: by the energy of first plans on 12 tasks of another seed (1107)
than that of the frozen ones (2026). Without `--world`, runs/demo/world_model is used; if it is not
there, the quick demo's world is trained first (a minute). PushT needs a checkpoint of yours:
`--pusht`; its tasks are frozen by seed 2026 here.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

# Beside this file lies planning.py, which must not be taken for the package.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np
import torch

from planning.__main__ import find_tasks
from planning.control.mpc import PlanningPolicy
from planning.environments import make_environment
from planning.evaluation import (
    Evaluation,
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

HORIZON, EXECUTE_STEPS = 8, 4
TUNING_SEED, TUNING_TASKS = 1107, 12
GRADIENT_COST = 3  # rollouts that one with its gradient is counted as
DEMO_WORLD = Path("runs/demo/world_model")
QUICK_STEPS = 12  # of an episode
MANY = 200  # iterations, of which the deadline lets a part happen


class Contender(NamedTuple):
    """A planner with its settings.

    Attributes:
        of: makes it for a number of rollouts, of which the settings divide the samples.
        grid: settings that `--tune` tries.
        in_time: what differs where a deadline ends the plan.
    """

    of: Callable[..., SearchPlanner]
    grid: Mapping[str, Sequence[Any]]
    in_time: Mapping[str, Any]


def random_shooting(rollouts: int, *, std: float = 0.9, smoothness: float = 0.9) -> SearchPlanner:
    return RandomShooting(HORIZON, num_samples=rollouts, std=std, smoothness=smoothness)


def cem(
    rollouts: int, *, rounds: int = 3, elites: float = 0.1, smoothness: float = 0.3
) -> SearchPlanner:
    samples = rollouts // rounds
    return CEM(
        HORIZON,
        num_samples=samples,
        num_elites=max(2, round(elites * samples)),
        num_iterations=rounds,
        smoothness=smoothness,
    )


def icem(
    rollouts: int, *, rounds: int = 3, elites: float = 0.1, exponent: float = 2.0
) -> SearchPlanner:
    samples = int(rollouts / sum(1.25**-i for i in range(rounds)))
    return ICEM(
        HORIZON,
        num_samples=samples,
        num_elites=max(2, round(elites * samples)),
        num_iterations=rounds,
        noise_exponent=exponent,
    )


def mppi(
    rollouts: int, *, rounds: int = 3, temperature: float = 0.5, smoothness: float = 0.3
) -> SearchPlanner:
    samples = rollouts // rounds
    return MPPI(
        HORIZON,
        num_samples=samples,
        num_elites=max(2, samples // 4),
        num_iterations=rounds,
        temperature=temperature,
        smoothness=smoothness,
    )


def gradient(rollouts: int, *, starts: int = 4, step_size: float = 0.4) -> SearchPlanner:
    rounds = max(1, rollouts // (GRADIENT_COST * starts))
    return Gradient(
        HORIZON, num_starts=starts, num_iterations=rounds, step_size=step_size, smoothness=0.3
    )


def cem_gradient(
    rollouts: int, *, starts: int = 4, rounds: int = 2, share: float = 0.75, step_size: float = 0.4
) -> SearchPlanner:
    """`share` of the rollouts are spent on gradients."""
    steps = max(1, round(share * rollouts / (rounds * starts * GRADIENT_COST)))
    samples = max(8, rollouts // rounds - steps * starts * GRADIENT_COST)
    return CEMGradient(
        HORIZON,
        num_samples=samples,
        num_elites=max(2, samples // 8),
        num_iterations=rounds,
        num_starts=starts,
        num_steps=steps,
        step_size=step_size,
        smoothness=0.3,
    )


def cma_es(rollouts: int, *, samples: int = 16, initial_std: float = 0.5) -> SearchPlanner:
    rounds = max(1, rollouts // (samples + 1))
    return CMAES(HORIZON, num_samples=samples, num_iterations=rounds, initial_std=initial_std)


MORE_ROUNDS = {"num_iterations": MANY}
# The step of a descent falls from its first to its last, so these may end before the deadline.
MORE_STEPS, MORE_DESCENTS = {"num_iterations": 40}, {"num_iterations": 3}
CONTENDERS = {
    "random shooting": Contender(
        random_shooting, {"std": (0.5, 0.7, 0.9), "smoothness": (0.0, 0.5, 0.9)}, {}
    ),
    "CEM": Contender(
        cem, {"rounds": (2, 3, 5), "elites": (0.1, 0.2), "smoothness": (0.0, 0.3, 0.7)}, MORE_ROUNDS
    ),
    "iCEM": Contender(
        icem, {"rounds": (2, 3, 5), "elites": (0.1, 0.2), "exponent": (1.0, 2.0, 3.0)}, MORE_ROUNDS
    ),
    "MPPI": Contender(
        mppi,
        {"rounds": (2, 3, 5), "temperature": (0.3, 0.5, 1.0), "smoothness": (0.0, 0.3, 0.7)},
        MORE_ROUNDS,
    ),
    "gradient": Contender(
        gradient, {"starts": (2, 4, 8), "step_size": (0.25, 0.4, 0.6)}, MORE_STEPS
    ),
    "CEM + gradient": Contender(
        cem_gradient,
        {"starts": (2, 4), "rounds": (1, 2, 3), "share": (0.5, 0.75), "step_size": (0.25, 0.5)},
        MORE_DESCENTS,
    ),
    "CMA-ES": Contender(cma_es, {"samples": (8, 16, 32), "initial_std": (0.3, 0.5)}, MORE_ROUNDS),
}

# By `--tune` on the demo's world at 192 rollouts. What is not named is as above.
TUNED: dict[str, dict[str, Any]] = {
    "random shooting": {"std": 0.9, "smoothness": 0.9},
    "CEM": {"rounds": 5, "elites": 0.1, "smoothness": 0.7},
    "iCEM": {"rounds": 5, "elites": 0.1, "exponent": 3.0},
    "MPPI": {"rounds": 5, "temperature": 1.0, "smoothness": 0.7},
    "gradient": {"starts": 2, "step_size": 0.6},
    "CEM + gradient": {"starts": 2, "rounds": 1, "share": 0.75, "step_size": 0.5},
    "CMA-ES": {"samples": 8, "initial_std": 0.3},
}


class Row(NamedTuple):
    """What one planner did."""

    name: str
    evaluation: Evaluation
    rollouts: float
    first_costs: np.ndarray


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(1)
    if arguments.quick:
        arguments.episodes, arguments.rollouts = min(arguments.episodes, 2), 48
    with tempfile.TemporaryDirectory() as scratch:
        for path in arguments.world or [demo_world(Path(scratch))]:
            tasks = TaskSet.load(find_tasks(arguments.tasks)).first(arguments.episodes)
            tasks = replace(tasks, max_steps=QUICK_STEPS) if arguments.quick else tasks
            shoot_out(path, tasks, arguments)
    if arguments.pusht is not None:
        tasks = freeze_tasks(
            make_environment("pusht"), name="pusht", num_tasks=arguments.episodes, seed=2026
        )
        shoot_out(arguments.pusht, tasks, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--world", type=Path, nargs="+", help="folders of world models")
    parser.add_argument("--pusht", type=Path, help="folder of a world model of PushT")
    parser.add_argument("--tasks", default="two_rooms", help="a task file, or a protocol's name")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--rollouts", type=int, default=192, help="of a plan")
    parser.add_argument("--milliseconds", type=float, default=100, help="deadline of a plan")
    parser.add_argument("--batch", type=int, default=25, help="episodes side by side")
    parser.add_argument("--seed", type=int, default=0, help="of the planners' samples")
    parser.add_argument("--tune", action="store_true", help="try settings on other tasks, and stop")
    parser.add_argument("--quick", action="store_true", help="2 short episodes of 48 rollouts")
    return parser


def shoot_out(path: Path, tasks: TaskSet, arguments: argparse.Namespace) -> None:
    """Prints the tables of one world."""
    world = LatentWorld.load(path)
    if arguments.tune:
        tune(world, tasks, arguments.rollouts)
        return
    print(f"\n{path}: {len(tasks.tasks)} tasks of {tasks.name}", flush=True)
    planners = {
        name: contender.of(arguments.rollouts, **TUNED.get(name, {}))
        for name, contender in CONTENDERS.items()
    }
    rows = [
        run(name, world, planner, tasks, batch=arguments.batch, seed=arguments.seed)
        for name, planner in planners.items()
    ]
    print_table(f"equal rollouts: about {arguments.rollouts}", rows)
    deadline = arguments.milliseconds / 1e3
    rows = [
        run(
            name,
            world,
            for_deadline(planners[name], contender, world, tasks, deadline),
            tasks,
            batch=1,
            seed=arguments.seed,
            deadline_seconds=deadline,
        )
        for name, contender in CONTENDERS.items()
    ]
    print_table(f"equal time: {arguments.milliseconds:g} ms", rows)
    print_baselines(tasks)


def run(
    name: str,
    world: LatentWorld,
    planner: SearchPlanner,
    tasks: TaskSet,
    *,
    batch: int,
    seed: int,
    deadline_seconds: float | None = None,
) -> Row:
    """Plans all episodes."""

    def policy(index: int) -> PlanningPolicy:
        return PlanningPolicy(
            world,
            planner,
            execute_steps=EXECUTE_STEPS,
            seed=seed + index,
            deadline_seconds=deadline_seconds,
        )

    evaluation = evaluate_together(name, policy, tasks, batch_size=min(batch, len(tasks.tasks)))
    plans = [record.plan for episode in evaluation.episodes for record in episode.plans]
    counted = [p.num_rollouts + (GRADIENT_COST - 1) * p.num_differentiated for p in plans]
    first = np.array([episode.plans[0].plan.cost for episode in evaluation.episodes])
    return Row(name, evaluation, statistics.median(counted), first)


def for_deadline(
    planner: SearchPlanner,
    contender: Contender,
    world: LatentWorld,
    tasks: TaskSet,
    deadline_seconds: float,
) -> SearchPlanner:
    """Returns the planner with so many rounds, or samples, that the deadline ends it."""
    if not isinstance(planner, RandomShooting):
        return replace(planner, **contender.in_time)
    problem = next(first_problems(world, tasks))
    seconds = min(plan_together(planner, world, [problem])[0].seconds for _ in range(3))
    fitting = int(planner.num_samples * deadline_seconds / seconds)
    return replace(planner, num_samples=max(1, fitting))


def first_problems(world: LatentWorld, tasks: TaskSet) -> Iterator[Problem]:
    """Returns the first planning problem of each task."""
    for index, task in enumerate(tasks.tasks):
        environment = tasks.make_environment()
        generator = np.random.default_rng((tasks.seed, index))
        time_step = environment.reset(generator, start=task.start, goal=task.goal)
        policy = PlanningPolicy(world, CEM(HORIZON), execute_steps=EXECUTE_STEPS, seed=index)
        problem = policy.prepare(environment, time_step)
        assert problem is not None
        yield problem


def tune(world: LatentWorld, frozen: TaskSet, rollouts: int) -> None:
    """Prints, for each planner, the settings of least mean energy on tasks of another seed."""
    environment = make_environment(frozen.environment)
    tasks = freeze_tasks(environment, name="tuning", num_tasks=TUNING_TASKS, seed=TUNING_SEED)
    for name, contender in CONTENDERS.items():
        found: list[tuple[float, dict[str, Any]]] = []
        for values in itertools.product(*contender.grid.values()):
            settings = dict(zip(contender.grid, values, strict=True))
            planner = contender.of(rollouts, **settings)
            plans = plan_together(planner, world, list(first_problems(world, tasks)))
            found.append((statistics.mean(plan.cost for plan in plans), settings))
        found.sort(key=lambda pair: pair[0])
        worst = found[-1][0]
        print(
            f"{name!r}: {found[0][1]},  # energy {found[0][0]:.4f}, worst {worst:.4f}", flush=True
        )


def print_table(title: str, rows: Sequence[Row]) -> None:
    lowest = np.min([row.first_costs for row in rows], axis=0)
    print(f"\n{title}", flush=True)
    print(f"{'':<17}{'success [95 %]':<19}{'steps':>7}{'energy':>9}{'rollouts':>10}{'ms/plan':>9}")
    for row in rows:
        above = float(np.mean(row.first_costs / lowest - 1))
        steps = row.evaluation.mean_steps_of_successes
        print(
            f"{row.name:<17}{row.evaluation.success!s:<19}"
            f"{'-' if steps is None else f'{steps:.1f}':>7}{above:>+9.1%}{row.rollouts:>10.0f}"
            f"{row.evaluation.milliseconds_per_plan or 0.0:>9.1f}"
        )


def print_baselines(tasks: TaskSet) -> None:
    print("\nwithout a plan")
    for name, make in baselines(tasks.make_environment()).items():
        success: Rate = evaluate(name, make, tasks).success
        print(f"{name:<17}{success!s:<19}")


def demo_world(scratch: Path) -> Path:
    """Returns the demo's world model, or trains the quick demo's."""
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
