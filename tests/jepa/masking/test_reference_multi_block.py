import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jepa.masking import ReferenceMultiBlock

# Ids that the released sampler drew: 5 settings, 2 calls each.
GOLDEN = Path(__file__).parents[2] / "golden" / "masks"
RELEASED_GRID = (8, 16, 16)  # 16 frames of 256 pixels
SHORT_RANGE = {"num_blocks": 8, "spatial_scale": 0.15}
LONG_RANGE = {"num_blocks": 2, "spatial_scale": 0.7}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


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
def test_reference_masks_drop_only_the_latest_tokens_and_never_overlap(draw, settings):
    mask = draw(ReferenceMultiBlock(**settings), batch=24, grid=RELEASED_GRID)
    for context, targets in zip(*mask, strict=True):
        context, targets = set(context.tolist()), set(targets.tolist())
        assert not context & targets
        assert len(context) > 0 < len(targets)
        dropped = set(range(8 * 16 * 16)) - context - targets
        assert all(token > max(context) or token > max(targets) for token in dropped)


@pytest.mark.parametrize(("settings", "neither"), [(SHORT_RANGE, 0.29), (LONG_RANGE, 0.23)])
def test_reference_masks_lose_as_many_tokens_as_the_released_ones(draw, settings, neither):
    shares = []
    for seed in range(10):
        mask = draw(ReferenceMultiBlock(**settings), batch=24, grid=RELEASED_GRID, seed=seed)
        shares.append(1 - (mask.context_ids.shape[1] + mask.target_ids.shape[1]) / 2048)
    assert sum(shares) / len(shares) == pytest.approx(neither, abs=0.04)


