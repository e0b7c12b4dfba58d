"""Poses of a robot's hand, and the actions between them (V-JEPA 2, arXiv:2506.09985, Sec. 3.1).

A pose is [x, y, z, roll, pitch, yaw, gripper]: metres in the base frame, radians, and how far the
gripper is closed, in [0, 1]. Angles are extrinsic x-y-z Euler angles, as DROID records them: turn
about the base's x by roll, then its y by pitch, then its z by yaw, so R = Rz(yaw) Ry(pitch)
Rx(roll). An action has the same layout: the translation, the angles of R_later R^T (a turn in the
base frame, applied from the left) and the change of the gripper.

All functions are batched, differentiable, and stay on the device and in the dtype (float32 or
float64) of what they are given.
"""

from __future__ import annotations

import torch
from torch import Tensor


def next_pose(pose: Tensor, action: Tensor) -> Tensor:
    """Returns the pose that an action leads to; the inverse of `pose_difference`.

    Args:
        pose: (..., 7), [x, y, z, roll, pitch, yaw, gripper] in metres, radians and [0, 1].
        action: (..., 7), [translation, angles, gripper change] in the base frame; leading shapes
            are broadcast.

    Returns:
        (..., 7). The gripper is clipped to [0, 1]; roll and yaw are in [-pi, pi], pitch in
        [-pi/2, pi/2].

    Raises:
        ValueError: if the last dimension of either is not 7.
    """
    position, rotation, gripper = _parts("pose", pose)
    translation, turn, change = _parts("action", action)
    angles = euler_from_matrix(_product(turn, rotation))
    return torch.cat([position + translation, angles, (gripper + change).clamp(0, 1)], dim=-1)


def pose_difference(pose: Tensor, later: Tensor) -> Tensor:
    """Returns the action that leads from one pose to another; the inverse of `next_pose`.

    Args:
        pose: (..., 7), [x, y, z, roll, pitch, yaw, gripper] in metres, radians and [0, 1].
        later: (..., 7), the pose to reach; leading shapes are broadcast.

    Returns:
        (..., 7), [translation, angles of R_later R_pose^T, gripper change in [-1, 1]] in the base
        frame; roll and yaw are in [-pi, pi], pitch in [-pi/2, pi/2].

    Raises:
        ValueError: if the last dimension of either is not 7.
    """
    position, rotation, gripper = _parts("pose", pose)
    later_position, later_rotation, later_gripper = _parts("later", later)
    angles = euler_from_matrix(_product(later_rotation, rotation.transpose(-1, -2)))
    return torch.cat([later_position - position, angles, later_gripper - gripper], dim=-1)


def matrix_from_euler(angles: Tensor) -> Tensor:
    """Returns rotation matrices; the inverse of `euler_from_matrix`.

    Args:
        angles: (..., 3), roll, pitch and yaw in radians, extrinsic x-y-z, of any size.

    Returns:
        (..., 3, 3), Rz(yaw) Ry(pitch) Rx(roll), to be applied to column vectors.

    Raises:
        ValueError: if the last dimension is not 3.
    """
    if angles.ndim < 1 or angles.shape[-1] != 3:
        raise ValueError(f"angles must be (..., 3), got {tuple(angles.shape)}")
    sin_roll, sin_pitch, sin_yaw = angles.sin().unbind(-1)
    cos_roll, cos_pitch, cos_yaw = angles.cos().unbind(-1)
    rows = [
        cos_yaw * cos_pitch,
        cos_yaw * sin_pitch * sin_roll - sin_yaw * cos_roll,
        cos_yaw * sin_pitch * cos_roll + sin_yaw * sin_roll,
        sin_yaw * cos_pitch,
        sin_yaw * sin_pitch * sin_roll + cos_yaw * cos_roll,
        sin_yaw * sin_pitch * cos_roll - cos_yaw * sin_roll,
        -sin_pitch,
        cos_pitch * sin_roll,
        cos_pitch * cos_roll,
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def euler_from_matrix(matrix: Tensor) -> Tensor:
    """Returns the Euler angles of rotation matrices; the inverse of `matrix_from_euler`.

    Where the pitch is a quarter turn (gimbal lock), only roll - yaw or roll + yaw is known; then
    yaw is 0, and no gradient goes through it. Beside such a place the gradients of roll and yaw
    are finite, but grow as 1 / cos(pitch): the angles do jump there. Everywhere the angles give
    the matrix again, to rounding: given a yaw, the others are computed for that yaw, so that an
    error in it cancels.

    Args:
        matrix: (..., 3, 3), rotations; that they are is not checked.

    Returns:
        (..., 3), roll, pitch and yaw in radians, extrinsic x-y-z; roll and yaw in [-pi, pi], pitch
        in [-pi/2, pi/2].

    Raises:
        ValueError: if the last two dimensions are not (3, 3).
    """
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(f"matrix must be (..., 3, 3), got {tuple(matrix.shape)}")
    (r00, r01, r02), (r10, r11, r12), (r20, _, _) = (row.unbind(-1) for row in matrix.unbind(-2))
    is_locked = r00.abs() + r10.abs() < 16 * torch.finfo(matrix.dtype).eps
    # Replaced before atan2, not after: its gradient close to (0, 0) is NaN, and NaN x 0 is NaN.
    yaw = torch.atan2(r10.masked_fill(is_locked, 0.0), r00.masked_fill(is_locked, 1.0))
    sin_yaw, cos_yaw = yaw.sin(), yaw.cos()
    pitch = torch.atan2(-r20, cos_yaw * r00 + sin_yaw * r10)
    roll = torch.atan2(sin_yaw * r02 - cos_yaw * r12, cos_yaw * r11 - sin_yaw * r01)
    return torch.stack([roll, pitch, yaw], dim=-1)


def _parts(name: str, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Position (..., 3), rotation matrix (..., 3, 3) and gripper (..., 1) of a pose or action."""
    if pose.ndim < 1 or pose.shape[-1] != 7:
        raise ValueError(f"{name} must be (..., 7), got {tuple(pose.shape)}")
    position, angles, gripper = pose.split([3, 3, 1], dim=-1)
    return position, matrix_from_euler(angles), gripper


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product (..., 3, 3) in full precision: `@` obeys autocast and TF32, angles do not."""
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(-2)
