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


MEANINGS = {
    "frame": "base",
    "rotation": "extrinsic xyz Euler, radians",
    "gripper": "closedness, 0 open to 1 closed",
    "action_kind": "pose difference",
}


def test_what_poses_and_actions_mean_survives_the_way_through_json(specification):
    told = replace(specification, **MEANINGS)
    values = json.loads(json.dumps(told.to_json()))
    assert {key: values[key] for key in MEANINGS} == MEANINGS
    assert TrajectorySpecification.from_json(values) == told != specification


def test_an_index_written_before_there_were_meanings_loads_without_them(specification):
    old = {
        "state_names": ["clock", "constant"],
        "state_units": ["frames", "1"],
        "action_names": ["step"],
        "action_units": ["frames"],
        "action_low": [-100.0],
        "action_high": [100.0],
        "frames_per_second": 10.0,
    }
    loaded = TrajectorySpecification.from_json(old)
    assert loaded == specification
    assert (loaded.frame, loaded.rotation, loaded.gripper, loaded.action_kind) == ("", "", "", "")
    assert loaded.to_json() == old  # and a set without meanings is written as it always was


def test_a_meaning_that_is_unknown_or_no_string_is_refused(specification):
    values = specification.to_json()
    with pytest.raises(ValueError, match=r"not a trajectory specification: .*'colour'"):
        TrajectorySpecification.from_json({**values, "colour": "red"})
    with pytest.raises(ValueError, match="frame must be a string, got 3"):
        TrajectorySpecification.from_json({**values, "frame": 3})


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
