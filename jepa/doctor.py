"""`jepa doctor`: what this machine has, what is missing, what that costs and what mends it.

Half a second, as neither torch nor lightning is imported: versions come from the installed
packages' metadata, and the decoders decode a small video in processes of their own, since a
decoder may be slow to load or abort. What an environment needs is read from the imports of its
file. `--full` imports torch and computes with it too; `--environments` makes each environment, in a
process of its own, and has it draw.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from jepa.configs_folder import configs_folder
from jepa.four_grey_frames import GREY_OF_FRAME, GREY_TOLERANCE, video_bytes
from jepa.version import __version__
from jepa.wandb_account import has_wandb_key

REQUIRED = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "pytorch-lightning",
    "jsonargparse",
    "webdataset",
    "av",
    "wandb",
    "safetensors",
    "scikit-learn",
    "matplotlib",
    "pillow",
    "numpy",
    "pyyaml",
)
OPTIONAL = {
    "gymnasium": "no recording of Gymnasium environments, and none as a benchmark",
}
# Packages of an environment that come with another extra than [sim].
OTHER_EXTRAS = {"robosuite": "sim-robot", "metaworld": "sim-robot", "ogbench": "sim-robot"}
# What every environment has, as a requirement of ours.
ALWAYS_THERE = {"numpy", "torch", "PIL", "planning", "scipy"}
# Libraries of the system that a package draws with: file, and the packages of Debian.
DRAWING_LIBRARIES = {
    "gym_pusht": ("libGL.so.1", "libgl1 libglib2.0-0"),
    "mujoco": ("libEGL.so.1", "libegl1 libegl-mesa0 libgl1-mesa-dri"),
    "mujoco (osmesa)": ("libOSMesa.so.8", "libosmesa6"),
}
MALICIOUS_LIGHTNING = ("2.6.2", "2.6.3")  # GHSA-w37p-236h-pfx3, under both names
NEEDS_TORCH_TO_DECODE = ("torchcodec",)
GIBIBYTE = 1024**3
DECODE_TIMEOUT_SECONDS = 20
FULL_TIMEOUT_SECONDS = 180
ENVIRONMENT_TIMEOUT_SECONDS = 120

# Run in a process of their own, so these are text: `jepa` itself imports no decoder.
DECODE = """
import sys
from data_pipelines.decoders import decoder_class
with decoder_class(sys.argv[1])(sys.stdin.buffer.read(), "doctor's video") as decoder:
    num_frames = decoder.metadata().num_frames
    print(*decoder.frames_at(range(num_frames)).pixels[:, 32, 32, 0].tolist())
"""
COMPUTE = """
import time
import data_pipelines, torch
device = "cuda" if torch.cuda.is_available() else "cpu"
a = torch.randn(1024, 1024, device=device)
(a @ a).sum().item()
start = time.perf_counter()
for _ in range(10):
    b = a @ a
b.sum().item()
print(device, "%.0f GFLOP/s" % (10 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9))
"""
IMPORTS = """
import data_pipelines, torchvision.transforms.v2, timm, lightning
print("torchvision", torchvision.__version__, "timm", timm.__version__)
"""
ACT = """
import sys, time
import numpy as np
from planning.environments import make_environment
environment = make_environment(sys.argv[1])
generator = np.random.default_rng(0)
environment.reset(generator, start=None, goal=None)
if environment.goal.frame.std() < 1:
    sys.exit("draws empty pictures: all of one colour")
began, num_steps = time.perf_counter(), 0
step = environment.reset(generator, start=None, goal=None)
while step.is_last:  # drawn at its goal
    step = environment.reset(generator, start=None, goal=None)
while num_steps < 10 and not step.is_last:
    step = environment.step(environment.action_spec.sample(generator))
    num_steps += 1
