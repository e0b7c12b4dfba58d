"""Two runs on the same tasks: only tasks that one solved and the other did not tell them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planning.benchmarking.run_folder import RunFolder
from planning.evaluation import Rate, wilson_interval


@dataclass(frozen=True)
class PairedComparison:
    """Successes of two policies on the same tasks.

    Attributes:
        both: tasks that both solved.
        only_a: that only the first solved.
        only_b: that only the second solved.
        neither: that neither solved.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    @classmethod
    def of(cls, a: Sequence[bool], b: Sequence[bool]) -> PairedComparison:
        """Counts outcomes of the same tasks, in the same order.

        Raises:
            ValueError: if there are none, or not as many of each.
        """
        if len(a) != len(b) or not a:
            raise ValueError(f"need as many outcomes of each, got {len(a)} and {len(b)}")
        pairs = list(zip(map(bool, a), map(bool, b), strict=True))
        counts = [pairs.count(pair) for pair in
                  ((True, True), (True, False), (False, True), (False, False))]  # fmt: skip
        return cls(*counts)

    @property
    def num_tasks(self) -> int:
        """How many tasks."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Success of the first minus that of the second."""
        return (self.only_a - self.only_b) / self.num_tasks

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided: both are equally good.

        Of the tasks that only one solved, each is as likely the first's as the second's.
        """
        discordant, fewer = self.only_a + self.only_b, min(self.only_a, self.only_b)
        ways = sum(math.comb(discordant, count) for count in range(fewer + 1))
        return min(1.0, 2 * ways / 2**discordant)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference: method 10 of Newcombe (Stat. Med. 17, 1998, 2635)."""
        n = self.num_tasks
        ours, theirs = self.both + self.only_a, self.both + self.only_b
        p, q = ours / n, theirs / n
        (low_p, high_p), (low_q, high_q) = wilson_interval(ours, n), wilson_interval(theirs, n)
        phi = self._correlation()
        below = _length(p - low_p, high_q - q, phi)
        above = _length(high_p - p, q - low_q, phi)
        return max(-1.0, p - q - below), min(1.0, p - q + above)

    def _correlation(self) -> float:
        """Of the two outcomes, corrected for continuity where it is positive; 0 if undefined."""
        a, b, c, d = self.both, self.only_a, self.only_b, self.neither
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        if not margins:
            return 0.0
        product = a * d - b * c
        if product > 0:
            product = max(product - self.num_tasks / 2, 0)
        return product / math.sqrt(margins)


def compare_runs(
    a: RunFolder, b: RunFolder, *, policy_a: str = "planner", policy_b: str = "planner"
) -> PairedComparison:
    """Compares a policy of one run with one of another (or of the same).

    Raises:
        ValueError: if the runs are not of the same card, version, tasks and number of tasks.
    """
    for key, called in (("name", "card"), ("version", "version"), ("tasks_sha256", "tasks"),
                        ("sha256", "card file")):  # fmt: skip
        if a.card[key] != b.card[key]:
            raise ValueError(
                f"these runs cannot be compared: {called} {_short(a.card[key])} ({a.path}) and "
                f"{_short(b.card[key])} ({b.path}); evaluate both on one card"
            )
    ours, theirs = a.episodes(policy_a), b.episodes(policy_b)
    if [row["task"] for row in ours] != [row["task"] for row in theirs]:
        raise ValueError(
            f"these runs cannot be compared: {a.path} has {len(ours)} tasks and {b.path} "
            f"{len(theirs)}; evaluate both with the same --episodes"
        )
    return PairedComparison.of(
        [row["is_success"] for row in ours], [row["is_success"] for row in theirs]
    )


def comparison_text(comparison: PairedComparison, *, name_a: str, name_b: str) -> str:
    """Returns what a reader wants to know, in a few lines."""
    n, (low, high) = comparison.num_tasks, comparison.interval
    rates = [
        Rate.of([True] * count + [False] * (n - count))
        for count in (comparison.both + comparison.only_a, comparison.both + comparison.only_b)
    ]
    width = max(len(name_a), len(name_b))
    verdict = "they differ" if comparison.p_value < 0.05 else "no difference is shown"
    return "\n".join([
        f"A  {name_a:<{width}}  {rates[0]}",
        f"B  {name_b:<{width}}  {rates[1]}",
        f"of {n} tasks: both {comparison.both}, only A {comparison.only_a}, "
        f"only B {comparison.only_b}, neither {comparison.neither}",
        f"A - B: {100 * comparison.difference:+.1f} points "
        f"[{100 * low:+.1f}, {100 * high:+.1f}], McNemar exact p = {comparison.p_value:.3g}: "
        f"{verdict}",
    ])  # fmt: skip


def _length(x: float, y: float, correlation: float) -> float:
    return math.sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y))


def _short(value: object) -> str:
    return str(value)[:20]
