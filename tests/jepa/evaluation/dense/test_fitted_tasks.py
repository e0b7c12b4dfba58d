"""Tests of segmentation and depth: features that know the answer give it, others less."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.dense_labels import DenseClip
from jepa.evaluation.dense.fitted_tasks import depth, segmentation
from jepa.evaluation.dense.patches import PixelPatches

GRID = (16, 16)
OPTIONS = {"closed_form": {}, "trained": {"num_steps": 100}}


@pytest.mark.parametrize("head", ["closed_form", "trained"])
def test_features_that_know_the_class_segment(clips, head, knowing, scores_of):
    knows = knowing(clips, lambda clip: np.eye(4)[clip.classes])
    known = scores_of(segmentation(knows, clips[:4], clips[4:], head=head, **OPTIONS[head]))
    pixels = scores_of(
        segmentation(PixelPatches(GRID), clips[:4], clips[4:], head=head, **OPTIONS[head])
    )
    assert known["mean_iou"] > 0.7
    assert known["mean_iou"] > pixels["mean_iou"] + 0.2


@pytest.mark.parametrize("head", ["closed_form", "trained"])
def test_features_that_know_the_depth_give_it(clips, head, knowing, scores_of):
    knows = knowing(clips, lambda clip: np.log(clip.depth)[..., None].repeat(2, -1))
    known = scores_of(depth(knows, clips[:4], clips[4:], head=head, **OPTIONS[head]))
    assert known["delta1"] > 0.85
    assert known["abs_rel"] < 0.1
    assert known["rmse"] < scores_of(depth(PixelPatches(GRID), clips[:4], clips[4:]))["rmse"]


def test_depths_without_a_unit_are_scored_up_to_a_factor(clips, knowing, scores_of):
    knows = knowing(clips, lambda clip: np.log(clip.depth)[..., None].repeat(2, -1))
    in_metres = scores_of(depth(knows, clips[:4], clips[4:]))
    scaled = [replace(clip, depth=clip.depth * 7, depth_unit="relative") for clip in clips]
    relative = scores_of(depth(knows, scaled[:4], scaled[4:]))
    assert relative["delta1"] == pytest.approx(in_metres["delta1"], abs=0.05)


def test_the_task_must_fit_the_labels(clips):
    bare = DenseClip("bare", clips[0].frames)
    with pytest.raises(ValueError, match="bare has no classes; choose another --task"):
        segmentation(PixelPatches(GRID), [bare], [bare])
    with pytest.raises(ValueError, match="bare has no depths"):
        depth(PixelPatches(GRID), [bare], [bare])
    other = replace(clips[0], class_names=("background", "a", "b", "c"))
    with pytest.raises(ValueError, match="the clips to fit on have the classes"):
        segmentation(PixelPatches(GRID), clips, [other])
    with pytest.raises(ValueError, match="there are no clips"):
        segmentation(PixelPatches(GRID), [], [])
