"""A loss that is not a number must not reach the weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def refuse_non_finite(loss: Tensor, *, step: int, keys: Sequence[str]) -> None:
    """Raises before the update if a loss is NaN or infinite.

    Args:
        loss: a scalar.
        step: optimizer step, for the message.
        keys: samples of the batch, for the message.

    Raises:
        ValueError: naming the step and the first samples; the weights are still those before.
    """
    if loss.isfinite():
        return
    shown = ", ".join(keys[:4])
    raise ValueError(
        f"the loss is {loss.item()} at step {step} (samples {shown}, ...); the last checkpoint is "
        "from before: lower the learning rate, or look at these samples"
    )
