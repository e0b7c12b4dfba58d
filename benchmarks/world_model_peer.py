"""Our LeWM-like recipe and LeWM of stable-worldmodel: the same data, steps, sizes and starts.

    pip install -e .[peers]
    jepa plan record --environment two_rooms --episodes 200 --steps 63 --seed 0 runs/two_rooms
    python benchmarks/world_model_peer.py --shards runs/two_rooms --out runs/peer
        [--env two_rooms|pusht] [--steps 1000] [--batch 64] [--seeds 0] [--episodes 100] [--quick]

Encoder and predictor are trained together, from pixels and actions alone, kept apart by SIGReg.

Of the peer are imported, and nothing of it is written here: LeWM and its modules, SIGReg, CEMSolver
and the loop of planning (WorldModelPolicy). Not in its package, and therefore said here after its
repository's configs: the sum of the loss, mean squared error of the next embedding + 0.09 SIGReg;
AdamW, warm-up over 1 % of the steps and a cosine to 0, gradients clipped to a norm of 1; its ViT,
which is Hugging Face's, in the sizes that are asked for.

Ours is `JointTraining` with `AdaLN`, as configs/world_model/lewm_vitti14_224.yaml, with what
joint_sigreg_tiny.yaml has beside: rollouts in the loss (`--rollout-weight 0` leaves them out).

Same for both: recordings, batches (every one is given to ours, then to the peer), frames of a
window, steps of the environment that are one action of the model, learning rate, width, depth and
heads of both networks, width of the embedding, and how many sequences a plan imagines, how long
they are and how much of them is executed. Each plans with its own method: the peer's cost is the
distance at the end, ours the mean over the steps (`--cost last` for the peer's). The peer does not
bound actions; they are clipped where they are executed.

A ratio is the peer's processor time over ours, of turns taken in one process: of training, every
step of the run (ours includes Lightning, its monitors and rollouts, the peer's is a bare loop); of
planning, the first plan of a task, images encoded. Median, 5th and 95th percentile in brackets.

Starts are the frozen tasks; `--task-seed` draws others, to choose settings by. Intervals are
Wilson's, 95 %; p is McNemar's, exact, on the same starts. Tasks of several seeds are pooled, where
the same start counts once for each.
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
import contextlib
import importlib
import io
import json
import logging
import statistics
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import data_pipelines  # noqa: F401  (before lightning: see data_pipelines.torchvision_on_cpu)

# isort: split
import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn

import jepa  # noqa: F401  (before what wants torchvision: see jepa/__init__.py)
from data_pipelines.batch import TrajectoryBatch
from data_pipelines.datamodules import TrajectoryDataModule
from jepa.models import VideoEncoder
from jepa.models.dynamics import AdaLN
from jepa.models.latents import PooledTokens
from jepa.models.pixels import normalize_pixels
from jepa.objectives import SIGReg
from jepa.training.gradients import GradientClipping
from jepa.training.joint_training import JointTraining
from jepa.training.latent_windows import LatentWindows
from jepa.training.schedules import WarmupCosine
from planning.__main__ import find_tasks
from planning.baselines import do_nothing, random_actions
from planning.benchmarking.paired_comparison import PairedComparison
from planning.control.mpc import PlanningPolicy, Policy
from planning.environments import make_environment
from planning.evaluation import Evaluation, Rate, TaskSet, evaluate, evaluate_together, freeze_tasks
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.types import Environment, TimeStep

# isort: split
from planning_measures import percentile
from pretraining_step import describe

INSTALL = (
    "pip install stable-worldmodel==0.1.1 opencv-python-headless pygame pymunk shapely "
    "(transformers is needed, too)"
)
TASKS = {"two_rooms": "two_rooms", "pusht": "pusht_25"}
BUDGET_STEPS = {"two_rooms": 50, "pusht": 50}
IMAGE_SIZE = 64
SIGREG_WEIGHT = 0.09  # of LeWM
WEIGHT_DECAY, MAX_NORM, DROPOUT = 1e-3, 1.0, 0.1
SCHEDULE = WarmupCosine(warmup_fraction=0.01, final_fraction=0.0)
QUICK = {"steps": 3, "batch": 4, "episodes": 2, "timed_plans": 2, "samples": 8, "elites": 4,
         "rounds": 2, "predictor_depth": 1, "depth": 1, "projections": 16}  # fmt: skip


class Sizes(NamedTuple):
    """What both networks have in common.

    Attributes:
        patch_size: of the encoder, in pixels of 64.
        dim: width of encoder and predictor.
        depth: blocks of the encoder.
        num_heads: of the encoder and of the predictor.
        embedding_dim: numbers a frame.
        predictor_depth: blocks of the predictor.
        projector_dim: hidden width of the projectors; the peer has one after the encoder and one
            after the predictor, ours the second only.
        window_frames: of a training window; the predictor sees all but the last.
        steps_per_action: of the environment, that are one action of the model.
    """

    patch_size: int
    dim: int
    depth: int
    num_heads: int
    embedding_dim: int
    predictor_depth: int
    projector_dim: int
    window_frames: int
    steps_per_action: int


class Search(NamedTuple):
    """The budget of a plan.

    Attributes:
        samples: sequences a round.
        elites: of these.
        rounds: of the search.
        horizon: actions of the model in a sequence.
        execute: of them, that are executed.
    """

    samples: int
    elites: int
    rounds: int
    horizon: int
    execute: int


# The peer.


def peer_modules() -> types.SimpleNamespace:
    """Imports what is needed of the peer.

    Raises:
        SystemExit: if it is not installed, with how to do that.
    """
    found: Any = types.SimpleNamespace()
    try:
        for module, names in {
            "stable_worldmodel.wm.lewm.lewm": ["LeWM"],
            "stable_worldmodel.wm.lewm.module": ["Predictor", "Embedder", "MLP"],
            "stable_worldmodel.wm.loss": ["SIGReg"],
            "stable_worldmodel.solver": ["CEMSolver"],
            "stable_worldmodel.policy": ["WorldModelPolicy", "PlanConfig"],
            "transformers": ["ViTConfig", "ViTModel"],
            "gymnasium.spaces": ["Box"],
        }.items():
            for name in names:
                setattr(found, name, getattr(importlib.import_module(module), name))
    except ImportError as error:
        raise SystemExit(f"the peer cannot be imported ({error}); {INSTALL}") from error
    return found


def make_peer(peer: Any, sizes: Sizes, *, action_dim: int) -> nn.Module:
    """Returns a LeWM of these sizes; see `Sizes`. An action of the model has `action_dim`."""
    vit = peer.ViTModel(
        peer.ViTConfig(
            hidden_size=sizes.dim,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.num_heads,
            intermediate_size=4 * sizes.dim,
            image_size=IMAGE_SIZE,
            patch_size=sizes.patch_size,
        ),
        add_pooling_layer=False,
        use_mask_token=False,
    )
    predictor = peer.Predictor(
        num_frames=sizes.window_frames - 1,
        depth=sizes.predictor_depth,
        heads=sizes.num_heads,
        dim_head=sizes.dim // sizes.num_heads,
        mlp_dim=4 * sizes.dim,
        input_dim=sizes.embedding_dim,
        hidden_dim=sizes.dim,
        output_dim=sizes.dim,
        dropout=DROPOUT,
    )
    projector, prediction_projector = (
        peer.MLP(sizes.dim, sizes.projector_dim, sizes.embedding_dim, norm_fn=nn.BatchNorm1d)
        for _ in range(2)
    )
    embedder = peer.Embedder(input_dim=action_dim, emb_dim=sizes.embedding_dim)
    return peer.LeWM(vit, predictor, embedder, projector, prediction_projector)


class ActionScale(NamedTuple):
    """Standardises actions of the environment, as the peer's `Transformable` is asked to.

    Attributes:
        mean: (action_dim,).
        std: (action_dim,).
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, statistics: Any, steps_per_action: int) -> ActionScale:
        """Reads it off the statistics of joined actions: all steps of one are alike."""
        mean, std = (
            np.asarray(values, np.float64).reshape(steps_per_action, -1)
            for values in (statistics.action_mean, statistics.action_std)
        )
        second_moment = (std**2 + mean**2).mean(0)
        return cls(mean.mean(0), np.sqrt(second_moment - mean.mean(0) ** 2))

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Of (..., action_dim), or of several steps joined; float32."""
        steps = x.shape[-1] // len(self.mean)
        return ((x - np.tile(self.mean, steps)) / np.tile(self.std, steps)).astype(np.float32)

    def inverse_transform(self, x: np.ndarray) -> np.ndarray:
        """Undoes `transform`."""
        steps = x.shape[-1] // len(self.mean)
        return (x * np.tile(self.std, steps) + np.tile(self.mean, steps)).astype(np.float32)


class PeerTraining:
    """The peer's training, one step at a time.

    Args:
        peer: see `peer_modules`.
        model: a LeWM.
        scale: of the actions.
        learning_rate: at its peak.
        total_steps: of the run.
        projections: directions of SIGReg in a step.
    """

    def __init__(
        self,
        peer: Any,
        model: nn.Module,
        scale: ActionScale,
        *,
        learning_rate: float,
        total_steps: int,
        projections: int = 1024,
    ) -> None:
        self.model: Any = model.train()
        self._sigreg, self._scale = peer.SIGReg(num_proj=projections), scale
        self._rate, self._total, self._step = learning_rate, total_steps, 0
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY
        )

    def step(self, batch: TrajectoryBatch) -> float:
        """Updates on a batch of windows, and returns the loss."""
        share = SCHEDULE.fraction_at(self._step, total_steps=self._total)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * share
        loss = self.loss(batch)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self._optimizer.step()
        self._step += 1
        return loss.item()

    def loss(self, batch: TrajectoryBatch) -> Tensor:
        """Returns the error of the next embedding, with gradient into both, and SIGReg's share."""
        pixels = normalize_pixels(batch.frames).transpose(1, 2)  # (batch, time, 3, height, width)
        actions = torch.from_numpy(self._scale.transform(batch.actions.numpy()))
        known = self.model.encode({"pixels": pixels, "action": actions})
        embeddings = known["emb"]  # (batch, time, dim)
        predicted = self.model.predict(embeddings[:, :-1], known["act_emb"])
        error = (predicted - embeddings[:, 1:]).pow(2).mean()
        return error + SIGREG_WEIGHT * self._sigreg(embeddings.transpose(0, 1))


