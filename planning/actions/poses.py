"""Actions that move a robot's hand: plans of pose differences, and the poses they lead to.

A pose is [x, y, z, roll, pitch, yaw, gripper]: metres in the base frame, radians, and how far the
gripper is closed, from 0 (open) to 1 (closed). Angles are extrinsic x-y-z Euler angles, as DROID
records them: R = Rz(yaw) Ry(pitch) Rx(roll). An action is [dx, dy, dz, turn (3), gripper change].
V-JEPA 2-AC's (arXiv:2506.09985, Sec. 3.1) are in the base frame and turn by Euler angles: that is
the default here, and agrees with `data_pipelines.pose_differences` and `jepa.models.poses`.

Everything is batched, differentiable, and stays on the device and in the dtype (float32 or
float64) of what it is given. Where a convention has two common readings, it is an argument.
"""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import torch
from torch import Tensor

Turn = Literal["euler", "rotation_vector"]
Frame = Literal["base", "hand"]
QuaternionOrder = Literal["xyzw", "wxyz"]
EULER_ORDERS = tuple("".join(axes) for axes in permutations("xyz"))

# ---------------------------------------------------------------------- plans


def poses_along(
    start_pose: Tensor, actions: Tensor, *, turn: Turn = "euler", frame: Frame = "base"
) -> Tensor:
    """Returns the pose after each action of a plan; the inverse of `actions_between`.

    Args:
        start_pose: (..., 7), before the first action; leading shapes are broadcast.
        actions: (..., horizon, 7), [translation in metres, turn in radians, gripper change].
        turn: how an action tells its rotation: "euler": extrinsic x-y-z angles; "rotation_vector":
            axis times angle.
        frame: "base": translation and turn are in the base frame (turned from the left, R' = T R);
            "hand": in the frame of the hand before the action (R' = R T).

    Returns:
        (..., horizon, 7). After each action the gripper is clipped to [0, 1]; roll and yaw are in
        [-pi, pi], pitch in [-pi/2, pi/2].

    Raises:
        ValueError: if poses or actions have another shape, or a convention is unknown.
    """
    turns, positions, rotations = _motion(start_pose, actions, turn=turn, frame=frame)
    gripper, grippers = start_pose[..., 6].expand(turns.shape[:-3]), []
    for change in actions[..., 6].unbind(-1):
        gripper = (gripper + change).clamp(0, 1)
        grippers.append(gripper)
    angles = euler_from_matrix(rotations)
    return torch.cat([positions, angles, torch.stack(grippers, -1).unsqueeze(-1)], dim=-1)


def positions_along(
    start_pose: Tensor, actions: Tensor, *, turn: Turn = "euler", frame: Frame = "base"
) -> Tensor:
    """Returns where the hand is after each action of a plan, for a cost over the way.

    Args:
        start_pose: (7,) or (samples, 7), or (3,) and (samples, 3) where the frame is "base".
        actions: (samples, horizon, 7), or (samples, horizon, 3 or more) where the frame is "base":
            the first three are the translation.
        turn: see `poses_along`.
        frame: see `poses_along`.

    Returns:
        (samples, horizon, 3), metres in the base frame.

    Raises:
        ValueError: if poses or actions have another shape, or a convention is unknown.
    """
    if frame != "base":
        return _motion(start_pose, actions, turn=turn, frame=frame)[1]
    for name, values, least in (("start_pose", start_pose, 1), ("actions", actions, 2)):
        if values.ndim < least or values.shape[-1] < 3:
            raise ValueError(
                f"{name} must have at least three columns (x, y, z), got {tuple(values.shape)}"
            )
    return start_pose[..., None, :3] + actions[..., :3].cumsum(-2)


def actions_between(
    poses: Tensor, later: Tensor, *, turn: Turn = "euler", frame: Frame = "base"
) -> Tensor:
    """Returns the actions that lead from poses to later ones; the inverse of `poses_along`.

    Args:
        poses: (..., 7).
        later: (..., 7), the poses to reach; leading shapes are broadcast.
        turn: see `poses_along`.
        frame: see `poses_along`.

    Returns:
        (..., 7), with the gripper's change in [-1, 1] and a turn of at most pi.

    Raises:
        ValueError: if either has another shape, or a convention is unknown.
    """
    _refuse_other_conventions(turn, frame)
    for name, values in (("poses", poses), ("later", later)):
        if values.ndim < 1 or values.shape[-1] != 7:
            raise ValueError(f"{name} must be (..., 7), got {tuple(values.shape)}")
    before, after = matrix_from_euler(poses[..., 3:6]), matrix_from_euler(later[..., 3:6])
    difference, back = later - poses, before.transpose(-1, -2)
    translation = difference[..., :3]
    if frame == "base":
        rotation = _product(after, back)
    else:
        rotation = _product(back, after)
        translation = _product(back, translation.unsqueeze(-1)).squeeze(-1)
    angles = (euler_from_matrix if turn == "euler" else rotation_vector_from_matrix)(rotation)
    return torch.cat([translation, angles, difference[..., 6:]], dim=-1)


