"""Opening a file that torch.save wrote somewhere else: no code runs, and not all of it is read."""

from __future__ import annotations

import pickle
import re
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from jepa.checkpoint_digest import refuse_damage

# torch.load raises each of these on some torn or foreign file: its unpickler checks nothing first.
UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def open_checkpoint(path: str | Path) -> dict[Any, Any]:
    """Returns the dictionary in a .pt file.

    Of a zip, which torch has written since 1.6, tensors are mapped and read when they are used: the
    optimiser's, several times the model's, never are.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is cut short, wants to run code, or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip and path.suffix == ".ckpt":
            refuse_damage(path)
        if not is_zip and tarfile.is_tarfile(path):  # of torch 0.1; torch would unpack it on disk
            raise ValueError("a tar archive")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} wants to run code ({found[1]}), which no checkpoint needs; it was not "
                "loaded"
            ) from error
        raise ValueError(
            f"{path} is no checkpoint: a pickle that torch did not write, or no pickle at all; it "
            "may want to run code and was not loaded"
        ) from error
    except UNREADABLE as error:
        reason = f"{type(error).__name__} {error}".partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"{path} cannot be read as a checkpoint: cut short or something else ({reason}); "
            "download it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a checkpoint's dictionary")
    return content
