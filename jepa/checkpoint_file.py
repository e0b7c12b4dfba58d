"""The training checkpoint as a file: looked at before it is used. See `jepa.checkpoint_saving`."""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from jepa.checkpoint_digest import refuse_damage
from jepa.checkpoints.finite_weights import refuse_what_is_not_finite

KEYS = ("state_dict", "pytorch-lightning_version")
KEYS_TO_RESUME = ("optimizer_states", "lr_schedulers", "loops", "global_step")
PREVIOUS = ".previous"
logger = logging.getLogger(__name__)


def check_checkpoint(path: Path, *, resumes: bool, option: str = "--ckpt_path") -> int:
    """Makes sure that a file is a training checkpoint, and not damaged.

    Args:
        path: the file; nothing in it is run.
        resumes: training goes on from it, so it must hold the optimizer and the loops too.
        option: that named the file, for messages.

    Returns:
        The step at which it was saved.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, damaged, or its weights are not finite.
    """
    if "://" in str(path) or str(path).startswith(("http:/", "https:/")):
        raise ValueError(f"{option} takes a local file, got {_without_query(path)}; download it")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; {option} takes a .ckpt file of `jepa fit`")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    content = read_content(path)
    keys = KEYS + KEYS_TO_RESUME if resumes else KEYS
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(
            f"{path} is not a training checkpoint: it lacks {', '.join(missing)}; "
            f"{option} takes the .ckpt files that `jepa fit` writes"
        )
    refuse_what_is_not_finite(content["state_dict"], source=str(path))
    return int(content.get("global_step", 0))


def newest_good(candidates: Iterable[Path], *, resumes: bool) -> tuple[Path, int]:
    """Returns the first checkpoint that can be used, and its step; names those that cannot.

    Args:
        candidates: the newest first.
        resumes: see `check_checkpoint`.

    Raises:
        ValueError: none of them can be used.
    """
    problems = []
    for path in candidates:
        try:
            step = check_checkpoint(path, resumes=resumes)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning("%s; the last good one is %s, of step %d", problem, path, step)
        return path, step
    raise ValueError(f"no good checkpoint is left: {'; '.join(problems)}")


def previous_of(path: Path) -> Path:
    """Returns where the checkpoint before this one is kept."""
    return path.with_name(path.name + PREVIOUS)


def read_content(path: Path, *, mapped: bool = True) -> Any:  # noqa: ANN401 - what the file holds
    """Reads a file of torch that is not damaged; no code in it is run.

    Args:
        path: the file.
        mapped: read tensors when they are used.

    Raises:
        ValueError: it is damaged, something else, or wants to run code.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} cannot be read as a checkpoint: not a whole torch file")
    refuse_damage(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        wants = f" ({found[1]})" if found else ""
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it wants to run code{wants}, which no "
            "checkpoint of ours needs; it was not loaded"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from error


def _without_query(path: object) -> str:
    return str(path).partition("?")[0]
