import os
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    import recipes

    return recipes


def found(benchmark, name, r2, untrained_r2):
    return benchmark.Found(name, 1.0, 0.5, 10.0, 2.9, 0.03, 0.1, r2, untrained_r2, False)


def test_means_are_over_seeds_and_show_the_gain_of_each(benchmark, capsys):
    rows = [found(benchmark, "v-jepa", 0.9, 0.7), found(benchmark, "v-jepa", 0.7, 0.8)]
    benchmark.print_means({"v-jepa": rows})
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "v-jepa", "0.800", "0.750", "+0.050", "+0.200,", "-0.100",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_each_seed_has_its_rows_and_the_floor_of_the_rank(benchmark, monkeypatch, capsys):
    options = ("--steps", "2", "--episodes", "8", "--rows", "60", "--seeds", "3", "4")
    names = ("--only", "i-jepa-images", "distillation", "vicreg")
    monkeypatch.setattr(sys, "argv", ["recipes.py", *options, *names])
    benchmark.main()
    printed = capsys.readouterr().out
    rows = re.findall(r"^(\S+) +[\d.]+ -> +[\d.]+ +[\d.]+ +([\d.]+) ", printed, re.M)
    seed = [("v-jepa", "2.9"), ("i-jepa-images", "2.9"), ("vicreg", "3.2"), ("distillation", "2.9")]
    assert rows == 2 * seed  # a teacher is trained though nobody asked for its row
    assert "2 steps of 32 clips, seed 3" in printed and "mean over seeds" in printed
