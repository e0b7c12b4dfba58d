"""Poses along a plan: by hand, against scipy one by one, and equal to the two other packages."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from data_pipelines.pose_differences import differences_between, next_poses
from jepa.models.poses import next_pose, pose_difference
from planning.actions.poses import (
    EULER_ORDERS,
    actions_between,
    depth_inside,
    distance_outside,
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_quaternion,
    matrix_from_rotation_vector,
    poses_along,
    positions_along,
    quaternion_from_matrix,
    rotation_vector_from_matrix,
)

QUARTER = math.pi / 2
CONVENTIONS = [(turn, frame) for turn in ("euler", "rotation_vector") for frame in ("base", "hand")]
ORDERS = [*EULER_ORDERS, *(order.upper() for order in EULER_ORDERS)]


def uniform(*shape, low=-1.0, high=1.0, seed=0, dtype=torch.float64):
    draws = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return low + (high - low) * draws


def random_poses(*shape, seed=0):
    """Positions within 1 m, all turns, gripper in [0, 1]: (*shape, 7)."""
    poses = uniform(*shape, 7, seed=seed)
    poses[..., 3:6] *= torch.tensor([math.pi, QUARTER, math.pi])
    poses[..., 6] = poses[..., 6].abs()
    return poses


def random_actions(*shape, seed=1, size=0.3):
    return size * uniform(*shape, 7, seed=seed)


def random_matrices(count, seed=0):
    return torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())


def assert_same_poses(poses, expected, *, atol=1e-9):
    """The same place, gripper and orientation; near gimbal lock angles of one turn are many."""
    torch.testing.assert_close(poses[..., :3], expected[..., :3], atol=atol, rtol=0)
    torch.testing.assert_close(poses[..., 6], expected[..., 6], atol=atol, rtol=0)
    rotations = (matrix_from_euler(part[..., 3:6]) for part in (poses, expected))
    torch.testing.assert_close(*rotations, atol=atol, rtol=0)


def poses_by_scipy(start, actions, turn, frame):
    """One pose after the other: (7,) and (horizon, 7) -> (horizon, 7)."""
    position, gripper, poses = start[:3].copy(), start[6], []
    rotation = Rotation.from_euler("xyz", start[3:6])
    for action in actions:
        now = action[3:6]
        now = Rotation.from_euler("xyz", now) if turn == "euler" else Rotation.from_rotvec(now)
        if frame == "base":
            position, rotation = position + action[:3], now * rotation
        else:
            position, rotation = position + rotation.apply(action[:3]), rotation * now
        gripper = np.clip(gripper + action[6], 0, 1)
        poses.append([*position, *rotation.as_euler("xyz"), gripper])
    return np.array(poses)


# Plans, by hand.


def test_a_turn_and_then_a_step_forward_depend_on_the_frame():
    """A quarter turn about z, then 1 m along x: the base's, or the hand's: the base's y."""
    start = torch.zeros(7, dtype=torch.float64)
    plan = torch.zeros(2, 7, dtype=torch.float64)
    plan[0, 5], plan[1, 0], plan[:, 6] = QUARTER, 1.0, 0.25
    base, hand = (poses_along(start, plan, frame=frame) for frame in ("base", "hand"))
    assert base[0].tolist() == pytest.approx([0, 0, 0, 0, 0, QUARTER, 0.25])
    assert base[1].tolist() == pytest.approx([1, 0, 0, 0, 0, QUARTER, 0.5])
    assert hand[1].tolist() == pytest.approx([0, 1, 0, 0, 0, QUARTER, 0.5], abs=1e-12)


