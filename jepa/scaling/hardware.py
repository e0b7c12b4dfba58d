"""What hardware can do at most: data sheets, and a measurement."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

MEASURING_SECONDS = 0.1
SIDE = {"cuda": 8192, "mps": 4096, "cpu": 1024}  # large enough to reach the rate, small enough


class Hardware(NamedTuple):
    """One accelerator, by its data sheet: dense matrix products, without sparsity.

    Attributes:
        bf16_teraflops: 10^12 operations per second in bfloat16 (float16 where there is none).
        fp32_teraflops: the same in float32; with TF32 where torch is allowed to use it.
        memory_gigabytes: 10^9 bytes.
    """

    bf16_teraflops: float
    fp32_teraflops: float
    memory_gigabytes: float


HARDWARE = {
    "b200": Hardware(2250, 75, 180),
    "h200": Hardware(989, 67, 141),
    "h100": Hardware(989, 67, 80),
    "a100-80": Hardware(312, 19.5, 80),
    "a100-40": Hardware(312, 19.5, 40),
    "l40s": Hardware(362, 91.6, 48),
    "a10": Hardware(125, 31.2, 24),
    "rtx-5090": Hardware(210, 105, 32),
    "rtx-4090": Hardware(165, 82.6, 24),
    "rtx-3090": Hardware(71, 35.6, 24),
    "v100": Hardware(125, 15.7, 32),
    "t4": Hardware(65, 8.1, 16),
}


def hardware_named(name: str) -> Hardware:
    """Returns the hardware of a name.

    Raises:
        ValueError: if the table does not have it.
    """
    if name not in HARDWARE:
        known = ", ".join(HARDWARE)
        raise ValueError(f"no hardware {name!r} in the table; there are {known}, and 'here'")
    return HARDWARE[name]


def measured_matmul_rate(
    device: torch.device, dtype: torch.dtype, *, seconds: float = MEASURING_SECONDS
) -> float:
    """Returns the operations per second of a large matrix product: the best of many.

    Args:
        device: where.
        dtype: of the factors.
        seconds: how long to measure, after one product to warm up.
    """
    side = SIDE.get(device.type, 1024)
    factor = torch.ones(side, side, device=device, dtype=dtype)
    product = factor @ factor
    best, ends_at = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < ends_at or best == float("inf"):
        _wait_for(device)
        began = time.perf_counter()
        torch.mm(factor, factor, out=product)
        _wait_for(device)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
