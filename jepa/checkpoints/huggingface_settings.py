"""Settings of Hugging Face's `transformers` and ours, in both directions.

They are those of config.json, names of classes among them, and of the file of the processor.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from jepa.checkpoints.huggingface_names import IMAGE, LAYOUTS, VIDEO_CLASSES, State
from jepa.models.jepa_model import JepaModel
from jepa.models.pixels import IMAGENET_MEAN, IMAGENET_STD
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor
from jepa.models.settings import refuse_wrong_counts, refuse_wrong_ratios
from jepa.models.transformer import NORM_EPS

POOLER_MLP_RATIO = 4.0  # transformers has no setting for it
PLACEHOLDER_DIM = 12  # of the predictor of a model that has none
# Settings and defaults of VJEPA2Config and IJepaConfig: a file may leave them out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "vjepa2": {
        "patch_size": 16,
        "crop_size": 256,
        "frames_per_clip": 64,
        "tubelet_size": 2,
        "hidden_size": 1024,
        "in_chans": 3,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "drop_path_rate": 0.0,
        "mlp_ratio": 4.0,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "num_pooler_layers": 3,
        "pred_hidden_size": 384,
        "pred_num_attention_heads": 12,
        "pred_num_hidden_layers": 12,
        "pred_num_mask_tokens": 10,
        "pred_zero_init_mask_tokens": True,
        "pred_mlp_ratio": 4.0,
    },
    "ijepa": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "qkv_bias": True,
        "pooler_output_size": None,
        "pooler_act": "tanh",
    },
}


# Theirs to ours.


def refuse_other_settings(config: dict[str, Any], place: Path) -> None:
    """Raises ValueError if a setting that ours has no choice of is not as ours is."""
    channels = "in_chans" if config["model_type"] == "vjepa2" else "num_channels"
    ours = {"hidden_act": "gelu", "layer_norm_eps": NORM_EPS, "qkv_bias": True, channels: 3}
    for name, value in ours.items():
        if config[name] != value:
            raise ValueError(f"{place}: {name}={config[name]!r} is not supported, {value!r} is")
    if "quantization_config" in config:
        raise ValueError(f"{place}: quantized weights are not supported; save them dequantized")


def describe_huggingface(
    config: dict[str, Any], weights: State, architecture: str, folder: Path
) -> dict[str, Any]:
    """Returns the config of our format."""
    _refuse_wrong_numbers(config)
    name = config.get("_name_or_path") or folder.resolve().name
    described: dict[str, Any] = {
        "model": "JepaModel",
        "source": f"Converted from {architecture} of Hugging Face's transformers: {name}.",
    }
    if config["model_type"] == "ijepa":
        return described | {"encoder": _describe_image_encoder(config)}
    described["encoder"] = _describe_video_encoder(config)
    if config["pred_num_hidden_layers"] != 0:
        described["predictor"] = _describe_predictor(config)
    if architecture == VIDEO_CLASSES:
        described["probe"] = _describe_probe(config, weights)
    return described


def _refuse_wrong_numbers(config: dict[str, Any]) -> None:
    """Raises ValueError if a setting that we calculate with is no such number."""
    is_video = config["model_type"] == "vjepa2"
    more = ("crop_size", "pred_hidden_size") if is_video else ("image_size", "intermediate_size")
    for name in ("hidden_size", "num_attention_heads", "patch_size", *more):
        is_side = name in ("crop_size", "image_size", "patch_size")
        refuse_wrong_counts(**{name: _side(config, name) if is_side else config[name]})
    if is_video:
        refuse_wrong_counts(least=0, num_pooler_layers=config["num_pooler_layers"])
        refuse_wrong_ratios(mlp_ratio=config["mlp_ratio"], pred_mlp_ratio=config["pred_mlp_ratio"])


def _describe_video_encoder(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_size": _side(config, "crop_size"),
        "clip_length_frames": config["frames_per_clip"],
        "patch_size": _side(config, "patch_size"),
        "tubelet_size": config["tubelet_size"],
        "dim": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_ratio": _our_ratio(config["hidden_size"], config["mlp_ratio"]),
        "positions": "rope_tiled",
    }


def _describe_image_encoder(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_size": _side(config, "image_size"),
        "clip_length_frames": 1,
        "patch_size": _side(config, "patch_size"),
        "tubelet_size": 1,
        "dim": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_ratio": config["intermediate_size"] / config["hidden_size"],
        "positions": "sincos_2d",
    }


def _describe_predictor(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "encoder_dim": config["hidden_size"],
        "dim": config["pred_hidden_size"],
        "depth": config["pred_num_hidden_layers"],
        "num_heads": config["pred_num_attention_heads"],
        "mlp_ratio": _our_ratio(config["pred_hidden_size"], config["pred_mlp_ratio"]),
        "positions": "rope_tiled",
        "num_mask_tokens": config["pred_num_mask_tokens"],
    }


def _describe_probe(config: dict[str, Any], weights: State) -> dict[str, Any]:
    """The pooler of transformers has the encoder's heads and eps, and an MLP ratio of its own."""
    labels = _labels(config)
    has_names = labels != _no_names(len(labels))
    num_classes = len(labels or weights.get("classifier.bias", torch.empty(2)))
    probe = {
        "dim": config["hidden_size"],
        "num_classes": {"label": num_classes},
        "num_heads": config["num_attention_heads"],
        "depth": config["num_pooler_layers"] + 1,
        "mlp_ratio": POOLER_MLP_RATIO,
        "norm_eps": config["layer_norm_eps"],
    }
    return probe | {"class_names": {"label": labels}} if has_names else probe


