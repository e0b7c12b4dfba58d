"""What every planner owes, checked for each file of planning/planners/.

Planners of choices have a world of choices and a part of their own; what does not hang on the kind
of action is asked of all.
"""

import importlib
import pkgutil
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import planning.planners
from planning.actions.parameterization import Repeat
from planning.actions.space import ActionSpec
from planning.planners.cem import CEM
from planning.planners.random_shooting import RandomShooting
from planning.search.rounds import Problem, SearchPlanner, plan_together
from planning.types import Latent

NAN, INF = float("nan"), float("inf")


def planners_in(module):
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and is_dataclass(value)
        and issubclass(value, SearchPlanner)
    ]


MODULES = [
    importlib.import_module(f"{planning.planners.__name__}.{found.name}")
    for found in pkgutil.iter_modules(planning.planners.__path__)
]
CLASSES = [planner for module in MODULES for planner in planners_in(module)]
CONTINUOUS = [planner for planner in CLASSES if planner.action_kind == "continuous"]
OF_CHOICES = [planner for planner in CLASSES if planner.action_kind == "one_hot"]


@pytest.fixture(params=CONTINUOUS, ids=lambda planner: planner.__name__)
def planner_class(request):
    """Planners of continuous actions."""
    return request.param


@pytest.fixture(params=OF_CHOICES, ids=lambda planner: planner.__name__)
def chooser_class(request):
    """Planners of choices."""
    return request.param


@pytest.fixture(params=CLASSES, ids=lambda planner: planner.__name__)
def any_class(request):
    """All planners."""
    return request.param


@pytest.fixture
def make_choices(make_problem):
    """Reach `goal` counts of each choice, as nearly as may be."""

    def make(goal, **options):
        problem = make_problem(goal, **options)
        names = tuple(f"choice{index}" for index in range(len(goal)))
        zeros, ones = (0.0,) * len(goal), (1.0,) * len(goal)
        units = ("1",) * len(goal)
        return replace(problem, action_spec=ActionSpec(names, units, zeros, ones, kind="one_hot"))

    return make


@pytest.fixture
def make_any(make_problem, make_choices):
    """Makes a problem of the planner's kind of action: the sum of three actions to (1.4, -0.8)."""

    def make(planner, goal=(1.4, -0.8), **options):
        made = make_choices if planner.action_kind == "one_hot" else make_problem
        return made(goal, **options)

    return make


