import pytest

from jepa.evaluation.world_model_card.generalisation import measure_generalisation


def of(toys, **options):
    return toys.windows(**{"noise": 0.5, "horizon": 1, "num_episodes": 150, **options})


def test_the_same_world_recorded_again_is_no_shift(toys):
    found = measure_generalisation(toys.world(), of(toys), {"again": of(toys, seed=1)})
    (shift,) = found.shifts
    assert shift.error_ratio.low < 1 < shift.error_ratio.high
    assert found.verdict == ("pass", "holds under every shift: again")


def test_the_ratio_of_a_heavier_world_is_that_of_the_gaussians(toys):
    # Things move by half of what the model thinks: the error is N(0, 0.5) + N(0, 0.5).
    heavy = of(toys, push=((0.5, 0.0), (0.0, 0.5)), num_episodes=400)
    found = measure_generalisation(toys.world(), of(toys, num_episodes=400), {"mass": heavy})
    (shift,) = found.shifts
    assert shift.error_ratio.value == pytest.approx(2**0.5, rel=0.04)
    assert shift.copy_ratio.value == pytest.approx(1.0, rel=0.05)  # a copy misses N(0, 0.5) too
    assert found.copy_ratio.value == pytest.approx((0.25 / 1.25) ** 0.5, rel=0.05)
    assert shift.verdict.outcome == "fail"  # no better than a copy


def test_a_world_that_turns_the_actions_round_is_failed_by_name(toys):
    mirrored = of(toys, push=((-1.0, 0.0), (0.0, -1.0)))
    found = measure_generalisation(
        toys.world(), of(toys), {"again": of(toys, seed=1), "mirror": mirrored}
    )
    assert [shift.verdict.outcome for shift in found.shifts] == ["pass", "fail"]
    assert found.shifts[1].error_ratio.low > 2
    assert found.shifts[1].useful_horizon == 0
    assert found.verdict.outcome == "fail"
    assert found.verdict.reason.startswith("mirror: the error is")


def test_without_shifts_there_is_nothing_to_say(toys):
    found = measure_generalisation(toys.world(), of(toys), {})
    assert found.verdict == (
        "not measurable",
        "no shifted recordings are given: --shift NAME=SHARDS",
    )


def test_one_episode_of_a_world_is_too_few(toys):
    found = measure_generalisation(toys.world(), of(toys), {"dark": of(toys, num_episodes=1)})
    assert "there is one of dark" in found.verdict.reason
