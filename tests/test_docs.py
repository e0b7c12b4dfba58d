"""The commands of the pages: every ```bash block runs, in order, in an empty folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def commands(page):
    """The lines of the ```bash blocks; what needs a download or a robot stands in ```sh blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip()]


PAGES_THAT_RUN = [
    page
    for page in PAGES
    if (page.parent.name == "data" or page.stem in ("evaluation", "planning", "protocols"))
    and commands(page)
]


def test_there_are_pages_that_run():
    expected = {"own_videos", "lerobot", "video_lists", "evaluation", "planning", "protocols"}
    assert expected <= {p.stem for p in PAGES_THAT_RUN}


def page_param(page):
    """A page; those that plan and measure take long, as does packing in all the ways there are."""
    is_long = page.stem in ("evaluation", "own_videos", "planning", "protocols")
    return pytest.param(page, id=page.stem, marks=[LONG] if is_long else [])


@pytest.mark.slow
@pytest.mark.parametrize("page", map(page_param, PAGES_THAT_RUN))
def test_the_commands_of_a_page_run(page, tmp_path, request):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for command in commands(page):
        if command == "jepa demo --quick":  # has been run just so, for all tests that look at it
            demo = request.getfixturevalue("quick_demo")
            assert demo.returncode == 0, demo.output
            shutil.copytree(demo.folder, tmp_path / "runs" / "demo")
            continue
        words = shlex.split(command)
        assert words[0] == "jepa", f"{page.name}: '{command}' is not a command of ours"
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_links_between_pages_lead_somewhere():
    broken = []
    for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_files_that_the_security_page_names_are_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:tests|data_pipelines|jepa|planning)/[\w/.]+)`", text)
    assert len(files) > 10
    assert [file for file in files if not (ROOT / file).exists()] == []
