"""What a planner is compared with on the same starts, so that one sees what is to blame.

Doing nothing and acting at random say how easy the tasks are; an expert and the replay of recorded
actions whether they can be solved; behaviour cloning what the data give away without planning; the
same planner with an untrained world model whether training mattered; and with the true simulator
whether the planner could do better if its world model were right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from planning.baselines import do_nothing, random_actions
from planning.benchmarking.oracle_world import OraclePolicy, why_not
from planning.benchmarking.planning_setup import PlanningSetup
from planning.benchmarking.protocol_card import ProtocolCard
from planning.control.mpc import PlanningPolicy, Policy
from planning.data_policies import expert_maker
from planning.evaluation import Task, TaskSet
from planning.latent_world import LatentWorld
from planning.types import Environment, TimeStep

CONTROLS = ("do_nothing", "random", "expert", "replay", "cloning", "untrained", "oracle")
MakePolicy = Callable[[int], Policy]


class NotOfferedError(Exception):
    """A control that there is not; the message says why."""


@dataclass(frozen=True)
class Control:
    """A policy that stands beside the planner.

    Attributes:
        name: one of `CONTROLS`.
        make_policy: for the index-th task.
        plans_together: its policies are `PlanningPolicy`, which a batch of episodes may share.
        note: what a reader of its numbers should know.
    """

    name: str
    make_policy: MakePolicy
    plans_together: bool = False
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """What controls are made of.

    Attributes:
        card: the protocol.
        tasks: of this run.
        world: the world model under test.
        setup: how the planner under test plans.
        oracle_setup: how the planner plans in the true simulator.
        seed: of planners and cloning.
        shards: recorded data for behaviour cloning; None: there are none.
        cloning_steps: of its training.
        device: of its network.
    """

    card: ProtocolCard
    tasks: TaskSet
    world: LatentWorld
    setup: PlanningSetup
    oracle_setup: PlanningSetup
    seed: int = 0
    shards: Path | None = None
    cloning_steps: int = 1500
    device: str = "cpu"
    environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "environment", self.card.make_environment())


def make_control(name: str, bench: Bench) -> Control:
    """Makes the control called `name`.

    Raises:
        ValueError: if there is none of that name.
        NotOfferedError: if it is not to be had here.
    """
    if name not in CONTROLS:
        raise ValueError(f"no control {name!r}; there are: {', '.join(CONTROLS)}, or none")
    return _MAKERS[name](bench)


def controls_named(text: str) -> tuple[str, ...]:
    """Returns the names in "random,oracle"; "all" and "none" are words for all and none.

    Raises:
        ValueError: if one is unknown.
    """
    if text in ("all", "none"):
        return CONTROLS if text == "all" else ()
    names = tuple(name.strip().replace("-", "_") for name in text.split(","))
    if unknown := [name for name in names if name not in CONTROLS]:
        raise ValueError(f"no control {unknown[0]!r}; there are: {', '.join(CONTROLS)}, or none")
    return names


class Replay:
    """Repeats recorded actions, then does nothing; for one episode."""

    def __init__(self, actions: np.ndarray) -> None:
        self._actions = list(actions)

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the next action."""
        if self._actions:
            return self._actions.pop(0)
        return do_nothing(environment, time_step, generator)


class Expert:
    """The expert of the environment that it is called with; for one episode.

    It is told of the environment itself, and not of what is wrapped around it.
    """

    def __init__(self) -> None:
        self._expert: Policy | None = None

    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the expert's action."""
        inner = _inner(environment)
        if self._expert is None:
            self._expert = expert_maker(inner)()
        return self._expert(inner, time_step, generator)


def _inner(environment: Environment) -> Environment:
    return getattr(environment, "environment", environment)


def _do_nothing(bench: Bench) -> Control:
    return Control("do_nothing", lambda index: do_nothing)


def _random(bench: Bench) -> Control:
    return Control("random", lambda index: random_actions)


def _expert(bench: Bench) -> Control:
    try:
        expert_maker(_inner(bench.environment))
    except ValueError as error:
        raise NotOfferedError(f"{bench.environment.name} has no expert") from error
    return Control("expert", lambda index: Expert(), note="knows the true state")


def _replay(bench: Bench) -> Control:
    recorded = [_recorded(task) for task in bench.tasks.tasks]
    return Control("replay", lambda index: Replay(recorded[index]),
                   note="the actions that the goal is from")  # fmt: skip


