import pytest

from data_pipelines.plan import (
    EpochPlan,
    EvaluationBatchSampler,
    ResumableBatchSampler,
    mixed_seed,
    steps_in_one_pass,
)

SHARDS = [5, 1, 7, 4, 6]  # 23 samples


def global_order(world_size, *, global_slots=12, steps=8, seed=3):
    """All slots of `steps` batches, joined over ranks."""
    plan = EpochPlan(SHARDS, seed=seed)
    ranks = [
        ResumableBatchSampler(
            plan,
            slots_per_batch=global_slots // world_size,
            steps_per_epoch=steps,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    return [[slot for part in batch for slot in part] for batch in zip(*ranks, strict=True)]


def test_every_pass_visits_every_sample_once():
    plan = EpochPlan(SHARDS, seed=1)
    slots = plan.slots(0, 3 * 23)
    for number in range(3):
        part = [slot.sample_index for slot in slots[number * 23 : (number + 1) * 23]]
        assert sorted(part) == list(range(23))


def test_passes_and_seeds_differ_and_equal_seeds_agree():
    first, second = EpochPlan(SHARDS, seed=1), EpochPlan(SHARDS, seed=2)
    assert first.order_of_pass(0) != first.order_of_pass(1)
    assert first.order_of_pass(0) != second.order_of_pass(0)
    assert first.slots(0, 40) == EpochPlan(SHARDS, seed=1).slots(0, 40)


def test_every_visit_has_its_own_seed():
    seeds = [slot.seed for slot in EpochPlan(SHARDS, seed=1).slots(0, 1000)]
    assert len(set(seeds)) == 1000


def test_the_global_order_is_the_same_for_every_number_of_ranks():
    alone = global_order(1)
    for world_size in (2, 3, 4, 6):
        assert global_order(world_size) == alone


def test_ranks_get_disjoint_parts_of_a_pass():
    plan = EpochPlan(SHARDS, seed=0)
    seen = []
    for rank in range(2):
        sampler = ResumableBatchSampler(
            plan, slots_per_batch=5, steps_per_epoch=2, rank=rank, world_size=2
        )
        seen.append({slot.sample_index for batch in sampler for slot in batch})
    assert len(seen[0]) == len(seen[1]) == 10 and not seen[0] & seen[1]


def test_a_resumed_sampler_goes_on_where_the_first_one_was():
    step = 0
    sampler = ResumableBatchSampler(
        EpochPlan(SHARDS, seed=5), slots_per_batch=4, steps_per_epoch=7, first_step=lambda: step
    )
    first_epoch = list(sampler)
    step = 7
    both = first_epoch + list(sampler)
    step = 3
    assert list(sampler) == both[3:10]
    assert len(sampler) == 7


def test_reading_stays_within_a_window_of_shards():
    plan = EpochPlan([10] * 12, seed=0, shuffle_window_shards=3)
    order = plan.order_of_pass(0)
    for start in range(0, 120, 30):
        assert len({sample // 10 for sample in order[start : start + 30]}) == 3
    assert order[:30] != sorted(order[:30])


def test_without_shuffle_the_order_is_that_of_the_index():
    plan = EpochPlan(SHARDS, shuffle=False)
    assert [slot.sample_index for slot in plan.slots(20, 5)] == [20, 21, 22, 0, 1]


def test_steps_are_whole_batches_of_one_pass():
    assert steps_in_one_pass(23, 1, batch_size=4, world_size=2) == 2
    assert steps_in_one_pass(23, 4, batch_size=8, world_size=1) == 11


def test_too_few_samples_for_one_batch_are_refused_with_numbers():
    with pytest.raises(ValueError, match="7 samples < global batch 8"):
        steps_in_one_pass(7, 1, batch_size=4, world_size=2)
    with pytest.raises(ValueError, match="batch_size=6 must be a multiple of the 4 clips"):
        steps_in_one_pass(7, 4, batch_size=6, world_size=1)


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        ResumableBatchSampler(
            EpochPlan(SHARDS), slots_per_batch=1, steps_per_epoch=1, rank=2, world_size=2
        )


def test_mixed_seeds_fit_a_generator_and_do_not_collide():
    seeds = {mixed_seed(seed, position) for seed in range(-50, 50) for position in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 1 << 63 for seed in seeds)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 30])
def test_an_evaluation_sees_every_sample_once_in_equal_steps(world_size, batch_size):
    ranks = [
        list(EvaluationBatchSampler(23, batch_size=batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    slots = [slot for batches in ranks for batch in batches for slot in batch]
    assert {len(batch) for batches in ranks for batch in batches} == {batch_size}
    assert sorted(slot.sample_index for slot in slots if not slot.is_padding) == list(range(23))


def test_an_evaluation_may_be_cut_short_but_not_stretched():
    assert len(EvaluationBatchSampler(23, batch_size=4, max_steps=2)) == 2
    assert len(EvaluationBatchSampler(23, batch_size=4, max_steps=99)) == 6
    with pytest.raises(ValueError, match="max_steps=0 must be at least 1"):
        EvaluationBatchSampler(23, batch_size=4, max_steps=0)
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        EvaluationBatchSampler(23, batch_size=4, rank=2, world_size=2)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(
    ("clips", "batch_size", "most"), [(24, 8, 8), (24, 10, 8), (7, 5, 4), (3, 1, 1), (6, 13, 12)]
)
def test_no_batch_has_more_clips_than_its_size_and_each_clip_comes_once(
    clips, batch_size, most, world_size
):
    seen, sizes = [], set()
    for rank in range(world_size):
        sampler = EvaluationBatchSampler(
            5, batch_size=batch_size, clips_per_sample=clips, rank=rank, world_size=world_size
        )
        for batch in sampler:
            taken = [(slot, clip) for slot in batch for clip in range(clips)[slot.chosen]]
            sizes.add(len(taken))
            seen += [(slot.sample_index, clip) for slot, clip in taken if not slot.is_padding]
    assert max(sizes) == most <= batch_size
    assert sorted(seen) == [(sample, clip) for sample in range(5) for clip in range(clips)]
