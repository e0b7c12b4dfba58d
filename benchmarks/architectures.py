"""Which dynamics plan best in two_rooms? Same encoder, recordings, latents, steps and planner.

    jepa demo                                     # makes the encoder and the recordings
    python benchmarks/architectures.py [--demo runs/demo] [--steps 700] [--seeds 0] [--episodes 100]
        [--out runs/architectures] [--reuse] [--quick]

Each architecture is trained by `jepa fit --config ...`, a process of its own, with the config that
a user has: the frame-causal AC transformer (demo/world_model.yaml), AdaLN, GRU and an ensemble on
the transformer's trunk (world_model/two_rooms_*.yaml). Printed:

- parameters of the dynamics;
- error: how far imagined latents are from the true ones after 1, 2, 4 and 8 actions, on held-out
  recordings, as a share of how far the true ones have moved: 0 is perfect, 1 is predicting no
  change. The distance is the one that plans are made with;
- success of CEM on the frozen tasks with its 95 % Wilson interval, with the demo's budget (3 rounds
  of 128) and with an eighth of it (3 rounds of 16), which an easy world needs to tell models apart.
  "in time": within 1.25 times the steps of the oracle. Pairs with the AC transformer by McNemar's
  exact test;
- time: of a plan of the demo's budget, against the AC transformer's, in processor time; both are
  measured in turns, median and range of paired ratios.

Beside them the AC transformer before its first step, and policies that do not plan. A seed is that
of weights and windows; the tasks stay the same. `--reuse` takes the models that are in `--out`.
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
import copy
import json
import shlex
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from data_pipelines.datamodules import TrajectoryDataModule
from jepa.training.latent_windows import LatentBatch, LatentWindows
from planning.__main__ import find_tasks
from planning.control.mpc import EpisodeRecord
from planning.evaluation import Rate, TaskSet, baselines, evaluate
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.search.rounds import plan_together
from planning.types import Latent

# isort: split
from planner_shootout import Played, first_problems, in_time, mcnemar, oracle_limits, play

REFERENCE = "AC transformer"
CONFIGS = {
    REFERENCE: "demo/world_model.yaml",
    "AdaLN": "world_model/two_rooms_adaln.yaml",
    "GRU": "world_model/two_rooms_gru.yaml",
    "ensemble": "world_model/two_rooms_ensemble.yaml",
}
HORIZON, EXECUTE_STEPS, HORIZONS = 8, 4, (1, 2, 4, 8)
PLANNER = CEM(HORIZON, num_samples=128, num_elites=16, num_iterations=3, smoothness=0.3)
SMALL = CEM(HORIZON, num_samples=16, num_elites=4, num_iterations=3, smoothness=0.3)
BUDGETS = {"384 rollouts": PLANNER, "48 rollouts": SMALL}
TOGETHER = 50  # episodes that share a call of the world model
ROUNDS = 9  # of timing


class Windows(NamedTuple):
    """Held-out recordings as the world models see them.

    Attributes:
        tokens: (windows, time, patches, encoder_dim), of the encoder.
        states: (windows, time, state_dim), raw units.
        actions: (windows, time - 1, action_dim), raw units.
    """

    tokens: Tensor
    states: Tensor
    actions: Tensor


class Outcome(NamedTuple):
    """What became of the tasks.

    Attributes:
        solved: which of them were solved.
        in_time: which within their limit.
        steps: of each episode.
    """

    solved: list[bool]
    in_time: list[bool]
    steps: list[int]

    @classmethod
    def of(cls, episodes: Sequence[Played | EpisodeRecord], limits: list[int]) -> Outcome:
        """Reads it off the episodes."""
        solved = [bool(episode.is_success) for episode in episodes]
        return cls(solved, in_time(episodes, limits), [episode.num_steps for episode in episodes])


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(1)
    refuse_no_demo(arguments.demo)
    if arguments.quick:
        arguments.steps, arguments.episodes = 2, min(arguments.episodes, 2)
    tasks = TaskSet.load(find_tasks("two_rooms")).first(arguments.episodes)
    limits = oracle_limits(tasks)
    assert limits is not None
    held_out = held_out_windows(arguments.demo, num_windows=40 if arguments.quick else 1000)
    outcomes: dict[str, dict[str, list[Outcome]]] = {}
    for seed in arguments.seeds:
        folder = arguments.out / f"seed_{seed}"
        worlds = {
            name: train(name, folder, arguments, seed=seed)
            for name in CONFIGS
            if name == REFERENCE or arguments.only is None or name in arguments.only
        }
        worlds["untrained"] = untrained(worlds[REFERENCE], seed=seed)
        refuse_other_latents(worlds)
        print(f"\nseed {seed}: {len(tasks.tasks)} tasks of {tasks.name}", flush=True)
        print_models(worlds, held_out, tasks)
        found = solve_all(worlds, tasks, limits, seed=seed)
        for name, by_budget in found.items():
            for budget, outcome in by_budget.items():
                outcomes.setdefault(name, {}).setdefault(budget, []).append(outcome)
        write(folder / "outcomes.json", found)
    if len(arguments.seeds) > 1:
        print_over_seeds(outcomes)
    print_baselines(tasks, limits)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="folder of the demo")
    parser.add_argument("--out", type=Path, default=Path("runs/architectures"))
    parser.add_argument("--steps", type=int, default=700, help="optimizer steps of each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=list(CONFIGS), help=f"with {REFERENCE}")
    parser.add_argument("--reuse", action="store_true", help="take the models that are there")
    parser.add_argument("--quick", action="store_true", help="2 steps and tasks: proves the path")
    return parser


def refuse_no_demo(demo: Path) -> None:
    """Raises FileNotFoundError unless the demo's encoder and recordings are there."""
    for name in ("pretrain", "shards", "held_out"):
        if not (demo / name).is_dir():
            raise FileNotFoundError(
                f"{demo / name} is not there; run `jepa demo --out {demo}` first, or name the "
                "folder of a demo with --demo"
            )


