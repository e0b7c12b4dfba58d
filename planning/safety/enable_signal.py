"""A signal that a person holds: while it is renewed the robot may move. NOT safety-rated."""

from __future__ import annotations

import time
from collections.abc import Callable

from planning.safety.safe_stop import SafeStop

MAX_AGE_SECONDS = 0.5


class EnableSignal:
    """Must be renewed at least every half second; once lost, renewing it is not enough.

    This is software on an ordinary computer. It does not replace a wired enabling device or an
    emergency stop.

    Args:
        max_age_seconds: so long does one renewal last, at most `MAX_AGE_SECONDS`.
        clock: seconds, never going back.

    Raises:
        ValueError: if the age is out of range.
    """

    def __init__(
        self,
        max_age_seconds: float = MAX_AGE_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < max_age_seconds <= MAX_AGE_SECONDS:
            raise ValueError(
                f"max_age_seconds must be above 0 and at most {MAX_AGE_SECONDS}, got "
                f"{max_age_seconds}"
            )
        self.max_age_seconds, self._clock = max_age_seconds, clock
        self._renewed: float | None = None
        self._is_lost = True  # nobody holds it yet

    def reset(self) -> None:
        """Allows motion again, from now on: the deliberate act of a person."""
        self._renewed, self._is_lost = self._clock(), False

    def renew(self) -> None:
        """Holds it a little longer; does nothing once it was lost."""
        self._note_loss()
        if not self._is_lost:
            self._renewed = self._clock()

    @property
    def is_held(self) -> bool:
        """Whether the robot may move now."""
        self._note_loss()
        return not self._is_lost

    def check(self) -> None:
        """Raises SafeStop if it is not held."""
        if not self.is_held:
            what = "was never given" if self._renewed is None else "was lost"
            raise SafeStop("enable", f"the enable signal {what}; reset it to move")

    def _note_loss(self) -> None:
        if self._renewed is None or self._clock() - self._renewed > self.max_age_seconds:
            self._is_lost = True
