"""The names of official checkpoints and ours, in both directions.

Official names come without the prefixes of wrappers (module., module.backbone.).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from jepa.models.encoder import VideoEncoder

# (official, ours), for the parts of a name; both directions use the same table.
BLOCK_NAMES = (("mlp.fc1.", "mlp.0."), ("mlp.fc2.", "mlp.2."))
ENCODER_NAMES = (
    ("patch_embed.proj.", "patch_embed."),
    ("patch_embed_img.proj.", "image_embed."),
    ("blocks.", "transformer.blocks."),
    ("norm.", "transformer.norm."),
)
PREDICTOR_NAMES = (
    ("predictor_embed.", "embed."),
    ("predictor_blocks.", "transformer.blocks."),
    ("predictor_norm.", "transformer.norm."),
    ("predictor_proj_context.", "context_proj."),
    ("predictor_proj.", "proj."),
    ("action_encoder.", "action_embed."),
    ("state_encoder.", "state_embed."),
    ("extrinsics_encoder.", "extrinsics_embed."),
)
State = dict[str, Tensor]


def encoder_to_ours(state: State) -> dict[str, tuple[Tensor, str]]:
    """Returns our name -> (value, official name)."""
    renamed: dict[str, tuple[Tensor, str]] = {}
    num_levels = num_blocks(state, "norms_block")
    for official, value in state.items():
        if match := re.fullmatch(r"norms_block\.(\d+)\.(weight|bias)", official):
            level, rest = int(match[1]), match[2]
            is_last = level == num_levels - 1
            name = f"transformer.norm.{rest}" if is_last else f"level_norms.{level}.{rest}"
        elif official == "pos_embed":
            name, value = "positions.table", value[0]
        elif official in ("video_mod_embed", "img_mod_embed"):
            continue
        else:
            name = _translate(official, ENCODER_NAMES, forward=True)
        if official == "patch_embed.proj.weight" and value.ndim == 4:
            value = value.unsqueeze(2)  # an image is a tubelet of one frame
        renamed[name] = (value, official)
    _join_modalities(state, renamed)
    return renamed


def predictor_to_ours(state: State) -> dict[str, tuple[Tensor, str]]:
    """Returns our name -> (value, official name), of either predictor."""
    renamed: dict[str, tuple[Tensor, str]] = {}
    for official, value in state.items():
        if official.startswith("mask_token") or official.endswith("_mod_embed"):
            continue
        if official == "predictor_pos_embed":
            renamed["positions.table"] = (value[0], official)
        else:
            renamed[_translate(official, PREDICTOR_NAMES, forward=True)] = (value, official)
    if masks := [name for name in state if name.startswith("mask_token")]:
        renamed["mask_tokens"] = (mask_tokens_of(state), masks[0])
    _join_modalities(state, renamed)
    return renamed


def encoder_to_official(encoder: VideoEncoder) -> State:
    """Returns the state of an encoder by official names."""
    official: State = {}
    for name, value in encoder.state_dict().items():
        if name == "modality_embed":
            official |= _split_modalities(value)
        elif name == "positions.table":
            official["pos_embed"] = value[None]
        elif name.startswith("level_norms."):
            official[name.replace("level_norms", "norms_block")] = value
        elif encoder.config["levels"] is not None and name.startswith("transformer.norm."):
            last = len(encoder.level_norms)
            official[name.replace("transformer.norm", f"norms_block.{last}")] = value
        elif name == "patch_embed.weight" and encoder.config["positions"] == "sincos_2d":
            official["patch_embed.proj.weight"] = value.squeeze(2)
        else:
            official[_translate(name, ENCODER_NAMES, forward=False)] = value
    return official


def predictor_to_official(predictor: nn.Module, *, has_one_mask_token: bool) -> State:
    """Returns the state of a predictor, masked or action-conditioned, by official names.

    Args:
        predictor: ours.
        has_one_mask_token: call it mask_token, as I-JEPA does.
    """
    official: State = {}
    for name, value in predictor.state_dict().items():
        if name == "modality_embed":
            official |= _split_modalities(value)
        elif name == "mask_tokens" and has_one_mask_token:
            official["mask_token"] = value[None]
        elif name == "mask_tokens":
            official |= {f"mask_tokens.{i}": row[None, None] for i, row in enumerate(value)}
        elif name == "positions.table":
            official["predictor_pos_embed"] = value[None]
        else:
            official[_translate(name, PREDICTOR_NAMES, forward=False)] = value
    return official


def mask_tokens_of(state: State) -> Tensor:
    """Returns (mask tokens, dim)."""
    if "mask_token" in state:
        return state["mask_token"].flatten(1)
    names = [f"mask_tokens.{i}" for i in range(num_mask_tokens(state))]
    if not names or not all(name in state for name in names):
        raise ValueError("mask tokens (mask_token, or mask_tokens.0 and so on) are missing")
    return torch.cat([state[name] for name in names]).flatten(1)


def num_mask_tokens(state: State) -> int:
    """Returns how many mask tokens there are, 0 without a predictor."""
    return len([name for name in state if re.fullmatch(r"mask_tokens?(\.\d+)?", name)])


def official_name(ours: str) -> str:
    """Returns what a weight of a whole model is called there, as well as one name can say it.

    Args:
        ours: begins with encoder., predictor. or dynamics.
    """
    part, _, name = ours.partition(".")
    if part == "encoder":
        if name == "positions.table":
            return "pos_embed"
        return _translate(name, ENCODER_NAMES, forward=False).replace("level_norms", "norms_block")
    if name == "positions.table":
        return "predictor_pos_embed"
    return _translate(name, PREDICTOR_NAMES, forward=False)


def num_blocks(state: State, name: str) -> int:
    """Returns how many different numbers follow `name` in the names."""
    found = {m[1] for key in state if (m := re.match(rf"{name}\.(\d+)\.", key))}
    return len(found)


def _join_modalities(state: State, renamed: dict[str, tuple[Tensor, str]]) -> None:
    pair = [state[name] for name in ("video_mod_embed", "img_mod_embed") if name in state]
    if pair:
        renamed["modality_embed"] = (torch.cat(pair).flatten(1), "video_mod_embed, img_mod_embed")


def _split_modalities(value: Tensor) -> State:
    return {"video_mod_embed": value[:1, None], "img_mod_embed": value[1:, None]}


def _translate(name: str, table: tuple[tuple[str, str], ...], *, forward: bool) -> str:
    """Official to our name, or back; a name that no rule knows stays, and will not fit."""
    for official, ours in table:
        old, new = (official, ours) if forward else (ours, official)
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for official, ours in BLOCK_NAMES:
        old, new = (official, ours) if forward else (ours, official)
        name = name.replace(old, new)
    return name
