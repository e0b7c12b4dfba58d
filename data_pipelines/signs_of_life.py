"""Signs of life: how the main process tells a reading process that is slow from one that hangs.

A worker of a data loader counts up at each sample, and at each attempt to fetch 16 MiB, in memory
that both processes share. A batch may then take as long as it must (many samples, whole shards to
fetch from a slow store), and yet a worker that got stuck in a library is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SILENCE_SECONDS = 120.0  # what shows no life for so long hangs; nothing here waits longer for one

_counters: list[Tensor] = []  # of this process; none where nobody listens


def show_life() -> None:
    """Tells the main process, if it listens, that this process gets on with its work."""
    for counter in _counters:
        counter += 1


def show_life_in(counter: Tensor, worker_id: int) -> None:
    """Makes this process count in shared memory; a `worker_init_fn`, with the counter given."""
    _counters[:] = [counter]
