"""Sizes and config of an official checkpoint, read off the names and shapes of its weights."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from jepa.checkpoints.mask_tokens import choose_mask_token
from jepa.checkpoints.official_config import OfficialConfig
from jepa.checkpoints.official_families import FAMILY_NAMES, Family
from jepa.checkpoints.official_names import (
    encoder_to_ours,
    mask_tokens_of,
    num_blocks,
    official_name,
    predictor_to_ours,
)
from jepa.models.sizes import ENCODER_SIZES

POSITION_NAMES = {
    "rope_tiled": "rope-tiled",
    "rope_interleaved": "rope-interleaved",
    "sincos_3d": "sincos-3d",
    "sincos_2d": "sincos-2d",
}
State = dict[str, Tensor]


class OfficialReader:
    """Reads sizes, config and weights off one checkpoint.

    Args:
        path: names the checkpoint in errors.
        family: what it is.
        encoder: state by official names, without the prefixes of wrappers.
        predictor: likewise; empty if there is none.
        config: what cannot be read off them.

    Attributes:
        report: what was found and done, a line each.
        warnings: what was taken for granted, a line each.
    """

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
        self.warnings: list[str] = []
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

    def weights(self, expected: State) -> State:
        """Returns the weights by our names: all of them, and no other.

        Args:
            expected: the state of the model that `describe` describes; only shapes are looked at.

        Raises:
            ValueError: if one is missing, unexpected or of another shape; by official names.
        """
        part = "dynamics." if self.family == "vjepa2_ac" else "predictor."
        renamed = {f"encoder.{n}": pair for n, pair in encoder_to_ours(self.encoder).items()}
        if self.predictor:
            ours = predictor_to_ours(self.predictor)
            renamed |= {part + name: pair for name, pair in ours.items()}
        self._refuse_misfit(renamed, expected)
        return {name: value for name, (value, _) in renamed.items()}

    def _refuse_misfit(self, found: dict[str, tuple[Tensor, str]], expected: State) -> None:
        missing = sorted(map(official_name, expected.keys() - found.keys()))
        unexpected = sorted(found[name][1] for name in found.keys() - expected)
        whole = f"{self.path} is no whole {FAMILY_NAMES[self.family]} checkpoint"
        if missing or unexpected:
            raise ValueError(
                f"{whole}: {len(missing)} missing {missing[:3]}, {len(unexpected)} unexpected "
                f"{unexpected[:3]}"
            )
        for name, value in expected.items():
            given, official = found[name]
            if given.shape != value.shape:
                raise ValueError(
                    f"{whole}: {official} is {tuple(given.shape)}, not {tuple(value.shape)}"
                )

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
            "levels": self._levels(depth, num_levels),
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
        elif not masks.any():
            self.warnings.append("no mask token looks trained: predictions will not mean much")
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
            return self._clip_size_of_table(patch, tubelet, frames)
        if size is None or frames is None:
            size, frames = size or 16 * patch, frames or (64 if self.family == "vjepa2" else 16)
            self.warnings.append(
                f"taken to be made for {frames} frames of {size} px, as rotary weights do not say; "
                "other sizes work all the same (--config: img_size, num_frames)"
            )
        return frames, size

    def _clip_size_of_table(self, patch: int, tubelet: int, frames: int | None) -> tuple[int, int]:
        """Returns what a table of positions was made for, if its frames are square."""
        num_tokens, size = self._shape("pos_embed")[1], self.config.img_size
        if frames is None:
            frames = 16
            self.warnings.append(
                f"taken to be made for clips of {frames} frames; the table of {num_tokens} places "
                "does not say (--config: num_frames)"
            )
        time = max(frames // tubelet, 1)
        side = math.isqrt(num_tokens // time)
        if side * side * time != num_tokens or frames % tubelet:
            raise self._ask("num_frames", f"{num_tokens} places are no {frames}-frame square")
        if size is not None and size != side * patch:
            raise ValueError(
                f"the config says img_size={size}, but {self.path} has positions for "
                f"{side * patch} pixels and {frames} frames"
            )
        return frames, side * patch

    def _rope_grid(self, patch: int) -> int | None:
        """V-JEPA 2.1 was trained with places stretched to the grid of 256 (or 252) pixels."""
        return 256 // patch if self.family == "vjepa2_1" else None

    def _levels(self, depth: int, num_levels: int) -> list[int] | None:
        if self.family != "vjepa2_1":
            if self.config.levels is not None:
                raise ValueError(f"the config says levels, but {self.path} has one norm for all")
            return None
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
            "position": POSITION_NAMES[encoder["positions"]],
        }
        predictor = described.get("predictor") or described.get("world_model") or {}
        if predictor:
            readable["predictor_embed_dim"] = predictor["dim"]
            readable["predictor_depth"] = predictor["depth"]
            readable["num_mask_tokens"] = predictor.get("num_mask_tokens")
        return {name: value for name, value in readable.items() if value is not None}
