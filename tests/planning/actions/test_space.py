"""Bounds of actions, and what is refused before it can reach an actuator."""

import numpy as np
import pytest
import torch

from planning.actions.limits import Gripper, NormLimit, StepBounds
from planning.actions.space import ActionSpec, ActionSteps
from planning.planners.cem import CEM

SPEC = ActionSpec(("dx", "grip"), ("metre", "1"), (-0.5, 0.0), (0.25, 1.0))
NAN, INF = float("nan"), float("inf")


def test_an_action_inside_the_bounds_comes_back_as_it_is():
    action = SPEC.validate([0.125, 0.5])
    assert action.dtype == np.float32
    assert action.tolist() == [0.125, 0.5]


def test_an_action_outside_is_clipped_to_its_own_bound():
    assert SPEC.validate(np.array([-3.0, 1e30])).tolist() == [-0.5, 1.0]
    assert SPEC.validate(np.array([3.0, -1e30])).tolist() == [0.25, 0.0]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_an_action_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="action must be finite, got"):
        SPEC.validate(np.array([0.1, bad]))


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_number_too_large_for_float32_is_refused():
    with pytest.raises(ValueError, match="action must be finite, got"):
        SPEC.validate(np.array([1e308, 0.1]))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2)])
def test_an_action_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"action must have shape \(2,\), got"):
        SPEC.validate(np.zeros(shape))


def test_what_is_validated_is_a_copy():
    given = np.array([0.1, 0.2], dtype=np.float32)
    SPEC.validate(given)[:] = 7
    assert given.tolist() == pytest.approx([0.1, 0.2])


def test_every_validated_action_is_inside_whatever_came():
    generator = np.random.default_rng(0)
    for exponent in range(-45, 38):
        action = SPEC.validate(generator.normal(size=2) * 10.0**exponent)
        assert (action >= SPEC.low).all()
        assert (action <= SPEC.high).all()


def test_clip_works_on_many_sequences_and_keeps_the_type():
    actions = torch.tensor([[[-9.0, -9.0]], [[9.0, 9.0]], [[0.1, 0.2]]], dtype=torch.float64)
    clipped = SPEC.clip(actions)
    assert clipped.tolist() == [[[-0.5, 0.0]], [[0.25, 1.0]], [[0.1, 0.2]]]
    assert clipped.dtype == torch.float64


def test_samples_fill_the_bounds_evenly():
    generator = np.random.default_rng(0)
    samples = np.stack([SPEC.sample(generator) for _ in range(4000)])
    assert samples.dtype == np.float32
    assert (samples >= SPEC.low).all()
    assert (samples <= SPEC.high).all()
    # Uniform on [low, high]: mean in the middle, std of width / sqrt(12).
    assert samples.mean(0) == pytest.approx([-0.125, 0.5], abs=0.02)
    assert samples.std(0) == pytest.approx(np.array([0.75, 1.0]) / 12**0.5, rel=0.03)


def test_the_number_of_dimensions_is_that_of_the_names():
    assert SPEC.dim == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("a", "b"), ("1",), (0.0,), (1.0,)), "must have the same length >= 1, got 2, 1, 1 and 1"),
        (((), (), (), ()), "must have the same length >= 1, got 0, 0, 0 and 0"),
        (
            (("a",), ("1",), (1.0,), (1.0,)),
            r"'a' needs finite bounds with low < high, got \[1.0, 1.0",
        ),
        (
            (("a",), ("1",), (2.0,), (1.0,)),
            r"'a' needs finite bounds with low < high, got \[2.0, 1.0",
        ),
        (
            (("a",), ("1",), (NAN,), (1.0,)),
            r"'a' needs finite bounds with low < high, got \[nan, 1.0",
        ),
        (
            (("a",), ("1",), (0.0,), (INF,)),
            r"'a' needs finite bounds with low < high, got \[0.0, inf",
        ),
    ],
    ids=str,
)
def test_bounds_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ActionSpec(*arguments)


# One action of a world model, several steps of an environment.


def test_steps_one_after_the_other_are_joined_side_by_side_and_split_again():
    steps = ActionSteps(3)
    joined = steps.joined(SPEC)
    assert joined.names == ("dx@0", "grip@0", "dx@1", "grip@1", "dx@2", "grip@2")
    assert (joined.low, joined.high) == ((-0.5, 0.0) * 3, (0.25, 1.0) * 3)
    plan = torch.arange(12.0).reshape(2, 6)
    assert steps.split(plan).tolist() == torch.arange(12.0).reshape(6, 2).tolist()


