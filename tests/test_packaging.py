"""What is installed: ranges, exact versions, no hosts, nothing malicious; no test skips unseen."""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINT = re.compile(r'^[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version >= "3\.\d+")?$')
LOCKED = re.compile(
    r'(?P<name>[a-z0-9-]+)==(?P<version>\S+?)(?: ; python_version (?P<marker>[<>]=? "3\.\d+"))?'
    r"(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)
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


LOCKS = sorted((ROOT / ".ci/locks").glob("*.txt"))


def locked(text):
    """The packages of a lock, and the lines that are none: no version, no hash, or a denied one."""
    lines = re.sub(r" \\\n +", " ", text).splitlines()
    matches = {line: LOCKED.fullmatch(line) for line in lines if not line.startswith("#")}
    complaints = [
        line
        for line, match in matches.items()
        if not match or allows_malicious_lightning([line.partition(" ")[0]])
    ]
    return [match for match in matches.values() if match], complaints


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_that_ci_installs_has_a_version_and_hashes(path):
    packages, complaints = locked(path.read_text())
    assert packages and complaints == []


HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        "lightning==2.6.6",
        f"lightning>=2.6.4 {HASH}",
        f"lightning {HASH}",
        "lightning==2.6.6 --hash=md5:" + "0" * 32,
        f"lightning==2.6.3 {HASH}",
        f"pytorch-lightning==2.6.2 {HASH}",
        f"-e . {HASH}",
    ],
)
def test_the_check_of_a_lock_can_fail(line):
    assert locked(line)[1] == [line]
    assert locked(f"lightning==2.6.6 \\\n    {HASH}")[1] == []


def test_the_locks_hold_the_versions_of_the_constraints_and_all_that_they_name():
    """Fails where one of the two was changed alone: `python .ci/lock.py` writes the locks."""
    entries = [match for path in LOCKS for match in locked(path.read_text())[0]]
    versions = {(match["name"], match["version"]) for match in entries}
    names = {name for name, _ in versions}
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", "\n".join(constraints()), re.MULTILINE))
    assert set(pinned.items()) - versions <= {("tzdata", pinned["tzdata"])}  # for Windows
    cuda = {m["name"] for m in locked((ROOT / ".ci/locks/torch-cuda.txt").read_text())[0]}
    old = {m["name"] for m in entries if m["marker"] == '< "3.11"'}  # constraints leave them free
    assert names - pinned.keys() - cuda - old == {"setuptools"}


def test_ci_installs_by_hash_only():
    """A `pip install` elsewhere in CI, or without --require-hashes, would let anything in."""
    run, script = ((ROOT / name).read_text() for name in (".ci/run", ".ci/install-locked"))
    assert "pip install" not in run and "make test LOCKED=1" in run
    installs = re.findall(r"^.*\binstall (.*)$", script, flags=re.MULTILINE)
    without = [words for words in installs if "--require-hashes" not in words]
    assert without == ['--quiet --no-deps --no-build-isolation "$@"', "-e ."]


def test_pip_refuses_a_file_of_another_hash(tmp_path):
    """Seen to fail with the file's own hash in the lock: pip took the wheel."""
    with zipfile.ZipFile(tmp_path / "harmless-1-py3-none-any.whl", "w") as wheel:
        about = "harmless-1.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    (tmp_path / "lock.txt").write_text(f"harmless==1 {HASH}\n")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps"]
    command += ["--find-links", str(tmp_path), "--require-hashes", "-r", str(tmp_path / "lock.txt")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "DO NOT MATCH THE HASHES" in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        *("constraints.txt", "pyproject.toml", "Makefile", ".ci/run", ".ci/install-locked"),
        *(path.relative_to(ROOT).as_posix() for path in LOCKS),
    ],
)
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


# Tests that skip without LONG_TESTS=1: CI runs all of them, wherever they are.


def uses_of_long_tests(source):
    """Lines that ask for LONG_TESTS, and whether they skip a test for that reason."""
    skips = {
        inner.lineno
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.skipif"
        for keyword in call.keywords
        if keyword.arg == "reason" and "LONG_TESTS" in ast.unparse(keyword.value)
        for inner in ast.walk(call)
        if isinstance(inner, ast.Constant) and inner.value == "LONG_TESTS"
    }
    asked = {
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare | ast.Call | ast.Subscript)
        for inner in ast.iter_child_nodes(node)
        if isinstance(inner, ast.Constant) and inner.value == "LONG_TESTS"
    }
    return {line: line in skips for line in asked}


def test_a_long_test_is_told_from_one_that_only_grows():
    good = 'pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")'
    assert uses_of_long_tests(good) == {1: True}
    assert uses_of_long_tests('N = 20 if "LONG_TESTS" in os.environ else 3') == {1: False}
    assert uses_of_long_tests('N = os.environ.get("LONG_TESTS")') == {1: False}
    assert uses_of_long_tests('pytest.mark.skipif("LONG_TESTS" not in e, reason="x")') == {1: False}


def test_ci_runs_every_long_test():
    """By `-m long`, which knows them by what they skip for; the folder of faults as a whole."""
    run = (ROOT / ".ci/run").read_text().replace("\\\n", " ")
    (long,) = (line for line in run.splitlines() if line.startswith("LONG_TESTS=1"))
    apart = ["tests/reliability"]
    assert "-m long" in long and re.findall(r"--ignore (\S+)", long) == apart
    assert re.findall(r" (tests/\S+)", long) == apart  # no list that a file could be missing from
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (recipe,) = re.findall(r"^test-reliability:.*\n(.*)", makefile, flags=re.MULTILINE)
    assert "LONG_TESTS=1" in recipe and re.findall(r" (tests/\S+)", recipe) == apart
    assert "make test-reliability" in run.splitlines()
    unseen = {
        f"{path.relative_to(ROOT).as_posix()}:{line}"
        for path in (ROOT / "tests").rglob("*.py")
        if path.parent.name != "reliability" and "LONG_TESTS" in path.read_text()
        for line, is_skip in uses_of_long_tests(path.read_text()).items()
        if not is_skip and path.name not in ("test_packaging.py", "conftest.py")
    }
    assert unseen == set()


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
