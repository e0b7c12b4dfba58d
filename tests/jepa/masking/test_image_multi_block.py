import pytest
import torch

from jepa.masking import ImageMultiBlock

IMAGE = (1, 14, 14)


@pytest.mark.parametrize(
    ("targets", "context", "asked", "shown"),
    [(0.45, 0.43, 88, 84), (0.5, 0.5, 98, 98), (0.7, 0.3, 137, 59), (0.001, 0.001, 1, 1)],
)
def test_exactly_the_wanted_shares_are_asked_for_and_shown(draw, targets, context, asked, shown):
    sampler = ImageMultiBlock(target_fraction=targets, context_fraction=context)
    for seed in range(5):
        mask = draw(sampler, batch=16, grid=IMAGE, seed=seed)
        assert mask.target_ids.shape == (16, asked)
        assert mask.context_ids.shape == (16, shown)


def test_one_block_is_a_rectangle_inside_the_image_up_to_ties(draw, hidden_places):
    sampler = ImageMultiBlock(num_blocks=1, target_fraction=0.16, aspect_ratio=(0.75, 1.5))
    is_hidden = hidden_places(draw(sampler, batch=100, grid=IMAGE), IMAGE)[:, 0]
    for clip in is_hidden:
        height, width = int(clip.any(1).sum()), int(clip.any(0).sum())
        assert clip.sum() == 31
        assert height * width - 31 < max(height, width)  # less than one side is left open
        assert 0.5 < height / width < 2  # whole tokens around 0.75 and 1.5: nothing is cut off


def test_the_aspect_ratio_is_height_over_width(draw, hidden_places):
    grid = (1, 40, 40)
    sampler = ImageMultiBlock(num_blocks=1, target_fraction=0.08, aspect_ratio=(4.0, 4.0))
    is_hidden = hidden_places(draw(sampler, batch=100, grid=grid), grid)[:, 0]
    heights, widths = is_hidden.any(2).sum(1).float(), is_hidden.any(1).sum(1).float()
    assert (heights / widths).mean().item() == pytest.approx(4.0, rel=0.1)


def test_the_context_is_what_the_targets_leave_of_a_square(draw, hidden_places, shown_places):
    mask = draw(ImageMultiBlock(context_fraction=0.3), batch=100, grid=IMAGE)
    is_hidden = hidden_places(mask, IMAGE)[:, 0]
    is_shown = shown_places(mask, IMAGE)[:, 0]
    for hidden, shown in zip(is_hidden, is_shown, strict=True):
        rows, columns = shown.any(1).nonzero(), shown.any(0).nonzero()
        # But for its rim, the smallest box around the context is context or target.
        inside = slice(rows.min() + 1, rows.max()), slice(columns.min() + 1, columns.max())
        assert (hidden | shown)[inside].all()


def test_targets_and_context_reach_every_place(draw, hidden_places, shown_places):
    mask = draw(ImageMultiBlock(), batch=400, grid=IMAGE)
    assert hidden_places(mask, IMAGE).any(0).all()
    assert shown_places(mask, IMAGE).any(0).all()


def test_blocks_lie_inside_so_the_middle_is_asked_for_more_than_the_corners(draw, hidden_places):
    often = hidden_places(draw(ImageMultiBlock(), batch=1000, grid=IMAGE), IMAGE)[:, 0]
    often = often.float().mean(0)
    assert often[5:9, 5:9].mean() > 1.5 * often[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    torch.testing.assert_close(often, often.flip(0), rtol=0, atol=0.1)
    torch.testing.assert_close(often, often.flip(1), rtol=0, atol=0.1)
    torch.testing.assert_close(often, often.T, rtol=0, atol=0.15)  # 1.5 is more than 1 / 0.75


def test_a_clip_hides_the_same_places_at_every_time(draw, hidden_places):
    is_hidden = hidden_places(draw(ImageMultiBlock()))
    assert torch.equal(is_hidden, is_hidden[:, :1].expand_as(is_hidden))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_blocks": 0}, "num_blocks must be at least 1, got 0"),
        ({"target_fraction": 1.0}, r"target_fraction must be in \(0, 1\), got 1.0"),
        ({"context_fraction": 0.0}, r"context_fraction must be in \(0, 1\), got 0.0"),
        (
            {"target_fraction": 0.7, "context_fraction": 0.4},
            "target_fraction=0.7 and context_fraction=0.4 must not exceed 1 together; lower one",
        ),
        ({"aspect_ratio": (0.0, 1.0)}, r"aspect_ratio must be 0 < low <= high, got \(0.0, 1.0\)"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ImageMultiBlock(**options)


def test_images_of_one_place_are_refused(draw):
    with pytest.raises(ValueError, match=r"at least 2 places a frame, got grid \(1, 1, 1\)"):
        draw(ImageMultiBlock(), grid=(1, 1, 1))
