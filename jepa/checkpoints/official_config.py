"""What an official checkpoint does not say about itself, from a config.json beside it.

The keys are those of official configs. What the weights say too is checked against them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OfficialConfig:
    """Settings of an official checkpoint; None where it is silent.

    Attributes:
        num_heads: attention heads of the encoder.
        predictor_num_heads: attention heads of the predictor.
        img_size: height and width that the model was made for, in pixels.
        num_frames: frames of a clip that it was made for.
        levels: blocks whose outputs have a norm of their own, from 0.
        mask_index: the mask token to use.
        family, patch_size, tubelet_size, embed_dim, depth, mlp_ratio, position,
            predictor_embed_dim, predictor_depth, num_mask_tokens: only checked against the weights.
        ignored: names of other keys that the file had.
    """

    num_heads: int | None = None
    predictor_num_heads: int | None = None
    img_size: int | None = None
    num_frames: int | None = None
    levels: Sequence[int] | None = None
    mask_index: int | None = None
    family: str | None = None
    patch_size: int | None = None
    tubelet_size: int | None = None
    embed_dim: int | None = None
    depth: int | None = None
    mlp_ratio: float | None = None
    position: str | None = None
    predictor_embed_dim: int | None = None
    predictor_depth: int | None = None
    num_mask_tokens: int | None = None
    ignored: tuple[str, ...] = field(default=())

    @classmethod
    def read(cls, path: str | Path) -> OfficialConfig:
        """Reads a config.json.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is no JSON object, a value has a wrong kind, or a key looks misspelt.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no config file {path}")
        try:
            content = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold an object, got {content!r}")
        known = [f.name for f in fields(cls) if f.name != "ignored"]
        others = tuple(name for name in content if name not in known)
        for name in others:
            if close := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
                raise ValueError(f"{path} has no use for {name!r}; did you mean {close[0]!r}?")
        values = {name: content[name] for name in known if name in content}
        _refuse_wrong_kinds(path, values)
        return cls(**values, ignored=others)

    def refuse_contradictions(self, readable: dict[str, Any]) -> None:
        """Raises if the weights say something else.

        Args:
            readable: what the weights say, by the names of this class.

        Raises:
            ValueError: naming the first setting that differs.
        """
        for name, found in readable.items():
            said = getattr(self, name)
            same = str(said).startswith(found) if name == "position" else said == found
            if said is not None and not same:
                raise ValueError(f"the config says {name}={said!r}, but the weights say {found!r}")


def _refuse_wrong_kinds(path: Path, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name in ("family", "position"):
            right, kind = isinstance(value, str), "a string"
        elif name == "levels":
            right = isinstance(value, list) and all(type(level) is int for level in value)
            kind = "a list of whole numbers"
        elif name == "mlp_ratio":
            right, kind = isinstance(value, (int, float)) and value > 0, "a positive number"
        else:
            right, kind = (
                type(value) is int and value >= (name != "mask_index") * 1,
                "a whole number",
            )
        if not right:
            raise ValueError(f"{path}: {name} must be {kind}, got {value!r}")
