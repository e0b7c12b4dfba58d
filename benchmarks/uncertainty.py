"""Does it pay to plan around what the world model has never seen? One core, about 15 minutes.

    python benchmarks/uncertainty.py [--guard] [--quick] [--out runs/uncertainty] [--reuse]

One room of 64 pixels. No recorded trajectory enters its lower middle, half of the floor, which
looks like the rest: nobody knows what it is like. Encoder, slow features and an ensemble of
dynamics are trained on the other half. The same planner (CEM) then goes to goal images in the seen
half, on the same starts and goals and with the same random numbers:

- without a penalty: the distance to the goal alone;
- disagreement: and how much more the members of the ensemble disagree than on held-out recordings;
- guard, if asked for: and how much further imagined latents are from recorded ones than held-out
  recordings are (the fifth nearest), which needs no ensemble.

Half of the tasks are "across": on the straight line between start and goal lies the unseen half;
the way around is in the seen one. Two worlds: in "pit" the unseen half is a hole, and who steps in
has failed; in "floor" it is floor like the rest, and a penalty can only cost. The weight of each
penalty is chosen in "pit", on tasks of another seed; pairs of outcomes are compared by McNemar's
exact test.

Printed besides: how well disagreement tells how wrong the model is (rank correlation with the true
latent error), and the seen from the unseen half (AUROC).
"""

# ruff: noqa: E402

from __future__ import annotations

import sys
from pathlib import Path

# Beside this file lies planning.py, which has the name of the package.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]

# isort: split
import argparse
import copy
import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import data_pipelines  # noqa: F401  (before lightning: see data_pipelines.torchvision_on_cpu)

# isort: split
import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor

from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.dynamics import GRU, Ensemble
from jepa.models.latents import SlowFeatures
from jepa.training.latent_windows import LatentWindows
from jepa.training.pretraining import Pretraining
from jepa.training.world_model_training import WorldModelTraining
from planning.baselines import StickyRandom, random_actions, straight_line
from planning.control.mpc import Policy
from planning.costs import (
    Disagreement,
    GoalDistance,
    NearestLatents,
    OutOfDistribution,
    WeightedSum,
)
from planning.costs.recorded_latents import bank_of_shards
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import Rate
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.recording import record_episodes
from planning.search.rounds import Problem, plan_together
from planning.types import Cost, Environment, Latent, Plan, TimeStep

PLANNER = CEM(horizon=8, num_samples=128, num_elites=16, num_iterations=3, smoothness=0.3)
EXECUTED = 4
WEIGHTS = (0.25, 1.0, 4.0)
TOGETHER = 50  # episodes that share a call of the world model


@dataclass(frozen=True)
class Size:
    """How long it takes.

    Attributes:
        episodes: recorded, of 63 steps.
        pretrain_steps: optimizer steps of the encoder.
        world_model_steps: optimizer steps of the ensemble.
        tasks: that are reported.
        tuning_tasks: that weights are chosen on.
        weights: to choose from.
        pairs: imagined and real ends that calibration compares, in each half.
    """

    episodes: int
    pretrain_steps: int
    world_model_steps: int
    tasks: int
    tuning_tasks: int
    weights: tuple[float, ...]
    pairs: int


FULL = Size(200, 500, 700, 200, 32, WEIGHTS, 600)
QUICK = Size(16, 8, 12, 2, 2, WEIGHTS[:1], 40)


# The world, of which half is not seen.


