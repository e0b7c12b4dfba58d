"""Bounds of sequences, what they mean, and what is left of a plan, by hand."""

import importlib
import pkgutil
from dataclasses import replace

import pytest
import torch

import planning.planners
from planning.actions.limits import Gripper, NormLimit, StepBounds
from planning.actions.parameterization import PerStep, Repeat, SplineKnots
from planning.actions.space import ActionSpec, ActionSteps
from planning.planners.categorical_cem import CategoricalCEM
from planning.planners.cem import CEM
from planning.planners.random_shooting import RandomShooting
from planning.search.rounds import SearchPlanner
from planning.search.space import SearchSpace, WarmStart, first_distribution

SPEC = ActionSpec(("a", "b"), ("1", "1"), (-1.0, 2.0), (3.0, 3.0))
LINE = ActionSpec(("a",), ("1",), (-4.0,), (4.0,))


def space_of(spec=SPEC, horizon=3, **options):
    return SearchSpace.of(spec, horizon, like=torch.zeros(1), **options)


def test_every_step_has_the_bounds_of_the_actions():
    space = space_of()
    assert space.low.tolist() == [[-1, 2]] * 3
    assert space.high.tolist() == [[3, 3]] * 3
    assert space.middle.tolist() == [[1, 2.5]] * 3
    assert space.half_range.tolist() == [[2, 0.5]] * 3


def test_sequences_are_clipped_each_by_itself():
    clipped = space_of(horizon=1).clip(torch.tensor([[[-5.0, 9.0]], [[0.5, 2.5]]]))
    assert clipped.tolist() == [[[-1, 3]], [[0.5, 2.5]]]


def test_a_search_begins_in_the_middle_with_a_share_of_the_range():
    mean, std = first_distribution(space_of(), None, std=0.5, warm_std=9.0)
    assert mean.tolist() == [[1, 2.5]] * 3
    assert std.tolist() == [[1, 0.25]] * 3


def test_after_a_plan_it_is_narrow_where_the_plan_reaches_and_wide_beyond():
    space = space_of(LINE)
    warm = WarmStart.after(torch.tensor([[1.0], [2.0], [3.0]]), 1, space=space)
    mean, std = first_distribution(space, warm, std=0.5, warm_std=0.25)
    assert mean.flatten().tolist() == [2, 3, 3]
    assert std.flatten().tolist() == [1, 1, 2]


@pytest.mark.parametrize(("steps", "left", "planned"), [(0, [1, 2, 3], 3), (3, [3, 3, 3], 0)])
def test_nothing_and_everything_may_have_been_executed(steps, left, planned):
    warm = WarmStart.after(torch.tensor([[1.0], [2.0], [3.0]]), steps, space=space_of(LINE))
    assert (warm.sequence.flatten().tolist(), warm.num_planned) == (left, planned)


def test_a_plan_of_another_horizon_is_refused():
    with pytest.raises(ValueError, match=r"has actions \(4, 1\), this planner's are \(3, 1\)"):
        WarmStart.after(torch.zeros(4, 1), 1, space=space_of(LINE))


# What a sequence means.

MANY = [PerStep(), Repeat(2), Repeat(3), SplineKnots(1), SplineKnots(3, "linear"), SplineKnots(4)]


def random_sequences(space, *shape, seed=0, size=0.2):
    draws = torch.randn((*shape, *space.low.shape), generator=torch.Generator().manual_seed(seed))
    return space.middle + size * space.half_range * draws


@pytest.mark.parametrize("parameterization", MANY, ids=str)
def test_encoding_is_the_inverse_of_decoding(parameterization):
    space = space_of(horizon=7, parameterization=parameterization)
    sequences = random_sequences(space, 20)
    actions = space.decode(sequences)
    assert actions.shape == (20, 7, 2)
    torch.testing.assert_close(space.encode(actions), sequences, atol=2e-5, rtol=0)


