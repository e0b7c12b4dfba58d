"""Training that is killed without warning, in processes of its own: resumed, it was not killed.

Every step on every rank is compared bit for bit: keys and moments of its clips, loss, target
encoder and all weights; and at the end everything that the last checkpoint holds.
"""

import os
import random
import signal

import pytest

from tests.reliability.fit_processes import (
    Starter,
    Training,
    assert_equal,
    write_what_is_trained_on,
)

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and POSIX signals")
STEPS_PER_KILL = 8  # more than are done before one


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    made = Starter(write_what_is_trained_on(tmp_path_factory.mktemp("killed")))
    yield made
    made.close()


@pytest.fixture
def two_trainings(starter):
    """Makes the one that is left alone, and the one that is not."""
    made = []

    def make(num_ranks, num_kills):
        steps = STEPS_PER_KILL * (num_kills + 1)
        for name in (f"whole{num_ranks}-{num_kills}", f"cut{num_ranks}-{num_kills}"):
            made.append(Training(starter, name, num_steps=steps, num_ranks=num_ranks))
        return made

    yield make
    for training in made:
        training.close()


def random_kills(training, *, number, seed):
    """Kills at random moments: while it starts, in a step, while a checkpoint is written."""
    rng = random.Random(seed)
    for num_killed in range(number):
        is_early = number > 1 and rng.random() < 0.15  # a single one comes after a checkpoint
        training.start(num_workers=num_killed % 3)
        training.run_on(
            0 if is_early else rng.randint(1, STEPS_PER_KILL - 2),
            rng.uniform(0, 3) if is_early else rng.uniform(0, 0.1),
        )
        everyone = range(training.num_ranks)
        victims = everyone if training.num_ranks == 1 else ((0, 1), (0,), (1,))[num_killed % 3]
        training.send(signal.SIGKILL, *victims)
        codes = training.codes()
        assert all(codes[rank] == -signal.SIGKILL for rank in victims), training.said()
        assert 0 not in codes  # one that was left alone has not gone on alone


@pytest.mark.parametrize(
    ("num_ranks", "number"),
    [(1, 1), pytest.param(1, 20, marks=LONG), pytest.param(2, 6, marks=LONG)],
)
def test_a_training_killed_at_random_moments_ends_as_one_that_was_not(
    two_trainings, num_ranks, number
):
    """Seen to fail with the target updated after the checkpoint: another loss in the next step."""
    whole, cut = two_trainings(num_ranks, number)
    whole.finish()
    random_kills(cut, number=number, seed=number)
    cut.finish(num_workers=2)
    assert cut.num_lines() >= whole.num_lines()  # some were done again
    assert_equal(whole, cut)