def test_a_repeated_action_is_the_same_in_every_step():
    steps = ActionSteps(2, "repeated")
    assert steps.joined(SPEC) == SPEC
    assert steps.split(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [
        [1, 2], [1, 2], [3, 4], [3, 4],
    ]  # fmt: skip


def test_every_step_does_its_part_of_a_sum_and_stays_inside_its_bounds():
    steps = ActionSteps(4, "in_equal_parts")
    joined = steps.joined(SPEC)
    assert (joined.low, joined.high) == ((-2.0, 0.0), (1.0, 4.0))
    parts = steps.split(torch.tensor([joined.high, joined.low]))
    assert parts.tolist() == [list(SPEC.high)] * 4 + [list(SPEC.low)] * 4


def test_a_gripper_snaps_in_every_step_as_its_sum_does():
    """Four steps of 0.75 are a sum of 3: closed in both; of 0.5 and 2 in neither."""
    gripper = Gripper("grip", threshold=0.6)
    spec = ActionSpec(("dx", "grip"), ("metre", "1"), (-0.5, 0.0), (0.25, 1.0), grippers=(gripper,))
    joined = ActionSteps(4, "in_equal_parts").joined(spec)
    sums = joined.limit(torch.tensor([[0.0, 3.0], [0.0, 2.0]]))
    assert sums[:, 1].tolist() == [4, 0]
    assert [spec.validate([0.0, part])[1] for part in (0.75, 0.5)] == [1, 0]


def test_one_step_changes_nothing():
    plan = torch.rand(3, 2)
    for way in ("one_after_the_other", "repeated", "in_equal_parts"):
        assert ActionSteps(1, way).joined(SPEC) == SPEC
        assert torch.equal(ActionSteps(1, way).split(plan), plan)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        ActionSteps(0)


# More limits, by hand. A hand that moves by (x, y) metres, and a gripper.

ARM = ("x", "y", "grip"), ("metre", "metre", "1"), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0)
LINE = ("a",), ("1",), (-4.0,), (4.0,)


def line(**limits):
    return ActionSpec(*LINE, **limits)


def arm(**limits):
    return ActionSpec(*ARM, **limits)


def limited(spec, values, previous=None):
    previous = None if previous is None else torch.tensor(previous, dtype=torch.float64)
    return spec.limit(torch.tensor(values, dtype=torch.float64), previous).tolist()


def test_without_further_limits_the_nearest_is_clipped():
    assert limited(arm(), [[2.0, -0.5, -1.0]]) == [[1, -0.5, 0]]
    assert limited(SPEC, [[9.0, 9.0]], previous=[0.0, 0.0]) == [[0.25, 1]]


def test_an_action_changes_by_no_more_than_it_may_from_the_one_before():
    spec = line(max_change=(1.0,))
    steep = [[0.5], [3.0], [3.0], [-3.0]]
    assert limited(spec, steep) == [[0.5], [1.5], [2.5], [1.5]]  # the first is free
    assert limited(spec, steep, previous=[-2.0]) == [[-1], [0], [1], [0]]


def test_changes_are_counted_from_what_was_limited_and_not_from_what_was_wished():
    """Wished (4, 1): 4 becomes 1, and 1 is near to that, though it is far from 4."""
    assert limited(line(max_change=(1.0,)), [[4.0], [1.0]], previous=[0.0]) == [[1], [1]]


def test_an_infinite_change_is_no_limit():
    spec = arm(max_change=(0.25, INF, INF))
    assert limited(spec, [[1.0, 1.0, 1.0]], previous=[0.0, -1.0, 0.0]) == [[0.25, 1, 1]]


def test_an_action_before_that_was_outside_counts_as_the_nearest_inside():
    spec = line(max_change=(1.0,))
    assert limited(spec, [[-9.0]], previous=[100.0]) == [[3]]  # from 4, not from 100


def test_a_part_of_the_action_is_kept_short_and_the_rest_left_alone():
    spec = arm(norm_limits=(NormLimit(("x", "y"), 0.5),))
    assert limited(spec, [[0.6, -0.8, 0.9]])[0] == pytest.approx([0.3, -0.4, 0.9])
    spec = arm(norm_limits=(NormLimit(("y", "x"), 0.5, order=1),))
    assert limited(spec, [[0.1, -0.8, 0.9]])[0] == pytest.approx([0.0, -0.5, 0.9])


