"""How a planner asks: it yields candidates and is sent their costs.

A planner sees neither the world nor the goal, and no clock: `Planner.search` is a generator of
candidates. What is the same for all planners happens here, once: imagining, scoring, ruling out
what is not finite, keeping the best, the deadline, and the `Plan`. Several searches of one planner
advance together, so that many environments share each call of the world model.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from planning.actions.parameterization import Parameterization, PerStep
from planning.actions.sampling import ActionDistribution
from planning.actions.space import ActionSpec
from planning.costs import trusted_costs
from planning.search.plan_warnings import contrast, plan_warnings
from planning.search.space import SearchSpace, WarmStart
from planning.types import Cost, Latent, Plan, WorldModel


class Candidates(NamedTuple):
    """What a planner wants to know.

    Attributes:
        sequences: (samples, steps, dim), inside the space.
        distribution: what it searches with now, for the plan's mean and spread.
        num_best: how many of the best it will use; the costs of others may be approximate.
        needs_gradients: whether it wants the gradients of the costs too.
        source: the part of the planner that proposes them, if it has several.
    """

    sequences: Tensor
    distribution: ActionDistribution
    num_best: int = 1
    needs_gradients: bool = False
    source: str = ""


class Scores(NamedTuple):
    """What it is told.

    Attributes:
        costs: (samples,), infinite where a sequence is ruled out. In the first round at least one
            is finite.
        gradients: (samples, steps, dim), of the costs, finite; None if nobody asked.
        num_unscored: how many, at the end, there was no time for; their costs are infinite.
    """

    costs: Tensor
    gradients: Tensor | None = None
    num_unscored: int = 0

    def best(self, num_best: int) -> Tensor:
        """Returns the indices of the best, best first: fewer, or none, where fewer are finite."""
        count = min(num_best, int(self.costs.isfinite().sum()))
        return self.costs.topk(count, largest=False).indices


Search = Generator[Candidates, Scores, ActionDistribution]

FIRST_ROUND_SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the samples, when nobody knows their time yet
GRADIENTS_TAKE = 4  # times as long as costs alone, until that has been measured


class Problem(NamedTuple):
    """One planning problem: everything but the world and the planner. See `Planner.plan`."""

    start: Latent
    cost: Cost
    action_spec: ActionSpec
    generator: torch.Generator
    previous_plan: Plan | None = None
    executed_steps: int = 0
    previous_action: Tensor | None = None
    memory: object = None


@dataclass(frozen=True)
class SearchPlanner(ABC):
    """A planner that is a search: a subclass says which candidates to try.

    Args:
        horizon: actions in a sequence.
        parameterization: what is chosen of a sequence, over the steps of the environment; by
            default every action.

    Attributes:
        action_kind: which actions it can plan, see `ActionSpec.kind`.
        uses_elites: whether a warm start should hold the elites of the plan before.
    """

    action_kind: ClassVar[str] = "continuous"
    uses_elites: ClassVar[bool] = False

    horizon: int = 8
    parameterization: Parameterization = field(default=PerStep(), kw_only=True)

    def __post_init__(self) -> None:
        refuse_counts_below_one(horizon=self.horizon)
        if not isinstance(self.parameterization, Parameterization):
            raise ValueError(
                f"parameterization must be a Parameterization, such as PerStep() or Repeat(2), got "
                f"{self.parameterization!r}"
            )

    @abstractmethod
    def search(
        self, space: SearchSpace, warm: WarmStart | None, generator: torch.Generator
    ) -> Search:
        """Yields candidates, is sent their scores, and returns its final distribution.

        Args:
            space: where to search.
            warm: what is left of the plan before.
            generator: the only randomness.
        """
        ...

    def plan(
        self,
        world: WorldModel,
        start: Latent,
        *,
        cost: Cost,
        action_spec: ActionSpec,
        generator: torch.Generator,
        previous_plan: Plan | None = None,
        executed_steps: int = 0,
        previous_action: Tensor | None = None,
        memory: object = None,
        deadline_seconds: float | None = None,
        on_best: Callable[[Plan], None] | None = None,
    ) -> Plan:
        """Returns the best plan found; see `planning.types.Planner` and `plan_together`."""
        problem = Problem(
            start,
            cost,
            action_spec,
            generator,
            previous_plan,
            executed_steps,
            previous_action,
            memory,
        )
        tell = None if on_best is None else lambda _, plan: on_best(plan)
        return plan_together(
            self, world, [problem], deadline_seconds=deadline_seconds, on_best=tell
        )[0]


def plan_together(
    planner: SearchPlanner,
    world: WorldModel,
    problems: Sequence[Problem],
    *,
    deadline_seconds: float | None = None,
    on_best: Callable[[int, Plan], None] | None = None,
) -> list[Plan]:
    """Returns the best plan found for each problem; they share every call of the world model.

    Args:
        planner: searches, for each problem by itself: what it finds is what it would find alone,
            but for rounding.
        world: imagines.
        problems: their starts have one shape.
        deadline_seconds: for all of them: no round begins that would end after it, judging by the
            longest so far. The first goes part by part, and what there is no time for is not
            scored; its first eighth always is, and more until some cost is finite. None: search to
            the end.
        on_best: is told, after each round but the last that found something better, which problem
            and its best plan so far; its costs only fall.

    Raises:
        ValueError: if the deadline is not positive, if a previous plan does not fit, if the planner
            cannot plan such actions, if the world model has others, or if the planner needs
            gradients and the costs have none.
        NotFiniteStop: if too few sequences of the first round have a finite cost.
    """
    clock = _Clock(deadline_seconds)
    if not problems:
        return []
    # Tensors of a caller's inference mode could be part of no graph, so it is left while planning;
    # and autocast would blur actions: a world model says by itself what it imagines in.
    autocast = torch.autocast(problems[0].start.tokens.device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), autocast:
        searches = [_Progress.begin(planner, world, problem) for problem in problems]
        while groups := _alike(searches):
            is_first = not any(search.best_costs for search in searches)
            for group in groups:
                if is_first or clock.allows(group):
                    _score(world, group, clock)
                    if on_best is not None:
                        _tell_better(searches, group, clock, on_best)
                else:
                    return [search.finish(clock.seconds()) for search in searches]
        return [search.finish(clock.seconds()) for search in searches]


def refuse_counts_below_one(**counts: int) -> None:
    """Raises ValueError for the first count that is below 1, or no whole number."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise ValueError(f"{name} must be a whole number, got {count!r}")
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def refuse_more_than_samples(num_samples: int, **counts: int) -> None:
    """Raises ValueError for the first count that exceeds the number of samples."""
    for name, count in counts.items():
        if count > num_samples:
            raise ValueError(
                f"{name}={count} exceeds num_samples={num_samples}; "
                f"raise num_samples or lower {name}"
            )


