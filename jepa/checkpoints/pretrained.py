"""`jepa.from_pretrained`: one call for our folders, Hugging Face's, and official files."""

from __future__ import annotations

import logging
from pathlib import Path

from jepa.checkpoints.folder_writing import finish_writing
from jepa.checkpoints.native import KINDS, AnyModel, load_model, read_config

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".tar", ".bin", ".ckpt")
logger = logging.getLogger(__name__)
FILES = ["*.json", "*.safetensors", "README.md"]


def from_pretrained(name: str | Path, *, revision: str | None = None) -> AnyModel:
    """Returns a model in evaluation mode, on the CPU.

    `model.encoder(video)` gives tokens (batch, tokens, dim); `model.predictor`, `model.dynamics`
    and `model.probe` are what the checkpoint holds of them, else None. What was found in a foreign
    checkpoint is logged, what was taken for granted as a warning; `jepa convert` has options.

    Args:
        name: a folder that we wrote (or a run folder that holds one), a folder that `transformers`
            wrote (V-JEPA 2 or I-JEPA), an official checkpoint (.pt), or, if it is no path here, the
            name of a repository on the Hugging Face hub, which is downloaded.
        revision: branch, tag or commit on the hub; None: the newest. Pin it for repeatable numbers.

    Raises:
        FileNotFoundError: if there is nothing of this name, here or on the hub.
        ValueError: if what is there is no model of a known kind, or is not whole.
    """
    path = Path(name)
    if path.is_file():
        path = checkpoint_file(path)
        if path.is_file():
            return _read_file(path)
        name = path
    folder = folder_of(name, revision=revision)
    if is_huggingface(folder):
        from jepa.checkpoints.huggingface import read_huggingface

        return read_huggingface(folder)
    return load_model(folder)


def folder_of(name: str | Path, *, revision: str | None = None) -> Path:
    """Returns the folder of this name, downloaded from the hub if there is none here.

    Raises:
        FileNotFoundError: if there is nothing of this name, here or on the hub.
    """
    path = Path(name)
    if path.is_dir() and str(name):
        return path
    if path.suffix in CHECKPOINT_SUFFIXES or str(name).count("/") != 1 or str(name)[0] in "./~":
        raise FileNotFoundError(f"no file or folder {str(name)!r}, and that is no name on the hub")
    return _downloaded(str(name), revision)


def checkpoint_file(path: Path) -> Path:
    """Returns the checkpoint that a file is, or the folder that it is a part of.

    Raises:
        ValueError: if it is neither.
    """
    if path.name in ("config.json", "model.safetensors"):
        return path.parent
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise ValueError(
            f"{path} is no checkpoint: give a folder, or a file that ends in "
            f"{', '.join(CHECKPOINT_SUFFIXES)}"
        )
    return path


def _read_file(path: Path) -> AnyModel:
    from jepa.checkpoints.official import read_official

    model, report, warnings = read_official(path)
    for line in report:
        logger.info("%s: %s", path, line)
    for line in warnings:
        logger.warning("%s: %s", path, line)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # the file may change under a mapping
    return model


def is_huggingface(folder: Path) -> bool:
    """True if a folder's config is one of transformers."""
    finish_writing(folder)
    if not (folder / "config.json").is_file():
        return False
    config = read_config(folder)
    return "model_type" in config and config.get("model") not in KINDS


def _downloaded(name: str, revision: str | None) -> Path:
    """Downloads a repository of the hub, or takes it from the cache: its folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    missing = f"no file or folder {name!r} here"
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except HFValidationError as error:
        raise FileNotFoundError(f"{missing}, and that is no name on the hub either") from error
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{missing}, and the Hugging Face hub cannot be reached; download {name} where it can, "
            "and give the folder"
        ) from error
    except HfHubHTTPError as error:
        first_line = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"{missing}, and the hub refuses {name}: {first_line}") from error