# Training.


def train(name: str, folder: Path, arguments: argparse.Namespace, *, seed: int) -> LatentWorld:
    """Runs `jepa fit`, and loads what it leaves; what it says is in fit.log."""
    out = folder / name.replace(" ", "_").lower()
    if arguments.reuse and (out / "world_model").is_dir():
        return LatentWorld.load(out)
    command = fit_command(name, out, arguments.demo, steps=arguments.steps, seed=seed)
    print(f"$ jepa {shlex.join(command)}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "fit.log").open("w") as log:
        run = subprocess.run(
            [sys.executable, "-m", "jepa", *command], stdout=log, stderr=subprocess.STDOUT
        )
    if run.returncode:
        raise RuntimeError(f"{name} was not trained: see {out / 'fit.log'}")
    return LatentWorld.load(out)


def fit_command(name: str, out: Path, demo: Path, *, steps: int, seed: int) -> list[str]:
    """Returns the arguments of `jepa`."""
    encoder = str(demo / "pretrain")
    return [
        "fit", "--config", CONFIGS[name],
        "--data.trajectories.init_args.shards", str(demo / "shards"),
        "--data.encoder", encoder, "--model.encoder", encoder,
        "--trainer.max_steps", str(steps), "--data.steps_per_epoch", str(steps),
        "--seed_everything", str(seed), "--data.seed", str(seed),
        "--trainer.default_root_dir", str(out), "--trainer.enable_model_summary", "false",
    ]  # fmt: skip


def untrained(world: LatentWorld, *, seed: int) -> LatentWorld:
    """Returns the same encoder and latents with dynamics drawn anew."""
    trained = world.model.dynamics
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(trained)(**trained.config)
        fresh.build(
            latent_dim=trained.latent_dim,
            action_dim=trained.action_dim,
            state_dim=trained.state_dim,
            grid=trained.grid,
            output=trained.output,
        )
    model = copy.deepcopy(world.model)
    model.dynamics = fresh.requires_grad_(False)
    return LatentWorld(model)


def refuse_other_latents(worlds: Mapping[str, LatentWorld]) -> None:
    """Raises ValueError unless all see the same latents: errors could not be compared."""
    first = worlds[REFERENCE].model.latents.state_dict()
    for name, world in worlds.items():
        own = world.model.latents.state_dict()
        for key, value in first.items():
            if own[key].shape != value.shape or not torch.allclose(own[key], value):
                raise ValueError(
                    f"the latents of {name} differ from those of {REFERENCE} in {key!r}: train "
                    "both on the same encoder and recordings"
                )


# What a model knows.


def held_out_windows(demo: Path, *, num_windows: int) -> Windows:
    """Encodes held-out recordings once, and draws windows of them."""
    trajectories = TrajectoryDataModule(
        str(demo / "held_out"), 64, image_size=64, batch_size=4, seed=0
    )
    data = LatentWindows(
        trajectories, str(demo / "pretrain"), window_frames=HORIZON + 1, batch_size=num_windows
    )
    data.setup()
    batch = data.window_batch(0)
    assert isinstance(batch, LatentBatch)
    return Windows(batch.tokens, batch.states, batch.actions)


@torch.inference_mode()
def rollout_errors(world: LatentWorld, windows: Windows) -> list[float]:
    """Returns the error after 1 ... HORIZON actions, as a share of the way that was gone.

    Both are means over windows of the latent distance that plans are made with.
    """
    latents = world.model.latents(windows.tokens)  # (windows, time, tokens, dim)
    state = world.model.normalize_states(windows.states[:, 0])
    imagined = world.rollout(Latent(latents[:, 0], state), windows.actions[:, None])
    error = world.distance(imagined.tokens[:, 0], latents[:, 1:]).mean(0)  # (time - 1,)
    moved = world.distance(latents[:, :1].expand_as(latents[:, 1:]), latents[:, 1:]).mean(0)
    return (error / moved).tolist()


def time_ratios(worlds: Mapping[str, LatentWorld], tasks: TaskSet) -> dict[str, list[float]]:
    """Returns ratios of processor time of a plan to the reference's, paired by rounds."""
    problems = {name: next(first_problems(world, tasks)) for name, world in worlds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in worlds}
    for _ in range(ROUNDS):
        for name, world in worlds.items():
            began = time.process_time()
            plan_together(PLANNER, world, [problems[name]])
            seconds[name].append(time.process_time() - began)
    return {
        name: [own / other for own, other in zip(taken, seconds[REFERENCE], strict=True)]
        for name, taken in seconds.items()
    }


def print_models(worlds: Mapping[str, LatentWorld], held_out: Windows, tasks: TaskSet) -> None:
    """Prints what each model knows and costs."""
    ratios = time_ratios(worlds, tasks)
    steps = "".join(f"{f'error {step}':>9}" for step in HORIZONS)
    print(f"\n{'':<16}{'parameters':>11}{steps}  time of a plan")
    for name, world in worlds.items():
        parameters = sum(part.numel() for part in world.model.dynamics.parameters())
        errors, own = rollout_errors(world, held_out), ratios[name]
        cells = "".join(f"{errors[step - 1]:>9.3f}" for step in HORIZONS)
        print(
            f"{name:<16}{parameters:>11,}{cells}"
            f"  {statistics.median(own):.2f}x ({min(own):.2f}-{max(own):.2f})",
            flush=True,
        )


# What it is good for.


def solve_all(
    worlds: Mapping[str, LatentWorld], tasks: TaskSet, limits: list[int], *, seed: int
) -> dict[str, dict[str, Outcome]]:
    """Plans all tasks with all models and budgets, and prints what happened."""
    found: dict[str, dict[str, Outcome]] = {name: {} for name in worlds}
    for budget, planner in BUDGETS.items():
        print(f"\nCEM, {budget}\n{'':<16}{'success [95 %]':<19}{'in time [95 %]':<19}{'steps':>6}"
              f"  against {REFERENCE}: success; in time")  # fmt: skip
        for name, world in worlds.items():
            episodes = play(
                world, planner, tasks, execute_steps=EXECUTE_STEPS, seed=seed, batch=TOGETHER
            )
            found[name][budget] = Outcome.of(episodes, limits)
            own, other = ([found[which][budget]] for which in (name, REFERENCE))
            print_outcome(name, own, own if name == REFERENCE else other)
    return found


def print_outcome(name: str, outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> None:
    """Prints one line, of all seeds together."""
    own, other = ([row for outcome in rows for row in zip(*outcome, strict=True)]
                  for rows in (outcomes, reference))  # fmt: skip
    solved, timely, steps = (list(column) for column in zip(*own, strict=True))
    steps_of_successes = [count for count, is_success in zip(steps, solved, strict=True)
                          if is_success]  # fmt: skip
    theirs = list(zip(*other, strict=True))
    pairs = [mcnemar(theirs[0], solved), mcnemar(theirs[1], timely)]
    paired = "; ".join(f"+{gained} -{lost} p={p:.2g}" for gained, lost, p in pairs)
    mean_steps = f"{statistics.mean(steps_of_successes):.1f}" if steps_of_successes else "-"
    print(f"{name:<16}{Rate.of(solved)!s:<19}{Rate.of(timely)!s:<19}{mean_steps:>6}"
          f"  {'' if outcomes is reference else paired}", flush=True)  # fmt: skip


def print_over_seeds(outcomes: Mapping[str, Mapping[str, list[Outcome]]]) -> None:
    """Prints all seeds together; the same task under two seeds counts as two."""
    for budget in BUDGETS:
        print(f"\nall seeds, {budget}")
        for name, by_budget in outcomes.items():
            print_outcome(name, by_budget[budget], outcomes[REFERENCE][budget])


def print_baselines(tasks: TaskSet, limits: list[int]) -> None:
    """Prints what policies without a plan do on the same tasks."""
    print("\nwithout a plan")
    for name, make in baselines(tasks.make_environment()).items():
        evaluation = evaluate(name, make, tasks)
        outcomes = [Outcome.of(evaluation.episodes, limits)]
        print_outcome(name, outcomes, outcomes)


def write(path: Path, found: Mapping[str, Mapping[str, Outcome]]) -> None:
    """Writes every outcome."""
    content = {
        name: {budget: outcome._asdict() for budget, outcome in by_budget.items()}
        for name, by_budget in found.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
