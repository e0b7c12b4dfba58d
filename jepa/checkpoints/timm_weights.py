"""I-JEPA encoders that `timm` holds (`vit_huge_patch14_gap_224.in1k_ijepa` and its like)."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from jepa.checkpoints.native import build_model, load_weights
from jepa.models.jepa_model import JepaModel
from jepa.models.transformer import NORM_EPS

logger = logging.getLogger(__name__)

# timm's names and ours; blocks.N. before both.
NAMES = {"patch_embed.proj": "patch_embed", "norm": "transformer.norm"}
BLOCK_NAMES = {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}


def read_timm_ijepa(source: str | nn.Module) -> JepaModel:
    """Returns the I-JEPA encoder that timm holds, in evaluation mode, on the CPU, in float32.

    Tokens are those of `module.forward_features`. At other sizes than the model's, timm (with
    dynamic_img_size) smooths positions when it shrinks their table; ours, as I-JEPA, does not. A
    head is dropped: a warning and the model's `source` name it. The download is of the released
    file's `encoder`, which timm takes, and not of its average, `target_encoder`.

    Args:
        source: the name of I-JEPA weights in timm, which are downloaded; or a module of timm.

    Raises:
        FileNotFoundError: if the weights cannot be downloaded.
        ValueError: if timm has no I-JEPA weights of this name, or the module is no plain vision
            transformer: with a class token, registers, layer scale, a norm after pooling or others.
    """
    module = _downloaded(source) if isinstance(source, str) else source
    name = source if isinstance(source, str) else type(module).__name__
    encoder = _describe(module, name)
    state = module.state_dict()
    weights = {key: v.to("cpu", torch.float32, copy=True) for key, v in state.items()}
    dropped = [key for key in weights if key.startswith("head.")]
    described = {
        "model": "JepaModel",
        "encoder": encoder,
        "source": f"I-JEPA, converted from {name} of timm.",
    }
    if dropped:
        shapes = ", ".join(f"{key} {tuple(weights.pop(key).shape)}" for key in dropped)
        described["source"] += f" Dropped: {shapes}."
        logger.warning("dropped: %s, not of the encoder", shapes)
    model = build_model(described)
    assert isinstance(model, JepaModel)
    ours = {f"encoder.{_our_name(key)}": _our_shape(key, value) for key, value in weights.items()}
    theirs = {f"encoder.{_our_name(key)}": key for key in weights}
    load_weights(model, ours, source=name, names=theirs)
    return model.eval()


def _downloaded(name: str) -> nn.Module:
    import timm

    known = timm.list_models("*ijepa*", pretrained=True)
    if name not in known:
        raise ValueError(f"timm has no I-JEPA weights {name!r}; it has {', '.join(known)}")
    try:
        return timm.create_model(name, pretrained=True)
    except OSError as error:
        raise FileNotFoundError(
            f"the weights {name} of timm cannot be downloaded: {error}; make the model where they "
            "can, and give it, or a folder that save_pretrained wrote"
        ) from error


def _describe(module: nn.Module, name: str) -> dict[str, Any]:
    """Returns the config of our encoder; refuses what is no plain vision transformer."""
    from timm.models.vision_transformer import VisionTransformer

    if type(module) is not VisionTransformer:
        raise ValueError(
            f"{name} is a {type(module).__name__}, not a VisionTransformer of timm, as I-JEPA is"
        )
    parts: Any = module  # attributes of modules are not typed
    for problem in _problems(parts):
        raise ValueError(f"{name} is no I-JEPA encoder: {problem}")
    (patch, _), (height, _) = parts.patch_embed.patch_size, parts.patch_embed.grid_size
    block = parts.blocks[0]
    return {
        "image_size": patch * height,
        "clip_length_frames": 1,
        "patch_size": patch,
        "tubelet_size": 1,
        "dim": parts.embed_dim,
        "depth": len(parts.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / parts.embed_dim,
        "positions": "sincos_2d",
    }


def _problems(module: Any) -> list[str]:  # noqa: ANN401 - attributes of modules are not typed
    """Returns how a vision transformer of timm differs from I-JEPA's, but for names of weights."""
    from timm.layers.attention import Attention
    from timm.layers.mlp import Mlp
    from timm.models.vision_transformer import Block

    problems = []
    for part in ("cls_token", "reg_token", "attn_pool"):
        if getattr(module, part, None) is not None:
            problems.append(f"it has {part}")
    if module.pos_embed is None:
        problems.append("it has no pos_embed")
    for part in ("norm_pre", "fc_norm"):
        if not isinstance(getattr(module, part), nn.Identity):
            problems.append(f"it has {part}")
    grid, patch = module.patch_embed.grid_size, module.patch_embed.patch_size
    if grid[0] != grid[1] or patch[0] != patch[1]:
        problems.append(f"a grid of {grid} patches of {patch} is not square")
    for block in module.blocks:
        kinds = (type(block), type(block.attn), type(block.mlp), type(block.mlp.act))
        if kinds != (Block, Attention, Mlp, nn.GELU) or block.mlp.act.approximate != "none":
            problems.append(f"its blocks are made of {', '.join(kind.__name__ for kind in kinds)}")
            break
    eps = {child.eps for child in module.modules() if isinstance(child, nn.LayerNorm)}
    if eps != {NORM_EPS}:
        problems.append(f"its layer norms have eps {sorted(eps)}, not {NORM_EPS}")
    return problems


def _our_name(name: str) -> str:
    """Returns our name of a weight; one that has none stays, and will not fit."""
    if name == "pos_embed":
        return "positions.table"
    stem, _, kind = name.rpartition(".")
    if stem.startswith("blocks."):
        blocks, index, part = stem.split(".", 2)
        return f"transformer.{blocks}.{index}.{BLOCK_NAMES.get(part, part)}.{kind}"
    return f"{NAMES.get(stem, stem)}.{kind}"


def _our_shape(name: str, value: Tensor) -> Tensor:
    if name == "pos_embed":
        return value[0]
    if name == "patch_embed.proj.weight":
        return value.unsqueeze(2)  # an image is a tubelet of one frame
    return value
