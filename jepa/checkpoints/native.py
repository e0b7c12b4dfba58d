"""Our own format: a folder with config.json and model.safetensors. Loading runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from jepa.models.encoder import VideoEncoder
from jepa.models.latents import LatentSpace, PatchTokens, SlowFeatures
from jepa.models.world_model import ColumnScaling, LatentWorldModel
from jepa.version import __version__

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LATENTS: dict[str, type[LatentSpace]] = {
    "PatchTokens": PatchTokens,
    "SlowFeatures": SlowFeatures,
}


def save_encoder(encoder: VideoEncoder, folder: str | Path) -> Path:
    """Writes an encoder; returns the folder."""
    return _save(encoder, Path(folder), {"model": "VideoEncoder", "encoder": encoder.config})


def load_encoder(folder: str | Path) -> VideoEncoder:
    """Reads an encoder, in evaluation mode.

    Args:
        folder: one written by `save_encoder`, or a run folder that holds it as `encoder/`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the files do not fit together.
    """
    folder = find_encoder(folder)
    encoder = build_encoder(_config(folder))
    _load_weights(encoder, folder)
    return encoder.eval()


def find_encoder(folder: str | Path) -> Path:
    """Returns the folder that holds an encoder's files, absolute; see `load_encoder`."""
    return _find(Path(folder), "encoder", "VideoEncoder")


def untrained_encoder(folder: str | Path, *, seed: int = 0) -> VideoEncoder:
    """Returns the same architecture with fresh weights: the baseline of every probe."""
    config = _config(find_encoder(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(config).eval()


def save_world_model(model: LatentWorldModel, folder: str | Path) -> Path:
    """Writes encoder, latent space, dynamics and statistics; returns the folder."""
    config = {
        "model": "LatentWorldModel",
        "encoder": model.encoder.config,
        "latents": {"name": type(model.latents).__name__, **model.latents.config},  # pyright: ignore
        "world_model": model.config,
    }
    return _save(model, Path(folder), config)


def load_world_model(folder: str | Path) -> LatentWorldModel:
    """Reads a world model, in evaluation mode; see `load_encoder` for folder and errors."""
    folder = _find(Path(folder), "world_model", "LatentWorldModel")
    model = _build_world_model(_config(folder))
    _load_weights(model, folder)
    return model.eval()


def build_encoder(config: dict[str, Any]) -> VideoEncoder:
    """Returns the untrained encoder that a config describes.

    Raises:
        ValueError: if the config describes none.
    """
    with _explained():
        return VideoEncoder(**config["encoder"])


def _build_world_model(config: dict[str, Any]) -> LatentWorldModel:
    encoder = build_encoder(config)
    with _explained():
        latents, settings = dict(config["latents"]), dict(config["world_model"])
        return LatentWorldModel(
            encoder,
            LATENTS[latents.pop("name")](**latents),
            scaling=ColumnScaling(**settings.pop("scaling")),
            **settings,
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what a missing or unknown key raises into one line about the config."""
    try:
        yield
    except (KeyError, TypeError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{CONFIG} describes no model of this version ({__version__}): {problem}"
        ) from error


def _save(model: nn.Module, folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    save_file(weights, folder / f"{WEIGHTS}.tmp")
    os.replace(folder / f"{WEIGHTS}.tmp", folder / WEIGHTS)
    text = json.dumps({"version": __version__, **config}, indent=2)
    (folder / f"{CONFIG}.tmp").write_text(text + "\n")
    os.replace(folder / f"{CONFIG}.tmp", folder / CONFIG)
    return folder


def _find(folder: Path, inner: str, model: str) -> Path:
    for candidate in (folder.resolve(), folder.resolve() / inner):
        if (candidate / CONFIG).is_file() and _config(candidate).get("model") == model:
            return candidate
    raise FileNotFoundError(
        f"no {model} in {folder}: expected {CONFIG} and {WEIGHTS} there or in {folder / inner}"
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} must hold an object, got {config!r}")
    return config


def _load_weights(model: nn.Module, folder: Path) -> None:
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    missing, unexpected = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or unexpected:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {len(missing)} missing "
            f"{missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]}"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(
                f"{folder / WEIGHTS} does not fit {CONFIG}: {name} is {found[name]}, not {shape}"
            )
    model.load_state_dict(weights)
