import json
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.trajectories import (
    ColumnStatistics,
    RowSample,
    RunningMoments,
    StatisticsOfEpisodes,
    TrajectorySpecification,
    differing_field,
    joined_names,
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


@pytest.mark.parametrize("sizes", [[103], [1] * 103, [7, 0, 40, 56], [64, 39]])
def test_a_sample_keeps_every_fourth_row_however_the_rows_come(sizes):
    sample = RowSample(max_rows=32)
    for part in np.split(np.arange(103.0)[:, None], np.cumsum(sizes)[:-1]):
        sample.add(part)
    assert sample.spacing == 4
    kept = np.concatenate(sample._kept)[:, 0].tolist()
    assert kept == list(range(0, 103, 4))
    assert sample.quantiles(0.5)[0].tolist() == [50.0]


def test_quantiles_are_exact_while_all_rows_are_kept_and_close_after():
    rows = np.random.default_rng(0).normal(size=(200_000, 2))
    few, many = RowSample(), RowSample()
    few.add(rows[:60_000])
    np.testing.assert_array_equal(
        few.quantiles(0.01, 0.99), np.quantile(rows[:60_000], [0.01, 0.99], axis=0)
    )
    for part in np.split(rows, 50):
        many.add(part)
    low = many.quantiles(0.01)[0]
    below = (rows < low).mean(0)
    assert (abs(below - 0.01) < 0.001).all()
    with pytest.raises(ValueError, match="no rows to take quantiles of"):
        RowSample().quantiles(0.5)
    with pytest.raises(ValueError, match="max_rows must be even and at least 2, got 3"):
        RowSample(max_rows=3)


def test_statistics_of_episodes_have_extremes_and_quantiles(specification, episode):
    statistics = StatisticsOfEpisodes(specification)
    for number in range(3):
        statistics.add(episode(number).states, episode(number).actions)
    result = statistics.result()
    assert (result.state_min, result.state_max) == ((0, 0), (19, 2))
    assert (result.action_min, result.action_max) == ((0.5,), (18.5,))
    times = np.tile(np.arange(20.0), 3)
    assert result.state_quantile_01[0] == pytest.approx(np.quantile(times, 0.01))
    assert result.state_quantile_99[0] == pytest.approx(np.quantile(times, 0.99))


def test_statistics_survive_the_way_through_json_with_and_without_extremes():
    old = ColumnStatistics((1.0, 2.0), (0.5, 0.25), (3.0,), (1.0,))
    new = replace(old, state_min=(0.0, 1.0), action_quantile_99=(4.0,))
    for statistics in (old, new, ColumnStatistics((), (), (3.0,), (1.0,))):
        values = json.loads(json.dumps(statistics.to_json()))
        assert ColumnStatistics.from_json(values) == statistics
    assert set(old.to_json()) == {"state_mean", "state_std", "action_mean", "action_std"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"median": [1.0]}, "no statistics of columns: .*'median'"),
        ({"action_min": [1.0, 2.0]}, "action columns are .* wide"),
        ({"action_min": 1.0}, "no statistics of columns"),
        ({"action_min": ["x"]}, "could not convert"),
    ],
)
def test_statistics_that_are_none_are_refused(change, message):
    values = ColumnStatistics((1.0,), (0.5,), (3.0,), (1.0,)).to_json()
    with pytest.raises(ValueError, match=message):
        ColumnStatistics.from_json({**values, **change})


def test_a_set_without_state_columns_has_statistics(specification):
    alone = replace(specification, state_names=(), state_units=())
    statistics = StatisticsOfEpisodes(alone)
    statistics.add(np.zeros((3, 0), np.float32), np.ones((2, 1), np.float32))
    assert statistics.result().state_mean == ()
    assert statistics.result().action_max == (1.0,)


def test_the_first_field_that_differs_is_named(specification):
    other = replace(specification, action_low=(-1.0,), action_high=(1.0,), frame="base")
    assert differing_field(specification, replace(specification)) is None
    assert differing_field(specification, other) == "action_low"
    bounds = ("action_low", "action_high")
    assert differing_field(other, specification, ignored=bounds) == "frame"
    assert differing_field(other, specification, ignored=[*bounds, "frame"]) is None


def test_joined_names_count_the_steps():
    assert joined_names(("x", "y"), 2) == ("x@0", "y@0", "x@1", "y@1")
    assert joined_names(("x", "y"), 1) == ("x", "y")


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
