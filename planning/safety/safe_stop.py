"""The explicit "no action": what a planner or a controller raises instead of a doubtful one."""

from __future__ import annotations

import logging
from typing import Literal, get_args

logger = logging.getLogger(__name__)

Reason = Literal[
    "not finite",  # NaN or infinity in latents, costs or plans, or too few finite ones
    "action",  # not finite, or of another shape
    "observation",  # no frame, or one that is stale, frozen, out of order, from the future
    "workspace",  # the robot is where it may not be
    "environment",  # it raised, hung, or broke its promises
    "planner",  # its process died, or says nothing
    "model mismatch",  # what is seen is not what was predicted, or the goal comes no nearer
    "enable",  # the enable signal was not renewed
    "silence",  # no valid command for too long
    "latched",  # it was stopped before, and nobody has reset it
]


class SafeStop(Exception):
    """There is no action that should be executed: the robot is to stand still.

    Args:
        reason: what kind of thing happened.
        detail: one line: what came, and what is allowed.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        assert reason in get_args(Reason)
        super().__init__(f"stopped ({reason}): {detail}")
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[SafeStop], tuple[Reason, str]]:
        """Can be sent from the planner's process to the loop."""
        return type(self), (self.reason, self.detail)


class NotFiniteStop(SafeStop, FloatingPointError):
    """Something is NaN or infinite, or too much of it: any action would be meaningless.

    Args:
        detail: one line.
    """

    def __init__(self, detail: str) -> None:
        super().__init__("not finite", detail)

    def __reduce__(self) -> tuple[type[SafeStop], tuple[str]]:  # pyright: ignore
        """Can be sent from the planner's process to the loop."""
        return type(self), (self.detail,)


class RefusedAction(SafeStop, ValueError):
    """An action that no limit can mend: not finite, or of another shape.

    Args:
        detail: one line.
    """

    def __init__(self, detail: str) -> None:
        super().__init__("action", detail)

    def __reduce__(self) -> tuple[type[SafeStop], tuple[str]]:  # pyright: ignore
        """Can be sent from the planner's process to the loop."""
        return type(self), (self.detail,)


def tell_beside(error: BaseException | None, line: str) -> None:
    """Logs what failed while another error was dealt with, and adds it to that error's text."""
    logger.error(line)
    add_note = getattr(error, "add_note", None)  # from Python 3.11 on
    if add_note is not None:
        add_note(line)
