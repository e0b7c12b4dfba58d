from dataclasses import replace

import numpy as np
import pytest
import torch

from jepa.evaluation.report.predicted_neighbours import (
    nearest,
    neighbour_ranks,
    neighbour_section,
)
from jepa.evaluation.report.section import NotMeasured


def test_a_perfect_prediction_finds_the_frame_that_came_first(exact_imagination):
    ranks = neighbour_ranks(exact_imagination(lambda imagined: imagined.true))
    assert ranks.num_frames == 15
    assert (ranks.predicted == 1).all()
    # Times 0 1 2 3 4, of which 1 was seen last: itself, then 0 and 2 at one step share ranks 2 and
    # 3, then 3, then 4.
    assert ranks.current.tolist() == [[2.5, 4, 5]] * 3


def test_a_prediction_of_another_clip_ranks_behind_all_of_it(exact_imagination):
    ranks = neighbour_ranks(exact_imagination(lambda imagined: imagined.true.roll(1, 0)))
    # Clip 0 is asked for where clip 2 is: all 10 frames of the others are nearer.
    assert ranks.predicted[0].min() >= 11


def test_a_collapsed_model_gets_the_middle_rank_and_not_the_first(exact_imagination):
    imagined = exact_imagination(lambda imagined: imagined.true)
    zeros = {name: torch.zeros_like(getattr(imagined, name))
             for name in ("latents", "current", "predicted")}  # fmt: skip
    ranks = neighbour_ranks(replace(imagined, **zeros))
    assert (ranks.predicted == 8).all() and (ranks.current == 8).all()  # (15 + 1) / 2


def test_the_nearest_frames_come_nearest_first_as_clip_and_time(exact_imagination):
    imagined = exact_imagination(lambda imagined: imagined.true)
    query = torch.tensor([[100.0, 2.2]])
    assert nearest(imagined, query, 3).tolist() == [[1, 2], [1, 3], [1, 1]]


def test_the_gain_is_of_the_same_clips(exact_imagination):
    ranks = neighbour_ranks(exact_imagination(lambda i: i.true, num_times=12))
    assert ranks.top_share("predicted", 9).value == 1
    assert ranks.top_share("current", 9).value == 0  # ten steps on, nine frames are nearer
    assert tuple(ranks.gain(9)) == (1, 1, 1)


def test_the_section_judges_and_marks_what_was_found(exact_imagination):
    good = neighbour_section(exact_imagination(lambda i: i.true, num_times=12))
    assert good.findings[0].is_good and 'class="right"' in good.html
    assert good.numbers["steps"][9]["predicted_median_rank"] == 1
    bad = neighbour_section(exact_imagination(lambda i: i.true.roll(1, 0), num_times=12))
    assert not bad.findings[0].is_good


def test_latents_that_are_not_finite_are_said_so(exact_imagination):
    imagined = exact_imagination(lambda imagined: imagined.true * np.nan)
    with pytest.raises(NotMeasured, match="NaN or infinite"):
        neighbour_section(imagined)
