"""What every environment owes, checked for each file of planning/environments/ that can be made.

An environment whose simulator is not installed is skipped, with the line that says how to get it.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import planning.environments
from planning.environments import environment_names, make_environment
from planning.types import Environment

FOLDER = Path(planning.environments.__file__).parent
STATE_TOLERANCE = 1e-3  # a state is reported as float32: 3e-5 at 512 pixels


@pytest.fixture(params=environment_names())
def name(request):
    return request.param


@pytest.fixture
def environment(name):
    return made(name)


def made(name):
    try:
        return make_environment(name)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


def random_episode(environment, seed, num_steps=20):
    """The steps of an episode of random actions, and its goal; it may end before `num_steps`."""
    generator = np.random.default_rng(seed)
    steps = [environment.reset(generator, start=None, goal=None)]
    while len(steps) <= num_steps and not steps[-1].is_last:
        steps.append(environment.step(environment.action_spec.sample(generator)))
    return steps, environment.goal


def drawn_states(environment, count, seed=0):
    generator = np.random.default_rng(seed)
    return [environment.reset(generator, start=None, goal=None).state for _ in range(count)]


def reset_between_different_states(environment, seed=1):
    """Starts an episode that has not succeeded; returns its first step."""
    start, goal = drawn_states(environment, 2, seed)
    step = environment.reset(np.random.default_rng(seed), start=start, goal=goal)
    assert not step.is_last
    return step


def no_action(environment):
    return np.zeros(environment.action_spec.dim, dtype=np.float32)


def assert_same_state(environment, state, expected):
    for value, wanted, unit in zip(state, expected, environment.state_units, strict=True):
        difference = float(value) - float(wanted)
        if unit == "radian":
            difference = math.remainder(difference, 2 * math.pi)
        assert abs(difference) <= STATE_TOLERANCE


def assert_same_step(step, other):
    assert np.array_equal(step.frame, other.frame)
    assert np.array_equal(step.state, other.state)
    assert (step.is_success, step.is_last) == (other.is_success, other.is_last)


# What it shows.


def test_it_is_an_environment_with_the_name_of_its_file(name, environment):
    owed = {name for name in dir(Environment) if not name.startswith("_")}
    owed |= Environment.__annotations__.keys()
    assert {"goal", "step", "max_steps"} <= owed <= set(dir(environment))
    assert environment.name == name
    assert environment.frames_per_second > 0
    assert environment.success_distance > 0
    assert environment.max_steps >= 1


def test_frames_are_rgb_bytes_and_states_are_named_floats(environment):
    steps, goal = random_episode(environment, seed=0)
    size, num_states = environment.image_size, len(environment.state_names)
    assert len(environment.state_units) == num_states
    for shown in (*steps, goal):
        assert (shown.frame.shape, shown.frame.dtype) == ((size, size, 3), np.uint8)
        assert (shown.state.shape, shown.state.dtype) == ((num_states,), np.float32)
    for step in steps:
        assert type(step.is_success) is bool
        assert type(step.is_last) is bool


def test_frames_are_pictures_in_which_the_start_can_be_told_from_the_goal(environment):
    step = reset_between_different_states(environment)
    assert step.frame.std() > 5
    assert (step.frame != environment.goal.frame).any(axis=-1).sum() >= 10


# Actions.


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused_and_does_not_count(environment, bad):
    reset_between_different_states(environment)
    distance = environment.distance_to_goal()
    with pytest.raises(ValueError, match="must be finite"):
        environment.step(np.full(environment.action_spec.dim, bad))
    assert environment.distance_to_goal() == distance


def test_an_action_of_the_wrong_shape_is_refused(environment):
    reset_between_different_states(environment)
    with pytest.raises(ValueError, match="must have shape"):
        environment.step(np.zeros(environment.action_spec.dim + 1))


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_action_beyond_the_bounds_acts_as_the_bound(environment, sign):
    spec = environment.action_spec
    bound = np.array(spec.high if sign == 1 else spec.low)
    reset_between_different_states(environment)
    at_the_bound = environment.step(bound)
    reset_between_different_states(environment)
    assert_same_step(environment.step(bound + sign * 1e3), at_the_bound)


def test_doing_nothing_keeps_the_state_and_the_picture(environment):
    first = reset_between_different_states(environment)
    for _ in range(5):
        step = environment.step(no_action(environment))
        assert_same_state(environment, step.state, first.state)
        assert np.array_equal(step.frame, first.frame)


def test_actions_change_the_state(environment):
    steps, _ = random_episode(environment, seed=0)
    assert np.abs(steps[-1].state - steps[0].state).max() > 1


# Where an episode starts, and where it should end.


def test_an_episode_starts_where_it_was_asked_to(environment):
    states = drawn_states(environment, 20)
    for start, goal in zip(states, states[::-1], strict=True):
        step = environment.reset(np.random.default_rng(0), start=start, goal=goal)
        assert_same_state(environment, step.state, start)
        assert_same_state(environment, environment.goal.state, goal)


def test_the_goal_picture_is_the_frame_seen_where_the_state_is_the_goal(environment):
    for state in drawn_states(environment, 20):
        step = environment.reset(np.random.default_rng(0), start=state, goal=state)
        assert np.array_equal(step.frame, environment.goal.frame)


def test_a_state_that_was_reached_is_a_goal_that_looks_the_same(environment):
    steps, _ = random_episode(environment, seed=2)
    reached = steps[-1]
    environment.reset(np.random.default_rng(0), start=steps[0].state, goal=reached.state)
    # The reached state was reported as float32, which may tip the edge of a shape.
    differs = (environment.goal.frame != reached.frame).any(axis=-1)
    assert differs.mean() < 0.01


def test_an_episode_that_starts_at_the_goal_has_succeeded(environment):
    state = drawn_states(environment, 1)[0]
    step = environment.reset(np.random.default_rng(0), start=state, goal=state)
    assert step.is_success
    assert step.is_last
    assert environment.distance_to_goal() <= STATE_TOLERANCE


def test_success_is_a_distance_below_the_success_distance(environment):
    for seed in range(10):
        generator = np.random.default_rng(seed)
        step = environment.reset(generator, start=None, goal=None)
        for _ in range(20):
            is_near = environment.distance_to_goal() < environment.success_distance
            assert step.is_success == is_near
            if step.is_last:
                break
            step = environment.step(environment.action_spec.sample(generator))


@pytest.mark.parametrize("what", ["start", "goal"])
def test_a_state_that_cannot_be_is_refused(environment, what):
    good = drawn_states(environment, 1)[0]
    for bad in (good[:-1], np.full_like(good, np.nan), np.full_like(good, -1e4)):
        states = {"start": good, "goal": good, what: bad}
        with pytest.raises(ValueError, match=f"{what} must be"):
            environment.reset(np.random.default_rng(0), **states)


# The end of an episode.


def test_an_episode_without_success_ends_after_max_steps(environment):
    step = reset_between_different_states(environment)
    for num_steps in range(1, environment.max_steps + 1):
        assert not step.is_last
        step = environment.step(no_action(environment))
        assert step.is_last == (num_steps == environment.max_steps)
    assert not step.is_success
    with pytest.raises(RuntimeError, match="the episode is over; call reset"):
        environment.step(no_action(environment))


def test_a_step_after_success_is_refused_until_the_next_reset(environment):
    state = drawn_states(environment, 1)[0]
    environment.reset(np.random.default_rng(0), start=state, goal=state)
    with pytest.raises(RuntimeError, match="call reset"):
        environment.step(no_action(environment))
    reset_between_different_states(environment)
    environment.step(no_action(environment))


def test_before_the_first_reset_there_is_no_step_no_goal_and_no_distance(environment):
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(no_action(environment))
    with pytest.raises(RuntimeError, match="before the first reset"):
        _ = environment.goal
    with pytest.raises(RuntimeError, match="before the first reset"):
        environment.distance_to_goal()


# Randomness, and what belongs to whom.


def test_the_same_seed_gives_the_same_episode_also_after_another_one(name, environment):
    steps, goal = random_episode(environment, seed=7)
    random_episode(environment, seed=8)  # leaves nothing behind
    for played_on in (environment, made(name)):
        again, same_goal = random_episode(played_on, seed=7)
        assert len(again) == len(steps)
        for step, other in zip(steps, again, strict=True):
            assert_same_step(step, other)
        assert np.array_equal(goal.frame, same_goal.frame)
        assert np.array_equal(goal.state, same_goal.state)


def test_another_seed_gives_another_start_and_another_goal(environment):
    (step, *_), goal = random_episode(environment, seed=7)
    (other, *_), other_goal = random_episode(environment, seed=8)
    assert not np.array_equal(step.state, other.state)
    assert not np.array_equal(goal.state, other_goal.state)


def test_numpys_global_randomness_is_neither_read_nor_changed(environment):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    steps, _ = random_episode(environment, seed=7)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    again, _ = random_episode(environment, seed=7)
    assert_same_step(steps[-1], again[-1])


def test_what_is_passed_in_is_not_changed(environment):
    start, goal = (state.astype(np.float64) for state in drawn_states(environment, 2))
    action = np.array(environment.action_spec.high) * 2
    given = [(array, array.copy()) for array in (start, goal, action)]
    for array, _ in given:
        array.flags.writeable = False
    environment.reset(np.random.default_rng(0), start=start, goal=goal)
    environment.step(action)
    environment.step(action)
    assert all(np.array_equal(array, before) for array, before in given)


def test_what_was_shown_does_not_change_later(environment):
    first = reset_between_different_states(environment)
    shown = (first.frame, first.state, environment.goal.frame, environment.goal.state)
    before = [array.copy() for array in shown]
    random_episode(environment, seed=3)
    assert all(np.array_equal(array, old) for array, old in zip(shown, before, strict=True))


# How an environment is found.


def test_every_file_of_the_folder_is_an_environment():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert set(environment_names()) == files
    assert "two_rooms" in files


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(ValueError, match=r"did you mean 'two_rooms'\? there are: .*two_rooms"):
        make_environment("two_room")
    with pytest.raises(ValueError, match=r"no environment 'xyz'; there are: "):
        make_environment("xyz")


def test_without_its_simulator_pusht_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    monkeypatch.setitem(sys.modules, "gym_pusht.envs", None)
    with pytest.raises(ImportError, match=r"simulator extra: pip install 'jepa-planning\[sim\]'"):
        make_environment("pusht")


# What PushT promises besides.


@pytest.mark.parametrize("image_size", [64, 96, 224])
def test_pusht_draws_frames_of_the_asked_size(image_size):
    made("pusht")
    from planning.environments.pusht import PushT

    environment = PushT(image_size=image_size)
    step = environment.reset(np.random.default_rng(0))
    assert step.frame.shape == environment.goal.frame.shape == (image_size, image_size, 3)


@pytest.mark.parametrize(
    ("offset", "is_success"),
    [
        ((19.9, 0, 0, 0, 0), True),
        ((20.1, 0, 0, 0, 0), False),
        ((12, 0, 0, 12, 0), True),  # 17 pixels in all
        ((12, 12, 12, 12, 0), False),  # 24 pixels in all
        ((0, 0, 0, 0, math.radians(19.9)), True),
        ((0, 0, 0, 0, math.radians(20.1)), False),
        ((0, 0, 0, 0, math.radians(360 - 19.9)), True),
        ((19.9, 0, 0, 0, math.radians(19.9)), True),  # two tests, not a sum
    ],
)
def test_pusht_succeeds_within_20_pixels_and_20_degrees(offset, is_success):
    environment = made("pusht")
    goal = np.array([100.0, 120.0, 250.0, 260.0, 0.05])
    step = environment.reset(np.random.default_rng(0), start=goal + offset, goal=goal)
    assert step.is_success == is_success


def test_pusht_moves_the_t_only_by_touching_it():
    environment = made("pusht")
    start = np.array([256.0, 60.0, 256.0, 200.0, 0.0])  # the disc above the bar of an upright T
    goal = np.array([60.0, 450.0, 256.0, 200.0, 0.0])
    step = environment.reset(np.random.default_rng(0), start=start, goal=goal)
    while step.state[1] < 150:  # the radius is 15: still more than 30 pixels of air
        step = environment.step(np.array([0.0, 40.0]))
        assert np.array_equal(step.state[2:], start[2:].astype(np.float32))
    for _ in range(15):
        step = environment.step(np.array([0.0, 40.0]))
    assert step.state[3] > 230  # pushed down


def test_pusht_shows_an_overlapping_state_as_given_and_pushes_the_t_out_in_the_first_step():
    environment = made("pusht")
    overlapping = np.array([256.0, 220.0, 256.0, 200.0, 0.0])  # the disc on the bar of the T
    assert not environment.is_free(overlapping)
    goal = np.array([60.0, 60.0, 256.0, 200.0, 0.0])
    step = environment.reset(np.random.default_rng(0), start=overlapping, goal=goal)
    assert np.array_equal(step.state, overlapping.astype(np.float32))
    step = environment.step(no_action(environment))
    assert np.array_equal(step.state[:2], overlapping[:2].astype(np.float32))
    assert np.abs(step.state[2:4] - overlapping[2:4]).max() > 1


def test_pusht_draws_starts_in_which_nothing_overlaps():
    environment = made("pusht")
    generator = np.random.default_rng(0)
    assert all(environment.is_free(environment.sample_state(generator)) for _ in range(50))
    assert not environment.is_free(np.array([256.0, 450.0, 30.0, 200.0, 0.0]))  # T in the wall


def test_pusht_keeps_the_disc_on_the_canvas():
    environment = made("pusht")
    for direction in ((-100, -100), (100, 100)):
        reset_between_different_states(environment)
        for _ in range(60):
            step = environment.step(np.array(direction))
            assert ((step.state[:2] >= 0) & (step.state[:2] <= 512)).all()
