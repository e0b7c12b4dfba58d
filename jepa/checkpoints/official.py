"""Official checkpoints (V-JEPA 1, 2, 2.1, 2-AC, I-JEPA; .pt or .pth.tar) in and out.

The family and all sizes are read off names and shapes. What is not in the file (number of heads,
image size, levels) is known for the released sizes and asked for otherwise; nothing is guessed, and
nothing is loaded in part. Foreign names stop at this door.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from jepa.checkpoints.mask_tokens import choose_mask_token
from jepa.checkpoints.native import AnyModel, build_model, load_weights
from jepa.checkpoints.official_config import OfficialConfig
from jepa.checkpoints.official_file import open_checkpoint
from jepa.checkpoints.official_names import (
    encoder_to_official,
    encoder_to_ours,
    mask_tokens_of,
    num_blocks,
    num_mask_tokens,
    predictor_to_official,
    predictor_to_ours,
)
from jepa.models.encoder import VideoEncoder
from jepa.models.sizes import ENCODER_SIZES
from jepa.models.world_model import LatentWorldModel

Family = Literal["vjepa1", "vjepa2", "vjepa2_1", "vjepa2_ac", "ijepa"]
FAMILY_NAMES = {
    "vjepa1": "V-JEPA 1",
    "vjepa2": "V-JEPA 2",
    "vjepa2_1": "V-JEPA 2.1",
    "vjepa2_ac": "V-JEPA 2-AC",
    "ijepa": "I-JEPA",
}
# Which copy of the encoder to take: the average where there is one. 2.1 B and L were distilled, and
# keep the student's average beside the teacher; 2-AC has one frozen encoder, in one or two places.
ENCODER_KEYS = ("ema_encoder", "target_encoder", "encoder")
ENCODER_KEYS_OF_AC = ("encoder", "target_encoder")
STATES = {"rope_tiled": "rope-tiled", "rope_interleaved": "rope-interleaved",
          "sincos_3d": "sincos-3d", "sincos_2d": "sincos-2d"}  # fmt: skip

WRAPPERS = re.compile(r"^((module|backbone|_orig_mod)\.)*")  # DDP, the masks' wrapper, compile
State = dict[str, Tensor]


class Converted(NamedTuple):
    """A model and what was decided on the way.

    Attributes:
        model: in evaluation mode.
        report: lines for the user.
    """

    model: AnyModel
    report: list[str]


def read_official(
    path: str | Path,
    *,
    family: Family | None = None,
    config: OfficialConfig | None = None,
    encoder_key: str | None = None,
) -> Converted:
    """Reads an official checkpoint; the optimiser's part of the file is never read.

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
    content = {"predictor": {}} | open_checkpoint(path)
    if not isinstance(content["predictor"], Mapping):
        raise ValueError(f"{path}: its predictor is a {type(content['predictor']).__name__}")
    config = config or OfficialConfig()
    key = _choose_encoder_key(content, encoder_key, path)
    encoder, predictor = (_stripped(part, path) for part in (content[key], content["predictor"]))
    found, why = _detect_family(encoder, predictor, family or config.family, str(path))
    report = [f"family: {FAMILY_NAMES[found]} ({why})", f"encoder: {key}"]
    reader = _Reader(str(path), found, encoder, predictor, config)
    described = reader.describe()
    report += reader.report
    described["source"] = f"{FAMILY_NAMES[found]}, converted from {key} of {Path(path).name}."
    model = build_model(described)
    load_weights(model, reader.weights(), source=str(path), names=reader.official_names)
    return Converted(model.eval(), report)