def problem_of(made, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return Problem(made.start, made.cost, made.action_spec, generator, **options)


def assert_inside(actions, spec):
    assert (actions >= torch.tensor(spec.low)).all()
    assert (actions <= torch.tensor(spec.high)).all()


def assert_same_plan(plan, other):
    """Equal to the last bit, but for the time it took."""
    for field in fields(plan):
        if field.name != "seconds":
            one, two = getattr(plan, field.name), getattr(other, field.name)
            assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, (
                field.name
            )


# What a planner is.


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_file_of_the_folder_holds_one_planner(module):
    assert len(planners_in(module)) == 1


def test_a_planner_is_frozen_and_its_plan_has_horizon_steps(any_class, make_any):
    planner = any_class(horizon=3)
    with pytest.raises(AttributeError, match="horizon"):
        planner.horizon = 4
    plan = make_any(any_class).solved_by(planner)
    for sequence in (plan.actions, plan.mean, plan.spread):
        assert sequence.shape == (3, 2)
        assert sequence.isfinite().all()
    assert plan.iterations == len(plan.best_costs) == len(plan.elite_costs)


def test_a_plan_counts_its_rollouts(any_class, make_any):
    problem = make_any(any_class)
    plan = problem.solved_by(any_class(horizon=3))
    assert plan.num_rollouts == sum(len(batch) for batch in problem.world.imagined)


def test_a_plan_keeps_its_own_actions_alive_and_not_all_samples(any_class, make_any):
    plan = make_any(any_class).solved_by(any_class(horizon=3))
    assert plan.actions.untyped_storage().nbytes() == plan.actions.numel() * 4


@pytest.mark.parametrize("horizon", [0, -3])
def test_a_horizon_below_one_is_refused(any_class, horizon):
    with pytest.raises(ValueError, match=f"horizon must be at least 1, got {horizon}"):
        any_class(horizon=horizon)


def test_counts_are_whole_numbers(any_class):
    counts = [field.name for field in fields(any_class) if field.type in ("int", int)]
    assert {"horizon"} < set(counts)
    for name in counts:
        for wrong in (2.5, True, "8", None):
            with pytest.raises(ValueError, match=f"{name} must be a whole number, got {wrong!r}"):
                any_class(**{name: wrong})
        usual = getattr(any_class(), name)
        assert getattr(any_class(**{name: np.int64(usual)}), name) == usual


def test_a_parameterization_that_is_none_is_refused(any_class):
    for wrong in (None, "repeat", Repeat):
        with pytest.raises(ValueError, match="parameterization must be a Parameterization"):
            any_class(parameterization=wrong)


# It finds what can be found.


def test_with_one_step_it_finds_the_minimum_of_a_quadratic_world(planner_class, make_problem):
    problem = make_problem((1.5, 0.7), start=(1.0, 1.0))
    plan = problem.solved_by(planner_class(horizon=1))
    assert plan.actions[0].numpy() == pytest.approx([0.5, -0.3], abs=0.15)
    assert 0 <= plan.cost < 0.15**2


def test_with_several_steps_the_actions_add_up_to_the_way_to_the_goal(planner_class, make_problem):
    plan = make_problem((1.5, -0.8)).solved_by(planner_class(horizon=4))
    assert plan.actions.sum(0).numpy() == pytest.approx([1.5, -0.8], abs=0.2)


def test_a_cost_over_all_steps_makes_it_go_fast_and_stay(planner_class, make_problem):
    """To 2.5 with steps up to 1: best is (1, 1, 0.5, 0), with (1.5**2 + 0.5**2) / 4 = 0.625."""
    problem = make_problem((2.5,), reduction="mean")
    assert problem.cost_of([[1.0], [1.0], [0.5], [0.0]]) == pytest.approx(0.625)
    plan = problem.solved_by(planner_class(horizon=4))
    assert 0.625 - 1e-5 <= plan.cost < 0.9
    assert plan.actions[0].item() > 0.7


def test_a_minimum_outside_the_bounds_is_answered_with_the_bound(planner_class, make_problem):
    problem = make_problem((10.0, -10.0), low=(-0.5, -0.2), high=(0.1, 2.0))
    plan = problem.solved_by(planner_class(horizon=1))
    assert plan.actions[0].numpy() == pytest.approx([0.1, -0.2], abs=0.03)
    assert plan.cost == pytest.approx(9.9**2 + 9.8**2, rel=0.01)


def test_between_two_equal_goals_it_chooses_one_and_not_the_middle(planner_class, make_problem):
    problem = make_problem((0.6, 0.0))
    goals = torch.tensor([[0.6, 0.0], [-0.6, 0.0]])

    def nearer(imagined, actions):
        end = imagined.tokens[:, -1]  # (samples, 1, action_dim)
        return (end - goals).square().sum(-1).min(-1).values

    for seed in range(3):
        plan = problem.solved_by(planner_class(horizon=1), seed=seed, cost=nearer)
        x, y = plan.actions[0].tolist()
        assert (abs(x), y) == pytest.approx((0.6, 0.0), abs=0.15)


def test_of_two_goals_it_chooses_the_better_one(planner_class, make_problem):
    problem = make_problem((0.6, 0.0))
    goals = torch.tensor([[0.6, 0.0], [-0.6, 0.0]])

    def right_is_better(imagined, actions):
        squared = (imagined.tokens[:, -1] - goals).square().sum(-1)  # (samples, goals)
        return (squared + torch.tensor([0.0, 0.3])).min(-1).values

    for seed in range(3):
        plan = problem.solved_by(planner_class(horizon=2), seed=seed, cost=right_is_better)
        assert plan.actions.sum(0).numpy() == pytest.approx([0.6, 0.0], abs=0.2)


def test_it_beats_random_shooting_with_as_many_rollouts(planner_class, make_problem):
    if planner_class is RandomShooting:
        pytest.skip("random shooting is the yardstick")
    costs = {"planner": [], "shooting": []}
    generator = np.random.default_rng(0)
    for seed in range(8):
        problem = make_problem(tuple(generator.uniform(-4, 4, 2)), reduction="mean")
        plan = problem.solved_by(planner_class(horizon=8), seed=seed)
        shooting = RandomShooting(horizon=8, num_samples=plan.num_rollouts)
        costs["planner"].append(plan.cost)
        costs["shooting"].append(problem.solved_by(shooting, seed=seed).cost)
    assert np.mean(costs["planner"]) < 0.9 * np.mean(costs["shooting"])


# Bounds.


def test_no_action_outside_the_bounds_is_returned_or_even_imagined(planner_class, make_problem):
    for seed in range(3):
        problem = make_problem((5.0, 3.0, -9.0), low=(-1.0, 2.0, 0.1), high=(0.5, 3.0, 0.3))
        plan = problem.solved_by(planner_class(horizon=4), seed=seed)
        again = problem.solved_by(
            planner_class(horizon=4), seed=seed, previous_plan=plan, executed_steps=1
        )
        for actions in (plan.actions, plan.mean, again.actions, *problem.world.imagined):
            assert_inside(actions, problem.action_spec)


def test_a_previous_plan_outside_the_bounds_is_clipped(planner_class, make_problem, make_plan):
    problem = make_problem((9.0, 9.0))
    plan = problem.solved_by(
        planner_class(horizon=2), previous_plan=make_plan(torch.full((2, 2), 5))
    )
    assert plan.actions.tolist() == [[1, 1], [1, 1]]


# Costs.


def test_the_best_cost_never_gets_worse_and_is_that_of_the_actions(any_class, make_any):
    for seed in range(3):
        problem = make_any(any_class, (3.0, -2.0), reduction="mean")
        plan = problem.solved_by(any_class(horizon=6), seed=seed)
        assert all(after <= before for before, after in pairwise(plan.best_costs))
        assert plan.cost == plan.best_costs[-1]
        assert plan.cost == pytest.approx(problem.cost_of(plan.actions), rel=1e-5)
        assert all(m >= b for m, b in zip(plan.elite_costs, plan.best_costs, strict=True))


def test_the_plan_is_the_best_of_all_that_was_imagined(any_class, make_any):
    problem = make_any(any_class, (3.0, -2.0), reduction="mean")
    plan = problem.solved_by(any_class(horizon=3))
    costs = [problem.cost_of(actions) for batch in problem.world.imagined[:] for actions in batch]
    assert plan.cost == pytest.approx(min(costs), rel=1e-5)


def costly_where(is_bad, value, cost):
    return lambda imagined, actions: torch.where(is_bad(actions), value, cost(imagined, actions))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_sequence_without_a_finite_cost_is_never_chosen(planner_class, make_problem, value):
    problem = make_problem((0.8, 0.0))  # the goal lies where costs are not finite
    cost = costly_where(lambda actions: actions[:, 0, 0] > 0, value, problem.cost)
    plan = problem.solved_by(planner_class(horizon=1), cost=cost)
    assert -0.2 < plan.actions[0, 0] <= 0  # as near as it may
    assert plan.mean[0, 0] <= 0
    assert np.isfinite([plan.cost, *plan.best_costs, *plan.elite_costs]).all()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_when_no_cost_is_finite_it_raises_and_gives_no_action(planner_class, make_problem, value):
    problem = make_problem((0.5, 0.5))
    cost = costly_where(lambda actions: actions[:, 0, 0] > -INF, value, problem.cost)
    previous = problem.solved_by(planner_class(horizon=2))
    for options in ({}, {"previous_plan": previous}):
        with pytest.raises(FloatingPointError, match=r"all .* imagined costs are"):
            problem.solved_by(planner_class(horizon=2), cost=cost, **options)


def test_a_start_that_is_not_a_number_gives_no_action(planner_class, make_problem):
    problem = make_problem((0.5, 0.5), start=(NAN, 0.0))
    with pytest.raises(FloatingPointError, match="check the checkpoint and the camera frame"):
        problem.solved_by(planner_class(horizon=2))


def test_costs_that_are_not_finite_at_random_places_never_reach_an_action(
    planner_class, make_problem
):
    problem = make_problem((0.5, -0.5))
    values = torch.tensor([NAN, INF, -INF])
    generator = torch.Generator().manual_seed(0)
    planner = planner_class(horizon=2)
    for seed in range(12):
        share = 0.999 * seed / 11

        def faulty(imagined, actions, share=share):
            costs = problem.cost(imagined, actions)
            chosen = values[torch.randint(3, costs.shape, generator=generator)]
            return torch.where(torch.rand(costs.shape, generator=generator) < share, chosen, costs)

        try:
            plan = problem.solved_by(planner, seed=seed, cost=faulty)
        except FloatingPointError:
            assert share > 0.8  # only where hardly any cost is finite at first
            continue
        assert_inside(plan.actions, problem.action_spec)
        assert_inside(plan.mean, problem.action_spec)
        assert plan.cost == pytest.approx(problem.cost_of(plan.actions), rel=1e-4, abs=1e-6)


# Randomness and memory.


def test_the_same_seed_gives_the_same_plan_to_the_last_bit(any_class, make_any):
    problem = make_any(any_class, reduction="mean")
    planner = any_class(horizon=4)
    plan = problem.solved_by(planner, seed=3)
    assert_same_plan(plan, problem.solved_by(planner, seed=3))
    assert_same_plan(plan, problem.solved_by(any_class(horizon=4), seed=3))


def test_another_seed_imagines_other_actions(any_class, make_any):
    one, two = make_any(any_class), make_any(any_class)
    one.solved_by(any_class(horizon=4), seed=0)
    two.solved_by(any_class(horizon=4), seed=1)
    first, other = one.world.imagined[0][1:], two.world.imagined[0][1:]  # the first is the mean
    share = (first == other).all((1, 2)).float().mean().item()
    assert share <= (0.2 if any_class in OF_CHOICES else 0)  # of 16 sequences of choices, some


def test_torchs_global_randomness_is_neither_read_nor_changed(any_class, make_any):
    problem = make_any(any_class)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    plan = problem.solved_by(any_class(horizon=2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert_same_plan(plan, problem.solved_by(any_class(horizon=2)))


def test_nothing_is_kept_from_one_call_to_the_next(planner_class, make_problem):
    near, far = make_problem((0.3, 0.1)), make_problem((-3.0, 2.0), reduction="mean")
    planner = planner_class(horizon=4)
    first = near.solved_by(planner)
    far.solved_by(planner, previous_plan=first, executed_steps=2)  # leaves nothing behind
    assert_same_plan(first, near.solved_by(planner))


def test_what_is_passed_in_is_not_changed(planner_class, make_problem, make_plan):
    problem = make_problem((1.5, -0.8))
    previous = make_plan(torch.full((4, 2), 0.3))
    given = (problem.start.tokens, problem.cost.goal.tokens, previous.actions, previous.mean)
    before = [tensor.clone() for tensor in given]
    problem.solved_by(planner_class(horizon=4), previous_plan=previous, executed_steps=2)
    assert all(torch.equal(tensor, old) for tensor, old in zip(given, before, strict=True))


# The previous plan.


def test_given_the_optimum_it_is_at_least_as_good(planner_class, make_problem, make_plan):
    problem = make_problem((2.5,), reduction="mean")
    optimum = make_plan([[1.0], [1.0], [0.5], [0.0]])
    for seed in range(3):
        plan = problem.solved_by(planner_class(horizon=4), seed=seed, previous_plan=optimum)
        assert plan.cost == pytest.approx(0.625, abs=1e-6)


@pytest.mark.parametrize("executed_steps", [0, 1, 3])
def test_it_imagines_what_is_left_of_the_previous_plan(
    planner_class, make_problem, make_plan, executed_steps
):
    problem = make_problem((0.0, 0.0))
    actions = torch.tensor([[0.11, 0.12], [0.21, 0.22], [0.31, 0.32], [0.41, 0.42]])
    problem.solved_by(
        planner_class(horizon=4), previous_plan=make_plan(actions), executed_steps=executed_steps
    )
    imagined = torch.cat(problem.world.imagined)[:, : 4 - executed_steps]
    assert (imagined == actions[executed_steps:]).all((1, 2)).any()


def test_after_two_steps_of_the_optimum_the_rest_of_it_is_kept(
    planner_class, make_problem, make_plan
):
    """From 2 to 2.5 the rest (0.5, 0), with 0 repeated, stays at the goal: cost 0."""
    problem = make_problem((2.5,), start=(2.0,), reduction="mean")
    optimum = make_plan([[1.0], [1.0], [0.5], [0.0]])
    plan = problem.solved_by(planner_class(horizon=4), previous_plan=optimum, executed_steps=2)
    assert plan.cost == 0
    assert plan.actions.flatten().tolist() == [0.5, 0, 0, 0]


def test_a_plan_that_was_executed_to_its_end_is_no_obstacle(planner_class, make_problem, make_plan):
    problem = make_problem((0.5, -0.3))
    previous = make_plan(torch.full((2, 2), 0.9))
    plan = problem.solved_by(planner_class(horizon=2), previous_plan=previous, executed_steps=2)
    assert plan.actions.sum(0).numpy() == pytest.approx([0.5, -0.3], abs=0.2)


def test_more_executed_steps_than_the_plan_had_are_refused(planner_class, make_problem, make_plan):
    problem, previous = make_problem((0.5, -0.3)), make_plan(torch.zeros(4, 2))
    for steps in (5, -1):
        with pytest.raises(ValueError, match=f"cannot shift a plan of 4 steps by {steps}"):
            problem.solved_by(
                planner_class(horizon=4), previous_plan=previous, executed_steps=steps
            )


def test_a_previous_plan_of_another_shape_is_refused(planner_class, make_problem, make_plan):
    problem = make_problem((0.5, -0.3))
    for shape in ((3, 2), (5, 2), (4, 1)):
        match = rf"has actions \({shape[0]}, {shape[1]}\), this planner's are \(4, 2\)"
        with pytest.raises(ValueError, match=match):
            problem.solved_by(planner_class(horizon=4), previous_plan=make_plan(torch.zeros(shape)))


def test_a_previous_plan_that_is_no_number_is_refused(any_class, make_any, make_plan):
    """Else its NaN would be in every sequence of a planner that begins there."""
    actions = torch.eye(2).repeat(2, 1)
    actions[3, 1] = torch.nan
    match = "the previous plan has an action that is NaN or infinite; plan without it"
    with pytest.raises(ValueError, match=match):
        make_any(any_class).solved_by(any_class(horizon=4), previous_plan=make_plan(actions))


# Time and size.


def test_a_deadline_that_cannot_be_kept_returns_after_one_iteration(any_class, make_any):
    problem = make_any(any_class)
    plan = problem.solved_by(any_class(horizon=2), deadline_seconds=1e-9)
    assert plan.iterations == 1
    assert_inside(plan.actions, problem.action_spec)
    assert plan.cost == pytest.approx(problem.cost_of(plan.actions), rel=1e-5)


@pytest.mark.parametrize("seconds", [0, -1.0, NAN])
def test_a_deadline_that_is_none_is_refused(planner_class, make_problem, seconds):
    with pytest.raises(ValueError, match=f"deadline_seconds must be above 0, got {seconds}"):
        make_problem((0.5,)).solved_by(planner_class(horizon=1), deadline_seconds=seconds)


def test_a_deadline_that_is_far_away_changes_nothing(any_class, make_any):
    problem = make_any(any_class)
    plan = problem.solved_by(any_class(horizon=2), deadline_seconds=1e6)
    assert_same_plan(plan, problem.solved_by(any_class(horizon=2)))


def test_how_many_tokens_a_latent_has_is_the_worlds_affair(planner_class, make_problem):
    problem = make_problem((0.5, -0.3))
    goal = Latent(problem.cost.goal.tokens.expand(3, 2))
    problem = replace(
        problem, start=Latent(torch.zeros(3, 2)), cost=replace(problem.cost, goal=goal)
    )
    plan = problem.solved_by(planner_class(horizon=1))
    assert plan.actions[0].numpy() == pytest.approx([0.5, -0.3], abs=0.15)


# Many together, and callers of all kinds.


def test_problems_that_are_planned_together_get_the_plans_they_get_alone(any_class, make_any):
    goals = ((1.5, -0.7), (-3.0, 2.0), (0.0, 0.1))
    made = [make_any(any_class, goal, reduction="mean") for goal in goals]
    planner = any_class(horizon=3)
    together = plan_together(planner, made[0].world, [problem_of(m, s) for s, m in enumerate(made)])
    for seed, (one, plan) in enumerate(zip(made, together, strict=True)):
        alone = one.solved_by(planner, seed=seed)
        torch.testing.assert_close(plan.actions, alone.actions, atol=1e-4, rtol=0)
        assert plan.cost == pytest.approx(alone.cost, rel=1e-4, abs=1e-6)
        assert plan.num_rollouts == alone.num_rollouts


def test_searches_of_one_planner_that_go_on_in_turns_share_nothing(any_class, make_any):
    """The second search begins and ends between two rounds of the first."""
    planner = any_class(horizon=3)
    first, second = make_any(any_class), make_any(any_class, (-3.0, 2.0))
    alone = first.solved_by(planner)
    calls = []

    def disturbed(imagined, actions):
        if len(calls) == 1:
            second.solved_by(planner, seed=5)
        calls.append(1)
        return first.cost(imagined, actions)

    assert_same_plan(alone, first.solved_by(planner, cost=disturbed))


def test_it_plans_for_a_caller_in_inference_mode(any_class, make_any):
    problem = make_any(any_class)
    plan = problem.solved_by(any_class(horizon=3))
    with torch.inference_mode():
        same = problem.solved_by(any_class(horizon=3))
        again = problem.solved_by(any_class(horizon=3), previous_plan=same, executed_steps=1)
    assert_same_plan(plan, same)
    assert again.actions.isfinite().all()


def test_a_callers_autocast_does_not_blur_actions(any_class, make_any):
    """Choices held for two steps are decoded by a product, which autocast would do in bfloat16."""
    problem, planner = make_any(any_class), any_class(horizon=4, parameterization=Repeat(2))
    plan = problem.solved_by(planner)
    again = problem.solved_by(planner, previous_plan=plan, executed_steps=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_plan(plan, problem.solved_by(planner))
        same = problem.solved_by(planner, previous_plan=plan, executed_steps=2)
    assert_same_plan(again, same)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64], ids=str)
def test_actions_are_float32_at_the_least_whatever_the_latents(any_class, make_any, dtype):
    problem = make_any(any_class)
    problem = replace(problem, start=problem.start.map(lambda part: part.to(dtype)))
    plan = problem.solved_by(any_class(horizon=3))
    again = problem.solved_by(any_class(horizon=3), previous_plan=plan, executed_steps=1)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    for found in (plan, again):
        assert {found.actions.dtype, found.mean.dtype, found.spread.dtype} == {expected}
    assert plan.cost == pytest.approx(problem.cost_of(plan.actions), rel=1e-4, abs=1e-6)


def test_numpys_global_randomness_is_neither_read_nor_changed(any_class, make_any):
    problem = make_any(any_class)
    np.random.seed(0)
    before = np.random.get_state()
    plan = problem.solved_by(any_class(horizon=2))
    after = np.random.get_state()
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))
    np.random.seed(1)
    assert_same_plan(plan, problem.solved_by(any_class(horizon=2)))


