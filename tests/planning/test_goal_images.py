import numpy as np
import pytest
from PIL import Image

from data_pipelines.frames import DecodeError
from planning.environments.point_mass import PointMass
from planning.goal_images import ImageGoal, read_goal_image


@pytest.fixture
def write(tmp_path):
    def save(image, name="goal.png"):
        Image.fromarray(image).save(tmp_path / name)
        return tmp_path / name

    return save


def test_an_image_of_the_right_size_is_read_pixel_for_pixel(write):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(read_goal_image(write(image), image_size=32), image)


def test_another_size_is_refused_with_both_sizes_and_what_to_do(write):
    path = write(np.zeros((48, 64, 3), np.uint8))
    match = r"goal.png is 64 x 48 pixels, the world model sees 32 x 32; .*--resize-goal"
    with pytest.raises(ValueError, match=match):
        read_goal_image(path, image_size=32)


def test_resizing_keeps_the_middle_and_cuts_what_stands_over_evenly(write):
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = (200, 100, 50)  # the middle square
    small = read_goal_image(write(image), image_size=32, resizes=True)
    assert small.shape == (32, 32, 3)
    assert (small == (200, 100, 50)).all()


def test_what_is_no_image_is_named(tmp_path):
    path = tmp_path / "goal.png"
    path.write_text("hello")
    with pytest.raises(DecodeError, match=r"goal\.png"):
        read_goal_image(path, image_size=32)
    with pytest.raises(FileNotFoundError, match=r"no image file .*none\.png"):
        read_goal_image(tmp_path / "none.png", image_size=32)


# An environment whose goal is a picture.


def test_the_goal_is_the_picture_and_its_state_is_not_known(rooms):
    frame = np.full((32, 32, 3), 7, np.uint8)
    environment = ImageGoal(rooms(), frame)
    shown = environment.reset(np.random.default_rng(0), start=np.array([8.0, 8.0]), goal=None)
    assert np.array_equal(environment.goal.frame, frame)
    assert np.isnan(environment.goal.state).all() and np.isnan(environment.distance_to_goal())
    assert not shown.is_success
    assert environment.action_spec == rooms().action_spec


def test_the_simulators_own_goal_ends_nothing_and_steps_are_counted(rooms):
    environment = ImageGoal(rooms(max_steps=40), np.zeros((32, 32, 3), np.uint8))
    generator = np.random.default_rng(0)
    shown = environment.reset(generator, start=np.array([8.0, 8.0]), goal=None)
    places = [shown.state]
    # It walks over the whole left room, so over any goal that was drawn there.
    for step in range(40):
        assert not shown.is_last and not shown.is_success
        dy = 2.5 if step % 16 < 8 else -2.5
        shown = environment.step(np.array([0.3, dy], np.float32))
        places.append(shown.state)
    assert shown.is_last
    moves = np.abs(np.diff(places, axis=0)).max(0)
    assert (moves <= 2.51).all()  # it was never put elsewhere
    with pytest.raises(RuntimeError, match="the episode is over"):
        environment.step(np.zeros(2, np.float32))


def test_it_goes_on_from_where_it_is_when_the_simulator_thinks_that_it_has_arrived(rooms):
    inner = rooms(max_steps=5)
    drawn = iter([np.array([11.0, 8.0]), np.array([12.0, 8.0]), np.array([24.0, 24.0])])
    inner.sample_position = lambda generator: next(drawn)  # goals in the way: within 2 pixels
    environment = ImageGoal(inner, np.zeros((32, 32, 3), np.uint8))
    shown = environment.reset(np.random.default_rng(0), start=np.array([8.0, 8.0]), goal=None)
    for step in range(1, 6):
        assert not shown.is_last
        shown = environment.step(np.array([1.0, 0.0], np.float32))
        assert shown.state == pytest.approx([8.0 + step, 8.0]) and not shown.is_success
    assert shown.is_last
    assert next(drawn, None) is None  # it met both


def test_a_goal_state_cannot_be_given_beside_the_picture(rooms):
    environment = ImageGoal(rooms(), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="the goal is a picture here"):
        environment.reset(np.random.default_rng(0), start=None, goal=np.array([8.0, 8.0]))


def test_it_goes_on_with_its_speed_where_the_simulators_own_budget_is_used_up():
    alone, inner = PointMass(), PointMass()
    start, far = np.array([-0.5, 0.0]), np.array([0.8, 0.8])
    alone.reset(np.random.default_rng(0), start=start, goal=far)
    pursued = ImageGoal(inner, np.zeros((64, 64, 3), np.uint8))
    inner.max_steps = 2
    pursued.reset(np.random.default_rng(0), start=start, goal=None)
    push = np.array([1.0, 0.0], np.float32)
    for _ in range(7):
        np.testing.assert_array_equal(pursued.step(push).state, alone.step(push).state)