def write_official(model: AnyModel, path: str | Path) -> list[str]:
    """Writes a model as an official checkpoint, with the names that the official code loads.

    The encoder goes under `encoder` and under `target_encoder`; there is no optimiser state.

    Returns:
        Lines for the user.

    Raises:
        ValueError: if no official family has this architecture.
    """
    family = _family_of(model)
    assert isinstance(model.encoder, VideoEncoder)
    prefix = "module." if family in ("vjepa2_ac", "ijepa") else "module.backbone."
    encoder = _named(encoder_to_official(model.encoder), prefix)
    content: dict[str, Any] = {"encoder": encoder, "target_encoder": encoder, "epoch": 0}
    predictor = model.dynamics if isinstance(model, LatentWorldModel) else model.predictor
    if predictor is not None:
        state = predictor_to_official(predictor, has_one_mask_token=family == "ijepa")
        content["predictor"] = _named(state, prefix)
    temporary = Path(f"{path}.tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)
    return [f"family: {FAMILY_NAMES[family]}", f"names begin with {prefix}"]


class _Reader:
    """Sizes, config and weights of one checkpoint."""

    def __init__(
        self,
        path: str,
        family: Family,
        encoder: State,
        predictor: State,
        config: OfficialConfig,
    ) -> None:
        self.path, self.family, self.config = path, family, config
        self.encoder, self.predictor = encoder, predictor
        self.report: list[str] = []
        self.official_names: dict[str, str] = {}
        self._drop_dead_tables()

    def describe(self) -> dict[str, Any]:
        """Returns the config of our format; complains about everything that does not fit."""
        encoder = self._encoder_config()
        described: dict[str, Any] = {"version": "", "encoder": {"class": "VideoEncoder", **encoder}}
        if self.family == "vjepa2_ac":
            described["model"] = "LatentWorldModel"
            described["latents"] = {"name": "PatchTokens"}
            described["world_model"] = self._world_model_config()
        else:
            described["model"] = "JepaModel"
            if self.predictor:
                described["predictor"] = self._predictor_config(encoder)
        self.config.refuse_contradictions(self._readable(described))
        return described

    def weights(self) -> State:
        """Returns the weights by our names; `official_names` tells where each came from."""
        weights = self._renamed(encoder_to_ours(self.encoder), "encoder.")
        if not self.predictor:
            return weights
        part = "dynamics." if self.family == "vjepa2_ac" else "predictor."
        return weights | self._renamed(predictor_to_ours(self.predictor), part)

    def _renamed(self, state: dict[str, tuple[Tensor, str]], part: str) -> State:
        self.official_names |= {part + name: official for name, (_, official) in state.items()}
        return {part + name: value for name, (value, _) in state.items()}

    def _drop_dead_tables(self) -> None:
        """V-JEPA 2 files still hold position tables that its rotary models never read."""
        if self.family in ("vjepa1", "ijepa"):
            return
        for state, name in ((self.encoder, "pos_embed"), (self.predictor, "predictor_pos_embed")):
            if state.pop(name, None) is not None:
                self.report.append(f"dropped: {name}, which rotary models do not use")

    def _encoder_config(self) -> dict[str, Any]:
        kernel = self._shape("patch_embed.proj.weight")
        dim, depth = kernel[0], num_blocks(self.encoder, "blocks")
        hidden = self._shape("blocks.0.mlp.fc1.weight")[0]
        tubelet = kernel[2] if len(kernel) == 5 else 1
        rotary = self.family not in ("vjepa1", "ijepa")
        num_levels = num_blocks(self.encoder, "norms_block")
        frames, size = self._clip_size(dim, kernel[-1], tubelet)
        return {
            "image_size": size,
            "clip_length_frames": frames,
            "patch_size": kernel[-1],
            "tubelet_size": tubelet,
            "dim": dim,
            "depth": depth,
            "num_heads": self._num_heads(dim, depth, hidden),
            "mlp_ratio": hidden / dim,
            "positions": self._positions(),
            "rope_grid": self._rope_grid(kernel[-1]) if rotary else None,
            "levels": self._levels(depth, num_levels) if self.family == "vjepa2_1" else None,
            "has_image_tokenizer": self.family == "vjepa2_1",
        }

    def _predictor_config(self, encoder: dict[str, Any]) -> dict[str, Any]:
        dim, hidden, heads = self._predictor_sizes(encoder)
        masks = mask_tokens_of(self.predictor)
        is_fused = "predictor_embed.0.weight" in self.predictor
        first = self._shape("predictor_embed.0.weight" if is_fused else "predictor_embed.weight")
        chosen, lines = choose_mask_token(masks)
        if self.config.mask_index is not None:
            chosen = self.config.mask_index
            lines.append(f"mask token {chosen} as the config says")
        self.report += lines
        tubelet, patch = encoder["tubelet_size"], encoder["patch_size"]
        side = encoder["image_size"] // patch
        output = self._shape("predictor_proj.weight")[0]
        return {
            "encoder_dim": encoder["dim"],
            "dim": dim,
            "depth": num_blocks(self.predictor, "predictor_blocks"),
            "num_heads": heads,
            "mlp_ratio": hidden / dim,
            "positions": self._positions(),
            "grid": [encoder["clip_length_frames"] // tubelet, side, side],
            "rope_grid": encoder["rope_grid"],
            "num_mask_tokens": len(masks),
            "mask_token_index": chosen,
            "num_levels": first[1] // encoder["dim"],
            "output_dim": output,
            "predicts_context": "predictor_proj_context.weight" in self.predictor,
            "has_modalities": "video_mod_embed" in self.predictor,
        }

    def _world_model_config(self) -> dict[str, Any]:
        dim, hidden, heads = self._predictor_sizes({})
        states = self._shape("state_encoder.weight", self.predictor)[1]
        actions = self._shape("action_encoder.weight", self.predictor)[1]
        scaling = {"state_mean": [0.0] * states, "state_std": [1.0] * states,
                   "action_mean": [0.0] * actions, "action_std": [1.0] * actions}  # fmt: skip
        return {
            "scaling": scaling,
            "uses_state": True,
            "dim": dim,
            "depth": num_blocks(self.predictor, "predictor_blocks"),
            "num_heads": heads,
            "mlp_ratio": hidden / dim,
            "positions": self._positions(),
            "next_state": "end_effector_pose",
            "extrinsics_dim": self._shape("extrinsics_encoder.weight", self.predictor)[1],
            "has_place_embedding": False,
        }

    def _positions(self) -> str:
        return {"vjepa1": "sincos_3d", "ijepa": "sincos_2d", "vjepa2_1": "rope_interleaved"}.get(
            self.family, "rope_tiled"
        )

    def _shape(self, name: str, state: State | None = None) -> tuple[int, ...]:
        if state is None:
            state = self.predictor if name.startswith("predictor") else self.encoder
        if name not in state:
            raise ValueError(
                f"{self.path} is no whole {FAMILY_NAMES[self.family]} checkpoint: {name} is missing"
            )
        return tuple(state[name].shape)

    def _num_heads(self, dim: int, depth: int, hidden: int) -> int:
        if self.config.num_heads is not None:
            return self.config.num_heads
        for size in ENCODER_SIZES.values():
            if (size.dim, size.depth, round(size.dim * size.mlp_ratio)) == (dim, depth, hidden):
                # The giant of I-JEPA has 16 heads, those of V-JEPA have 22.
                return 16 if self.family == "ijepa" and dim == 1408 else size.num_heads
        raise self._ask(
            "num_heads", f"width {dim}, depth {depth}, MLP {hidden} is no released size"
        )

    def _predictor_sizes(self, encoder: dict[str, Any]) -> tuple[int, int, int]:
        """Returns width, hidden width of the MLP and heads."""
        hidden, dim = self._shape("predictor_blocks.0.mlp.fc1.weight")
        if self.config.predictor_num_heads is not None:
            return dim, hidden, self.config.predictor_num_heads
        if self.family == "vjepa2_ac" and dim == 1024:
            return dim, hidden, 16
        if dim == 384:  # V-JEPA 1 and I-JEPA: as many as the encoder
            return dim, hidden, 12 if self.family.startswith("vjepa2") else encoder["num_heads"]
        raise self._ask("predictor_num_heads", f"width {dim} is no released predictor")

    def _clip_size(self, dim: int, patch: int, tubelet: int) -> tuple[int, int]:
        """Returns frames of a clip, and its height and width in pixels."""
        frames, size = self.config.num_frames, self.config.img_size
        if self.family == "ijepa":
            frames = 1
        if self.family in ("vjepa1", "ijepa"):
            num_tokens = self._shape("pos_embed")[1]
            frames = frames or 16
            side = math.isqrt(num_tokens // (frames // tubelet))
            if side * side * (frames // tubelet) != num_tokens:
                raise self._ask("num_frames", f"{num_tokens} places are no {frames}-frame square")
            if size is not None and size != side * patch:
                raise ValueError(
                    f"the config says img_size={size}, but {self.path} has positions for "
                    f"{side * patch} pixels and {frames} frames"
                )
            return frames, side * patch
        if size is None or frames is None:
            size, frames = size or 16 * patch, frames or (64 if self.family == "vjepa2" else 16)
            self.report.append(
                f"made for: {frames} frames of {size} px, the default, as rotary weights do not "
                "say; other sizes work all the same (--config: img_size, num_frames)"
            )
        return frames, size

    def _rope_grid(self, patch: int) -> int | None:
        """V-JEPA 2.1 was trained with places stretched to the grid of 256 (or 252) pixels."""
        return 256 // patch if self.family == "vjepa2_1" else None

    def _levels(self, depth: int, num_levels: int) -> list[int]:
        if self.config.levels is not None:
            levels = list(self.config.levels)
        elif num_levels == 1:
            levels = [depth - 1]
        else:
            known = {size.depth: size.levels for size in ENCODER_SIZES.values()}
            levels = list(known.get(depth) or ())
        if len(levels) != num_levels:
            raise self._ask("levels", f"{num_levels} norms at depth {depth} are no released layout")
        return levels

    def _ask(self, key: str, reason: str) -> ValueError:
        return ValueError(
            f"{key} cannot be read off {self.path}: {reason}; give it to "
            f'jepa convert with --config config.json, as {{"{key}": ...}}'
        )

    def _readable(self, described: dict[str, Any]) -> dict[str, Any]:
        """Returns what the weights say, by the names of official configs."""
        encoder = described["encoder"]
        readable = {
            "family": self.family,
            "patch_size": encoder["patch_size"],
            "tubelet_size": encoder["tubelet_size"] if self.family != "ijepa" else None,
            "embed_dim": encoder["dim"],
            "depth": encoder["depth"],
            "mlp_ratio": encoder["mlp_ratio"],
            "position": STATES[encoder["positions"]],
        }
        predictor = described.get("predictor") or described.get("world_model") or {}
        if predictor:
            readable["predictor_embed_dim"] = predictor["dim"]
            readable["predictor_depth"] = predictor["depth"]
            readable["num_mask_tokens"] = predictor.get("num_mask_tokens")
        return {name: value for name, value in readable.items() if value is not None}


def _detect_family(
    encoder: State, predictor: State, wanted: str | None, path: str
) -> tuple[Family, str]:
    """Returns the family and the reason; refuses a wish that the names contradict."""
    if wanted is not None and wanted not in get_args(Family):
        raise ValueError(f"family must be one of {', '.join(get_args(Family))}; got {wanted!r}")
    kernel = encoder.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim not in (4, 5):
        raise ValueError(f"{path} holds no encoder of a known family: no patch_embed.proj.weight")
    found, why = _signature(encoder, predictor, kernel)
    if wanted is None or wanted == found:
        return found, why
    if {wanted, found} == {"vjepa1", "vjepa2"} and "pos_embed" in encoder:
        return wanted, "as you say; names and shapes fit both V-JEPA 1 and 2"  # pyright: ignore
    raise ValueError(
        f"{path} is a {FAMILY_NAMES[found]} checkpoint ({why}), not {FAMILY_NAMES[wanted]}: "
        f"loaded as such it would give wrong numbers; use --family {found} or leave it out"
    )


def _signature(encoder: State, predictor: State, kernel: Tensor) -> tuple[Family, str]:
    if "action_encoder.weight" in predictor:
        return "vjepa2_ac", "its predictor takes actions"
    if "norms_block.0.weight" in encoder:
        return "vjepa2_1", "its levels have norms of their own"
    if kernel.ndim == 4:
        return "ijepa", "its patches are images"
    if "pos_embed" not in encoder:
        return "vjepa2", "it has no position table"
    masks = num_mask_tokens(predictor)
    if masks > 2:
        return "vjepa2", f"{masks} mask tokens; its position table is a dead one"
    return "vjepa1", f"it has a position table and {masks} mask tokens; else say --family vjepa2"


def _choose_encoder_key(content: dict[str, Any], wanted: str | None, path: str | Path) -> str:
    takes_actions = any(name.endswith("action_encoder.weight") for name in content["predictor"])
    keys = ENCODER_KEYS_OF_AC if takes_actions else ENCODER_KEYS
    there = [key for key in keys if isinstance(content.get(key), Mapping)]
    if not there:
        hint = "it holds probes: give it as --probe" if "classifiers" in content else (
            f"its keys are {', '.join(map(str, list(content)[:6]))}"
        )  # fmt: skip
        raise ValueError(f"{path} holds no encoder; {hint}")
    if wanted is not None and wanted not in there:
        raise ValueError(f"{path} holds no {wanted!r}; it has {', '.join(there)}")
    return wanted or there[0]


def _stripped(state: Mapping[str, Any], path: str | Path) -> State:
    """Removes the prefixes of wrappers, and makes halves float32, which is exact."""
    stripped: State = {}
    for official, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: {official} is a {type(value).__name__}, not a tensor")
        name = WRAPPERS.sub("", official)
        if name in stripped:
            raise ValueError(f"{path}: {name} is there twice, once as {official}")
        stripped[name] = value.float()
    return stripped


def _family_of(model: AnyModel) -> Family:
    config = model.encoder.config
    if not isinstance(model.encoder, VideoEncoder):
        raise ValueError(f"no official family has a {type(model.encoder).__name__}")
    if isinstance(model, LatentWorldModel):
        dynamics = model.dynamics
        if dynamics.place_embed is None and dynamics.state_proj is None and dynamics.state_embed:
            return "vjepa2_ac"
        raise ValueError(
            "V-JEPA 2-AC has no place embedding and does not learn the next state: this world "
            "model cannot be written in its format; save_pretrained keeps all of it"
        )
    by_positions: dict[Any, Family] = {
        "rope_tiled": "vjepa2",
        "sincos_3d": "vjepa1",
        "sincos_2d": "ijepa",
    }
    if config["positions"] == "rope_interleaved" and config["has_image_tokenizer"]:
        return "vjepa2_1"
    if config["positions"] not in by_positions or config["has_image_tokenizer"]:
        raise ValueError(
            f"no official family has positions={config['positions']} with has_image_tokenizer="
            f"{config['has_image_tokenizer']}; save_pretrained keeps all of it"
        )
    return by_positions[config["positions"]]


def _named(state: State, prefix: str) -> State:
    return {prefix + name: value.detach().cpu().clone() for name, value in state.items()}
