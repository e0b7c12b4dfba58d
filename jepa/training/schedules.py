"""How a rate moves over a run: pure functions of the step, chosen by class in the config.

A schedule says which share of the configured rate an update gets. Updates are numbered from 0; a
schedule has reached its end at the last update of the run, so it ends where training ends. Those of
the released recipes do not: see `Stretched`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

DEFAULT_WARMUP_FRACTION = 0.05


class Schedule(ABC):
    """A share of the configured rate for every update."""

    @abstractmethod
    def fraction_at(self, step: int, *, total_steps: float) -> float:
        """Returns the share for one update.

        Args:
            step: updates done before, from 0.
            total_steps: updates of the whole run; may be infinite where nothing waits for the end.

        Raises:
            ValueError: if the schedule aims at the end of a run that has none.
        """


@dataclass(frozen=True)
class WarmupConstant(Schedule):
    """Rises linearly to 1 and stays there (V-JEPA 2, arXiv:2506.09985, App. A: 12,000 steps up).

    Args:
        warmup_fraction: share of the updates that rise, in [0, 1); None: 0.05, or warmup_steps.
        warmup_steps: the same as a number of updates; give one of the two.
        start_fraction: share from which the rise starts, in [0, 1].
    """

    warmup_fraction: float | None = None
    warmup_steps: int | None = None
    start_fraction: float = 0.0

    def __post_init__(self) -> None:
        _refuse_wrong_warmup(self.warmup_fraction, self.warmup_steps)
        _refuse_out_of_range(start_fraction=self.start_fraction)

    def fraction_at(self, step: int, *, total_steps: float) -> float:
        """See `Schedule.fraction_at`."""
        warmup = _warmup_steps(self.warmup_fraction, self.warmup_steps, total_steps)
        if step + 1 >= warmup:
            return 1.0
        return _between(self.start_fraction, 1.0, (step + 1) / warmup)


@dataclass(frozen=True)
class WarmupCosine(Schedule):
    """Rises linearly to 1, then falls along half a cosine.

    Args:
        warmup_fraction: share of the updates that rise, in [0, 1); None: 0.05, or warmup_steps.
        warmup_steps: the same as a number of updates; give one of the two.
        start_fraction: share from which the rise starts, in [0, 1].
        final_fraction: share of the last update, in [0, 1].
    """

    warmup_fraction: float | None = None
    warmup_steps: int | None = None
    start_fraction: float = 0.0
    final_fraction: float = 0.002

    def __post_init__(self) -> None:
        _refuse_wrong_warmup(self.warmup_fraction, self.warmup_steps)
        _refuse_out_of_range(start_fraction=self.start_fraction, final_fraction=self.final_fraction)

    def fraction_at(self, step: int, *, total_steps: float) -> float:
        """See `Schedule.fraction_at`."""
        _refuse_endless(total_steps)
        warmup = _warmup_steps(self.warmup_fraction, self.warmup_steps, total_steps)
        if step + 1 < warmup:
            return _between(self.start_fraction, 1.0, (step + 1) / warmup)
        progress = (step + 1 - warmup) / max(total_steps - warmup, 1)
        return _along_cosine(1.0, self.final_fraction, progress)


@dataclass(frozen=True)
class WarmupConstantCooldown(Schedule):
    """Rises linearly to 1, stays there, and falls linearly at the end of the same run.

    Args:
        warmup_fraction: share of the updates that rise, in [0, 1); None: 0.05, or warmup_steps.
        warmup_steps: the same as a number of updates; give one of the two.
        start_fraction: share from which the rise starts, in [0, 1].
        cooldown_fraction: share of the updates that fall, in [0, 1].
        final_fraction: share of the last update, in [0, 1].
    """

    warmup_fraction: float | None = None
    warmup_steps: int | None = None
    start_fraction: float = 0.0
    cooldown_fraction: float = 0.2
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        _refuse_wrong_warmup(self.warmup_fraction, self.warmup_steps)
        _refuse_out_of_range(
            start_fraction=self.start_fraction,
            cooldown_fraction=self.cooldown_fraction,
            final_fraction=self.final_fraction,
        )

    def fraction_at(self, step: int, *, total_steps: float) -> float:
        """See `Schedule.fraction_at`."""
        _refuse_endless(total_steps)
        rise = WarmupConstant(self.warmup_fraction, self.warmup_steps, self.start_fraction)
        cooldown = round(self.cooldown_fraction * total_steps)
        fallen = step + 1 - (total_steps - cooldown)  # updates of the cooldown that are done
        fall = 1.0 if fallen <= 0 else _between(1.0, self.final_fraction, fallen / cooldown)
        return rise.fraction_at(step, total_steps=total_steps) * fall


@dataclass(frozen=True)
class LinearCooldown(Schedule):
    """Falls linearly over the whole run: for a cooldown stage, which starts at the full rate.

    Args:
        final_fraction: share of the last update, in [0, 1].
    """

    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        _refuse_out_of_range(final_fraction=self.final_fraction)

    def fraction_at(self, step: int, *, total_steps: float) -> float:
        """See `Schedule.fraction_at`."""
        _refuse_endless(total_steps)
        return _between(1.0, self.final_fraction, (step + 1) / total_steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Moves along half a cosine from one share to another: for a weight decay that rises.

    Args:
        first_fraction: where it comes from, 0 or more; 0.1 of a weight decay of 0.4 is 0.04.
        final_fraction: share of the last update, 0 or more.
    """

    first_fraction: float
    final_fraction: float = 1.0

    def __post_init__(self) -> None:
        if not (self.first_fraction >= 0 and self.final_fraction >= 0):
            raise ValueError(
                "first_fraction and final_fraction must be at least 0, got "
                f"{self.first_fraction} and {self.final_fraction}"
            )

    def fraction_at(self, step: int, *, total_steps: float) -> float:
        """See `Schedule.fraction_at`."""
        _refuse_endless(total_steps)
        return _along_cosine(self.first_fraction, self.final_fraction, (step + 1) / total_steps)


