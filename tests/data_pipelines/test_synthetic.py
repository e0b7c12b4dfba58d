import numpy as np
import pytest

from data_pipelines.__main__ import main
from data_pipelines.decoders import decoder_class
from data_pipelines.manifest import scan_folder
from data_pipelines.shard_index import ShardIndex
from data_pipelines.synthetic import (
    DIRECTIONS,
    MOVING_SHAPE_SPECIFICATION,
    moving_shape,
    moving_shape_episodes,
    write_moving_shapes,
)
from data_pipelines.trajectories import refuse_bad_episode


def test_videos_are_real_balanced_and_labelled(tmp_path):
    paths = write_moving_shapes(tmp_path, num_videos=8, num_frames=6, size=32)
    manifest = scan_folder(tmp_path)
    assert len(paths) == len(manifest.rows) == 8
    assert sorted(row.label for row in manifest.rows) == sorted(list(DIRECTIONS) * 2)
    assert {row.metadata.num_frames for row in manifest.rows} == {6}


def test_the_same_seed_writes_the_same_videos(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_moving_shapes(tmp_path / name, num_videos=1, num_frames=4, size=32, seed=seed)
    first, same, other = (
        (tmp_path / name / "right/00000.mp4").read_bytes() for name in ("a", "b", "c")
    )
    assert first == same != other


def where_the_shape_is(frames):
    """Centre of the commonest colour, in parts of a frame whose sides are joined: (time, 2)."""
    colours, counts = np.unique(frames.reshape(-1, 3), axis=0, return_counts=True)
    is_shape = (frames == colours[counts.argmax()]).all(-1)  # (time, height, width)
    time, rows, columns = np.nonzero(is_shape)
    turns = np.exp(2j * np.pi * (np.stack([columns, rows], 1) + 0.5) / frames.shape[1])
    centres = [np.angle(turns[time == t].sum(0)) / (2 * np.pi) for t in range(len(frames))]
    return np.array(centres) % 1.0


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_shape_moves_the_way_its_label_says(direction):
    frames = moving_shape(np.random.default_rng(3), direction, num_frames=12, size=48)
    steps = (np.diff(where_the_shape_is(frames), axis=0) + 0.5) % 1.0 - 0.5  # (time - 1, 2)
    along = steps @ np.array(DIRECTIONS[direction])
    across = steps @ np.array(DIRECTIONS[direction])[::-1]
    assert (along > 0).all() and 0.02 < along.mean() < 0.05
    assert abs(across.mean()) < 0.002


def test_episodes_obey_their_actions_and_fit_their_specification():
    for episode in moving_shape_episodes(num_episodes=3, num_frames=10, size=32):
        refuse_bad_episode(episode, MOVING_SHAPE_SPECIFICATION)
        expected = np.clip(episode.states[:-1] + episode.actions, 0.2, 0.8)
        np.testing.assert_allclose(episode.states[1:], expected, atol=1e-6)


def test_synthesized_trajectories_can_be_split(tmp_path):
    shards, parts = tmp_path / "shards", tmp_path / "parts"
    words = ["synthesize", str(shards), "--trajectories", "4", "--frames", "4", "--size", "32"]
    assert main(words) == 0
    split = ["--parts", "train=0.75", "val=0.25"]
    assert main(["split", str(shards), "--out", str(parts), *split]) == 0
    assert ShardIndex.load(parts / "val").num_samples == 1


def test_the_shape_is_drawn_where_the_state_says():
    for episode in moving_shape_episodes(num_episodes=3, num_frames=10, size=64):
        np.testing.assert_allclose(where_the_shape_is(episode.frames), episode.states, atol=0.02)


def test_written_videos_decode(tmp_path):
    path = write_moving_shapes(tmp_path, num_videos=1, num_frames=4, size=32)[0]
    with decoder_class("pyav")(path.read_bytes(), "x") as video:
        assert video.frames_at([3]).pixels.std() > 5
