"""Chunks of imagined sequences: their size by hand, halves of it, and what is said of it."""

import logging

import pytest
import torch

from planning.rollout_memory import (
    CACHE_BYTES,
    CHUNK_BYTES,
    RolloutMemory,
    SampleBytes,
    free_bytes,
    is_full_memory,
)
from planning.types import Latent

CPU, GPU = torch.device("cpu"), torch.device("meta")  # anything that is no CPU
FULL = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"


def imagine(first, count):
    """Sequence i becomes the number i."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return Latent(numbers[:, None, None, None], numbers[:, None, None])


def chunk_size(memory, need, device, *, num_starts=1, num_samples=100):
    return memory.chunk_size(need, device, num_starts=num_starts, num_samples=num_samples)


def run(memory, *, num_starts=1, num_samples=10, size=10, imagine=imagine):
    sizes = []

    def counted(first, count):
        latent = imagine(first, count)
        sizes.append((first, count))
        return latent

    whole = memory.run(counted, num_starts=num_starts, num_samples=num_samples, size=size)
    return whole, sizes


# How many fit.


def test_a_chunk_is_what_the_budget_leaves_beside_all_results():
    need = SampleBytes(working=100, kept=50, result=10)
    memory = RolloutMemory(max_bytes=100 * 10 + 7 * 150 + 149)
    assert chunk_size(memory, need, GPU) == 7


def test_a_chunk_holds_at_least_one_and_at_most_all():
    need = SampleBytes(working=100, kept=50, result=10)
    assert chunk_size(RolloutMemory(max_bytes=1), need, GPU) == 1
    assert chunk_size(RolloutMemory(max_bytes=10**9), need, GPU) == 100


def test_on_a_cpu_a_chunk_stays_in_its_caches():
    need = SampleBytes(working=CACHE_BYTES // 5, kept=0, result=0)
    assert chunk_size(RolloutMemory(max_bytes=10**12), need, CPU) == 5
    keeps_much = need._replace(kept=CHUNK_BYTES // 2 - need.working)
    assert chunk_size(RolloutMemory(max_bytes=10**12), keeps_much, CPU) == 2


def test_a_limit_of_ones_own_is_kept():
    memory = RolloutMemory(10**9, max_samples_per_chunk=4)
    assert chunk_size(memory, SampleBytes(1, 1, 1), GPU) == 4


@pytest.mark.parametrize(
    ("most", "num_starts", "num_samples", "expected"),
    [
        (99, 1, 100, 50),  # two halves, not 99 and 1
        (30, 1, 100, 25),
        (8, 3, 4, 8),  # two starts, then one
        (15, 4, 4, 8),  # two and two, not three and one
        (3, 2, 4, 2),
    ],
)
def test_chunks_are_few_and_about_as_large(most, num_starts, num_samples, expected):
    memory = RolloutMemory(10**9, max_samples_per_chunk=most)
    sizes = {"num_starts": num_starts, "num_samples": num_samples}
    assert chunk_size(memory, SampleBytes(1, 1, 1), GPU, **sizes) == expected


def test_without_a_budget_some_of_the_free_memory_is_used():
    assert 0 < free_bytes(CPU) < 2**50
    need = SampleBytes(free_bytes(CPU) // 4, 0, 0)
    assert 1 <= chunk_size(RolloutMemory(), need, CPU) <= 8


@pytest.mark.parametrize("name", ["max_bytes", "max_samples_per_chunk"])
def test_a_limit_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        RolloutMemory(**{name: 0})


# In chunks.


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 12])
def test_chunks_come_in_order_and_hold_one_start_or_whole_ones(size):
    whole, sizes = run(RolloutMemory(), num_starts=3, num_samples=4, size=size)
    assert whole.tokens.flatten().tolist() == list(range(12))
    assert whole.state is not None
    assert whole.state.flatten().tolist() == list(range(12))
    for first, count in sizes:
        assert count <= size
        is_of_one = first // 4 == (first + count - 1) // 4
        assert is_of_one or (first % 4 == 0 and count % 4 == 0)


def test_gradients_go_through_chunks():
    factor = torch.tensor(2.0, requires_grad=True)

    def grown(first, count):
        return imagine(first, count).map(lambda x: x * factor)

    whole, _ = run(RolloutMemory(), size=3, imagine=grown)
    whole.tokens.sum().backward()
    assert factor.grad == sum(range(10))


# Too small.


def too_small_for(most):
    def imagine_few(first, count):
        if count > most:
            raise RuntimeError(FULL)
        return imagine(first, count)

    return imagine_few


def test_full_memory_halves_the_chunk_and_says_so_once(caplog):
    memory = RolloutMemory()
    with caplog.at_level(logging.WARNING):
        whole, sizes = run(memory, imagine=too_small_for(3))
    assert whole.tokens.flatten().tolist() == list(range(10))
    assert sizes == [(0, 2), (2, 2), (4, 2), (6, 2), (8, 2)]
    assert [record.message for record in caplog.records] == [
        "memory is too small for 10 imagined sequences at a time; going on with 5"
    ]
    assert chunk_size(memory, SampleBytes(1, 1, 1), GPU) == 2  # and is remembered


def test_no_memory_even_for_one_is_said_in_a_line():
    with pytest.raises(MemoryError, match="not enough memory to imagine a single sequence"):
        run(RolloutMemory(), imagine=too_small_for(0))


def test_other_errors_are_not_taken_for_full_memory():
    def broken(first, count):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(RolloutMemory(), imagine=broken)


def test_torchs_own_message_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_full_memory(caught.value)
    assert is_full_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_full_memory(MemoryError())
    assert not is_full_memory(RuntimeError("anything else"))
