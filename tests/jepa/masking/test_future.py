import pytest
import torch
from jsonargparse import ArgumentParser

from jepa.masking import Future, MaskSampler


def test_future_masks_show_the_beginning_and_ask_for_the_end(draw):
    mask = draw(Future(context_fraction=0.25), batch=2)
    assert mask.context_ids.tolist() == [list(range(48))] * 2
    assert mask.target_ids.tolist() == [list(range(48, 192))] * 2


@pytest.mark.parametrize(("fraction", "shown"), [(0.01, 1), (0.5, 2), (0.99, 3)])
def test_future_masks_always_show_and_ask_something(draw, fraction, shown):
    mask = draw(Future(context_fraction=fraction))
    assert mask.context_ids.shape[1] == shown * 48
    assert mask.target_ids.shape[1] == (4 - shown) * 48


@pytest.mark.parametrize(
    ("gap", "horizon", "asked"),
    [
        (0, None, [2, 3, 4, 5, 6, 7]),
        (0, 1, [2]),
        (0, 3, [2, 3, 4]),
        (2, None, [4, 5, 6, 7]),
        (2, 3, [4, 5, 6]),
        (4, 3, [6, 7]),  # the clip ends
    ],
)
def test_a_gap_is_left_out_and_the_horizon_is_how_far_is_asked(draw, gap, horizon, asked):
    sampler = Future(context_fraction=0.25, gap_tokens=gap, horizon_tokens=horizon)
    mask = draw(sampler, batch=2, grid=(8, 1, 1))
    assert mask.context_ids.tolist() == [[0, 1]] * 2
    assert mask.target_ids.tolist() == [asked] * 2


def test_less_is_shown_where_the_gap_would_leave_nothing_to_ask_for(draw):
    mask = draw(Future(context_fraction=0.99, gap_tokens=3), batch=1, grid=(8, 1, 1))
    assert mask.context_ids.tolist() == [[0, 1, 2, 3]]
    assert mask.target_ids.tolist() == [[7]]


def test_the_end_of_what_is_shown_is_drawn_uniformly_for_each_batch():
    generator = torch.Generator().manual_seed(0)
    sampler = Future(context_fraction=(0.25, 0.75))
    masks = [sampler.sample(3, (8, 1, 1), generator=generator) for _ in range(1500)]
    shown = torch.tensor([mask.context_ids.shape[1] for mask in masks])
    assert shown.unique().tolist() == [2, 3, 4, 5, 6]
    assert (shown.bincount()[2:] / 1500 - 0.2).abs().max() < 4 * (0.2 * 0.8 / 1500) ** 0.5
    for mask in masks[:20]:
        assert mask.target_ids[:, 0].tolist() == [mask.context_ids.shape[1]] * 3
        assert mask.target_ids[:, -1].tolist() == [7] * 3


def test_a_yaml_gives_a_range():
    parser = ArgumentParser()
    parser.add_argument("--mask", type=MaskSampler)
    config = parser.parse_string(
        "mask: {class_path: jepa.masking.Future, init_args: {context_fraction: [0.2, 0.6]}}"
    )
    assert parser.instantiate_classes(config)["mask"].context_fraction == (0.2, 0.6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context_fraction": 0.0}, r"context_fraction must be in \(0, 1\), got 0.0"),
        ({"context_fraction": (0.5, 1.0)}, r"context_fraction must be in \(0, 1\), got 1.0"),
        ({"context_fraction": (0.6, 0.5)}, r"context_fraction must be low <= high, got \(0.6"),
        ({"gap_tokens": -1}, "gap_tokens must be at least 0, got -1"),
        ({"horizon_tokens": 0}, "horizon_tokens must be at least 1, or null, got 0"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Future(**options)


def test_clips_too_short_for_something_shown_the_gap_and_something_asked_are_refused(draw):
    with pytest.raises(ValueError, match="at least 2 tokens in time, got 1"):
        draw(Future(), grid=(1, 4, 4))
    with pytest.raises(ValueError, match="at least 5 tokens in time with gap_tokens=3, got 4"):
        draw(Future(gap_tokens=3))
