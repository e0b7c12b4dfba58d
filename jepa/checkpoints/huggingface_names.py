"""The names of weights in Hugging Face's `transformers` and ours, in both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
# As the files on the hub, which every version of transformers reads; see NEWER_TO_OLDER.
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


def to_huggingface(state: State, layout: Layout) -> State:
    """Returns our weights by their names and in their shapes."""
    theirs: State = {}
    for name, value in state.items():
        parts = _their_names(name, layout)
        theirs |= zip(parts, _their_shape(name, value, layout).chunk(len(parts)), strict=True)
    return theirs


def from_huggingface(theirs: State, like: State, layout: Layout) -> State:
    """The inverse of `to_huggingface`; `theirs` is emptied, so that memory is not held twice.

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


def older_name(name: str) -> str:
    """Returns the name on the hub of an I-JEPA weight, which transformers 5 renamed in memory."""
    for newer, older in NEWER_TO_OLDER:
        name = re.sub(newer, older, name)
    return name


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