def refuse_bad_population(*, num_samples: int, num_elites: int, num_iterations: int) -> None:
    """Raises ValueError if a count is below 1, or there are more elites than samples."""
    refuse_counts_below_one(
        num_samples=num_samples, num_elites=num_elites, num_iterations=num_iterations
    )
    refuse_more_than_samples(num_samples, num_elites=num_elites)


def refuse_outside_unit_interval(**values: float) -> None:
    """Raises ValueError for the first value that is not in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


def refuse_not_positive(**values: float) -> None:
    """Raises ValueError for the first value that is not positive and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


@dataclass
class _Progress:
    """One search, and the best it has seen."""

    problem: Problem
    space: SearchSpace
    search: Search
    candidates: Candidates | None
    distribution: ActionDistribution
    best_actions: Tensor
    screen: Callable[..., Tensor] | None = None  # see `planning.search.screening.Screening`
    best_cost: float = math.inf
    best_costs: list[float] = field(default_factory=list)
    elite_costs: list[float] = field(default_factory=list)
    elite_cost_spreads: list[float] = field(default_factory=list)
    best_uncertainty: Tensor | None = None
    best_source: str = ""
    elites: Tensor | None = None
    first_contrast: float | None = None
    num_rollouts: int = 0
    num_ruled_out: int = 0
    num_differentiated: int = 0

    @classmethod
    def begin(cls, planner: SearchPlanner, world: WorldModel, problem: Problem) -> _Progress:
        """Starts a search up to its first candidates."""
        _refuse_other_kind(planner, problem.action_spec)
        _refuse_other_dimensions(world, problem.action_spec)
        problem = problem._replace(
            start=problem.start.map(_for_graphs), memory=_for_graphs(problem.memory)
        )
        tokens = problem.start.tokens
        least = torch.promote_types(tokens.dtype, torch.float32)  # what actions are at the least in
        space = SearchSpace.of(
            problem.action_spec,
            planner.horizon,
            like=tokens.new_empty(0, dtype=least),
            parameterization=planner.parameterization,
            previous_action=problem.previous_action,
        )
        search = planner.search(space, _warm_start(planner, problem, space), problem.generator)
        candidates = next(search)
        first = space.decode(candidates.distribution.mean)
        make_screen = getattr(world, "screening", None)  # some world models offer it
        screen = None if make_screen is None else make_screen(problem.cost)
        return cls(problem, space, search, candidates, candidates.distribution, first, screen)

    def ruled_in(self, actions: Tensor, costs: Tensor) -> Tensor:
        """Returns costs (samples,) with +inf for all that are not finite, or of no finite actions.

        Raises:
            NotFiniteStop: if too few are finite, and none ever was.
        """
        costs = torch.where(actions.isfinite().flatten(1).all(1), costs, torch.nan)
        if self.best_cost < math.inf:
            return torch.where(costs.isfinite(), costs, torch.inf)
        return trusted_costs(costs)

    def note(self, actions: Tensor, scores: Scores, disagreement: Tensor | None) -> None:
        """Keeps the best of this round, and goes on to the next candidates.

        Args:
            actions: (samples, horizon, action_dim).
            scores: of them.
            disagreement: (samples, horizon) of the imagined latents.
        """
        assert self.candidates is not None
        best = scores.best(self.candidates.num_best)
        costs = scores.costs[best]
        if len(best) and (cost := costs[0].item()) < self.best_cost:
            self.best_cost, self.best_actions = cost, actions[best[0]]
            self.best_uncertainty = None if disagreement is None else disagreement[best[0]]
            self.best_source = self.candidates.source
        if not self.best_costs:
            self.first_contrast = contrast(scores.costs)
        self.elites = actions[best] if len(best) else self.elites
        self.num_rollouts += (num_scored := len(actions) - scores.num_unscored)
        self.num_ruled_out += int(scores.costs.isinf().sum()) - scores.num_unscored
        self.num_differentiated += 0 if scores.gradients is None else num_scored
        self.best_costs.append(self.best_cost)
        self.elite_costs.append(costs.mean().item() if len(best) else self.elite_costs[-1])
        spread = costs.std(correction=0).item() if len(best) else self.elite_cost_spreads[-1]
        self.elite_cost_spreads.append(spread)
        try:
            self.candidates = self.search.send(scores)
            self.distribution = self.candidates.distribution
        except StopIteration as end:
            self.candidates, self.distribution = None, end.value

    @property
    def has_improved(self) -> bool:
        """The last round found something better, and others come."""
        before = self.best_costs[-2] if len(self.best_costs) > 1 else math.inf
        return self.candidates is not None and self.best_cost < before

    def finish(self, seconds: float) -> Plan:
        """Ends the search and returns the best."""
        self.search.close()
        return self.so_far(seconds)

    def so_far(self, seconds: float) -> Plan:
        """Returns the best there is."""
        space, uncertainty = self.space, self.best_uncertainty
        saturation = _saturation(self.best_actions, self.problem.action_spec)
        return Plan(
            actions=self.best_actions.clone(),
            cost=self.best_cost,
            iterations=len(self.best_costs),
            best_costs=list(self.best_costs),
            elite_costs=list(self.elite_costs),
            spread=space.spread(self.distribution.std),
            mean=space.decode(self.distribution.mean),
            num_rollouts=self.num_rollouts,
            seconds=seconds,
            elite_cost_spreads=list(self.elite_cost_spreads),
            uncertainty=None if uncertainty is None else uncertainty.clone(),
            saturation=saturation,
            warnings=plan_warnings(
                saturation=saturation,
                num_ruled_out=self.num_ruled_out,
                num_rollouts=self.num_rollouts,
                first_contrast=self.first_contrast,
            ),
            num_ruled_out=self.num_ruled_out,
            num_differentiated=self.num_differentiated,
            source=self.best_source,
            elites=None if self.elites is None else self.elites.clone(),
            is_finished=self.candidates is None,
        )