seconds = time.perf_counter() - began
size = environment.image_size
print("draws: a reset and %d steps of %d x %d pixels in %.2f s" % (num_steps, size, size, seconds))
"""

Status = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: "ok"; "note": works without it, at a cost; "broken": something required fails.
        detail: what was found.
        cost: what one has to do without.
        fix: the command that mends it.
    """

    name: str
    status: Status
    detail: str
    cost: str = ""
    fix: str = ""


def main(argv: list[str]) -> int:
    """Prints the findings.

    Args:
        argv: --full, --environments, --json.

    Returns:
        0 if everything required works, else 1.
    """
    parser = argparse.ArgumentParser(prog="jepa doctor", description="What this machine has.")
    parser.add_argument("--full", action="store_true", help="import torch and compute (slow)")
    parser.add_argument(
        "--environments", action="store_true", help="make every environment and draw (slow)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args(argv)
    findings = examine(full=arguments.full, with_environments=arguments.environments)
    healthy = all(finding.status != "broken" for finding in findings)
    if arguments.json:
        report = {"version": __version__, "ok": healthy, "findings": list(map(asdict, findings))}
        print(json.dumps(report, indent=2))
    else:
        print(as_text(findings))
    return 0 if healthy else 1


def examine(*, full: bool = False, with_environments: bool = False) -> list[Finding]:
    """Looks at everything.

    Args:
        full: also import torch and its friends, compute, and decode with what needs torch.
        with_environments: also make every environment and have it draw.
    """
    decoding = {name: _start_decoding(name) for name in decoder_names(with_torch=full)}
    findings = [python(), *packages(), torch_build(), *torchvision_pair(), *machine(), gpu()]
    findings += decoders({name: _decoding_problem(process) for name, process in decoding.items()})
    findings += [*optional_packages(), *environments(), wandb_account(), configs()]
    if with_environments:
        findings += [acts(name) for name in environment_needs()]
    if full:
        findings += [computes("matrix product", COMPUTE), computes("imports", IMPORTS)]
    return findings


def as_text(findings: list[Finding]) -> str:
    """The findings, one line each, and two more for what is not right."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"jepa {__version__} on {platform.system()} {platform.machine()}", ""]
    for finding in findings:
        lines.append(f"  {finding.status:<6}  {finding.name:<{width}}  {finding.detail}")
        for label, text in (("cost", finding.cost), ("fix", finding.fix)):
            if text:
                lines.append(f"  {'':<6}  {'':<{width}}  {label}: {text}")
    broken = [finding.name for finding in findings if finding.status == "broken"]
    verdict = f"not ready: {', '.join(broken)}" if broken else "ready; next: jepa demo"
    return "\n".join([*lines, "", verdict])


def python() -> Finding:
    """The interpreter; 3.10 or newer."""
    version = platform.python_version()
    if sys.version_info < (3, 10):  # noqa: UP036 - run from a clone, no installer has checked
        return Finding("python", "broken", version, "nothing runs", "install Python 3.10 or newer")
    return Finding("python", "ok", f"{version} at {sys.executable}")


def packages() -> Iterator[Finding]:
    """The required packages; one finding for those that are as they should be."""
    present = {name: version for name in REQUIRED if (version := installed_version(name))}
    missing = [name for name in REQUIRED if name not in present]
    shown = ("torch", "torchvision", "lightning", "timm", "webdataset")
    detail = ", ".join(f"{name} {present[name]}" for name in shown if name in present)
    if missing:
        fix = "pip install -c constraints.txt -e ."
        yield Finding("packages", "broken", f"missing: {', '.join(missing)}", "no training", fix)
    else:
        yield Finding("packages", "ok", f"{detail} and {len(REQUIRED) - len(shown)} more")
    for name in ("lightning", "pytorch-lightning"):
        if present.get(name) in MALICIOUS_LIGHTNING:
            yield malicious_lightning(name, present[name])


def malicious_lightning(name: str, version: str) -> Finding:
    """The finding for an upload that steals credentials when it is imported."""
    return Finding(
        name,
        "broken",
        f"{version} is a malicious upload (GHSA-w37p-236h-pfx3)",
        "importing it sends the credentials of this machine to strangers",
        f"pip install '{name}!=2.6.2,!=2.6.3', then replace every key and token used here",
    )


def torch_build() -> Finding:
    """Whether torch was built for the GPU that is here."""
    version = installed_version("torch")
    if version is None:
        return Finding("torch build", "broken", "torch is not installed", "", "pip install -e .")
    cuda = torch_cuda_version()
    build = f"CUDA {cuda} build" if cuda else "CPU build"
    if has_nvidia_driver() and not cuda:
        cost = "the GPU here is not used"
        fix = "install a CUDA build of torch: pytorch.org/get-started"
        return Finding("torch build", "note", f"{version}, {build}", cost, fix)
    return Finding("torch build", "ok", f"{version}, {build}")


def torchvision_pair() -> Iterator[Finding]:
    """A finding only if torchvision was built for another torch."""
    try:
        requirements = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        return
    wanted = next((text[7:] for text in requirements if text.startswith("torch==")), None)
    version = (installed_version("torch") or "").partition("+")[0]
    if wanted and version and wanted.strip() != version:
        detail = f"made for torch {wanted}, here is {version}"
        fix = "pip install -c constraints.txt -e ."
        yield Finding("torchvision", "broken", detail, "importing it may fail", fix)


def machine() -> Iterator[Finding]:
    """Cores, memory, disk, and the shared memory through which workers hand over batches."""
    memory = available_memory_bytes()
    told = f"{memory / GIBIBYTE:.0f} GiB of memory free" if memory else "memory unknown"
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{num_cores()} cores, {told}, {free / GIBIBYTE:.0f} GiB free on this disk"
    if free < 5 * GIBIBYTE:
        cost = "checkpoints of a large run do not fit"
        yield Finding("machine", "note", detail, cost, "set --trainer.default_root_dir elsewhere")
    else:
        yield Finding("machine", "ok", detail)
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < GIBIBYTE:
        detail = f"{size / 1024**2:.0f} MiB in {shared}"
        cost = "data loader workers die with a bus error on large batches"
        fix = "docker run --shm-size=8g, or --data.num_workers 0"
        yield Finding("shared memory", "note", detail, cost, fix)


def gpu() -> Finding:
    """The GPUs by name."""
    names = nvidia_gpus()
    if names:
        return Finding("gpu", "ok", "; ".join(names))
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return Finding("gpu", "ok", "Apple (mps)")
    cost = "the demo and the tiny configs run; pretraining a ViT-L would take months"
    return Finding("gpu", "note", "none", cost, "a machine with an NVIDIA GPU and its driver")


def decoders(problems: dict[str, str | None]) -> Iterator[Finding]:
    """One finding for each decoder.

    Args:
        problems: decoder name -> why it did not decode; None if it did.
    """
    if all(problems.values()):
        fix = "pip install --force-reinstall av"
        yield Finding("decoders", "broken", "none decodes", "no video can be read", fix)
    for name, problem in problems.items():
        if problem is None:
            yield Finding(name, "ok", f"decodes H.264 ({len(GREY_OF_FRAME)} frames, right colours)")
        else:
            cost = "choose another with --data.decoder, or install it"
            package = {"pyav": "av"}.get(name, name)
            yield Finding(name, "note", problem, cost, f"pip install {package}")


def optional_packages() -> Iterator[Finding]:
    """The extras."""
    for name, cost in OPTIONAL.items():
        if version := installed_version(name):
            yield Finding(name, "ok", version)
        else:
            yield Finding(name, "note", "not installed", cost, "pip install -e '.[sim]'")


def environments() -> Iterator[Finding]:
    """What can be simulated: one finding for all that may work, one for each extra not there."""
    needs = environment_needs()
    missing = {name: [m for m in modules if not _is_there(m)] for name, modules in needs.items()}
    works = [name for name, modules in missing.items() if not modules]
    yield Finding("environments", "ok", ", ".join(works) or "none found")
    extras = {OTHER_EXTRAS.get(m, "sim") for modules in missing.values() for m in modules}
    for extra in sorted(extras):
        here = {n: ms for n, ms in missing.items() if ms and _extra_of(ms) == extra}
        if here:
            packages = ", ".join(
                sorted({module for modules in here.values() for module in modules})
            )
            detail = f"{packages} not installed"
            cost = f"no {', no '.join(here)}"
            yield Finding(f"[{extra}]", "note", detail, cost, f"pip install -e '.[{extra}]'")
    yield from drawing_libraries(works, needs)


def drawing_libraries(names: list[str], needs: dict[str, list[str]]) -> Iterator[Finding]:
    """A finding for each library of the system that an environment draws with and that is missing.

    Args:
        names: of the environments whose packages are there.
        needs: the packages of each.
    """
    if sys.platform != "linux":
        return
    is_osmesa = os.environ.get("MUJOCO_GL", "").lower() == "osmesa"
    for module in ("gym_pusht", "mujoco"):
        users = [name for name in names if module in needs[name]]
        key = "mujoco (osmesa)" if module == "mujoco" and is_osmesa else module
        library, packages = DRAWING_LIBRARIES[key]
        if users and not _loads(library):
            cost = f"no pictures of {', '.join(users)}"
            fix = f"apt-get install {packages}"
            if module == "mujoco" and not is_osmesa:
                fix += "; or apt-get install libosmesa6, and MUJOCO_GL=osmesa"
            yield Finding(library, "note", "not found", cost, fix)


def acts(name: str) -> Finding:
    """Makes an environment in a process of its own, acts in it and has it draw."""
    cost, fix = "it cannot be used here", "see what it says; the findings above may tell more"
    try:
        process = subprocess.run(
            [sys.executable, "-c", ACT, name],
            capture_output=True,
            text=True,
            timeout=ENVIRONMENT_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        detail = f"no frame after {ENVIRONMENT_TIMEOUT_SECONDS} s"
        return Finding(name, "note", detail, cost, fix)
    if process.returncode != 0:
        detail = _last_line(process.stderr) or f"ended with {process.returncode}"
        return Finding(name, "note", detail, cost, fix)
    return Finding(name, "ok", _last_line(process.stdout))


def environment_needs() -> dict[str, list[str]]:
    """The environments of `planning`, by their files, and the packages that each imports."""
    spec = importlib.util.find_spec("planning")
    if spec is None or spec.origin is None:
        return {}
    root = Path(spec.origin).parent.parent
    files = sorted((root / "planning" / "environments").glob("*.py"))
    seen: dict[Path, set[str]] = {}
    return {
        path.stem: sorted(packages_of(path, root, seen) - ALWAYS_THERE)
        for path in files
        if not path.stem.startswith("_")
    }


def packages_of(path: Path, root: Path, seen: dict[Path, set[str]]) -> set[str]:
    """The packages that a file imports, and that the files of `planning` import that it imports.

    Args:
        path: of a Python file.
        root: folder of the package `planning`.
        seen: what was found for other files, added to.
    """
    if path in seen:
        return seen[path]
    seen[path] = found = set()
    for name in imported_names(path.read_text(encoding="utf-8")):
        top = name.partition(".")[0]
        if top == "planning":
            parts = name.split(".")
            candidates = (root.joinpath(*parts[:n]).with_suffix(".py") for n in (len(parts), -1))
            for candidate in candidates:
                if candidate.is_file():
                    found |= packages_of(candidate, root, seen)
        elif top not in sys.stdlib_module_names:
            found.add(top)
    return found


def imported_names(source: str) -> set[str]:
    """Every imported name of a source, dotted, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _extra_of(modules: list[str]) -> str:
    """The extra that brings these packages; [sim-robot] brings MuJoCo too."""
    extras = [OTHER_EXTRAS[module] for module in modules if module in OTHER_EXTRAS]
    return extras[0] if extras else "sim"


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def wandb_account() -> Finding:
    """Whether --wandb can go online."""
    if has_wandb_key():
        return Finding("wandb account", "ok", "a key is set")
    cost = "--wandb offline works; metrics.csv is always written"
    return Finding("wandb account", "note", "not logged in", cost, "wandb login")


def configs() -> Finding:
    """Whether the YAML files are there."""
    try:
        return Finding("configs", "ok", str(configs_folder()))
    except FileNotFoundError:
        cost = "`--config` takes paths only, and the demo has no settings"
        return Finding("configs", "note", "not found", cost, "pip install -e . in a clone")


def computes(name: str, program: str) -> Finding:
    """Runs a program in a new interpreter."""
    try:
        process = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=FULL_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "broken", f"not done after {FULL_TIMEOUT_SECONDS} s")
    if process.returncode != 0:
        return Finding(
            name, "broken", _last_line(process.stderr), "no training", "see the packages"
        )
    return Finding(name, "ok", process.stdout.strip())