@dataclass(frozen=True)
class Stretched(Schedule):
    """A schedule made for a longer run than this one, so that it never comes to its end.

    The released recipes of I-JEPA, V-JEPA and V-JEPA 2 stretch all of theirs by 1.25 (`ipe_scale`),
    so the V-JEPA recipe stops at a rate of 7.5e-5 where its config says 1e-6. With warmup_steps
    (not warmup_fraction) this is their schedule, update by update.

    Args:
        schedule: what is stretched.
        factor: its length over that of the run, at least 1.
    """

    schedule: Schedule
    factor: float = 1.25

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and math.isfinite(self.factor)):
            raise ValueError(f"factor must be at least 1, got {self.factor}")

    def fraction_at(self, step: int, *, total_steps: float) -> float:
        """See `Schedule.fraction_at`."""
        _refuse_endless(total_steps)
        return self.schedule.fraction_at(step, total_steps=int(self.factor * total_steps))


def _warmup_steps(fraction: float | None, steps: int | None, total_steps: float) -> int:
    if steps is not None:
        return steps
    _refuse_endless(total_steps)
    return round((DEFAULT_WARMUP_FRACTION if fraction is None else fraction) * total_steps)


def _between(first: float, last: float, progress: float) -> float:
    return first + (last - first) * min(progress, 1.0)


def _along_cosine(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _refuse_endless(total_steps: float) -> None:
    if not math.isfinite(total_steps):
        raise ValueError(
            "the schedule follows the length of the run, and this one has no end: set "
            "trainer.max_steps"
        )


def _refuse_wrong_warmup(fraction: float | None, steps: int | None) -> None:
    if fraction is not None and steps is not None:
        raise ValueError(
            f"give warmup_fraction or warmup_steps, not both; got {fraction} and {steps}"
        )
    if fraction is not None and not 0 <= fraction < 1:
        raise ValueError(f"warmup_fraction must be in [0, 1), got {fraction}")
    if steps is not None and steps < 0:
        raise ValueError(f"warmup_steps must be at least 0, got {steps}")


def _refuse_out_of_range(**fractions: float) -> None:
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