def test_a_later_turn_is_applied_from_the_left_in_the_base_and_from_the_right_in_the_hand():
    """Yaw 90, then roll 90: about the base's x, or about the hand's x, which is the base's y."""
    start = torch.zeros(7, dtype=torch.float64)
    plan = torch.zeros(2, 7, dtype=torch.float64)
    plan[0, 5], plan[1, 3] = QUARTER, QUARTER
    about_x, about_y, about_z = (
        Rotation.from_euler(axis, QUARTER).as_matrix() for axis in ("x", "y", "z")
    )
    for frame, expected in (("base", about_x @ about_z), ("hand", about_y @ about_z)):
        pose = poses_along(start, plan, frame=frame)[-1]
        np.testing.assert_allclose(matrix_from_euler(pose[3:6]).numpy(), expected, atol=1e-12)


def test_the_gripper_is_clipped_after_each_action_and_not_at_the_end():
    start = torch.tensor([0, 0, 0, 0, 0, 0, 0.5])
    plan = torch.zeros(3, 7)
    plan[:, 6] = torch.tensor([1.0, -0.25, 0.5])  # 1 (not 1.5), 0.75, 1
    assert poses_along(start, plan)[:, 6].tolist() == [1, 0.75, 1]


def test_positions_are_the_sums_of_translations_in_the_base_frame():
    start = torch.tensor([1.0, 2.0, 3.0])
    moves = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, -1], [0, 0, -1]]])
    positions = positions_along(start, moves)
    assert positions.tolist() == [[[2, 2, 3], [2, 3, 3]], [[1, 2, 2], [1, 2, 1]]]
    starts = torch.tensor([[0.0, 0, 0], [10, 10, 10]])  # one for each sample
    assert positions_along(starts, moves)[1, 0].tolist() == [10, 10, 9]


@pytest.mark.parametrize(("turn", "frame"), CONVENTIONS)
def test_positions_are_those_of_the_poses(turn, frame):
    start, plans = random_poses(), random_actions(20, 5)
    positions = positions_along(start, plans, turn=turn, frame=frame)
    assert positions.shape == (20, 5, 3)
    poses = poses_along(start, plans, turn=turn, frame=frame)
    torch.testing.assert_close(positions, poses[..., :3], atol=1e-12, rtol=0)


# Plans, against scipy and the other packages.


@pytest.mark.parametrize(("turn", "frame"), CONVENTIONS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 3e-6)])
def test_poses_along_plans_are_those_of_scipy(turn, frame, dtype, atol):
    starts, plans = random_poses(30), random_actions(30, 6, size=1.0)
    ours = poses_along(starts.to(dtype), plans.to(dtype), turn=turn, frame=frame)
    assert ours.dtype == dtype
    slow = [
        poses_by_scipy(start.numpy(), plan.numpy(), turn, frame)
        for start, plan in zip(starts, plans, strict=True)
    ]
    assert_same_poses(ours.double(), torch.from_numpy(np.stack(slow)), atol=atol)


def test_one_action_is_that_of_the_world_model_and_of_the_data():
    poses, actions = random_poses(200), random_actions(200, 1, size=1.0)
    ours = poses_along(poses, actions)[:, 0]
    assert_same_poses(ours, next_pose(poses, actions[:, 0]))
    theirs = torch.from_numpy(next_poses(poses.numpy(), actions[:, 0].numpy()))
    theirs[:, 6].clamp_(0, 1)  # the data's is not clipped
    assert_same_poses(ours, theirs)


def test_an_action_between_two_poses_is_that_of_the_world_model_and_of_the_data():
    poses, later = random_poses(200, seed=3), random_poses(200, seed=4)
    ours = actions_between(poses, later)
    torch.testing.assert_close(ours, pose_difference(poses, later), atol=1e-12, rtol=0)
    theirs = torch.from_numpy(differences_between(poses.numpy(), later.numpy()))
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("turn", "frame"), CONVENTIONS)
def test_actions_between_poses_lead_from_one_to_the_next(turn, frame):
    poses = random_poses(20, 6)
    actions = actions_between(poses[:, :-1], poses[:, 1:], turn=turn, frame=frame)
    again = poses_along(poses[:, 0], actions, turn=turn, frame=frame)
    assert_same_poses(again, poses[:, 1:])
    # And the other way round, for turns below a half.
    plans = random_actions(20, 5)
    plans[..., 6] *= 0
    ways = poses_along(poses[:, 0], plans, turn=turn, frame=frame)
    ways = torch.cat([poses[:, :1], ways], dim=1)
    found = actions_between(ways[:, :-1], ways[:, 1:], turn=turn, frame=frame)
    torch.testing.assert_close(found, plans, atol=1e-9, rtol=0)


