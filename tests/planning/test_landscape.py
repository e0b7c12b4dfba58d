"""The energy landscape: worlds whose shape is known, and what counts as flat."""

import numpy as np
import pytest
import torch

from planning.actions.space import ActionSpec, ActionSteps
from planning.control.goal_pursuit import NUM_TYPICAL_ACTIONS
from planning.landscape import (
    MIN_RELIEF,
    Landscape,
    energy_landscape,
    rank_correlation,
    true_distances,
)
from planning.types import Latent
from planning.verbs.situation import has_landscape

START, GOAL = np.array([8.0, 8.0]), np.array([8.0, 24.0])  # 16 pixels down, in one room


class ScaledWorld:
    """Reads the disc's place off the picture; actions move it by `gain`; NaN far to the left."""

    action_dim, seconds_per_step, device = 2, None, torch.device("cpu")

    def __init__(self, disc_position, gain=1.0, num_steps=1):
        self.disc_position, self.gain = disc_position, gain
        self.action_steps = ActionSteps(num_steps, "repeated")

    def encode(self, frame, state=None):
        return Latent(torch.from_numpy(self.disc_position(frame)).float()[None])

    def rollout(self, start, actions):
        scale = self.gain * self.action_steps.num_steps
        return Latent(start.tokens + scale * actions.cumsum(1).unsqueeze(2))

    def distance(self, latents, goal):
        return (latents - goal).norm(dim=-1).mean(-1)


@pytest.fixture
def seen(rooms, disc_position):
    """The landscape of a world, from START to GOAL."""

    def see(world=None, **options):
        environment = rooms()
        time_step = environment.reset(np.random.default_rng(0), start=START, goal=GOAL)
        world = world or ScaledWorld(disc_position)
        options = {"num_steps": 2, "num_cells": 5, **options}
        return energy_landscape(world, environment, time_step, **options)

    return see


def test_costs_are_those_of_holding_each_action_worked_out_by_hand(seen):
    landscape = seen()
    # Actions are at most 2.5; rows follow dy, columns dx. Held twice: mean of 16-dy and 16-2 dy.
    assert landscape.first.tolist() == landscape.second.tolist() == [-2.5, -1.25, 0, 1.25, 2.5]
    assert landscape.costs[4, 2] == pytest.approx((13.5 + 11.0) / 2, abs=0.01)
    assert landscape.costs[0, 2] == pytest.approx((18.5 + 21.0) / 2, abs=0.01)
    sideways = (np.hypot(16, 2.5) + np.hypot(16, 5)) / 2
    assert landscape.costs[2, 4] == pytest.approx(sideways, abs=0.01)
    assert landscape.start_distance == pytest.approx(16, abs=0.01)


def test_the_best_action_goes_straight_to_the_goal_and_the_simulator_agrees(seen):
    landscape = seen(goal_state=GOAL)
    assert landscape.best_action.tolist() == [0.0, 2.5]
    assert landscape.truly_best_action.tolist() == [0.0, 2.5]
    assert landscape.rank_correlation > 0.95
    assert landscape.warnings == ()


def test_true_distances_are_executed_with_walls(rooms):
    corner = np.array([5.0, 16.0])  # in reach of the left wall
    actions = np.array([[0.0, 0.0], [0.0, 2.0], [-2.5, 0.0]], np.float32)
    still, down, left = true_distances(rooms(), corner, corner + np.array([0.0, 10.0]), actions, 2)
    assert still == pytest.approx(10.0)
    assert down == pytest.approx((8.0 + 6.0) / 2)
    assert 10.0 <= left < np.hypot(10, 5)  # the wall stops it before five pixels


def test_relief_is_in_typical_steps_whatever_the_scale_of_the_latent(seen, disc_position):
    class Larger(ScaledWorld):
        def distance(self, latents, goal):
            return 1000 * super().distance(latents, goal)

    landscape = seen()
    larger = seen(Larger(disc_position))
    assert larger.relief == pytest.approx(landscape.relief, rel=1e-4)
    # 16 +- mean of one and two steps of 2.5; a typical step is the median length of an action
    span = landscape.costs.max() - landscape.costs.min()
    assert landscape.relief == pytest.approx(span / landscape.step_distance)
    assert 1.5 < landscape.step_distance < 2.5


