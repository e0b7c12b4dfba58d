"""Coverage of episodes that can be counted by hand."""

import numpy as np
import pytest

from planning.coverage import CELLS_PER_AXIS, coverage_of


def counted(states, actions, **options):
    num_states, num_actions = states[0].shape[1], actions[0].shape[1]
    return coverage_of(
        states, actions,
        state_names=("x", "y", "z")[:num_states], action_names=("dx", "dy")[:num_actions],
        action_low=(-1.0,) * num_actions, action_high=(1.0,) * num_actions, **options,
    )  # fmt: skip


def test_a_diagonal_visits_one_cell_a_row():
    diagonal = np.linspace(0, 1, 200)[:, None].repeat(2, axis=1)
    coverage = counted([diagonal], [np.zeros((199, 1))])
    assert coverage.visited_cells == {"x, y": CELLS_PER_AXIS / CELLS_PER_AXIS**2}


def test_a_fine_grid_visits_every_cell_in_whatever_unit():
    side = np.linspace(0, 1, 40)
    x, y = (axis.ravel() for axis in np.meshgrid(side, side))
    coverage = counted([np.column_stack([1000 * x, y - 5])], [np.zeros((1599, 1))])
    assert coverage.visited_cells == {"x, y": 1.0}
    assert coverage.state_ranges == {"x": (0.0, 1000.0), "y": (-5.0, -4.0)}


def test_a_column_that_never_changes_is_one_cell_wide():
    states = np.column_stack([np.linspace(0, 1, 400), np.full(400, 7.0)])
    assert counted([states], [np.zeros((399, 1))]).mean_visited == 1 / CELLS_PER_AXIS


def test_three_columns_are_seen_as_three_planes_and_one_as_a_line():
    states = np.random.default_rng(0).uniform(size=(50, 3))
    assert set(counted([states], [np.zeros((49, 1))]).visited_cells) == {"x, y", "x, z", "y, z"}
    line = np.array([[0.0], [0.5], [1.0]])
    assert counted([line], [np.zeros((2, 1))]).visited_cells == {"x": 3 / CELLS_PER_AXIS}


def test_actions_at_their_bounds_are_counted_a_column():
    actions = np.array([[1.0, 0.0], [-1.0, 0.5], [0.999, -1.0], [0.0, 0.2]])
    coverage = counted([np.zeros((5, 2))], [actions])
    assert coverage.action_saturation == {"dx": 0.75, "dy": 0.25}


def test_shares_of_moving_steps_are_weighted_by_the_steps_of_their_episodes():
    states, actions = [np.zeros((11, 1)), np.zeros((31, 1))], [np.zeros((10, 1)), np.zeros((30, 1))]
    coverage = counted(states, actions, moving_shares=[1.0, 0.2], goals_reached=3)
    assert coverage.moving_steps == pytest.approx(0.4)
    assert (coverage.num_steps, coverage.num_episodes, coverage.goals_reached) == (40, 2, 3)
    assert counted(states, actions).moving_steps is None


def test_the_lines_name_the_least_visited_plane():
    states = np.random.default_rng(0).uniform(size=(300, 3))
    states[:, 2] = states[:, 1]  # y, z is a diagonal
    lines = counted([states], [np.zeros((299, 2))]).lines()
    assert any("least (y, z): 6%" in line for line in lines)
    assert "at a bound dx 0%, dy 0% of the steps" in lines


def test_no_episode_has_no_coverage():
    with pytest.raises(ValueError, match="no episode to count"):
        coverage_of([], [], state_names=(), action_names=(), action_low=(), action_high=())