def test_a_warm_start_helps_where_there_is_little_time(any_class, make_any):
    best = CEM(horizon=8) if any_class in CONTINUOUS else any_class(horizon=8)
    cold, warm = [], []
    for seed in range(8):
        problem = make_any(any_class, (5.0, 3.0, 0.0, 0.0), reduction="mean")
        previous = problem.solved_by(best, seed=100 + seed)
        options = {"seed": seed, "deadline_seconds": 1e-9}
        cold.append(problem.solved_by(any_class(horizon=8), **options).cost)
        warm.append(problem.solved_by(any_class(horizon=8), previous_plan=previous, **options).cost)
    assert np.mean(warm) < 0.95 * np.mean(cold)


# Worlds whose answers can be worked out by hand.


def test_it_stays_out_of_a_disc_and_goes_as_near_as_it_may(planner_class, make_problem):
    """The goal lies in a forbidden disc of radius 0.4: the nearest allowed point is on its rim."""
    problem = make_problem((0.6, 0.0))

    def kept_out(imagined, actions):
        end = imagined.tokens[:, -1, 0]
        is_inside = (end - torch.tensor([0.7, 0.0])).norm(dim=-1) < 0.4
        return torch.where(is_inside, torch.inf, problem.cost(imagined, actions))

    plan = problem.solved_by(planner_class(horizon=1), cost=kept_out)
    assert plan.actions[0].numpy() == pytest.approx([0.3, 0.0], abs=0.15)
    assert 0.3**2 <= plan.cost < 0.36**2
    assert plan.num_ruled_out > 0


