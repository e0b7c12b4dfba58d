import itertools
import time

import numpy as np
import pytest

from jepa.evaluation.world_model_card.responsiveness import Latency, measure_responsiveness


def ticking(*durations):
    """A clock by which work takes these seconds, again and again."""
    times = itertools.chain.from_iterable((0.0, d) for d in itertools.cycle(durations))
    return lambda: next(times)


def test_latencies_are_what_the_clock_says(toys):
    found = measure_responsiveness(
        toys.world(), toys.windows(), repeats=4, clock=ticking(0.01, 0.02, 0.03, 0.2)
    )
    assert [latency.seconds for latency in found.latencies] == [(0.01, 0.02, 0.03, 0.2)] * 6
    assert found.share_in_time == 0.75  # at 10 Hz
    assert found.verdict.outcome == "fail"
    assert "75% of 4 control steps" in found.verdict.reason
    assert found.machine.startswith("cpu")


def test_a_deadline_that_is_met_passes(toys):
    found = measure_responsiveness(
        toys.world(), toys.windows(), deadline_hz=20, repeats=8, clock=ticking(0.04)
    )
    assert (found.share_in_time, found.verdict.outcome) == (1.0, "pass")
    assert found.latencies[0].hz == pytest.approx(25)


def test_percentiles_are_those_of_numpy():
    seconds = tuple(np.random.default_rng(0).exponential(0.1, 999))
    latency = Latency("step", 1, 1, seconds)
    for percent in (50, 95, 99):
        assert latency.percentile_seconds(percent) == np.percentile(seconds, percent)
    assert latency.share_within(0.1) == np.mean([s <= 0.1 for s in seconds])


def test_a_step_is_of_one_action_and_plans_are_of_many(toys):
    model, seen = toys.world(), []
    rollout = model.rollout

    def noted(latents, states, actions, **options):
        seen.append(tuple(actions.shape))
        return rollout(latents, states, actions, **options)

    model.rollout = noted
    found = measure_responsiveness(model, toys.windows(), num_samples=7, repeats=1)
    assert set(seen) == {(1, 1, 2), (7, 1, 2), (1, 6, 2), (7, 6, 2)}
    assert [(part.batch_size, part.num_steps) for part in found.latencies] == [
        (1, 0), (1, 1), (7, 1), (1, 6), (7, 6), (7, 6),
    ]  # fmt: skip


def test_a_model_that_sleeps_takes_at_least_so_long(toys):
    model = toys.world()
    step = model.dynamics.step
    model.dynamics.step = lambda *a, **k: (time.sleep(0.002), step(*a, **k))[1]
    found = {part.name: part for part in
             measure_responsiveness(model, toys.windows(), repeats=5).latencies}  # fmt: skip
    assert min(found["step"].seconds) >= 0.002
    assert min(found["rollout"].seconds) >= 6 * 0.002


def test_slow_work_is_not_repeated_for_ever(toys):
    found = measure_responsiveness(
        toys.world(), toys.windows(), repeats=1000, max_seconds_each=9, clock=ticking(1.0)
    )
    assert [len(part.seconds) for part in found.latencies] == [9] * 6


def test_a_deadline_of_nothing_is_refused(toys):
    with pytest.raises(ValueError, match="deadline_hz must be above 0"):
        measure_responsiveness(toys.world(), toys.windows(), deadline_hz=0)
