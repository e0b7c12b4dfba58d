"""Folders of Hugging Face's `transformers` in and out: V-JEPA 2 and I-JEPA.

Only config.json and the safetensors are read and written: transformers itself is not needed.

Numbers are the same at the size that the config names, to the rounding of float32. At others they
are not, of V-JEPA 2: transformers places tokens on a square grid of `crop_size`, in encoder and
predictor, whatever comes in; ours, as the released code of the encoder, on the grid of the video.
And its predictor always asks with mask token 1, trained or not (see
`jepa.checkpoints.mask_tokens`).
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jepa.checkpoints.mask_tokens import choose_mask_token
from jepa.checkpoints.native import CARD, CONFIG, WEIGHTS, build_model, load_weights, read_config
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.pixels import IMAGENET_MEAN, IMAGENET_STD
from jepa.models.pooler import NORM_EPS as PROBE_NORM_EPS
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor
from jepa.models.transformer import NORM_EPS

logger = logging.getLogger(__name__)

INDEX, PICKLED = "model.safetensors.index.json", "pytorch_model.bin"
POOLER_MLP_RATIO = 4.0  # transformers has no setting for it
PLACEHOLDER_DIM = 12  # of the predictor of a model that has none
State = dict[str, Tensor]


class Layout(NamedTuple):
    """How a class of transformers calls the weights, and where it puts them.

    Attributes:
        model_type: of its config.
        prefix: of the names of the bare model's weights.
        head: how the names of the others begin, which have no prefix.
        names: our name without .weight or .bias, and theirs: several where ours is joined of them.
            Stacks of blocks have a table of their own for what follows the number.
    """

    model_type: str
    prefix: str
    head: tuple[str, ...]
    names: Mapping[str, Any]


MLP_2 = {"norm1": "norm1", "norm2": "norm2", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
QKV_2 = [f"attention.{part}" for part in ("query", "key", "value")]
BLOCKS_2 = MLP_2 | {"attn.qkv": QKV_2, "attn.proj": "attention.proj"}
POOLER_MLP = MLP_2 | {"norm1": "layer_norm1", "norm2": "layer_norm2"}
POOLER_QKV = [f"self_attn.{part}_proj" for part in "qkv"]
POOLER_BLOCKS = POOLER_MLP | {"attn.qkv": POOLER_QKV, "attn.proj": "self_attn.out_proj"}
CROSS = "pooler.cross_attention_layer"
VIDEO_NAMES = {
    "encoder.patch_embed": "encoder.embeddings.patch_embeddings.proj",
    "encoder.transformer.blocks": ("encoder.layer", BLOCKS_2),
    "encoder.transformer.norm": "encoder.layernorm",
    "predictor.mask_tokens": "predictor.embeddings.mask_tokens",
    "predictor.embed": "predictor.embeddings.predictor_embeddings",
    "predictor.transformer.blocks": ("predictor.layer", BLOCKS_2),
    "predictor.transformer.norm": "predictor.layernorm",
    "predictor.proj": "predictor.proj",
    "probe.pooler.queries": "pooler.query_tokens",
    "probe.pooler.blocks": ("pooler.self_attention_layers", POOLER_BLOCKS),
    "probe.pooler.cross.attn.q": f"{CROSS}.cross_attn.q_proj",
    "probe.pooler.cross.attn.kv": [f"{CROSS}.cross_attn.{part}_proj" for part in "kv"],
    **{f"probe.pooler.cross.{ours}": f"{CROSS}.{theirs}" for ours, theirs in POOLER_MLP.items()},
    "probe.heads.0": "classifier",
}
# As the files on the hub, which every version of transformers reads; see _older_names.
IMAGE_BLOCKS = {
    "norm1": "layernorm_before",
    "attn.qkv": [f"attention.attention.{part}" for part in ("query", "key", "value")],
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.0": "intermediate.dense",
    "mlp.2": "output.dense",
}
IMAGE_NAMES = {
    "encoder.patch_embed": "embeddings.patch_embeddings.projection",
    "encoder.positions.table": "embeddings.position_embeddings",
    "encoder.transformer.blocks": ("encoder.layer", IMAGE_BLOCKS),
    "encoder.transformer.norm": "layernorm",
}
NEWER_TO_OLDER = (
    (r"^(ijepa\.)?layers\.", r"\1encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
VIDEO, VIDEO_CLASSES = "VJEPA2Model", "VJEPA2ForVideoClassification"
IMAGE, IMAGE_CLASSES = "IJepaModel", "IJepaForImageClassification"
LAYOUTS = {
    VIDEO: Layout("vjepa2", "", (), VIDEO_NAMES),
    VIDEO_CLASSES: Layout("vjepa2", "vjepa2.", ("pooler.", "classifier."), VIDEO_NAMES),
    IMAGE: Layout("ijepa", "", (), IMAGE_NAMES),
    IMAGE_CLASSES: Layout("ijepa", "ijepa.", ("classifier.",), IMAGE_NAMES),
}
# What our encoder has no counterpart of; named when it is dropped.
IMAGE_EXTRAS = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token")
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
CARD_TEXT = """---
library_name: transformers
tags: [jepa, video, representation-learning]
---

