from dataclasses import replace

import pytest
import torch

from jepa.evaluation.world_model_card.held_out import load_windows
from jepa.evaluation.world_model_card.loading import load_model
from jepa.evaluation.world_model_card.round_trip import (
    column_of,
    is_undone_by_minus,
    measure_round_trip,
    moved_freely,
    undone,
)


def test_where_actions_add_up_the_way_back_ends_at_the_start(toys):
    found = measure_round_trip(toys.world(), toys.windows())
    assert found.ratio.high < 1e-5
    assert found.num_windows == 80
    assert found.verdict.outcome == "pass"


def test_a_model_that_forgets_does_not_return(toys):
    found = measure_round_trip(toys.world(decay=0.3), toys.windows(), num_steps=2)
    assert found.verdict.outcome == "fail"
    assert "the interval must lie below 0.5" in found.verdict.reason


def test_one_step_of_decay_by_hand(toys):
    windows = toys.windows(num_episodes=8)
    latents = windows.latents.clone()
    latents[:, 0] = 0.0
    found = measure_round_trip(
        toys.world(decay=0.25), replace(windows, latents=latents), num_steps=1
    )
    assert found.ratio == pytest.approx((0.75, 0.75, 0.75), rel=1e-5)  # 0 -> a -> a / 4 - a


def test_a_model_that_does_not_move_has_nothing_to_return_from(toys):
    model = toys.world(push=((0.0, 0.0), (0.0, 0.0)))
    assert "does not leave its start" in measure_round_trip(model, toys.windows()).verdict.reason


def test_forces_have_no_inverse_unless_someone_says_so(toys):
    names = ("x_force", "y_force")
    model, windows = toys.world(names=names), toys.windows(names=names)
    assert not is_undone_by_minus(model.actions)
    found = measure_round_trip(model, windows)
    assert found.verdict.outcome == "not measurable"
    assert "--inverse negate" in found.verdict.reason
    assert measure_round_trip(model, windows, inverse="negate").verdict.outcome == "pass"
    assert not is_undone_by_minus(None)


def test_a_one_sided_range_has_no_inverse(toys):
    actions = toys.world().actions
    assert is_undone_by_minus(actions)
    assert not is_undone_by_minus(actions._replace(low=(0.0, 0.0)))


def test_joined_actions_are_undone_the_last_one_first(toys):
    there = torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, 8]]])  # two actions of two recorded ones
    joined = toys.world(names=("dx@0", "dy@0", "dx@1", "dy@1"), num_steps=2, push=[[0.0, 0]] * 4)
    assert undone(joined.actions, there).tolist() == [[[-7, -8, -5, -6], [-3, -4, -1, -2]]]
    assert undone(None, there).tolist() == [[[-5, -6, -7, -8], [-1, -2, -3, -4]]]


def test_windows_in_which_a_wall_was_in_the_way_do_not_count(toys):
    windows = toys.windows(num_episodes=10)
    moves = windows.actions.cumsum(1)
    states = torch.cat([torch.zeros(40, 1, 2), moves], 1)
    states[:8, 2:, 0] = states[:8, 1:2, 0]  # the first eight hit a wall at the second step
    windows = replace(windows, recorded_states=states, state_names=("x", "y"))
    assert moved_freely(windows, 3).tolist() == [False] * 8 + [True] * 32
    assert moved_freely(windows, 1).all()
    assert measure_round_trip(toys.world(), windows).num_windows == 32


def test_windows_in_which_something_else_moved_do_not_count(toys):
    windows = toys.windows(num_episodes=2)
    states = torch.cat([torch.zeros(8, 1, 2), windows.actions.cumsum(1)], 1)
    block = torch.zeros(8, 7, 1)
    block[3, 2:] = 1.0
    names = ("agent_x", "agent_y", "block_x")
    windows = replace(windows, recorded_states=torch.cat([states, block], 2), state_names=names)
    assert moved_freely(windows, 3).tolist() == [index != 3 for index in range(8)]


def test_where_nothing_moved_freely_nothing_is_measured(toys):
    windows = toys.windows(states=torch.zeros(80, 7, 2))
    found = measure_round_trip(toys.world(), windows)
    assert "in 0 of 80 windows only" in found.verdict.reason


def test_an_action_finds_its_column():
    assert column_of("dx", ("y", "x")) == 1
    assert column_of("dx", ("agent_x", "block_x")) == 0
    assert column_of("dx", ("left_x", "right_x")) is None
    assert column_of("dyaw", ("x", "y")) is None


def test_the_shipped_world_model_returns_where_no_wall_was(two_rooms_shards):
    model = load_model("two_rooms")
    windows = load_windows(model, two_rooms_shards, horizon=4, windows_per_episode=6)
    found = measure_round_trip(model, windows, num_steps=2)
    assert 0 < found.num_windows < 72  # some are at a wall
    assert found.verdict.outcome == "pass"
