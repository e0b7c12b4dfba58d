import argparse

import numpy as np
import pytest
import torch

from planning.verbs.number_options import MAX_SEED, at_most, seed


def test_seeds_are_what_torch_and_numpy_take_with_the_index_of_a_task_added():
    """Seen to fail with MAX_SEED = 2**64: torch's "Overflow when unpacking long long"."""
    largest = seed(str(MAX_SEED)) + 10_000
    assert torch.Generator().manual_seed(largest).initial_seed() == largest
    assert np.random.default_rng(largest).random() < 1


@pytest.mark.parametrize("text", ["-1", str(MAX_SEED + 1), "1" * 25, "1" * 5000, "x", "1.5", ""])
def test_what_is_no_seed_is_refused_in_a_short_line(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be .*, got ") as caught:
        seed(text)
    assert len(str(caught.value)) < 120


def test_a_number_above_the_limit_is_refused_and_one_below_zero_is_for_others_to_judge():
    assert [at_most(10)(text) for text in ("10", "-3")] == [10, -3]
    with pytest.raises(argparse.ArgumentTypeError, match="must be at most 10, got '11'"):
        at_most(10)("11")
