"""What every environment owes, checked for each file of planning/environments/ that can be made.

An environment whose simulator is not installed is skipped, with the line that says how to get it.
What an environment offers beyond the contract (planning/capabilities.py) is checked where it does.
"""

import functools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import planning.environments
from planning.capabilities import HasConfiguration, HasExpert, SetsGoals, Simulates, Varies
from planning.environments import environment_names, make_environment
from planning.types import Environment

FOLDER = Path(planning.environments.__file__).parent
STATE_TOLERANCE = 1e-3  # a state is reported as float32: 3e-5 at 512 pixels

# Where doing nothing is not standing still.
RESTLESS = {"gymnasium_pixels": "a pendulum falls, and its picture shows the last torque"}
# Factors that no picture shows.
INVISIBLE = ("mass", "friction", "damping")
# Factors that are the look of things and nothing else.
LOOK_ONLY = ("colour.", "light.", "camera.")
NUM_EXPERT_EPISODES = 10


@pytest.fixture(params=environment_names())
def name(request):
    return request.param


@pytest.fixture
def environment(name):
    """One for all tests, as nothing of an episode may be left in the next."""
    environment = kept(name)
    if isinstance(environment, Varies):
        environment.vary({})
    return environment


@functools.cache
def kept(name):
    return made(name)


def made(name, **options):
    try:
        return make_environment(name, **options)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


def offering(environment, capability):
    """The environment, if it offers what is asked for; the test has no subject otherwise."""
    if not isinstance(environment, capability):
        pytest.skip(f"{environment.name} does not offer {capability.__name__}")
    return environment


def random_episode(environment, seed, num_steps=20):
    """The steps of an episode of random actions, and its goal; it may end before `num_steps`."""
    generator = np.random.default_rng(seed)
    steps = [environment.reset(generator, start=None, goal=None)]
    while len(steps) <= num_steps and not steps[-1].is_last:
        steps.append(environment.step(environment.action_spec.sample(generator)))
    return steps, environment.goal


def configuration_now(environment, step):
    if isinstance(environment, HasConfiguration):
        return environment.configuration
    return step.state


def drawn_configurations(environment, count, seed=0):
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        step = environment.reset(generator, start=None, goal=None)
        drawn.append(configuration_now(environment, step))
    return drawn


def reset_between_different_places(environment, seed=1):
    """Starts an episode that has not succeeded; returns its first step."""
    start, goal = drawn_configurations(environment, 2, seed)
    step = environment.reset(np.random.default_rng(seed), start=start, goal=goal)
    assert not step.is_last
    return step


def no_action(environment):
    action = np.zeros(environment.action_spec.dim, dtype=np.float32)
    if environment.action_spec.kind == "one_hot":
        action[0] = 1
    return action


def actions_of(environment, count, seed=0):
    generator = np.random.default_rng(seed)
    return np.stack([environment.action_spec.sample(generator) for _ in range(count)])


def refuse_restless(name):
    if name in RESTLESS:
        pytest.skip(RESTLESS[name])


def assert_same_state(environment, state, expected):
    for value, wanted, unit in zip(state, expected, environment.state_units, strict=True):
        difference = float(value) - float(wanted)
        if unit == "radian":
            difference = math.remainder(difference, 2 * math.pi)
        assert abs(difference) <= STATE_TOLERANCE


def assert_same_configuration(configuration, expected):
    """Equal but for the float32 of a state and whole turns of an angle."""
    turns = np.round((configuration - expected) / (2 * math.pi))
    is_turned = np.abs(configuration - expected - turns * 2 * math.pi) < STATE_TOLERANCE
    assert (is_turned | (np.abs(configuration - expected) < STATE_TOLERANCE)).all()


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
    step = reset_between_different_places(environment)
    assert step.frame.std() > 5
    assert (step.frame != environment.goal.frame).any(axis=-1).sum() >= 10


def test_frames_have_the_size_that_was_asked_for(name):
    environment = made(name, image_size=112)
    step = environment.reset(np.random.default_rng(0), start=None, goal=None)
    assert step.frame.shape == environment.goal.frame.shape == (112, 112, 3)
    with pytest.raises(ValueError, match="image_size must be"):
        made(name, image_size=3)


# Actions.


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused_and_does_not_count(environment, bad):
    reset_between_different_places(environment)
    distance = environment.distance_to_goal()
    with pytest.raises(ValueError, match="must be finite"):
        environment.step(np.full(environment.action_spec.dim, bad))
    assert environment.distance_to_goal() == distance