class PeerPolicy:
    """The peer's planner and its loop, in one episode of our environments.

    Args:
        peer: see `peer_modules`.
        model: a LeWM.
        scale: of the actions.
        search: budget of a plan.
        steps_per_action: see `Sizes`.
        seed: of the planner.
    """

    def __init__(
        self,
        peer: Any,
        model: nn.Module,
        scale: ActionScale,
        search: Search,
        *,
        steps_per_action: int,
        seed: int,
    ) -> None:
        solver = peer.CEMSolver(
            model.eval(), num_samples=search.samples, n_steps=search.rounds, topk=search.elites,
            seed=seed,
        )  # fmt: skip
        config = peer.PlanConfig(search.horizon, search.execute, action_block=steps_per_action)
        pictures = {"pixels": _prepared, "goal": _prepared}
        self._policy = peer.WorldModelPolicy(solver, config, {"action": scale}, pictures)
        self._box, self._is_ready = peer.Box, False

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the next action; plans when what is executed of the last plan has been."""
        spec = environment.action_spec
        if not self._is_ready:
            one = self._box(-np.inf, np.inf, (spec.dim,), np.float32)
            all_ = self._box(-np.inf, np.inf, (1, spec.dim), np.float32)
            self._policy.set_env(
                types.SimpleNamespace(num_envs=1, action_space=all_, single_action_space=one)
            )
            self._is_ready = True
        info = {
            "pixels": time_step.frame[None, None],
            "goal": environment.goal.frame[None, None],
            "action": np.zeros((1, 1, spec.dim), np.float32),  # asked for, and replaced
        }
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its time
            action = self._policy.get_action(info)[0]
        return np.clip(action, spec.low, spec.high).astype(np.float32)


def _prepared(image: Tensor) -> Tensor:
    """Maps pixels (3, height, width), uint8, to what both networks see."""
    return normalize_pixels(torch.as_tensor(image)[None, :, None])[0, :, 0]


# Training of both.


def windows(shards: Path, sizes: Sizes, arguments: argparse.Namespace, seed: int) -> LatentWindows:
    """Returns the batches of both: decoded once, then drawn by (seed, step)."""
    stride = sizes.steps_per_action
    trajectories = TrajectoryDataModule(
        str(shards), arguments.decoded_frames, image_size=IMAGE_SIZE, frame_stride=stride,
        actions="concatenate", batch_size=10, windows_per_trajectory=5, seed=seed,
    )  # fmt: skip
    return LatentWindows(
        trajectories, None, window_frames=sizes.window_frames, batch_size=arguments.batch,
        steps_per_epoch=arguments.steps, seed=seed,
    )  # fmt: skip


def make_ours(sizes: Sizes, arguments: argparse.Namespace) -> JointTraining:
    """Returns our recipe in these sizes."""
    return JointTraining(
        VideoEncoder(
            image_size=IMAGE_SIZE, clip_length_frames=1, patch_size=sizes.patch_size,
            tubelet_size=1, positions="sincos_3d", dim=sizes.dim, depth=sizes.depth,
            num_heads=sizes.num_heads,
        ),
        latents=PooledTokens(dim=sizes.embedding_dim),
        regularizers=[SIGReg(weight=SIGREG_WEIGHT, num_projections=arguments.projections)],
        dynamics=AdaLN(
            dim=sizes.dim, depth=sizes.predictor_depth, num_heads=sizes.num_heads,
            head_dim=sizes.dim // sizes.num_heads, mlp_dim=4 * sizes.dim,
            context_frames=sizes.window_frames - 1, dropout=DROPOUT,
            projector_dim=sizes.projector_dim,
        ),
        rollout_weight=arguments.rollout_weight,
        rollout_steps=sizes.window_frames - 1,
        learning_rate=arguments.learning_rate,
        weight_decay=WEIGHT_DECAY,
        schedule=SCHEDULE,
        gradient_clipping=GradientClipping(max_norm=MAX_NORM),
    )  # fmt: skip


class Turns(L.Callback):
    """Lets the peer train on each batch after ours has, and takes the time of both.

    Attributes:
        ours: seconds of processor time of each step.
        theirs: likewise.
        losses: of ours and of the peer.
    """

    def __init__(self, peer: PeerTraining) -> None:
        self._peer, self._began = peer, 0.0
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.losses: list[tuple[float, float]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Ours begins."""
        self._began = time.process_time()

    def on_train_batch_end(self, _trainer: Any, _module: Any, outputs: Any, batch: Any,
                           *_: Any) -> None:  # fmt: skip
        """Ours is done: the peer's turn."""
        ended = time.process_time()
        self.ours.append(ended - self._began)
        loss = self._peer.step(batch)
        self.theirs.append(time.process_time() - ended)
        self.losses.append((float(outputs["loss"]), loss))


