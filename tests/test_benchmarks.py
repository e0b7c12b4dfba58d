"""Each benchmark starts as its docstring says: from anywhere, with the package installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
STARTED = sorted(file.name for file in BENCHMARKS.glob("*.py") if "__main__" in file.read_text())


@LONG
@pytest.mark.parametrize("name", STARTED)
def test_a_benchmark_starts_from_anywhere(tmp_path, name):
    """Seen to fail with `benchmarks/` alone on the path: planning.py there hid the package."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0 and "usage:" in run.stdout, run.stderr[-800:]