def test_an_action_of_the_wrong_shape_is_refused(environment):
    reset_between_different_places(environment)
    with pytest.raises(ValueError, match="must have shape"):
        environment.step(np.zeros(environment.action_spec.dim + 1))


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_action_beyond_the_bounds_acts_as_the_bound(environment, sign):
    spec = environment.action_spec
    bound = spec.validate(np.array(spec.high if sign == 1 else spec.low))
    reset_between_different_places(environment)
    at_the_bound = environment.step(bound)
    reset_between_different_places(environment)
    assert_same_step(environment.step(bound + sign * 1e3 * (bound != 0)), at_the_bound)


def test_doing_nothing_keeps_the_state_and_the_picture(name, environment):
    refuse_restless(name)
    first = reset_between_different_places(environment)
    for _ in range(5):
        step = environment.step(no_action(environment))
        assert_same_state(environment, step.state, first.state)
        assert np.array_equal(step.frame, first.frame)


def test_actions_change_the_state(environment):
    steps, _ = random_episode(environment, seed=0)
    assert np.abs(steps[-1].state - steps[0].state).max() > 10 * STATE_TOLERANCE


# Where an episode starts, and where it should end.


def test_an_episode_starts_where_it_was_asked_to(environment):
    configurations = drawn_configurations(environment, 10)
    for start, goal in zip(configurations, configurations[::-1], strict=True):
        step = environment.reset(np.random.default_rng(0), start=start, goal=goal)
        assert_same_configuration(configuration_now(environment, step), start)
        at_goal = environment.goal.state
        step = environment.reset(np.random.default_rng(0), start=goal, goal=start)
        assert_same_state(environment, step.state, at_goal)


def test_the_goal_picture_is_the_frame_seen_where_the_configuration_is_the_goal(environment):
    for configuration in drawn_configurations(environment, 10):
        generator = np.random.default_rng(0)
        step = environment.reset(generator, start=configuration, goal=configuration)
        assert np.array_equal(step.frame, environment.goal.frame)


def test_a_place_that_was_reached_is_a_goal_that_looks_the_same(environment):
    steps, _ = random_episode(environment, seed=2)
    start = drawn_configurations(environment, 1)[0]
    random_episode(environment, seed=2)
    reached, configuration = steps[-1], configuration_now(environment, steps[-1])
    if np.isnan(configuration).any():
        pytest.skip(f"{environment.name} cannot say where it is")
    environment.reset(np.random.default_rng(0), start=start, goal=configuration)
    differs = (environment.goal.frame != reached.frame).any(axis=-1)
    # A state was reported as float32, which may tip the edge of a shape; a configuration was not.
    assert differs.mean() < (0.001 if isinstance(environment, HasConfiguration) else 0.01)


def test_an_episode_that_starts_at_the_goal_has_succeeded(environment):
    place = drawn_configurations(environment, 1)[0]
    step = environment.reset(np.random.default_rng(0), start=place, goal=place)
    assert step.is_success
    assert step.is_last
    assert environment.distance_to_goal() <= STATE_TOLERANCE


def test_success_is_a_distance_below_the_success_distance(environment):
    for seed in range(5):
        generator = np.random.default_rng(seed)
        step = environment.reset(generator, start=None, goal=None)
        for _ in range(20):
            is_near = environment.distance_to_goal() < environment.success_distance
            assert step.is_success == is_near
            if step.is_last:
                break
            step = environment.step(environment.action_spec.sample(generator))


@pytest.mark.parametrize("what", ["start", "goal"])
def test_a_place_that_cannot_be_is_refused(environment, what):
    good = drawn_configurations(environment, 1)[0]
    for bad in (good[:-1], np.full_like(good, np.nan), np.full_like(good, -1e4)):
        places = {"start": good, "goal": good, what: bad}
        with pytest.raises(ValueError, match=f"{what} must be"):
            environment.reset(np.random.default_rng(0), **places)


def test_a_configuration_is_named_numbers(environment):
    offering(environment, HasConfiguration)
    reset_between_different_places(environment)
    configuration = environment.configuration
    assert configuration.shape == (len(environment.configuration_names),)
    assert configuration.dtype == np.float64
    configuration[:] = -1e3  # a copy
    assert not np.array_equal(environment.configuration, configuration)


# The end of an episode.