def test_it_leaves_a_valley_for_a_deeper_one(planner_class, make_problem):
    """Cost 0.2 sin²(4 pi x) + (x - 0.5)²: valleys at every quarter, the deepest is at 0.5."""
    problem = make_problem((0.0, 0.0))

    def valleys(imagined, actions):
        end = imagined.tokens[:, -1, 0]
        return (0.2 * (4 * torch.pi * end).sin().square() + (end - 0.5).square()).sum(-1)

    plan = problem.solved_by(planner_class(horizon=1), cost=valleys)
    assert plan.actions[0].numpy() == pytest.approx([0.5, 0.5], abs=0.06)


def test_a_parameterization_is_searched_and_decoded(planner_class, make_problem):
    """Two choices, each held for two steps: their sum, twice, is the goal."""
    problem = make_problem((1.5, -0.8))
    plan = problem.solved_by(planner_class(horizon=4, parameterization=Repeat(2)))
    assert torch.equal(plan.actions[0], plan.actions[1])
    assert torch.equal(plan.actions[2], plan.actions[3])
    assert plan.spread.shape == plan.mean.shape == (4, 2)
    assert plan.actions.sum(0).numpy() == pytest.approx([1.5, -0.8], abs=0.25)


def test_a_step_that_leaves_nothing_to_choose_is_kept(planner_class, make_problem):
    made = make_problem((1.5, -0.8))
    spec = replace(made.action_spec, max_change=(0.5, 0.5))
    previous = torch.tensor([0.9, 0.1])
    plan = replace(made, action_spec=spec).solved_by(
        planner_class(horizon=3), previous_action=previous
    )
    changes = torch.cat((previous[None], plan.actions)).diff(dim=0)
    assert (changes.abs() <= 0.5 + 1e-6).all()


