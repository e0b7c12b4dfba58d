"""Noise whose power falls with frequency: neighbouring steps agree, so that actions add up."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def coloured_noise(
    num_samples: int, num_steps: int, dim: int, *, exponent: float, generator: Generator
) -> Tensor:
    """Draws Gaussian noise of power 1 / frequency**exponent, standard deviation 1 at every step.

    The power of each frequency is fixed, not that of each sample: a sample may be slow throughout,
    and its mean over the steps is kept. The spectrum is that of twice as many steps, of which the
    first half is kept, so that the last step need not agree with the first. The constant part has
    the power of the lowest frequency.

    Args:
        num_samples: sequences.
        num_steps: steps of a sequence.
        dim: independent values of a step.
        exponent: 0 is white noise; 2 is nearly a random walk.
        generator: randomness.

    Returns:
        (samples, steps, dim), on the generator's device.
    """
    power = spectral_power(num_steps, exponent).to(generator.device)  # (frequencies,)
    shape = (2, num_samples, dim, num_steps + 1)
    real, imaginary = torch.randn(shape, generator=generator, device=generator.device)
    inner = torch.complex(real, imaginary) * 0.5**0.5  # of unit variance
    ends = torch.zeros(num_steps + 1, dtype=torch.bool, device=power.device)
    ends[0] = ends[-1] = True  # the constant and the alternating part are real
    spectrum = torch.where(ends, torch.complex(real, torch.zeros_like(real)), inner)
    noise = torch.fft.irfft(spectrum * power.sqrt(), n=2 * num_steps, norm="forward")
    return noise[..., :num_steps].transpose(-1, -2)


def spectral_power(num_steps: int, exponent: float) -> Tensor:
    """Returns the power (num_steps + 1,) of each frequency of 2 num_steps steps.

    The powers of all, with those between the first and the last counted twice, add up to 1.
    """
    power = torch.arange(num_steps + 1).clamp(min=1).float() ** -exponent
    return power / (power[0] + 2 * power[1:-1].sum() + power[-1])