def test_an_episode_without_success_ends_after_max_steps(name, environment):
    refuse_restless(name)
    step = reset_between_different_places(environment)
    budget, environment.max_steps = environment.max_steps, 12
    try:
        for num_steps in range(1, 13):
            assert not step.is_last
            step = environment.step(no_action(environment))
            assert step.is_last == (num_steps == 12)
        assert not step.is_success
        with pytest.raises(RuntimeError, match="the episode is over; call reset"):
            environment.step(no_action(environment))
    finally:
        environment.max_steps = budget


def test_a_step_after_success_is_refused_until_the_next_reset(environment):
    place = drawn_configurations(environment, 1)[0]
    environment.reset(np.random.default_rng(0), start=place, goal=place)
    with pytest.raises(RuntimeError, match="call reset"):
        environment.step(no_action(environment))
    reset_between_different_places(environment)
    environment.step(no_action(environment))


def test_before_the_first_reset_there_is_no_step_no_goal_and_no_distance(name):
    environment = made(name)
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(no_action(environment))
    with pytest.raises(RuntimeError, match="before the first reset"):
        _ = environment.goal
    with pytest.raises(RuntimeError, match="before the first reset"):
        environment.distance_to_goal()
    for capability in (HasConfiguration, Simulates, HasExpert, SetsGoals, Varies):
        isinstance(environment, capability)  # asks for its properties, and must not fail


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
    assert not np.array_equal(step.frame, other.frame)
    assert not np.array_equal(goal.frame, other_goal.frame)


def test_numpys_global_randomness_is_neither_read_nor_changed(environment):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    steps, _ = random_episode(environment, seed=7)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    again, _ = random_episode(environment, seed=7)
    assert_same_step(steps[-1], again[-1])


def test_what_is_passed_in_is_not_changed(environment):
    start, goal = (place.astype(np.float64) for place in drawn_configurations(environment, 2))
    action = environment.action_spec.validate(actions_of(environment, 1)[0])
    given = [(array, array.copy()) for array in (start, goal, action)]
    for array, _ in given:
        array.flags.writeable = False
    environment.reset(np.random.default_rng(0), start=start, goal=goal)
    environment.step(action)
    environment.step(action)
    assert all(np.array_equal(array, before) for array, before in given)


def test_what_was_shown_does_not_change_later(environment):
    first = reset_between_different_places(environment)
    shown = (first.frame, first.state, environment.goal.frame, environment.goal.state)
    before = [array.copy() for array in shown]
    random_episode(environment, seed=3)
    assert all(np.array_equal(array, old) for array, old in zip(shown, before, strict=True))


# Simulations that can be kept, put back, and tried without pictures.


def test_what_was_kept_goes_on_as_it_would_have_to_the_last_bit(environment):
    offering(environment, Simulates)
    reset_between_different_places(environment)
    actions = actions_of(environment, 10)
    for action in actions[:3]:
        environment.step(action)
    saved = environment.save_state()
    assert (saved.ndim, saved.dtype) == (1, np.float64)
    went_on = [environment.step(action) for action in actions[3:]]
    environment.load_state(saved)
    assert np.array_equal(environment.save_state(), saved)
    again = [environment.step(action) for action in actions[3:]]
    for step, other in zip(went_on, again, strict=True):
        assert_same_step(step, other)


def test_what_is_tried_is_what_happens_to_the_last_bit(environment):
    offering(environment, Simulates)
    reset_between_different_places(environment)
    actions = actions_of(environment, 10)
    for action in actions[:3]:
        environment.step(action)
    saved = environment.save_state()
    tried = environment.simulate(actions[3:])
    assert tried.shape == (7,)
    assert np.array_equal(environment.save_state(), saved)
    happened = []
    for action in actions[3:]:
        environment.step(action)
        happened.append(environment.distance_to_goal())
    assert np.array_equal(tried, happened)


def test_trying_leaves_no_trace_in_the_episode(environment):
    offering(environment, Simulates)
    steps, _ = random_episode(environment, seed=5, num_steps=8)
    generator = np.random.default_rng(5)
    again = [environment.reset(generator, start=None, goal=None)]
    while len(again) < len(steps):
        before = environment.distance_to_goal()
        environment.simulate(actions_of(environment, 4, seed=len(again)))
        assert environment.distance_to_goal() == before
        again.append(environment.step(environment.action_spec.sample(generator)))
    for step, other in zip(steps, again, strict=True):
        assert_same_step(step, other)


