"""Planning at the sizes of published models: milliseconds an action, and what deadlines leave.

The part "scale" of `planning.py`, made for a GPU and the same code on a CPU. Two models, trained
here on the world "turned" of `planning_worlds.py`: an action-conditioned predictor of the size that
goes with ViT-g (about 300 million parameters, 256 patch tokens of 1408 numbers), and one of the
size of LeWM (one vector a frame). Their encoders have the sizes of ViT-g and ViT-tiny, and random
weights: they are there to be timed and counted.

Ways to plan the same tasks:
CEM bfloat16: the cross-entropy method of the released planner, all candidates in bfloat16.
CEM bfloat16, graphs: the same, compiled (torch.compile, reduce-overhead: CUDA graphs on a GPU).
CEM screened: all in bfloat16, those that matter again in float32.
hybrid: gradients from a few starts in bfloat16, their best again in float32; where its energy is
    more than `--slack` above that of "CEM screened", the time of that is added.

The arithmetic limit is the time that the products of all candidates take at the rate of the fastest
product of matrices of the same run, in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from planning_contenders import (
    ACTION_HIGH,
    NUM_ELITES,
    START_POSE,
    Contender,
    PlanCase,
    Screened,
    Task,
    make_lewm,
    make_model,
    ours,
)
from planning_measures import peak_bytes, summary
from planning_worlds import ArmWorld, trained_model
from pretraining_step import clock_of, peak
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from jepa.models.world_model import LatentWorldModel
from planning.actions.space import ActionSpec
from planning.costs import GoalDistance
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.planners.gradient import Gradient

DEADLINES = (0.05, 0.1, 0.25)
SUCCESS_METRES = 0.02
STEP_SIZE = 0.18  # of gradients, in half-ranges; chosen on tasks of other seeds, 1107 and 2207
NUM_STARTS, NUM_STEPS = 8, 20  # of the hybrid's gradients
AGES = 3600.0  # seconds: a deadline that splits the first round, and lets all of it be done
SPEC = ActionSpec(
    names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "dgripper"),
    units=("m", "m", "m", "rad", "rad", "rad", "1"),
    low=tuple(-value for value in ACTION_HIGH),
    high=ACTION_HIGH,
)


class Size(NamedTuple):
    """A model and its budget.

    Attributes:
        case: sizes and budget.
        make: makes the model.
        encoder_depth: blocks of the encoder.
        deadline_samples: sequences of an iteration, at a deadline.
    """

    case: PlanCase
    make: Callable[..., LatentWorldModel]
    encoder_depth: int
    deadline_samples: int = 64


SIZES = {
    "vit_g": Size(PlanCase("ViT-g", 16, 800, 1, 10, 1024, 24, 16, 1408), make_model, 40),
    "lewm": Size(PlanCase("LeWM", 16, 300, 5, 10, 192, 6, 16, 192), make_lewm, 12),
}
QUICK_SIZES = {
    "vit_g": Size(PlanCase("ViT-g", 2, 16, 1, 2, 48, 2, 2, 64), make_model, 1, 16),
    "lewm": Size(PlanCase("LeWM", 2, 16, 2, 2, 48, 2, 2, 64), make_lewm, 1, 16),
}


class Hybrid:
    """Gradients propose in bfloat16, float32 checks; CEM where that is not good enough.

    Args:
        case: budget.
        rough: imagines in bfloat16.
        exact: imagines in float32.
        fallback: plans where the gradients' energy is above the target.

    Attributes:
        fell_back: whether the last plan is the fallback's.
        target: energy that the gradients must reach; infinite: any will do.
    """

    fell_back = False
    target = float("inf")

    def __init__(
        self, case: PlanCase, rough: LatentWorld, exact: LatentWorld, fallback: Contender
    ) -> None:
        self._rough, self._exact, self._fallback = rough, exact, fallback
        self._planner = Gradient(
            horizon=case.horizon,
            num_starts=NUM_STARTS,
            num_iterations=NUM_STEPS,
            step_size=STEP_SIZE,
            last_step_share=0.03,
        )

    def plan(self, task: Task, *, seed: int) -> Tensor:
        """Returns actions (horizon, 7)."""
        plan = self._planner.plan(
            self._rough,
            task.start,
            cost=GoalDistance(task.goal, self._rough.distance, "last"),
            action_spec=SPEC,
            generator=torch.Generator().manual_seed(seed),
        )
        assert plan.elites is not None
        found = torch.cat((plan.actions[None], plan.elites))
        energies = energies_of(self._exact, task, found)
        self.fell_back = energies.min().item() > self.target
        if self.fell_back:
            return self._fallback.plan(task, seed=seed).actions
        return found[energies.argmin()]


def scale(arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints all figures of all sizes, and writes them to `--out` as they come."""
    sizes = QUICK_SIZES if arguments.quick else SIZES
    for name in arguments.sizes:
        found: dict[str, Any] = {}
        for part in (at_leisure, at_deadlines):
            found |= part(sizes[name], arguments, device)
            if arguments.out is not None:
                write(arguments.out, f"scale {name}", found)