def test_per_step_nothing_is_changed_to_the_last_bit():
    space = space_of(horizon=5)
    sequences = space.clip(random_sequences(space, 20, size=2.0))
    assert torch.equal(space.decode(sequences), sequences)
    assert torch.equal(space.encode(sequences), sequences)


def test_encoding_held_actions_averages_them():
    space = space_of(LINE, 4, parameterization=Repeat(2))
    chosen = space.encode(torch.tensor([[1.0], [2.0], [-1.0], [-4.0]]))
    assert chosen.flatten().tolist() == pytest.approx([1.5, -2.5])


def test_encoding_is_the_least_squares_fit_of_the_knots():
    space = space_of(LINE, 9, parameterization=SplineKnots(4))
    actions = torch.randn((9, 1), generator=torch.Generator().manual_seed(0)).double()
    weights = SplineKnots(4).weights(9)
    expected = torch.linalg.lstsq(weights, actions).solution
    torch.testing.assert_close(space.encode(actions.float()), expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("parameterization", MANY, ids=str)
def test_decoded_actions_are_inside_whatever_the_sequences(parameterization):
    space = space_of(horizon=7, parameterization=parameterization)
    for size in (0.5, 3.0, 1e6):
        actions = space.decode(random_sequences(space, 50, size=size))
        assert (actions >= torch.tensor(SPEC.low)).all()
        assert (actions <= torch.tensor(SPEC.high)).all()


def test_a_cubic_that_swings_over_the_bounds_is_clipped_there():
    line = replace(LINE, low=(0.0,), high=(1.0,))
    space = space_of(line, 9, parameterization=SplineKnots(4))
    knots = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    assert (space.weights @ knots).max() > 1.02
    assert space.decode(knots).max() == 1


def test_choices_have_the_bounds_of_the_steps_that_they_begin():
    spec = replace(LINE, step_bounds=(StepBounds(2, (0.0,), (1.0,)),))
    low, high = (space_of(spec, 4).low.flatten(), space_of(spec, 4).high.flatten())
    assert (low.tolist(), high.tolist()) == ([-4, -4, 0, 0], [4, 4, 1, 1])
    space = space_of(spec, 4, parameterization=Repeat(2))
    assert (space.low.flatten().tolist(), space.high.flatten().tolist()) == ([-4, 0], [4, 1])
    held = space_of(
        replace(LINE, step_bounds=(StepBounds(0, (0.0,), (1.0,)), StepBounds(1, (-4.0,), (4.0,)))),
        4, parameterization=Repeat(2),
    )  # fmt: skip
    assert (held.low.flatten().tolist(), held.high.flatten().tolist()) == ([-4, -4], [4, 4])


def test_the_spread_of_actions_is_that_of_the_choices_they_mix():
    space = space_of(LINE, 3, parameterization=SplineKnots(2, "linear"))
    spread = space.spread(torch.tensor([[1.0], [2.0]]))  # the middle is half of each
    assert spread.flatten().tolist() == pytest.approx([1, (0.25 + 1) ** 0.5, 2])
    assert space_of(LINE).spread(torch.ones(3, 1)).tolist() == [[1]] * 3


def test_a_plan_is_shifted_by_steps_before_it_is_told_in_choices():
    """(1, 1, 2, 2, 3, 3) after three steps: (2, 3, 3, 3, 3, 3), in pairs (2.5, 3, 3)."""
    space = space_of(LINE, 6, parameterization=Repeat(2))
    actions = torch.tensor([1.0, 1, 2, 2, 3, 3]).unsqueeze(1)
    warm = WarmStart.after(actions, 3, space=space)
    assert warm.sequence.flatten().tolist() == pytest.approx([2.5, 3, 3])
    assert warm.num_planned == 2  # steps 0 to 2 were planned: choices that begin at 0 and at 2


def test_a_straight_plan_shifted_is_still_on_the_line():
    space = space_of(LINE, 5, parameterization=SplineKnots(2, "linear"))
    warm = WarmStart.after(torch.arange(5.0).unsqueeze(1) / 2, 0, space=space)
    assert warm.sequence.flatten().tolist() == pytest.approx([0, 2])
    assert warm.num_planned == 2
    assert WarmStart.after(torch.zeros(5, 1), 1, space=space).num_planned == 1


def test_the_first_action_is_near_the_one_executed_last():
    spec = replace(LINE, max_change=(0.5,))
    space = space_of(spec, 3, previous_action=torch.tensor([1.0]))
    decoded = space.decode(torch.full((3, 1), 4.0))
    assert decoded.flatten().tolist() == [1.5, 2, 2.5]
    with pytest.raises(ValueError, match=r"previous_action must be \(1,\) finite numbers"):
        space_of(spec, 3, previous_action=torch.zeros(2))


# What planners imagine and return, with all limits at once.

LIMITS = ActionSpec(
    ("x", "y", "grip"),
    ("metre", "metre", "1"),
    (-0.5, -0.4, 0.0),
    (0.6, 0.5, 1.0),
    max_change=(0.1, 0.15, float("inf")),
    norm_limits=(NormLimit(("x", "y"), 0.55),),
    grippers=(Gripper("grip"),),
)


def assert_admissible(actions, previous):
    """Of the environment's actions (..., horizon, 3)."""
    assert (actions.abs() <= torch.tensor([0.6, 0.5, 1.0]) + 1e-6).all()
    assert (actions[..., :2].norm(dim=-1) <= 0.55 + 1e-6).all()
    assert ((actions[..., 2] == 0) | (actions[..., 2] == 1)).all()
    before = previous.expand(*actions.shape[:-2], 1, 3)
    changes = torch.cat([before, actions], dim=-2).diff(dim=-2).abs()
    assert (changes <= torch.tensor([0.1, 0.15, 1.0]) + 1e-6).all()


def continuous_planners():
    """Each that is a file of planning/planners/, as in test_planners.py."""
    modules = [
        importlib.import_module(f"planning.planners.{found.name}")
        for found in pkgutil.iter_modules(planning.planners.__path__)
    ]
    planners = {
        member
        for module in modules
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, SearchPlanner)
        and member.__module__ == module.__name__
    }
    continuous = [planner for planner in planners if planner.action_kind == "continuous"]
    return sorted(continuous, key=lambda planner: planner.__name__)