def test_a_world_that_jumps_to_one_place_whatever_the_action_is_flat(seen, disc_position):
    class Jumps(ScaledWorld):
        def rollout(self, start, actions):
            jumped = super().rollout(start, 0.01 * actions)
            return Latent(jumped.tokens + 20.0)

    landscape = seen(Jumps(disc_position))
    assert landscape.is_flat and landscape.relief < MIN_RELIEF
    (warning,) = landscape.warnings
    assert warning.startswith("flat landscape: holding any action for 2 steps changes the cost by")
    assert not seen().is_flat


def test_a_world_in_which_nothing_moves_is_flat_and_has_no_contrast(seen, disc_position):
    landscape = seen(ScaledWorld(disc_position, gain=0.0), goal_state=GOAL)
    assert (landscape.relief, landscape.contrast) == (0.0, 0.0)
    assert landscape.is_flat
    assert landscape.rank_correlation is None


def test_a_world_that_takes_every_action_backwards_is_said_to_mislead(seen, disc_position):
    landscape = seen(ScaledWorld(disc_position, gain=-1.0), goal_state=GOAL)
    assert landscape.rank_correlation < -0.9
    assert "misleading landscape: the rank correlation" in landscape.warnings[0]
    assert not landscape.is_flat


def test_contrast_is_the_depth_of_the_lowest_point_in_standard_deviations(seen):
    landscape = seen()
    values = landscape.costs.ravel()
    assert landscape.contrast == pytest.approx((values.mean() - values.min()) / values.std())


def test_an_action_over_several_steps_is_held_in_each_of_them(seen, disc_position):
    wide = seen(ScaledWorld(disc_position, num_steps=2), num_steps=1)
    assert wide.costs[4, 2] == pytest.approx(11.0, abs=0.01)  # 16 - 2 * 2.5


def test_all_costs_nan_is_an_error_and_some_are_left_out(seen, disc_position):
    class Half(ScaledWorld):
        def rollout(self, start, actions):
            imagined = super().rollout(start, actions).tokens
            bad = (actions[:, 0, 0] < 0)[:, None, None, None] & (
                len(actions) != NUM_TYPICAL_ACTIONS
            )
            return Latent(torch.where(bad, torch.nan, imagined))

    landscape = seen(Half(disc_position))
    assert np.isinf(landscape.costs[:, :2]).all()
    assert np.isfinite(landscape.relief)
    assert landscape.to_json()["costs"][0][0] is None
    with pytest.raises(FloatingPointError, match="all 25 imagined costs are NaN"):
        seen(ScaledWorld(disc_position, gain=np.nan))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"axes": (0, 0)}, r"two of the 2 action dimensions of two_rooms \(dx, dy\), got 0, 0"),
        ({"axes": (0, 2)}, "got 0, 2"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"num_cells": 2}, "num_cells at least 3, got 2, 2"),
    ],
)
def test_settings_out_of_range_are_refused(seen, options, match):
    with pytest.raises(ValueError, match=match):
        seen(**options)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 400], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 - 6 * 4 / (5 * 24)
        ([1, 1, 1], [1, 2, 3], None),
        ([1, 2, np.nan, 3], [1, 2, -5, 3], 1.0),
    ],
)
def test_rank_correlation_equals_the_textbook_value(first, second, expected):
    found = rank_correlation(np.array(first, float), np.array(second, float))
    assert found == (None if expected is None else pytest.approx(expected))


def test_json_has_every_number(seen):
    told = seen(goal_state=GOAL).to_json()
    assert told["best_action"] == [0.0, 2.5]
    assert len(told["costs"]) == len(told["second"]) == 5
    assert told["is_flat"] is False
    assert isinstance(seen(), Landscape)


def test_choices_have_no_landscape(rooms, disc_position):
    class Choices(type(rooms())):
        @property
        def action_spec(self):
            return ActionSpec(("left", "right"), ("1", "1"), (0.0, 0.0), (1.0, 1.0), kind="one_hot")

    environment = Choices(image_size=32)
    shown = environment.reset(np.random.default_rng(0), start=START, goal=GOAL)
    with pytest.raises(ValueError, match="the actions of two_rooms are choices"):
        energy_landscape(ScaledWorld(disc_position), environment, shown)
    assert not has_landscape(environment) and has_landscape(rooms())