def _labels(config: dict[str, Any]) -> list[str]:
    """Returns the names in id2label by their numbers, whatever their order in the file."""
    id2label = config.get("id2label") or {}
    if not isinstance(id2label, dict):
        raise ValueError(f"id2label must be an object, got a {type(id2label).__name__}")
    numbers = [str(number) for number in range(len(id2label))]
    if lost := [number for number in numbers if number not in id2label]:
        raise ValueError(
            f'id2label must have the keys "0" to "{numbers[-1]}" for its {len(numbers)} classes, '
            f"it lacks {lost[:3]}"
        )
    if other := [name for name in id2label.values() if not isinstance(name, str)]:
        raise ValueError(f"id2label must hold names, got {other[0]!r}")
    return [id2label[number] for number in numbers]


def _no_names(num_classes: int) -> list[str]:
    """Returns what transformers calls classes of which it knows no names."""
    return [f"LABEL_{index}" for index in range(num_classes)]


def _side(config: dict[str, Any], name: str) -> int:
    value = config[name]
    sides: list[Any] = value if isinstance(value, list) and value else [value]
    if any(side != sides[0] for side in sides):
        raise ValueError(f"{name}={value} is not square, which is not supported")
    return sides[0]


def _our_ratio(dim: int, ratio: float) -> float:
    """Returns the ratio that gives the same hidden width: transformers cuts, we round."""
    return int(dim * ratio) / dim


# Ours to theirs.


def their_config(model: JepaModel, architecture: str) -> tuple[dict[str, Any], list[str]]:
    """Returns config.json, and lines about what it does not say."""
    encoder, model_type = model.encoder.config, LAYOUTS[architecture].model_type
    config = DEFAULTS[model_type] | {
        "architectures": [architecture],
        "model_type": model_type,
        "dtype": str(model.encoder.patch_embed.weight.dtype).removeprefix("torch."),
        "hidden_size": encoder["dim"],
        "num_hidden_layers": encoder["depth"],
        "num_attention_heads": encoder["num_heads"],
        "patch_size": encoder["patch_size"],
        "layer_norm_eps": NORM_EPS,
    }
    if architecture == IMAGE:
        config["image_size"] = encoder["image_size"]
        config["intermediate_size"] = round(encoder["dim"] * encoder["mlp_ratio"])
        config["pooler_output_size"] = encoder["dim"]
        return config, _lines_about_images(model)
    config |= {
        "crop_size": encoder["image_size"],
        "frames_per_clip": encoder["clip_length_frames"],
        "tubelet_size": encoder["tubelet_size"],
        "mlp_ratio": _their_ratio(encoder["dim"], encoder["mlp_ratio"]),
    }
    size = encoder["image_size"]
    lines = [f"same numbers at {size}x{size} pixels only: transformers has one grid of positions"]
    for settings, more in (_predictor_settings(model.predictor), _probe_settings(model.probe)):
        config |= settings
        lines += more
    return config, lines


