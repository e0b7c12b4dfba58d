"""The T by hand: what a push does to it, and how far places and ways are from it."""

import numpy as np
import pytest

from planning.experts import tee
from planning.experts.tee import Contacts


def contact_at(point):
    return int(np.abs(Contacts().points - np.array(point)).sum(1).argmin())


def test_a_push_through_the_centre_of_mass_does_not_turn_the_t():
    contacts = Contacts(spacing=57.0)  # 57 left, the middle, and 57 right of the top edge
    middle = int(np.abs(contacts.points - np.array([0.0, -45.0])).sum(1).argmin())
    np.testing.assert_allclose(contacts.twists[middle], [0.0, 1.0, 0.0], atol=1e-12)


def test_a_push_beside_the_centre_turns_it_by_lever_over_squared_radius_of_gyration():
    contacts = Contacts()
    right = contact_at((57, -45))  # downwards, 57 pixels right of the centre: clockwise on screen
    turn = 57 / tee.RADIUS_OF_GYRATION_SQUARED * tee.ANGLE_PIXELS
    np.testing.assert_allclose(contacts.twists[right], [0.0, 1.0, turn])
    left = contact_at((-57, -45))
    np.testing.assert_allclose(contacts.twists[left], [0.0, 1.0, -turn])


def test_a_push_at_the_end_of_the_stem_turns_it_most():
    contacts = Contacts()
    end = contact_at((15, 72))  # to the left, 72 pixels below the centre
    turn = 72 / tee.RADIUS_OF_GYRATION_SQUARED * tee.ANGLE_PIXELS
    np.testing.assert_allclose(contacts.twists[end], [-1.0, 0.0, turn])
    assert np.abs(contacts.twists[:, 2]).max() == pytest.approx(turn)


def test_pushes_of_all_contacts_together_reach_every_direction():
    """No linear function of (x, y, turn) has the same sign on all twists: they surround 0."""
    generator = np.random.default_rng(0)
    for direction in generator.normal(size=(200, 3)):
        along = Contacts().twists @ direction
        assert along.min() < 0 < along.max()


def test_contacts_lie_on_the_outline_and_the_disc_fits_there():
    contacts = Contacts()
    np.testing.assert_allclose(tee.distance(contacts.points), 0.0, atol=1e-9)
    touching = contacts.points - tee.DISC_RADIUS * contacts.normals
    np.testing.assert_allclose(tee.distance(touching), tee.DISC_RADIUS, atol=1e-9)
    away = tee.distance(contacts.starts)
    assert away.max() == pytest.approx(tee.STANDOFF)
    assert away.min() > tee.CLEARANCE  # in the inner corners the stem is nearer than the bar


@pytest.mark.parametrize(
    ("point", "expected"),
    [((0, 0), 0), ((0, -60), 15), ((0, 85), 10), ((63, -49), 5), ((45, 5), 20), ((18, -5), 3)],
)
def test_distance_to_the_t(point, expected):
    assert tee.distance(np.array(point, dtype=float)) == pytest.approx(expected)


def test_a_way_through_the_t_is_infinite_and_one_beside_it_is_its_length():
    above, below = np.array([0.0, -100.0]), np.array([0.0, 120.0])
    assert tee.lengths(above, below) == np.inf
    beside = np.array([90.0, -100.0]), np.array([90.0, 120.0])
    assert tee.lengths(*beside) == pytest.approx(220.0)


def test_ways_around_corners_are_symmetric_and_join_all_corners():
    np.testing.assert_allclose(tee.BETWEEN_CORNERS, tee.BETWEEN_CORNERS.T)
    assert np.isfinite(tee.BETWEEN_CORNERS).all()
    straight = np.linalg.norm(tee.CORNERS[:, None] - tee.CORNERS[None], axis=-1)
    assert (tee.BETWEEN_CORNERS >= straight - 1e-9).all()
    # From above the bar to below it there is no straight way: over the corner beside it.
    assert tee.BETWEEN_CORNERS[0, 3] == pytest.approx(straight[0, 3])
    assert tee.BETWEEN_CORNERS[0, 5] > straight[0, 5]


def test_every_contact_can_be_walked_to_from_a_corner():
    assert np.isfinite(Contacts().from_corners).all()
