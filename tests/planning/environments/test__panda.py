"""What the Panda's three tasks share: conventions, goals, oracle, variation, experts."""

import math
import sys
from typing import Any

import numpy as np
import pytest

from data_pipelines.pose_differences import differences_between
from planning.capabilities import HasConfiguration, HasExpert, Simulates, Varies
from planning.environments import _panda_table, make_environment

TASKS = ("panda_reach", "panda_push", "panda_lift")


def made(name, **options) -> Any:
    pytest.importorskip("robosuite", reason="pip install 'jepa-planning[sim-robot]'")
    return make_environment(name, **options)


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return made(request.param)


@pytest.fixture(scope="module")
def reach():
    return made("panda_reach")


def some_actions(environment, count, seed=0):
    generator = np.random.default_rng(seed)
    return np.stack([environment.action_spec.sample(generator) for _ in range(count)])


def test_without_robosuite_it_says_what_to_install(monkeypatch):
    _panda_table._scene.cache_clear()
    monkeypatch.setitem(sys.modules, "robosuite", None)
    with pytest.raises(
        ImportError, match=r"robosuite is not installed: pip install .*\[sim-robot\]"
    ):
        make_environment("panda_reach")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"image_size": 16}, r"image_size must be in \[32, 512\], got 16"),
        ({"max_move": 0.0}, r"max_move must be in \(0, 0.2\], got 0.0"),
        ({"max_turn": 4.0}, r"max_turn must be in \(0, 1.0\], got 4.0"),
    ],
)
def test_an_impossible_option_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        made("panda_reach", **options)


def test_it_offers_all_capabilities(task):
    for capability in (HasConfiguration, HasExpert, Simulates, Varies):
        assert isinstance(task, capability)


def test_an_action_is_the_difference_of_poses_in_the_convention_of_the_data(reach):
    reach.reset(np.random.default_rng(3))
    # A slow movement, so that the lag of the arm is small.
    action = np.array([0.02, -0.02, 0.02, 0.05, -0.05, 0.1, 0.0])
    before = reach.step(action * 0).state
    after = reach.step(action).state
    assert np.abs(differences_between(before, after)[:3] - action[:3]).max() < 0.003
    assert np.abs(differences_between(before, after)[3:6] - action[3:6]).max() < 0.02


def test_a_state_of_a_hand_that_points_down_has_roll_pi_and_never_minus_pi(reach):
    for seed in range(5):
        state = reach.reset(np.random.default_rng(seed)).state
        assert state[3] == pytest.approx(math.pi, abs=1e-3)
        for action in some_actions(reach, 4, seed) * 0.3:
            if not (step := reach.step(action)).is_last:
                assert 2 < step.state[3] < 4.3


def test_an_action_that_is_not_a_number_is_refused_and_does_not_count(task):
    task.reset(np.random.default_rng(0))
    before = task.save_state()
    with pytest.raises(ValueError, match="must be finite"):
        task.step(np.full(7, np.nan))
    assert np.array_equal(task.save_state(), before)


def test_the_goal_picture_is_the_frame_at_the_goals_configuration(task):
    """Also where the hand holds the cube: placing is exact."""
    for seed in range(3):
        task.reset(np.random.default_rng(seed))
        goal = task.goal
        _, there = task._sample_task(np.random.default_rng(seed), None, None)
        step = task.reset(np.random.default_rng(99), start=there, goal=there)
        assert np.array_equal(step.frame, goal.frame)
        assert np.array_equal(step.state, goal.state)
        assert step.is_success


def test_a_configuration_that_was_reached_looks_and_is_the_same_as_a_goal(task):
    task.reset(np.random.default_rng(4))
    for action in some_actions(task, 3):
        step = task.step(action)
    reached = task.configuration
    task.reset(np.random.default_rng(0), goal=reached)
    assert np.array_equal(task.goal.frame, step.frame)
    assert np.abs(task.goal.state - step.state).max() < 1e-6


@pytest.mark.parametrize(
    ("index", "value", "complaint"),
    [
        (3, 5.0, r"start must be possible: joint4 is 5, outside of \[-3.092, -0.0498\]"),
        (7, 0.2, "finger1 is 0.2, outside of"),
        (12, 0.0, "the cube's quaternion has length 0"),
        (0, np.nan, "start must be 17 finite numbers"),
    ],
)
def test_an_impossible_configuration_is_refused_in_one_line(reach, index, value, complaint):
    reach.reset(np.random.default_rng(0))
    wrong = reach.configuration
    wrong[12:16] = 1, 0, 0, 0
    wrong[index] = value
    with pytest.raises(ValueError, match=complaint):
        reach.reset(np.random.default_rng(0), start=wrong)


# The oracle.


def test_simulating_says_what_stepping_finds_and_changes_nothing(task):
    task.reset(np.random.default_rng(5))
    actions = some_actions(task, 5)
    before, frame = task.save_state(), task.render(task.configuration)
    imagined = task.simulate(actions)
    assert np.array_equal(task.save_state(), before)
    assert np.array_equal(task.render(task.configuration), frame)
    found = []
    for action in actions:
        task.step(action)
        found.append(task.distance_to_goal())
    assert np.array_equal(imagined, found)  # to the last bit


