"""The families of official checkpoints, and which one a checkpoint is."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast, get_args

from torch import Tensor

from jepa.checkpoints.official_names import num_mask_tokens

Family = Literal["vjepa1", "vjepa2", "vjepa2_1", "vjepa2_ac", "ijepa"]
FAMILY_NAMES = {
    "vjepa1": "V-JEPA 1",
    "vjepa2": "V-JEPA 2",
    "vjepa2_1": "V-JEPA 2.1",
    "vjepa2_ac": "V-JEPA 2-AC",
    "ijepa": "I-JEPA",
}
State = dict[str, Tensor]


class Detection(NamedTuple):
    """What a checkpoint is.

    Attributes:
        family: of the five.
        reason: why, for the user.
        is_certain: False if names and shapes fit another family too.
    """

    family: Family
    reason: str
    is_certain: bool = True


def detect_family(encoder: State, predictor: State, *, wanted: str | None, path: str) -> Detection:
    """Finds out the family.

    Args:
        encoder: state by official names, without the prefixes of wrappers.
        predictor: likewise; empty if there is none.
        wanted: the family that the user says it is; None: found out.
        path: names the checkpoint in errors.

    Raises:
        ValueError: if it is of no known family, or not of the one that is wanted, or if one of two
            has to be said.
    """
    if wanted is not None and wanted not in get_args(Family):
        raise ValueError(f"family must be one of {', '.join(get_args(Family))}; got {wanted!r}")
    kernel = encoder.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim not in (4, 5):
        raise ValueError(f"{path} holds no encoder of a known family: no patch_embed.proj.weight")
    found = _signature(encoder, predictor, kernel)
    if found is None:
        return _as_the_user_says(wanted, path)
    if wanted is None or wanted == found.family:
        return found._replace(is_certain=found.is_certain or wanted is not None)
    if {wanted, found.family} == {"vjepa1", "vjepa2"} and "pos_embed" in encoder:
        return _as_the_user_says(wanted, path)
    raise ValueError(
        f"{path} is a {FAMILY_NAMES[found.family]} checkpoint ({found.reason}), not "
        f"{FAMILY_NAMES[wanted]}: loaded as such it would give wrong numbers; use --family "
        f"{found.family} or leave it out"
    )


def _signature(encoder: State, predictor: State, kernel: Tensor) -> Detection | None:
    """Returns what names and shapes say; None if they fit V-JEPA 1 as well as 2."""
    if "action_encoder.weight" in predictor:
        return Detection("vjepa2_ac", "its predictor takes actions")
    if "norms_block.0.weight" in encoder:
        return Detection("vjepa2_1", "its levels have norms of their own")
    if kernel.ndim == 4:
        return Detection("ijepa", "its patches are images")
    if "pos_embed" not in encoder:
        return Detection("vjepa2", "it has no position table")
    masks = num_mask_tokens(predictor)
    if masks > 2:
        return Detection("vjepa2", f"{masks} mask tokens; its position table is a dead one")
    if masks:
        reason = f"a position table and {masks} mask tokens"
        return Detection("vjepa1", reason, is_certain=False)
    return None


def _as_the_user_says(wanted: str | None, path: str) -> Detection:
    if wanted not in ("vjepa1", "vjepa2"):
        raise ValueError(
            f"{path} may be V-JEPA 1 or 2: it has a position table, which V-JEPA 2 never reads, "
            "and no predictor that tells; say to jepa convert --family vjepa1 or --family vjepa2"
        )
    return Detection(cast(Family, wanted), "as you say; names and shapes fit V-JEPA 1 and 2")
