"""Actions between poses of a robot's hand, in numpy (V-JEPA 2, arXiv:2506.09985, Sec. 3.1).

A pose is [x, y, z, roll, pitch, yaw, gripper]: metres, radians (extrinsic x-y-z Euler angles: R =
Rz(yaw) Ry(pitch) Rx(roll)) and closedness in [0, 1]. `jepa.models.poses.pose_difference` is the
same in torch, differentiable; this package does not import `jepa`, and a test holds the two equal.
"""

from __future__ import annotations

import numpy as np

POSE_COLUMNS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
ROTATION = "extrinsic xyz Euler, radians"  # as `TrajectorySpecification.rotation` has it


def pose_differences(poses: np.ndarray) -> np.ndarray:
    """Returns the actions that lead from each pose to the next; see `differences_between`.

    Args:
        poses: (time, 7), [x, y, z, roll, pitch, yaw, gripper].

    Returns:
        (time - 1, 7), float64.

    Raises:
        ValueError: if poses are not (time, 7).
    """
    if poses.ndim != 2 or poses.shape[-1] != 7:
        raise ValueError(f"poses must be (time, 7), got {tuple(poses.shape)}")
    return differences_between(poses[:-1], poses[1:])


def differences_between(poses: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Returns the actions that lead from poses to later ones; the inverse of `next_poses`.

    Args:
        poses: (..., 7), [x, y, z, roll, pitch, yaw, gripper].
        later: (..., 7), equally many.

    Returns:
        (..., 7), float64: the translation, the angles of R_later R^T (a turn in the base frame,
        applied from the left) and the change of the gripper. Roll and yaw are in [-pi, pi], pitch
        is in [-pi/2, pi/2].
    """
    poses, later = poses.astype(np.float64), later.astype(np.float64)
    rotations, later_rotations = _rotations(poses), _rotations(later)  # (..., 3, 3)
    differences = later - poses  # (..., 7); the angles are replaced
    differences[..., 3:6] = euler_from_matrices(later_rotations @ np.swapaxes(rotations, -1, -2))
    return differences


def next_poses(poses: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Returns the poses that actions lead to; the inverse of `differences_between`.

    Args:
        poses: (..., 7), [x, y, z, roll, pitch, yaw, gripper].
        differences: (..., 7), one for each pose.

    Returns:
        (..., 7), float64; angles in the ranges of `euler_from_matrices`. The gripper is not
        clipped.
    """
    poses, differences = poses.astype(np.float64), differences.astype(np.float64)
    later = poses + differences  # (..., 7); the angles are replaced
    later[..., 3:6] = euler_from_matrices(_rotations(differences) @ _rotations(poses))
    return later


def matrices_from_euler(angles: np.ndarray) -> np.ndarray:
    """Returns Rz(yaw) Ry(pitch) Rx(roll); the inverse of `euler_from_matrices`.

    Args:
        angles: (..., 3), roll, pitch and yaw in radians.

    Returns:
        (..., 3, 3), to be applied to column vectors.
    """
    sr, sp, sy = np.moveaxis(np.sin(angles), -1, 0)
    cr, cp, cy = np.moveaxis(np.cos(angles), -1, 0)
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def euler_from_matrices(matrices: np.ndarray) -> np.ndarray:
    """Returns roll, pitch and yaw in radians; the inverse of `matrices_from_euler`.

    Where the pitch is a quarter turn only roll - yaw or roll + yaw is known; then yaw is 0.

    Args:
        matrices: (..., 3, 3), rotations.

    Returns:
        (..., 3).
    """
    (r00, r01, r02), (r10, r11, r12), (r20, _, _) = np.moveaxis(matrices, (-2, -1), (0, 1))
    is_locked = np.abs(r00) + np.abs(r10) < 16 * np.finfo(np.float64).eps
    yaw = np.where(is_locked, 0.0, np.arctan2(r10, r00))
    sin_yaw, cos_yaw = np.sin(yaw), np.cos(yaw)
    pitch = np.arctan2(-r20, cos_yaw * r00 + sin_yaw * r10)
    # For the yaw that was taken, so that its rounding cancels and the matrix comes back.
    roll = np.arctan2(sin_yaw * r02 - cos_yaw * r12, cos_yaw * r11 - sin_yaw * r01)
    return np.stack([roll, pitch, yaw], axis=-1)


def _rotations(poses: np.ndarray) -> np.ndarray:
    """Returns the rotations of poses or of actions: (..., 3, 3)."""
    return matrices_from_euler(poses[..., 3:6])