@pytest.mark.parametrize("planner", continuous_planners())
@pytest.mark.parametrize("parameterization", [PerStep(), SplineKnots(2)], ids=str)
def test_every_planner_imagines_and_returns_admissible_actions_only(
    planner, parameterization, make_problem
):
    made = replace(make_problem((5.0, 3.0, 9.0)), action_spec=LIMITS)
    previous = torch.tensor([0.2, -0.1, 1.0])
    planner = planner(horizon=3, parameterization=parameterization)
    plan = made.solved_by(planner, previous_action=previous)
    for actions in (*made.world.imagined, plan.actions, plan.mean):
        assert_admissible(actions, previous)
    assert plan.spread.shape == (3, 3)


@pytest.mark.parametrize("planner", [CEM, RandomShooting])
@pytest.mark.parametrize("parameterization", MANY, ids=str)
def test_planners_imagine_and_return_admissible_actions_only(
    planner, parameterization, make_problem
):
    made = replace(make_problem((5.0, 3.0, 9.0)), action_spec=LIMITS)
    previous = torch.tensor([0.2, -0.1, 1.0])
    planner = planner(horizon=6, num_samples=64, parameterization=parameterization)
    plan = made.solved_by(planner, previous_action=previous)
    for actions in (*made.world.imagined, plan.actions, plan.mean):
        assert_admissible(actions, previous)
    assert plan.spread.shape == (6, 3)
    # And again, from there.
    again = made.solved_by(
        planner, previous_plan=plan, executed_steps=1, previous_action=plan.actions[0]
    )
    assert_admissible(again.actions, plan.actions[0])
    assert again.cost == pytest.approx(made.cost_of(again.actions), rel=1e-5)