def _refuse_other_kind(planner: SearchPlanner, action_spec: ActionSpec) -> None:
    """Raises ValueError if the planner cannot plan actions of this kind."""
    if action_spec.kind != planner.action_kind:
        others = {"one_hot": "CategoricalCEM", "continuous": "CEM"}
        raise ValueError(
            f"{type(planner).__name__} plans {planner.action_kind} actions, these are "
            f"{action_spec.kind} ({', '.join(action_spec.names)}); use another planner, for "
            f"example {others.get(action_spec.kind, 'CEM')}"
        )


def _refuse_other_dimensions(world: WorldModel, action_spec: ActionSpec) -> None:
    """Raises ValueError if the world model imagines actions of other dimensions."""
    if world.action_dim != action_spec.dim:
        raise ValueError(
            f"the world model imagines actions of {world.action_dim} dimensions, the action spec "
            f"has {action_spec.dim} ({', '.join(action_spec.names)}); plan with the spec of the "
            "actions that it was trained on"
        )


def _for_graphs(value: Any) -> Any:  # noqa: ANN401 - a memory is the world model's own
    """Returns tensors (in tuples and lists, too) that may be part of a graph.

    Those of a caller's inference mode may not, so they are copied.
    """
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, tuple | list):
        parts = [_for_graphs(part) for part in value]
        is_named = isinstance(value, tuple) and hasattr(value, "_fields")
        return type(value)(*parts) if is_named else type(value)(parts)
    return value


