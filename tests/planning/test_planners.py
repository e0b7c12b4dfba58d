"""What every planner owes, checked for each file of planning/planners/."""

import importlib
import pkgutil
from dataclasses import fields, is_dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

import planning.planners
from planning.planners.random_shooting import RandomShooting
from planning.types import Latent

NAN, INF = float("nan"), float("inf")


def planners_in(module):
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and is_dataclass(value)
        and hasattr(value, "plan")
    ]


MODULES = [
    importlib.import_module(f"{planning.planners.__name__}.{found.name}")
    for found in pkgutil.iter_modules(planning.planners.__path__)
]
CLASSES = [planner for module in MODULES for planner in planners_in(module)]


@pytest.fixture(params=CLASSES, ids=lambda planner: planner.__name__)
def planner_class(request):
    return request.param


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


def test_a_planner_is_frozen_and_its_plan_has_horizon_steps(planner_class, make_problem):
    planner = planner_class(horizon=3)
    with pytest.raises(AttributeError, match="horizon"):
        planner.horizon = 4
    plan = make_problem((0.5, -0.3)).solved_by(planner)
    for sequence in (plan.actions, plan.mean, plan.spread):
        assert sequence.shape == (3, 2)
        assert sequence.isfinite().all()
    assert plan.iterations == len(plan.best_costs) == len(plan.elite_costs)


def test_a_plan_counts_its_rollouts(planner_class, make_problem):
    problem = make_problem((0.5, -0.3))
    plan = problem.solved_by(planner_class(horizon=3))
    assert plan.num_rollouts == sum(len(batch) for batch in problem.world.imagined)


def test_a_plan_keeps_its_own_actions_alive_and_not_all_samples(planner_class, make_problem):
    plan = make_problem((0.5, -0.3)).solved_by(planner_class(horizon=3))
    assert plan.actions.untyped_storage().nbytes() == plan.actions.numel() * 4


@pytest.mark.parametrize("horizon", [0, -3])
def test_a_horizon_below_one_is_refused(planner_class, horizon):
    with pytest.raises(ValueError, match=f"horizon must be at least 1, got {horizon}"):
        planner_class(horizon=horizon)


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

    for seed in range(5):
        plan = problem.solved_by(planner_class(horizon=1), seed=seed, cost=nearer)
        x, y = plan.actions[0].tolist()
        assert (abs(x), y) == pytest.approx((0.6, 0.0), abs=0.15)


def test_of_two_goals_it_chooses_the_better_one(planner_class, make_problem):
    problem = make_problem((0.6, 0.0))
    goals = torch.tensor([[0.6, 0.0], [-0.6, 0.0]])

    def right_is_better(imagined, actions):
        squared = (imagined.tokens[:, -1] - goals).square().sum(-1)  # (samples, goals)
        return (squared + torch.tensor([0.0, 0.3])).min(-1).values

    for seed in range(5):
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
    for seed in range(5):
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


def test_the_best_cost_never_gets_worse_and_is_that_of_the_actions(planner_class, make_problem):
    for seed in range(5):
        problem = make_problem((3.0, -2.0), reduction="mean")
        plan = problem.solved_by(planner_class(horizon=6), seed=seed)
        assert all(after <= before for before, after in pairwise(plan.best_costs))
        assert plan.cost == plan.best_costs[-1]
        assert plan.cost == pytest.approx(problem.cost_of(plan.actions), rel=1e-5)
        assert all(m >= b for m, b in zip(plan.elite_costs, plan.best_costs, strict=True))


def test_the_plan_is_the_best_of_all_that_was_imagined(planner_class, make_problem):
    problem = make_problem((3.0, -2.0), reduction="mean")
    plan = problem.solved_by(planner_class(horizon=3))
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
        with pytest.raises(FloatingPointError, match=r"all .* imagined costs are NaN or infinite"):
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
    for seed in range(30):
        share = 0.999 * seed / 29

        def faulty(imagined, actions, share=share):
            costs = problem.cost(imagined, actions)
            chosen = values[torch.randint(3, costs.shape, generator=generator)]
            return torch.where(torch.rand(costs.shape, generator=generator) < share, chosen, costs)

        try:
            plan = problem.solved_by(planner, seed=seed, cost=faulty)
        except FloatingPointError:
            assert share > 0.9  # only where there may be no finite cost at all
            continue
        assert_inside(plan.actions, problem.action_spec)
        assert_inside(plan.mean, problem.action_spec)
        assert plan.cost == pytest.approx(problem.cost_of(plan.actions), rel=1e-4, abs=1e-6)


# Randomness and memory.


def test_the_same_seed_gives_the_same_plan_to_the_last_bit(planner_class, make_problem):
    problem = make_problem((1.5, -0.8), reduction="mean")
    planner = planner_class(horizon=4)
    plan = problem.solved_by(planner, seed=3)
    assert_same_plan(plan, problem.solved_by(planner, seed=3))
    assert_same_plan(plan, problem.solved_by(planner_class(horizon=4), seed=3))


def test_another_seed_imagines_other_actions(planner_class, make_problem):
    one, two = make_problem((1.5, -0.8)), make_problem((1.5, -0.8))
    one.solved_by(planner_class(horizon=4), seed=0)
    two.solved_by(planner_class(horizon=4), seed=1)
    first, other = one.world.imagined[0][1:], two.world.imagined[0][1:]  # the first is the mean
    assert (first == other).all((1, 2)).sum() == 0


def test_torchs_global_randomness_is_neither_read_nor_changed(planner_class, make_problem):
    problem = make_problem((1.5, -0.8))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    plan = problem.solved_by(planner_class(horizon=2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert_same_plan(plan, problem.solved_by(planner_class(horizon=2)))


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


# Time and size.


def test_a_deadline_that_cannot_be_kept_returns_after_one_iteration(planner_class, make_problem):
    problem = make_problem((0.5, -0.3))
    plan = problem.solved_by(planner_class(horizon=2), deadline_seconds=1e-9)
    assert plan.iterations == 1
    assert_inside(plan.actions, problem.action_spec)
    assert plan.cost == pytest.approx(problem.cost_of(plan.actions), rel=1e-5)


@pytest.mark.parametrize("seconds", [0, -1.0, NAN])
def test_a_deadline_that_is_none_is_refused(planner_class, make_problem, seconds):
    with pytest.raises(ValueError, match=f"deadline_seconds must be above 0, got {seconds}"):
        make_problem((0.5,)).solved_by(planner_class(horizon=1), deadline_seconds=seconds)


def test_a_deadline_that_is_far_away_changes_nothing(planner_class, make_problem):
    problem = make_problem((0.5, -0.3))
    plan = problem.solved_by(planner_class(horizon=2), deadline_seconds=1e6)
    assert_same_plan(plan, problem.solved_by(planner_class(horizon=2)))


def test_how_many_tokens_a_latent_has_is_the_worlds_affair(planner_class, make_problem):
    problem = make_problem((0.5, -0.3))
    start = Latent(torch.zeros(3, 2))
    plan = planner_class(horizon=1).plan(
        problem.world,
        start,
        cost=problem.cost,
        action_spec=problem.action_spec,
        generator=torch.Generator().manual_seed(0),
    )
    assert plan.actions[0].numpy() == pytest.approx([0.5, -0.3], abs=0.15)