def installed_version(name: str) -> str | None:
    """The version of an installed package, from its metadata."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_cuda_version() -> str | None:
    """The CUDA version that torch was built with, read from its version file, not imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = (Path(spec.origin).parent / "version.py").read_text()
    found = re.search(r"^cuda[^=\n]*=\s*'([^']+)'", text, re.MULTILINE)
    return found[1] if found else None


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> int | None:
    """Free memory, or the container's limit if that is less; on macOS the installed memory."""
    try:
        if sys.platform == "darwin":
            return int(subprocess.check_output(["sysctl", "-n", "hw.memsize"], timeout=5))
        text = Path("/proc/meminfo").read_text()
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    limits = [int(found[1]) * 1024] if found else []
    try:
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        pass
    return min(limits, default=None)


def has_nvidia_driver() -> bool:
    """True if the kernel has loaded NVIDIA's driver."""
    return Path("/proc/driver/nvidia/version").exists()


def nvidia_gpus() -> list[str]:
    """Name and memory of each GPU, as nvidia-smi tells."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ["an NVIDIA driver is loaded (nvidia-smi is missing)"] if has_nvidia_driver() else []
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.strip().splitlines() if answer.returncode == 0 else []


def decoder_names(*, with_torch: bool) -> list[str]:
    """The decoders of data_pipelines, by their files."""
    spec = importlib.util.find_spec("data_pipelines")
    if spec is None or spec.origin is None:
        return []
    files = sorted((Path(spec.origin).parent / "decoders").glob("*_decoder.py"))
    names = [path.stem.removesuffix("_decoder") for path in files]
    return [name for name in names if with_torch or name not in NEEDS_TORCH_TO_DECODE]


def _start_decoding(name: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", DECODE, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(video_bytes())  # 1000 bytes: fits in the pipe
    process.stdin.close()
    process.stdin = None
    return process


def _decoding_problem(process: subprocess.Popen[bytes]) -> str | None:
    """Why the frames are not the right ones; None if they are."""
    try:
        output, errors = process.communicate(timeout=DECODE_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no frame after {DECODE_TIMEOUT_SECONDS} s"
    if process.returncode != 0:
        return _last_line(errors.decode(errors="replace")) or f"ended with {process.returncode}"
    return wrong_greys([int(word) for word in output.split()])


def wrong_greys(greys: list[int]) -> str | None:
    """Says how the decoded greys differ from the video's; None if they do not.

    Args:
        greys: one for each frame, in [0, 255].
    """
    right = len(greys) == len(GREY_OF_FRAME) and all(
        abs(grey - wanted) <= GREY_TOLERANCE
        for grey, wanted in zip(greys, GREY_OF_FRAME, strict=True)
    )
    return None if right else f"decodes wrongly: greys {greys}, not {list(GREY_OF_FRAME)}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
