"""Where a number is from: versions, hardware, and the very bytes of a checkpoint."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jepa-planning", "torch", "numpy")
SIMULATORS = ("gym-pusht", "pymunk", "mujoco", "gymnasium-robotics", "dm_control", "robosuite",
              "metaworld", "ogbench")  # fmt: skip
WEIGHTS = ("config.json", "*.safetensors")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of what is installed of what matters."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *SIMULATORS):
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
