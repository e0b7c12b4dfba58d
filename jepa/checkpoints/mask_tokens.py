"""Which mask token of a released predictor to ask with: the files hold several, not all trained."""

from __future__ import annotations

from torch import Tensor

TRAINED_FRACTION = 1e-6


def choose_mask_token(mask_tokens: Tensor) -> tuple[int, list[str]]:
    """Chooses a mask token by how far training has moved each from zero, where all of them start.

    Only tokens that the training code used have gradients, and weight decay leaves zeros at zero.
    V-JEPA 2 and 2.1 take the token of the group of clips with one number of frames
    (facebookresearch/vjepa2, src/utils/wrappers.py), so of ten only the first is trained where
    there is one group; V-JEPA trains one for each of its masks. Released inference code asks with
    token 1 by default, trained or not.

    Args:
        mask_tokens: (mask tokens, dim).

    Returns:
        The index: 0 if that token is trained, else the trained one with the largest norm, 0 if none
        is; and lines for the user, with all norms. A token counts as trained if its norm is not
        zero and more than a millionth of the largest.

    Raises:
        ValueError: if the layout is another one, or there is no token.
    """
    if mask_tokens.ndim != 2 or not len(mask_tokens):
        raise ValueError(f"mask_tokens must be (mask tokens, dim), got {tuple(mask_tokens.shape)}")
    norms = mask_tokens.detach().double().norm(dim=1).tolist()
    trained = [i for i, norm in enumerate(norms) if norm > TRAINED_FRACTION * max(norms)]
    index = 0 if 0 in trained or not trained else max(trained, key=lambda i: norms[i])
    written = " ".join(f"{norm:.3g}" for norm in norms)
    if not trained:
        found = f"none of {len(norms)} looks trained, predictions will not mean much"
    else:
        which = ", ".join(map(str, trained))
        found = f"{len(trained)} of {len(norms)} look trained ({which})"
    return index, [f"mask tokens: {found}; using {index}. Norms: {written}"]
