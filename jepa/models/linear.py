"""Linear layers, and the two that make an MLP: the same maths, multiplied by whom is fastest.

`Linear` is `nn.Linear` in all but speed. In eager mode on a CPU it asks oneDNN where torch would
ask a slower library (see `jepa.models.eager_cpu`), in float32, and under autocast casts its weight
itself; everywhere else it is nn.Linear.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from jepa.models.eager_cpu import (
    compute_dtype,
    multiplies_bfloat16,
    onednn_is_faster_in_float32,
    runs_on_eager_cpu,
)

LEAST_WORK = 2_000_000  # multiplications below which the call costs more than it saves


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns x (..., in) @ weight (out, in).T + bias: (..., out)."""
    dtype = _fast_dtype(x, weight)
    if dtype is None:
        return F.linear(x, weight, bias)
    if _needs_gradient(x, weight, bias):
        return _Linear.apply(x, weight, bias, dtype)
    return _multiply(x.to(dtype), weight.to(dtype), _cast(bias, dtype))


class Linear(nn.Linear):
    """nn.Linear."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        return linear(input, self.weight, self.bias)


class MLP(nn.Sequential):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(Linear(dim, hidden), nn.GELU(), Linear(hidden, dim))

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., dim) to (..., dim)."""
        first, gelu, second = self
        if not isinstance(first, Linear) or not isinstance(second, Linear):
            return super().forward(input)  # somebody has put in layers of their own
        dtype = _fast_dtype(input, first.weight)
        if dtype is None or type(gelu) is not nn.GELU or gelu.approximate != "none":
            return super().forward(input)
        weights = (first.weight, first.bias, second.weight, second.bias)
        if _needs_gradient(input, *weights):
            return _MLP.apply(input, *weights, dtype)
        bias = _cast(first.bias, dtype)
        hidden = _multiply(input.to(dtype), first.weight.to(dtype), bias, activation="gelu")
        return _multiply(hidden, second.weight.to(dtype), _cast(second.bias, dtype))


class _Linear(torch.autograd.Function):
    """input @ weight.T + bias in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        x, cast = input.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, cast)
        ctx.types = input.dtype, weight.dtype
        return _multiply(x, cast, _cast(bias, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, _ = ctx.needs_input_grad
        from_input = _times(gradient, weight).to(ctx.types[0]) if needs_input else None
        from_weight, from_bias = _weight_gradients(gradient, x, needs_weight, needs_bias)
        return (
            from_input,
            _cast(from_weight, ctx.types[1]),
            _cast(from_bias, ctx.types[1]),
            None,
        )


class _MLP(torch.autograd.Function):
    """gelu(input @ w1.T + b1) @ w2.T + b2 in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        input: Tensor,
        w1: Tensor,
        b1: Tensor | None,
        w2: Tensor,
        b2: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        x, first, second = input.to(dtype), w1.to(dtype), w2.to(dtype)
        before = _multiply(x, first, _cast(b1, dtype))
        after = F.gelu(before)
        ctx.save_for_backward(x, first, second, before, after)
        ctx.types = input.dtype, w1.dtype
        return _multiply(after, second, _cast(b2, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ANN401
        x, first, second, before, after = ctx.saved_tensors
        needs = ctx.needs_input_grad
        of_second = _weight_gradients(gradient, after, needs[3], needs[4])
        hidden = torch.ops.aten.gelu_backward(_times(gradient, second), before)
        of_first = _weight_gradients(hidden, x, needs[1], needs[2])
        from_input = _times(hidden, first).to(ctx.types[0]) if needs[0] else None
        casts = [_cast(value, ctx.types[1]) for value in (*of_first, *of_second)]
        return from_input, *casts, None


def _fast_dtype(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """Returns the type to multiply in, or None where torch is to do it."""
    if not runs_on_eager_cpu(x, weight) or not x.numel():
        return None
    dtype = compute_dtype(x)
    if dtype == torch.bfloat16:
        is_cast = torch.is_autocast_enabled("cpu") or weight.dtype == dtype
        return dtype if is_cast and multiplies_bfloat16() else None
    is_float32 = x.dtype == weight.dtype == dtype == torch.float32
    is_large = x.numel() * weight.shape[0] >= LEAST_WORK
    return dtype if is_float32 and is_large and onednn_is_faster_in_float32() else None


def _needs_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _cast(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if value is None else value.to(dtype)


def _multiply(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, activation: str = "none"
) -> Tensor:
    """Returns activation(x @ weight.T + bias), by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")


def _times(gradient: Tensor, weight: Tensor) -> Tensor:
    """Returns gradient (..., out) @ weight (out, in)."""
    if gradient.dtype == torch.float32:
        return _multiply(gradient, weight.T, None)
    return (gradient.flatten(0, -2) @ weight).view(*gradient.shape[:-1], -1)


def _weight_gradients(
    gradient: Tensor, x: Tensor, needs_weight: bool, needs_bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Returns the gradients of weight (out, in) and bias (out,)."""
    rows, x = gradient.flatten(0, -2), x.flatten(0, -2)
    from_weight, from_bias = None, None
    if needs_weight:
        is_float32 = rows.dtype == torch.float32
        from_weight = _multiply(rows.T, x.T, None) if is_float32 else rows.T @ x
    if needs_bias:
        from_bias = rows.sum(0)
    return from_weight, from_bias
