"""The training checkpoint as a file: written whole or not at all, looked at before it is used."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

KEYS = ("state_dict", "pytorch-lightning_version")
KEYS_TO_RESUME = ("optimizer_states", "lr_schedulers", "loops", "global_step")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: a kill or a full disk leaves the old file whole.

    Lightning stages in the system's temporary folder; where that is another file system, the last
    step is a copy, and a kill in its middle destroys the only good checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Saves to `path`, which holds either the old content or all of the new one."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def check_checkpoint(path: Path, *, resumes: bool, option: str = "--ckpt_path") -> int:
    """Makes sure that a file is a training checkpoint.

    Args:
        path: the file; its tensors are mapped, not read, and nothing in it is run.
        resumes: training goes on from it, so it must hold the optimizer and the loops too.
        option: that named the file, for messages.

    Returns:
        The step at which it was saved.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, or cut short.
    """
    if "://" in str(path):
        raise ValueError(f"{option} takes a local file, got {path}; download it first")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} cannot be read as a checkpoint: not a whole torch file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from error
    keys = KEYS + KEYS_TO_RESUME if resumes else KEYS
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(
            f"{path} is not a training checkpoint: it lacks {', '.join(missing)}; "
            f"{option} takes the .ckpt files that `jepa fit` writes"
        )
    return int(content.get("global_step", 0))
