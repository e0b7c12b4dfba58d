"""What a robot is told when it shall stand still, and how it gets there inside its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from planning.actions.space import ActionSpec
from planning.types import Environment

MAX_BRAKING_STEPS = 1000
ROUNDING = 1e-5


def standing_still(
    spec: ActionSpec, *, last: np.ndarray | None, standstill: Sequence[float] | None = None
) -> np.ndarray:
    """Returns the action (action_dim,) that stands still: zero, with binary grippers as they are.

    Args:
        spec: of the environment's actions.
        last: (action_dim,), what was executed last; None: nothing yet.
        standstill: (action_dim,), what stands still instead of zero. Binary grippers stay as they
            were all the same, once anything was executed.

    Raises:
        ValueError: if nothing says which action that is: choices have no zero, nor has a binary
            gripper that has not been told anything yet.
    """
    grippers = binary_grippers(spec)
    if standstill is None and spec.kind == "one_hot":
        raise ValueError(
            f"choices ({', '.join(spec.names)}) have no zero action; planning while acting needs "
            "standstill=, the choice that does nothing"
        )
    if standstill is None and last is None and grippers:
        names = ", ".join(spec.names[column] for column in grippers)
        raise ValueError(
            f"a binary gripper ({names}) has no zero, and nothing was executed yet; give "
            "standstill=, the action that leaves everything as it is"
        )
    still = np.array(np.zeros(spec.dim) if standstill is None else standstill, np.float32)
    if last is not None and still.shape == (spec.dim,):
        still[grippers] = last[grippers]
    return spec.validate(still)


def binary_grippers(spec: ActionSpec) -> list[int]:
    """Returns the dimensions of grippers that are either open or closed."""
    return [spec.names.index(gripper.name) for gripper in spec.grippers if gripper.way == "binary"]


def keeps_limits(spec: ActionSpec, action: np.ndarray, before: np.ndarray) -> bool:
    """Returns whether an action is inside the limits, but for rounding: quick, and changes nothing.

    Args:
        spec: of the environment's actions.
        action: (action_dim,).
        before: (action_dim,), what was executed before.
    """
    largest = np.inf if spec.max_change is None else np.array(spec.max_change) + ROUNDING
    if (np.abs(action - before) > largest).any():
        return False
    if (action < np.array(spec.low) - ROUNDING).any():
        return False
    if (action > np.array(spec.high) + ROUNDING).any():
        return False
    for gripper in spec.grippers:
        column = spec.names.index(gripper.name)
        value = torch.tensor(float(action[column]))
        if gripper.snapped(value, spec.low[column], spec.high[column]) != value:
            return False
    return all(
        np.linalg.norm(action[[spec.names.index(name) for name in limit.names]], limit.order)
        <= limit.max_norm + ROUNDING
        for limit in spec.norm_limits
    )


def come_to_rest(
    environment: Environment,
    target: np.ndarray,
    *,
    last: np.ndarray,
    pace: Callable[[], None] | None = None,
) -> None:
    """Executes `target`, in as many steps as the largest change from step to step demands.

    Args:
        environment: ends this earlier if it ends the episode.
        target: (action_dim,), what shall be executed in the end.
        last: (action_dim,), what was executed last.
        pace: waits between steps.
    """
    spec = environment.action_spec
    action = spec.validate(target, last)
    for _ in range(MAX_BRAKING_STEPS):
        following = spec.validate(target, action)
        if environment.step(action).is_last or np.array_equal(following, action):
            return
        action = following
        if pace is not None:
            pace()