@dataclass(frozen=True)
class Trained:
    """Both world models of one seed.

    Attributes:
        ours: our world model.
        theirs: the peer's.
        scale: of the peer's actions.
        turns: what the training took.
        untrained_theirs: the peer's with the weights of another seed.
    """

    ours: LatentWorld
    theirs: nn.Module
    scale: ActionScale
    turns: Turns
    untrained_theirs: nn.Module

    @property
    def parameters(self) -> tuple[int, int]:
        """How many numbers ours and the peer's have learned."""
        ours, theirs = (
            sum(parameter.numel() for parameter in model.parameters())
            for model in (self.ours.model, self.theirs)
        )
        return ours, theirs


def train(peer: Any, sizes: Sizes, arguments: argparse.Namespace, *, seed: int) -> Trained:
    """Trains both on the same batches, in turns."""
    torch.manual_seed(seed)
    data = windows(arguments.shards, sizes, arguments, seed)
    ours = make_ours(sizes, arguments)
    scale = ActionScale.of(data.statistics, sizes.steps_per_action)
    action_dim = sizes.steps_per_action * len(scale.mean)
    model, other = (make_peer(peer, sizes, action_dim=action_dim) for _ in range(2))
    total = arguments.steps
    rival = PeerTraining(
        peer, model, scale, learning_rate=arguments.learning_rate, total_steps=total,
        projections=arguments.projections,
    )  # fmt: skip
    turns = Turns(rival)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_steps=total, accelerator="cpu", devices=1, logger=False, callbacks=[turns],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(ours, datamodule=data)
        world = LatentWorld.load(folder)
    return Trained(world, model.eval().requires_grad_(False), scale, turns,
                   other.eval().requires_grad_(False))  # fmt: skip


