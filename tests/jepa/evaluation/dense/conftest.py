"""Clips of moving shapes with exact labels, for the tasks."""

import numpy as np
import pytest
import torch

from data_pipelines.dense_synthetic import make_dense_shapes

GRID = (16, 16)


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


@pytest.fixture(scope="session")
def knowing():
    """Returns features that are labels; see `Knows`."""
    return Knows


@pytest.fixture(scope="session")
def scores_of():
    """Returns the scores of measurements, without intervals."""
    return scores
