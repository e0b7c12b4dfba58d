"""A run as it goes, in the terminal: a line for each plan; a bar only where a person watches."""

from __future__ import annotations

from typing import TextIO

from planning.control.mpc import PlanRecord

BAR_WIDTH = 24


class Progress:
    """Prints one line for each plan, and its warnings the first time that they come.

    Args:
        stream: where to.
        max_steps: the budget of the run, for the bar.
        num_goals: that are pursued; more than one are told.
    """

    def __init__(self, stream: TextIO, *, max_steps: int, num_goals: int = 1) -> None:
        self.stream, self.max_steps, self.num_goals = stream, max_steps, num_goals
        self._has_bar = stream.isatty()
        self._told: set[str] = set()

    def on_plan(self, record: PlanRecord) -> None:
        """Tells of a plan."""
        self._erase_bar()
        self._print(plan_line(record, num_goals=self.num_goals))
        for warning in record.plan.warnings:
            kind = warning.partition(":")[0]
            if kind not in self._told:
                self._told.add(kind)
                self._print(f"  warning: {warning} (told once)")
        if self._has_bar:
            share = min(1.0, record.step / max(self.max_steps, 1))
            filled = "#" * round(share * BAR_WIDTH)
            self.stream.write(f"[{filled:<{BAR_WIDTH}}] step {record.step} of {self.max_steps}")
            self.stream.flush()

    def close(self) -> None:
        """Leaves the terminal as it was found."""
        self._erase_bar()

    def _print(self, line: str) -> None:
        self.stream.write(line + "\n")
        self.stream.flush()

    def _erase_bar(self) -> None:
        if self._has_bar:
            self.stream.write("\r\x1b[2K")


def plan_line(record: PlanRecord, *, num_goals: int = 1) -> str:
    """Returns one line: step, distance, cost, milliseconds, and what is worth a look."""
    plan = record.plan
    goal = f"goal {record.goal_index + 1}/{num_goals}  " if num_goals > 1 else ""
    parts = [
        f"step {record.step:3d}  {goal}latent distance {record.latent_distance:8.4g}",
        f"cost {plan.cost:8.4g}",
        f"{plan.num_rollouts:6d} rollouts",
        f"{plan.seconds * 1e3:6.0f} ms",
        f"{plan.saturation:4.0%} at bounds",
    ]
    if plan.uncertainty is not None:
        parts.append(f"uncertainty {plan.uncertainty.mean().item():.3g}")
    late = 0 if record.begins_at_step is None else record.begins_at_step - record.step
    if late:
        parts.append(f"from step {record.begins_at_step}")
    if plan.warnings:
        parts.append("! " + ", ".join(w.partition(":")[0] for w in plan.warnings))
    return "  ".join(parts)
