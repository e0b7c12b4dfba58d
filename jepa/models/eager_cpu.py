"""Where hand-written kernels may stand in for torch's: in eager mode, on a CPU.

Anything that looks at operations instead of running them (torch.compile, export, tracing, counters
of FLOPs, functional transforms) gets torch's own, which it knows.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack  # pyright: ignore[reportMissingImports]
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

PLAIN_TYPES = (Tensor, nn.Parameter)


def is_watched() -> bool:
    """True if operations are looked at, and not only run: what they make may be no plain tensor."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return True
    return bool(_get_current_dispatch_mode_stack() or peek_interpreter_stack())


def runs_on_eager_cpu(*tensors: Tensor) -> bool:
    """True if these are plain tensors on a CPU and nobody watches the operations."""
    if is_watched():
        return False
    return all(type(t) in PLAIN_TYPES and t.device.type == "cpu" for t in tensors)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Returns the type that torch would multiply x in: that of autocast, if it is on."""
    if torch.is_autocast_enabled("cpu") and x.is_floating_point():
        return torch.get_autocast_dtype("cpu")
    return x.dtype


@functools.cache
def onednn_is_faster_in_float32() -> bool:
    """True where torch multiplies float32 with MKL, and MKL leaves half of the machine unused.

    On AMD's processors MKL does without AVX-512. oneDNN, which torch brings for other things, does
    not ask who made the processor: on Zen 5 it multiplies at twice the rate, to the same precision.
    """
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _is_made_by_amd()
    )


@functools.cache
def multiplies_bfloat16() -> bool:
    """True where oneDNN multiplies bfloat16 at all."""
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and check is not None and bool(check())


def _is_made_by_amd() -> bool:
    description = Path("/proc/cpuinfo")
    return description.is_file() and "AuthenticAMD" in description.read_text()
