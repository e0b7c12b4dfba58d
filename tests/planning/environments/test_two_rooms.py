"""The geometry of the two rooms: the wall, the door, the way through it, and the picture."""

import numpy as np
import pytest

from planning.environments.two_rooms import AGENT, TwoRooms


@pytest.fixture
def rooms():
    return TwoRooms()


def free_pairs(rooms, count, seed=0):
    generator = np.random.default_rng(seed)
    return [
        (rooms.sample_position(generator), rooms.sample_position(generator)) for _ in range(count)
    ]


def play(rooms, choose_action, start, goal):
    """Plays one episode; returns its last step and the number of steps."""
    step = rooms.reset(np.random.default_rng(0), start=start, goal=goal)
    num_steps = 0
    while not step.is_last:
        step = rooms.step(choose_action(step.state.astype(np.float64), goal))
        num_steps += 1
    return step, num_steps


def below_the_door(rooms, x, y_share=0.8):
    return np.array([x, y_share * rooms.image_size])


def door_y(rooms):
    return rooms.door_center * rooms.image_size


# Wall and door.


@pytest.mark.parametrize(("x", "push"), [(20.0, 5.0), (44.0, -5.0)])
def test_the_wall_blocks(rooms, x, push):
    start = below_the_door(rooms, x)
    position = start
    for _ in range(20):
        position = rooms.move(position, np.array([push, 0.0]))
    assert rooms.room(position) == rooms.room(start)
    wall_side = 30.0 if push > 0 else 34.0
    assert abs(position[0] - wall_side) == pytest.approx(rooms.agent_radius, abs=1.0)
    assert position[1] == start[1]


@pytest.mark.parametrize(("x", "push"), [(20.0, 5.0), (44.0, -5.0)])
def test_the_door_lets_pass(rooms, x, push):
    start = np.array([x, door_y(rooms)])
    position = start
    for _ in range(5):
        position = rooms.move(position, np.array([push, 0.0]))
    assert rooms.room(position) != rooms.room(start)
    assert position[0] == pytest.approx(x + 25 * np.sign(push))


def test_a_move_longer_than_the_wall_is_thick_does_not_jump_it(rooms):
    start = below_the_door(rooms, 26.0)
    moved = rooms.move(start, np.array([20.0, 0.0]))
    assert rooms.room(moved) == 0


def test_a_diagonal_push_slides_along_the_wall(rooms):
    start = below_the_door(rooms, 26.5)  # the disc touches the wall
    moved = rooms.move(start, np.array([5.0, -4.0]))
    assert moved[0] == start[0]
    assert moved[1] == pytest.approx(start[1] - 4.0)


def test_a_push_into_the_corner_stays_in_the_corner(rooms):
    position = below_the_door(rooms, 20.0)
    for _ in range(30):
        position = rooms.move(position, np.array([-5.0, 5.0]))
    inset = 2.0 + rooms.agent_radius
    assert position == pytest.approx([inset, rooms.image_size - inset], abs=1.0)


def test_random_steps_never_leave_the_free_space(rooms):
    generator = np.random.default_rng(0)
    position = rooms.sample_position(generator)
    rooms_seen = set()
    for _ in range(5000):
        position = rooms.move(position, rooms.action_spec.sample(generator))
        assert rooms.is_free(position)
        rooms_seen.add(rooms.room(position))
    assert rooms_seen == {0, 1}


# The way to the goal.


@pytest.mark.parametrize("image_size", [32, 64, 96])
def test_the_oracle_reaches_every_goal_in_time(image_size):
    rooms = TwoRooms(image_size=image_size)
    reached = [
        play(rooms, rooms.shortest_path_action, start, goal)[0].is_success
        for start, goal in free_pairs(rooms, 200)
    ]
    assert all(reached)


@pytest.mark.parametrize("x", [28.0, 31.0, 33.0, 36.0])
def test_the_oracle_finds_its_way_out_of_the_door(rooms, x):
    start = np.array([x, door_y(rooms) + 4.0])
    assert rooms.is_free(start)
    for goal, _ in free_pairs(rooms, 50, seed=3):
        assert play(rooms, rooms.shortest_path_action, start, goal)[0].is_success


def test_the_oracle_is_about_as_fast_as_the_shortest_path_allows(rooms):
    for start, goal in free_pairs(rooms, 50, seed=1):
        _, num_steps = play(rooms, rooms.shortest_path_action, start, goal)
        # A step covers at least max_move along the longer axis.
        assert num_steps <= rooms.shortest_path_length(start, goal) / rooms.max_move + 3


def test_the_shortest_path_is_the_straight_line_in_one_room_and_no_shorter_elsewhere(rooms):
    num_through_the_door = 0
    for start, goal in free_pairs(rooms, 200):
        straight = np.linalg.norm(goal - start)
        length = rooms.shortest_path_length(start, goal)
        if rooms.room(start) == rooms.room(goal):
            assert length == pytest.approx(straight)
        else:
            assert length >= straight - 1e-9
            num_through_the_door += 1
    assert 50 < num_through_the_door < 150


def test_the_straight_line_fails_where_the_wall_is_between(rooms):
    def straight(position, goal):
        return np.clip(goal - position, -rooms.max_move, rooms.max_move)

    lowest = door_y(rooms) + 12
    blocked = [
        (start, goal)
        for start, goal in free_pairs(rooms, 400, seed=2)
        if rooms.room(start) != rooms.room(goal) and min(start[1], goal[1]) > lowest
    ]
    assert len(blocked) >= 20
    for start, goal in blocked:
        assert not play(rooms, straight, start, goal)[0].is_success
        assert play(rooms, rooms.shortest_path_action, start, goal)[0].is_success


def test_a_start_inside_the_wall_is_refused(rooms):
    with pytest.raises(ValueError, match=r"start must be a free position \(x, y\) in pixels"):
        rooms.reset(np.random.default_rng(0), start=below_the_door(rooms, 32.0))


# The picture.


def test_the_agent_is_drawn_where_it_stands_and_nowhere_else(rooms):
    position, elsewhere = np.array([12.5, 50.5]), np.array([50.5, 12.5])
    frame, other = rooms.render(position), rooms.render(elsewhere)
    y, x = np.mgrid[: rooms.image_size, : rooms.image_size] + 0.5
    distance = np.hypot(x - position[0], y - position[1])
    far_from_both = (distance > 6) & (np.hypot(x - elsewhere[0], y - elsewhere[1]) > 6)
    assert (frame[distance < rooms.agent_radius - 0.5] == AGENT).all()
    assert (frame[far_from_both] == other[far_from_both]).all()
    assert (np.abs(other[distance < 6].astype(int) - AGENT).max(axis=-1) > 50).all()


def test_the_centre_of_the_drawn_disc_is_its_position(rooms):
    background = rooms.render(np.array([-100.0, -100.0])).astype(float)
    y, x = np.mgrid[: rooms.image_size, : rooms.image_size] + 0.5
    for position, _ in free_pairs(rooms, 20):
        weight = np.abs(rooms.render(position) - background).sum(axis=-1)
        centre = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
        assert centre == pytest.approx(position, abs=0.35)
