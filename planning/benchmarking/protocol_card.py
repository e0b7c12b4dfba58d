"""Protocol cards: everything that a planning number depends on, in one versioned file.

"PushT success" is three incompatible protocols in the literature. A card says which one is meant:
the environment, frozen starts and goals, budget, replanning, success test and planner. Lengths are
in steps of the environment, so that world models with other action blocks can follow the same card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from planning.actions.limits import NormLimit
from planning.actions.space import ActionSpec, ActionSteps
from planning.benchmarking.provenance import simulator_packages
from planning.benchmarking.strict_reading import read_as, read_yaml
from planning.benchmarking.whole_budget import WholeBudget
from planning.capabilities import Factor, Varies
from planning.control.limited_actions import ActionLimits
from planning.environments import make_environment
from planning.evaluation import TaskSet, options_of
from planning.types import Environment

CARD_FORMAT = 1
PROTOCOLS = Path(__file__).parents[1] / "protocols"
JudgedAt = Literal["any_step", "last_step", "ends_of_plans"]
StateUse = Literal["none", "robot", "all"]


@dataclass(frozen=True)
class EnvironmentChoice:
    """Which environment.

    Attributes:
        name: of a file in `planning/environments`.
        options: of its constructor.
        packages: versions of the simulator's packages that the tasks were made with.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrozenTasks:
    """Where the starts and goals are.

    Attributes:
        file: beside the card.
        sha256: of the file, so that another one is noticed.
        split: why no world model can have seen them.
        how: the command or the rule that froze them.
    """

    file: str
    sha256: str
    split: str
    how: str = ""


@dataclass(frozen=True)
class GoalChoice:
    """How far goals are.

    Attributes:
        described: in words.
        steps_ahead: of the source episode, where goals are its later frames; None: geometric.
    """

    described: str
    steps_ahead: int | None = None


@dataclass(frozen=True)
class SuccessTest:
    """When an episode succeeds.

    Attributes:
        within: `distance_to_goal` must be below it.
        unit: of that distance.
        judged_at: "any_step" after the first action; "last_step" of the budget; "ends_of_plans":
            where a plan has been executed, and at the end.
    """

    within: float
    unit: str
    judged_at: JudgedAt = "any_step"

    def __post_init__(self) -> None:
        if not self.within > 0:
            raise ValueError(f"within must be above 0, got {self.within}")


@dataclass(frozen=True)
class ActionSpace:
    """The actions of the environment; a card stops where they have changed."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    norm_limits: tuple[NormLimit, ...] = ()


@dataclass(frozen=True)
class ActionBlock:
    """How many steps of the environment an action of the world model spans, and how."""

    steps: int = 1
    joined: Literal["one_after_the_other", "repeated", "in_equal_parts"] = "one_after_the_other"


@dataclass(frozen=True)
class PlannerChoice:
    """A planner by name, its settings without the horizon, and what it minimises.

    Attributes:
        name: of a file in `planning/planners`.
        settings: its fields.
        cost: latent distance to the goal, mean over the plan's steps or at its last one.
        limits: (low, high) of dimensions of an action that plans keep, by their names, inside the
            environment's bounds: what a goal does not need, a planner need not move.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: Literal["mean", "last"] = "mean"
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "horizon" in self.settings:
            raise ValueError("settings: the horizon of a planner is the card's horizon_steps")
        for name, bounds in self.limits.items():
            if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
                raise ValueError(f"limits: {name} must be [low, high], got {bounds!r}")
        _ = self.action_limits  # refuses what is no interval

    @property
    def action_limits(self) -> ActionLimits:
        """The limits of its plans."""
        return ActionLimits({name: (low, high) for name, (low, high) in self.limits.items()})


@dataclass(frozen=True)
class Variation:
    """How scenes differ from task to task: what a world model never saw, if it was trained without.

    Attributes:
        factors: of the environment, see `planning.capabilities.Varies`.
        seed: of their values.
        share: of the way from a factor's default to its bounds that values may be away, in (0, 1];
            uniformly drawn.
    """

    factors: tuple[str, ...]
    seed: int
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")

    def values(self, factors: Mapping[str, Factor], index: int) -> dict[str, tuple[float, ...]]:
        """Draws the values of the index-th task."""
        generator, drawn = np.random.default_rng((self.seed, index)), {}
        for name in self.factors:
            default = np.array(factors[name].default)
            there = np.array(factors[name].sample(generator))
            drawn[name] = tuple((default + self.share * (there - default)).tolist())
        return drawn


@dataclass(frozen=True)
class Published:
    """Somebody's number under the protocol of the source.

    Attributes:
        model: what was evaluated.
        success: share of episodes, 0 to 1.
        episodes: how many.
        citation: paper and table.
        planner: if it is not the card's.
    """

    model: str
    success: float
    episodes: int
    citation: str
    planner: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.success <= 1:
            raise ValueError(f"success must be a share, 0 to 1, got {self.success}")