def test_norm_and_change_hold_together_and_give_the_nearest_of_both():
    """From (0.6, 0) with changes of 0.2 to (9, 9): the corner (0.8, 0.2) is too long for 0.7."""
    spec = arm(norm_limits=(NormLimit(("x", "y"), 0.7),), max_change=(0.2, 0.2, INF))
    x, y, _ = limited(spec, [[9.0, 9.0, 0.0]], previous=[0.6, 0.0, 0.0])[0]
    assert (x, y) == pytest.approx(((0.49 - 0.04) ** 0.5, 0.2))


def test_a_gripper_opens_or_closes():
    spec = arm(grippers=(Gripper("grip"),))
    assert limited(spec, [[0.1, 0.2, 0.4], [0.1, 0.2, 0.6]]) == [[0.1, 0.2, 0], [0.1, 0.2, 1]]
    assert spec.validate([0.5, 0.5, 0.7]).tolist() == [0.5, 0.5, 1]


def test_bounds_of_steps_narrow_a_part_of_the_plan():
    """The official planner's close_gripper=2: the gripper is pinned to 1 from step 2 on."""
    closed = StepBounds(2, (-1.0, -1.0, 1.0), (1.0, 1.0, 1.0))
    spec = arm(step_bounds=(closed,))
    plan = limited(spec, [[0.5, 0.5, 0.25]] * 4)
    assert [grip for _, _, grip in plan] == [0.25, 0.25, 1, 1]
    low, high = spec.step_limits(3, like=torch.zeros(1))
    assert low.tolist() == [[-1, -1, 0], [-1, -1, 0], [-1, -1, 1]]
    assert high.tolist() == [[1, 1, 1]] * 3


def test_the_limits_of_the_released_2_ac_planner_can_be_said():
    """A box of 0.075 m, no turn, a gripper within 0.75 that does nothing below 0.25."""
    turn = 3.14159
    spec = ActionSpec(
        ("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
        ("metre",) * 3 + ("radian",) * 3 + ("1",),
        (-0.075,) * 3 + (-turn,) * 3 + (-0.75,),
        (0.075,) * 3 + (turn,) * 3 + (0.75,),
        grippers=(Gripper("gripper", "dead_zone", 0.25),),
        step_bounds=(
            StepBounds(
                0, (-0.075,) * 3 + (0.0,) * 3 + (-0.75,), (0.075,) * 3 + (0.0,) * 3 + (0.75,)
            ),
        ),
    )
    wished = [[0.2, -0.05, -0.2, 1.0, 1.0, 1.0, 0.2], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0]]
    assert limited(spec, wished) == [
        [0.075, -0.05, -0.075, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, -0.75],
    ]


def test_bounds_of_steps_hold_until_the_next_begin():
    spec = line(step_bounds=(StepBounds(1, (0.0,), (1.0,)), StepBounds(2, (-4.0,), (4.0,))))
    assert limited(spec, [[3.0]] * 4) == [[3], [1], [3], [3]]


def test_before_narrow_bounds_a_plan_is_already_near_enough_to_reach_them():
    spec = line(max_change=(1.0,), step_bounds=(StepBounds(2, (3.0,), (4.0,)),))
    assert limited(spec, [[-4.0]] * 3) == [[1], [2], [3]]


def test_a_start_too_far_from_narrow_bounds_approaches_them_as_quickly_as_it_may():
    spec = line(max_change=(1.0,), step_bounds=(StepBounds(2, (3.0,), (4.0,)),))
    assert limited(spec, [[-4.0]] * 6, previous=[-2.0]) == [[-1], [0], [1], [2], [3], [3]]


def test_where_narrow_bounds_would_make_it_too_long_the_norm_is_kept():
    """x must be 0.9 at once, y may fall by 0.01 only: then it is x that gives way."""
    spec = arm(
        max_change=(0.9, 0.01, INF),
        norm_limits=(NormLimit(("x", "y"), 1.0),),
        step_bounds=(StepBounds(0, (0.9, -1.0, 0.0), (1.0, 1.0, 1.0)),),
    )
    x, y, _ = limited(spec, [[0.9, 1.0, 0.0]], previous=[0.0, 1.0, 0.0])[0]
    assert x**2 + y**2 <= 1
    assert 0.99 - 1e-9 <= y <= 1


