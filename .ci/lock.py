"""Writes .ci/locks/*.txt: what CI installs, each package with a version and its hashes.

Run it after a change of pyproject.toml or constraints.txt: `pip install uv packaging`, then
`python .ci/lock.py`. uv resolves; only what packages say of themselves is downloaded.
.ci/install-locked installs by these files (.ci/run and `make test LOCKED=1` call it), and pip
refuses a file of another hash. They hold for Linux on x86-64 and CPython 3.10 to 3.13; elsewhere
constraints.txt names the versions.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

try:
    import tomllib
except ImportError:
    sys.exit("error: .ci/lock.py needs Python 3.11 or newer; run it with one")

Package = dict[str, Any]  # an entry of pylock.toml
Lines = dict[tuple[str, str], str]  # (name, version) -> requirement with its hashes

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
}
# Each file holds what its stage of .ci/run adds to those before it.
STAGES = {
    "dev": ("dev",),
    "sim": ("dev", "sim", "sim-robot"),
    "services": ("dev", "sim", "ray", "s3-tests", "torchcodec"),
    "peers": ("dev", "peers"),
}
CUDA = re.compile(r"torch$|nvidia-|cuda-|triton$")  # torch as PyPI has it, and what it needs
# The build for CPUs, where a machine has it; PyPI has it not.
TORCH_CPU = """\
torch==2.13.0+cpu \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
"""
BUILD = "setuptools"  # builds this project, and what has no wheel
HEAD = "# Written by .ci/lock.py: {what}.\n"


def resolved(extras: tuple[str, ...]) -> list[Package]:
    """What these extras bring, as uv finds it for all Pythons: entries of a pylock.toml."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, out = Path(folder) / "wanted.in", Path(folder) / "pylock.toml"
        wanted.write_text(f"{BUILD}>=77\n")
        options = [word for extra in extras for word in ("--extra", extra)]
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"]
        command += ["--universal", "--python-version", PYTHONS[0], "--no-python-downloads"]
        command += ["--constraints", "constraints.txt", *options, "pyproject.toml", str(wanted)]
        subprocess.run([*command, "--output-file", str(out)], cwd=ROOT, check=True)
        return tomllib.loads(out.read_text())["packages"]


def pythons_of(package: Package) -> tuple[str, ...]:
    """The Pythons of ours that install this entry."""
    marker = Marker(package["marker"]) if "marker" in package else None
    return tuple(
        python
        for python in PYTHONS
        if marker is None
        or marker.evaluate(
            {**MACHINE, "python_version": python, "python_full_version": f"{python}.9"}
        )
    )


def marker_of(pythons: tuple[str, ...]) -> str:
    """How a requirement says that it is for these Pythons."""
    if pythons == PYTHONS:
        return ""
    if pythons == PYTHONS[-len(pythons) :]:
        return f' ; python_version >= "{pythons[0]}"'
    assert pythons == PYTHONS[: len(pythons)], pythons
    return f' ; python_version < "{PYTHONS[len(pythons)]}"'


def fits(wheel: str, python: str) -> bool:
    """True if a wheel can be installed on Linux x86-64 by this Python."""
    minor = int(python.partition(".")[2])
    return any(
        (tag.platform == "any" or ("linux" in tag.platform and tag.platform.endswith("x86_64")))
        and "musl" not in tag.platform
        and (
            tag.interpreter in (f"cp3{minor}", "py3", f"py3{minor}")
            or (tag.abi == "abi3" and int(tag.interpreter[3:]) <= minor)
        )
        for tag in parse_wheel_filename(wheel)[3]
    )


def hashes_of(package: Package, pythons: tuple[str, ...]) -> list[str]:
    """SHA-256 of the wheels that fit, and of the source if one of these Pythons has no wheel."""
    files = {
        file["url"].rpartition("/")[2]: file["hashes"]["sha256"]
        for file in package.get("wheels", ())
    }
    fitting = {p: {files[name] for name in files if fits(name, p)} for p in pythons}
    source = {package["sdist"]["hashes"]["sha256"]} if "sdist" in package else set()
    return sorted(set().union(*(wheels or source for wheels in fitting.values())))


def lines_of(packages: list[Package]) -> Lines:
    """The requirements of these entries, by name: {(name, version): text}."""
    found = {}
    for package in packages:
        pythons = pythons_of(package)
        if pythons and "version" in package and package["name"] != "jepa-planning":
            head = f"{package['name']}=={package['version']}{marker_of(pythons)}"
            hashes = [f"    --hash=sha256:{sha256}" for sha256 in hashes_of(package, pythons)]
            found[package["name"], package["version"]] = " \\\n".join([head, *hashes]) + "\n"
    return found


def main() -> None:
    """Writes a file for each stage, and those that each stage needs: torch, and what builds."""
    named = {stage: lines_of(resolved(extras)) for stage, extras in STAGES.items()}
    first = named["dev"]
    cuda = {key: text for key, text in first.items() if CUDA.match(key[0])}
    build = {key: text for key, text in first.items() if key[0] == BUILD}
    write("build", "what builds packages", build)
    write("torch-cpu", "torch for CPUs", {("torch", "cpu"): TORCH_CPU})
    write("torch-cuda", "torch as PyPI has it, with what it needs of CUDA", cuda)
    written = cuda | build
    for stage, lines in named.items():
        what = f"what .[{','.join(STAGES[stage])}] brings besides"
        write(stage, what, {key: text for key, text in lines.items() if key not in written})
        written |= lines


def write(name: str, what: str, lines: Lines) -> None:
    """Writes the requirements in the order of their names."""
    path = ROOT / ".ci/locks" / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEAD.format(what=what) + "".join(lines[key] for key in sorted(lines)))
    print(f"{path.relative_to(ROOT)}: {len(lines)} packages")


if __name__ == "__main__":
    main()
