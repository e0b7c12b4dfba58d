"""What a bad input is made of, and what each owes its user: an exit code and one clear line.

A row of a table gives a way to make the input, the arguments of `jepa` and what the line must say.
The tables are in test_bad_configs.py, test_bad_shards.py and so on; the numbers are of one list.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from jepa import lightning_cli  # noqa: F401  (Lightning's log goes to no single test's stderr)
from jepa.__main__ import main

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
ROOT = Path(__file__).resolve().parents[2]


class Row(NamedTuple):
    """One bad input.

    Attributes:
        number: its place in the list of bad inputs.
        what: in words.
        arguments: of `jepa`, given the inputs that are good; may write into the working folder.
        says: found in the line (a regular expression); of a result, in what is printed.
        code: the exit code; 0 for what is odd, and taken, 1 for a result of a verb that checks.
    """

    number: int
    what: str
    arguments: Callable[["Inputs"], list]
    says: str
    code: int = 2


class Inputs(NamedTuple):
    """Good inputs, made once and only read; `here` is an empty folder, the working folder."""

    videos: Path
    shards: Path
    here: Path

    def copy_of_shards(self) -> Path:
        return Path(shutil.copytree(self.shards, self.here / "shards"))

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


def fit(*options: object, config: object = "pretrain/tiny.yaml") -> list:
    """Arguments of a training of two steps on a CPU."""
    return [
        "fit", "--config", config, "--trainer.accelerator", "cpu", "--trainer.max_steps", 2,
        "--data.steps_per_epoch", 2, "--data.batch_size", 4,
        "--trainer.enable_model_summary", "false", *options,
    ]  # fmt: skip


def params(rows: list[Row], *, quick: tuple[int, ...]) -> list:
    """The rows as parameters; those whose number is not in `quick` are long."""
    return [
        pytest.param(
            row,
            id=f"{row.number}-{re.sub('[^a-z0-9]+', '-', row.what.lower())}",
            marks=[] if row.number in quick else [LONG],
        )
        for row in rows
    ]


def check(row: Row, inputs: Inputs, capfd: pytest.CaptureFixture[str]) -> None:
    """Runs a row and holds it against what it owes: logs, then the line, then nothing.

    Seen to fail without `_flattened` of jepa/command_line.py in its `_write_error`: two lines.
    """
    code = main([str(argument) for argument in row.arguments(inputs)])
    printed, errors = capfd.readouterr()
    every = errors.splitlines()
    lines = [line for line in every if line.startswith("error: ")]
    assert "Traceback" not in errors + printed, errors
    assert code == row.code, (code, errors[-2000:], printed[-500:])
    assert "secret" not in errors + printed  # of a URL
    if row.code in (0, 1):
        assert lines == [] and re.search(row.says, printed + errors), printed + errors
        return
    assert len(lines) == 1 and every[-1] == lines[0], errors
    assert re.search(row.says, lines[0]), lines[0]
    assert 20 < len(lines[0]) < 1200 and "internal error" not in lines[0], lines[0]
