"""Released attentive probes: their files, and their names for our weights and back.

A released file holds many heads, one for each learning rate and weight decay that was tried
(V-JEPA 2: twenty), and does not mark the best one: score them to find it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jepa.checkpoints.official_file import open_checkpoint
from jepa.models.pooler import NORM_EPS, AttentiveProbe

PREFIX = "module."
QUERIES = "pooler.query_tokens"
CROSS = "pooler.cross_attention_block"
BLOCK = r"pooler\.blocks\.(\d+)\."
LABEL_HEAD = {"linear": "label"}
EK100_HEADS = {"verb_classifier": "verb", "noun_classifier": "noun", "action_classifier": "action"}
# V-JEPA 1 saved an output projection of the cross-attention that its forward never applies.
NEVER_APPLIED = {f"{CROSS}.xattn.proj.weight", f"{CROSS}.xattn.proj.bias"}

MLP_PARTS = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
BLOCK_PARTS = {"attn.qkv": "attn.qkv", "attn.proj": "attn.proj", **MLP_PARTS}
CROSS_PARTS = {"xattn.q": "attn.q", "xattn.kv": "attn.kv", **MLP_PARTS}


def read_official_probes(path: str | Path) -> list[dict[str, Tensor]]:
    """Reads the heads of a released probe file, for `probe_from_official`; runs nothing in it.

    Args:
        path: a file that the released evaluation wrote. Of a zip, which newer torch writes, the
            tensors are mapped and read when they are used.

    Returns:
        The official state dict of each head, on the CPU, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, cut short, or wants to run code.
    """
    content = open_checkpoint(path)
    heads = content.get("classifiers")
    if "classifier" in content:  # V-JEPA 1 tried one setting a file
        heads = [content["classifier"]]
    if not isinstance(heads, list) or not heads:
        raise ValueError(f"{path} is not a probe file: it has no list of heads as 'classifiers'")
    for index, head in enumerate(heads):
        if not _is_state(head):
            raise ValueError(
                f"{path} is not a probe file: classifiers[{index}] holds more than tensors"
            )
    return heads


def probe_from_official(
    state_dict: dict[str, Tensor], *, num_heads: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Translates one head of a released file.

    Args:
        state_dict: official names, with "module." before each or without.
        num_heads: attention heads, which shapes do not tell: 16 in every released V-JEPA 2 probe,
            as many as the encoder has in those of V-JEPA 1.

    Returns:
        The config and the weights: `AttentiveProbe(**config).load_state_dict(weights)`. Heads are
        called "label", or "verb", "noun" and "action" (EK100, in this order).

    Raises:
        ValueError: if names or shapes are not those of a released probe. That num_heads divides
            the width is looked at by `AttentiveProbe`.
    """
    if all(name.startswith(PREFIX) for name in state_dict):
        state_dict = {name.removeprefix(PREFIX): value for name, value in state_dict.items()}
    official = {name: value for name, value in state_dict.items() if name not in NEVER_APPLIED}
    blocks = {found[1] for name in official if (found := re.match(BLOCK, name))}
    has_ek100_head = any(f"{head}.weight" in official for head in EK100_HEADS)
    heads = EK100_HEADS if has_ek100_head else LABEL_HEAD
    depth = len(blocks) + 1  # the cross-attention is the last one
    names = _names(depth, tuple(heads))
    _refuse_other_names(official, names)
    config = {**_sizes(official, heads), "num_heads": num_heads, "depth": depth}
    _refuse_other_shapes(official, names, config)
    weights = {ours: official[theirs] for theirs, ours in names.items()}
    weights[names[QUERIES]] = official[QUERIES][0]  # (queries, dim)
    return config, weights


def probe_to_official(probe: AttentiveProbe) -> dict[str, Tensor]:
    """Returns the weights under official names, without "module."; see `probe_from_official`.

    The number of attention heads and the epsilon of the norms, 1e-5 there, are not in it.

    Raises:
        ValueError: if the released code has no name for these heads.
    """
    layouts = {tuple(heads.values()): tuple(heads) for heads in (LABEL_HEAD, EK100_HEADS)}
    if probe.names not in layouts:
        allowed = " or ".join(str(list(names)) for names in layouts)
        raise ValueError(f"official probes have heads {allowed}, got {list(probe.names)}")
    weights = probe.state_dict()
    names = _names(len(probe.pooler.blocks) + 1, layouts[probe.names])
    official = {theirs: weights[ours] for theirs, ours in names.items()}
    official[QUERIES] = official[QUERIES][None]  # (1, queries, dim)
    return official


def _is_state(head: object) -> bool:
    return isinstance(head, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in head.items()
    )


def _names(depth: int, heads: Sequence[str]) -> dict[str, str]:
    """Returns our name of every official one."""
    parts = {f"{CROSS}.{theirs}": f"pooler.cross.{ours}" for theirs, ours in CROSS_PARTS.items()}
    for block in (f"pooler.blocks.{index}" for index in range(depth - 1)):
        parts |= {f"{block}.{theirs}": f"{block}.{ours}" for theirs, ours in BLOCK_PARTS.items()}
    parts |= {head: f"heads.{index}" for index, head in enumerate(heads)}
    names = {
        f"{theirs}.{kind}": f"{ours}.{kind}"
        for theirs, ours in parts.items()
        for kind in ("weight", "bias")
    }
    return {QUERIES: "pooler.queries", **names}


def _sizes(official: dict[str, Tensor], heads: dict[str, str]) -> dict[str, Any]:
    """Reads off settings; `_refuse_other_shapes` looks whether the rest agrees."""

    def size(name: str) -> int:
        return official[name].numel() or 1  # an empty tensor agrees with no setting

    dim = size(f"{CROSS}.norm1.bias")
    return {
        "dim": dim,
        "num_classes": {ours: size(f"{theirs}.bias") for theirs, ours in heads.items()},
        "mlp_ratio": size(f"{CROSS}.mlp.fc1.bias") / dim,
        "norm_eps": NORM_EPS,
    }


def _refuse_other_names(official: dict[str, Tensor], names: dict[str, str]) -> None:
    missing, unexpected = sorted(names.keys() - official), sorted(official.keys() - names)
    if missing or unexpected:
        raise ValueError(
            f"not the weights of an official probe: {len(missing)} missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}"
        )


def _refuse_other_shapes(
    official: dict[str, Tensor], names: dict[str, str], config: dict[str, Any]
) -> None:
    with torch.device("meta"):  # shapes only; they do not depend on num_heads
        expected = probe_to_official(AttentiveProbe(**{**config, "num_heads": 1}))
    wrong = [
        f"{name} is {tuple(official[name].shape)}, not {tuple(expected[name].shape)}"
        for name in names
        if official[name].shape != expected[name].shape
    ]
    if wrong:
        raise ValueError(
            f"shapes of an official probe of width {config['dim']} disagree: {len(wrong)} do not "
            f"fit, {'; '.join(wrong[:3])}"
        )
