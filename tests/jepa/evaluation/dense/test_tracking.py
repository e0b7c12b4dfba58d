"""Point tracking: exact on features that say where they came from."""

import pytest
import torch

from jepa.evaluation.dense.tracking import TrackingSettings, features_at, track_points

SIZE = (24, 48)  # of 6 rows and 12 columns of patches: 4 pixels each
EXACT = TrackingSettings(temperature=1e-4)


def shifted(steps, rows=6, columns=12):
    """One-hot features that move a column (4 pixels) to the right with each step, all around."""
    first = torch.eye(rows * columns).reshape(rows, columns, -1)
    return torch.stack([first.roll(step, dims=1) for step in steps])


def followed(features, queries, starts=None, settings=EXACT):
    queries = torch.tensor(queries)
    starts = torch.zeros(len(queries), dtype=torch.int64) if starts is None else starts
    return track_points(features, queries, starts, size=SIZE, settings=settings)


def test_points_at_the_middle_of_patches_are_followed_exactly():
    queries = [[2.0, 2.0], [10.0, 18.0]]
    found = followed(shifted(range(5)), queries)
    for point, (x, y) in enumerate(queries):
        expected = torch.tensor([[x + 4 * time, y] for time in range(5)])
        torch.testing.assert_close(found.places[point], expected)
    assert found.is_visible.all()


def test_a_point_between_patches_is_found_between_patches():
    """A quarter of the way to the next column: both are alike by 3 : 1, and so is their mean."""
    found = followed(shifted((0, 3)), [[7.0, 10.0]], settings=TrackingSettings(temperature=0.3))
    assert 18.0 < found.places[0, 1, 0] < 20.0  # between 18, the nearest middle, and 20
    assert found.places[0, 1, 1] == pytest.approx(10.0, abs=1e-3)


def test_a_point_asked_for_in_a_later_frame_is_found_before_and_after():
    found = followed(shifted(range(4)), [[18.0, 6.0]], torch.tensor([2]))
    assert found.places[0, :, 0].tolist() == pytest.approx([10.0, 14.0, 18.0, 22.0])


def test_in_its_query_frame_a_point_is_where_it_was_asked_for():
    found = followed(torch.randn(3, 6, 12, 5), [[7.3, 9.1]])
    assert found.places[0, 0].tolist() == pytest.approx([7.3, 9.1])
    assert found.is_visible[0, 0]


def test_a_hidden_point_is_told_by_going_back():
    """Its patch gets the feature of a far one: the match goes back there, not to the query."""
    features = shifted((0, 0, 0))
    features[1, 4, 6] = features[0, 5, 11]
    found = followed(features, [[26.0, 18.0], [42.0, 10.0]])
    assert found.is_visible.tolist() == [[True, False, True], [True, True, True]]


def test_features_are_read_bilinearly():
    features = torch.zeros(1, 2, 2, 4)
    features[0].view(4, 4).copy_(torch.eye(4))
    middle = features_at(features, torch.tensor([[4.0, 4.0]]), (8, 8))
    torch.testing.assert_close(middle, torch.full((1, 4), 0.5))  # four alike, of length 1
    corner = features_at(features, torch.tensor([[0.0, 0.0]]), (8, 8))
    torch.testing.assert_close(corner, torch.eye(4)[:1])


@pytest.mark.parametrize("place", [[48.1, 3.0], [-0.1, 3.0], [3.0, 24.5]])
def test_a_query_outside_of_the_picture_is_refused(place):
    with pytest.raises(ValueError, match=r"query 1, .* is not in a video of 2 frames of 48 x 24"):
        followed(shifted((0, 1)), [[3.0, 3.0], place])


def test_a_query_after_the_end_is_refused():
    with pytest.raises(ValueError, match="in frame 2, is not in a video of 2 frames"):
        followed(shifted((0, 1)), [[3.0, 3.0]], torch.tensor([2]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"temperature": -1.0}, "temperature must be above 0"), ({"radius": -1.0}, "at least 0")],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        TrackingSettings(**setting)
