import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "official_parity.py"


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_every_output_is_the_official_one_and_a_mistake_would_show():
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=True)
    rows = [line[45:].split()[:2] for line in run.stdout.splitlines()[1:]]
    found = [(float(difference), float(mistaken)) for difference, mistaken in rows]
    assert len(found) >= 20
    assert all(difference < 2e-5 for difference, _ in found)
    assert sum(mistaken > 100 * difference for difference, mistaken in found) > len(found) / 2
