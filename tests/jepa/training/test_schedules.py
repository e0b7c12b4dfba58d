import math

import pytest

from jepa.training.schedules import (
    Cosine,
    LinearCooldown,
    Schedule,
    Stretched,
    WarmupConstant,
    WarmupConstantCooldown,
    WarmupCosine,
)


def shares(schedule: Schedule, total_steps):
    return [schedule.fraction_at(step, total_steps=total_steps) for step in range(total_steps)]


def test_warm_up_rises_linearly_and_the_cosine_ends_at_the_last_update():
    found = shares(WarmupCosine(warmup_fraction=0.5, final_fraction=0.1), 8)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    cosine = [(1 + math.cos(math.pi * done / 4)) / 2 for done in (1, 2, 3, 4)]
    assert found[4:] == pytest.approx([0.1 + 0.9 * share for share in cosine])
    assert found[-1] == pytest.approx(0.1)


def test_warm_up_may_start_above_zero_and_be_given_in_steps():
    by_steps = shares(WarmupCosine(warmup_steps=2, start_fraction=0.5), 8)
    assert by_steps[:2] == pytest.approx([0.75, 1.0])
    by_share = shares(WarmupCosine(warmup_fraction=0.25, start_fraction=0.5), 8)
    assert by_steps == by_share


def test_without_a_word_the_warm_up_is_a_twentieth():
    assert shares(WarmupCosine(), 100) == shares(WarmupCosine(warmup_fraction=0.05), 100)


def test_without_warm_up_it_falls_from_the_first_update():
    found = shares(WarmupCosine(warmup_fraction=0.0, final_fraction=0.0), 4)
    root = 2**-0.5
    assert found == pytest.approx([(1 + root) / 2, 0.5, (1 - root) / 2, 0.0])


def test_warm_up_and_constant_needs_no_end_when_given_in_steps():
    schedule = WarmupConstant(warmup_steps=4)
    found = [schedule.fraction_at(step, total_steps=math.inf) for step in range(7)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1])


def test_a_cooldown_within_the_run_falls_linearly_at_its_end():
    schedule = WarmupConstantCooldown(warmup_steps=2, cooldown_fraction=0.4, final_fraction=0.2)
    expected = [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert shares(schedule, 10) == pytest.approx(expected)


def test_a_cooldown_stage_falls_from_the_start():
    assert shares(LinearCooldown(final_fraction=0.2), 4) == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_weight_decay_rises_along_half_a_cosine():
    found = [0.4 * share for share in shares(Cosine(first_fraction=0.1), 4)]
    root = 2**-0.5
    expected = [0.04 + 0.36 * (1 - share) / 2 for share in (root, 0.0, -root, -1.0)]
    assert found == pytest.approx(expected)
    assert found[-1] == pytest.approx(0.4)


def test_the_released_v_jepa_recipe_ends_where_it_was_seen_to_end():
    """300 epochs of 300 steps, 40 of them warm-up; 2e-4 to 6.25e-4 to 1e-6, decay .04 to .4."""
    peak, steps = 6.25e-4, 90_000
    released = WarmupCosine(
        warmup_steps=12_000, start_fraction=2e-4 / peak, final_fraction=1e-6 / peak
    )
    first = peak * Stretched(released).fraction_at(0, total_steps=steps)
    assert first == pytest.approx(2e-4 + (peak - 2e-4) / 12_000)
    last = peak * Stretched(released).fraction_at(steps - 1, total_steps=steps)
    assert last == pytest.approx(7.5e-5, rel=0.005)
    decay = 0.4 * Stretched(Cosine(0.1)).fraction_at(steps - 1, total_steps=steps)
    assert decay == pytest.approx(0.366, abs=5e-4)
    finished = peak * released.fraction_at(steps - 1, total_steps=steps)
    assert finished == pytest.approx(1e-6)


def test_the_released_v_jepa_2_cooldown_ends_at_a_fifth_of_its_rate():
    peak, steps = 5.25e-4, 12_000
    cooldown = LinearCooldown(final_fraction=1e-6 / peak)
    last = peak * Stretched(cooldown).fraction_at(steps - 1, total_steps=steps)
    assert last == pytest.approx(1.06e-4, rel=0.005)


@pytest.mark.parametrize(
    "schedule",
    [WarmupCosine(), LinearCooldown(), Cosine(0.1), WarmupConstantCooldown(), WarmupConstant()],
)
def test_what_aims_at_an_end_refuses_a_run_without_one(schedule):
    with pytest.raises(ValueError, match=r"this one has no end: set trainer\.max_steps"):
        schedule.fraction_at(0, total_steps=math.inf)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WarmupCosine(warmup_fraction=1.0), r"warmup_fraction must be in \[0, 1\), got 1"),
        (lambda: WarmupConstant(warmup_steps=-1), "warmup_steps must be at least 0, got -1"),
        (lambda: WarmupCosine(0.1, 5), "give warmup_fraction or warmup_steps, not both"),
        (lambda: LinearCooldown(1.5), r"final_fraction must be in \[0, 1\], got 1.5"),
        (lambda: WarmupCosine(start_fraction=math.nan), r"start_fraction must be in \[0, 1\]"),
        (lambda: Cosine(-0.1), "first_fraction and final_fraction must be at least 0"),
        (lambda: Stretched(LinearCooldown(), 0.5), "factor must be at least 1, got 0.5"),
    ],
)
def test_values_out_of_range_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
