"""Wall: its sizes, the wall, the door, and a dot that does not slide."""

import math

import numpy as np
import pytest

from planning.environments.wall import Wall


def started(start, goal=(55.0, 55.0), values=None, **options):
    environment = Wall(**options)
    environment.vary(values or {})
    environment.reset(np.random.default_rng(0), start=np.array(start), goal=np.array(goal))
    return environment


def pushed(environment, action, times=20):
    for _ in range(times):
        step = environment.step(np.array(action))
    return step.state.astype(float)


@pytest.mark.parametrize(
    ("distance", "is_success"), [(4.4, True), (4.6, False), (-4.4, True), (-4.6, False)]
)
def test_success_is_within_four_and_a_half_pixels(distance, is_success):
    environment = Wall()
    goal = np.array([50.0, 30.0])
    start = np.array([50.0, 30.0 + distance])
    step = environment.reset(np.random.default_rng(0), start=start, goal=goal)
    assert step.is_success == is_success


def test_a_step_is_at_most_2_45_pixels_long_in_any_direction():
    environment = started((15.0, 15.0))
    step = environment.step(np.array([2.45, 2.45]))
    assert np.linalg.norm(step.state - 15.0) == pytest.approx(2.45, abs=1e-5)
    step = environment.step(np.array([-1.0, 0.5]))
    assert step.state - 15.0 == pytest.approx(2.45 / math.sqrt(2) + np.array([-1, 0.5]), abs=1e-5)


def test_the_wall_blocks_and_the_door_lets_pass():
    assert pushed(started((20.0, 45.0)), (2.0, 0.0))[0] == pytest.approx(29.5, abs=0.13)
    assert pushed(started((45.0, 45.0)), (-2.0, 0.0))[0] == pytest.approx(35.5, abs=0.13)
    assert pushed(started((20.0, 22.0)), (2.0, 0.0))[0] > 45


def test_the_border_blocks():
    assert pushed(started((20.0, 20.0)), (-2.0, 0.0))[0] == pytest.approx(5, abs=0.13)
    assert pushed(started((20.0, 50.0)), (0.0, 2.0))[1] == pytest.approx(60, abs=0.13)


def test_a_dot_that_meets_the_wall_aslant_stops_and_does_not_slide():
    environment = started((28.0, 45.0))
    x, y = pushed(environment, (1.5, -1.0), times=1)
    assert (x - 28.0) / 1.5 == pytest.approx((45.0 - y) / 1.0, abs=1e-5)  # along its line
    assert pushed(environment, (1.5, -1.0), times=5) == pytest.approx([x, y], abs=0.14)


def test_a_corner_of_the_wall_is_not_cut():
    # The wall begins at x = 29.5 and the door ends at y = 28: from x = 29.5 on, y is 28.3 to 28.0.
    x, y = pushed(started((29.0, 28.9)), (1.5, -1.9), times=1)
    assert x < 29.5
    assert y > 28.2


def test_a_moved_door_is_where_it_was_moved_to():
    values = {"position.door": (45.0,)}
    assert pushed(started((20.0, 45.0), values=values), (2.0, 0.0))[0] > 45
    assert pushed(started((20.0, 22.0), values=values), (2.0, 0.0))[0] < 30


@pytest.mark.parametrize("image_size", [64, 65, 224])
def test_coordinates_are_of_the_canvas_whatever_the_size_of_the_frame(image_size):
    values = {"colour.agent": (1, 0, 0), "colour.background": (0, 0, 0), "colour.wall": (0, 1, 0)}
    environment = started((20.0, 40.0), values=values, image_size=image_size)
    frame = environment.render(np.array([20.0, 40.0]))
    rows, columns = np.nonzero(frame[..., 0] > 127)
    scale = image_size / 65
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(
        (20 * scale, 40 * scale), abs=0.5
    )
    is_wall = frame[..., 1] > 127
    assert is_wall.mean() == pytest.approx(1 - (55 * 55 - 6 * 43) / 65**2, abs=0.02)


def test_tasks_go_to_the_other_room_and_stay_in_one_by_turns():
    environment, generator = Wall(), np.random.default_rng(0)
    for index in range(40):
        start, goal, group = environment.draw_task(generator, index)
        crosses = environment.room(start) != environment.room(goal)
        assert group == ("different_rooms" if crosses else "same_room")
        assert crosses == (index % 2 == 0)
        assert math.dist(start, goal) >= 4.5


@pytest.mark.parametrize("place", [(32.0, 50.0), (3.0, 20.0), (20.0, 64.0)])
def test_a_place_inside_a_wall_is_refused(place):
    with pytest.raises(ValueError, match=r"start must be a place .* on the floor"):
        started(place)


def test_the_expert_walks_through_a_moved_door_too():
    environment = started((10.0, 10.0), (55.0, 10.0), values={"position.door": (50.0,)})
    generator, expert = np.random.default_rng(0), environment.make_expert()
    environment.max_steps = 80
    step = environment.reset(generator, start=np.array([10.0, 10.0]), goal=np.array([55.0, 10.0]))
    while not step.is_last:
        step = environment.step(expert(environment, step, generator))
    assert step.is_success