def _lines_about_images(model: JepaModel) -> list[str]:
    if model.predictor is None:
        return []
    return ["dropped: the predictor, which transformers' I-JEPA does not have"]


def _predictor_settings(
    predictor: MaskedLatentPredictor | None,
) -> tuple[dict[str, Any], list[str]]:
    if predictor is None:
        settings = {
            "pred_hidden_size": PLACEHOLDER_DIM,
            "pred_num_attention_heads": 1,
            "pred_num_hidden_layers": 0,
            "pred_num_mask_tokens": 1,
        }
        return settings, ["predictor: untrained, this model has none: zeros, which predict zero"]
    ours = predictor.config
    settings = {
        "pred_hidden_size": ours["dim"],
        "pred_num_attention_heads": ours["num_heads"],
        "pred_num_hidden_layers": ours["depth"],
        "pred_num_mask_tokens": ours["num_mask_tokens"],
        "pred_mlp_ratio": _their_ratio(ours["dim"], ours["mlp_ratio"]),
    }
    chosen, theirs = ours["mask_token_index"], 1 % ours["num_mask_tokens"]
    if chosen == theirs:
        return settings, []
    line = f"predictor: transformers asks with mask token {theirs}, this model with {chosen}"
    return settings, [f"{line}: predictions will differ"]


def _probe_settings(probe: AttentiveProbe | None) -> tuple[dict[str, Any], list[str]]:
    if probe is None:
        return {}, []
    (head,), lines = probe.names, []
    num_classes = probe.config["num_classes"][head]
    labels = probe.class_names[head] if probe.class_names else _no_names(num_classes)
    settings = {
        "num_pooler_layers": probe.config["depth"] - 1,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: labels.index(label) for label in dict.fromkeys(labels)},
    }
    if repeated := len(labels) - len(settings["label2id"]):
        lines.append(
            f"class names: {repeated} repeat an earlier one; label2id has the first of the name"
        )
    if probe.config["norm_eps"] != NORM_EPS:
        lines.append(
            f"probe: its layer norms have eps {probe.config['norm_eps']}, transformers has one eps "
            f"of {NORM_EPS} for all: logits will differ by a few 1e-5"
        )
    return settings, lines


def _their_ratio(dim: int, ratio: float) -> float:
    """The inverse of `_our_ratio`: transformers cuts dim * ratio where we round."""
    hidden = round(dim * ratio)
    theirs = hidden / dim
    return theirs if int(dim * theirs) == hidden else math.nextafter(theirs, math.inf)


def processor_settings(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns name and content of the file from which transformers makes the processor.

    Pixels as the released models have them, which is also what `normalize_pixels` gives: ImageNet's
    mean and std. (The I-JEPA folders of the hub have 0.5, the default of their processor.)
    """
    settings: dict[str, Any] = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": 2,  # bilinear
        "rescale_factor": 1 / 255,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }
    if config["model_type"] == "ijepa":
        side = config["image_size"]
        return "preprocessor_config.json", settings | {
            "image_processor_type": "ViTImageProcessor",
            "size": {"height": side, "width": side},
        }
    side = config["crop_size"]
    return "video_preprocessor_config.json", settings | {
        "video_processor_type": "VJEPA2VideoProcessor",
        "do_center_crop": True,
        "size": {"shortest_edge": int(side * 256 / 224)},
        "crop_size": {"height": side, "width": side},
    }
