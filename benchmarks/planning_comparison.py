"""Our planning in latent space against that of the released V-JEPA 2-AC, on the same work.

    python benchmarks/planning.py --official PATH [--parts same trained growth goal peer latency]
    python benchmarks/planning.py --device cuda --out FOLDER

PATH is a checkout of github.com/facebookresearch/vjepa2 (measured with c2963a4); it needs timm and
scipy. Without it the opponent is the plain planner in `planning_contenders.py`. The part "peer"
runs if stable-worldmodel can be imported, from wherever Python looks for packages.

Same weights, same random numbers, hence the same candidates. Before any ratio is printed, the
energies of the elites must agree to 1e-5 and the actions that come out too, in all iterations;
bfloat16 by itself gives other actions, and its row says by how much. The contenders take turns in
one process, there and back; a ratio is the median over rounds of paired ratios, with the smallest
and the largest. FLOPs are those that cannot be avoided; a share is that of the fastest product of
matrices measured in the same run. Memory is the most that tensors of one plan held at a time.

same: the released cross-entropy method, with random weights, at several sizes.
trained: the same on models trained here, where bfloat16 screens and float32 checks.
growth: how costs grow with samples, horizon and tokens.
goal: time to the energy that the released method reaches (and `--slack`), by gradients with CEM to
    fall back on, and whether the actions lead where they should.
peer: LeWM's predictor of stable-worldmodel, in its search and in ours.
latency: what a deadline does, percentiles, and how often frames are encoded.
scale: the sizes of published models, on a GPU; see `planning_on_device.py`. Without `--parts` it is
    all that runs on a GPU, and the only part that does not run on a CPU.

With `--out FOLDER` all that is printed is in FOLDER/planning.json too, the part "scale" as numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from planning_contenders import (
    NUM_ELITES,
    Answer,
    Contender,
    OfficialPlanner,
    PlanCase,
    Screened,
    Task,
    make_model,
    make_task,
    official_modules,
    ours,
    plain,
)
from planning_measures import peak_bytes
from planning_on_device import (
    DEADLINES,
    SIZES,
    SPEC,
    STEP_SIZE,
    SUCCESS_METRES,
    noise,
    round_trips,
    said,
    scale,
    to,
    write,
)
from planning_peer import OurPeerPlanner, PeerCase, PeerPlanner, make_peer, peer_modules
from planning_worlds import MOTIONS, ArmWorld, trained_model
from pretraining_step import clock_of, clocks, describe, paired, peak
from torch import Tensor

import jepa  # noqa: F401  (before what wants torchvision: see jepa/__init__.py)
from jepa.models.world_model import LatentWorldModel
from jepa.scaling.flops import linear_weights
from planning.costs import GoalDistance
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.planners.gradient import Gradient
from planning.types import Latent

CPU_PARTS = ("same", "trained", "growth", "goal", "peer", "latency")
PARTS = (*CPU_PARTS, "scale")
SAME = [
    PlanCase("18 tokens", 4, 64, 1, 2),
    PlanCase("18 tokens", 4, 64, 2, 2),
    PlanCase("18 tokens", 4, 64, 4, 1),
    PlanCase("66 tokens", 8, 32, 2, 1),
    PlanCase("198 tokens", 14, 16, 1, 1),
]
LARGE = PlanCase("ViT-g", 16, 800, 1, 10, 1024, 24, 16, 1408)
QUICK = PlanCase("quick", 2, 16, 2, 2, 48, 2, 2, 64)
TOY = PlanCase("toy", 4, 200, 1, 10, 96, 3, 4, 64)
TOLERANCE = 1e-5


class Row(NamedTuple):
    """A contender.

    Attributes:
        name: as printed.
        planner: what runs.
        dtype: of its products; None: of several types.
        is_same: whether its actions must be those of the first.
    """

    name: str
    planner: Contender
    dtype: torch.dtype | None
    is_same: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--official", type=Path, help="a checkout of facebookresearch/vjepa2")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: see above")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clocks", nargs="+", choices=("1", "all"), default=["1"])
    parser.add_argument("--tasks", type=int, default=8, help="of each world: goal, scale")
    parser.add_argument("--task-seed", type=int, default=7, help="of these tasks")
    parser.add_argument("--slack", type=float, default=0.02, help="of the energy to reach")
    parser.add_argument("--steps", type=int, default=900, help="of training a model of a world")
    parser.add_argument("--models", type=Path, help="folder that keeps trained models")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="of scale")
    parser.add_argument("--frames", type=int, default=40, help="planned from, at each deadline")
    parser.add_argument("--no-graphs", action="store_true", help="compile nothing in scale")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, help="folder for all figures, planning.json")
    parser.add_argument("--quick", action="store_true", help="small and once: a test")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the official code: it asks for what is deprecated
    if arguments.quick:
        arguments.rounds, arguments.tasks, arguments.steps, arguments.frames = 1, 1, 5, 10
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    opponent = f"opponent: {'official' if arguments.official else 'plain (no --official)'} planner"
    machine = f"{describe(device)}; {opponent}"
    print(machine)
    for part in arguments.parts or (CPU_PARTS if device.type == "cpu" else ("scale",)):
        print(f"\n== {part}")
        lines = Lines()
        with contextlib.redirect_stdout(lines):
            PART[part](arguments, device)
        if arguments.out is not None:
            write(arguments.out, "machine", machine)
            write(arguments.out, f"{part}, printed", lines.text)


class Lines:
    """A stream that keeps what it passes on to the one before.

    Attributes:
        text: lines printed so far.
    """

    def __init__(self) -> None:
        self._stream = sys.stdout
        self._parts: list[str] = []

    def write(self, text: str) -> int:
        """Prints and keeps."""
        self._parts.append(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Lets all be seen."""
        self._stream.flush()

    @property
    def text(self) -> list[str]:
        """Returns what was printed, line by line."""
        return "".join(self._parts).splitlines()