def test_a_single_action_is_validated_with_all_limits_but_those_of_steps():
    spec = arm(
        norm_limits=(NormLimit(("x", "y"), 0.5),),
        max_change=(0.1, INF, INF),
        step_bounds=(StepBounds(0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),),
    )
    assert spec.validate([0.6, -0.8, 0.9]).tolist() == pytest.approx([0.3, -0.4, 0.9])
    after = spec.validate([0.6, 0.0, 0.0], previous_action=np.array([0.2, 0.0, 0.0]))
    assert after.tolist() == pytest.approx([0.3, 0, 0])


def test_samples_are_uniform_inside_norm_and_bounds():
    spec = arm(norm_limits=(NormLimit(("x", "y"), 0.5),))
    generator = np.random.default_rng(0)
    samples = np.stack([spec.sample(generator) for _ in range(3000)])
    radii = np.linalg.norm(samples[:, :2], axis=1)
    assert radii.max() <= 0.5
    # Uniform in a disc: the mean distance from the middle is 2/3 of the radius.
    assert radii.mean() == pytest.approx(1 / 3, rel=0.03)
    assert samples[:, 2].mean() == pytest.approx(0.5, abs=0.03)
    assert set(arm(grippers=(Gripper("grip"),)).sample(generator)[2:]) <= {0.0, 1.0}


# Choices.

CHOICES = ActionSpec(("left", "stay", "right"), ("1",) * 3, (0.0,) * 3, (1.0,) * 3, "one_hot")


def test_the_nearest_choice_is_that_of_the_largest_value():
    assert limited(CHOICES, [[0.2, 0.5, 0.4], [9.0, -3.0, 1.0]]) == [[0, 1, 0], [1, 0, 0]]


def test_the_gradient_of_a_choice_is_that_of_the_values():
    values = torch.tensor([[0.2, 0.5, 0.4]], requires_grad=True)
    (CHOICES.limit(values) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert values.grad.tolist() == [[1, 2, 3]]


def test_choices_are_drawn_with_the_same_probability():
    generator = np.random.default_rng(0)
    samples = np.stack([CHOICES.sample(generator) for _ in range(3000)])
    assert samples.dtype == np.float32
    assert (samples.sum(1) == 1).all()
    assert samples.mean(0) == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize("bad", [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0], [2, -1, 0]])
def test_an_action_that_is_no_choice_is_refused(bad):
    with pytest.raises(ValueError, match="one of 3 choices: exactly one 1, all others 0, got"):
        CHOICES.validate(bad)
    assert CHOICES.validate([0, 1, 0]).tolist() == [0, 1, 0]


@pytest.mark.parametrize("bad", [[0.0], [0.0, NAN, 0.0], [[0.0, 0.0, 0.0]]])
def test_a_previous_action_that_is_none_of_the_environment_is_refused(bad):
    with pytest.raises(ValueError, match=r"previous_action must be \(3,\) finite numbers, what"):
        arm().checked_previous_action(torch.tensor(bad))


# Limits of several steps in one action.

