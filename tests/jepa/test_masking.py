import pytest
import torch

from jepa.masking import Future, MultiBlock, mask_generator

GRID = (4, 6, 8)
CPU = torch.device("cpu")


def draw(sampler, *, batch=5, grid=GRID, seed=0):
    return sampler.sample(batch, grid, generator=torch.Generator().manual_seed(seed))


def hidden_places(mask, grid=GRID):
    """(batch, time, height, width) bool: True where a token is a target."""
    is_hidden = torch.zeros(len(mask.target_ids), grid[0] * grid[1] * grid[2], dtype=torch.bool)
    return is_hidden.scatter(1, mask.target_ids, True).unflatten(1, grid)


@pytest.mark.parametrize("sampler", [MultiBlock(), MultiBlock(num_blocks=2), Future()])
def test_context_and_targets_never_overlap_and_cover_everything(sampler):
    mask = draw(sampler)
    for context, targets in zip(*mask, strict=True):
        assert sorted([*context.tolist(), *targets.tolist()]) == list(range(4 * 6 * 8))


@pytest.mark.parametrize("sampler", [MultiBlock(), Future()])
def test_ids_ascend_and_all_clips_have_equally_many(sampler):
    mask = draw(sampler)
    for ids in mask:
        assert ids.shape[0] == 5
        assert (ids.diff(dim=1) > 0).all()


@pytest.mark.parametrize(("fraction", "hidden"), [(0.75, 36), (0.9, 43), (0.001, 1), (0.999, 47)])
def test_exactly_the_wanted_share_of_places_is_hidden(fraction, hidden):
    mask = draw(MultiBlock(target_fraction=fraction))
    assert mask.target_ids.shape == (5, 4 * hidden)
    assert mask.context_ids.shape == (5, 4 * (48 - hidden))


def test_blocks_go_through_all_of_time_so_late_times_are_hidden_as_often():
    is_hidden = hidden_places(draw(MultiBlock()))
    assert torch.equal(is_hidden, is_hidden[:, :1].expand_as(is_hidden))


def test_one_block_is_a_rectangle_up_to_ties():
    is_hidden = hidden_places(draw(MultiBlock(num_blocks=1, target_fraction=0.25)))[:, 0]
    for clip in is_hidden:
        rows, columns = clip.any(1).nonzero(), clip.any(0).nonzero()
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert clip.sum() == 12
        assert box - 12 < max(len(rows), len(columns))  # less than one side is left open


def test_the_aspect_ratio_is_height_over_width():
    sampler = MultiBlock(num_blocks=1, target_fraction=0.08, aspect_ratio=(4.0, 4.0))
    is_hidden = hidden_places(draw(sampler, batch=200, grid=(1, 40, 40)), (1, 40, 40))[:, 0]
    heights, widths = is_hidden.any(2).sum(1).float(), is_hidden.any(1).sum(1).float()
    inside = (~is_hidden[:, [0, -1]].any((1, 2))) & (~is_hidden[:, :, [0, -1]].any((1, 2)))
    assert (heights / widths)[inside].mean().item() == pytest.approx(4.0, rel=0.1)


def test_every_place_is_a_target_now_and_then():
    often = hidden_places(draw(MultiBlock(target_fraction=0.5), batch=400))[:, 0].float().mean(0)
    assert often.min() > 0.2
    assert often.max() < 0.8


def test_the_same_generator_draws_the_same_masks_and_another_one_others():
    sampler = MultiBlock()
    one, same, other = (draw(sampler, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.target_ids, same.target_ids)
    assert not torch.equal(one.target_ids, other.target_ids)
    assert not torch.equal(one.target_ids[0], one.target_ids[1])  # clips differ too


def test_future_masks_show_the_beginning_and_ask_for_the_end():
    mask = draw(Future(context_fraction=0.25), batch=2)
    assert mask.context_ids.tolist() == [list(range(48))] * 2
    assert mask.target_ids.tolist() == [list(range(48, 192))] * 2


@pytest.mark.parametrize(("fraction", "shown"), [(0.01, 1), (0.5, 2), (0.99, 3)])
def test_future_masks_always_show_and_ask_something(fraction, shown):
    mask = draw(Future(context_fraction=fraction))
    assert mask.context_ids.shape[1] == shown * 48


def test_the_masks_generator_is_a_function_of_seed_step_and_rank():
    def numbers(*arguments):
        return tuple(torch.rand(4, generator=mask_generator(*arguments, device=CPU)).tolist())

    assert numbers(0, 7, 1) == numbers(0, 7, 1)
    places = [
        (seed, step, rank) for seed in (0, 1, 2**40 + 7) for step in range(5) for rank in (0, 1)
    ]
    assert len({numbers(*place) for place in places}) == len(places)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiBlock(num_blocks=0), "num_blocks must be at least 1, got 0"),
        (lambda: MultiBlock(target_fraction=1.0), r"target_fraction must be in \(0, 1\), got 1.0"),
        (lambda: MultiBlock(aspect_ratio=(2.0, 1.0)), r"0 < low <= high, got \(2.0, 1.0\)"),
        (lambda: Future(context_fraction=0.0), r"context_fraction must be in \(0, 1\), got 0.0"),
        (lambda: draw(Future(), grid=(1, 4, 4)), "at least 2 tokens in time, got 1"),
        (lambda: draw(MultiBlock(), grid=(4, 1, 1)), r"at least 2 places a frame, got grid \(4, 1"),
    ],
)
def test_impossible_masks_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
