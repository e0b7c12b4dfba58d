from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from data_pipelines.pose_differences import (
    differences_between,
    euler_from_matrices,
    matrices_from_euler,
    next_poses,
    pose_differences,
)
from jepa.models.poses import pose_difference

GOLDEN = Path(__file__).parents[1] / "golden" / "poses" / "golden.safetensors"


def test_a_quarter_turn_about_z_is_an_action_of_yaw_alone():
    poses = np.zeros((2, 7))
    poses[0, :3], poses[1, :3] = (0.1, 0.2, 0.3), (0.2, 0.0, 0.3)
    poses[1, 5], poses[1, 6] = np.pi / 2, 0.25
    expected = [[0.1, -0.2, 0.0, 0.0, 0.0, np.pi / 2, 0.25]]
    np.testing.assert_allclose(pose_differences(poses), expected, atol=1e-12)


def test_turns_are_in_the_base_frame():
    poses = np.zeros((2, 7))
    poses[0, 5] = np.pi / 2  # the hand's own x axis now lies along the base's y
    poses[1, 3:6] = euler_from_matrices(
        matrices_from_euler(np.array([[0.3, 0, 0]])) @ matrices_from_euler(poses[:1, 3:6])
    )[0]
    np.testing.assert_allclose(pose_differences(poses)[0, 3:6], [0.3, 0, 0], atol=1e-12)


def test_an_angle_that_wraps_round_is_a_small_turn():
    poses = np.zeros((2, 7))
    poses[:, 5] = np.pi - 0.05, -np.pi + 0.05
    np.testing.assert_allclose(pose_differences(poses)[0, 5], 0.1, atol=1e-12)


def test_differences_equal_the_official_ones():
    golden = load_file(GOLDEN)
    poses = np.concatenate([golden["poses"], golden["poses"][:1]])  # from the last to the first
    np.testing.assert_allclose(pose_differences(poses), golden["pose_differences"], atol=1e-9)


def test_differences_equal_those_of_the_model():
    poses = np.random.default_rng(0).uniform(-3, 3, (50, 7))
    theirs = pose_difference(torch.tensor(poses[:-1]), torch.tensor(poses[1:])).numpy()
    np.testing.assert_allclose(pose_differences(poses), theirs, atol=1e-12)


def test_angles_give_the_matrix_again_also_at_gimbal_lock():
    angles = np.random.default_rng(1).uniform(-3, 3, (40, 3))
    angles[:20, 1] = np.pi / 2 * np.sign(angles[:20, 1])
    matrices = matrices_from_euler(angles)
    assert (euler_from_matrices(matrices)[:20, 2] == 0).all()
    again = matrices_from_euler(euler_from_matrices(matrices))
    np.testing.assert_allclose(again, matrices, atol=1e-9)


def test_angles_equal_those_of_scipy_in_any_shape_of_batch():
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    angles = np.random.default_rng(2).uniform(-3, 3, (4, 5, 3))
    matrices = matrices_from_euler(angles)
    assert matrices.shape == (4, 5, 3, 3)
    theirs = rotation.from_euler("xyz", angles.reshape(-1, 3))  # lower case: extrinsic
    np.testing.assert_allclose(matrices.reshape(-1, 3, 3), theirs.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(
        euler_from_matrices(matrices).reshape(-1, 3), theirs.as_euler("xyz"), atol=1e-9
    )


def same_pose(left, right, atol=1e-9):
    """Angles may differ by whole turns, or be written twice at a lock; rotations may not."""
    np.testing.assert_allclose(left[..., :3], right[..., :3], atol=atol)
    np.testing.assert_allclose(left[..., 6], right[..., 6], atol=atol)
    rotations = (matrices_from_euler(pose[..., 3:6]) for pose in (left, right))
    np.testing.assert_allclose(*rotations, atol=atol)


def test_differences_added_up_give_the_poses_again_also_at_gimbal_lock_and_when_angles_wrap():
    rng = np.random.default_rng(3)
    poses = rng.uniform(-2, 2, (3, 30, 7))
    poses[0, ::3, 4] = np.pi / 2  # locked
    poses[1, :, 5] = (np.linspace(0, 20, 30) + np.pi) % (2 * np.pi) - np.pi  # yaw goes round
    differences = differences_between(poses[:, :-1], poses[:, 1:])
    at = poses[:, 0]
    for step in range(29):
        at = next_poses(at, differences[:, step])
        same_pose(at, poses[:, step + 1], atol=1e-7)


def test_a_difference_comes_back_from_the_pose_it_leads_to():
    rng = np.random.default_rng(4)
    poses, differences = rng.uniform(-1, 1, (2, 50, 7))  # angles too small to be locked or wrap
    np.testing.assert_allclose(
        differences_between(poses, next_poses(poses, differences)), differences, atol=1e-9
    )


def test_poses_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"poses must be \(time, 7\), got \(4, 6\)"):
        pose_differences(np.zeros((4, 6)))
