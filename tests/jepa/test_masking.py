import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jepa.masking import Future, MultiBlock, ReferenceMultiBlock, mask_generator

GRID = (4, 6, 8)
CPU = torch.device("cpu")
# Ids that the released sampler drew: 5 settings, 2 calls each.
GOLDEN = Path(__file__).parents[1] / "golden" / "masks"
RELEASED_GRID = (8, 16, 16)  # 16 frames of 256 pixels
SHORT_RANGE = {"num_blocks": 8, "spatial_scale": 0.15}
LONG_RANGE = {"num_blocks": 2, "spatial_scale": 0.7}


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


@pytest.mark.parametrize("sampler", [MultiBlock(), Future(), ReferenceMultiBlock()])
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


@pytest.mark.parametrize("sampler", [MultiBlock(), ReferenceMultiBlock(num_blocks=2)])
def test_the_same_generator_draws_the_same_masks_and_another_one_others(sampler):
    one, same, other = (draw(sampler, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.target_ids, same.target_ids)
    assert not torch.equal(one.target_ids, other.target_ids)
    assert not torch.equal(one.target_ids[0], one.target_ids[1])  # clips differ too


def bounding_block(is_hidden):
    """(time, height, width) of the smallest block around the hidden tokens of a clip."""
    return tuple(
        int(places.max() - places.min() + 1) for places in is_hidden.nonzero().unbind(dim=1)
    )


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("case", range(5))
def test_reference_masks_are_those_of_the_released_sampler_id_for_id(case, call):
    expected = load_file(GOLDEN / "golden.safetensors")
    settings = json.loads((GOLDEN / "config.json").read_text())["cases"][case]
    sampler = ReferenceMultiBlock(
        num_blocks=settings["blocks"],
        spatial_scale=settings["spatial_scale"],
        temporal_scale=settings["temporal_scale"],
        aspect_ratio=tuple(settings["aspect"]),
    )
    side = settings["crop"] // 16
    mask = sampler.draw(
        settings["batch"],
        (settings["frames"] // 2, side, side),
        size_generator=torch.Generator().manual_seed(settings["block_seed_of_call"][call]),
        position_generator=torch.Generator().manual_seed(settings["global_seed_of_call"][call]),
    )
    assert torch.equal(mask.context_ids, expected[f"case{case}_call{call}_context"])
    assert torch.equal(mask.target_ids, expected[f"case{case}_call{call}_target"])


@pytest.mark.parametrize("settings", [SHORT_RANGE, LONG_RANGE])
def test_reference_masks_drop_only_the_latest_tokens_and_never_overlap(settings):
    mask = draw(ReferenceMultiBlock(**settings), batch=24, grid=RELEASED_GRID)
    for context, targets in zip(*mask, strict=True):
        context, targets = set(context.tolist()), set(targets.tolist())
        assert not context & targets
        assert len(context) > 0 < len(targets)
        dropped = set(range(8 * 16 * 16)) - context - targets
        assert all(token > max(context) or token > max(targets) for token in dropped)


@pytest.mark.parametrize(("settings", "neither"), [(SHORT_RANGE, 0.29), (LONG_RANGE, 0.23)])
def test_reference_masks_lose_as_many_tokens_as_the_released_ones(settings, neither):
    shares = []
    for seed in range(10):
        mask = draw(ReferenceMultiBlock(**settings), batch=24, grid=RELEASED_GRID, seed=seed)
        shares.append(1 - (mask.context_ids.shape[1] + mask.target_ids.shape[1]) / 2048)
    assert sum(shares) / len(shares) == pytest.approx(neither, abs=0.04)


def test_all_reference_blocks_of_a_batch_have_one_size_but_not_one_place():
    sampler = ReferenceMultiBlock(num_blocks=1, spatial_scale=(0.1, 0.5), temporal_scale=(0.3, 0.9))
    is_hidden = hidden_places(draw(sampler, batch=30, grid=RELEASED_GRID), RELEASED_GRID)
    (block,) = {bounding_block(clip) for clip in is_hidden}
    assert (is_hidden.flatten(1).sum(1) == math.prod(block)).all()  # the block is full
    starts = {tuple(clip.nonzero().amin(0).tolist()) for clip in is_hidden}
    assert all(len(set(along_axis)) > 1 for along_axis in zip(*starts, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_the_first_three_uniforms_are_the_blocks_time_space_and_aspect_ratio(seed):
    time, space, aspect = torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist()
    sampler = ReferenceMultiBlock(
        num_blocks=1,
        spatial_scale=(0.1, 0.5),
        temporal_scale=(0.2, 0.8),
        aspect_ratio=(0.5, 2.0),
    )
    (is_hidden,) = hidden_places(draw(sampler, batch=1, grid=(10, 20, 20), seed=seed), (10, 20, 20))
    places = int(400 * (0.1 + 0.4 * space))
    height_over_width = 0.5 + 1.5 * aspect
    assert bounding_block(is_hidden) == (
        int(10 * (0.2 + 0.6 * time)),
        round((places * height_over_width) ** 0.5),
        round((places / height_over_width) ** 0.5),
    )


def test_a_reference_block_is_cut_to_the_grid_and_goes_through_one_time_at_least():
    sampler = ReferenceMultiBlock(
        num_blocks=1, spatial_scale=0.5, temporal_scale=0.01, aspect_ratio=(9.0, 9.0)
    )
    # 24 places, 14.7 high and 1.6 wide before it is cut to 6 places of height
    is_hidden = hidden_places(draw(sampler))
    assert {bounding_block(clip) for clip in is_hidden} == {(1, 6, 2)}


def test_a_reference_block_reaches_every_border():
    sampler = ReferenceMultiBlock(num_blocks=1, spatial_scale=0.25, temporal_scale=0.5)
    is_hidden = hidden_places(draw(sampler, batch=300))
    assert is_hidden.any(0).all()


@pytest.mark.parametrize(("keep", "shown_times"), [(0.01, 1), (0.5, 2), (0.99, 3), (1.0, 4)])
def test_max_temporal_keep_hides_the_late_times_and_asks_for_them(keep, shown_times):
    mask = draw(ReferenceMultiBlock(num_blocks=1, max_temporal_keep=keep))
    is_hidden = hidden_places(mask)  # one block a clip: nothing is cut
    assert is_hidden[:, shown_times:].all()
    assert mask.context_ids.max() < shown_times * 48
    assert (~is_hidden[:, :shown_times]).flatten(2).any(2).all()  # the early ones are shown
    assert mask.context_ids.shape[1] + mask.target_ids.shape[1] == 4 * 48


def test_blocks_that_leave_nothing_to_show_are_drawn_again():
    # Two blocks of 3 places cover a row of 4 in half of the draws.
    sampler = ReferenceMultiBlock(num_blocks=2, spatial_scale=0.75, aspect_ratio=(0.25, 0.25))
    mask = draw(sampler, batch=50, grid=(1, 1, 4))
    assert mask.context_ids.unique().tolist() == [0, 3]
    assert mask.context_ids.shape == (50, 1)
    assert mask.target_ids.shape == (50, 3)


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
        (lambda: ReferenceMultiBlock(num_blocks=0), "num_blocks must be at least 1, got 0"),
        (
            lambda: ReferenceMultiBlock(spatial_scale=1.5),
            r"spatial_scale must be in \(0, 1\], or 0 < low <= high <= 1, got 1.5",
        ),
        (
            lambda: ReferenceMultiBlock(spatial_scale=(0.5, 0.2)),
            r"spatial_scale must be .* got \(0.5, 0.2\)",
        ),
        (lambda: ReferenceMultiBlock(temporal_scale=0.0), r"temporal_scale must be .* got 0.0"),
        (
            lambda: ReferenceMultiBlock(aspect_ratio=(0.0, 1.0)),
            r"aspect_ratio must be 0 < low <= high, got \(0.0, 1.0\)",
        ),
        (
            lambda: ReferenceMultiBlock(max_temporal_keep=0.0),
            r"max_temporal_keep must be in \(0, 1\], got 0.0",
        ),
        (
            lambda: draw(ReferenceMultiBlock(), grid=(4, 2, 2)),
            r"a block of \(4, 0, 0\) .* hides nothing in grid \(4, 2, 2\); raise spatial_scale",
        ),
        (
            lambda: draw(
                ReferenceMultiBlock(spatial_scale=1.0, aspect_ratio=(1.0, 1.0)), grid=(2, 4, 4)
            ),
            r"num_blocks=8 of \(2, 4, 4\) .* left nothing to show of grid \(2, 4, 4\) in 100 draws",
        ),
        (lambda: draw(Future(), grid=(1, 4, 4)), "at least 2 tokens in time, got 1"),
        (lambda: draw(MultiBlock(), grid=(4, 1, 1)), r"at least 2 places a frame, got grid \(4, 1"),
    ],
)
def test_impossible_masks_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