# Choices.


def test_a_planner_of_continuous_actions_refuses_choices(planner_class, make_choices):
    match = (
        rf"{planner_class.__name__} plans continuous actions, these are one_hot "
        r"\(choice0, choice1\); use another planner, for example CategoricalCEM"
    )
    with pytest.raises(ValueError, match=match):
        make_choices((1.0, 1.0)).solved_by(planner_class(horizon=2))


def test_a_planner_of_choices_refuses_continuous_actions(chooser_class, make_problem):
    match = rf"{chooser_class.__name__} plans one_hot actions, these are continuous \(a0, a1\)"
    with pytest.raises(ValueError, match=match):
        make_problem((1.0, 1.0)).solved_by(chooser_class(horizon=2))


def test_choices_are_rows_with_a_one_and_add_up_to_the_goal(chooser_class, make_choices):
    problem = make_choices((3.0, 0.0, 2.0))
    for seed in range(3):
        plan = problem.solved_by(chooser_class(horizon=5), seed=seed)
        assert plan.cost == 0
        assert plan.actions.sum(0).tolist() == [3, 0, 2]
        for actions in (plan.actions, plan.elites, *problem.world.imagined):
            assert ((actions == 0) | (actions == 1)).all()
            assert (actions.sum(-1) == 1).all()
        assert plan.saturation == 0  # a choice is no limit


