import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.control.mpc import PlanRecord
from planning.control.progress import Progress, plan_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def record(make_plan):
    plan = replace(
        make_plan(torch.zeros(4, 2)), cost=0.25, seconds=0.0123, num_rollouts=384, saturation=0.5,
        warnings=("saturation: half of it lies at the bounds",),
    )  # fmt: skip
    return PlanRecord(8, plan, np.zeros(4), 1.5, 0, 8)


def test_a_plan_is_one_line_with_its_numbers(record):
    line = plan_line(record)
    assert "\n" not in line
    for part in ("step   8", "latent distance      1.5", "cost     0.25", "384 rollouts",
                 "12 ms", "50% at bounds", "! saturation"):  # fmt: skip
        assert part in line
    assert "goal" not in line and "from step" not in line


def test_sub_goals_uncertainty_and_a_later_beginning_are_told(record):
    plan = replace(record.plan, uncertainty=torch.tensor([0.1, 0.3]))
    line = plan_line(PlanRecord(8, plan, np.zeros(4), 1.5, 1, 11), num_goals=3)
    assert "goal 2/3" in line and "uncertainty 0.2" in line and "from step 11" in line


def test_a_warning_is_told_once(record):
    stream = io.StringIO()
    progress = Progress(stream, max_steps=20)
    for _ in range(3):
        progress.on_plan(record)
    progress.close()
    text = stream.getvalue()
    assert text.count("half of it lies at the bounds") == 1
    assert text.count("step   8") == 3
    assert "\r" not in text and "[" not in text  # no terminal, no bar


def test_a_terminal_has_a_bar_that_is_erased_at_the_end(record):
    stream = Terminal()
    progress = Progress(stream, max_steps=16)
    progress.on_plan(record)
    assert stream.getvalue().endswith(f"[{'#' * 12}{' ' * 12}] step 8 of 16")
    progress.close()
    assert stream.getvalue().endswith("\r\x1b[2K")
