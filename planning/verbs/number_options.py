"""Whole numbers of the command line that have bounds, told with the option before any work."""

from __future__ import annotations

import argparse
from collections.abc import Callable

# torch and NumPy take 64 bits; of an evaluation, task i has the seed + i.
MAX_SEED = 2**63 - 1
MAX_SAMPLES = 1_000_000  # sequences of a round: as much as any planner of the field, a hundredfold
MAX_HELD_STEPS = 1000  # of the environment: a landscape imagines and simulates each of them
MAX_CELLS = 201  # along each axis: 40,401 rollouts


def seed(text: str) -> int:
    """Returns a seed.

    Raises:
        argparse.ArgumentTypeError: if it is none from 0 to `MAX_SEED`.
    """
    number = _whole(text)
    if not 0 <= number <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"must be from 0 to {MAX_SEED}, got {_shown(text)}")
    return number


def at_most(limit: int) -> Callable[[str], int]:
    """Returns a reader of whole numbers up to a limit; what is too low, those know who count."""

    def read(text: str) -> int:
        if (number := _whole(text)) > limit:
            raise argparse.ArgumentTypeError(f"must be at most {limit:,}, got {_shown(text)}")
        return number

    return read


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # no number, or one of more digits than Python reads
        raise argparse.ArgumentTypeError(f"must be a whole number, got {_shown(text)}") from None


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:37]!r}... ({len(text)} characters)"