# Planning with both.


def tasks_of(arguments: argparse.Namespace) -> TaskSet:
    """Returns the frozen tasks, or development tasks of `--task-seed`, drawn at 64 pixels.

    Raises:
        SystemExit: if development tasks are asked for where others than the frozen ones are drawn.
    """
    tasks = TaskSet.load(find_tasks(arguments.tasks or TASKS[arguments.env]))
    if arguments.task_seed is not None:
        if arguments.env != "two_rooms":
            raise SystemExit(
                "--task-seed is for two_rooms; tasks of PushT are made by jepa plan freeze --ahead "
                "25, and given by --tasks FILE"
            )
        environment = make_environment(arguments.env)
        tasks = freeze_tasks(
            environment, name=f"development tasks of seed {arguments.task_seed}",
            num_tasks=arguments.episodes, seed=arguments.task_seed,
        )  # fmt: skip
    options = {**tasks.options, "image_size": IMAGE_SIZE}
    budget = BUDGET_STEPS[arguments.env]
    return replace(tasks.first(arguments.episodes), options=options, max_steps=budget)


def our_policies(
    world: LatentWorld, search: Search, arguments: argparse.Namespace
) -> Callable[[int], PlanningPolicy]:
    """Returns a maker of our policy for the index-th episode."""
    planner = CEM(
        search.horizon, num_samples=search.samples, num_elites=search.elites,
        num_iterations=search.rounds,
    )  # fmt: skip

    def make(index: int) -> PlanningPolicy:
        return PlanningPolicy(
            world, planner, execute_steps=search.execute, reduction=arguments.cost, seed=index
        )

    return make


