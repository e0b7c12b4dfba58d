"""Generated clips: masks, depths and tracks agree with the pictures and with one another."""

import numpy as np
import pytest

from data_pipelines.dense_labels import read_dense_clip
from data_pipelines.dense_synthetic import (
    CLASS_NAMES,
    WALL_DEPTHS,
    Shape,
    make_dense_shapes,
    write_dense_shapes,
)


@pytest.fixture(scope="module")
def clips():
    return [
        make_dense_shapes(
            np.random.default_rng(seed), num_frames=12, size=48, num_shapes=4, num_points=40
        )
        for seed in range(4)
    ]


def shape(kind=1):
    made = Shape.draw(np.random.default_rng(0))
    return Shape(**(vars(made) | {"kind": kind}))


@pytest.mark.parametrize("time", [0, 7, 40])
def test_places_of_a_shape_and_of_the_picture_are_inverse(time):
    places = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    there = shape().placed(places, time)
    np.testing.assert_allclose(shape().own(there, time), places, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "area"), [(1, np.pi), (2, 1.7**2), (3, 1.8**2 / np.sqrt(3))], ids=CLASS_NAMES[1:]
)
def test_outlines_have_the_area_of_their_class(kind, area):
    side = np.linspace(-2, 2, 801)
    covered = shape(kind).covers(np.stack(np.meshgrid(side, side), -1))
    assert covered.mean() * 16 == pytest.approx(area, rel=0.01)


def test_the_nearest_shape_is_what_is_seen(clips):
    """Where two shapes overlap, the depth is that of the one whose id is there: the smaller."""
    for clip in clips:
        for time in range(len(clip.frames)):
            nearest = {
                number: clip.depth[time][clip.object_ids[time] == number]
                for number in np.unique(clip.object_ids[time])
            }
            for number, depths in nearest.items():
                if number:  # a shape faces the camera: one depth
                    assert np.ptp(depths) == 0
                    assert depths[0] < WALL_DEPTHS[1]


def test_the_wall_is_a_plane(clips):
    clip = clips[0]
    wall = np.where(clip.object_ids[0] == 0, 1 / clip.depth[0], np.nan)
    rows = np.nanmean(wall, axis=1)
    assert np.nanmax(np.abs(wall - rows[:, None])) < 1e-6  # the same along a row
    middles = (np.arange(48) + 0.5) / 48
    expected = 1 / WALL_DEPTHS[0] + (1 / WALL_DEPTHS[1] - 1 / WALL_DEPTHS[0]) * middles
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_a_visible_point_stays_on_what_it_is_a_point_of(clips):
    """Where all pixels around a visible point are of one object, it is always the same."""
    checked = 0
    for clip in clips:
        for track, seen in zip(clip.tracks, clip.is_visible, strict=True):
            owners = set()
            for time in np.flatnonzero(seen):
                x, y = np.minimum(track[time].astype(int), 47)
                around = clip.object_ids[time, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                if len(np.unique(around)) == 1:  # not at an outline
                    owners.add(int(around[0, 0]))
                    checked += 1
            assert len(owners) <= 1
    assert checked > 200


def test_a_hidden_point_is_behind_another_object_or_outside(clips):
    hidden_inside = 0
    for clip in clips:
        for track, seen in zip(clip.tracks, clip.is_visible, strict=True):
            start = int(seen.argmax())
            x, y = np.clip(track[start].astype(int), 1, 46)
            around = clip.object_ids[start, y - 1 : y + 2, x - 1 : x + 2]
            owner = around[1, 1]
            if (around != owner).any():  # at an outline: its pixel may be of another
                continue
            for time in np.flatnonzero(~seen):
                x, y = np.floor(track[time]).astype(int)
                if 1 <= x < 47 and 1 <= y < 47:
                    around = clip.object_ids[time, y - 1 : y + 2, x - 1 : x + 2]
                    assert (around != owner).any()
                    hidden_inside += 1
    assert hidden_inside > 10


def test_the_colour_at_a_followed_point_hardly_changes(clips):
    """A point carries its texture with it: its colour changes less than that of its first place."""
    along, at_rest = [], []
    for clip in clips:
        for track, seen in zip(clip.tracks, clip.is_visible, strict=True):
            times = np.flatnonzero(seen)
            x, y = np.minimum(track[times].astype(int), 47).T
            colours = clip.frames[times, y, x].astype(float)
            stays = clip.frames[times, y[0], x[0]].astype(float)
            along.append(np.abs(colours - colours[0]).mean())
            at_rest.append(np.abs(stays - stays[0]).mean())
    assert np.mean(along) < 0.6 * np.mean(at_rest)


def test_what_moves_in_front_hides_points(clips):
    assert np.mean([clip.is_visible.mean() for clip in clips]) < 0.95
    assert all(clip.is_visible[:, :-1].any(1).all() for clip in clips)


def test_the_same_seed_writes_the_same_clips(tmp_path):
    settings = {"num_clips": 2, "num_frames": 3, "size": 16, "num_points": 4}
    first = write_dense_shapes(tmp_path / "a", **settings, seed=3)
    again = write_dense_shapes(tmp_path / "b", **settings, seed=3)
    other = write_dense_shapes(tmp_path / "c", **settings, seed=4)
    assert [path.name for path in first] == ["shapes-3-00000.npz", "shapes-3-00001.npz"]
    frames = [[read_dense_clip(path).frames for path in paths] for paths in (first, again, other)]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0][0], frames[0][1])


@pytest.mark.parametrize("setting", [{"num_frames": 1}, {"size": 8}, {"num_shapes": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="a clip needs num_frames >= 2"):
        make_dense_shapes(np.random.default_rng(0), **setting)


def test_no_clips_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_clips must be at least 1, got 0"):
        write_dense_shapes(tmp_path, num_clips=0)