MANY = arm(
    max_change=(0.25, 0.5, INF),
    norm_limits=(NormLimit(("x", "y"), 0.8),),
    grippers=(Gripper("grip", threshold=0.25),),
    step_bounds=(StepBounds(4, (-0.5, -1.0, 1.0), (0.5, 1.0, 1.0)),),
)


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_changes_are_limited_inside_a_joined_action_and_across_actions(num_steps):
    """One action after the other is the same plan of the environment, so the same limits."""
    steps = ActionSteps(num_steps)
    spec = steps.joined(MANY)
    assert spec.num_steps == num_steps
    wished = torch.randn((5, 8, 3), generator=torch.Generator().manual_seed(0))
    previous = torch.tensor([0.6, 0.1, 0.0])
    joined = wished.reshape(5, 8 // num_steps, -1)
    expected = MANY.limit(wished, previous)
    assert torch.equal(spec.limit(joined, previous).reshape(5, 8, 3), expected)
    assert torch.equal(steps.split(spec.limit(joined, previous)[0]), expected[0])


@pytest.mark.parametrize("way", ["one_after_the_other", "repeated", "in_equal_parts"])
def test_what_an_admissible_action_of_the_model_is_split_into_is_admissible(way):
    steps = ActionSteps(2, way)
    spec = steps.joined(MANY)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        wished = 3 * torch.randn((6, spec.dim), generator=generator, dtype=torch.float64)
        previous = MANY.limit(torch.randn((1, 3), generator=generator, dtype=torch.float64))[0]
        plan = steps.split(spec.limit(wished, previous))
        assert torch.allclose(MANY.limit(plan, previous), plan, atol=1e-12, rtol=0)


def test_joined_bounds_of_steps_are_inside_those_of_every_step():
    spec = ActionSteps(2, "repeated").joined(line(step_bounds=(StepBounds(3, (1.0,), (2.0,)),)))
    assert limited(spec, [[9.0]] * 3) == [[4], [2], [2]]  # step 3 is part of action 1
    clash = (StepBounds(2, (1.0,), (2.0,)), StepBounds(3, (3.0,), (4.0,)))
    with pytest.raises(ValueError, match=r"action 1 .* spans 2 steps .* multiple of 2"):
        ActionSteps(2, "repeated").joined(line(step_bounds=clash))


def test_equal_parts_are_measured_from_the_part_that_was_executed_last():
    """A step may change by 1, so the sum of 4 by 4: from 0.5 a step to 1.5 a step."""
    spec = ActionSteps(4, "in_equal_parts").joined(line(max_change=(1.0,)))
    assert limited(spec, [[16.0], [16.0]], previous=[0.5]) == [[6], [10]]


def test_choices_side_by_side_are_choices_and_have_no_sum():
    spec = ActionSteps(2).joined(CHOICES)
    assert (spec.kind, spec.num_steps, spec.dim) == ("one_hot", 2, 6)
    assert limited(spec, [[0.1, 0.9, 0.2, 0.3, 0.2, 0.1]]) == [[0, 1, 0, 1, 0, 0]]
    assert spec.validate([0, 1, 0, 1, 0, 0]).tolist() == [0, 1, 0, 1, 0, 0]
    with pytest.raises(ValueError, match="exactly one 1"):
        spec.validate([1, 1, 0, 0, 0, 0])
    assert spec.sample(np.random.default_rng(0)).reshape(2, 3).sum(1).tolist() == [1, 1]
    with pytest.raises(ValueError, match="have no sum; use ActionSteps"):
        ActionSteps(2, "in_equal_parts").joined(CHOICES)


# For whatever comes: random limits, random wishes.


def random_spec(generator):
    dim = int(generator.integers(2, 6))
    low = generator.uniform(-2, 0, dim)
    high = generator.uniform(0.1, 2, dim)
    change = np.where(generator.random(dim) < 0.7, generator.uniform(0.05, 1, dim), INF)
    names = tuple(f"a{column}" for column in range(dim))
    grippers = ()
    if generator.random() < 0.5:
        grippers, change[-1] = (Gripper(names[-1]),), INF
    normed = tuple(generator.permutation(names[: dim - 1])[: int(generator.integers(1, dim))])
    order = int(generator.integers(1, 3))
    return ActionSpec(
        names,
        ("1",) * dim,
        tuple(low),
        tuple(high),
        max_change=tuple(change) if generator.random() < 0.8 else None,
        norm_limits=(NormLimit(normed, generator.uniform(0.1, 2), order),),
        grippers=grippers,
    )


def assert_admissible(actions, spec, previous, *, tolerance=1e-6):
    """Says so of (..., horizon, dim) in other words than the spec's."""
    assert (actions >= np.array(spec.low) - tolerance).all()
    assert (actions <= np.array(spec.high) + tolerance).all()
    for limit in spec.norm_limits:
        part = actions[..., [spec.names.index(name) for name in limit.names]]
        assert (np.linalg.norm(part, limit.order, axis=-1) <= limit.max_norm + tolerance).all()
    for gripper in spec.grippers:
        column = spec.names.index(gripper.name)
        ends = np.array([spec.low[column], spec.high[column]], actions.dtype)
        assert np.isin(actions[..., column], ends).all()
    if spec.max_change is not None:
        before = np.broadcast_to(previous, (*actions.shape[:-2], 1, spec.dim))
        changes = np.abs(np.diff(np.concatenate([before, actions], axis=-2), axis=-2))
        assert (changes <= np.array(spec.max_change) + tolerance).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whatever_is_wished_what_comes_back_is_admissible_and_stays_as_it_is(dtype):
    generator = np.random.default_rng(0)
    for trial in range(60):
        spec = random_spec(generator)
        size = 10.0 ** generator.integers(-2, 4)
        wished = torch.from_numpy(size * generator.normal(size=(4, 6, spec.dim))).to(dtype)
        previous = torch.from_numpy(spec.sample(generator)).to(dtype)
        once = spec.limit(wished, previous)
        assert once.dtype == dtype, trial
        assert_admissible(once.numpy(), spec, previous.numpy())
        assert torch.equal(spec.limit(once, previous), once), trial


def test_each_sequence_of_a_batch_is_limited_by_itself():
    generator = np.random.default_rng(1)
    for _ in range(10):
        spec = random_spec(generator)
        wished = torch.from_numpy(generator.normal(size=(2, 3, 4, spec.dim)))
        together = spec.limit(wished)
        alone = [[spec.limit(sequence) for sequence in row] for row in wished]
        torch.testing.assert_close(together, torch.stack([torch.stack(row) for row in alone]))


def test_gradients_through_all_limits_are_finite():
    generator = np.random.default_rng(2)
    for _ in range(20):
        spec = random_spec(generator)
        wished = torch.from_numpy(3 * generator.normal(size=(5, 6, spec.dim))).requires_grad_()
        previous = torch.from_numpy(spec.sample(generator)).double()
        spec.limit(wished, previous).square().sum().backward()
        assert wished.grad.isfinite().all()


def test_a_nan_stays_one_and_is_never_made_an_action():
    for spec in (CHOICES, arm(grippers=(Gripper("grip"),)), MANY):
        wished = torch.full((2, 3), NAN)
        assert spec.limit(wished).isnan().all(), spec


# Raw units: a world model normalises by itself.


@pytest.fixture
def make_normalising_world():
    """Makes a world model whose actions have a mean and a std, and what its dynamics are told."""
    from jepa.models.encoder import VideoEncoder
    from jepa.models.latents import PatchTokens
    from jepa.models.world_model import ActionColumns, ColumnScaling, LatentWorldModel
    from planning.latent_world import LatentWorld

    def make(num_steps=1):
        dim = 2 * num_steps
        mean, std = (0.1, -0.2) * num_steps, (4.0, 0.5) * num_steps
        columns = ("dx", "dy") * num_steps, ("pixel",) * dim, (-9.0,) * dim, (9.0,) * dim
        mode = "concatenate" if num_steps > 1 else "recorded"
        encoder = VideoEncoder(
            image_size=32, clip_length_frames=2, patch_size=16, dim=24, depth=1, num_heads=2
        )
        model = LatentWorldModel(
            encoder,
            PatchTokens(),
            scaling=ColumnScaling((), (), mean, std),
            uses_state=False,
            dim=24,
            depth=1,
            num_heads=2,
            actions=ActionColumns(*columns, 4.0, mode, "equal", num_steps),
        )
        told, rollout = [], model.dynamics.rollout

        def listening(tokens, state, actions, **options):
            told.append(actions.detach().clone())
            return rollout(tokens, state, actions, **options)

        model.dynamics.rollout = listening
        return LatentWorld(model), told, torch.tensor(mean), torch.tensor(std)

    return make


@pytest.mark.parametrize("num_steps", [1, 2])
def test_limits_hold_in_raw_units_and_the_model_is_told_normalised_ones(
    make_normalising_world, num_steps
):
    """A std of 4 and one of 0.5: bounds of 1 are 0.25 and 2 when normalised, and never 1."""
    world, told, mean, std = make_normalising_world(num_steps)
    one = ActionSpec(("dx", "dy"), ("pixel",) * 2, (-1.0,) * 2, (1.0,) * 2, max_change=(0.75, 2.0))
    spec = world.action_steps.joined(one)
    plan = CEM(horizon=3, num_samples=64).plan(
        world,
        world.encode(np.zeros((32, 32, 3), np.uint8)),
        cost=lambda imagined, actions: -actions.sum((1, 2)),  # as large as it may be
        action_spec=spec,
        generator=torch.Generator().manual_seed(0),
        previous_action=torch.tensor([-1.0, 0.0]),
    )
    raw = torch.cat(told) * std + mean
    assert_admissible(raw.unflatten(-1, (-1, 2)).flatten(1, 2).numpy(), one, [-1.0, 0.0])
    assert plan.actions.reshape(-1, 2)[0, 0].item() == pytest.approx(-0.25)  # 0.75 from -1
    assert plan.actions.max().item() == pytest.approx(1, abs=0.05)
    normalised = torch.cat(told).reshape(-1, 2)
    assert normalised[:, 0].max() < 0.25  # (1 - 0.1) / 4
    assert 2.2 < normalised[:, 1].max() <= 2.4 + 1e-6  # (1 + 0.2) / 0.5