def test_leading_shapes_are_broadcast():
    start, plans = random_poses(2, 1), random_actions(3, 4)  # (2, 1, 7) and (3, 4, 7)
    poses = poses_along(start, plans)
    assert poses.shape == (2, 3, 4, 7)
    assert_same_poses(poses[1, 2], poses_along(start[1, 0], plans[2]))


@pytest.mark.parametrize(("turn", "frame"), CONVENTIONS)
def test_gradients_of_positions_and_rotations_are_those_of_finite_differences(turn, frame):
    start, plans = random_poses(), random_actions(2, 3).requires_grad_()

    def way(actions):
        poses = poses_along(start, actions, turn=turn, frame=frame)
        return poses[..., :3], matrix_from_euler(poses[..., 3:6])

    assert torch.autograd.gradcheck(way, (plans,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("turn", ["euler", "rotation_vector"])
@pytest.mark.parametrize("pitch", [QUARTER, -QUARTER, QUARTER - 1e-7, 0.0])
def test_gradients_are_finite_in_gimbal_lock_and_where_nothing_turns(turn, pitch):
    start = torch.tensor([0, 0, 0, 0.3, pitch, 0.2, 0.5], dtype=torch.float64)
    plans = torch.zeros(2, 3, 7, dtype=torch.float64, requires_grad=True)
    poses_along(start, plans, turn=turn, frame="hand").sum().backward()
    assert plans.grad.isfinite().all()


# Rotations, against scipy.


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_euler_angles_is_scipys(order):
    angles = math.pi * uniform(200, 3)
    expected = Rotation.from_euler(order, angles.numpy()).as_matrix()
    ours = matrix_from_euler(angles, order=order)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)
    back = Rotation.from_matrix(expected).as_euler(order)
    np.testing.assert_allclose(euler_from_matrix(ours, order=order).numpy(), back, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("off", [0.0, 1e-12, 1e-9, 1e-6])
def test_near_gimbal_lock_the_angles_still_give_the_matrix_again(order, off):
    angles = uniform(50, 3)
    angles[:, 1] = (QUARTER - off) * angles[:, 1].sign()
    matrix = matrix_from_euler(angles, order=order)
    again = matrix_from_euler(euler_from_matrix(matrix, order=order), order=order)
    torch.testing.assert_close(again, matrix, atol=1e-12, rtol=0)


def test_rotation_vectors_are_scipys():
    matrices = random_matrices(300)
    expected = Rotation.from_matrix(matrices.numpy()).as_rotvec()
    ours = rotation_vector_from_matrix(matrices)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-9)
    torch.testing.assert_close(matrix_from_rotation_vector(ours), matrices, atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-5, 9e-5, 1.1e-4, 1e-2, math.pi - 1e-6, math.pi])
def test_rotation_vectors_of_any_angle_come_back(angle):
    axes = torch.nn.functional.normalize(uniform(50, 3), dim=-1)
    matrix = matrix_from_rotation_vector(angle * axes)
    expected = Rotation.from_rotvec((angle * axes).numpy()).as_matrix()
    np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-14)
    again = rotation_vector_from_matrix(matrix)
    if angle < math.pi:  # a half turn about an axis is one about its opposite
        torch.testing.assert_close(again, angle * axes, atol=1e-9, rtol=0)
    torch.testing.assert_close(matrix_from_rotation_vector(again), matrix, atol=1e-12, rtol=0)


