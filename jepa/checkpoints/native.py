"""Our own format: a folder with config.json and model.safetensors. Loading runs no code.

A config says every switch of the architecture; the weights are those of exactly that architecture,
or loading stops with one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from jepa.checkpoints.finite_weights import refuse_what_is_not_finite
from jepa.checkpoints.folder_writing import CONFIG, WEIGHTS, finish_writing, write_folder
from jepa.checkpoints.manifest import refuse_damage
from jepa.checkpoints.model_card import model_card
from jepa.checkpoints.shipped import resolve_checkpoint
from jepa.models.conv_encoder import ConvEncoder
from jepa.models.dynamics import GRU, ActionConditionedPredictor, AdaLN, Dynamics, Ensemble
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.latents import LatentSpace, PatchTokens, PooledTokens, SlowFeatures
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor
from jepa.models.world_model import ActionColumns, ColumnScaling, LatentWorldModel
from jepa.version import __version__

CARD = "README.md"
KINDS = {"JepaModel": "encoder", "LatentWorldModel": "world_model"}  # and the folder in a run
LATENTS: dict[str, type[LatentSpace]] = {
    "PatchTokens": PatchTokens,
    "PooledTokens": PooledTokens,
    "SlowFeatures": SlowFeatures,
}
DYNAMICS: dict[str, type[Dynamics]] = {
    "ActionConditionedPredictor": ActionConditionedPredictor,
    "AdaLN": AdaLN,
    "Ensemble": Ensemble,
    "GRU": GRU,
}
TIMM_SETTINGS = ("name", "image_size")  # no more: `pretrained` would read or download another file
AnyModel = JepaModel | LatentWorldModel


def save_model(model: AnyModel, folder: str | Path) -> Path:
    """Writes config.json, model.safetensors and a model card, or nothing; returns the folder."""
    folder, config, weights = Path(folder), describe(model), model.state_dict()
    texts = {
        CONFIG: json.dumps(config, indent=2) + "\n",
        CARD: model_card(config, {name: value.shape for name, value in weights.items()}),
    }
    write_folder(folder, weights, texts)
    return folder


def load_model(folder: str | Path) -> AnyModel:
    """Reads a model of either kind, in evaluation mode.

    Args:
        folder: one written by `save_model`, or a run folder that holds it as `encoder/` or
            `world_model/`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the files do not fit together.
    """
    folder = find_model(folder)
    config = read_config(folder)
    model = build_model(config)
    load_weights(model, _read_weights(folder / WEIGHTS), source=str(folder / WEIGHTS))
    return model.eval()


def save_encoder(encoder: VideoEncoder, folder: str | Path) -> Path:
    """Writes an encoder; returns the folder."""
    return save_model(JepaModel(encoder), folder)


def load_encoder(folder: str | Path) -> VideoEncoder:
    """Reads the encoder of a folder that may hold more; see `load_model`."""
    folder = find_encoder(folder)
    encoder = build_encoder(read_config(folder))
    weights = _read_weights(folder / WEIGHTS, prefix="encoder.")
    load_weights(encoder, weights, source=str(folder / WEIGHTS))
    return encoder.eval()


def find_model(folder: str | Path) -> Path:
    """Returns the folder that holds the files of a model, absolute; see `load_model`."""
    return _find(Path(folder), list(KINDS))


def find_encoder(folder: str | Path) -> Path:
    """Returns the folder that holds an encoder's files, absolute; see `load_model`."""
    return _find(Path(folder), ["JepaModel"])