def test_no_trying_and_no_keeping_before_the_first_reset(name):
    environment = offering(made(name), Simulates)
    with pytest.raises(RuntimeError, match="before the first reset"):
        environment.simulate(actions_of(environment, 2))


def test_a_bad_action_that_is_tried_is_refused_and_nothing_has_moved(environment):
    offering(environment, Simulates)
    reset_between_different_places(environment)
    saved, actions = environment.save_state(), actions_of(environment, 3)
    actions[-1] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        environment.simulate(actions)
    assert np.array_equal(environment.save_state(), saved)


# Goals that change while the simulation goes on.


def test_a_new_goal_touches_nothing_but_the_goal_and_the_budget(environment):
    """Beside the same actions without new goals: equal to the last bit."""
    offering(environment, SetsGoals)
    distance, budget = environment.success_distance, environment.max_steps
    environment.success_distance, environment.max_steps = 1e-12, 1000
    try:
        shown = {}
        for gives_goals in (False, True):
            reset_between_different_places(environment)
            shown[gives_goals] = []
            for index, action in enumerate(actions_of(environment, 12)):
                shown[gives_goals].append(environment.step(action))
                if gives_goals and index % 3 == 2:
                    before, saved = environment.goal, environment.save_state()
                    again = environment.new_goal(np.random.default_rng(index))
                    assert_same_step(again, shown[True][-1])
                    is_other = environment.save_state() != saved
                    assert is_other.sum() <= 1  # the steps so far
                    assert not np.array_equal(environment.goal.frame, before.frame)
        for step, other in zip(shown[False], shown[True], strict=True):
            assert_same_step(step, other)
    finally:
        environment.success_distance, environment.max_steps = distance, budget


def test_a_new_goal_is_not_yet_reached_and_begins_a_new_budget(environment):
    offering(environment, SetsGoals)
    place = drawn_configurations(environment, 1)[0]
    assert environment.reset(np.random.default_rng(0), start=place, goal=place).is_last
    distance, budget = environment.success_distance, environment.max_steps
    try:
        step, environment.max_steps = environment.new_goal(np.random.default_rng(5)), 3
        assert not (step.is_last or step.is_success)
        assert environment.distance_to_goal() >= distance
        environment.success_distance = 1e-12
        for _ in range(2):
            ends = [environment.step(no_action(environment)).is_last for _ in range(3)]
            assert ends == [False, False, True]
            assert not environment.new_goal(np.random.default_rng(6)).is_last
    finally:
        environment.success_distance, environment.max_steps = distance, budget


def test_there_is_no_new_goal_before_the_first_reset(name):
    environment = offering(made(name), SetsGoals)
    with pytest.raises(RuntimeError, match="before the first reset"):
        environment.new_goal(np.random.default_rng(0))


# Experts.


def test_the_expert_reaches_the_goal_within_the_budget(environment):
    offering(environment, HasExpert)
    successes = 0
    for seed in range(NUM_EXPERT_EPISODES):
        generator = np.random.default_rng((2026, seed))
        step = environment.reset(generator, start=None, goal=None)
        policy = environment.make_expert()
        while not step.is_last:
            step = environment.step(policy(environment, step, generator))
        successes += step.is_success
    assert successes >= 0.9 * NUM_EXPERT_EPISODES


# What can vary.


def factors_of(environment):
    factors = offering(environment, Varies).factors
    if not factors:
        pytest.skip(f"nothing of {environment.name} can vary")
    return factors


def varied(environment, values, start, goal):
    """The first step, the goal and the steps of five actions, under these values."""
    environment.vary(values)
    first = environment.reset(np.random.default_rng(0), start=start, goal=goal)
    goal_shown = environment.goal
    return first, goal_shown, [environment.step(action) for action in actions_of(environment, 5)]


def test_each_factor_changes_the_picture_and_nothing_else_of_the_state(environment):
    factors = factors_of(environment)
    reset_between_different_places(environment)
    start, goal = drawn_configurations(environment, 2, seed=1)
    first, goal_shown, steps = varied(environment, {}, start, goal)
    for name, factor in factors.items():
        value = factor.high if factor.high != factor.default else factor.low
        other, other_goal, other_steps = varied(environment, {name: value}, start, goal)
        assert np.array_equal(other.state, first.state), name
        assert np.array_equal(other_goal.state, goal_shown.state), name
        is_visible = not name.startswith(INVISIBLE)
        assert (not np.array_equal(other.frame, first.frame)) == is_visible, name
        assert (not np.array_equal(other_goal.frame, goal_shown.frame)) == is_visible, name
        if name.startswith(LOOK_ONLY):
            for step, other_step in zip(steps, other_steps, strict=True):
                assert np.array_equal(step.state, other_step.state), name


