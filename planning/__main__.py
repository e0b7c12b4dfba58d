"""`jepa plan VERB`: record a simulator, freeze tasks, evaluate a planner on them.

jepa plan record   --environment two_rooms --episodes 200 --steps 63 runs/shards
jepa plan freeze   --environment two_rooms --tasks 100 --seed 2026 tasks.json
jepa plan evaluate --world runs/demo/world_model --tasks two_rooms
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

PROTOCOLS = Path(__file__).parent / "protocols"


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    return arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jepa plan", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_record(verbs)
    _add_freeze(verbs)
    _add_evaluate(verbs)
    return parser


def _add_record(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser("record", help="record a random policy into trajectory shards")
    verb.add_argument("out", type=Path, help="folder of the shards")
    verb.add_argument("--environment", default="two_rooms")
    verb.add_argument("--episodes", type=int, default=200)
    verb.add_argument("--steps", type=int, default=63, help="actions per episode")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--overwrite", action="store_true")
    verb.set_defaults(run=_record)


def _add_freeze(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser("freeze", help="draw starts and goals and write them to a file")
    verb.add_argument("out", type=Path, help="the JSON file")
    verb.add_argument("--environment", default="two_rooms")
    verb.add_argument("--tasks", type=int, default=100)
    verb.add_argument("--seed", type=int, required=True)
    verb.set_defaults(run=_freeze)


def _add_evaluate(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser("evaluate", help="success on frozen tasks, beside baselines")
    verb.add_argument("--world", type=Path, required=True, help="folder of a world model's run")
    verb.add_argument("--tasks", default="two_rooms", help="a task file, or a name in protocols/")
    verb.add_argument("--episodes", type=int, help="only the first so many tasks")
    verb.add_argument("--horizon", type=int, default=8, help="actions in a plan")
    verb.add_argument("--samples", type=int, default=128, help="sequences per iteration")
    verb.add_argument("--elites", type=int, default=16)
    verb.add_argument("--iterations", type=int, default=3)
    verb.add_argument("--smoothness", type=float, default=0.3, help="of the noise, in [0, 1)")
    verb.add_argument("--execute", type=int, default=4, help="actions executed of each plan")
    verb.add_argument("--cost", choices=("mean", "last"), default="mean", help="over the steps")
    verb.add_argument("--seed", type=int, default=0, help="of the planner's samples")
    verb.add_argument("--threads", type=int, help="of torch; default: all cores")
    verb.add_argument("--device", default="cpu", help="of the world model, for example cuda")
    verb.add_argument("--out", type=Path, help="write every episode's outcome to this JSON file")
    verb.set_defaults(run=_evaluate)


def _record(arguments: argparse.Namespace) -> int:
    from planning.baselines import StickyRandom
    from planning.environments import make_environment
    from planning.recording import record_episodes

    result = record_episodes(
        make_environment(arguments.environment),
        StickyRandom,
        arguments.out,
        num_episodes=arguments.episodes,
        num_steps=arguments.steps,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    print(f"recorded {result.num_samples} episodes of {arguments.steps} steps: {arguments.out}")
    return 0


def _freeze(arguments: argparse.Namespace) -> int:
    from planning.environments import make_environment
    from planning.evaluation import freeze_tasks

    environment = make_environment(arguments.environment)
    tasks = freeze_tasks(
        environment, name=arguments.out.stem, num_tasks=arguments.tasks, seed=arguments.seed
    )
    print(f"froze {len(tasks.tasks)} tasks: {tasks.save(arguments.out)}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    import torch

    from planning.evaluation import TaskSet, baselines, evaluate, success_table
    from planning.latent_world import LatentWorld
    from planning.mpc import PlanningPolicy
    from planning.planners.cem import CEM

    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    tasks = TaskSet.load(find_tasks(arguments.tasks))
    tasks = tasks.first(arguments.episodes) if arguments.episodes is not None else tasks
    world = LatentWorld.load(arguments.world, device=arguments.device)
    planner = CEM(
        horizon=arguments.horizon,
        num_samples=arguments.samples,
        num_elites=arguments.elites,
        num_iterations=arguments.iterations,
        smoothness=arguments.smoothness,
    )

    def planning(index: int) -> PlanningPolicy:
        return PlanningPolicy(
            world,
            planner,
            execute_steps=arguments.execute,
            reduction=arguments.cost,
            seed=arguments.seed + index,
        )

    evaluations = [evaluate("cem", planning, tasks)]
    makers = baselines(tasks.make_environment())
    evaluations += [evaluate(name, make, tasks) for name, make in makers.items()]
    print(f"{tasks.name}: {len(tasks.tasks)} frozen tasks, {tasks.max_steps} steps each")
    print(success_table(evaluations))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([e.to_json() for e in evaluations], indent=1))
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


if __name__ == "__main__":
    sys.exit(main())
