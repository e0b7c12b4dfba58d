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
import re
from pathlib import Path
from typing import Any

import torch

from jepa.checkpoints.folder_writing import CONFIG, write_folder
from jepa.checkpoints.huggingface_file import read_weights
from jepa.checkpoints.huggingface_limits import architecture_of, refuse_what_they_lack
from jepa.checkpoints.huggingface_names import (
    IMAGE_EXTRAS,
    LAYOUTS,
    Layout,
    State,
    from_huggingface,
    older_name,
    to_huggingface,
)
from jepa.checkpoints.huggingface_settings import (
    DEFAULTS,
    PLACEHOLDER_DIM,
    describe_huggingface,
    processor_settings,
    refuse_other_settings,
    their_config,
)
from jepa.checkpoints.mask_tokens import choose_mask_token
from jepa.checkpoints.native import CARD, build_model, load_weights, read_config
from jepa.models.jepa_model import JepaModel
from jepa.models.predictor import MaskedLatentPredictor

logger = logging.getLogger(__name__)

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

    A `VJEPA2ForVideoClassification` has a probe with one head, `label`, with names of classes
    unless they are LABEL_0 and so on. Of I-JEPA only the encoder is read, with the table of
    positions in the file, which transformers makes a parameter.

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
    weights, source = read_weights(folder)
    report = [f"architecture: {architecture}"]
    _refuse_the_other_class(weights, layout, architecture, source)
    if layout.model_type == "ijepa":
        weights = {older_name(name): value for name, value in weights.items()}
        report += _without_extras(weights, layout)
    else:
        report += _without_placeholder(weights, layout, config)
    refuse_other_settings(config, folder / CONFIG)
    _refuse_other_depths(config, weights, source)
    try:
        described = describe_huggingface(config, weights, architecture, folder)
        expected = to_huggingface(build_model(described).state_dict(), layout)
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
    report += _class_names(model)
    load_weights(model, from_huggingface(weights, model.state_dict(), layout), source=source)
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


def _refuse_the_other_class(weights: State, layout: Layout, architecture: str, source: str) -> None:
    has_prefix = any(name.startswith(("vjepa2.", "ijepa.")) for name in weights)
    if has_prefix != bool(layout.prefix):
        are = "a classifier" if has_prefix else "a bare model"
        raise ValueError(f"{CONFIG} says {architecture}, but {source} holds the weights of {are}")


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


def _class_names(model: JepaModel) -> list[str]:
    if model.probe is None or model.probe.class_names is None:
        return []
    (names,) = model.probe.class_names.values()
    return [f"class names: {len(names)}, 0 is {names[0]!r}"]


def _converted_dtypes(weights: State) -> list[str]:
    """Makes all weights float32, in place."""
    dtypes = {str(value.dtype).removeprefix("torch.") for value in weights.values()}
    for name, value in weights.items():
        weights[name] = value.float()
    if dtypes == {"float32"}:
        return []
    return [f"weights: {', '.join(sorted(dtypes))} in the file, converted to float32"]


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
    refuse_what_they_lack(model)
    architecture = architecture_of(model)
    layout, folder = LAYOUTS[architecture], Path(folder)
    config, lines = their_config(model, architecture)
    lines.insert(0, f"architecture: {architecture}")
    state = model.state_dict()
    if layout.model_type == "ijepa":
        state = {name: value for name, value in state.items() if name.startswith("encoder.")}
    elif model.predictor is None:
        state |= _placeholder(model.encoder.dim)
    processor, settings = processor_settings(config)
    texts = {
        CONFIG: json.dumps(config, indent=2) + "\n",
        processor: json.dumps(settings, indent=2) + "\n",
        CARD: _card(architecture, model.source, lines),
    }
    write_folder(folder, to_huggingface(state, layout), texts)
    return lines


def _placeholder(encoder_dim: int) -> State:
    """Returns the weights of a predictor without layers, all zero."""
    with torch.device("meta"):
        predictor = MaskedLatentPredictor(
            encoder_dim=encoder_dim, dim=PLACEHOLDER_DIM, depth=0, num_heads=1
        )
    shapes = {name: value.shape for name, value in predictor.state_dict().items()}
    return {f"predictor.{name}": torch.zeros(shape) for name, shape in shapes.items()}


def _card(architecture: str, source: str, lines: list[str]) -> str:
    return CARD_TEXT.format(
        architecture=architecture,
        source=source or "Trained with jepa-planning.",
        lines="\n".join(f"- {line}" for line in lines[1:]),
    )