# The same candidates, the same answers.


def same(arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints the tables of all sizes."""
    for case in _cases(arguments, device):
        model = make_model(case).to(device)
        task = make_task(case, device)
        title = (
            f"{case.name} a frame, {case.samples} samples, horizon {case.horizon}, "
            f"{case.iterations} iterations, {case.depth} x {case.dim}"
        )
        compare(title, case, model, task, arguments, device)


def trained(arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints the tables of a model that was trained on a world, at two horizons."""
    for horizon in (1,) if arguments.quick else (1, 2):
        case = _toy(arguments)._replace(horizon=horizon)
        world, model = trained_model(case, "turned", steps=arguments.steps, folder=arguments.models)
        task = world.tasks(1, horizon, seed=2)[0][0]
        title = f"trained, {case.samples} samples, horizon {horizon}, {case.iterations} iterations"
        compare(title, case, model.to(device), to(task, device), arguments, device)


def compare(
    title: str,
    case: PlanCase,
    model: LatentWorldModel,
    task: Task,
    arguments: argparse.Namespace,
    device: torch.device,
) -> None:
    """Prints all of one model and one budget."""
    print(f"\n{title}")
    rows = contenders(case, model, arguments)
    refuse_unequal(rows, task)
    for row in rows:
        print(f"  {row.name:<22} {held(row.planner, task, device) / 2**20:8.1f} MiB at most")
    flops = case.samples * case.iterations * rollout_flops(model, case.horizon)
    for threads in clocks(arguments.clocks, device):
        torch.set_num_threads(threads)
        clock = clock_of(threads, device)
        runs = {row.name: (lambda row=row: row.planner.plan(task, seed=1)) for row in rows}
        seconds = alternating(runs, arguments.rounds, clock)
        print_ratios(rows, seconds, flops, device)
    torch.set_num_threads(1)


def contenders(case: PlanCase, model: LatentWorldModel, arguments: argparse.Namespace) -> list[Row]:
    """Returns the opponent in float32, the opponent with autocast, then ours."""
    float32, bfloat16 = torch.float32, torch.bfloat16
    exact, rough = LatentWorld(model), LatentWorld(model, precision="bf16")
    rows = [Row("plain float32", plain(case, model), float32, True)]
    if arguments.official:
        modules = official_modules(arguments.official)
        autocast = OfficialPlanner(modules, case, model, autocast=bfloat16)
        rows = [
            Row("official float32", OfficialPlanner(modules, case, model), float32, True),
            Row("official + autocast", autocast, bfloat16, False),
        ]
    return [
        *rows,
        Row("ours float32", ours(case, exact), float32, True),
        Row("ours screened", Screened(case, rough, exact), None, True),
        Row("ours bfloat16", ours(case, rough), bfloat16, False),
    ]


def refuse_unequal(rows: Sequence[Row], task: Task) -> None:
    """Prints how far the contenders' elites and actions are from those of the first.

    Raises:
        SystemExit: if one that should find the same does not.
    """
    expected = rows[0].planner.plan(task, seed=1)
    for row in rows[1:]:
        found = row.planner.plan(task, seed=1)
        energies = (_elites(found) - _elites(expected)).abs().max().item()
        actions = (found.actions - expected.actions).abs().max().item()
        share = getattr(row.planner, "share", None)
        extra = "" if share is None else f"; {share:.0%} of the candidates in float32"
        print(f"  {row.name:<22} energies {energies:.1e}, actions {actions:.1e} from the first"
              f"{extra}")  # fmt: skip
        if row.is_same and max(energies, actions) > TOLERANCE:
            raise SystemExit(f"{row.name} finds other actions: no ratio is printed")


def _elites(answer: Answer) -> Tensor:
    """Returns (iterations, elites), their energies."""
    return answer.energies.topk(NUM_ELITES, dim=1, largest=False).values.sort(1).values


def print_ratios(
    rows: Sequence[Row], seconds: dict[str, list[float]], flops: float, device: torch.device
) -> None:
    """Prints the table of ratios of one clock."""
    peaks = {dtype: peak(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    rates = ", ".join(f"{str(dtype)[6:]} {rate / 1e9:,.0f}" for dtype, rate in peaks.items())
    print(f"  {torch.get_num_threads()} threads; {flops / 1e9:.1f} GFLOP a plan; peak GFLOP/s: "
          f"{rates}")  # fmt: skip
    print(f"  {'':<22}{'ms':>9}{'x ' + rows[0].name:>24}{'of peak':>9}")
    for row in rows:
        took = statistics.median(seconds[row.name])
        share = "" if row.dtype is None else f"{flops / took / peaks[row.dtype]:.0%}"
        ratio = paired(seconds[rows[0].name], seconds[row.name])
        print(f"  {row.name:<22}{took * 1e3:>9.1f}{ratio:>24}{share:>9}")


def alternating(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Returns the seconds that each took in every round; the order turns round every time."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for run in runs.values():
        run()  # kernels are made
    for number in range(rounds):
        names = list(runs)[:: -1 if number % 2 else 1]
        for name in names:
            began = clock()
            runs[name]()
            seconds[name].append(clock() - began)
    return seconds


def rollout_flops(model: LatentWorldModel, horizon: int) -> float:
    """Returns the FLOPs of one sequence that no way of imagining it can do without.

    Products of matrices: every frame once through all blocks, attention to itself and to those
    before, embedding and reading out. What samples share at the first step is counted in full.
    """
    dynamics: Any = model.dynamics
    conditions = dynamics.tokens_per_frame() - dynamics.num_tokens
    per_frame = conditions + dynamics.num_tokens
    blocks = 2 * per_frame * linear_weights(dynamics.transformer.blocks)
    ends = 4 * dynamics.num_tokens * dynamics.latent_dim * dynamics.dim
    seen = sum(per_frame * (step + 1) for step in range(horizon))
    attention = 4 * per_frame * seen * dynamics.dim * dynamics.depth
    return horizon * (blocks + ends) + attention


def held(planner: Contender, task: Task, device: torch.device) -> int:
    """Returns the most memory that tensors of one plan held at a time."""
    return peak_bytes(lambda: planner.plan(task, seed=1), device)


# Growth.


def growth(arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints costs relative to the smallest size, for each factor by itself."""
    base = QUICK if arguments.quick else PlanCase("", 4, 16, 1, 1)
    factors = {
        "samples": [base._replace(samples=base.samples * k) for k in (1, 2, 4)],
        "horizon": [base._replace(horizon=h) for h in (1, 2, 4)],
        "tokens": [base._replace(side=side) for side in (2, 3, 4)] if arguments.quick else
                  [base._replace(side=side) for side in (4, 8, 14)],
        "iterations": [base._replace(iterations=count) for count in (1, 2, 4)],
    }  # fmt: skip
    for factor, cases in factors.items():
        medians: dict[str, list[float]] = defaultdict(list)
        for case in cases:
            rows = contenders(case, make_model(case).to(device), arguments)
            task = make_task(case, device)
            runs = {row.name: (lambda r=row, t=task: r.planner.plan(t, seed=1)) for row in rows}
            for name, seconds in alternating(runs, arguments.rounds, clock_of(1, device)).items():
                medians[name].append(statistics.median(seconds))
        sizes = [case.tokens_per_frame if factor == "tokens" else getattr(case, factor)
                 for case in cases]  # fmt: skip
        print(f"  {factor} {' : '.join(map(str, sizes))}")
        for name, values in medians.items():
            print(f"    {name:<22}{' : '.join(f'{value / values[0]:.2f}' for value in values)}")


# Time to an energy.


class Try(NamedTuple):
    """What one planner did on one task.

    Attributes:
        seconds: to the energy asked for, or to the end if it was not reached.
        energy: of what it found.
        metres: from the goal, in truth.
        fell_back: whether gradients alone did not reach it.
    """

    seconds: float
    energy: float
    metres: float
    fell_back: bool = False


class Watched:
    """A cost that notes when it first was as low as asked for."""

    def __init__(self, cost: GoalDistance, clock: Callable[[], float], target: float) -> None:
        self.cost, self.clock, self.target = cost, clock, target
        self.reached: float | None = None

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """See `planning.types.Cost`."""
        costs = self.cost(imagined, actions)
        if self.reached is None and costs.detach().min().item() <= self.target:
            self.reached = self.clock()
        return costs


def goal(arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints, over tasks of several worlds, how much sooner the same energy is reached."""
    clock = clock_of(1, device)
    for horizon in (1,) if arguments.quick else (1, 2):
        tries: list[tuple[Try, Try]] = []
        for motion in list(MOTIONS)[:1] if arguments.quick else MOTIONS:
            case = _toy(arguments)._replace(horizon=horizon)
            world, model = trained_model(
                case, motion, steps=arguments.steps, folder=arguments.models
            )
            opponent = contenders(case, model.to(device), arguments)[0].planner
            for task, pose in world.tasks(arguments.tasks, horizon, seed=arguments.task_seed):
                tries.append(
                    _one_task(
                        case,
                        world,
                        model,
                        opponent,
                        to(task, device),
                        pose,
                        clock,
                        arguments.slack,
                    )
                )
        _print_tries(horizon, tries, arguments.slack)


def _one_task(
    case: PlanCase,
    world: ArmWorld,
    model: LatentWorldModel,
    opponent: Contender,
    task: Task,
    pose: Tensor,
    clock: Callable[[], float],
    slack: float,
) -> tuple[Try, Try]:
    """Returns what the opponent did, and what ours needed for the same energy."""
    imagine = LatentWorld(model)
    cost = GoalDistance(task.goal, imagine.distance, "last")
    began = clock()
    actions = opponent.plan(task, seed=1).actions
    took = clock() - began
    with torch.no_grad():
        energy = cost(imagine.rollout(task.start, actions[None]), actions[None]).item()
    theirs = Try(took, energy, world.distance(task, actions, pose))

    watched = Watched(cost, clock, energy * (1 + slack))
    began = clock()
    hybrid = Gradient(
        horizon=case.horizon, num_starts=8, num_iterations=30, step_size=STEP_SIZE,
        last_step_share=0.03,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    plan = hybrid.plan(imagine, task.start, cost=watched, action_spec=SPEC, generator=generator)
    fell_back = watched.reached is None
    if fell_back:
        cem = CEM(
            horizon=case.horizon,
            num_samples=case.samples,
            num_elites=NUM_ELITES,
            num_iterations=case.iterations,
        )
        fallback = cem.plan(
            imagine, task.start, cost=watched, action_spec=SPEC, generator=generator
        )
        plan = min(plan, fallback, key=lambda plan: plan.cost)
    ended = clock() if watched.reached is None else watched.reached
    mine = Try(ended - began, plan.cost, world.distance(task, plan.actions, pose), fell_back)
    return theirs, mine


def _print_tries(horizon: int, tries: Sequence[tuple[Try, Try]], slack: float) -> None:
    theirs, mine = ([pair[side] for pair in tries] for side in (0, 1))
    ratios = [a.seconds / b.seconds for a, b in tries]
    num_reached = sum(b.energy <= a.energy * (1 + slack) for a, b in tries)
    print(
        f"  horizon {horizon}, {len(tries)} tasks: same energy (+ {slack:.0%}) reached in "
        f"{num_reached}, {sum(b.fell_back for b in mine)} fell back on CEM"
    )
    print(f"    time to it: {statistics.median(ratios):.1f}x less in the median "
          f"({min(ratios):.1f}-{max(ratios):.1f}); all tasks together "
          f"{sum(a.seconds for a in theirs) / sum(b.seconds for b in mine):.1f}x")  # fmt: skip
    for name, side in (("opponent", theirs), ("ours", mine)):
        success = statistics.mean(t.metres < SUCCESS_METRES for t in side)
        energy = statistics.mean(t.energy for t in side)
        print(f"    {name:<9} success (within {SUCCESS_METRES * 100:.0f} cm) {success:.0%}, mean "
              f"energy {energy:.4f}")  # fmt: skip


# A peer.


def peer(arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints ratios to stable-worldmodel's planner on its LeWM predictor."""
    modules = peer_modules()
    if modules is None:
        print("  stable-worldmodel is not installed: left out (pip install stable-worldmodel)")
        return
    model = make_peer(modules)
    for horizon in (2,) if arguments.quick else (3, 5):
        case = PeerCase(40, 2, 1) if arguments.quick else PeerCase(300, horizon, 2)
        start, goal = torch.randn(2, 192, generator=torch.Generator().manual_seed(0))
        bfloat16 = OurPeerPlanner(model, case, dtype=torch.bfloat16)
        planners: dict[str, Any] = {
            "stable-worldmodel": PeerPlanner(modules, model, case),
            "ours float32": OurPeerPlanner(model, case),
            "ours bfloat16": bfloat16,
        }
        print(f"\n  {case.samples} samples, horizon {horizon}, {case.iterations} iterations")
        _refuse_unequal_peers(planners, start, goal, horizon)
        runs = {
            name: (lambda planner=planner, start=start, goal=goal: planner.plan(
                start, goal, seed=1)) for name, planner in planners.items()
        }  # fmt: skip
        seconds = alternating(runs, arguments.rounds, clock_of(1, device))
        for name, values in seconds.items():
            ratio = paired(seconds["stable-worldmodel"], values)
            print(f"  {name:<22}{statistics.median(values) * 1e3:>9.1f} ms{ratio:>24}")


def _refuse_unequal_peers(
    planners: dict[str, Any], start: Tensor, goal: Tensor, horizon: int
) -> None:
    actions = torch.randn(64, horizon, 10, generator=torch.Generator().manual_seed(1))
    first = planners["stable-worldmodel"]
    expected, answer = first.costs(start, goal, actions), first.plan(start, goal, seed=1)
    for name, planner in planners.items():
        costs = ((planner.costs(start, goal, actions) - expected) / expected).abs().max().item()
        apart = (planner.plan(start, goal, seed=1) - answer).abs().max().item()
        print(f"  {name:<22} costs {costs:.1e} (relative), actions {apart:.1e} from the first")
        if "float32" in name and max(costs, apart) > TOLERANCE:
            raise SystemExit(f"{name} finds other actions: no ratio is printed")


# Deadlines.


def latency(arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints percentiles of the time to a plan at deadlines, and counts encoder calls."""
    case = QUICK if arguments.quick else _toy(arguments)._replace(horizon=2)
    model = make_model(case).to(device)
    world = LatentWorld(model, precision="bf16" if device.type == "cuda" else "fp32")
    frames = noise(arguments.frames + 1, world.image_size)
    planner = CEM(horizon=case.horizon, num_samples=64, num_elites=8, num_iterations=100)
    for deadline in DEADLINES:
        row = round_trips(world, planner, SPEC, frames, deadline, clock_of(2, device))
        print(f"  {said(row)}")


def _cases(arguments: argparse.Namespace, device: torch.device) -> list[PlanCase]:
    if arguments.quick:
        return [QUICK]
    return [LARGE, *SAME] if device.type == "cuda" else SAME


def _toy(arguments: argparse.Namespace) -> PlanCase:
    return TOY._replace(samples=24, iterations=2, dim=48, depth=2) if arguments.quick else TOY


PART = {
    "same": same, "trained": trained, "growth": growth, "goal": goal, "peer": peer,
    "latency": latency, "scale": scale,
}  # fmt: skip
