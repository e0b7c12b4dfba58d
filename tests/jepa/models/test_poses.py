import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation

from jepa.models.poses import euler_from_matrix, matrix_from_euler, next_pose, pose_difference

# 200 rows in float64, made by the released code.
GOLDEN = Path(__file__).parents[2] / "golden" / "poses" / "golden.safetensors"
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]
QUARTER = math.pi / 2


def random_poses(*shape, seed=0, dtype=torch.float64):
    """Positions within 2 m, all turns, gripper in [0, 1]: (*shape, 7)."""
    uniforms = torch.rand(*shape, 7, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    low = torch.tensor([-1, -1, -1, -math.pi, -QUARTER, -math.pi, 0], dtype=dtype)
    high = torch.tensor([1, 1, 1, math.pi, QUARTER, math.pi, 1], dtype=dtype)
    return low + uniforms * (high - low)


def matrix_by_scipy(angles):
    return torch.from_numpy(Rotation.from_euler("xyz", angles.numpy()).as_matrix())


def assert_same_pose(pose, expected, *, atol=1e-9):
    """The same place, gripper and orientation; near gimbal lock angles of one turn are many."""
    torch.testing.assert_close(pose[..., :3], expected[..., :3], atol=atol, rtol=0)
    torch.testing.assert_close(pose[..., 6], expected[..., 6], atol=atol, rtol=0)
    rotation, wanted = matrix_from_euler(pose[..., 3:6]), matrix_from_euler(expected[..., 3:6])
    torch.testing.assert_close(rotation, wanted, atol=atol, rtol=0)


# The released code and scipy agree.


@pytest.mark.parametrize(("dtype", "atol"), PRECISIONS)
def test_the_next_pose_is_that_of_the_released_code(dtype, atol):
    golden = load_file(GOLDEN)
    pose = next_pose(golden["poses"].to(dtype), golden["actions"].to(dtype))
    assert pose.dtype == dtype
    torch.testing.assert_close(pose.double(), golden["next_poses"], atol=atol, rtol=0)


@pytest.mark.parametrize(("dtype", "atol"), PRECISIONS)
def test_the_difference_of_poses_is_that_of_the_released_code(dtype, atol):
    golden = load_file(GOLDEN)
    poses = golden["poses"].to(dtype)
    action = pose_difference(poses, poses.roll(-1, dims=0))
    assert action.dtype == dtype
    torch.testing.assert_close(action.double(), golden["pose_differences"], atol=atol, rtol=0)


def test_the_matrix_is_that_of_scipys_extrinsic_xyz_angles():
    angles = 3 * random_poses(500)[:, 3:6]  # also turns beyond the usual range
    torch.testing.assert_close(
        matrix_from_euler(angles), matrix_by_scipy(angles), atol=1e-14, rtol=0
    )


def test_the_angles_are_those_of_scipy():
    rotations = Rotation.random(500, random_state=0)
    angles = euler_from_matrix(torch.from_numpy(rotations.as_matrix()))
    expected = torch.from_numpy(rotations.as_euler("xyz"))
    torch.testing.assert_close(angles, expected, atol=1e-9, rtol=0)


# Meanings that can be worked out by hand.


def test_roll_turns_y_to_z_pitch_turns_z_to_x_and_yaw_turns_x_to_y():
    x, y, z = torch.eye(3, dtype=torch.float64)
    roll, pitch, yaw = matrix_from_euler(QUARTER * torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(roll @ y, z)
    torch.testing.assert_close(pitch @ z, x)
    torch.testing.assert_close(yaw @ x, y)


def test_an_action_turns_in_the_base_frame_and_leaves_the_position_alone():
    pose = torch.tensor([0.5, 0.0, 0.2, QUARTER, 0.0, 0.0, 0.3])  # the hand's y points up
    action = torch.tensor([0.0, 0.0, 0.1, 0.0, 0.0, QUARTER, 0.2])  # up, and a quarter of yaw
    expected = torch.tensor([0.5, 0.0, 0.3, QUARTER, 0.0, QUARTER, 0.5])
    torch.testing.assert_close(next_pose(pose, action), expected)


@pytest.mark.parametrize(("change", "gripper"), [(0.2, 0.9), (0.5, 1.0), (-0.9, 0.0)])
def test_the_gripper_opens_and_closes_within_its_range(change, gripper):
    pose = torch.tensor([0.0, 0, 0, 0, 0, 0, 0.7])
    action = torch.tensor([0.0, 0, 0, 0, 0, 0, change])
    assert next_pose(pose, action)[6].item() == pytest.approx(gripper)


def test_the_difference_of_grippers_is_signed():
    opened, closed = torch.zeros(7), torch.tensor([0.0, 0, 0, 0, 0, 0, 1])
    assert pose_difference(opened, closed)[6] == 1
    assert pose_difference(closed, opened)[6] == -1


# Inverses.


@pytest.mark.parametrize(("dtype", "atol"), PRECISIONS)
def test_the_difference_to_a_pose_leads_to_it(dtype, atol):
    pose, later = random_poses(300, seed=1, dtype=dtype), random_poses(300, seed=2, dtype=dtype)
    assert_same_pose(next_pose(pose, pose_difference(pose, later)), later, atol=atol)


def test_the_difference_to_the_next_pose_is_the_action():
    pose, action = random_poses(300, seed=1), random_poses(300, seed=2)
    pose[:, 6], action[:, 6] = 0.5, action[:, 6] - 0.5  # the gripper stays inside its range
    assert_same_pose(pose_difference(pose, next_pose(pose, action)), action)


def test_no_action_leaves_a_pose_where_it_is():
    pose = random_poses(100)
    torch.testing.assert_close(next_pose(pose, torch.zeros_like(pose)), pose, atol=1e-9, rtol=0)
    still = torch.zeros_like(pose)
    torch.testing.assert_close(pose_difference(pose, pose), still, atol=1e-12, rtol=0)


def test_angles_inside_their_range_come_back_from_the_matrix():
    angles = random_poses(4, 50)[..., 3:6]
    back = euler_from_matrix(matrix_from_euler(angles))
    torch.testing.assert_close(back, angles, atol=1e-9, rtol=0)


# Gimbal lock.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("sign", [1, -1])
def test_at_and_near_gimbal_lock_the_angles_give_the_matrix_again(sign, distance, dtype):
    angles = random_poses(200)[:, 3:6]
    angles[:, 1] = sign * (QUARTER - distance)
    matrix = matrix_by_scipy(angles).to(dtype)
    found = euler_from_matrix(matrix)
    atol = 1e-14 if dtype == torch.float64 else 4e-6
    torch.testing.assert_close(matrix_from_euler(found), matrix, atol=atol, rtol=0)
    assert (found[:, 1].abs() <= QUARTER + 2e-6).all()


@pytest.mark.parametrize("rounding", [0.0, 1e-20, -1e-20, 1e-7, -1e-7])
@pytest.mark.parametrize("sign", [1, -1])
def test_at_gimbal_lock_yaw_is_zero_and_roll_takes_the_whole_turn(sign, rounding):
    # Pitch is +-90 degrees, roll 30; the first column is zero, or what float32 leaves of it.
    sin, cos = 0.5, math.sqrt(0.75)
    rows = [[rounding, sign * sin, sign * cos], [rounding, cos, -sin], [-sign, 0, 0]]
    matrix = torch.tensor(rows)
    angles = euler_from_matrix(matrix.requires_grad_())
    expected = torch.tensor([math.radians(30), sign * QUARTER, 0.0])
    torch.testing.assert_close(angles, expected)
    assert angles[2] == 0
    (gradient,) = torch.autograd.grad(angles.sum(), matrix)
    assert gradient.isfinite().all()


# Gradients.


def test_gradients_are_those_of_finite_differences():
    pose, action = random_poses(20, seed=1), random_poses(20, seed=2)
    pose[:, 4] *= 0.5
    pose[:, 6], action[:, 6] = 0.5, 0.2
    pose.requires_grad_(), action.requires_grad_()
    later = random_poses(20, seed=3)
    assert torch.autograd.gradcheck(next_pose, (pose, action))
    assert torch.autograd.gradcheck(pose_difference, (pose, later))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-8, 1e-4])