def test_a_state_that_was_loaded_leads_to_the_same_future_to_the_last_bit(task):
    """Also in the middle of contact: the expert has gone some way, and speeds are not 0."""
    step = task.reset(np.random.default_rng(1))
    expert, generator = task.make_expert(), np.random.default_rng(0)
    while not step.is_last and task._num_steps < 7:
        step = task.step(expert(task, step, generator))
    saved, actions = task.save_state(), some_actions(task, 4)
    futures = []
    for _ in range(2):
        task.load_state(saved)
        for action in actions:
            task._act(action)
        futures.append(np.concatenate([task.save_state(), task.configuration]))
    assert np.abs(task._table.data.qvel).max() > 1e-3
    assert np.array_equal(*futures)


def test_simulating_draws_nothing(task, monkeypatch):
    task.reset(np.random.default_rng(5))
    monkeypatch.setattr(task._table, "draw", None)
    assert task.simulate(np.zeros((2, 7))).shape == (2,)


# What can vary.


def test_a_factor_changes_the_picture_from_the_next_reset_on_and_back(reach):
    generator = np.random.default_rng
    plain = reach.reset(generator(7)).frame
    for name, factor in reach.factors.items():
        if name.startswith(("mass", "friction")):
            continue
        for end in (factor.low, factor.high):
            reach.vary({name: end})
            assert (reach.reset(generator(7)).frame != plain).any(axis=-1).sum() > 4, name
    reach.vary({})
    assert np.array_equal(reach.reset(generator(7)).frame, plain)


def test_colours_and_light_are_what_they_are_called(reach):
    def seen(**values):
        reach.vary({name.replace("_", "."): value for name, value in values.items()})
        return reach.reset(np.random.default_rng(7)).frame.astype(int)

    try:
        plain = seen()
        blue = seen(colour_table=(0.0, 0.0, 1.0))
        is_table = (blue != plain).any(axis=-1)
        assert is_table.mean() > 0.2
        assert (blue[is_table].argmax(-1) == 2).mean() > 0.95
        green = seen(colour_cube=(0.0, 1.0, 0.0))
        is_cube = (green != plain).any(axis=-1)
        assert 4 <= is_cube.sum() <= 60
        assert (green[is_cube].argmax(-1) == 1).all()
        dark, bright = seen(light_brightness=(0.5,)), seen(light_brightness=(1.5,))
        assert dark.mean() < 0.75 * plain.mean()
        assert bright.mean() > 1.1 * plain.mean()
    finally:
        reach.vary({})


def test_the_camera_turns_about_the_scene_and_the_goal_is_seen_from_there_too(reach):
    reach.vary({"camera.yaw": (25.0,), "camera.distance": (1.2,)})
    try:
        _, goal = reach._sample_task(np.random.default_rng(7), None, None)
        reach.reset(np.random.default_rng(0), start=goal, goal=goal)
        assert np.array_equal(reach.render(reach.configuration), reach.goal.frame)
    finally:
        reach.vary({})


def test_a_heavy_or_slippery_cube_is_pushed_otherwise():
    task = made("panda_push")

    def pushed(values):
        task.vary(values)
        step, expert = task.reset(np.random.default_rng(1)), task.make_expert()
        first = task._table.cube_position
        while not step.is_last and task._num_steps < 7:
            step = task.step(expert(task, step, np.random.default_rng(0)))
        return np.linalg.norm(task._table.cube_position - first)

    plain = pushed({})
    assert plain > 0.01
    assert pushed({}) == plain
    assert pushed({"friction.cube": (0.2,)}) != plain
    assert pushed({"mass.cube": (0.5,)}) != plain


def test_a_task_that_was_drawn_for_a_smaller_cube_puts_a_larger_one_on_the_table():
    task = made("panda_push")
    start, goal, _ = task.draw_task(np.random.default_rng(0), 0)
    task.vary({"size.cube": (0.06,)})
    task.reset(np.random.default_rng(0), start=start, goal=goal)
    assert task.configuration[11] == pytest.approx(start[11] + 0.009, abs=1e-3)
    assert task.goal_configuration[11] == task.configuration[11]
    for _ in range(2):
        task.step(np.zeros(7))
    assert np.abs(task.configuration[9:12] - start[9:12] - [0, 0, 0.009]).max() < 1e-3


def test_an_unknown_factor_and_a_value_out_of_bounds_are_refused(reach):
    with pytest.raises(ValueError, match=r"no factor 'colour.cub'; did you mean 'colour.cube'\?"):
        reach.vary({"colour.cub": (0, 0, 0)})
    with pytest.raises(ValueError, match=r"light.brightness must be 1 numbers between"):
        reach.vary({"light.brightness": (9.0,)})


# Frames.


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_frames_have_the_size_that_was_asked_for(image_size):
    task = made("panda_reach", image_size=image_size)
    assert task.reset(np.random.default_rng(0)).frame.shape == (image_size, image_size, 3)
    assert task.goal.frame.shape == (image_size, image_size, 3)