@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
def test_quaternions_are_scipys_up_to_their_sign(order):
    matrices = random_matrices(300)
    rotation = Rotation.from_matrix(matrices.numpy())
    expected = torch.from_numpy(rotation.as_quat(scalar_first=order == "wxyz"))
    ours = quaternion_from_matrix(matrices, order=order)
    expected *= (ours * expected).sum(-1, keepdim=True).sign()
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)
    again = matrix_from_quaternion(-3 * ours, order=order)  # of any length and sign
    torch.testing.assert_close(again, matrices, atol=1e-12, rtol=0)


def test_the_order_of_a_quaternion_says_where_the_scalar_is():
    quarter_about_z = matrix_from_euler(torch.tensor([0.0, 0.0, QUARTER]).double())
    half = 0.5**0.5
    assert quaternion_from_matrix(quarter_about_z).tolist() == pytest.approx([0, 0, half, half])
    scalar_first = quaternion_from_matrix(quarter_about_z, order="wxyz")
    assert scalar_first.tolist() == pytest.approx([half, 0, 0, half])


# Places.


def test_a_position_outside_a_box_is_as_far_as_its_nearest_point():
    low, high = torch.tensor([0.0, 0, 0]), torch.tensor([1.0, 1, 1])
    positions = torch.tensor([[0.5, 0.5, 0.5], [1, 0, 1], [4, 5, 0.5], [-2, 0.5, 0.5]])
    assert distance_outside(positions, low, high).tolist() == [0, 0, 5, 2]
    assert depth_inside(positions, low, high).tolist() == [0.5, 0, 0, 0]
    assert depth_inside(torch.tensor([0.9, 0.5, 0.3]), low, high).item() == pytest.approx(0.1)


def test_gradients_of_distances_are_finite_inside_too():
    positions = torch.tensor([[0.5, 0.5, 0.5], [1.0, 1, 1], [3, 4, 5]], requires_grad=True)
    low, high = torch.zeros(3), torch.ones(3)
    (distance_outside(positions, low, high) + depth_inside(positions, low, high)).sum().backward()
    assert positions.grad.isfinite().all()


# What cannot be.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: poses_along(torch.zeros(6), torch.zeros(2, 7)), r"start_pose must be .*\(6,\)"),
        (lambda: poses_along(torch.zeros(7), torch.zeros(7)), r"actions must be .* got \(7,\)"),
        (lambda: poses_along(torch.zeros(7), torch.zeros(0, 7)), r"actions must be .* \(0, 7\)"),
        (lambda: positions_along(torch.zeros(2), torch.zeros(1, 2, 7)), r"start_pose must have"),
        (lambda: positions_along(torch.zeros(7), torch.zeros(1, 2, 2)), r"actions must have at"),
        (lambda: actions_between(torch.zeros(7), torch.zeros(6)), r"later must be .* got \(6,\)"),
        (
            lambda: poses_along(torch.zeros(7), torch.zeros(2, 7), turn="quaternion"),
            "turn must be 'euler' or 'rotation_vector', got 'quaternion'",
        ),
        (
            lambda: positions_along(torch.zeros(7), torch.zeros(2, 7), frame="world"),
            "frame must be 'base' or 'hand', got 'world'",
        ),
        (lambda: matrix_from_euler(torch.zeros(4)), r"angles must be \(..., 3\), got \(4,\)"),
        (lambda: matrix_from_euler(torch.zeros(3), order="zxz"), "order must be one of xyz, xzy"),
        (lambda: matrix_from_euler(torch.zeros(3), order="Xyz"), "order must be .* got 'Xyz'"),
        (lambda: euler_from_matrix(torch.zeros(3, 4)), r"matrix must be .* got \(3, 4\)"),
        (lambda: matrix_from_rotation_vector(torch.zeros(4)), r"vector must be .* got \(4,\)"),
        (lambda: matrix_from_quaternion(torch.zeros(3)), r"quaternion must be .* got \(3,\)"),
        (
            lambda: quaternion_from_matrix(torch.eye(3), order="xywz"),
            "order of a quaternion must be 'xyzw' or 'wxyz', got 'xywz'",
        ),
    ],
)
def test_what_has_another_shape_or_convention_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