def untrained_encoder(folder: str | Path, *, seed: int = 0) -> VideoEncoder:
    """Returns the same architecture with fresh weights: the baseline of every probe."""
    config = read_config(find_encoder(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(config, device="cpu").eval()


def untrained_world_model(model: LatentWorldModel, *, seed: int = 0) -> LatentWorldModel:
    """Returns the same architecture with fresh weights: the control of every planner.

    Nothing in it was fitted to data: a latent space that had been is drawn anew, too, and running
    statistics are at their start. Only the scaling of states and actions stays, as it is a choice
    of units.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = _build_world_model(describe(model), device="cpu")
        fresh.latents.draw_anew()
    _complete(fresh)
    return fresh.eval()


def save_world_model(model: LatentWorldModel, folder: str | Path) -> Path:
    """Writes encoder, latent space, dynamics and statistics; returns the folder."""
    return save_model(model, folder)


def load_world_model(folder: str | Path) -> LatentWorldModel:
    """Reads a world model, in evaluation mode; see `load_model`.

    Args:
        folder: also the name of one that comes with a clone: see `jepa.checkpoints.shipped`.
    """
    model = load_model(_find(resolve_checkpoint(folder), ["LatentWorldModel"]))
    assert isinstance(model, LatentWorldModel)
    return model


def holds_world_model(folder: str | Path) -> bool:
    """Returns whether a folder, or the run folder around it, holds a world model."""
    folder = resolve_checkpoint(folder)
    return any(
        (place / CONFIG).is_file() and read_config(place).get("model") == "LatentWorldModel"
        for place in (folder, folder / KINDS["LatentWorldModel"])
    )


def describe(model: AnyModel) -> dict[str, Any]:
    """Returns the config from which `build_model` makes the same architecture."""
    kind = type(model).__name__
    config: dict[str, Any] = {"version": __version__, "model": kind, "source": model.source}
    encoder = {"class": type(model.encoder).__name__, **model.encoder.config}
    if isinstance(model, LatentWorldModel):
        return config | {
            "encoder": encoder,
            "latents": {"name": type(model.latents).__name__, **model.latents.config},  # pyright: ignore
            "world_model": model.config,
        }
    config["encoder"] = encoder
    if model.predictor is not None:
        config["predictor"] = model.predictor.config
    if model.probe is not None:
        config["probe"] = model.probe.config
    return config


def build_model(config: dict[str, Any]) -> AnyModel:
    """Returns the model that a config describes, without memory for its weights.

    They are still to be loaded, by `load_weights`, which also makes what is not saved.

    Raises:
        ValueError: if the config describes none.
    """
    with _explained():
        if config["model"] == "LatentWorldModel":
            world = _build_world_model(config)
            world.source = config.get("source", "")
            return world
        encoder = build_encoder(config)
        with torch.device("meta"):
            predictor = (
                MaskedLatentPredictor(**config["predictor"]) if "predictor" in config else None
            )
            probe = AttentiveProbe(**config["probe"]) if "probe" in config else None
        return JepaModel(encoder, predictor=predictor, probe=probe, source=config.get("source", ""))


def build_encoder(config: dict[str, Any], *, device: str = "meta") -> Any:  # noqa: ANN401
    """Returns the encoder that a config describes, by default without memory for its weights.

    Raises:
        ValueError: if the config describes none.
    """
    with _explained():
        if not isinstance(config["encoder"], dict):
            raise TypeError(f"encoder is {config['encoder']!r}, not an object")
        settings = dict(config["encoder"])
        name = settings.pop("class", "VideoEncoder")
        if name == "TimmEncoder":
            return _build_timm_encoder(settings)
        with torch.device(device):
            return {"VideoEncoder": VideoEncoder, "ConvEncoder": ConvEncoder}[name](**settings)


def read_config(folder: Path) -> dict[str, Any]:
    """Reads config.json of a folder, ours or another's.

    Raises:
        ValueError: if it is no JSON object, or not the one that was written.
    """
    refuse_damage(folder / CONFIG)
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} must hold an object, got {config!r}")
    return config


def load_weights(
    model: nn.Module,
    weights: dict[str, Tensor],
    *,
    source: str,
    names: Mapping[str, str] | None = None,
) -> None:
    """Puts weights into a model: all of them, or none.

    The tensors become the model's own, without a copy. What a model keeps beside its saved weights
    gets their type.

    Args:
        model: may be on the meta device.
        weights: its whole state.
        source: names the weights in errors.
        names: what a weight is called in `source`, where it has another name there.

    Raises:
        ValueError: if names or shapes differ, or a number is not finite.
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    theirs = names or {}
    missing = sorted(expected.keys() - found)
    unexpected = sorted(theirs.get(name, name) for name in found.keys() - expected)
    if missing or unexpected:
        raise ValueError(
            f"{source} does not fit {CONFIG}: {len(missing)} missing "
            f"{missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]}"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(
                f"{source} does not fit {CONFIG}: {theirs.get(name, name)} is {found[name]}, "
                f"not {shape}"
            )
    refuse_what_is_not_finite(weights, source=source)
    model.load_state_dict(weights, assign=True)
    _complete(model)


def _build_world_model(config: dict[str, Any], *, device: str = "meta") -> LatentWorldModel:
    latents, settings = dict(config["latents"]), dict(config["world_model"])
    encoder, actions = build_encoder(config, device=device), settings.pop("actions", None)
    dynamics = settings.pop("dynamics", None)  # the default says its settings beside the others
    with torch.device(device):
        return LatentWorldModel(
            encoder,
            LATENTS[latents.pop("name")](**latents),
            dynamics=None if dynamics is None else _make_dynamics(dynamics),
            scaling=ColumnScaling(**settings.pop("scaling")),
            actions=None if actions is None else ActionColumns.from_config(actions),
            **settings,
        )


def _make_dynamics(described: Mapping[str, Any]) -> Dynamics:
    """Returns the dynamics that a config describes, not built yet.

    Raises:
        ValueError: if they have a name that is not known.
    """
    settings = dict(described)
    name = settings.pop("name", None)
    if name not in DYNAMICS:
        raise ValueError(
            f"{CONFIG} describes dynamics {name!r}; known are {', '.join(sorted(DYNAMICS))}"
        )
    if "trunk" in settings:
        settings["trunk"] = _make_dynamics(settings["trunk"])
    return DYNAMICS[name](**settings)


def _build_timm_encoder(settings: dict[str, Any]) -> nn.Module:
    """Returns an encoder in memory, as timm does not save all of its buffers: they must be made."""
    from jepa.models.timm_encoder import TimmEncoder

    if others := sorted(settings.keys() - TIMM_SETTINGS):
        raise ValueError(
            f"{CONFIG}: an encoder of timm has {' and '.join(TIMM_SETTINGS)} only, not "
            f"{', '.join(others)}"
        )
    with torch.random.fork_rng(devices=[]):  # its first weights are not wanted
        return TimmEncoder(**settings)


def _complete(model: nn.Module) -> None:
    """Makes what is not among the saved weights, in their type."""
    encoder = model.encoder if isinstance(model, LatentWorldModel) else model
    assert isinstance(encoder, nn.Module)
    dtypes = {v.dtype for v in encoder.state_dict().values() if v.is_floating_point()}
    if len(dtypes) == 1:
        encoder.to(dtypes.pop())  # buffers of timm that are not saved
    if isinstance(model, LatentWorldModel):
        model.make_scaling()
    values = (*model.named_parameters(), *model.named_buffers())
    left = [name for name, value in values if value.is_meta]
    assert not left, f"{len(left)} tensors were given no numbers: {left[:3]}"


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what a missing or unknown key, or a nonsensical value, raises into one line."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        first_line = str(error).partition("\n")[0]
        problem = f"it has no {error}" if isinstance(error, KeyError) else first_line
        raise ValueError(
            f"{CONFIG} describes no model of this version ({__version__}): {problem}"
        ) from error


def _find(folder: Path, kinds: list[str]) -> Path:
    """Returns where a model of one of these kinds is; they are in order of preference."""
    others = {}
    for kind in kinds:
        for candidate in (folder.resolve(), folder.resolve() / KINDS[kind]):
            finish_writing(candidate)
            if not (candidate / CONFIG).is_file():
                continue
            config = read_config(candidate)
            if config.get("model") == kind:
                return candidate
            others[candidate / CONFIG] = config
    for path, config in others.items():
        raise FileNotFoundError(
            f"no {' or '.join(kinds)} in {folder}: {path} {_what_it_describes(config)}"
        )
    inner = " or ".join(str(folder / KINDS[kind]) for kind in kinds)
    raise FileNotFoundError(
        f"no {' or '.join(kinds)} in {folder}: expected {CONFIG} and {WEIGHTS} there or in {inner}"
    )


def _read_weights(path: Path, *, prefix: str = "") -> dict[str, Tensor]:
    """Reads the tensors whose names begin with `prefix`, named without it."""
    refuse_damage(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _what_it_describes(config: dict[str, Any]) -> str:
    if "model" in config:
        return f"has model {config['model']!r}; known are {', '.join(KINDS)}"
    if "model_type" in config:
        kind = config["model_type"]
        return f"is of transformers, model_type {kind!r}: jepa.from_pretrained reads such folders"
    return f"names no model; known are {', '.join(KINDS)}"
