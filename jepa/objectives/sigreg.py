"""Keeps the embeddings of a batch a standard Gaussian (SIGReg)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from jepa.objectives.base import LossTerms, Regularizer, refuse_negative_weights


class SIGReg(Regularizer):
    """Epps-Pulley test of random projections against N(0, 1) (LeJEPA, arXiv:2511.08544, Sec. 4).

    For each of many random directions: rows times the integral over frequencies t of
    |mean over rows of exp(i t x) - exp(-t^2 / 2)|^2 exp(-t^2 / 2), by the trapezoid rule on
    [-max_frequency, max_frequency], of which symmetry leaves half to be computed. Standard
    Gaussian samples cost 1.05 on average, however many they are (`value_of_a_gaussian`); collapsed
    ones cost 0.4 and more for every row.

    Directions are drawn anew at each step from (seed, step): a resumed run draws the same, and all
    ranks do if their devices are of one kind.

    Args:
        weight: in the loss, beside a prediction of weight 1; 0.09 in LeWM (arXiv:2603.19312), where
            all from 0.01 to 0.2 do.
        num_projections: directions a step.
        num_knots: frequencies in [0, max_frequency].
        max_frequency: where the integral ends.
        seed: of the directions.
    """

    def __init__(
        self,
        *,
        weight: float = 0.09,
        num_projections: int = 1024,
        num_knots: int = 17,
        max_frequency: float = 3.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        refuse_negative_weights(weight)
        if num_projections < 1 or num_knots < 2 or not 0 < max_frequency < float("inf"):
            raise ValueError(
                "num_projections must be at least 1, num_knots at least 2 and max_frequency "
                f"positive, got {num_projections}, {num_knots} and {max_frequency}"
            )
        self.weight, self.num_projections, self.seed = weight, num_projections, seed
        self.num_knots, self.max_frequency = num_knots, max_frequency

    def terms(self, embeddings: Tensor, *, step: int) -> LossTerms:
        """See `Regularizer.forward`."""
        projected = embeddings @ self.directions(embeddings, step=step)  # (..., rows, projections)
        rows = self.num_joined_rows(embeddings)
        gaussian, weights = self._knots(projected)
        sums = _WaveSums.apply(projected, self._spacing, self.num_knots)
        cosine, sine = (self.joined(sums) / rows).movedim(1, -1)  # pyright: ignore
        errors = (cosine - gaussian).square() + sine.square()  # (..., projections, knots)
        loss = rows * (errors @ weights).mean()
        return LossTerms(self.weight * loss, {"sigreg": loss})

    def directions(self, embeddings: Tensor, *, step: int) -> Tensor:
        """Returns unit vectors (dim, projections) that are a function of (seed, step) alone."""
        generator = Generator(device=embeddings.device)
        generator.manual_seed((self.seed * 1_000_003 + step) % 2**63)
        shape = (embeddings.shape[-1], self.num_projections)
        # float32 always, so that the numbers do not depend on the precision of the embeddings
        drawn = torch.randn(shape, generator=generator, device=embeddings.device)
        return (drawn / drawn.norm(dim=0)).to(embeddings.dtype)

    def value_of_a_gaussian(self) -> float:
        """Returns what standard Gaussian samples cost on average, before the weight."""
        gaussian, weights = self._knots(torch.empty(0, dtype=torch.float64))
        return (weights * (1 - gaussian.square())).sum().item()

    @property
    def _spacing(self) -> float:
        return self.max_frequency / (self.num_knots - 1)

    def _knots(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The Gaussian at each frequency, which is the window too, and their weights: (knots,).

        Not buffers, which a model in bfloat16 would round.
        """
        knots = torch.arange(self.num_knots, dtype=like.dtype, device=like.device)
        gaussian = torch.exp(-(knots * self._spacing).square() / 2)
        weights = torch.full_like(gaussian, 2 * self._spacing)  # 2: of t and of -t
        weights[0], weights[-1] = self._spacing, self._spacing
        return gaussian, weights * gaussian


class _WaveSums(torch.autograd.Function):
    """Sums over rows of cos(t x) and sin(t x), for t = 0, spacing, 2 spacing, ...

    Frequencies are multiples of one, so exp(i t x) are powers of one number for each x: there is
    one sine and one cosine to compute, not one for each frequency. And neither direction keeps
    more than one power at a time.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, spacing: float, num_knots: int) -> Tensor:  # noqa: ANN401
        """Of projected (..., rows, projections): sums (2, knots, ..., projections)."""
        unit = torch.polar(torch.ones_like(projected), spacing * projected)  # exp(i spacing x)
        ctx.save_for_backward(unit)
        ctx.spacing = spacing
        power, sums = torch.ones_like(unit), []
        for _ in range(num_knots):
            sums.append(power.sum(-2))
            power = power * unit
        return torch.view_as_real(torch.stack(sums)).movedim(-1, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        """By Horner's rule: the slope is a polynomial in exp(-i spacing x)."""
        (unit,) = ctx.saved_tensors
        turned_back = unit.conj().resolve_conj()
        towards = torch.complex(*gradients[0])  # (knots, ..., projections)
        result = torch.zeros_like(unit)
        for knot in range(len(towards) - 1, 0, -1):
            result = (result + knot * ctx.spacing * towards[knot].unsqueeze(-2)) * turned_back
        return result.imag.contiguous(), None, None
