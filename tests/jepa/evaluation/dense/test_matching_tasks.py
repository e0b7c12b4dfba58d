"""Tests of propagation and tracking: features that know the answer give it, others less."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.dense_labels import DenseClip
from jepa.evaluation.dense.matching_tasks import propagation, tracking
from jepa.evaluation.dense.patches import PixelPatches


def object_features(clip):
    return np.eye(int(clip.object_ids.max()) + 1)[clip.object_ids] @ np.eye(4)[:4]


def test_features_that_know_the_object_carry_masks(clips, knowing, scores_of):
    known = scores_of(propagation(knowing(clips, object_features), clips))
    still = scores_of(propagation(None, clips))
    assert known["J"] > 0.7 > still["J"]
    assert known["J&F"] == pytest.approx((known["J"] + known["F"]) / 2)
    assert known["F"] > still["F"] + 0.1


def test_masks_that_do_not_move_need_no_features(clips, scores_of):
    """A video of one frame repeated: keeping the mask is exact."""
    frozen = replace(
        clips[0],
        frames=clips[0].frames[:1].repeat(4, 0),
        object_ids=clips[0].object_ids[:1].repeat(4, 0),
        depth=None,
        tracks=None,
        is_visible=None,
    )
    assert scores_of(propagation(None, [frozen])) == {"J&F": 1.0, "J": 1.0, "F": 1.0}


def test_every_object_counts_alike(clips, scores_of):
    measured = propagation(None, clips)
    objects = np.concatenate(measured.values)
    assert scores_of(measured)["J"] == pytest.approx(objects[:, 0].mean())
    assert [len(rows) for rows in measured.values] == [
        len(np.unique(clip.object_ids[0])) - 1 for clip in clips
    ]


def test_pixels_follow_points_better_than_standing_still(scores_of):
    """A textured picture slides 4 pixels a frame: patches of pixels are found again exactly."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    slides = PixelPatches((16, 16))
    slid = np.stack([picture[:, 4 * time : 4 * time + 64] for time in range(5)])
    x = np.array([[42.0 - 4 * time for time in range(5)]])
    tracks = np.stack([x, np.full_like(x, 30.0)], -1).astype(np.float32)
    clip = DenseClip("slides", slid, tracks=tracks, is_visible=np.ones((1, 5), dtype=bool))
    found = scores_of(tracking(slides, [clip]))
    assert found == {"delta_average": 1.0, "occlusion_accuracy": 1.0, "average_jaccard": 1.0}
    # 16, 32, 48 and 64 pixels of 256: none is below 16
    assert scores_of(tracking(None, [clip]))["delta_average"] == 0.0


@pytest.mark.parametrize(("task", "what"), [(propagation, "masks"), (tracking, "tracks")])
def test_the_task_must_fit_the_labels(clips, task, what):
    bare = DenseClip("bare", clips[0].frames)
    with pytest.raises(ValueError, match=f"bare has no {what}; choose another --task"):
        task(None, [bare])


def test_too_short_or_empty_is_said(clips):
    with pytest.raises(ValueError, match="has 2 frames; propagation needs at least 3"):
        propagation(None, [DenseClip("s", clips[0].frames[:2], clips[0].object_ids[:2])])
    empty = DenseClip("e", clips[0].frames, np.zeros_like(clips[0].object_ids))
    with pytest.raises(ValueError, match="no clip has an object in its first frame"):
        propagation(None, [empty])
