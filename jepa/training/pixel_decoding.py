"""Trains a pixel decoder on frozen latents, in a minute or two, and says how well it draws."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jepa.models.pixel_decoder import PixelDecoder

LEAST_MSE = 1e-10  # 100 dB: a perfect picture is not infinitely good


def fit_pixel_decoder(
    latents: Tensor,
    pictures: Tensor,
    *,
    grid: tuple[int, int],
    num_steps: int = 400,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> PixelDecoder:
    """Returns a decoder that draws pictures from latents, in evaluation mode.

    Args:
        latents: (rows, tokens, dim), frozen; where they are, the decoder is trained.
        pictures: (rows, 3, size, size), uint8, square.
        grid: (height, width) of the tokens.
        num_steps: of the optimizer.
        batch_size: rows a step, drawn with replacement.
        learning_rate: at most; it rises for a tenth of the steps and falls to 0.
        seed: of weights and draws.

    Raises:
        ValueError: if there is nothing to train on, or a number is out of range.
    """
    if len(latents) != len(pictures) or not len(latents):
        raise ValueError(
            f"there must be a picture for every latent, got {len(latents)} and {len(pictures)}"
        )
    if num_steps < 1 or batch_size < 1:
        raise ValueError(
            f"num_steps and batch_size must be at least 1, got {num_steps} and {batch_size}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = PixelDecoder(
            latent_dim=latents.shape[-1], grid=grid, image_size=pictures.shape[-1]
        ).to(latents.device)
    targets = pictures.to(latents.device).float() / 255
    decoder.fit_statistics(latents, targets)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=num_steps + 1, pct_start=0.1
    )
    for _ in range(num_steps):
        rows = torch.randint(len(latents), (batch_size,), generator=generator)
        loss = F.mse_loss(decoder(latents[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return decoder.eval().requires_grad_(False)


@torch.inference_mode()
def draw(decoder: PixelDecoder, latents: Tensor, *, batch_size: int = 64) -> Tensor:
    """Draws latents (rows, tokens, dim) in parts: (rows, 3, size, size), uint8."""
    parts = [decoder(part.to(decoder.mean.device)) for part in latents.split(batch_size)]
    return (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def psnr_decibels(drawn: Tensor, true: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of pictures (..., 3, height, width), uint8: (...).

    10 log10(255^2 / mean squared difference); more is better, at most about 148.

    Raises:
        ValueError: if the shapes differ.
    """
    if drawn.shape != true.shape:
        raise ValueError(f"pictures must be alike in shape, got {drawn.shape} and {true.shape}")
    mse = (drawn.float() - true.float()).square().mean((-3, -2, -1))
    return 10 * torch.log10(255**2 / mse.clamp_min(LEAST_MSE))