def peer_policies(
    peer: Any, model: nn.Module, scale: ActionScale, search: Search, steps_per_action: int
) -> Callable[[int], PeerPolicy]:
    """Returns a maker of the peer's policy for the index-th episode."""

    def make(index: int) -> PeerPolicy:
        return PeerPolicy(peer, model, scale, search, steps_per_action=steps_per_action, seed=index)

    return make


def plan_times(
    makers: Sequence[Callable[[int], Policy]], tasks: TaskSet, *, num_plans: int
) -> list[list[float]]:
    """Returns the processor time of the first plans of each policy; the order turns each time."""
    environment = tasks.make_environment()
    seconds: list[list[float]] = [[] for _ in makers]
    for number in range(num_plans + 1):
        index = number % len(tasks.tasks)
        task, generator = tasks.tasks[index], np.random.default_rng((tasks.seed, index))
        time_step = environment.reset(generator, start=task.start, goal=task.goal)
        for which in range(len(makers))[:: -1 if number % 2 else 1]:
            policy, began = makers[which](index), time.process_time()
            policy(environment, time_step, generator)
            if number:  # the first time kernels are made
                seconds[which].append(time.process_time() - began)
    return seconds


# What is told.


def ratio_text(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Returns the median of paired ratios, and the 5th and 95th percentile."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    low, high = percentile(ratios, 0.05), percentile(ratios, 0.95)
    return f"{statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})"


def comparison_line(ours: Sequence[bool], theirs: Sequence[bool]) -> str:
    """Returns the difference with its interval, and whether ours is worse."""
    compared = PairedComparison.of(ours, theirs)
    low, high = compared.interval
    verdict = "ours is better" if compared.only_a > compared.only_b else "ours is worse"
    if compared.p_value >= 0.05:
        verdict = "no difference is shown"
    return (
        f"ours - peer: {100 * compared.difference:+.1f} points [{100 * low:+.1f}, "
        f"{100 * high:+.1f}]; only ours {compared.only_a}, only the peer {compared.only_b}, "
        f"McNemar exact p = {compared.p_value:.3g}: {verdict}"
    )


def contestants(
    peer: Any, trained: Trained, search: Search, tasks: TaskSet, arguments: argparse.Namespace
) -> dict[str, Callable[[], Evaluation]]:
    """Returns what plays all tasks: both world models, and then both untrained."""
    batch, steps = min(16, len(tasks.tasks)), arguments.steps_per_action

    def ours(name: str, world: LatentWorld) -> Evaluation:
        make = our_policies(world, search, arguments)
        return evaluate_together(name, make, tasks, batch_size=batch)

    def theirs(name: str, model: nn.Module) -> Evaluation:
        return evaluate(name, peer_policies(peer, model, trained.scale, search, steps), tasks)

    return {
        "ours": lambda: ours("ours", trained.ours),
        "peer": lambda: theirs("peer", trained.theirs),
        "ours untrained": lambda: ours("ours untrained", trained.ours.untrained()),
        "peer untrained": lambda: theirs("peer untrained", trained.untrained_theirs),
    }


def run_seed(
    peer: Any, sizes: Sizes, search: Search, tasks: TaskSet, arguments: argparse.Namespace,
    *, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Trains and plays one seed, prints it as it comes and returns it as plain values."""
    trained = train(peer, sizes, arguments, seed=seed)
    turns, (our_size, their_size) = trained.turns, trained.parameters
    print(f"\nseed {seed}: parameters ours {our_size}, peer {their_size}")
    print(f"  a training step takes the peer {ratio_text(turns.theirs, turns.ours)} of ours")
    makers = (
        our_policies(trained.ours, search, arguments),
        peer_policies(peer, trained.theirs, trained.scale, search, sizes.steps_per_action),
    )
    ours, theirs = plan_times(makers, tasks, num_plans=arguments.timed_plans)
    print(f"  a plan takes the peer {ratio_text(theirs, ours)} of ours", flush=True)
    played: dict[str, Evaluation] = {}
    for name, play in contestants(peer, trained, search, tasks, arguments).items():
        played[name] = play()
        print(f"  {name:<16}{played[name].success}", flush=True)
    print(f"  {comparison_line(_outcomes(played['ours']), _outcomes(played['peer']))}")
    return {
        "seed": seed,
        "parameters": {"ours": our_size, "peer": their_size},
        "step_seconds": {"ours": turns.ours, "peer": turns.theirs},
        "plan_seconds": {"ours": ours, "peer": theirs},
        "losses": {"ours, peer": turns.losses},
        "evaluations": {name: evaluation.to_json() for name, evaluation in played.items()},
    }


def _outcomes(evaluation: Evaluation) -> list[bool]:
    return [bool(episode.is_success) for episode in evaluation.episodes]


def tell_all(runs: Sequence[dict[str, Any]], controls: Sequence[Evaluation]) -> None:
    """Prints all seeds together, and what needs no world model."""
    print(f"\nall {len(runs)} seeds")

    def of(what: str, who: str) -> list[float]:
        return [value for run in runs for value in run[what][who]]

    for what, title in (("step_seconds", "a training step"), ("plan_seconds", "a plan")):
        print(f"  {title} takes the peer {ratio_text(of(what, 'peer'), of(what, 'ours'))} of ours")
    outcomes = {
        name: [e["is_success"] for run in runs for e in run["evaluations"][name]["episodes"]]
        for name in runs[0]["evaluations"]
    }
    for name, values in outcomes.items():
        print(f"  {name:<16}{Rate.of(values)}")
    for evaluation in controls:
        print(f"  {evaluation.policy:<16}{evaluation.success}")
    print(f"  {comparison_line(outcomes['ours'], outcomes['peer'])}")


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # Lightning's, of few workers and no validation
    torch.set_num_threads(1)  # both: processor time is then time
    peer, tasks = peer_modules(), tasks_of(arguments)
    sizes = Sizes(*(getattr(arguments, name) for name in Sizes._fields))
    search = Search(*(getattr(arguments, name) for name in Search._fields))
    print(f"{describe(torch.device('cpu'))}; one thread")
    print(f"{arguments.steps} steps of {arguments.batch} windows; {sizes}; learning rate "
          f"{arguments.learning_rate:g}; {search}; our cost {arguments.cost}, rollout weight "
          f"{arguments.rollout_weight:g}, {arguments.projections} projections")  # fmt: skip
    print(f"{tasks.name}: {len(tasks.tasks)} tasks, {tasks.max_steps} steps each", flush=True)
    makers: dict[str, Policy] = {"do nothing": do_nothing, "random actions": random_actions}
    controls = [evaluate(name, lambda _, p=p: p, tasks) for name, p in makers.items()]
    runs: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        runs.append(run_seed(peer, sizes, search, tasks, arguments, seed=seed))
        write(arguments, runs, controls)  # so far: a later seed may be stopped
    tell_all(runs, controls)


def write(
    arguments: argparse.Namespace, runs: Sequence[dict[str, Any]], controls: Sequence[Evaluation]
) -> None:
    """Writes world_model_peer.json."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {name: _plain(value) for name, value in vars(arguments).items()}
    told = {"settings": settings, "runs": runs, "controls": [e.to_json() for e in controls]}
    (arguments.out / "world_model_peer.json").write_text(json.dumps(told, indent=1))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--shards", type=Path, required=True, help="recordings of the environment")
    add("--out", type=Path, required=True, help="folder for world_model_peer.json")
    add("--env", choices=tuple(TASKS), default="two_rooms")
    add("--steps", type=int, default=1000, help="of training")
    add("--batch", type=int, default=64, help="windows of a step")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--learning-rate", type=float, default=1e-3, help="of both, at its peak")
    add("--projections", type=int, default=1024, help="directions of SIGReg in a step, of both")
    add("--rollout-weight", type=float, default=1.0, help="in our loss; the peer has no rollouts")
    add("--episodes", type=int, default=100)
    add("--tasks", help="a task file, or the name of a frozen one")
    add("--task-seed", type=int, help="development tasks of this seed, not the frozen ones")
    add("--cost", choices=("mean", "last"), default="mean", help="ours, over imagined steps")
    add("--timed-plans", type=int, default=10)
    add("--decoded-frames", type=int, default=12, help="of a recording, every so many steps")
    for names in (_SIZES, _SEARCH):
        for name, (default, text) in names.items():
            add(f"--{name.replace('_', '-')}", type=int, default=default, help=text)
    add("--quick", action="store_true", help="small and once: a test")
    return parser


_SIZES = {
    "patch_size": (16, "of the encoder, in pixels of 64"),
    "dim": (64, "of encoder and predictor"),
    "depth": (3, "blocks of the encoder"),
    "num_heads": (4, "of encoder and predictor"),
    "embedding_dim": (16, "numbers a frame"),
    "predictor_depth": (2, "blocks of the predictor"),
    "projector_dim": (512, "hidden width of the projectors"),
    "window_frames": (4, "of a training window"),
    "steps_per_action": (5, "of the environment in an action of the model"),
}
_SEARCH = {
    "samples": (300, "sequences a round"),
    "elites": (30, "of these"),
    "rounds": (30, "of the search"),
    "horizon": (5, "actions of a sequence"),
    "execute": (5, "of these"),
}


if __name__ == "__main__":
    main()
