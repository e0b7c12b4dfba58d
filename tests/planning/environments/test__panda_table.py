"""The Panda's simulation: movements are what they say, and inverse kinematics is an inverse."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("robosuite", reason="pip install 'jepa-planning[sim-robot]'")

from planning.actions.poses import euler_from_matrix
from planning.environments._panda_table import (
    CAMERA,
    HAND_DOWN,
    HOME,
    TABLE_HEIGHT,
    WORKSPACE_LOW,
    PandaTable,
)

COLOURS = {"arm": (0.9, 0.9, 0.9), "cube": (0.8, 0.1, 0.1), "table": (0.7, 0.7, 0.6)}
PLACE = np.array([0.5, 0.1, 0.05])


@pytest.fixture(scope="module")
def table():
    made = PandaTable(64, has_fine_meshes=False)
    made.shape_cube(edge=0.042, mass=0.075, friction=1.0)
    made.look(camera=CAMERA, brightness=1.0, colours=COLOURS)
    return made


def with_hand_at(table, place=PLACE, yaw=0.0):
    cube = (0.62, -0.15, table.resting_height, 1, 0, 0, 0)
    joints = table.joints_for(np.array(place), yaw)
    table.place(np.concatenate([joints, [0.04, -0.04], cube, [0.0]]))


def drawn(table):
    return table.draw(table.configuration)


def moved(table, **changes):
    """How far one action (by names) moves the hand from rest: metres, and angles in radians."""
    with_hand_at(table)
    position, rotation = table.hand_position, table.hand_rotation
    names = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "dgripper")
    table.move(np.array([changes.get(name, 0.0) for name in names]))
    turn = torch.from_numpy(table.hand_rotation @ rotation.T)  # in the base frame, from the left
    return np.concatenate([table.hand_position - position, euler_from_matrix(turn).numpy()])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("distance", [-0.06, 0.03])
def test_a_translation_moves_the_hand_along_its_axis_by_what_it_says(table, axis, distance):
    change = moved(table, **{("dx", "dy", "dz")[axis]: distance})
    wanted = np.zeros(3)
    wanted[axis] = distance
    # A twelfth of the way is left: it comes after the step.
    assert np.abs(change[:3] - wanted).max() < abs(distance) / 12
    assert np.abs(change[3:]).max() < 0.01


@pytest.mark.parametrize("axis", range(3))
def test_a_turn_turns_the_hand_about_an_axis_of_the_base(table, axis):
    change = moved(table, **{("droll", "dpitch", "dyaw")[axis]: 0.2})
    wanted = np.zeros(3)
    wanted[axis] = 0.2
    assert np.abs(change[3:] - wanted).max() < 0.05
    assert np.abs(change[:3]).max() < 0.008


def test_what_is_left_of_a_movement_comes_in_the_next_step(table):
    with_hand_at(table)
    table.move(np.array([0.06, 0, 0, 0, 0, 0, 0]))
    after_one = table.hand_position[0] - PLACE[0]
    table.move(np.zeros(7))
    after_two = table.hand_position[0] - PLACE[0]
    assert 0.055 < after_one < after_two < 0.068


def test_the_gripper_closes_opens_and_stays_between(table):
    with_hand_at(table)
    assert table.closedness == pytest.approx(0.0, abs=0.01)
    close = np.array([0, 0, 0, 0, 0, 0, 1.0])
    table.move(close)
    table.move(close * 0)
    assert table.closedness > 0.95
    table.move(-close / 2)
    table.move(close * 0)
    assert table.closedness == pytest.approx(0.5, abs=0.03)
    table.move(-close * 3)
    table.move(close * 0)
    assert table.closedness < 0.03
    assert table.gripper_command == 0.0  # not -2: the next half is half


def test_the_hand_is_not_told_to_go_into_the_table(table):
    with_hand_at(table, np.array([0.5, 0.1, WORKSPACE_LOW[2] + 0.03]))
    for _ in range(3):
        table.move(np.array([0, 0, -0.1, 0, 0, 0, 0]))
    assert table.hand_position[2] == pytest.approx(WORKSPACE_LOW[2], abs=0.006)


def test_at_rest_nothing_moves_and_the_picture_stays(table):
    with_hand_at(table)
    before, picture = table.configuration, drawn(table)
    for _ in range(4):
        table.move(np.zeros(7))
    assert np.abs(table.configuration - before).max() < 5e-4
    assert np.array_equal(drawn(table), picture)


@pytest.mark.parametrize(
    ("place", "yaw"),
    [((0.45, -0.2, 0.2), 0.0), ((0.66, 0.2, -0.02), 0.7), ((0.5, 0.0, -0.09), -0.7)],
)
def test_inverse_kinematics_puts_the_hand_there_pointing_down(table, place, yaw):
    with_hand_at(table, place, yaw)
    assert np.abs(table.hand_position - place).max() < 1e-6
    cosine, sine = math.cos(yaw), math.sin(yaw)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    assert np.abs(table.hand_rotation - turn @ HAND_DOWN).max() < 1e-6
    low, high = table.joint_limits
    assert ((table.data.qpos[:7] > low) & (table.data.qpos[:7] < high)).all()


def test_a_place_out_of_reach_is_refused(table):
    with pytest.raises(ValueError, match=r"the arm does not reach \[1.5, 0.0, 0.0\]"):
        table.joints_for(np.array([1.5, 0.0, 0.0]), 0.0)


def test_a_configuration_is_where_it_was_put(table):
    with_hand_at(table)
    wanted = table.configuration
    assert wanted[9:12] == pytest.approx([0.62, -0.15, table.resting_height])
    table.move(np.full(7, 0.05))
    assert np.abs(table.configuration - wanted).max() > 0.01
    table.place(wanted)
    assert np.array_equal(table.configuration, wanted)
    assert np.array_equal(table.data.qvel, np.zeros(15))


def test_a_cube_on_the_table_lies_still_whatever_its_size_and_mass(table):
    for edge, mass in ((0.03, 0.02), (0.042, 0.5), (0.06, 0.075)):
        table.shape_cube(edge=edge, mass=mass, friction=1.0)
        assert table.resting_height == pytest.approx(TABLE_HEIGHT + edge / 2, abs=1e-3)
        with_hand_at(table)
        for _ in range(3):
            table.move(np.zeros(7))
        assert table.cube_position[2] == pytest.approx(table.resting_height, abs=1e-5)
    table.shape_cube(edge=0.042, mass=0.075, friction=1.0)


def test_hulls_and_fine_meshes_show_the_same_scene(table):
    fine = PandaTable(64, has_fine_meshes=True)
    fine.look(camera=CAMERA, brightness=1.0, colours=COLOURS)
    fine.shape_cube(edge=0.042, mass=0.075, friction=1.0)
    with_hand_at(table)
    fine.place(table.configuration)
    difference = np.abs(drawn(fine).astype(float) - drawn(table))
    assert 1 < difference.mean() < 15
    assert (difference.max(axis=-1) > 0).mean() < 0.3  # table, floor and walls are the same


def test_the_home_of_the_arm_points_down(table):
    table.place(np.concatenate([HOME, [0.04, -0.04], [0.6, 0, -0.09, 1, 0, 0, 0], [0.0]]))
    assert np.degrees(np.arccos(-table.hand_rotation[2, 2])) < 10
    assert abs(math.atan2(table.hand_rotation[1, 0], table.hand_rotation[0, 0])) < 0.1