def distance_outside(positions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns how far positions (..., 3) are outside a box, in metres: 0 inside, for a workspace.

    Args:
        positions: (..., 3).
        low: (3,), least corner.
        high: (3,), greatest corner.

    Returns:
        (...), the distance to the nearest point of the box.
    """
    beyond = torch.maximum(low - positions, positions - high).clamp_min(0.0)
    squared = beyond.square().sum(-1)
    # The square root has no finite gradient at 0, where everything inside is.
    return squared.masked_fill(squared == 0, 1.0).sqrt().masked_fill(squared == 0, 0.0)


def depth_inside(positions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns how deep positions (..., 3) are inside a box: 0 outside, for a place to keep out of.

    Args:
        positions: (..., 3).
        low: (3,), least corner.
        high: (3,), greatest corner.

    Returns:
        (...), metres to the nearest face.
    """
    return torch.minimum(positions - low, high - positions).amin(-1).clamp_min(0.0)


def _motion(
    start_pose: Tensor, actions: Tensor, *, turn: Turn, frame: Frame
) -> tuple[Tensor, Tensor, Tensor]:
    """Turns (..., horizon, 3, 3), positions (..., horizon, 3), rotations (..., horizon, 3, 3)."""
    _refuse_other_conventions(turn, frame)
    if start_pose.ndim < 1 or start_pose.shape[-1] != 7:
        raise ValueError(f"start_pose must be (..., 7), got {tuple(start_pose.shape)}")
    if actions.ndim < 2 or actions.shape[-1] != 7 or not actions.shape[-2]:
        raise ValueError(f"actions must be (..., horizon, 7), got {tuple(actions.shape)}")
    angles = actions[..., 3:6]
    turns = matrix_from_euler(angles) if turn == "euler" else matrix_from_rotation_vector(angles)
    leading = torch.broadcast_shapes(start_pose.shape[:-1], actions.shape[:-2])
    turns = turns.expand(*leading, *turns.shape[-3:])
    rotation, rotations, moves = matrix_from_euler(start_pose[..., 3:6]), [], []
    for step in range(actions.shape[-2]):
        move, now = actions[..., step, :3], turns[..., step, :, :]
        if frame == "base":
            rotation = _product(now, rotation)
        else:
            move = _product(rotation, move.unsqueeze(-1)).squeeze(-1)
            rotation = _product(rotation, now)
        moves.append(move)
        rotations.append(rotation)
    positions = start_pose[..., None, :3] + torch.stack(moves, dim=-2).cumsum(-2)
    return turns, positions, torch.stack(rotations, dim=-3)


def _refuse_other_conventions(turn: str, frame: str) -> None:
    if turn not in ("euler", "rotation_vector"):
        raise ValueError(f"turn must be 'euler' or 'rotation_vector', got {turn!r}")
    if frame not in ("base", "hand"):
        raise ValueError(f"frame must be 'base' or 'hand', got {frame!r}")


# ---------------------------------------------------------------------- rotations


def matrix_from_euler(angles: Tensor, *, order: str = "xyz") -> Tensor:
    """Returns rotation matrices; the inverse of `euler_from_matrix`.

    Args:
        angles: (..., 3), radians, in the order of the axes.
        order: three different axes, as scipy has them: lower case turns about the base's axes one
            after the other (extrinsic), upper case about the axes as turned so far (intrinsic).
            "xyz" is DROID's; ROS's and URDF's roll, pitch and yaw are "xyz" too; "ZYX" is yaw,
            pitch and roll of an aircraft.

    Returns:
        (..., 3, 3), to be applied to column vectors.

    Raises:
        ValueError: if the last dimension is not 3, or the order is none of six, in one case.
    """
    if angles.ndim < 1 or angles.shape[-1] != 3:
        raise ValueError(f"angles must be (..., 3), got {tuple(angles.shape)}")
    axes, is_intrinsic, sign = _read_order(order)
    if is_intrinsic:
        angles = angles.flip(-1)
    # Renamed so that the first axis is x, the second y and the third z, turns stay turns; their
    # sense is reversed where that makes a left-handed frame of a right-handed one.
    renamed = _matrix_from_extrinsic_xyz(sign * angles)
    places = torch.tensor(axes, device=angles.device).argsort()
    return renamed.index_select(-2, places).index_select(-1, places)


def euler_from_matrix(matrix: Tensor, *, order: str = "xyz") -> Tensor:
    """Returns the Euler angles of rotation matrices; the inverse of `matrix_from_euler`.

    Where the second angle is a quarter turn (gimbal lock), only the sum or the difference of the
    other two is known; then the extrinsic last one (the intrinsic first one) is 0, and no gradient
    goes through it. Beside such a place gradients are finite but grow as 1 / cos(second angle).

    Args:
        matrix: (..., 3, 3), rotations; that they are is not checked.
        order: see `matrix_from_euler`.

    Returns:
        (..., 3), radians; the second in [-pi/2, pi/2], the others in [-pi, pi].

    Raises:
        ValueError: if the last two dimensions are not (3, 3), or the order is none of six.
    """
    _refuse_other_matrices(matrix)
    axes, is_intrinsic, sign = _read_order(order)
    places = torch.tensor(axes, device=matrix.device)
    renamed = matrix.index_select(-2, places).index_select(-1, places)
    angles = sign * _extrinsic_xyz_from_matrix(renamed)
    return angles.flip(-1) if is_intrinsic else angles


def matrix_from_rotation_vector(vector: Tensor) -> Tensor:
    """Returns rotation matrices; the inverse of `rotation_vector_from_matrix`.

    Args:
        vector: (..., 3), the axis times the angle in radians; gradients are finite at 0 too.

    Returns:
        (..., 3, 3).

    Raises:
        ValueError: if the last dimension is not 3.
    """
    if vector.ndim < 1 or vector.shape[-1] != 3:
        raise ValueError(f"vector must be (..., 3), got {tuple(vector.shape)}")
    cosine, factor = _half_angle(vector)
    return matrix_from_quaternion(torch.cat([factor * vector, cosine], dim=-1))


def rotation_vector_from_matrix(matrix: Tensor) -> Tensor:
    """Returns the rotation vectors (..., 3), of length at most pi, of rotations (..., 3, 3).

    Raises:
        ValueError: if the last two dimensions are not (3, 3).
    """
    quaternion = quaternion_from_matrix(matrix)
    quaternion = torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
    vector, scalar = quaternion[..., :3], quaternion[..., 3:]
    squared = vector.square().sum(-1, keepdim=True)
    is_small = squared < 1e-8
    length = squared.masked_fill(is_small, 1.0).sqrt()
    # angle / sin(angle / 2), close to 0 by its series.
    factor = torch.where(is_small, 2 + squared / 3, 2 * torch.atan2(length, scalar) / length)
    return factor * vector


def matrix_from_quaternion(quaternion: Tensor, *, order: QuaternionOrder = "xyzw") -> Tensor:
    """Returns rotation matrices; the inverse of `quaternion_from_matrix`, up to the sign.

    Args:
        quaternion: (..., 4), of any length but 0.
        order: "xyzw" (scipy, ROS, Bullet) or "wxyz" (MuJoCo, Eigen's constructor, PyTorch3D).

    Returns:
        (..., 3, 3).

    Raises:
        ValueError: if the last dimension is not 4, or the order is unknown.
    """
    if quaternion.ndim < 1 or quaternion.shape[-1] != 4:
        raise ValueError(f"quaternion must be (..., 4), got {tuple(quaternion.shape)}")
    _refuse_other_quaternion_order(order)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    x, y, z, w = (quaternion if order == "xyzw" else quaternion.roll(-1, -1)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def quaternion_from_matrix(matrix: Tensor, *, order: QuaternionOrder = "xyzw") -> Tensor:
    """Returns unit quaternions (..., 4), of which the largest entry is positive.

    Args:
        matrix: (..., 3, 3), rotations; that they are is not checked.
        order: see `matrix_from_quaternion`.

    Raises:
        ValueError: if the last two dimensions are not (3, 3), or the order is unknown.
    """
    _refuse_other_matrices(matrix)
    _refuse_other_quaternion_order(order)
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = (
        row.unbind(-1) for row in matrix.unbind(-2)
    )
    # Each row is 4 times one entry of [x, y, z, w] times all of them; the row of the largest entry
    # is the one to divide: never by a number near 0.
    rows = [
        [1 + r00 - r11 - r22, r01 + r10, r02 + r20, r21 - r12],
        [r01 + r10, 1 - r00 + r11 - r22, r12 + r21, r02 - r20],
        [r02 + r20, r12 + r21, 1 - r00 - r11 + r22, r10 - r01],
        [r21 - r12, r02 - r20, r10 - r01, 1 + r00 + r11 + r22],
    ]
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # (..., 4, 4)
    largest = products.detach().diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    row = products.gather(-2, index).squeeze(-2)
    quaternion = row / row.norm(dim=-1, keepdim=True)
    return quaternion if order == "xyzw" else quaternion.roll(1, -1)


def _half_angle(vector: Tensor) -> tuple[Tensor, Tensor]:
    """cos(half) and sin(half) / length, (..., 1), of half the length of vectors, from 0 on."""
    squared = vector.square().sum(-1, keepdim=True)
    is_small = squared < 1e-8
    length = squared.masked_fill(is_small, 1.0).sqrt()
    cosine = torch.where(is_small, 1 - squared / 8, (length / 2).cos())
    factor = torch.where(is_small, 0.5 - squared / 48, (length / 2).sin() / length)
    return cosine, factor


def _read_order(order: str) -> tuple[list[int], bool, int]:
    """The axes in the order of extrinsic turns, whether intrinsic, and 1 or -1: their sense."""
    is_intrinsic = order.isupper()
    axes = order.lower()[::-1] if is_intrinsic else order
    if axes not in EULER_ORDERS:
        raise ValueError(
            f"order must be one of {', '.join(EULER_ORDERS)}, in lower case (extrinsic) or upper "
            f"case (intrinsic), got {order!r}"
        )
    return ["xyz".index(axis) for axis in axes], is_intrinsic, 1 if axes in "xyzxy" else -1


def _matrix_from_extrinsic_xyz(angles: Tensor) -> Tensor:
    """Rz(c) Ry(b) Rx(a) of angles [a, b, c]: (..., 3) -> (..., 3, 3)."""
    sin_a, sin_b, sin_c = angles.sin().unbind(-1)
    cos_a, cos_b, cos_c = angles.cos().unbind(-1)
    rows = [
        cos_c * cos_b, cos_c * sin_b * sin_a - sin_c * cos_a, cos_c * sin_b * cos_a + sin_c * sin_a,
        sin_c * cos_b, sin_c * sin_b * sin_a + cos_c * cos_a, sin_c * sin_b * cos_a - cos_c * sin_a,
        -sin_b, cos_b * sin_a, cos_b * cos_a,
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _extrinsic_xyz_from_matrix(matrix: Tensor) -> Tensor:
    """Angles [a, b, c] of Rz(c) Ry(b) Rx(a): (..., 3, 3) -> (..., 3)."""
    (r00, r01, r02), (r10, r11, r12), (r20, _, _) = (row.unbind(-1) for row in matrix.unbind(-2))
    is_locked = r00.abs() + r10.abs() < 16 * torch.finfo(matrix.dtype).eps
    # Replaced before atan2, whose gradient close to (0, 0) is NaN, and NaN times 0 is NaN.
    c = torch.atan2(r10.masked_fill(is_locked, 0.0), r00.masked_fill(is_locked, 1.0))
    sin_c, cos_c = c.sin(), c.cos()
    # For the c that was taken, so that its rounding cancels and the matrix comes back.
    b = torch.atan2(-r20, cos_c * r00 + sin_c * r10)
    a = torch.atan2(sin_c * r02 - cos_c * r12, cos_c * r11 - sin_c * r01)
    return torch.stack([a, b, c], dim=-1)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product in full precision: `@` obeys autocast and TF32, rotations should not."""
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(-2)


def _refuse_other_matrices(matrix: Tensor) -> None:
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(f"matrix must be (..., 3, 3), got {tuple(matrix.shape)}")


def _refuse_other_quaternion_order(order: str) -> None:
    if order not in ("xyzw", "wxyz"):
        raise ValueError(f"order of a quaternion must be 'xyzw' or 'wxyz', got {order!r}")