def _warm_start(planner: SearchPlanner, problem: Problem, space: SearchSpace) -> WarmStart | None:
    """Returns what is left of the plan before, if there is one."""
    plan, steps = problem.previous_plan, problem.executed_steps
    if plan is None:
        return None
    elites = plan.elites if planner.uses_elites else None
    return WarmStart.after(plan.actions, steps, space=space, elites=elites)


def _alike(searches: Sequence[_Progress]) -> list[list[_Progress]]:
    """Groups the searches that go on by what they ask for, so that a group shares each call."""
    groups: dict[tuple[torch.Size, bool], list[_Progress]] = {}
    for search in searches:
        if (wish := search.candidates) is not None:
            groups.setdefault((wish.sequences.shape, wish.needs_gradients), []).append(search)
    return list(groups.values())


class _Clock:
    """How long rounds take, and whether there is time for another.

    Args:
        deadline_seconds: from now on; None: there is time for everything.
    """

    def __init__(self, deadline_seconds: float | None) -> None:
        if deadline_seconds is not None and not deadline_seconds > 0:
            raise ValueError(
                f"deadline_seconds must be above 0, got {deadline_seconds}; None plans to the end"
            )
        self.deadline_seconds = math.inf if deadline_seconds is None else deadline_seconds
        self._began = time.perf_counter()
        self._longest: dict[bool, float] = {}  # of the rounds with gradients, and of the others

    def seconds(self) -> float:
        """Returns how much time has passed."""
        return time.perf_counter() - self._began

    def allows(self, searches: Sequence[_Progress]) -> bool:
        """Returns whether a round of these would end in time, as far as is known."""
        if (expected := self._longest.get(_needs_gradients(searches))) is None:
            expected = GRADIENTS_TAKE * max(self._longest.values(), default=0.0)
        return self.seconds() + expected <= self.deadline_seconds

    def note(self, seconds: float, *, needs_gradients: bool) -> None:
        """Takes note of how long a whole round takes, with what the planner made of it."""
        longest = self._longest.get(needs_gradients, 0.0)
        self._longest[needs_gradients] = max(longest, seconds)

    def parts(
        self, count: int, *, needs_gradients: bool, is_enough: Callable[[], bool]
    ) -> Iterator[slice]:
        """Yields the samples to score, in one part where a round is known to end in time.

        Args:
            count: samples.
            needs_gradients: of the round.
            is_enough: says after each part but the last whether those so far would do, and has
                waited for them: a GPU says that it is done long before it is.
        """
        began, first = self.seconds(), 0
        expected = self._longest.get(needs_gradients, math.inf)
        has_time = math.isinf(self.deadline_seconds) or began + expected <= self.deadline_seconds
        shares = (1.0,) if has_time else FIRST_ROUND_SHARES
        for share in shares:
            end = max(math.ceil(share * count), first)
            if first and is_enough():
                taken = self.seconds() - began
                if self.seconds() + taken * (end - first) / first > self.deadline_seconds:
                    break
            if end > first:
                yield slice(first, end)
            first = end


