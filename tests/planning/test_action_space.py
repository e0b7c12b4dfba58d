"""Bounds of actions, and what is refused before it can reach an actuator."""

import numpy as np
import pytest
import torch

from planning.action_space import ActionSpec, ActionSteps

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


def test_one_step_changes_nothing():
    plan = torch.rand(3, 2)
    for way in ("one_after_the_other", "repeated", "in_equal_parts"):
        assert ActionSteps(1, way).joined(SPEC) == SPEC
        assert torch.equal(ActionSteps(1, way).split(plan), plan)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        ActionSteps(0)