def test_a_choice_without_a_finite_cost_is_never_made(chooser_class, make_choices):
    problem = make_choices((3.0, 0.0))

    def first_is_forbidden(imagined, actions):
        costs = problem.cost(imagined, actions)
        return torch.where(actions[:, 0, 0] == 1, torch.nan, costs)

    plan = problem.solved_by(chooser_class(horizon=3), cost=first_is_forbidden)
    assert plan.actions.tolist() == [[0, 1], [1, 0], [1, 0]]


@pytest.fixture
def steep():
    @dataclass(frozen=True)
    class Steep:
        """A cost that is finite for the very first call only."""

        calls: list

        def __call__(self, imagined, actions):
            self.calls.append(1)
            costs = imagined.tokens.square().sum((1, 2, 3))
            return costs if len(self.calls) == 1 else costs * torch.nan

    return Steep


def test_rounds_without_a_finite_cost_leave_the_best_of_before(any_class, make_any, steep):
    problem = make_any(any_class)
    plan = problem.solved_by(any_class(horizon=2), cost=steep([]))
    assert plan.actions.isfinite().all()
    assert plan.mean.isfinite().all()
    assert plan.cost == plan.best_costs[0]
    first = len(problem.world.imagined[0])
    assert plan.num_ruled_out == plan.num_rollouts - first