@dataclass(frozen=True)
class ProtocolCard:
    """One protocol; see the fields' own classes.

    Attributes:
        name: of the card, and of its file.
        version: whole number; a change that may change a number raises it.
        source: where the protocol is from, with the section.
        environment: where.
        tasks: from where to where.
        goal: how far that is.
        budget_steps: steps of an episode.
        horizon_steps: steps that a plan covers.
        execute_steps: steps of it that are executed before the next plan is made.
        success: the test.
        state: what a world model may see beyond pixels: "none"; "robot": proprioception, such as
            its own place; "all": objects, too.
        action_space: of the environment.
        planner: what the card's own numbers are planned with.
        variation: of the scenes; None: they all look alike.
        action_block: of the world model; None: any.
        context_frames: that a plan starts from; None: as many as the model was trained with.
        oracle_planner: of the control that plans in the true simulator, whose steps may be too
            slow for the card's budget; None: the card's planner.
        drawn_at_any_size: frames may have the size that the world model sees: it changes nothing
            but them.
        is_comparable: published numbers may stand beside ours.
        differences: what differs from the source, one line each.
        changes: what each version changed, one line each, from version 2 on.
        published: numbers under the source's protocol.
        file: where the card was read.
        sha256: of that file.
    """

    name: str
    version: int
    source: str
    environment: EnvironmentChoice
    tasks: FrozenTasks
    goal: GoalChoice
    budget_steps: int
    horizon_steps: int
    execute_steps: int
    success: SuccessTest
    state: StateUse
    action_space: ActionSpace
    planner: PlannerChoice
    variation: Variation | None = None
    action_block: ActionBlock | None = None
    context_frames: int | None = None
    oracle_planner: PlannerChoice | None = None
    drawn_at_any_size: bool = False
    is_comparable: bool = False
    differences: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    file: Path = field(default=Path(), init=False)
    sha256: str = field(default="", init=False)

    def __post_init__(self) -> None:
        for name in ("version", "budget_steps", "horizon_steps", "execute_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.execute_steps > self.horizon_steps:
            raise ValueError(
                f"execute_steps {self.execute_steps} exceeds horizon_steps {self.horizon_steps}"
            )
        if len(self.changes) != self.version - 1:
            raise ValueError(
                f"changes must say what each version from 2 on changed: version {self.version} "
                f"needs {self.version - 1} lines, got {len(self.changes)}"
            )
        if self.is_comparable and not self.published:
            raise ValueError("is_comparable, but nothing is published")

    @classmethod
    def load(cls, name_or_file: str | Path) -> ProtocolCard:
        """Reads a card by the name of a file in `planning/protocols`, or from a path.

        Raises:
            FileNotFoundError: if there is none, or its task file is missing.
            ValueError: if it is no card, or its task file is another than the one it was made for.
        """
        path = find_card(str(name_or_file))
        content = path.read_bytes()
        values = read_yaml(content, where=str(path))
        if not isinstance(values, dict) or values.pop("format", None) != CARD_FORMAT:
            raise ValueError(
                f"{path} is no protocol card: it must begin with format: {CARD_FORMAT}"
            )
        card = read_as(cls, values, where=path.name)
        object.__setattr__(card, "file", path)
        object.__setattr__(card, "sha256", hashlib.sha256(content).hexdigest())
        card._refuse_other_tasks()
        return card

    @property
    def title(self) -> str:
        """Name and version: "pusht_swm v1"."""
        return f"{self.name} v{self.version}"

    @property
    def tasks_file(self) -> Path:
        """Where the frozen starts and goals are."""
        return self.file.parent / self.tasks.file

    def drawn_at(self, image_size: int) -> ProtocolCard:
        """Returns this card with frames of another size, in pixels."""
        options = {**self.environment.options, "image_size": image_size}
        card = replace(self, environment=replace(self.environment, options=options))
        object.__setattr__(card, "file", self.file)
        object.__setattr__(card, "sha256", self.sha256)
        return card

    def load_tasks(self) -> TaskSet:
        """Returns the frozen tasks, with this card's budget and success test."""
        tasks = TaskSet.load(self.tasks_file)
        return replace(tasks, max_steps=self.budget_steps, success_distance=self.success.within)

    def make_environment(self) -> WholeBudget:
        """Returns the environment, which goes on after a success.

        Raises:
            ValueError: if its actions are not those of the card, or it cannot vary so.
            ImportError: if its simulator is not installed; the message says how.
        """
        environment = make_environment(self.environment.name, **self.environment.options)
        self._refuse_other_actions(environment.action_spec)
        self._refuse_unknown_limits(environment.action_spec)
        self._refuse_other_options(TaskSet.load(self.tasks_file).options, options_of(environment))
        self._refuse_other_factors(environment)
        return WholeBudget(
            environment, max_steps=self.budget_steps, success_distance=self.success.within
        )

    def prepare(self, environment: WholeBudget, index: int) -> None:
        """Sets the scene of the index-th task, from the next reset on."""
        if self.variation is not None:
            environment.vary(self.variation.values(environment.factors, index))

    def is_success(self, distances: list[float]) -> bool:
        """Judges an episode by `distance_to_goal` after the reset and after each step."""
        after_actions = distances[1:]
        if self.success.judged_at == "last_step":
            after_actions = distances[-1:]
        elif self.success.judged_at == "ends_of_plans":
            each = range(self.execute_steps, len(distances), self.execute_steps)
            after_actions = [distances[step] for step in each] + distances[-1:]
        return any(distance < self.success.within for distance in after_actions)

    def package_differences(self) -> list[str]:
        """Returns in which packages this machine's simulator deviates, one line each."""
        installed = simulator_packages(self.environment.name)
        return [
            f"{name} {installed.get(name, 'is not installed')} (card: {version})"
            for name, version in self.environment.packages.items()
            if installed.get(name) != version
        ]

    def model_differences(self, action_steps: ActionSteps, context_frames: int) -> list[str]:
        """Returns in what a world model deviates from the card, one line each."""
        found = []
        block = self.action_block
        if block is not None and (block.steps, block.joined) != (
            action_steps.num_steps,
            action_steps.way,
        ):
            found.append(
                f"action block {action_steps.num_steps} {action_steps.way} "
                f"(card: {block.steps} {block.joined})"
            )
        if self.context_frames not in (None, context_frames):
            found.append(f"context frames {context_frames} (card: {self.context_frames})")
        return found

    def _refuse_other_tasks(self) -> None:
        path = self.tasks_file
        if not path.is_file():
            raise FileNotFoundError(f"{self.file.name}: its task file {self.tasks.file} is missing")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.tasks.sha256:
            raise ValueError(
                f"{self.file.name}: {self.tasks.file} has sha256 {found[:12]}..., the card is of "
                f"{self.tasks.sha256[:12]}...; restore it, or make a new version of the card"
            )
        tasks = TaskSet.load(path)
        if tasks.environment != self.environment.name:
            raise ValueError(
                f"{self.file.name}: its tasks are of {tasks.environment}, not of "
                f"{self.environment.name}"
            )
        self._refuse_other_options(tasks.options, self.environment.options)
        for name, version in tasks.packages.items():
            if (said := self.environment.packages.get(name)) != version:
                raise ValueError(
                    f"{self.file.name}: its tasks were made with {name} {version}, the card says "
                    f"{said or 'nothing'}; put environment.packages right, or freeze tasks anew"
                )

    def _refuse_other_options(self, frozen: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        """Raises ValueError where an option of ours is not the one that tasks were frozen with."""
        for name in sorted(frozen.keys() & ours.keys()):
            if name == "image_size" and self.drawn_at_any_size:
                continue
            if frozen[name] != ours[name]:
                raise ValueError(
                    f"{self.title}: its tasks were frozen with {name}={frozen[name]}, its "
                    f"environment has {name}={ours[name]}; use one of the two for both"
                )

    def _refuse_other_actions(self, spec: ActionSpec) -> None:
        ours = self.action_space
        for name in ("names", "units", "low", "high", "norm_limits"):
            found = tuple(getattr(spec, name))
            if found != getattr(ours, name):
                raise ValueError(
                    f"{self.title}: action {name} of {self.environment.name} are {found}, the card "
                    f"says {getattr(ours, name)}; make a new version of the card"
                )

    def _refuse_unknown_limits(self, spec: ActionSpec) -> None:
        for choice in (self.planner, self.oracle_planner):
            if choice is not None:
                try:
                    choice.action_limits.of(spec)
                except ValueError as error:
                    raise ValueError(f"{self.title}: limits of planner: {error}") from error

    def _refuse_other_factors(self, environment: Environment) -> None:
        if self.variation is None:
            return
        known = list(environment.factors) if isinstance(environment, Varies) else []
        for name in self.variation.factors:
            if name not in known:
                raise ValueError(
                    f"{self.title}: {environment.name} has no factor {name!r}; it has "
                    f"{', '.join(known) or 'none'}"
                )


def find_card(name: str) -> Path:
    """Returns the file of a card: a path, or a name in `planning/protocols`.

    Raises:
        FileNotFoundError: if there is neither.
    """
    for path in (Path(name), PROTOCOLS / f"{name}.yaml"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no protocol card {name!r}; there are: {', '.join(card_names())}")


def card_names() -> list[str]:
    """Returns the names of all cards of `planning/protocols`, sorted."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))
