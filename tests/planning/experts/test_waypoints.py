"""Ways round obstacles, on maps small enough to know the way."""

import math

import numpy as np
import pytest

from planning.experts.waypoints import WaypointMap


def everywhere(points):
    return np.ones(len(points), dtype=bool)


def beside_a_wall(points):
    """A wall along x = 0 up to y = 2, on a floor of 8 x 8."""
    x, y = points.T
    return (np.abs(points) <= 4).all(axis=-1) & ((np.abs(x) > 0.25) | (y > 2))


def room_in_a_room(points):
    """The middle is walled in."""
    distance = np.abs(points).max(axis=-1)
    return (distance < 1) | (distance > 2)


def walk(ways, start, goal, step=0.2):
    """Follows the waypoints in small steps; returns the places."""
    places, goal = [np.array(start, dtype=float)], np.array(goal, dtype=float)
    while np.linalg.norm(places[-1] - goal) > 1e-9 and len(places) < 300:
        offset = ways.next_waypoint(places[-1], goal) - places[-1]
        length = np.linalg.norm(offset)
        places.append(places[-1] + offset * min(1.0, step / max(length, 1e-9)))
    return np.array(places)


def test_what_can_be_seen_is_walked_to_straight():
    ways = WaypointMap(everywhere, -4, 4, 0.5)
    goal = np.array([3.1, -2.7])
    assert np.array_equal(ways.next_waypoint(np.array([-3.3, 1.2]), goal), goal)


def test_a_way_round_a_wall_touches_no_wall_and_is_nearly_the_shortest():
    ways = WaypointMap(beside_a_wall, -4, 4, 0.25)
    places = walk(ways, (-3, -2), (3, -2))
    assert np.allclose(places[-1], (3, -2))
    assert beside_a_wall(places).all()
    length = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
    shortest = 2 * math.hypot(3 - 0.25, 4) + 0.5  # over both corners of the wall's end
    assert shortest <= length < 1.06 * shortest


def test_a_wall_hides_what_is_behind_it():
    ways = WaypointMap(beside_a_wall, -4, 4, 0.25)
    assert not ways.is_visible(np.array([-1.0, 0.0]), np.array([1.0, 0.0]))
    assert ways.is_visible(np.array([-1.0, 3.0]), np.array([1.0, 3.0]))


def test_the_length_of_a_way_is_that_over_the_grid():
    ways = WaypointMap(everywhere, 0, 4, 1.0)
    assert ways.length(np.array([0, 0]), np.array([3, 0])) == pytest.approx(3)
    assert ways.length(np.array([0, 0]), np.array([3, 1])) == pytest.approx(2 + math.sqrt(2))


def test_no_way_is_infinitely_long_and_the_walker_stays():
    ways = WaypointMap(room_in_a_room, -4, 4, 0.5)
    inside, outside = np.array([0.0, 0.0]), np.array([3.0, 3.0])
    assert ways.length(inside, outside) == math.inf
    assert np.array_equal(ways.next_waypoint(inside, outside), inside)


def test_no_way_leads_between_two_obstacles_that_touch():
    ways = WaypointMap(lambda points: points[:, 0] == points[:, 1], 0, 2, 1.0)
    assert ways.length(np.array([0, 0]), np.array([1, 1])) == math.inf


def test_a_goal_too_near_to_a_wall_for_the_map_is_still_walked_to():
    def with_clearance(points):
        x, y = points.T
        return (np.abs(x) > 0.75) | (y > 2.5)

    ways = WaypointMap(with_clearance, -4, 4, 0.25)
    places = walk(ways, (-3, -2), (0.5, -2))  # nearer to the wall than the clearance
    assert np.allclose(places[-1], (0.5, -2))
    assert beside_a_wall(places).all()


def test_a_new_goal_is_a_new_way():
    ways = WaypointMap(beside_a_wall, -4, 4, 0.25)
    start = np.array([-3.0, -2.0])
    assert ways.length(start, np.array([3.0, -2.0])) > 8
    assert ways.length(start, np.array([-3.0, 2.0])) == pytest.approx(4)
    assert ways.length(start, np.array([3.0, -2.0])) > 8