# {architecture}

{source}

{lines}

```python
from transformers import {architecture}

model = {architecture}.from_pretrained("path/to/this/folder")
```
"""


# Reading.


def read_huggingface(folder: str | Path) -> JepaModel:
    """Reads a folder of transformers, in evaluation mode and float32; see `convert_huggingface`."""
    model, report = convert_huggingface(folder)
    for line in report:
        logger.log(logging.WARNING if line.startswith("dropped") else logging.INFO, line)
    return model


def convert_huggingface(folder: str | Path) -> tuple[JepaModel, list[str]]:
    """Reads a folder that transformers wrote, of V-JEPA 2 or I-JEPA, and says what it met.

    A `VJEPA2ForVideoClassification` has a probe with one head, `label`. Names of classes are not
    kept. Of I-JEPA only the encoder is read, with the table of positions in the file, which
    transformers makes a parameter.

    Args:
        folder: config.json and model.safetensors, or its shards and their index.

    Returns:
        The model in evaluation mode, in float32, and lines for the user.

    Raises:
        FileNotFoundError: if there is no config.json.
        ValueError: if it is a model of another type, has settings that ours does not know, is not
            whole, or its weights are not those of its config. Nothing is loaded in part.
    """
    folder = Path(folder)
    config = read_config(folder)
    layout, architecture = _layout_of(config, folder)
    config = DEFAULTS[layout.model_type] | config
    weights, source = _read_weights(folder)
    report = [f"architecture: {architecture}"]
    _refuse_the_other_class(weights, layout, architecture, source)
    if layout.model_type == "ijepa":
        weights = {_older_name(name): value for name, value in weights.items()}
        report += _without_extras(weights, layout)
    else:
        report += _without_placeholder(weights, layout, config)
    report += _class_names(config) if architecture == VIDEO_CLASSES else []
    _refuse_other_settings(config, folder / CONFIG)
    _refuse_other_depths(config, weights, source)
    try:
        described = _describe(config, weights, architecture, folder)
        expected = _to_huggingface(build_model(described).state_dict(), layout)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    _refuse_misfit(weights, expected, source)
    tokens = weights.get(f"{layout.prefix}predictor.embeddings.mask_tokens")
    if tokens is not None:
        index, lines = choose_mask_token(tokens.flatten(1))
        described["predictor"]["mask_token_index"] = index
        report += lines
    report += _converted_dtypes(weights)
    model = build_model(described)
    assert isinstance(model, JepaModel)
    load_weights(model, _from_huggingface(weights, model.state_dict(), layout), source=source)
    return model.eval(), report


def _layout_of(config: dict[str, Any], folder: Path) -> tuple[Layout, str]:
    """Returns what config.json says the folder holds."""
    model_type = config.get("model_type")
    known = [name for name, layout in LAYOUTS.items() if layout.model_type == model_type]
    if not known:
        raise ValueError(
            f"{folder / CONFIG} has model_type {model_type!r}; known are {', '.join(DEFAULTS)}"
        )
    named = config.get("architectures") or known[:1]
    if named[0] not in known:
        raise ValueError(
            f"{folder / CONFIG} has architectures {named}; known are {', '.join(known)}"
        )
    return LAYOUTS[named[0]], named[0]


def _read_weights(folder: Path) -> tuple[State, str]:
    """Reads all tensors of a folder, sharded or not, and returns the path for errors."""
    if (folder / WEIGHTS).is_file():
        return _read_file(folder / WEIGHTS), str(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder / INDEX), str(folder / INDEX)
    if any(folder.glob("pytorch_model*.bin*")):
        raise ValueError(
            f"{folder} holds {PICKLED}, which may run code when it is read; load it with "
            "transformers and save it again: save_pretrained writes safetensors"
        )
    raise ValueError(f"{folder} holds neither {WEIGHTS} nor {INDEX}")


def _read_shards(index: Path) -> State:
    try:
        places = json.loads(index.read_text())["weight_map"]
        shards = sorted(set(places.values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of shards: {error!r}") from error
    weights: State = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise ValueError(f"{index} names {shard!r}, which is not a file beside it")
        weights |= _read_file(index.parent / shard)
    if lost := sorted(places.keys() - weights):
        raise ValueError(f"{index} names {len(lost)} weights that no shard holds: {lost[:3]}")
    return weights


def _read_file(path: Path) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read: {error}; download it again") from error


def _refuse_the_other_class(weights: State, layout: Layout, architecture: str, source: str) -> None:
    has_prefix = any(name.startswith(("vjepa2.", "ijepa.")) for name in weights)
    if has_prefix != bool(layout.prefix):
        are = "a classifier" if has_prefix else "a bare model"
        raise ValueError(f"{CONFIG} says {architecture}, but {source} holds the weights of {are}")


def _older_name(name: str) -> str:
    """Returns the name on the hub of an I-JEPA weight, which transformers 5 renamed in memory."""
    for newer, older in NEWER_TO_OLDER:
        name = re.sub(newer, older, name)
    return name


def _without_extras(weights: State, layout: Layout) -> list[str]:
    """Removes what a folder of I-JEPA may hold beside the encoder, and names it."""
    extras = [layout.prefix + name for name in IMAGE_EXTRAS]
    extras += [name for name in weights if layout.head and name.startswith(layout.head)]
    shapes = [(name, tuple(weights.pop(name).shape)) for name in extras if name in weights]
    return [f"dropped: {name} {shape}, not of the encoder" for name, shape in shapes]


def _without_placeholder(weights: State, layout: Layout, config: dict[str, Any]) -> list[str]:
    """Removes the zeros that `write_huggingface` puts where there is no predictor."""
    if config["pred_num_hidden_layers"] != 0:
        return []
    names = [name for name in weights if name.startswith(f"{layout.prefix}predictor.")]
    if any(weights[name].any() for name in names):
        raise ValueError("pred_num_hidden_layers=0: a predictor without layers is not supported")
    for name in names:
        del weights[name]
    return ["predictor: none, the folder holds zeros in its place"]


def _class_names(config: dict[str, Any]) -> list[str]:
    names = list((config.get("id2label") or {}).values())
    if not names or names[0] == "LABEL_0":
        return []
    return [f"class names: not kept, see id2label in {CONFIG}: 0 is {names[0]!r}"]


def _converted_dtypes(weights: State) -> list[str]:
    """Makes all weights float32, in place."""
    dtypes = {str(value.dtype).removeprefix("torch.") for value in weights.values()}
    for name, value in weights.items():
        weights[name] = value.float()
    if dtypes == {"float32"}:
        return []
    return [f"weights: {', '.join(sorted(dtypes))} in the file, converted to float32"]


def _refuse_other_settings(config: dict[str, Any], place: Path) -> None:
    channels = "in_chans" if config["model_type"] == "vjepa2" else "num_channels"
    ours = {"hidden_act": "gelu", "layer_norm_eps": NORM_EPS, "qkv_bias": True, channels: 3}
    for name, value in ours.items():
        if config[name] != value:
            raise ValueError(f"{place}: {name}={config[name]!r} is not supported, {value!r} is")
    if "quantization_config" in config:
        raise ValueError(f"{place}: quantized weights are not supported; save them dequantized")


def _refuse_other_depths(config: dict[str, Any], weights: State, source: str) -> None:
    stacks = {
        "num_hidden_layers": r"(?:\w+\.)?encoder\.layer\.(\d+)\.",
        "pred_num_hidden_layers": r"(?:\w+\.)?predictor\.layer\.(\d+)\.",
    }
    for setting, pattern in stacks.items():
        matches = (re.match(pattern, name) for name in weights)
        count = len({match[1] for match in matches if match})
        if setting in config and config[setting] != count:
            raise ValueError(f"{CONFIG} says {setting}={config[setting]}, {source} holds {count}")


def _describe(
    config: dict[str, Any], weights: State, architecture: str, folder: Path
) -> dict[str, Any]:
    """Returns the config of our format."""
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
    num_classes = len(config.get("id2label") or weights.get("classifier.bias", torch.empty(2)))
    return {
        "dim": config["hidden_size"],
        "num_classes": {"label": num_classes},
        "num_heads": config["num_attention_heads"],
        "depth": config["num_pooler_layers"] + 1,
        "mlp_ratio": POOLER_MLP_RATIO,
        "norm_eps": config["layer_norm_eps"],
    }


def _side(config: dict[str, Any], name: str) -> int:
    value = config[name]
    sides = set(value) if isinstance(value, list) else {value}
    if len(sides) != 1:
        raise ValueError(f"{name}={value} is not square, which is not supported")
    return sides.pop()


def _our_ratio(dim: int, ratio: float) -> float:
    """Returns the ratio that gives the same hidden width: transformers cuts, we round."""
    return int(dim * ratio) / dim


def _refuse_misfit(weights: State, expected: State, source: str) -> None:
    problems = []
    for what, names in (
        ("missing", expected.keys() - weights),
        ("unexpected", weights.keys() - expected),
    ):
        if names:
            problems.append(f"{len(names)} {what} {sorted(names)[:3]}")
    if problems:
        raise ValueError(f"{source} does not fit {CONFIG}: {', '.join(problems)}")
    for name, value in expected.items():
        found = weights[name]
        if found.shape != value.shape or not found.is_floating_point():
            raise ValueError(
                f"{source} does not fit {CONFIG}: {name} is {tuple(found.shape)} of "
                f"{found.dtype}, not {tuple(value.shape)} of floats"
            )


# Names and shapes, both ways.


def _to_huggingface(state: State, layout: Layout) -> State:
    """Returns our weights by their names and in their shapes."""
    theirs: State = {}
    for name, value in state.items():
        parts = _their_names(name, layout)
        theirs |= zip(parts, _their_shape(name, value, layout).chunk(len(parts)), strict=True)
    return theirs


def _from_huggingface(theirs: State, like: State, layout: Layout) -> State:
    """The inverse of `_to_huggingface`; `theirs` is emptied, so that memory is not held twice.

    Args:
        theirs: weights by their names.
        like: our state, of which names and shapes are looked at.
        layout: of `theirs`.
    """
    state: State = {}
    for name, value in like.items():
        parts = [theirs.pop(part) for part in _their_names(name, layout)]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        state[name] = joined.reshape(value.shape)
    return state


def _their_names(name: str, layout: Layout) -> list[str]:
    """Returns what transformers calls a weight of ours; several names if ours joins several."""
    bare = _bare_names(name, layout)
    is_head = bare[0].startswith(layout.head) if layout.head else False
    return bare if is_head else [layout.prefix + part for part in bare]


def _bare_names(name: str, layout: Layout) -> list[str]:
    if name in layout.names:  # neither weight nor bias
        return [layout.names[name]]
    stem, _, kind = name.rpartition(".")
    if match := re.fullmatch(r"(.+\.blocks)\.(\d+)\.(.+)", stem):
        stack, parts = layout.names[match[1]]
        return [f"{stack}.{match[2]}.{part}.{kind}" for part in _listed(parts[match[3]])]
    return [f"{part}.{kind}" for part in _listed(layout.names[stem])]


def _their_shape(name: str, value: Tensor, layout: Layout) -> Tensor:
    if name == "predictor.mask_tokens":
        return value[:, None, None]
    if name in ("probe.pooler.queries", "encoder.positions.table"):
        return value[None]
    if name == "encoder.patch_embed.weight" and layout.model_type == "ijepa":
        return value.squeeze(2)
    return value


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


# Writing.


def write_huggingface(model: JepaModel, folder: str | Path) -> list[str]:
    """Writes a folder that transformers loads: config, weights, processor and a card.

    The class is `VJEPA2ForVideoClassification` if the model has a probe, else `VJEPA2Model`;
    `IJepaModel` if the encoder is one of images. `VJEPA2Model` has a predictor always: for a model
    without, one of no layers and of zeros is written. It predicts zero everywhere, so that nobody
    takes it for a trained one, where random weights could pass, and `read_huggingface` sees that
    there is none.

    Args:
        model: with tiled rotary positions and tubelets (V-JEPA 2), or with sine-cosine positions
            and frames (I-JEPA).
        folder: made if need be; files of the same names are replaced.

    Returns:
        Lines for the user: the class, and where numbers will differ.

    Raises:
        ValueError: if transformers has no class for such a model.
    """
    _refuse_what_they_lack(model)
    architecture = _architecture_of(model)
    layout, folder = LAYOUTS[architecture], Path(folder)
    config, lines = _their_config(model, architecture)
    lines.insert(0, f"architecture: {architecture}")
    state = model.state_dict()
    if layout.model_type == "ijepa":
        state = {name: value for name, value in state.items() if name.startswith("encoder.")}
    elif model.predictor is None:
        state |= _placeholder(model.encoder.dim)
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in _to_huggingface(state, layout).items()
    }
    processor, settings = _processor(config)
    card = _card(architecture, model.source, lines)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / f"{WEIGHTS}.tmp", metadata={"format": "pt"})
    os.replace(folder / f"{WEIGHTS}.tmp", folder / WEIGHTS)
    for name, text in (
        (CONFIG, json.dumps(config, indent=2) + "\n"),
        (processor, json.dumps(settings, indent=2) + "\n"),
        (CARD, card),
    ):
        (folder / f"{name}.tmp").write_text(text)
        os.replace(folder / f"{name}.tmp", folder / name)
    return lines


def _architecture_of(model: JepaModel) -> str:
    if model.encoder.config["positions"] == "sincos_2d":
        return IMAGE
    return VIDEO if model.probe is None else VIDEO_CLASSES


def _refuse_what_they_lack(model: JepaModel) -> None:
    """Raises ValueError with one line that says why transformers cannot hold the model."""
    keeps = "save_pretrained keeps all of it"
    if not isinstance(model, JepaModel) or not isinstance(model.encoder, VideoEncoder):
        what = type(model if not isinstance(model, JepaModel) else model.encoder).__name__
        raise ValueError(f"transformers has no class for a {what}; {keeps}")
    reasons = [
        *_what_they_lack_of_encoders(model.encoder.config),
        *_what_they_lack_of_predictors(model),
        *_what_they_lack_of_probes(model),
    ]
    if reasons:
        raise ValueError(f"transformers cannot hold this model: {'; '.join(reasons)}; {keeps}")


def _what_they_lack_of_encoders(config: dict[str, Any]) -> Iterable[str]:
    if config["levels"] is not None or config["has_image_tokenizer"]:
        yield "V-JEPA 2.1, with norms of levels or an image tokenizer, is not in transformers"
    elif config["rope_grid"] is not None:
        yield f"its positions are token indices, not stretched to rope_grid={config['rope_grid']}"
    elif config["positions"] == "rope_interleaved":
        yield "its rotary positions are tiled, not interleaved"
    elif config["positions"] == "sincos_3d":
        yield "V-JEPA 1, with sincos_3d positions, is not in transformers"
    elif config["positions"] == "sincos_2d" and config["tubelet_size"] != 1:
        yield f"its I-JEPA has frames, not tubelets of {config['tubelet_size']} frames"


def _what_they_lack_of_predictors(model: JepaModel) -> Iterable[str]:
    if model.predictor is None or _architecture_of(model) == IMAGE:
        return
    config, dim = model.predictor.config, model.encoder.dim
    theirs = {
        "encoder_dim": (dim,),
        "positions": ("rope_tiled",),
        "rope_grid": (None,),
        "num_levels": (1,),
        "output_dim": (None, dim),
        "predicts_context": (False,),
        "has_modalities": (False,),
    }
    for name, allowed in theirs.items():
        if config[name] not in allowed:
            yield f"its predictor has {name}={allowed[0]!r}, not {config[name]!r}"


def _what_they_lack_of_probes(model: JepaModel) -> Iterable[str]:
    if model.probe is None:
        return
    if _architecture_of(model) == IMAGE:
        yield "its I-JEPA has no attentive probe: write JepaModel(model.encoder)"
        return
    config, heads = model.probe.config, model.encoder.num_heads
    if len(config["num_classes"]) > 1:
        yield f"its probe has one head, not {', '.join(config['num_classes'])}"
    if config["num_heads"] != heads:
        yield f"its probe has the encoder's {heads} attention heads, not {config['num_heads']}"
    if round(config["dim"] * config["mlp_ratio"]) != int(config["dim"] * POOLER_MLP_RATIO):
        yield f"its probe has mlp_ratio={POOLER_MLP_RATIO}, not {config['mlp_ratio']}"
    if config["norm_eps"] not in (NORM_EPS, PROBE_NORM_EPS):
        yield f"its probe has norm_eps={NORM_EPS}, not {config['norm_eps']}"


def _their_config(model: JepaModel, architecture: str) -> tuple[dict[str, Any], list[str]]:
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
    (name,), lines = probe.names, []
    labels = [f"LABEL_{index}" for index in range(probe.config["num_classes"][name])]
    settings = {
        "num_pooler_layers": probe.config["depth"] - 1,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    if probe.config["norm_eps"] != NORM_EPS:
        lines.append(
            f"probe: its layer norms have eps {probe.config['norm_eps']}, transformers has one eps "
            f"of {NORM_EPS} for all: logits will differ by about 3e-5"
        )
    return settings, lines


def _placeholder(encoder_dim: int) -> State:
    """Returns the weights of a predictor without layers, all zero."""
    with torch.device("meta"):
        predictor = MaskedLatentPredictor(
            encoder_dim=encoder_dim, dim=PLACEHOLDER_DIM, depth=0, num_heads=1
        )
    shapes = {name: value.shape for name, value in predictor.state_dict().items()}
    return {f"predictor.{name}": torch.zeros(shape) for name, shape in shapes.items()}


def _their_ratio(dim: int, ratio: float) -> float:
    """The inverse of `_our_ratio`: transformers cuts dim * ratio where we round."""
    hidden = round(dim * ratio)
    theirs = hidden / dim
    return theirs if int(dim * theirs) == hidden else math.nextafter(theirs, math.inf)


def _processor(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
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


def _card(architecture: str, source: str, lines: list[str]) -> str:
    return CARD_TEXT.format(
        architecture=architecture,
        source=source or "Trained with jepa-planning.",
        lines="\n".join(f"- {line}" for line in lines[1:]),
    )