def test_gradients_are_finite_at_and_near_gimbal_lock(distance, dtype):
    angles = random_poses(50)[:, 3:6]
    angles[:, 1] = torch.where(torch.arange(50) % 2 == 0, 1, -1) * (QUARTER - distance)
    matrix = matrix_by_scipy(angles).to(dtype).requires_grad_()
    euler_from_matrix(matrix).sum().backward()
    assert matrix.grad is not None
    assert matrix.grad.isfinite().all()


def test_descent_on_an_action_finds_the_way_to_a_pose():
    pose = torch.tensor([0.4, 0.0, 0.3, 0.2, -0.1, 0.5, 0.2])
    goal = torch.tensor([0.5, 0.1, 0.2, 0.0, 0.3, 0.1, 0.8])
    action = torch.zeros(7, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad((next_pose(pose, action) - goal).square().sum(), action)
        action = (action - 0.2 * gradient).detach().requires_grad_()
    torch.testing.assert_close(action, pose_difference(pose, goal), atol=1e-4, rtol=0)


# Shapes.


@pytest.mark.parametrize("function", [next_pose, pose_difference])
def test_a_batch_of_any_shape_equals_one_by_one(function):
    pose, other = random_poses(2, 3, 4, seed=1), random_poses(2, 3, 4, seed=2)
    together = function(pose, other)
    pairs = zip(pose.flatten(0, 2), other.flatten(0, 2), strict=True)
    alone = torch.stack([function(*pair) for pair in pairs]).unflatten(0, (2, 3, 4))
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("function", [next_pose, pose_difference])
def test_one_pose_meets_many_actions(function):
    pose, others = random_poses(1, seed=1)[0], random_poses(5, 3, seed=2)
    assert torch.equal(function(pose, others), function(pose.expand(5, 3, 7), others))


def test_autocast_does_not_blur_the_angles():
    pose, action = random_poses(20, dtype=torch.float32), random_poses(20, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blurred = next_pose(pose, action)
    assert torch.equal(blurred, next_pose(pose, action))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: next_pose(torch.zeros(5, 6), torch.zeros(5, 7)),
            r"pose must be \(..., 7\), got \(5, 6\)",
        ),
        (
            lambda: next_pose(torch.zeros(7), torch.zeros(4)),
            r"action must be \(..., 7\), got \(4,\)",
        ),
        (
            lambda: pose_difference(torch.zeros(7), torch.zeros(2, 8)),
            r"later must be \(..., 7\), got \(2, 8\)",
        ),
        (lambda: matrix_from_euler(torch.zeros(2, 4)), r"angles must be \(..., 3\), got \(2, 4\)"),
        (lambda: matrix_from_euler(torch.tensor(0.0)), r"angles must be \(..., 3\), got \(\)"),
        (
            lambda: euler_from_matrix(torch.zeros(3, 4)),
            r"matrix must be \(..., 3, 3\), got \(3, 4\)",
        ),
        (lambda: euler_from_matrix(torch.zeros(3)), r"matrix must be \(..., 3, 3\), got \(3,\)"),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=f"^{words}$"):
        call()
