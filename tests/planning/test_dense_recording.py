"""Masks, depths and tracks of simulators agree with what is drawn and with the simulation."""

import numpy as np
import pytest

from data_pipelines.dense_labels import read_dense_clip
from planning.capabilities import LabelsPictures
from planning.dense_recording import follow_points, record_dense_labels
from planning.environments import make_environment
from planning.rendered_labels import RenderedLabels, View

SIZE = 40


def view():
    """Looks straight down from 4 metres; 1 metre at the floor is 10 pixels."""
    axes = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    return View(np.array([0.0, 0, 4]), axes, focal_length=40.0, image_size=SIZE)


def picture(left, occluder_left=None):
    """A square of 1 metre (body 1) at the floor, 4 metres away, and one (body 2) 2 metres above."""
    bodies, depth = np.zeros((SIZE, SIZE), dtype=np.int64), np.full((SIZE, SIZE), 4.0)
    column = round(20 + 10 * left)
    bodies[15:25, column : column + 10] = 1
    if occluder_left is not None:
        bodies[10:30, occluder_left : occluder_left + 12], depth[bodies == 2] = 2, 2.0
        depth[10:30, occluder_left : occluder_left + 12] = 2.0
    positions = np.array([[0, 0, 0], [left, 0, 0], [0, 0, 2]], dtype=float)
    rotations = np.broadcast_to(np.eye(3), (3, 3, 3)).copy()
    return RenderedLabels(bodies, depth, view(), positions, rotations)


def test_a_point_moves_with_its_body():
    labels = [picture(0.0), picture(0.5), picture(1.0)]
    tracks, seen = follow_points(labels, np.random.default_rng(0), 40)
    starts = np.array([labels[0].bodies[int(y), int(x)] for x, y in tracks[:, 0]])
    moves = tracks[:, 2] - tracks[:, 0]
    assert (starts == 1).sum() > 5 and (starts == 0).sum() > 5
    of_body = np.abs(moves[:, 0] - 10) < 1e-9
    assert (of_body | (np.abs(moves) < 1e-9).all(1)).all()
    np.testing.assert_array_equal(of_body[starts == 1], True)
    assert seen[of_body].all()


def test_what_is_before_a_point_hides_it():
    labels = [picture(0.0), picture(0.0, occluder_left=18)]
    tracks, seen = follow_points(labels, np.random.default_rng(0), 40)
    for track, is_seen in zip(tracks, seen, strict=True):
        x, y = track[1]
        is_behind = 18 <= x < 30 and 10 <= y < 30
        assert is_seen.tolist() == [True, not is_behind]
    assert 0 < seen[:, 1].sum() < 40


def test_the_back_of_a_turned_body_is_hidden():
    """Half a turn about the y axis: the face that was seen is on the other side, 1 metre lower."""
    front, back = picture(0.0), picture(0.0)
    back.body_positions[1] = [1.0, 0, -0.5]
    back.body_rotations[1] = np.diag([-1.0, 1, -1])
    front.body_positions[1] = [0.0, 0, -0.5]  # the middle of a box that is 1 metre high
    tracks, seen = follow_points([front, back], np.random.default_rng(0), 40)
    on_body = [front.bodies[int(y), int(x)] == 1 for x, y in tracks[:, 0]]
    assert any(on_body)
    assert not seen[on_body, 1].any()


@pytest.fixture(scope="module")
def point_maze():
    try:
        return make_environment("point_maze")
    except ImportError as error:
        pytest.skip(str(error))


def random_policy():
    return lambda environment, step, generator: environment.action_spec.sample(generator)


def constant_policy():
    return lambda environment, step, generator: np.array([1.0, 0.3], dtype=np.float32)


def test_a_maze_is_recorded_with_its_labels(point_maze, tmp_path):
    files = record_dense_labels(
        point_maze, constant_policy, tmp_path, num_clips=2, num_steps=4, seed=1, num_points=20
    )
    clips = [read_dense_clip(file) for file in files]
    for clip in clips:
        assert clip.frames.shape == (5, 64, 64, 3)
        ball = clip.class_names.index("particle")
        is_ball = clip.classes == ball
        assert is_ball.any((1, 2)).all() and is_ball.mean() < 0.05
        colours = clip.frames[is_ball].astype(int)
        assert (colours[:, 1] > colours[:, 0]).mean() > 0.9  # the ball is drawn green
        assert clip.depth[is_ball].mean() < clip.depth[clip.classes == 0].max()
        assert clip.is_visible.mean() > 0.5
    again = record_dense_labels(
        point_maze, constant_policy, tmp_path / "again", num_clips=1, num_steps=4, seed=1,
        num_points=20,
    )  # fmt: skip
    np.testing.assert_array_equal(read_dense_clip(again[0]).tracks, clips[0].tracks)


def test_points_of_the_ball_go_where_the_simulation_takes_it(point_maze, tmp_path):
    """The mean of its pixels moves as its points do (which are nearer to the camera: 4 % more)."""
    (file,) = record_dense_labels(
        point_maze, constant_policy, tmp_path, num_clips=1, num_steps=6, seed=3, num_points=60
    )
    clip = read_dense_clip(file)
    ball = clip.class_names.index("particle")
    middles = np.array([np.argwhere(ids == ball).mean(0)[::-1] for ids in clip.classes])
    moved = np.linalg.norm(middles[-1] - middles[0])
    starts = clip.query_frames
    pixels = clip.tracks[np.arange(60), starts].astype(int)
    of_ball = clip.classes[starts, pixels[:, 1], pixels[:, 0]] == ball
    assert of_ball.sum() > 10 and moved > 1
    motion = clip.tracks[of_ball, -1] - clip.tracks[of_ball, 0]
    np.testing.assert_allclose(motion.mean(0), middles[-1] - middles[0], atol=1.0)


def test_an_environment_without_labels_is_refused(tmp_path):
    plain = make_environment("two_rooms")
    assert not isinstance(plain, LabelsPictures)
    with pytest.raises(ValueError, match="two_rooms does not know what is where in its pictures"):
        record_dense_labels(plain, random_policy, tmp_path, num_clips=1, num_steps=1, seed=0)
    with pytest.raises(ValueError, match="must be at least 1, got 0, 1 and 32"):
        record_dense_labels(plain, random_policy, tmp_path, num_clips=0, num_steps=1, seed=0)


def test_a_robot_arm_is_recorded_with_its_labels(tmp_path):
    try:
        panda = make_environment("panda_push", image_size=64)
    except ImportError as error:
        pytest.skip(str(error))
    (file,) = record_dense_labels(
        panda, panda.make_expert, tmp_path, num_clips=1, num_steps=3, seed=0, num_points=30
    )
    clip = read_dense_clip(file)
    cube = clip.classes == clip.class_names.index("cube_main")
    colours = clip.frames[cube].astype(int)
    assert cube.any() and (colours[:, 0] > colours[:, 2] + 20).mean() > 0.7  # it is red
    arm = [name for name in np.unique(clip.classes) if "robot0" in clip.class_names[name]]
    assert len(arm) >= 3
    assert 0.2 < clip.depth[cube].mean() < 3.0
