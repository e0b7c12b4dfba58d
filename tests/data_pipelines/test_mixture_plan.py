from collections import Counter

import pytest

from data_pipelines.mixture_plan import (
    AlternatingBatchSampler,
    MixturePlan,
    slots_per_period,
    weights_by_size,
)
from data_pipelines.plan import EpochPlan

SIZES = (5, 3, 12)


def mixture(weights=(3, 1, 2), seed=0):
    return MixturePlan([EpochPlan([size], seed=7) for size in SIZES], weights, seed=seed)


def dataset_of(slot):
    return sum(slot.sample_index >= first for first in (5, 8))


def test_shares_are_exact_in_every_period():
    plan = mixture()
    assert plan.slots_per_period == (3, 1, 2)
    for period in range(20):
        counts = Counter(dataset_of(slot) for slot in plan.slots(period * 6, 6))
        assert counts == {0: 3, 1: 1, 2: 2}


def test_each_dataset_is_visited_pass_after_pass_in_its_own_order():
    plan = mixture()
    seen = {0: [], 1: [], 2: []}
    for slot in plan.slots(0, 6 * 10):
        seen[dataset_of(slot)].append(slot.sample_index)
    for dataset, first in enumerate((0, 5, 8)):
        alone = EpochPlan([SIZES[dataset]], seed=7).slots(0, len(seen[dataset]))
        assert seen[dataset] == [first + slot.sample_index for slot in alone]
    assert sorted(seen[0][:5]) == list(range(5)) and sorted(seen[1][:3]) == [5, 6, 7]


def test_a_slot_needs_none_of_those_before_it():
    whole = mixture().slots(0, 200)
    assert mixture().slots(137, 40) == whole[137:177]
    assert [mixture().slots(n, 1)[0] for n in (199, 3, 64)] == [whole[n] for n in (199, 3, 64)]


def test_seeds_of_visits_differ_also_between_datasets_of_the_same_seed():
    assert len({slot.seed for slot in mixture().slots(0, 600)}) == 600
    assert mixture(seed=1).slots(0, 60) != mixture(seed=2).slots(0, 60)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 1), (1, 1)),
        ((0.5, 0.25, 0.25), (2, 1, 1)),
        ((0.1, 0.2), (1, 2)),
        ((10, 30), (1, 3)),
        ((1 / 3, 2 / 3), (1, 2)),
    ],
)
def test_weights_become_the_smallest_whole_numbers(weights, expected):
    assert slots_per_period(weights) == expected


def test_weights_without_a_small_ratio_are_right_to_one_part_in_4096():
    weights = (0.7071, 0.1234, 0.0557)
    counts = slots_per_period(weights)
    for weight, count in zip(weights, counts, strict=True):
        assert count / sum(counts) == pytest.approx(weight / sum(weights), abs=1 / 4096)


@pytest.mark.parametrize("weights", [(1, 0), (1, -2), (1, float("nan")), (1, float("inf"))])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be positive and finite"):
        slots_per_period(weights)


def test_a_weight_that_would_never_be_met_is_refused():
    with pytest.raises(ValueError, match=r"the weight 1e-07 is less than 1 part in 8192"):
        slots_per_period((1.0, 1e-7))
    with pytest.raises(ValueError, match="2 weights for 1 datasets"):
        MixturePlan([EpochPlan([3])], (1, 2))


def test_by_size_a_tiny_dataset_comes_once_in_a_period():
    assert weights_by_size((240_000, 120_000)) == (240_000, 120_000)
    assert slots_per_period(weights_by_size((240_000, 25))) == (4095, 1)
    assert slots_per_period(weights_by_size((1, 10**9, 1, 1)))[0::2] == (1, 1)
    assert slots_per_period(weights_by_size((7,))) == (1,)


def alternating(rank=0, world_size=1, fraction=0.25, first_step=0):
    videos = mixture()
    images = MixturePlan([EpochPlan([50], seed=1)], [1])
    return AlternatingBatchSampler(
        (videos, images),
        slots_per_batch=(4, 6),
        num_first_samples=20,
        fraction=fraction,
        steps_per_epoch=16,
        rank=rank,
        world_size=world_size,
        first_step=lambda: first_step,
    )


def test_kinds_never_share_a_batch_and_the_second_has_its_fraction():
    kinds = []
    for batch in alternating():
        (is_image,) = {slot.sample_index >= 20 for slot in batch}
        assert len(batch) == (6 if is_image else 4)
        kinds.append(is_image)
    assert kinds == [False, False, False, True] * 4


def test_all_ranks_take_the_same_kind_and_their_batches_join_to_that_of_one():
    alone = [mixture().slots(8 * turn, 8) for turn in range(12)]
    ranks = [list(alternating(rank, 2)) for rank in (0, 1)]
    videos = [
        one + other
        for one, other in zip(*ranks, strict=True)
        if (one[0].sample_index < 20) == (other[0].sample_index < 20) and one[0].sample_index < 20
    ]
    assert videos == alone


def test_batches_go_on_from_the_step_of_a_resume():
    whole = list(alternating())
    assert list(alternating(first_step=7))[:9] == whole[7:]


def test_without_images_all_steps_are_of_videos():
    assert all(slot.sample_index < 20 for batch in alternating(fraction=0) for slot in batch)
    with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\), got 1"):
        alternating(fraction=1.0)
