"""Official checkpoints (V-JEPA 1, 2, 2.1, 2-AC, I-JEPA; .pt or .pth.tar) in and out.

The family and all sizes are read off names and shapes (`official_families`, `official_sizes`). What
is not in the file is known for the released sizes and asked for otherwise; nothing is loaded in
part. Foreign names stop at this door (`official_names`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jepa.checkpoints.native import AnyModel, build_model, describe, load_weights
from jepa.checkpoints.official_config import OfficialConfig
from jepa.checkpoints.official_families import FAMILY_NAMES, Family, detect_family
from jepa.checkpoints.official_file import open_checkpoint
from jepa.checkpoints.official_names import encoder_to_official, predictor_to_official
from jepa.checkpoints.official_sizes import OfficialReader
from jepa.models.dynamics import ActionConditionedPredictor
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.world_model import LatentWorldModel

# Which copy of the encoder to take: the average where there is one. 2.1 B and L were distilled, and
# keep the student's average beside the teacher; 2-AC has one frozen encoder, in one or two places.
ENCODER_KEYS = ("ema_encoder", "target_encoder", "encoder")
ENCODER_KEYS_OF_AC = ("encoder", "target_encoder")
WRAPPERS = re.compile(r"^((module|backbone|_orig_mod)\.)*")  # DDP, the masks' wrapper, compile
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
State = dict[str, Tensor]


class Converted(NamedTuple):
    """A model and what was decided on the way.

    Attributes:
        model: in evaluation mode, in float32; its weights may be mapped from the file.
        report: what was found and done, a line each.
        warnings: what was taken for granted, a line each.
    """

    model: AnyModel
    report: list[str]
    warnings: list[str]


def read_official(
    path: str | Path,
    *,
    family: Family | None = None,
    config: OfficialConfig | None = None,
    encoder_key: str | None = None,
) -> Converted:
    """Reads an official checkpoint; the optimiser's part of the file is not read.

    Args:
        path: the file.
        family: what it is; None: found out. Needed where V-JEPA 1 and 2 cannot be told apart.
        config: what cannot be read off names and shapes.
        encoder_key: which copy of the encoder to take; None: the average where there is one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such checkpoint, does not fit `family` or `config`, or something
            that cannot be read off it is not given. Nothing is loaded in part.
    """
    content, config = open_checkpoint(path), config or OfficialConfig()
    takes_actions = any(str(n).endswith("action_encoder.weight") for n in _predictor(content, path))
    key = _choose_encoder_key(content, encoder_key, path, takes_actions=takes_actions)
    report, warnings = [f"encoder: {key}"], []
    if key == "encoder" and encoder_key is None and not takes_actions:
        warnings.append("no average of the encoder in the file: the online one is taken")
    encoder = _stripped(content[key], path, report)
    predictor = _stripped(_predictor(content, path), path, report)
    found = detect_family(encoder, predictor, wanted=family or config.family, path=str(path))
    name = FAMILY_NAMES[found.family]
    if not found.is_certain:
        warnings.append(f"taken for {name}: {found.reason}; if not, say --family vjepa2")
    reader = OfficialReader(str(path), found.family, encoder, predictor, config)
    described = reader.describe()
    described["source"] = f"{name}, converted from {key} of {Path(path).name}."
    model = build_model(described)
    load_weights(model, reader.weights(model.state_dict()), source=str(path))
    if config.ignored:
        report.append(f"ignored in the config: {', '.join(config.ignored)}")
    report = [f"family: {name} ({found.reason})", *report, *reader.report]
    return Converted(model.eval(), report, warnings + reader.warnings)


def write_official(model: AnyModel, path: str | Path) -> list[str]:
    """Writes a model as an official checkpoint, with the names that the official code loads.

    The encoder goes under `encoder` and under `target_encoder`; there is no optimiser state.

    Returns:
        Lines for the user: what the file does not say, and what was dropped.

    Raises:
        ValueError: if no official family has this architecture, so that the file would be read as
            another model.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; an official checkpoint is one file")
    family = _refuse_what_no_family_has(model)
    prefix = "module." if family in ("vjepa2_ac", "ijepa") else "module.backbone."
    encoder, predictor = ({prefix + n: v for n, v in part.items()} for part in _states(model))
    content: dict[str, Any] = {"encoder": encoder, "target_encoder": encoder, "epoch": 0}
    if predictor:
        content["predictor"] = predictor
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        torch.save(content, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return [f"family: {FAMILY_NAMES[family]}", *_unsaid(model)]


def _predictor(content: Mapping[Any, Any], path: str | Path) -> Mapping[str, Any]:
    predictor = content.get("predictor", {})
    if not isinstance(predictor, Mapping):
        raise ValueError(f"{path}: its predictor is a {type(predictor).__name__}")
    return predictor


def _choose_encoder_key(
    content: dict[str, Any], wanted: str | None, path: str | Path, *, takes_actions: bool
) -> str:
    keys = ENCODER_KEYS_OF_AC if takes_actions else ENCODER_KEYS
    there = [key for key in keys if isinstance(content.get(key), Mapping)]
    if not there:
        raise ValueError(f"{path} holds no encoder; {_what_it_is(content)}")
    if wanted is not None and wanted not in there:
        raise ValueError(f"{path} holds no {wanted!r}; it has {', '.join(there)}")
    return wanted or there[0]


def _what_it_is(content: Mapping[Any, Any]) -> str:
    if "classifiers" in content or "classifier" in content:
        return "it holds probes: give it as --probe"
    if "pytorch-lightning_version" in content:
        return "it is a checkpoint of a training run: give the run folder, which holds the model"
    return f"its keys are {', '.join(map(str, list(content)[:6]))}"


def _stripped(state: Mapping[str, Any], path: str | Path, report: list[str]) -> State:
    """Removes the prefixes of wrappers, makes weights float32, and reports if they were not."""
    stripped: State = {}
    for official, value in state.items():
        if not isinstance(official, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: {official!r} is a {type(value).__name__}, not a tensor")
        if value.dtype not in FLOATS or value.layout != torch.strided:
            kind = value.dtype if value.layout == torch.strided else value.layout
            raise ValueError(
                f"{path}: {official} is {kind}; quantised or sparse weights are not read"
            )
        name = WRAPPERS.sub("", official)
        if name in stripped:
            raise ValueError(f"{path}: {name} is there twice, once as {official}")
        stripped[name] = value.float()
        line = f"converted: {str(value.dtype).removeprefix('torch.')} in the file, float32 now"
        if value.dtype != torch.float32 and line not in report:
            report.append(line)
    return stripped


def _states(model: AnyModel) -> tuple[State, State]:
    """Returns encoder and predictor by official names; the latter may be empty."""
    assert isinstance(model.encoder, VideoEncoder)
    encoder = encoder_to_official(model.encoder)
    part = model.dynamics if isinstance(model, LatentWorldModel) else model.predictor
    predictor: State = {}
    if part is not None:
        is_image = model.encoder.config["positions"] == "sincos_2d"
        predictor = predictor_to_official(part, has_one_mask_token=is_image)
    return tuple({n: v.detach().cpu().clone() for n, v in p.items()} for p in (encoder, predictor))  # pyright: ignore


def _refuse_what_no_family_has(model: AnyModel) -> Family:
    """Reads back what would be written: another config means another model."""
    if not isinstance(model.encoder, VideoEncoder):
        raise ValueError(f"no official family has a {type(model.encoder).__name__}")
    if not isinstance(model.dynamics, ActionConditionedPredictor | None):
        raise ValueError(
            f"no official family has dynamics of the kind {type(model.dynamics).__name__}; "
            "save_pretrained keeps them"
        )
    encoder, predictor = _states(model)
    ours = describe(model)
    try:
        wanted = {"sincos_3d": "vjepa1", "rope_tiled": "vjepa2"}.get(ours["encoder"]["positions"])
        ambiguous = not predictor and "pos_embed" in encoder
        found = detect_family(
            encoder, predictor, wanted=wanted if ambiguous else None, path="the file"
        ).family
        config = _config_of(model, found)
        theirs = OfficialReader("the file", found, encoder, predictor, config).describe()
    except ValueError as error:
        raise ValueError(f"no official family has this model: {error}") from error
    for part in ("encoder", "predictor", "latents", "world_model"):
        for name, value in _comparable(theirs.get(part)).items():
            if value != (said := _comparable(ours.get(part)).get(name)):
                raise ValueError(
                    f"no official family has this model: as {FAMILY_NAMES[found]} its {part} would "
                    f"be read with {name}={value!r}, but it has {said!r}; save_pretrained keeps all"
                )
    return found


def _config_of(model: AnyModel, family: Family) -> OfficialConfig:
    """What the file will not say."""
    encoder = model.encoder.config
    masked = model.predictor if isinstance(model, JepaModel) else None
    return OfficialConfig(
        num_heads=encoder["num_heads"],
        predictor_num_heads=_predictor_num_heads(model),
        img_size=encoder["image_size"],
        num_frames=encoder["clip_length_frames"],
        levels=encoder["levels"] if family == "vjepa2_1" else None,
        mask_index=None if masked is None else masked.mask_token_index,
    )


def _predictor_num_heads(model: AnyModel) -> int | None:
    if isinstance(model, LatentWorldModel):
        return model.config["num_heads"]
    return None if model.predictor is None else model.predictor.config["num_heads"]


def _comparable(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns settings that change numbers, so that equal models have equal ones."""
    settings = dict(config or {})
    if str(settings.get("positions", "")).startswith("rope"):
        settings.pop("grid", None)  # rotary predictors do not look at it
    if "num_levels" in settings and settings["output_dim"] is None:
        settings["output_dim"] = settings["num_levels"] * settings["encoder_dim"]
    if "mlp_ratio" in settings:
        settings["mlp_ratio"] = round(settings["mlp_ratio"], 6)
    return {n: list(v) if isinstance(v, tuple) else v for n, v in settings.items()}


def _unsaid(model: AnyModel) -> list[str]:
    """Returns lines on what the file does not hold."""
    config = model.encoder.config
    said = {"num_heads": config["num_heads"]}
    if heads := _predictor_num_heads(model):
        said["predictor_num_heads"] = heads
    if isinstance(model, JepaModel) and model.predictor is not None:
        said["mask_index"] = model.predictor.mask_token_index
    lines = [f"not in the file: {', '.join(f'{name}={value}' for name, value in said.items())}"]
    if model.probe is not None:
        lines.append("dropped: the probe, which official code keeps in a file of its own")
    return lines