def test_goals_are_drawn_under_the_same_variation(environment):
    generator = np.random.default_rng(0)
    values = {name: factor.sample(generator) for name, factor in factors_of(environment).items()}
    environment.vary(values)
    place = drawn_configurations(environment, 1)[0]
    step = environment.reset(generator, start=place, goal=place)
    assert np.array_equal(step.frame, environment.goal.frame)


def test_what_varied_is_back_as_it_was_when_nothing_is_named(environment):
    factors = factors_of(environment)
    environment.vary({})
    start, goal = drawn_configurations(environment, 2, seed=1)
    first, _, steps = varied(environment, {}, start, goal)
    generator = np.random.default_rng(3)
    environment.vary({name: factor.sample(generator) for name, factor in factors.items()})
    environment.reset(generator, start=None, goal=None)
    again, _, steps_again = varied(environment, {}, start, goal)
    assert_same_step(first, again)
    assert_same_step(steps[-1], steps_again[-1])


def test_a_variation_waits_for_the_next_reset(environment):
    factors = factors_of(environment)
    visible = next(name for name in factors if name.startswith("colour"))
    start, goal = drawn_configurations(environment, 2, seed=1)
    _, _, steps = varied(environment, {}, start, goal)
    environment.reset(np.random.default_rng(0), start=start, goal=goal)
    environment.vary({visible: factors[visible].high})
    going_on = [environment.step(action) for action in actions_of(environment, 5)]
    for step, other in zip(steps, going_on, strict=True):
        assert_same_step(step, other)


def test_a_misspelt_factor_and_a_value_outside_its_bounds_are_refused(environment):
    name, factor = next(iter(factors_of(environment).items()))
    with pytest.raises(ValueError, match=rf"no factor '{name}x'; did you mean '{name}'\? there"):
        environment.vary({f"{name}x": factor.default})
    with pytest.raises(ValueError, match=f"{name} must be {len(factor.low)} numbers between"):
        environment.vary({name: [value + 1e3 for value in factor.high]})
    with pytest.raises(ValueError, match=f"{name} must be {len(factor.low)} numbers between"):
        environment.vary({name: [*factor.default, 0.0]})


# How an environment is found.


def test_every_file_of_the_folder_is_an_environment():
    files = {path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_")}
    assert set(environment_names()) == files
    assert {"two_rooms", "point_mass", "wall", "pusht", "point_maze", "reacher"} <= files


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(ValueError, match=r"did you mean 'two_rooms'\? there are: .*two_rooms"):
        make_environment("two_room")
    with pytest.raises(ValueError, match=r"no environment 'xyz'; there are: "):
        make_environment("xyz")


def test_options_reach_the_environment():
    environment = make_environment("two_rooms", image_size=96, max_steps=7)
    assert (environment.image_size, environment.max_steps) == (96, 7)


def test_a_misspelt_option_is_answered_with_the_nearest_and_with_all():
    with pytest.raises(
        ValueError,
        match=r"^two_rooms has no option 'imagesize'; did you mean 'image_size'\? there are: "
        r"image_size, door_center, max_steps$",
    ):
        make_environment("two_rooms", imagesize=96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": "large"}, "image_size of wall must be a whole number, such as 64, got 'la"),
        ({"image_size": 64.0}, "image_size of wall must be a whole number, such as 64, got 64.0"),
        ({"max_steps": True}, "max_steps of wall must be a whole number, such as 60, got True"),
    ],
)
def test_an_option_of_another_kind_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_environment("wall", **options)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("pusht", "gym_pusht.envs"),
        ("point_maze", "gymnasium_robotics.envs.maze.point_maze"),
        ("point_maze", "mujoco"),
        ("reacher", "dm_control.suite"),
        ("gymnasium_pixels", "gymnasium"),
    ],
)
def test_without_its_simulator_an_environment_says_what_to_install(monkeypatch, name, module):
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:length]), None)
    with pytest.raises(ImportError, match=r"pip install 'jepa-planning\[sim\]'"):
        make_environment(name)