def _recorded(task: Task) -> np.ndarray:
    if task.actions is None:
        raise NotOfferedError("its tasks hold no recorded actions: goals are drawn, not recorded")
    return task.actions


def _cloning(bench: Bench) -> Control:
    if bench.shards is None:
        raise NotOfferedError("it is trained on recorded data: give them with --data SHARDS")
    from planning.benchmarking.behaviour_cloning import (
        CloningPolicy,
        CloningRecipe,
        clone_behaviour,
        read_recordings,
    )

    recipe = CloningRecipe(
        num_steps=bench.cloning_steps,
        max_ahead=bench.card.goal.steps_ahead or bench.card.budget_steps,
        seed=bench.seed,
    )
    image_size = bench.environment.image_size
    recordings = read_recordings(bench.shards, image_size=image_size, recipe=recipe)
    _refuse_other_actions(recordings.actions.shape[-1], bench)
    network = clone_behaviour(recordings, recipe=recipe, device=bench.device)
    policy = CloningPolicy(network, device=bench.device)
    note = (
        f"sees frames only, no state; trained for {recipe.num_steps} steps on "
        f"{recordings.used:.0%} of the recordings"
    )
    return Control("cloning", lambda index: policy, note=note)


def _refuse_other_actions(action_dim: int, bench: Bench) -> None:
    expected = bench.environment.action_spec.dim
    if action_dim != expected:
        raise ValueError(
            f"--data {bench.shards} has actions of {action_dim} columns, {bench.environment.name} "
            f"has {expected}; give recordings of this environment"
        )


def _untrained(bench: Bench) -> Control:
    world = bench.world.untrained(seed=bench.seed)

    def make(index: int) -> PlanningPolicy:
        return planning_policy(world, bench.setup, seed=bench.seed + index)

    note = (
        "the same architecture; all weights, and projections that were fitted to data, drawn anew; "
        "states and actions are scaled as in training"
    )
    return Control("untrained", make, plans_together=True, note=note)


def _oracle(bench: Bench) -> Control:
    if (reason := why_not(bench.environment)) is not None:
        raise NotOfferedError(reason)
    setup, action_steps = bench.oracle_setup, bench.world.action_steps

    def make(index: int) -> Policy:
        return OraclePolicy(
            setup.planner,
            execute_steps=setup.execute,
            reduction=setup.cost,
            action_steps=action_steps,
            seed=bench.seed + index,
            limits=setup.limits,
        )

    return Control("oracle", make, note=oracle_note(setup, bench.setup))


def oracle_note(oracle: PlanningSetup, ours: PlanningSetup) -> str:
    """Returns how the planner in the true simulator compares with the one under test."""
    if replace(oracle, deadline_seconds=None) == replace(ours, deadline_seconds=None):
        return "the same planner in the true simulator"
    theirs, own = _rollouts(oracle), _rollouts(ours)
    if theirs is None or own is None or theirs == own:
        return f"{oracle.name} in the true simulator, with settings of its own"
    searched = f"{theirs} rollouts a plan where the planner under test has {own}"
    if theirs > own:
        return f"{oracle.name} in the true simulator, {searched}"
    return (
        f"a weaker planner than the one under test, in the true simulator: {oracle.name}, "
        f"{searched}; where it fails, more search may succeed"
    )


def _rollouts(setup: PlanningSetup) -> int | None:
    """Returns how many sequences a plan tries, where settings tell."""
    settings = setup.described()["settings"]
    samples, rounds = settings.get("num_samples"), settings.get("num_iterations", 1)
    return None if samples is None else int(samples) * int(rounds)


def planning_policy(world: LatentWorld, setup: PlanningSetup, *, seed: int) -> PlanningPolicy:
    """Returns a fresh policy that plans as `setup` says."""
    return PlanningPolicy(
        world,
        setup.planner,
        execute_steps=setup.execute,
        reduction=setup.cost,
        seed=seed,
        deadline_seconds=setup.deadline_seconds,
        limits=setup.limits,
    )


_MAKERS: dict[str, Callable[[Bench], Control]] = {
    "do_nothing": _do_nothing,
    "random": _random,
    "expert": _expert,
    "replay": _replay,
    "cloning": _cloning,
    "untrained": _untrained,
    "oracle": _oracle,
}
