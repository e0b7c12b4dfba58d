"""Checks of settings that come from files: a config may hold any JSON, and errors should say which.

Without them a patch size of 0 is a division by zero, and a width of -48 a line of C++.
"""

from __future__ import annotations

import math

MAX_COUNT = 1_000_000  # far above any model; products of a few such numbers are still int64
MAX_RATIO = 1_000.0


def refuse_wrong_counts(least: int = 1, **values: object) -> None:
    """Raises ValueError unless every value is a whole number that a model can have.

    Args:
        least: the smallest that is allowed.
        values: by the names of their settings.

    Raises:
        ValueError: naming the first setting that is no int, or out of range.
    """
    for name, value in values.items():
        if type(value) is not int or not least <= value <= MAX_COUNT:
            raise ValueError(
                f"{name} must be a whole number from {least} to {MAX_COUNT}, got {value!r}"
            )


def refuse_wrong_ratios(**values: object) -> None:
    """Raises ValueError unless every value is a number above 0, as the MLP's width over dim."""
    for name, value in values.items():
        is_number = type(value) in (int, float) and math.isfinite(value)  # pyright: ignore
        if not is_number or not 0 < value <= MAX_RATIO:  # pyright: ignore[reportOperatorIssue]
            raise ValueError(
                f"{name} must be a number above 0 and at most {MAX_RATIO:g}, got {value!r}"
            )
