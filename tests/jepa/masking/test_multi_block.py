import pytest
import torch

from jepa.masking import MultiBlock


@pytest.mark.parametrize("sampler", [MultiBlock(), MultiBlock(num_blocks=2)])
def test_context_and_targets_cover_everything(draw, sampler):
    for context, targets in zip(*draw(sampler), strict=True):
        assert sorted([*context.tolist(), *targets.tolist()]) == list(range(4 * 6 * 8))


@pytest.mark.parametrize(("fraction", "hidden"), [(0.75, 36), (0.9, 43), (0.001, 1), (0.999, 47)])
def test_exactly_the_wanted_share_of_places_is_hidden(draw, fraction, hidden):
    mask = draw(MultiBlock(target_fraction=fraction))
    assert mask.target_ids.shape == (5, 4 * hidden)
    assert mask.context_ids.shape == (5, 4 * (48 - hidden))


def test_blocks_go_through_all_of_time_so_late_times_are_hidden_as_often(draw, hidden_places):
    is_hidden = hidden_places(draw(MultiBlock()))
    assert torch.equal(is_hidden, is_hidden[:, :1].expand_as(is_hidden))


def test_one_block_is_a_rectangle_up_to_ties(draw, hidden_places):
    is_hidden = hidden_places(draw(MultiBlock(num_blocks=1, target_fraction=0.25)))[:, 0]
    for clip in is_hidden:
        rows, columns = clip.any(1).nonzero(), clip.any(0).nonzero()
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert clip.sum() == 12
        assert box - 12 < max(len(rows), len(columns))  # less than one side is left open


def test_the_aspect_ratio_is_height_over_width(draw, hidden_places):
    sampler = MultiBlock(num_blocks=1, target_fraction=0.08, aspect_ratio=(4.0, 4.0))
    is_hidden = hidden_places(draw(sampler, batch=200, grid=(1, 40, 40)), (1, 40, 40))[:, 0]
    heights, widths = is_hidden.any(2).sum(1).float(), is_hidden.any(1).sum(1).float()
    inside = (~is_hidden[:, [0, -1]].any((1, 2))) & (~is_hidden[:, :, [0, -1]].any((1, 2)))
    assert (heights / widths)[inside].mean().item() == pytest.approx(4.0, rel=0.1)


def test_every_place_is_a_target_now_and_then(draw, hidden_places):
    sampler = MultiBlock(target_fraction=0.5)
    often = hidden_places(draw(sampler, batch=400))[:, 0].float().mean(0)
    assert often.min() > 0.2
    assert often.max() < 0.8


@pytest.mark.parametrize(
    ("fraction", "times"), [(0.01, 1), (0.4, 2), (0.5, 3), (0.9, 5), (0.99, 6), (1.0, 6)]
)
def test_blocks_go_through_the_wanted_share_of_time(draw, hidden_places, fraction, times):
    grid = (6, 4, 4)
    mask = draw(MultiBlock(target_fraction=0.5, temporal_fraction=fraction), grid=grid)
    assert mask.target_ids.shape == (5, times * 8)
    assert mask.context_ids.shape == (5, (6 - times) * 16 + times * 8)
    for context, targets in zip(*mask, strict=True):
        assert sorted([*context.tolist(), *targets.tolist()]) == list(range(6 * 16))
    is_hidden = hidden_places(mask, grid)
    hidden_times = is_hidden.flatten(2).any(2)  # (batch, time)
    assert hidden_times.sum(1).tolist() == [times] * 5
    for clip, used in zip(is_hidden, hidden_times, strict=True):
        assert (clip[used] == clip[used][0]).all()  # the same places at each of them


def test_blocks_in_time_are_windows_of_a_circle(draw, hidden_places):
    mask = draw(MultiBlock(temporal_fraction=0.5), batch=50, grid=(6, 4, 4))
    is_used = hidden_places(mask, (6, 4, 4)).flatten(2).any(2)
    borders = is_used != is_used.roll(1, dims=1)
    assert borders.sum(1).tolist() == [2] * 50  # one beginning, one end
    assert (is_used[:, 0] & is_used[:, -1]).any()


@pytest.mark.parametrize("fraction", [0.34, 0.5, 1.0])
def test_every_time_is_a_target_equally_often(draw, hidden_places, fraction):
    batch, grid = 6000, (6, 2, 4)
    sampler = MultiBlock(target_fraction=0.5, temporal_fraction=fraction)
    is_hidden = hidden_places(draw(sampler, batch=batch, grid=grid), grid)
    often = is_hidden.flatten(2).float().mean((0, 2))  # (time,)
    share = round(6 * fraction) / 6
    deviation = 0.5 * (share * (1 - share) / batch) ** 0.5
    torch.testing.assert_close(
        often, torch.full((6,), share / 2), rtol=0, atol=4.5 * deviation + 1e-6
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_blocks": 0}, "num_blocks must be at least 1, got 0"),
        ({"target_fraction": 1.0}, r"target_fraction must be in \(0, 1\), got 1.0"),
        ({"aspect_ratio": (2.0, 1.0)}, r"0 < low <= high, got \(2.0, 1.0\)"),
        ({"temporal_fraction": 0.0}, r"temporal_fraction must be in \(0, 1\], got 0.0"),
        ({"temporal_fraction": 1.5}, r"temporal_fraction must be in \(0, 1\], got 1.5"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MultiBlock(**options)


def test_frames_of_one_place_are_refused(draw):
    with pytest.raises(ValueError, match=r"at least 2 places a frame, got grid \(4, 1, 1\)"):
        draw(MultiBlock(), grid=(4, 1, 1))
