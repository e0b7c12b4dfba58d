"""How many imagined sequences fit in memory at once, and what happens if fewer do."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from planning.types import Latent

logger = logging.getLogger(__name__)

# On a CPU, of what a chunk works on: the layers of a network then hand on what is still in a cache.
# Larger chunks are hardly faster and hold more, smaller ones have more calls.
CACHE_BYTES = 24 * 2**20
CHUNK_BYTES = 28 * 2**20  # and of that with what it keeps
SHARE_OF_FREE_MEMORY = 0.5
UNKNOWN_FREE_BYTES = 2 * 2**30
FEW_BYTES = 2**28  # that are there in any case: asking what is free takes longer than some rollouts
MESSAGES_OF_FULL_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


class SampleBytes(NamedTuple):
    """What one imagined sequence needs.

    Attributes:
        working: what the network works on while it computes a step.
        kept: what is kept until the sequence ends: keys and values of all steps but the last.
        result: its latents, which stay.
    """

    working: int
    kept: int
    result: int

    def of(self, total: int, at_a_time: int) -> int:
        """Returns what `total` sequences need, so many of them at a time."""
        return total * self.result + at_a_time * (self.working + self.kept)


@dataclass
class RolloutMemory:
    """Cuts many sequences into chunks that fit, and learns when fewer fit than was thought.

    Args:
        max_bytes: that all sequences may need together; None: half of what is free.
        max_samples_per_chunk: at most so many at a time, whatever fits.

    Attributes:
        limit: sequences at a time that memory was once too small for, halved; None: never.
    """

    max_bytes: int | None = None
    max_samples_per_chunk: int | None = None
    limit: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_samples_per_chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def chunk_size(
        self, need: SampleBytes, device: torch.device, *, num_starts: int, num_samples: int
    ) -> int:
        """Returns how many sequences to imagine at a time, at least 1.

        As few chunks as fit, all of about one size: whole starts, or parts of one.

        Args:
            need: of each sequence.
            device: where they are imagined.
            num_starts: starts.
            num_samples: sequences of each.
        """
        most = self._most(need, num_starts * num_samples, device)
        if most >= num_samples:
            return num_samples * _even(most // num_samples, num_starts)
        return _even(most, num_samples)

    def _most(self, need: SampleBytes, total: int, device: torch.device) -> int:
        """Returns how many of `total` sequences may be imagined at a time, at least 1."""
        sizes = [total]
        if device.type == "cpu":
            sizes += [CACHE_BYTES // need.working, CHUNK_BYTES // (need.working + need.kept)]
        sizes += [size for size in (self.max_samples_per_chunk, self.limit) if size is not None]
        size = max(min(sizes), 1)
        if self.max_bytes is None and need.of(total, size) <= FEW_BYTES:
            return size
        budget = free_bytes(device) if self.max_bytes is None else self.max_bytes
        left = budget - total * need.result
        return max(min(size, left // (need.working + need.kept)), 1)

    def run(
        self, imagine: Callable[[int, int], Latent], *, num_starts: int, num_samples: int, size: int
    ) -> Latent:
        """Imagines all sequences of all starts; a chunk has one start, or whole ones.

        Args:
            imagine: given the first sequence and how many, returns their latents.
            num_starts: starts.
            num_samples: sequences of each; sequence i belongs to start i // num_samples.
            size: sequences at a time, halved whenever memory is too small.

        Returns:
            Latents of all sequences, in order.

        Raises:
            MemoryError: if there is not even memory for one.
        """
        total, done = num_starts * num_samples, 0
        result = _Result(total)
        while done < total:
            count = _count(done, size, num_samples=num_samples, total=total)
            try:
                result.add(imagine(done, count))
            except (RuntimeError, MemoryError) as error:
                if not is_full_memory(error):
                    raise
                size = self._halve(count, error)
                continue
            done += count
        return result.latent()

    def _halve(self, count: int, error: Exception) -> int:
        if count == 1:
            raise MemoryError(
                "there is not enough memory to imagine a single sequence; shorten the horizon, "
                "take a smaller model, or free memory"
            ) from error
        if self.limit is None:  # said once
            logger.warning(
                "memory is too small for %d imagined sequences at a time; going on with %d",
                count,
                count // 2,
            )
        self.limit = count // 2
        return self.limit


def is_full_memory(error: Exception) -> bool:
    """True if this is torch's or Python's way of saying that memory is full."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in MESSAGES_OF_FULL_MEMORY)


def free_bytes(device: torch.device) -> int:
    """Returns the part of the free memory of a device that rollouts may use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE_OF_FREE_MEMORY * (free + unused))
    return int(SHARE_OF_FREE_MEMORY * _available_host_bytes())


def _available_host_bytes() -> int:
    """Returns what the system can give without swapping; Linux says, of others free pages count."""
    table = Path("/proc/meminfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN_FREE_BYTES


def _even(most: int, total: int) -> int:
    """Returns the size, at most `most`, of as few chunks as possible of about one size."""
    num_chunks = -(-total // most)
    return -(-total // num_chunks)


def _count(done: int, size: int, *, num_samples: int, total: int) -> int:
    """Returns how many sequences come next: whole starts, or a part of one."""
    within = done % num_samples
    if not within and size >= num_samples:
        return min(size // num_samples * num_samples, total - done)
    return min(size, num_samples - within)


class _Result:
    """Latents of chunks, joined; without gradient into one place: memory holds them once."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._parts: list[Latent] = []
        self._done = 0
        self._whole: Latent | None = None

    def add(self, part: Latent) -> None:
        """Appends a chunk."""
        count = len(part.tokens)
        if count == self._total or part.tokens.requires_grad:
            self._parts.append(part)
            return
        if self._whole is None:
            self._whole = part.map(lambda x: x.new_empty(self._total, *x.shape[1:]))
        for place, value in zip(self._whole, part, strict=True):
            if isinstance(place, Tensor) and isinstance(value, Tensor):
                place[self._done : self._done + count] = value
        self._done += count

    def latent(self) -> Latent:
        """Returns all chunks in one."""
        if self._whole is not None:
            return self._whole
        if len(self._parts) == 1:
            return self._parts[0]
        columns = zip(*self._parts, strict=True)
        return Latent(*(None if column[0] is None else torch.cat(column) for column in columns))  # pyright: ignore