class _Scored(NamedTuple):
    """A part of a round: actions, costs, gradients and disagreement of each sample."""

    actions: Tensor
    costs: Tensor
    gradients: Tensor | None
    disagreement: Tensor | None


def _needs_gradients(searches: Sequence[_Progress]) -> bool:
    wish = searches[0].candidates
    return wish is not None and wish.needs_gradients


def _score(world: WorldModel, searches: Sequence[_Progress], clock: _Clock) -> None:
    """Imagines and scores the candidates of searches, and sends each what it asked for."""
    needs_gradients, began = _needs_gradients(searches), clock.seconds()
    wishes = [search.candidates.sequences for search in searches if search.candidates is not None]
    evaluate = _evaluate_with_gradients if needs_gradients else _evaluate
    parts: list[list[_Scored]] = []
    chosen = clock.parts(
        len(wishes[0]),
        needs_gradients=needs_gradients,
        is_enough=lambda: _have_finite_costs(searches, parts),
    )
    for part in chosen:
        parts.append(evaluate(world, searches, [sequences[part] for sequences in wishes]))
    for search, sequences, scored in zip(searches, wishes, zip(*parts, strict=True), strict=True):
        joined = _Scored(*(_joined(column) for column in zip(*scored, strict=True)))  # pyright: ignore
        missing = len(sequences) - len(joined.costs)
        actions, gradients = joined.actions, joined.gradients
        costs = search.ruled_in(actions, joined.costs)
        if missing:
            actions = torch.cat((actions, search.space.decode(sequences[-missing:])))
            costs = torch.cat((costs, costs.new_full((missing,), torch.inf)))
            if gradients is not None:
                gradients = torch.cat((gradients, torch.zeros_like(sequences[-missing:])))
        search.note(actions, Scores(costs, gradients, missing), joined.disagreement)
    num_scored = sum(len(part[0].costs) for part in parts)
    whole = (clock.seconds() - began) * len(wishes[0]) / num_scored
    clock.note(whole, needs_gradients=needs_gradients)


def _tell_better(
    searches: Sequence[_Progress],
    group: Sequence[_Progress],
    clock: _Clock,
    on_best: Callable[[int, Plan], None],
) -> None:
    """Tells of the searches of a group that have just found something better."""
    scored = {id(search) for search in group}
    for index, search in enumerate(searches):
        if id(search) in scored and search.has_improved:
            on_best(index, search.so_far(clock.seconds()))


def _have_finite_costs(searches: Sequence[_Progress], parts: Sequence[list[_Scored]]) -> bool:
    """Returns whether every search has a finite cost by now; waits for the last part."""
    has_finite = [
        [bool(scored.costs.isfinite().any()) for scored in column]
        for column in zip(*parts, strict=True)
    ]
    each = zip(searches, has_finite, strict=True)
    return all(search.best_cost < math.inf or any(found) for search, found in each)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) > 1 else next(iter(present), None)


