"""What `planning.py` measures by: percentiles of times, and the most memory held at a time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Returns percentiles in milliseconds, and how many a second."""
    shares = {"ms_p50": 0.5, "ms_p95": 0.95, "ms_p99": 0.99}
    percentiles = {name: 1e3 * percentile(seconds, share) for name, share in shares.items()}
    return percentiles | {"hz": 1 / statistics.mean(seconds)}


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value that a share of all lies below, one of them."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Returns the most memory that tensors made by a run held at a time."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True) as profiler:
        run()
    kineto = profiler.profiler
    assert kineto is not None and kineto.kineto_results is not None
    changes: list[Any] = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most