def test_steps_side_by_side_are_searched_one_after_the_other():
    """Two actions of three steps each: six steps, of which the plan executed the first three."""
    spec = ActionSteps(3).joined(SPEC)
    space = space_of(spec, 2)
    assert space.low.tolist() == [[-1, 2]] * 6
    assert (space.horizon, space.num_steps) == (2, 6)
    steps = torch.tensor([[0.1 * step, 2 + 0.1 * step] for step in range(6)])
    assert torch.equal(space.decode(steps), steps.reshape(2, 6))
    assert torch.equal(space.encode(steps.reshape(2, 6)), steps)
    assert space.spread(steps).shape == (2, 6)
    warm = WarmStart.after(steps.reshape(2, 6), 1, space=space)
    assert torch.equal(warm.sequence, steps[[3, 4, 5, 5, 5, 5]])  # the last step is repeated
    assert warm.num_planned == 3


def test_knots_reach_over_the_steps_of_the_environment():
    space = space_of(ActionSteps(2).joined(LINE), 3, parameterization=SplineKnots(2, "linear"))
    decoded = space.decode(torch.tensor([[-2.5], [2.5]]))
    torch.testing.assert_close(decoded, torch.tensor([[-2.5, -1.5], [-0.5, 0.5], [1.5, 2.5]]))


@pytest.mark.parametrize("way", ["one_after_the_other", "repeated", "in_equal_parts"])
def test_so_are_the_environments_actions_where_the_model_joins_steps(way, make_problem):
    steps = ActionSteps(2, way)
    spec = steps.joined(LIMITS)
    made = replace(make_problem((5.0,) * spec.dim), action_spec=spec)
    made.world.action_dim = spec.dim
    previous = torch.tensor([0.2, -0.1, 1.0])
    plan = made.solved_by(CEM(horizon=3, num_samples=64), previous_action=previous)
    assert_admissible(steps.split(plan.actions), previous)


def test_a_limit_of_change_makes_a_goal_slower_to_reach_by_hand(make_problem):
    """To 2 with changes of 0.5 from rest: 0.5, 1, 0.5 is there, and 0.5, 1, 1 is not."""
    made = make_problem((2.0,))
    spec = replace(made.action_spec, max_change=(0.5,))
    plan = replace(made, action_spec=spec).solved_by(
        CEM(horizon=3, num_samples=512), previous_action=torch.zeros(1)
    )
    assert plan.actions.sum().item() == pytest.approx(2, abs=0.05)
    assert plan.actions[0].item() <= 0.5 + 1e-6


def test_held_actions_find_the_goal_with_fewer_choices(make_problem):
    made = make_problem((1.5, -0.8))
    for parameterization in (Repeat(2), SplineKnots(2)):
        planner = CEM(horizon=4, parameterization=parameterization)
        plan = made.solved_by(planner)
        assert plan.actions.sum(0).tolist() == pytest.approx([1.5, -0.8], abs=0.1)
    held = made.solved_by(CEM(horizon=4, parameterization=Repeat(2))).actions
    assert torch.equal(held[0::2], held[1::2])


def test_more_knots_than_steps_are_refused(make_problem):
    with pytest.raises(ValueError, match="num_knots must be from 1 to the horizon 3, got 5"):
        make_problem((0.5,)).solved_by(CEM(horizon=3, parameterization=SplineKnots(5)))


def test_choices_side_by_side_are_chosen_each_by_itself(make_problem):
    """Two steps of three choices in one action: second and third. One row of six has one 1."""
    choices = ActionSpec(("a", "b", "c"), ("1",) * 3, (0.0,) * 3, (1.0,) * 3, "one_hot")
    made = make_problem((0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    made = replace(made, action_spec=ActionSteps(2).joined(choices))
    plan = made.solved_by(CategoricalCEM(horizon=1, num_samples=64))
    assert plan.actions.tolist() == [[0, 1, 0, 0, 0, 1]]
    assert plan.cost == pytest.approx(0)
