"""Which action comes next while planning goes on: the plan's, or what bridges a gap."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np

from planning.actions.space import ActionSpec
from planning.actions.standstill import binary_grippers, keeps_limits, standing_still

StalePolicy = Literal["continue", "hold", "zero"]


class Motion:
    """What is executed step by step, inside all limits.

    Args:
        stale: what bridges the time when a plan is late, see `AsynchronousPolicy`.
        max_hold_steps: after so many held steps it stands still.
        standstill: (action_dim,), the action that stands still; None: zero.

    Attributes:
        last: (action_dim,), what was executed last.
        is_still: it left the robot where it was.
        is_late: the next plan should be here, and is not.
    """

    def __init__(
        self, stale: StalePolicy, max_hold_steps: int, standstill: Sequence[float] | None
    ) -> None:
        self.stale: StalePolicy = stale
        self.max_hold_steps = max_hold_steps
        self.last: np.ndarray | None = None
        self.is_still, self.is_late = True, False
        self._standstill = standstill
        self._spec: ActionSpec | None = None  # of one step of the environment
        self._rest, self._grippers = np.zeros(0, np.float32), []
        self._queue: deque[np.ndarray] = deque()
        self._num_held = 0

    def begin(self, spec: ActionSpec) -> None:
        """Learns what an action is; raises ValueError if that does not say what stands still."""
        self._spec = spec
        self._rest = standing_still(spec, last=None, standstill=self._standstill)
        self._grippers = binary_grippers(spec)

    def follow(self, actions: np.ndarray) -> None:
        """Replaces what was left of the plan before."""
        self._queue, self.is_late, self._num_held = deque(actions), False, 0

    def advance(self, *, is_predicted: bool = False) -> tuple[np.ndarray, bool]:
        """Returns the next action, and whether a plan says so.

        Args:
            is_predicted: it is not executed: rounding errors outside the limits do not matter, so
                the slow exact projection is left out where nothing else is to be mended.
        """
        assert self._spec is not None
        before = self.before
        is_planned = bool(self._queue) and (self.stale == "continue" or not self.is_late)
        if is_planned:
            wanted = self._queue.popleft()
        else:
            self._queue.clear()
            wanted, self._num_held = self.bridge(), self._num_held + 1
        is_fine = is_predicted and keeps_limits(self._spec, wanted, before)
        self.last = wanted if is_fine else self._spec.validate(wanted, before)
        self.is_still = np.array_equal(self.last, self._at_rest(before))
        return self.last, is_planned

    @property
    def before(self) -> np.ndarray:
        """What the next action is limited by: the last one; a robot begins standing still."""
        return self._at_rest(None) if self.last is None else self.last

    def bridge(self) -> np.ndarray:
        """Returns what is done where no plan says what."""
        may_hold = self.stale == "hold" and self._num_held < self.max_hold_steps
        return self.last if may_hold and self.last is not None else self._at_rest(self.last)

    def upcoming(self, num_steps: int) -> tuple[np.ndarray, int]:
        """Returns what comes if no other plan arrives.

        Returns:
            The next actions (num_steps, action_dim), and how many it takes until all that are left
            stand still.
        """
        ahead, actions, num_moving = self._copy(), [], 0
        for step in range(num_steps):
            actions.append(ahead.advance(is_predicted=True)[0])
            num_moving = num_moving if ahead.is_still else step + 1
        nothing = np.empty((0, len(self.before)), np.float32)
        return (np.stack(actions) if actions else nothing), num_moving

    def steps_until_still(self, most: int) -> int:
        """Returns after how many steps, from 1 to `most`, no plan is left and nothing moves."""
        ahead = self._copy()
        for step in range(most):
            _, is_planned = ahead.advance(is_predicted=True)
            if ahead.is_still and not is_planned:
                return max(1, step)
        return most

    def _copy(self) -> Motion:
        ahead = copy.copy(self)
        ahead._queue = self._queue.copy()
        return ahead

    def _at_rest(self, last: np.ndarray | None) -> np.ndarray:
        still = self._rest.copy()
        if last is not None:
            still[self._grippers] = last[self._grippers]
        return still