def write(folder: Path, part: str, results: object) -> None:
    """Writes the figures of a part into the one file of all parts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "planning.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | {part: results}, indent=1) + "\n")


# As long as it takes.


def at_leisure(size: Size, arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Returns and prints the milliseconds of each way of planning, and what came of it."""
    case = size.case
    world, model = trained_model(
        case, "turned", steps=arguments.steps, folder=arguments.models, make=size.make,
        device=device,
    )  # fmt: skip
    flops = case.samples * case.iterations * plan_flops(model, case.horizon)
    rate = peak(torch.bfloat16, device)
    found: dict[str, Any] = {
        **described(case, model),
        "peak_gflops_bf16": rate / 1e9,
        "limit_ms": 1e3 * flops / rate,
        "gflop_per_plan": flops / 1e9,
    }
    print(f"\n  {case.name}: {found['parameters'] / 1e6:.1f} M parameters, {case.samples} samples, "
          f"horizon {case.horizon}, {case.iterations} iterations: {flops / 1e12:.3g} TFLOP, "
          f"{found['limit_ms']:.3g} ms at {rate / 1e12:.3g} TFLOP/s")  # fmt: skip
    tasks = [(to(task, device), pose) for task, pose in world.tasks(
        arguments.tasks, case.horizon, seed=arguments.task_seed)]  # fmt: skip
    ways, worlds = ways_of(case, model, arguments)
    found["ways"] = {}
    targets: list[float] | None = None
    for name, way in ways.items():
        row = measured(name, way, world, worlds["exact"], tasks, targets, arguments, device)
        row["of_limit"] = found["limit_ms"] / row["ms_p50"]
        if name.endswith("graphs"):
            row["is_compiled"] = worlds["graphs"].is_compiled
        if name == "CEM screened":
            targets = [energy * (1 + arguments.slack) for energy in row["energies"]]
        found["ways"][name] = row
        print_way(name, row)
    return found


def described(case: PlanCase, model: LatentWorldModel) -> dict[str, Any]:
    """Returns the sizes of a model and its budget."""
    return {
        "parameters": sum(p.numel() for p in model.dynamics.parameters()),
        "latent_tokens": model.dynamics.num_tokens,
        "latent_dim": model.dynamics.latent_dim,
        "samples": case.samples,
        "horizon": case.horizon,
        "iterations": case.iterations,
    }


def plan_flops(model: LatentWorldModel, horizon: int) -> float:
    """Returns the FLOPs of the products of matrices of one imagined sequence, as they are counted.

    A counter watches a sequence being imagined; attention is among them on a GPU, on a CPU it is
    not known to the counter (LeWM: a thousandth).
    """
    dynamics, parameter = model.dynamics, next(model.dynamics.parameters())
    tokens = parameter.new_zeros(1, dynamics.num_tokens, dynamics.latent_dim)
    state, actions = (parameter.new_zeros(1, *shape) for shape in (
        (dynamics.state_dim,), (horizon, dynamics.action_dim)))  # fmt: skip
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dynamics.rollout(tokens, state, actions)
    return float(counter.get_total_flops())


def ways_of(
    case: PlanCase, model: LatentWorldModel, arguments: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, LatentWorld]]:
    """Returns the planners by name, and the worlds that they imagine in."""
    worlds = {"exact": LatentWorld(model), "rough": LatentWorld(model, precision="bf16")}
    screened = Screened(case, worlds["rough"], worlds["exact"])
    ways: dict[str, Any] = {"CEM bfloat16": ours(case, worlds["rough"])}
    if not arguments.no_graphs:
        worlds["graphs"] = LatentWorld(model, precision="bf16", is_compiled=True)
        ways["CEM bfloat16, graphs"] = ours(case, worlds["graphs"])
    ways["CEM screened"] = screened
    ways["hybrid"] = Hybrid(case, worlds["rough"], worlds["exact"], screened)
    return ways, worlds


def measured(
    name: str,
    way: Any,
    world: ArmWorld,
    exact: LatentWorld,
    tasks: Sequence[tuple[Task, Tensor]],
    targets: Sequence[float] | None,
    arguments: argparse.Namespace,
    device: torch.device,
) -> dict[str, Any]:
    """Returns times, energies and success of one way on all tasks."""
    began = time.perf_counter()
    plan_actions(way, tasks[0][0])  # kernels are made
    row: dict[str, Any] = {"first_seconds": time.perf_counter() - began}
    row["peak_mib"] = peak_bytes(lambda: plan_actions(way, tasks[0][0]), device) / 2**20
    clock, seconds, energies, metres, fell_back = clock_of(2, device), [], [], [], 0
    for index, (task, pose) in enumerate(tasks):
        if targets is not None and isinstance(way, Hybrid):
            way.target = targets[index]
        for _ in range(arguments.rounds):
            began = clock()
            actions = plan_actions(way, task)
            seconds.append(clock() - began)
        energies.append(energies_of(exact, task, actions[None]).item())
        metres.append(world.distance(task, actions, pose))
        fell_back += getattr(way, "fell_back", False)
    return row | summary(seconds) | {
        "tasks": len(tasks), "energies": energies, "fell_back": fell_back,
        "success": statistics.mean(distance < SUCCESS_METRES for distance in metres),
        "exact_share": getattr(way, "share", None),
    }  # fmt: skip


