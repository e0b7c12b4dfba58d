import json
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.trajectories import (
    RunningMoments,
    TrajectorySpecification,
    refuse_bad_episode,
)


def test_a_specification_survives_the_way_through_json(specification):
    text = json.dumps(specification.to_json())
    assert TrajectorySpecification.from_json(json.loads(text)) == specification


def test_a_specification_that_does_not_fit_together_is_refused(specification):
    with pytest.raises(ValueError, match="1 state_units for 2 state_names"):
        replace(specification, state_units=("m",))
    with pytest.raises(ValueError, match="2 action_low for 1 action_names"):
        replace(specification, action_low=(0.0, 0.0))
    with pytest.raises(ValueError, match="action_low must be below action_high"):
        replace(specification, action_low=(float("nan"),))
    with pytest.raises(ValueError, match="not a trajectory specification"):
        TrajectorySpecification.from_json({"state_names": ["x"]})


def test_moments_in_pieces_are_the_moments_of_the_whole():
    rows = np.random.default_rng(0).normal(1000, 3, (500, 4)).astype(np.float32)
    moments = RunningMoments(4)
    for part in np.split(rows, [1, 1, 77, 400]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, rows.astype(np.float64).mean(0))
    np.testing.assert_allclose(moments.std, rows.astype(np.float64).std(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": np.zeros((19, 2), np.float32)}, r"states must be \(20, 2\), got \(19, 2\)"),
        ({"actions": np.zeros((20, 1), np.float32)}, r"actions must be \(19, 1\), got \(20, 1\)"),
        ({"states": np.zeros((20, 2))}, "states must be float32, got float64"),
        ({"states": np.full((20, 2), np.nan, np.float32)}, "states has values that are not finite"),
        ({"actions": np.full((19, 1), 101, np.float32)}, r"actions\[0\] has step=101, allowed is"),
        ({"frames_per_second": 5.0}, "5 frames per second, the specification says 10"),
        ({"frames": np.zeros((20, 3, 8, 8), np.uint8)}, r"frames must be .*, got \(20, 3, 8, 8\)"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(episode, specification, change, message):
    with pytest.raises(ValueError, match=f"episode 'episode00': {message}"):
        refuse_bad_episode(replace(episode(0), **change), specification)