def test_all_reference_blocks_of_a_batch_have_one_size_but_not_one_place(draw, hidden_places):
    sampler = ReferenceMultiBlock(num_blocks=1, spatial_scale=(0.1, 0.5), temporal_scale=(0.3, 0.9))
    is_hidden = hidden_places(draw(sampler, batch=30, grid=RELEASED_GRID), RELEASED_GRID)
    (block,) = {bounding_block(clip) for clip in is_hidden}
    assert (is_hidden.flatten(1).sum(1) == math.prod(block)).all()  # the block is full
    starts = {tuple(clip.nonzero().amin(0).tolist()) for clip in is_hidden}
    assert all(len(set(along_axis)) > 1 for along_axis in zip(*starts, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_the_first_three_uniforms_are_the_blocks_time_space_and_aspect_ratio(
    draw, hidden_places, seed
):
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


def test_a_reference_block_is_cut_to_the_grid_and_goes_through_one_time_at_least(
    draw, hidden_places
):
    sampler = ReferenceMultiBlock(
        num_blocks=1, spatial_scale=0.5, temporal_scale=0.01, aspect_ratio=(9.0, 9.0)
    )
    # 24 places, 14.7 high and 1.6 wide before it is cut to 6 places of height
    is_hidden = hidden_places(draw(sampler))
    assert {bounding_block(clip) for clip in is_hidden} == {(1, 6, 2)}


def test_a_reference_block_reaches_every_border(draw, hidden_places):
    sampler = ReferenceMultiBlock(num_blocks=1, spatial_scale=0.25, temporal_scale=0.5)
    is_hidden = hidden_places(draw(sampler, batch=300))
    assert is_hidden.any(0).all()


@pytest.mark.parametrize(("keep", "shown_times"), [(0.01, 1), (0.5, 2), (0.99, 3), (1.0, 4)])
def test_max_temporal_keep_hides_the_late_times_and_asks_for_them(
    draw, hidden_places, keep, shown_times
):
    mask = draw(ReferenceMultiBlock(num_blocks=1, max_temporal_keep=keep))
    is_hidden = hidden_places(mask)  # one block a clip: nothing is cut
    assert is_hidden[:, shown_times:].all()
    assert mask.context_ids.max() < shown_times * 48
    assert (~is_hidden[:, :shown_times]).flatten(2).any(2).all()  # the early ones are shown
    assert mask.context_ids.shape[1] + mask.target_ids.shape[1] == 4 * 48


def test_blocks_that_leave_nothing_to_show_are_drawn_again(draw):
    # Two blocks of 3 places cover a row of 4 in half of the draws.
    sampler = ReferenceMultiBlock(num_blocks=2, spatial_scale=0.75, aspect_ratio=(0.25, 0.25))
    mask = draw(sampler, batch=50, grid=(1, 1, 4))
    assert mask.context_ids.unique().tolist() == [0, 3]
    assert mask.context_ids.shape == (50, 1)
    assert mask.target_ids.shape == (50, 3)


def slow_masks(batch, grid, block, generator, *, num_blocks, shown_times):
    """Context and targets of each clip before the cut, one number and one token after another."""
    clips = []
    while len(clips) < batch:
        hidden = set()
        for _ in range(num_blocks):
            top, left, first = (
                int(torch.randint(grid[axis] - block[axis] + 1, (1,), generator=generator))
                for axis in (1, 2, 0)
            )
            hidden |= {
                (time * grid[1] + row) * grid[2] + column
                for time in range(first, first + block[0])
                for row in range(top, top + block[1])
                for column in range(left, left + block[2])
            }
        late = range(shown_times * grid[1] * grid[2], math.prod(grid))
        shown = sorted(set(range(math.prod(grid))) - hidden - set(late))
        if shown:
            clips.append((shown, sorted({*hidden, *late})))
    return clips


def cut(clips, most=None):
    return [ids[: min(most or len(ids), *map(len, clips))] for ids in clips]


def rest(clips, grid):
    return [sorted(set(range(math.prod(grid))) - set(ids)) for ids in clips]


ODD = {"num_blocks": 3, "spatial_scale": 0.2, "temporal_scale": 0.5}  # 9 words a clip
REDRAWN = {"num_blocks": 3, "spatial_scale": 0.8}  # 3 of 4 draws show nothing
CASES = [
    ((3, 6, 8), (1, 3, 3), ODD, {}),
    ((3, 6, 8), (1, 3, 3), ODD, {"complement": "targets"}),
    ((3, 6, 8), (1, 3, 3), ODD, {"complement": "context"}),
    ((3, 6, 8), (1, 3, 3), ODD, {"inverted": True}),
    ((3, 6, 8), (1, 3, 3), ODD, {"inverted": True, "complement": "targets"}),
    ((3, 6, 8), (1, 3, 3), ODD, {"inverted": True, "complement": "context"}),
    ((3, 6, 8), (1, 3, 3), ODD, {"max_context_tokens": 50}),
    ((3, 6, 8), (1, 3, 3), ODD, {"max_context_tokens": 50, "complement": "targets"}),
    ((3, 6, 8), (1, 3, 3), ODD, {"max_context_tokens": 1000}),
    ((3, 6, 8), (1, 3, 3), ODD, {"max_temporal_keep": 0.7}),
    ((2, 4, 5), (2, 4, 4), REDRAWN, {}),
    ((2, 4, 5), (2, 4, 4), REDRAWN, {"complement": "targets"}),
]


@pytest.mark.parametrize(("grid", "block", "settings", "options"), CASES)
@pytest.mark.parametrize("batch", [1, 6])
def test_masks_equal_those_of_loops_and_take_as_many_numbers(grid, block, settings, options, batch):
    sampler = ReferenceMultiBlock(**settings, **options, aspect_ratio=(1.0, 1.0))
    for seed in range(5):
        fast, slow = seeded(seed), seeded(seed)
        mask = sampler.draw(batch, grid, size_generator=seeded(0), position_generator=fast)
        shown_times = max(1, int(grid[0] * options.get("max_temporal_keep", 1)))
        clips = slow_masks(
            batch, grid, block, slow, num_blocks=settings["num_blocks"], shown_times=shown_times
        )
        context, targets = zip(*clips, strict=True)
        context, targets = cut(context, options.get("max_context_tokens")), cut(targets)
        if options.get("complement") == "targets":
            targets = rest(context, grid)
        if options.get("complement") == "context":
            context = rest(targets, grid)
        if options.get("inverted"):
            context, targets = targets, context
        assert mask.context_ids.tolist() == context
        assert mask.target_ids.tolist() == targets
        assert torch.equal(fast.get_state(), slow.get_state())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_blocks": 0}, "num_blocks must be at least 1, got 0"),
        (
            {"spatial_scale": 1.5},
            r"spatial_scale must be in \(0, 1\], or 0 < low <= high <= 1, got 1.5",
        ),
        ({"spatial_scale": (0.5, 0.2)}, r"spatial_scale must be .* got \(0.5, 0.2\)"),
        ({"temporal_scale": 0.0}, r"temporal_scale must be .* got 0.0"),
        ({"aspect_ratio": (0.0, 1.0)}, r"aspect_ratio must be 0 < low <= high, got \(0.0, 1.0\)"),
        ({"max_temporal_keep": 0.0}, r"max_temporal_keep must be in \(0, 1\], got 0.0"),
        ({"max_context_tokens": 0}, "max_context_tokens must be at least 1, or null, got 0"),
        ({"complement": "both"}, "complement must be targets, context or null, got 'both'"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ReferenceMultiBlock(**options)


def test_blocks_smaller_than_a_token_are_refused(draw):
    words = r"a block of \(4, 0, 0\) .* hides nothing in grid \(4, 2, 2\); raise spatial_scale"
    with pytest.raises(ValueError, match=words):
        draw(ReferenceMultiBlock(), grid=(4, 2, 2))


def test_blocks_that_always_leave_nothing_to_show_are_refused(draw):
    words = r"num_blocks=8 of \(2, 4, 4\) .* left nothing to show of grid \(2, 4, 4\) in 100 draws"
    with pytest.raises(ValueError, match=words):
        draw(ReferenceMultiBlock(spatial_scale=1.0, aspect_ratio=(1.0, 1.0)), grid=(2, 4, 4))