def plan_actions(way: Any, task: Task) -> Tensor:
    """Returns the actions (horizon, 7) that a way finds."""
    answer = way.plan(task, seed=1)
    return answer if isinstance(answer, Tensor) else answer.actions


@torch.no_grad()
def energies_of(exact: LatentWorld, task: Task, actions: Tensor) -> Tensor:
    """Returns the energies in float32 of actions (samples, horizon, 7)."""
    actions = actions.to(task.start.tokens.device)
    cost = GoalDistance(task.goal, exact.distance, "last")
    return cost(exact.rollout(task.start, actions), actions)


def print_way(name: str, row: dict[str, Any]) -> None:
    """Prints one row."""
    notes = [f"{row['fell_back']} of {row['tasks']} fell back"] if name == "hybrid" else []
    if row["exact_share"] is not None:
        notes.append(f"{row['exact_share']:.0%} of the candidates in float32")
    if row.get("is_compiled") is False:
        notes.append("could not be compiled: ran as it is")
    energy = statistics.mean(row["energies"])
    print(
        f"  {name:<22} {row['ms_p50']:9.1f} ms an action (p95 {row['ms_p95']:.1f}, p99 "
        f"{row['ms_p99']:.1f}), {row['of_limit']:.0%} of the limit's rate, {row['peak_mib']:.0f} "
        f"MiB, success {row['success']:.0%}, mean energy {energy:.4f}{'; ' if notes else ''}"
        f"{', '.join(notes)}"
    )


# At a deadline.


def at_deadlines(size: Size, arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Returns and prints what deadlines leave, with and without graphs."""
    case = size.case
    model = size.make(case, encoder_depth=size.encoder_depth).to(device)
    found: dict[str, Any] = {}
    for name in ("eager",) if arguments.no_graphs else ("eager", "graphs"):
        world = LatentWorld(model, precision="bf16", is_compiled=name == "graphs")
        planner = CEM(
            horizon=case.horizon, num_samples=size.deadline_samples, num_elites=NUM_ELITES - 2,
            num_iterations=100,
        )  # fmt: skip
        frames = noise(arguments.frames + 1, world.image_size)
        found[name] = {}
        for deadline in DEADLINES:
            row = round_trips(world, planner, SPEC, frames, deadline, clock_of(2, device))
            row["is_compiled"] = world.is_compiled
            found[name][f"{deadline * 1e3:.0f} ms"] = row
            kind = name if name == "eager" or world.is_compiled else "graphs (not compiled)"
            print(f"  {case.name}, {kind}: {said(row)}")
    return {"deadlines": found}


def round_trips(
    world: LatentWorld,
    planner: CEM,
    spec: ActionSpec,
    frames: np.ndarray,
    deadline: float,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Encodes each frame (count, height, width, 3) and plans; the first is the goal.

    Returns:
        Percentiles in milliseconds of what frame to plan takes, their rate, iterations, and how
        often the encoder ran for how many images.
    """
    calls: list[int] = []
    encoder: Any = world.model.encoder
    hook = encoder.register_forward_hook(lambda *_: calls.append(1))
    cost = GoalDistance(world.encode(frames[0]), world.distance, "last")
    pose = np.asarray(START_POSE, dtype=np.float32)
    seconds, rounds = [], []

    def plan(planner: Any, frame: np.ndarray, seconds: float) -> int:
        start = world.encode(frame, pose)
        return planner.plan(
            world, start, cost=cost, action_spec=spec,
            generator=torch.Generator().manual_seed(0), deadline_seconds=seconds,
        ).iterations  # fmt: skip

    first = len(calls)
    plan(replace(planner, num_iterations=2), frames[0], AGES)  # kernels of all sizes are made
    del calls[first:]
    for frame in frames[1:]:
        began = clock()
        rounds.append(plan(planner, frame, deadline))
        seconds.append(clock() - began)
    hook.remove()
    return summary(seconds) | {
        "deadline_ms": deadline * 1e3, "iterations": statistics.median(rounds),
        "encoder_calls": len(calls), "images": len(frames),
    }  # fmt: skip


def said(row: dict[str, Any]) -> str:
    """Returns a line of what `round_trips` found."""
    return (
        f"deadline {row['deadline_ms']:.0f} ms: p50 {row['ms_p50']:.0f}, p95 {row['ms_p95']:.0f}, "
        f"p99 {row['ms_p99']:.0f} ms; {row['hz']:.1f} Hz; {row['iterations']:g} iterations; "
        f"{row['encoder_calls']} encoder calls for {row['images']} images"
    )


def noise(count: int, size: int) -> np.ndarray:
    """Returns frames (count, size, size, 3), uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator
    ).numpy()


def to(task: Task, device: torch.device) -> Task:
    """Returns the task on another device."""
    return Task(*(latent.map(lambda part: part.to(device)) for latent in task))
