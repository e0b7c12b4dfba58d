"""From folders to verdicts, with a surprise that knows the answer and one that knows nothing."""

import importlib

import pytest
import torch

from jepa.evaluation.surprise.measuring import (
    DIFFERENCE,
    EXTRAPOLATION,
    TRAINED,
    UNTRAINED,
    measure_folder,
    measure_video,
    sources_of,
)
from jepa.evaluation.surprise.windows import WindowPlan

PLAN = WindowPlan(length_frames=8, stride_frames=4, contexts_frames=(2, 4))
READING = importlib.import_module("data_pipelines.physics_videos.reading")


class Constant:
    """Is never surprised more than otherwise."""

    def surprise(self, clips, contexts_frames):
        values = torch.ones(len(contexts_frames), len(clips), clips.shape[2])
        for row, context in zip(values, contexts_frames, strict=True):
            row[:, :context] = torch.nan
        return values


class KnowsTheAnswer(Constant):
    """Is surprised by the windows that no possible video has, and which it was shown."""

    def __init__(self, impossible):
        self.impossible = impossible

    def surprise(self, clips, contexts_frames):
        values = super().surprise(clips, contexts_frames)
        for number, clip in enumerate(clips):
            if clip.numpy().tobytes() in self.impossible:
                values[:, number] *= 2
        return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    writing = importlib.import_module("data_pipelines.physics_videos.writing")
    writing.write_matched_videos(
        path, num_pairs=2, num_frames=16, size=32, concepts=("permanence", "collision")
    )
    return path


def windows_of_impossible_videos_only(folder):
    """Halves of impossible videos are those of possible ones: windows across the cut are left."""
    windows = {True: set(), False: set()}
    for row in READING.open_physics_folder(folder).content.videos:
        video = READING.read_video(row, image_size=32)
        for start in PLAN.starts(16):
            windows[row.is_possible].add(video[:, start : start + 8].numpy().tobytes())
    return windows[False] - windows[True]


def test_a_surprise_that_knows_gives_one_and_one_that_does_not_one_half(folder):
    sources = {
        "knows": KnowsTheAnswer(windows_of_impossible_videos_only(folder)),
        "constant": Constant(),
    }
    measured = measure_folder(folder, sources, plan=PLAN, image_size=32)
    assert len(measured.pairs) == 4
    for source, value in (("knows", 1.0), ("constant", 0.5)):
        for verdict in measured.verdicts(source, num_resamples=20).values():
            assert verdict.relative_accuracy == (value, value, value)
            assert verdict.auroc == (value, value, value)


def test_curves_of_a_pair_are_equal_until_a_window_sees_the_violation(folder, tiny_model):
    measured = measure_folder(folder, sources_of(tiny_model, seed=1), plan=PLAN, image_size=32)
    for pair in measured.pairs:
        possible, impossible = (
            kind[DIFFERENCE].curve() for kind in (pair.possible, pair.impossible)
        )
        moment = pair.violation_frame
        assert (possible[2:moment] == impossible[2:moment]).all()
        assert possible[moment] != impossible[moment]
        assert set(pair.possible) == {TRAINED, UNTRAINED, DIFFERENCE, EXTRAPOLATION}


def test_windows_are_cut_where_they_should_be():
    video = torch.arange(16, dtype=torch.uint8).view(1, 16, 1, 1).expand(3, -1, 2, 2)

    class Recorder(Constant):
        seen: list = []  # noqa: RUF012

        def surprise(self, clips, contexts_frames):
            self.seen += clips[:, 0, :, 0, 0].tolist()
            return super().surprise(clips, contexts_frames)

    surprise = measure_video(video, {"r": Recorder()}, plan=PLAN)["r"]
    assert Recorder.seen == [list(range(start, start + 8)) for start in (0, 4, 8)]
    assert surprise.values.shape == (2, 3, 8)
    assert surprise.num_frames == 16


def test_a_frame_step_moves_the_violation_and_a_short_video_is_named(folder):
    plan = WindowPlan(length_frames=8, contexts_frames=(2,))
    all_frames = measure_folder(folder, {"c": Constant()}, plan=plan, image_size=16)
    every_second = measure_folder(folder, {"c": Constant()}, plan=plan, image_size=16, frame_step=2)
    for pair, other in zip(all_frames.pairs, every_second.pairs, strict=True):
        assert other.violation_frame == (pair.violation_frame + 1) // 2
    with pytest.raises(ValueError, match=r"mp4: the video has 4 frames, a window 8"):
        measure_folder(folder, {"c": Constant()}, plan=plan, image_size=16, frame_step=4)
