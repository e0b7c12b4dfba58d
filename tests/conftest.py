"""For every test: no network, no window; and torchvision beside a CPU-only torch.

REQUIRE_EXTRAS=1 in the environment says that all optional packages are installed: a test that is
skipped because one is missing fails. LONG_TESTS=1 runs the long forms too, `-m long` only those.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

import data_pipelines  # noqa: F401  (its hook must be there before anything imports torchvision)

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", MPLBACKEND="Agg")

# What skips for a missing package say: ours how to install it, importorskip's own the module.
MISSING_PACKAGE = re.compile(r"pip install|apt-get install|could not import|No module named")


def pytest_itemcollected(item):
    """Marks what skips without LONG_TESTS as long: CI finds it wherever it is."""
    if any("LONG_TESTS" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skipif")):
        item.add_marker("long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return failed_if_a_package_is_missing((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return failed_if_a_package_is_missing((yield))  # a whole file was skipped


def failed_if_a_package_is_missing(report):
    """Returns the report; under REQUIRE_EXTRAS a failure, if it was a skip for a package."""
    if "REQUIRE_EXTRAS" in os.environ and report.skipped and not hasattr(report, "wasxfail"):
        file, line, reason = report.longrepr
        if MISSING_PACKAGE.search(reason):
            report.outcome = "failed"
            reason = reason.removeprefix("Skipped: ")
            report.longrepr = f"skipped, but REQUIRE_EXTRAS is set: {reason} ({file}:{line})"
    return report


class QuickDemo(NamedTuple):
    """One run of `jepa demo --quick` in an empty folder."""

    folder: Path
    returncode: int
    output: str


@pytest.fixture(scope="session")
def quick_demo(tmp_path_factory):
    """The demo as a newcomer runs it: once for all tests, also where several processes test."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, told = shared / "quick_demo", shared / "quick_demo.json"
    with FileLock(shared / "quick_demo.lock"):
        if not told.exists():
            folder.mkdir()
            done = subprocess.run(
                [sys.executable, "-m", "jepa", "demo", "--quick"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
                capture_output=True,
                text=True,
                timeout=600,
            )
            told.write_text(json.dumps([done.returncode, done.stdout + done.stderr]))
    return QuickDemo(folder / "runs" / "demo", *json.loads(told.read_text()))