@dataclass
class HalfSeenRoom(TwoRooms):
    """A room without a wall; `sample_position` and tasks are in the half that is seen.

    Args:
        is_pit: whoever touches the unseen half has fallen: the episode ends without success.
    """

    is_pit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.name = "half_seen_room"
        scale = self.image_size / 64
        self.left, self.right, self.top = 14.5 * scale, 49.5 * scale, 18.5 * scale
        self.has_fallen = False

    def is_free(self, position: np.ndarray) -> bool:
        """True inside the outer walls."""
        low = self._border + self.agent_radius
        return bool(((position >= low) & (position <= self.image_size - low)).all())

    def is_unseen(self, position: np.ndarray) -> bool:
        """True in the half that no recording enters."""
        return bool(self.left < position[0] < self.right and position[1] > self.top)

    def enters_unseen(self, before: np.ndarray, after: np.ndarray) -> bool:
        """True if the straight way between two positions goes through the unseen half."""
        (x, y), (dx, dy) = before, after - before
        first, last = 0.0, 1.0  # the part of the way on which all three are positive
        for value, change in ((x - self.left, dx), (self.right - x, -dx), (y - self.top, dy)):
            if change == 0:
                last = last if value > 0 else 0.0
            elif change > 0:
                first = max(first, -value / change)
            else:
                last = min(last, -value / change)
        return bool(first < last)

    def sample_position(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a position in the seen half."""
        while self.is_unseen(position := super().sample_position(generator)):
            pass
        return position

    def draw_task(
        self, generator: np.random.Generator, index: int
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Odd ones have the unseen half on their straight line, even ones do not."""
        while True:
            start, goal = self.sample_position(generator), self.sample_position(generator)
            line = np.linspace(start, goal, 51)
            share = np.mean([self.is_unseen(position) for position in line])
            is_far = np.linalg.norm(goal - start) >= self.image_size / 4
            if is_far and (share >= 0.25 if index % 2 else share == 0):
                return start, goal, "across" if index % 2 else "beside"

    def reset(self, generator: np.random.Generator, **places: Any) -> TimeStep:
        """See `TwoRooms.reset`."""
        self.has_fallen = False
        return super().reset(generator, **places)

    def step(self, action: np.ndarray) -> TimeStep:
        """See `TwoRooms.step`; a fall ends the episode."""
        assert self._position is not None
        before, after = self._position, super().step(action)
        self.has_fallen |= self.is_pit and self.enters_unseen(before, self._position)
        if self.has_fallen:
            return after._replace(is_success=False, is_last=True)
        return after

    def shortest_path_action(self, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The oracle: straight, or by the next corner of the unseen half."""
        target = goal
        if self.enters_unseen(position, goal):
            corners = [np.array([x, self.top - 1]) for x in (self.left - 1, self.right + 1)]
            free = [corner for corner in corners if not self.enters_unseen(position, corner)]
            target = min(free, key=lambda corner: np.linalg.norm(corner - goal))
        offset = target - position
        return offset * min(1.0, self.max_move / max(np.abs(offset).max(), 1e-9))

    def _draw_background(
        self, left_floor: np.ndarray, right_floor: np.ndarray, wall: np.ndarray
    ) -> np.ndarray:
        size = self.image_size
        y, x = np.mgrid[:size, :size] + 0.5
        u, v = x / size, y / size
        shade = 10 * np.sin(7.1 * u + 2.3 * v) + 9 * np.sin(11.3 * v - 3.7 * u + 1.0)
        image = left_floor + shade[..., None]
        outside = (np.minimum(x, y) < self._border) | (np.maximum(x, y) > size - self._border)
        image[outside] = wall
        return np.clip(image, 0, 255)


@dataclass
class StaysInSeenHalf:
    """A random walk that never enters the unseen half, nor runs against it: it goes elsewhere."""

    walk: StickyRandom = field(default_factory=StickyRandom)

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """The next action of the walk, or a fresh one."""
        assert isinstance(environment, HalfSeenRoom)
        position = time_step.state.astype(np.float64)
        while True:
            action = self.walk(environment, time_step, generator)
            if not environment.enters_unseen(position, environment.move(position, action)):
                return action
            self.walk = StickyRandom()


# The world model.


def train(out: Path, size: Size, *, seed: int) -> LatentWorld:
    """Records the seen half, pretrains the encoder, trains the ensemble: all of it on that half."""
    for name, episodes, own_seed in (
        ("shards", size.episodes, seed),
        ("held_out", max(size.episodes // 4, 8), seed + 1_000_003),
    ):
        record_episodes(
            HalfSeenRoom(), StaysInSeenHalf, out / name,
            num_episodes=episodes, num_steps=63, seed=own_seed, overwrite=True,
        )  # fmt: skip
    shards, folder = str(out / "shards"), str(out / "pretrain")
    torch.manual_seed(seed)
    pretraining = Pretraining(
        VideoEncoder(image_size=64, clip_length_frames=8, patch_size=16, tubelet_size=2,
                     dim=96, depth=4, num_heads=4),
        MaskedLatentPredictor(encoder_dim=96, dim=48, depth=2, num_heads=2),
        masks=[MultiBlock(num_blocks=8, target_fraction=0.75)],
        learning_rate=1e-3, weight_decay=0.05, ema_momentum=(0.99, 0.999),
    )  # fmt: skip
    clips = ClipDataModule(
        shards, 8, image_size=64, crop_scale=(1.0, 1.0), crop_aspect_ratio=(1.0, 1.0),
        horizontal_flip=False, batch_size=32, clips_per_video=8,
        steps_per_epoch=size.pretrain_steps, seed=seed,
    )  # fmt: skip
    trainer(out / "pretrain", size.pretrain_steps).fit(pretraining, clips)
    torch.manual_seed(seed)
    training = WorldModelTraining(
        folder,
        latents=SlowFeatures(num_features=16, num_tokens=1),
        dynamics=Ensemble(GRU(dim=128), num_members=5),
        uses_state=False, rollout_steps=8, learning_rate=4e-3, weight_decay=0.01,
    )  # fmt: skip
    trajectories = TrajectoryDataModule(shards, 64, image_size=64, batch_size=4, seed=seed)
    windows = LatentWindows(
        trajectories, folder, window_frames=9, batch_size=64,
        steps_per_epoch=size.world_model_steps, seed=seed,
    )  # fmt: skip
    trainer(out, size.world_model_steps).fit(training, windows)
    return LatentWorld.load(out)


def trainer(folder: Path, steps: int) -> L.Trainer:
    return L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        default_root_dir=folder,
    )  # fmt: skip


def encode(world: LatentWorld, frames: Sequence[np.ndarray]) -> Tensor:
    """Returns latents (frames, tokens, dim), each frame encoded once."""
    return torch.stack([world.encode(frame).tokens for frame in frames])


# Is disagreement where the error is?


class Calibration(NamedTuple):
    """How disagreement and true error go together, on transitions that were not trained on."""

    error: float
    disagreement: float
    rank_correlation: float


def calibration(
    world: LatentWorld, *, num_pairs: int, num_steps: int, seed: int
) -> tuple[dict[str, Calibration], float]:
    """Returns the figures of both halves and of all, and the AUROC of disagreement for unseen.

    Args:
        world: a world model with an ensemble.
        num_pairs: random walks from each half.
        num_steps: random actions of each; only walks that stay in their half count.
        seed: of the walks.
    """
    room, generator = HalfSeenRoom(), np.random.default_rng(seed)
    walks = {is_unseen: walks_in(room, is_unseen, num_pairs, num_steps, generator)
             for is_unseen in (False, True)}  # fmt: skip
    error, disagreement = {}, {}
    for is_unseen, (starts, actions, ends) in walks.items():
        with torch.inference_mode():
            start = Latent(encode(world, [room.render(place) for place in starts]))
            imagined = world.rollout(start, torch.tensor(actions, dtype=torch.float32)[:, None])
            real = encode(world, [room.render(place) for place in ends])
        error[is_unseen] = (imagined.tokens[:, 0, -1] - real).square().mean((-2, -1)).sqrt()
        assert imagined.disagreement is not None
        disagreement[is_unseen] = imagined.disagreement[:, 0, -1]
    rows = {
        name: Calibration(
            torch.cat([error[half] for half in halves]).mean().item(),
            torch.cat([disagreement[half] for half in halves]).mean().item(),
            rank_correlation(torch.cat([error[half] for half in halves]),
                             torch.cat([disagreement[half] for half in halves])),
        )
        for name, halves in (("seen", [False]), ("unseen", [True]), ("both", [False, True]))
    }  # fmt: skip
    return rows, auroc(disagreement[True], disagreement[False])


def walks_in(
    room: HalfSeenRoom, is_unseen: bool, count: int, num_steps: int, generator: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Draws starts, actions (walks, steps, 2) and ends of walks that stay in one half."""
    starts, actions, ends = [], [], []
    while len(starts) < count:
        position = TwoRooms.sample_position(room, generator)
        walk = [position]
        own = np.stack([room.action_spec.sample(generator) for _ in range(num_steps)])
        for action in own:
            walk.append(room.move(walk[-1], action))
        if all(room.is_unseen(place) == is_unseen for place in walk):
            starts.append(position)
            actions.append(own)
            ends.append(walk[-1])
    return starts, np.stack(actions), ends


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's; without ties, as of numbers that were measured."""
    ranks = torch.stack([part.argsort().argsort().double() for part in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def auroc(positive: Tensor, negative: Tensor) -> float:
    """The chance that one of the positive is above one of the negative; ties count half."""
    above = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative).double()
    return above.mean().item()


def familiar_disagreement(world: LatentWorld, shards: Path, *, num_windows: int) -> Tensor:
    """Returns disagreement (windows, horizon) along held-out recordings."""
    data = TrajectoryDataModule(str(shards), PLANNER.horizon + 1, image_size=64, batch_size=8,
                                windows_per_trajectory=4,
                                steps_per_epoch=math.ceil(num_windows / 8))  # fmt: skip
    parts = []
    for batch in data.train_dataloader():
        frames = batch.frames[:, :, 0].permute(0, 2, 3, 1).numpy()
        with torch.inference_mode():
            start = Latent(encode(world, list(frames)))
            imagined = world.rollout(start, batch.actions[:, None])
        assert imagined.disagreement is not None
        parts.append(imagined.disagreement[:, 0])
    return torch.cat(parts).clone()


# Episodes.


class Task(NamedTuple):
    """Where to start and where to go."""

    start: np.ndarray
    goal: np.ndarray
    group: str


class Outcome(NamedTuple):
    """What became of an episode."""

    is_success: bool
    has_fallen: bool
    final_distance: float
    num_steps: int
    num_unseen: int


def draw_tasks(count: int, *, seed: int) -> list[Task]:
    room, generator = HalfSeenRoom(), np.random.default_rng(seed)
    return [Task(*room.draw_task(generator, index)) for index in range(count)]


CostOf = Callable[[GoalDistance], Cost]


@dataclass
class Episode:
    """One episode that is planned, with others in the same call."""

    room: HalfSeenRoom
    time_step: TimeStep
    goal: Latent
    generator: torch.Generator
    plan: Plan | None = None
    num_steps: int = 0
    num_unseen: int = 0

    def problem(self, world: LatentWorld, cost_of: CostOf) -> Problem:
        """What is to be planned now."""
        start = world.encode(self.time_step.frame)
        cost = cost_of(GoalDistance(self.goal, world.distance))
        executed = 0 if self.plan is None else EXECUTED
        return Problem(start, cost, self.room.action_spec, self.generator, self.plan, executed)

    def act(self, plan: Plan) -> None:
        """Executes the first actions of a plan."""
        self.plan = plan
        for action in plan.actions[:EXECUTED].numpy():
            if not self.time_step.is_last:
                self.time_step = self.room.step(action)
                self.num_steps += 1
                self.num_unseen += self.room.is_unseen(self.time_step.state)

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        return Outcome(
            self.time_step.is_success, self.room.has_fallen, self.room.distance_to_goal(),
            self.num_steps, self.num_unseen,
        )  # fmt: skip


def run_planned(
    world: LatentWorld, tasks: Sequence[Task], cost_of: CostOf, *, is_pit: bool, seed: int
) -> list[Outcome]:
    """Plans and acts until all episodes are over; the k-th has the same random numbers always."""
    room, episodes = HalfSeenRoom(is_pit=is_pit), []
    for index, task in enumerate(tasks):
        own = copy.copy(room)
        first = own.reset(np.random.default_rng(index), start=task.start, goal=task.goal)
        generator = torch.Generator().manual_seed(1_000_000 * seed + index)
        episodes.append(Episode(own, first, world.encode(own.goal.frame), generator))
    while running := [episode for episode in episodes if not episode.time_step.is_last]:
        for first in range(0, len(running), TOGETHER):
            part = running[first : first + TOGETHER]
            with torch.inference_mode():
                problems = [episode.problem(world, cost_of) for episode in part]
                plans = plan_together(PLANNER, world, problems)
            for episode, plan in zip(part, plans, strict=True):
                episode.act(plan)
    return [episode.outcome for episode in episodes]


def run_policy(
    tasks: Sequence[Task], make_policy: Callable[[], Policy], *, is_pit: bool
) -> list[Outcome]:
    """Runs a policy that does not plan."""
    room, outcomes = HalfSeenRoom(is_pit=is_pit), []
    for index, task in enumerate(tasks):
        generator, policy = np.random.default_rng(index), make_policy()
        time_step = room.reset(generator, start=task.start, goal=task.goal)
        steps = unseen = 0
        while not time_step.is_last:
            action = room.action_spec.validate(policy(room, time_step, generator))
            time_step = room.step(action)
            steps, unseen = steps + 1, unseen + room.is_unseen(time_step.state)
        outcomes.append(
            Outcome(time_step.is_success, room.has_fallen, room.distance_to_goal(), steps, unseen)
        )
    return outcomes


def oracle_around(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> np.ndarray:
    assert isinstance(environment, HalfSeenRoom)
    state = time_step.state.astype(np.float64)
    return environment.shortest_path_action(state, environment.goal.state.astype(np.float64))


# Comparison.


def mcnemar(without: Sequence[bool], with_penalty: Sequence[bool]) -> tuple[int, int, float]:
    """Returns tasks that only the second solved, only the first, and the two-sided exact p."""
    gained = sum(b and not a for a, b in zip(without, with_penalty, strict=True))
    lost = sum(a and not b for a, b in zip(without, with_penalty, strict=True))
    changed, fewer = gained + lost, min(gained, lost)
    tail = sum(math.comb(changed, k) for k in range(fewer + 1)) / 2**changed
    return gained, lost, min(1.0, 2 * tail)


def table(rows: dict[str, list[Outcome]], tasks: Sequence[Task]) -> str:
    """One arm a line."""
    lines = [f"{'':<16}{'success [95 %]':<20}{'beside':>8}{'across':>8}{'fell':>7}"
             f"{'unseen':>8}{'distance':>10}{'steps':>7}"]  # fmt: skip
    for name, outcomes in rows.items():
        groups = {
            group: np.mean([o.is_success for o, t in zip(outcomes, tasks, strict=True)
                            if t.group == group])
            for group in ("beside", "across")
        }  # fmt: skip
        steps = sum(outcome.num_steps for outcome in outcomes)
        unseen = sum(outcome.num_unseen for outcome in outcomes) / max(steps, 1)
        lines.append(
            f"{name:<16}{Rate.of([o.is_success for o in outcomes])!s:<20}"
            f"{groups['beside']:>8.0%}{groups['across']:>8.0%}"
            f"{np.mean([o.has_fallen for o in outcomes]):>7.0%}{unseen:>8.1%}"
            f"{np.mean([o.final_distance for o in outcomes]):>10.1f}{steps / len(outcomes):>7.1f}"
        )
    return "\n".join(lines)


def penalties(
    world: LatentWorld, out: Path, size: Size, *, with_guard: bool, seed: int
) -> dict[str, Callable[[float], CostOf]]:
    """Returns what makes a cost of a weight, for each penalty; all are calibrated on recordings."""
    familiar = familiar_disagreement(world, out / "held_out", num_windows=size.pairs)
    found: dict[str, Cost] = {"disagreement": Disagreement.calibrated(familiar, quantile=0.9)}
    if with_guard:
        bank = bank_of_shards(
            world, out / "shards", image_size=64, kind=NearestLatents, num_frames=3 * size.pairs,
            quantile=0.9, seed=seed,
        )  # fmt: skip
        bank.save(out / "bank.safetensors")
        found["guard"] = OutOfDistribution(bank)

    def weighted(name: str, penalty: Cost) -> Callable[[float], CostOf]:
        return lambda weight: (
            lambda goal: WeightedSum({"goal": (1.0, goal), name: (weight, penalty)})
        )

    return {name: weighted(name, penalty) for name, penalty in found.items()}


def chosen_weight(
    world: LatentWorld,
    name: str,
    cost_of_weight: Callable[[float], CostOf],
    size: Size,
    *,
    seed: int,
) -> float:
    """Returns the weight that fails least on the tuning tasks; the smallest of equal ones."""
    tasks, successes = draw_tasks(size.tuning_tasks, seed=seed + 7), {}
    for weight in size.weights:
        outcomes = run_planned(world, tasks, cost_of_weight(weight), is_pit=True, seed=seed + 7)
        successes[weight] = sum(outcome.is_success for outcome in outcomes)
    best = max(size.weights, key=lambda weight: (successes[weight], -weight))
    found = ", ".join(f"{weight:g}: {count}" for weight, count in successes.items())
    print(
        f"{name}: solved of {len(tasks)} tuning tasks by weight  {found}  -> {best:g}", flush=True
    )
    return best


def compare(
    world: LatentWorld, arms: dict[str, CostOf], size: Size, *, seed: int
) -> dict[str, dict[str, list[Outcome]]]:
    """Runs all arms on the same tasks, in both worlds, and prints what happened."""
    tasks, results = draw_tasks(size.tasks, seed=seed + 2026), {}
    baselines: dict[str, Callable[[], Policy]] = {
        "random actions": lambda: random_actions,
        "straight line": lambda: straight_line,
        "oracle": lambda: oracle_around,
    }
    for place, is_pit in (("pit", True), ("floor", False)):
        rows = {
            name: run_planned(world, tasks, cost_of, is_pit=is_pit, seed=seed)
            for name, cost_of in arms.items()
        }
        rows |= {name: run_policy(tasks, make, is_pit=is_pit) for name, make in baselines.items()}
        results[place] = rows
        print(f"\nthe unseen half is {place}: {len(tasks)} tasks\n{table(rows, tasks)}", flush=True)
        first, *others = arms
        for name in others:
            gained, lost, p = mcnemar(*([o.is_success for o in rows[n]] for n in (first, name)))
            print(f"{name} against {first}: solves {gained} more, {lost} fewer, p = {p:.2g}")
    return results


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--guard", action="store_true", help="try the guard too")
    parser.add_argument("--quick", action="store_true", help="proves the path, nothing else")
    parser.add_argument("--out", type=Path, default=Path("runs/uncertainty"))
    parser.add_argument("--reuse", action="store_true", help="take the world model that is there")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    size, out, seed = QUICK if arguments.quick else FULL, arguments.out, arguments.seed
    began = time.perf_counter()
    world = LatentWorld.load(out) if arguments.reuse else train(out, size, seed=seed)
    print(f"trained on the seen half: {time.perf_counter() - began:.0f} s", flush=True)
    for num_steps in (1, PLANNER.horizon):
        rows, area = calibration(world, num_pairs=size.pairs, num_steps=num_steps, seed=seed)
        print(f"\n{num_steps} imagined steps; AUROC of disagreement, unseen from seen: {area:.2f}")
        print(f"{'':<8}{'error':>8}{'disagreement':>14}{'rank correlation':>18}")
        for name, row in rows.items():
            print(f"{name:<8}{row.error:>8.3f}{row.disagreement:>14.3f}"
                  f"{row.rank_correlation:>18.2f}")  # fmt: skip
    print(flush=True)
    makers = penalties(world, out, size, with_guard=arguments.guard, seed=seed)
    arms: dict[str, CostOf] = {"without": lambda goal: goal}
    for name, make in makers.items():
        arms[name] = make(chosen_weight(world, name, make, size, seed=seed))
    results = compare(world, arms, size, seed=seed)
    (out / "outcomes.json").write_text(json.dumps(
        {place: {name: [o._asdict() for o in outcomes] for name, outcomes in rows.items()}
         for place, rows in results.items()}, default=float))  # fmt: skip
    print(f"\n{time.perf_counter() - began:.0f} s in all; every outcome: {out / 'outcomes.json'}")


if __name__ == "__main__":
    main()
