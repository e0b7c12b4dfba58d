"""What is installed: ranges, exact versions, no hosts, nothing malicious; no test skips unseen."""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINT = re.compile(r'^[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version >= "3\.\d+")?$')
MALICIOUS = ("2.6.2", "2.6.3")  # GHSA-w37p-236h-pfx3, under both names
HOST = re.compile(r"https?://|index-url|find-links|file:")
# Modules that [dev] brings: a test that wants them does not skip in the first stage of CI.
IN_DEV = {
    *("av", "decord", "gymnasium", "h5py", "onnx", "onnxruntime", "onnxscript", "pyarrow"),
    *("scipy", "transformers"),
}


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def requirements():
    text = (ROOT / "pyproject.toml").read_text()
    return re.findall(r'"((?!setuptools)[a-z][a-z0-9-]*(?:\[[a-z]+\])?[<>=!][^"]*)"', text)


def allows_malicious_lightning(lines):
    """Lines on lightning that would let one of the two uploads in."""
    ours = [line for line in lines if re.match(r"(pytorch-)?lightning[<>=!]", line)]
    return [
        line
        for line in ours
        for version in MALICIOUS
        if f"=={version}" in line or ("==" not in line and f"!={version}" not in line)
    ]


def test_every_constraint_is_an_exact_version():
    assert [line for line in constraints() if not CONSTRAINT.match(line)] == []


def test_the_constraints_pin_what_we_require_by_name():
    pinned = {line.partition("==")[0] for line in constraints()}
    required = {re.match(r"[a-z0-9-]+", line).group() for line in requirements()}
    assert {"torch", "lightning", "av", "decord", "wandb"} <= required & pinned
    assert required - pinned <= {"decord2"}  # for the platforms where decord has no wheel


def test_the_malicious_lightning_is_excluded_under_both_names():
    names = [re.match(r"[a-z-]+", line).group() for line in requirements()]
    assert {"lightning", "pytorch-lightning"} <= set(names)
    assert allows_malicious_lightning(requirements()) == []
    assert allows_malicious_lightning(constraints()) == []


@pytest.mark.parametrize("line", ["lightning==2.6.3", "pytorch-lightning>=2.5,!=2.6.2"])
def test_the_check_for_malicious_lightning_can_fail(line):
    assert allows_malicious_lightning([line]) != []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run"])
def test_no_package_index_is_named(name):
    assert HOST.findall((ROOT / name).read_text()) == []


# Tests that skip without an optional package: CI runs them with it, and none may skip there.

SKIPPING_TESTS = {
    "test_functions.py": """
        import pytest
        @pytest.fixture
        def server():
            pytest.importorskip("no_such_server", reason="no server: pip install 'server'")
        def test_module(): pytest.importorskip("no_such_module")
        def test_server(server): pass
        def test_decoder(): pytest.skip("cannot load its libraries (Debian: apt-get install it)")
        @pytest.mark.skipif(True, reason="needs POSIX signals")
        def test_posix(): pass
        @pytest.mark.xfail(reason="pip install nothing")
        def test_known(): assert False
        def test_good(): pass
        """,
    "test_file.py": """
        import pytest
        engine = pytest.importorskip("no_such_engine", reason="needs it: pip install 'engine'")
        def test_engine(): pass
        """,
}


@pytest.fixture
def outcomes(tmp_path):
    """Returns a function that runs a file of SKIPPING_TESTS and tells the result of each test."""

    def run(name, **environment):
        shutil.copy(ROOT / "tests/conftest.py", tmp_path)
        (tmp_path / name).write_text(textwrap.dedent(SKIPPING_TESTS[name]))
        clean = {key: value for key, value in os.environ.items() if key != "REQUIRE_EXTRAS"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rA", "-c", os.devnull, "--rootdir=.", name],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
        )
        return done.returncode, done.stdout

    return run


def test_without_an_optional_package_its_tests_are_skipped(outcomes):
    status, said = outcomes("test_functions.py")
    assert status == 0 and "1 passed, 4 skipped, 1 xfailed" in said, said
    status, said = outcomes("test_file.py")
    assert status == 5 and "1 skipped" in said, said  # no test was run


def test_where_extras_are_required_a_skip_for_a_package_fails_and_no_other(outcomes):
    status, said = outcomes("test_functions.py", REQUIRE_EXTRAS="1")
    assert status == 1 and "2 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in said, said
    for reason in (
        "could not import 'no_such_module'",
        "no server: pip install",
        "cannot load its lib",
    ):
        assert re.search(rf"skipped, but REQUIRE_EXTRAS is set: {reason}", said), reason
    status, said = outcomes("test_file.py", REQUIRE_EXTRAS="1")
    assert status == 2 and "REQUIRE_EXTRAS is set: needs it: pip install 'engine'" in said, said


def skips_for_a_package(source):
    """Yields what the tests of a file skip for: modules that [dev] lacks, or an ImportError."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name == "pytest.importorskip":
            module = ast.literal_eval(call.args[0]).partition(".")[0]
            if module not in IN_DEV | sys.stdlib_module_names:
                yield module
        elif name == "pytest.skip" and ast.unparse(call.args[0]) == "str(error)":
            yield "an error of an import"


def test_what_skips_for_a_package_is_found():
    source = 'pytest.importorskip("h5py"), pytest.importorskip("ray.util"), pytest.skip("slow")'
    assert list(skips_for_a_package(source)) == ["ray"]
    assert list(skips_for_a_package("pytest.skip(str(error))")) == ["an error of an import"]


def test_ci_runs_every_file_that_skips_for_a_package_with_the_package():
    run = (ROOT / ".ci/run").read_text()
    assert "REQUIRE_EXTRAS" in run
    places = re.findall(r"^ +(tests/\S+)", run, flags=re.MULTILINE)  # files, and whole folders
    files = {
        path.relative_to(ROOT).as_posix(): sorted(set(skips_for_a_package(path.read_text())))
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert files["tests/data_pipelines/test_ray_engine.py"] == ["ray"]
    left_out = {
        file: why
        for file, why in files.items()
        if why and not any(file == place or file.startswith(f"{place}/") for place in places)
    }
    assert left_out == {}


def test_a_reason_of_ours_says_what_to_install():
    """By these words a skip for a package is told from others."""
    calls = [
        (path.name, keyword.value)
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip"
        for keyword in node.keywords
        if keyword.arg == "reason"
    ]
    assert len(calls) >= 3
    assert [name for name, reason in calls if "pip install" not in ast.unparse(reason)] == []
