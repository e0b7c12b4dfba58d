"""The tasks on generated clips: features that know the answer score near the top, others not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipelines.dense_labels import DenseClip
from data_pipelines.dense_synthetic import make_dense_shapes
from jepa.evaluation.dense.patches import PixelPatches
from jepa.evaluation.dense.tasks import (
    chosen_clips,
    depth,
    propagation,
    segmentation,
    tracking,
)

GRID = (16, 16)

OPTIONS = {"closed_form": {}, "trained": {"num_steps": 100}}


@pytest.fixture(scope="module")
def clips():
    return [
        make_dense_shapes(
            np.random.default_rng(seed), key=f"clip-{seed}", num_frames=4, size=32, num_points=8
        )
        for seed in range(6)
    ]


class Knows:
    """Features that are the labels of the clip whose frames are shown, at each patch."""

    def __init__(self, clips, describe):
        self.known = {clip.frames.tobytes(): describe(clip) for clip in clips}

    def __call__(self, frames):
        maps = torch.from_numpy(self.known[frames.tobytes()]).float()  # (time, height, width, dim)
        pooled = torch.nn.functional.adaptive_avg_pool2d(maps.permute(0, 3, 1, 2), GRID)
        return pooled.permute(0, 2, 3, 1)


def scores(measured):
    return {name: interval.value for name, interval in measured.intervals(num_resamples=20).items()}


@pytest.mark.parametrize("head", ["closed_form", "trained"])
def test_features_that_know_the_class_segment(clips, head):
    knows = Knows(clips, lambda clip: np.eye(4)[clip.classes])
    known = scores(segmentation(knows, clips[:4], clips[4:], head=head, **OPTIONS[head]))
    pixels = scores(
        segmentation(PixelPatches(GRID), clips[:4], clips[4:], head=head, **OPTIONS[head])
    )
    assert known["mean_iou"] > 0.7
    assert known["mean_iou"] > pixels["mean_iou"] + 0.2


@pytest.mark.parametrize("head", ["closed_form", "trained"])
def test_features_that_know_the_depth_give_it(clips, head):
    knows = Knows(clips, lambda clip: np.log(clip.depth)[..., None].repeat(2, -1))
    known = scores(depth(knows, clips[:4], clips[4:], head=head, **OPTIONS[head]))
    assert known["delta1"] > 0.85
    assert known["abs_rel"] < 0.1
    assert known["rmse"] < scores(depth(PixelPatches(GRID), clips[:4], clips[4:]))["rmse"]


def test_depths_without_a_unit_are_scored_up_to_a_factor(clips):
    knows = Knows(clips, lambda clip: np.log(clip.depth)[..., None].repeat(2, -1))
    in_metres = scores(depth(knows, clips[:4], clips[4:]))
    scaled = [replace(clip, depth=clip.depth * 7, depth_unit="relative") for clip in clips]
    relative = scores(depth(knows, scaled[:4], scaled[4:]))
    assert relative["delta1"] == pytest.approx(in_metres["delta1"], abs=0.05)


def object_features(clip):
    return np.eye(int(clip.object_ids.max()) + 1)[clip.object_ids] @ np.eye(4)[:4]


def test_features_that_know_the_object_carry_masks(clips):
    known = scores(propagation(Knows(clips, object_features), clips))
    still = scores(propagation(None, clips))
    assert known["J"] > 0.7 > still["J"]
    assert known["J&F"] == pytest.approx((known["J"] + known["F"]) / 2)
    assert known["F"] > still["F"] + 0.1


def test_masks_that_do_not_move_need_no_features(clips):
    """A video of one frame repeated: keeping the mask is exact."""
    frozen = replace(
        clips[0],
        frames=clips[0].frames[:1].repeat(4, 0),
        object_ids=clips[0].object_ids[:1].repeat(4, 0),
        depth=None,
        tracks=None,
        is_visible=None,
    )
    assert scores(propagation(None, [frozen])) == {"J&F": 1.0, "J": 1.0, "F": 1.0}


def test_every_object_counts_alike(clips):
    measured = propagation(None, clips)
    objects = np.concatenate(measured.values)
    assert scores(measured)["J"] == pytest.approx(objects[:, 0].mean())
    assert [len(rows) for rows in measured.values] == [
        len(np.unique(clip.object_ids[0])) - 1 for clip in clips
    ]


def test_pixels_follow_points_better_than_standing_still():
    """A textured picture slides 4 pixels a frame: patches of pixels are found again exactly."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    slides = PixelPatches((16, 16))
    slid = np.stack([picture[:, 4 * time : 4 * time + 64] for time in range(5)])
    x = np.array([[42.0 - 4 * time for time in range(5)]])
    tracks = np.stack([x, np.full_like(x, 30.0)], -1).astype(np.float32)
    clip = DenseClip("slides", slid, tracks=tracks, is_visible=np.ones((1, 5), dtype=bool))
    found = scores(tracking(slides, [clip]))
    assert found == {"delta_average": 1.0, "occlusion_accuracy": 1.0, "average_jaccard": 1.0}
    # 16, 32, 48 and 64 pixels of 256: none is below 16
    assert scores(tracking(None, [clip]))["delta_average"] == 0.0


def test_the_task_must_fit_the_labels(clips):
    bare = DenseClip("bare", clips[0].frames)
    for task, what in ((propagation, "masks"), (tracking, "tracks")):
        with pytest.raises(ValueError, match=f"bare has no {what}; choose another --task"):
            task(None, [bare])
    with pytest.raises(ValueError, match="bare has no classes"):
        segmentation(PixelPatches(GRID), [bare], [bare])
    with pytest.raises(ValueError, match="bare has no depths"):
        depth(PixelPatches(GRID), [bare], [bare])
    other = replace(clips[0], class_names=("background", "a", "b", "c"))
    with pytest.raises(ValueError, match="the clips to fit on have the classes"):
        segmentation(PixelPatches(GRID), clips, [other])


def test_too_short_or_empty_is_said(clips):
    with pytest.raises(ValueError, match="has 2 frames; propagation needs at least 3"):
        propagation(None, [DenseClip("s", clips[0].frames[:2], clips[0].object_ids[:2])])
    empty = DenseClip("e", clips[0].frames, np.zeros_like(clips[0].object_ids))
    with pytest.raises(ValueError, match="no clip has an object in its first frame"):
        propagation(None, [empty])
    with pytest.raises(ValueError, match="there are no clips"):
        segmentation(PixelPatches(GRID), [], [])


def test_chosen_clips_are_read_when_their_turn_comes():
    asked = []

    class Source:
        def clip(self, number):
            asked.append(number)
            return number

    chosen = chosen_clips(Source(), [4, 2])
    assert len(chosen) == 2 and asked == []
    assert [list(chosen), list(chosen)] == [[4, 2], [4, 2]]
