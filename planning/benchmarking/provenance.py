"""Where a number is from: versions, hardware, and the very bytes of a checkpoint."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jepa-planning", "torch", "numpy")
_ROBOSUITE = ("robosuite", "mujoco")
# What each environment simulates and draws with; one that is not named here needs no package.
SIMULATORS = {
    "cube": ("ogbench", "mujoco"),
    "gymnasium_pixels": ("gymnasium",),
    "metaworld_reach": ("metaworld", "mujoco"),
    "panda_lift": _ROBOSUITE,
    "panda_push": _ROBOSUITE,
    "panda_reach": _ROBOSUITE,
    "point_maze": ("gymnasium-robotics", "mujoco"),
    "pusht": ("gym-pusht", "pymunk", "pygame"),
    "reacher": ("dm_control", "mujoco"),
}
WEIGHTS = ("config.json", "*.safetensors")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of what is installed of what matters."""
    simulators = sorted({name for names in SIMULATORS.values() for name in names})
    return {"python": platform.python_version(), **_versions_of((*PACKAGES, *simulators))}


def simulator_packages(environment: str) -> dict[str, str]:
    """Returns the versions of the packages that an environment simulates and draws with.

    Args:
        environment: its name.
    """
    return _versions_of(SIMULATORS.get(environment, ()))


def _versions_of(names: Sequence[str]) -> dict[str, str]:
    """Returns the versions of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """Returns what the run ran on.

    Args:
        device: of the world model, as torch calls it.
    """
    import torch

    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return found


def checkpoint_hash(folder: str | Path) -> str:
    """Returns the sha256 of a model's config and weights, wherever the folder lies.

    Args:
        folder: of a model, or a run folder that holds `world_model/`.

    Raises:
        FileNotFoundError: if there are no weights.
    """
    folder = Path(folder)
    for place in (folder, folder / "world_model"):
        files = sorted(path for pattern in WEIGHTS for path in place.glob(pattern))
        if len(files) >= 2:
            digest = hashlib.sha256()
            for path in files:
                digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
            return digest.hexdigest()
    raise FileNotFoundError(f"{folder} holds no world model (config.json and *.safetensors)")


def _processor() -> str:
    """Returns the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
