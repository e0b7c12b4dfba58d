from pathlib import Path

import numpy as np
import pytest

from jepa.evaluation.report.section import NotMeasured
from jepa.evaluation.report.surprise import shown_surprise, surprise_section, window_plan
from jepa.evaluation.surprise.measuring import TRAINED, MeasuredFolder, MeasuredPair
from jepa.evaluation.surprise.windows import VideoSurprise


def pair(number, gap):
    """A pair whose impossible video is more surprising by `gap` at its end."""

    def surprise(level):
        values = np.ones((1, 4, 3))  # (contexts, windows, frames of a window)
        values[0, -1, -1] += level
        return VideoSurprise(values, np.arange(4), 6)

    by_source = ({TRAINED: surprise(level)} for level in (0.01 * number, gap + 0.01 * number))
    return MeasuredPair("<gravity>", "up", f"set{number}", f"pair{number}", 3, *by_source)


def folder(gap):
    return MeasuredFolder("ours", 1, tuple(pair(number, gap) for number in range(8)), ())


def test_a_model_that_is_surprised_in_every_pair_is_good():
    section = shown_surprise(folder(1.0))
    assert section.findings[0].is_good and "100 % [100, 100] of 8 pairs" in section.findings[0].text
    assert "&lt;gravity&gt;" in section.html and section.html.count("<picture>") == 1
    assert section.numbers[TRAINED]["all"]["relative_accuracy"] == [1, 1, 1]


def test_a_model_that_is_surprised_by_the_possible_is_not():
    assert not shown_surprise(folder(-1.0)).findings[0].is_good


def test_windows_are_whole_tubelets(predictor_subject):
    plan = window_plan(predictor_subject)
    assert plan.length_frames == 4 and plan.contexts_frames == (2,)


def test_without_videos_or_a_predictor_there_is_no_surprise(predictor_subject, world_subject):
    with pytest.raises(NotMeasured, match="--physics FOLDER"):
        surprise_section(predictor_subject, None)
    with pytest.raises(NotMeasured, match="masked predictor"):
        surprise_section(world_subject, Path("pairs"))