def _evaluate(
    world: WorldModel, searches: Sequence[_Progress], sequences: Sequence[Tensor]
) -> list[_Scored]:
    """Imagines and scores sequences (samples, steps, dim) of each search."""
    decoded = [s.space.decode(part) for s, part in zip(searches, sequences, strict=True)]
    if searches[0].screen is not None and not torch.is_grad_enabled():
        return [_screened(search, part) for search, part in zip(searches, decoded, strict=True)]
    imagined = _imagine(world, [search.problem for search in searches], decoded)
    scored = []
    for search, latent, actions in zip(searches, imagined, decoded, strict=True):
        cost = search.problem.cost(latent, actions)
        if not isinstance(cost, Tensor) or cost.shape != actions.shape[:1]:
            found = tuple(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
            raise ValueError(
                f"the cost of {len(actions)} sequences must be a tensor ({len(actions)},), one "
                f"number each, got {found}"
            )
        scored.append(_Scored(actions, cost, None, latent.disagreement))
    return scored


def _screened(search: _Progress, actions: Tensor) -> _Scored:
    """Scores actions (samples, horizon, action_dim), exactly where the planner will use it."""
    assert search.screen is not None and search.candidates is not None
    problem, num_best = search.problem, search.candidates.num_best
    costs = search.screen(problem.start, actions, num_best, memory=problem.memory)
    return _Scored(actions, costs, None, None)


def _evaluate_with_gradients(
    world: WorldModel, searches: Sequence[_Progress], sequences: Sequence[Tensor]
) -> list[_Scored]:
    """The same, with the gradients of the costs."""
    with torch.enable_grad():
        leaves = [part.detach().clone().requires_grad_() for part in sequences]
        scored = _evaluate(world, searches, leaves)
        gradients = _gradients([part.costs for part in scored], leaves)
    return [
        _Scored(
            part.actions.detach(),
            part.costs.detach(),
            gradient,
            None if part.disagreement is None else part.disagreement.detach(),
        )
        for part, gradient in zip(scored, gradients, strict=True)
    ]


def _imagine(
    world: WorldModel, problems: Sequence[Problem], actions: Sequence[Tensor]
) -> list[Latent]:
    """Imagines the candidates of each problem, of equal shape, in one call if none has a memory."""
    starts = [problem.start for problem in problems]
    if len(starts) == 1 or any(problem.memory is not None for problem in problems):
        each = zip(problems, starts, actions, strict=True)
        return [
            world.rollout(start, part)
            if problem.memory is None
            else world.rollout(start, part, memory=problem.memory)
            for problem, start, part in each
        ]
    tokens = torch.stack([start.tokens for start in starts])
    together = Latent(tokens, _stacked([start.state for start in starts]))
    imagined = world.rollout(together, torch.stack(list(actions)))
    return [imagined.map(lambda part, index=index: part[index]) for index in range(len(starts))]


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    if present and len(present) < len(parts):
        raise ValueError("some starts have a state and others have none; give all of them one")
    return torch.stack(present) if present else None


def _gradients(costs: Sequence[Tensor], sequences: Sequence[Tensor]) -> list[Tensor]:
    """Returns the gradient of each cost; zero where it, or its cost, is not finite."""
    total = torch.stack([part[part.isfinite()].sum() for part in costs]).sum()
    if not total.requires_grad:
        raise ValueError(
            "the costs have no gradient with respect to the actions, which this planner needs; let "
            "the world model's rollout and the cost be differentiable, or plan with CEM"
        )
    gradients = torch.autograd.grad(total, list(sequences), allow_unused=True)
    return [
        torch.zeros_like(part) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
        for gradient, part in zip(gradients, sequences, strict=True)
    ]


def _saturation(actions: Tensor, action_spec: ActionSpec) -> float:
    """Returns the share of values (horizon, action_dim) that lie at a bound.

    What is there by its nature is left out: choices, binary grippers, and what bounds of single
    steps pin.
    """
    if action_spec.one_step is not None:
        return _saturation(action_spec.in_steps(actions), action_spec.one_step)
    if action_spec.kind == "one_hot":
        return 0.0
    low, high = action_spec.step_limits(len(actions), like=actions)
    has_choice = high > low
    for gripper in action_spec.grippers:
        has_choice[:, action_spec.names.index(gripper.name)] &= gripper.way != "binary"
    margin = 1e-3 * (high - low)
    at_bound = ((actions <= low + margin) | (actions >= high - margin))[has_choice]
    return at_bound.float().mean().item() if len(at_bound) else 0.0
