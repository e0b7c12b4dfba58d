"""OGBench's cube: its physics, without sinking arms, and with goals that are seen."""

import sys
from typing import Any

import numpy as np
import pytest

from planning.environments import cube as cube_module
from planning.environments import make_environment


def made(**options) -> Any:
    pytest.importorskip("ogbench", reason="pip install 'jepa-planning[sim-robot]'")
    return make_environment("cube", **options)


@pytest.fixture(scope="module")
def task():
    return made()


def generator(seed=0):
    return np.random.default_rng(seed)


def test_without_ogbench_it_says_what_to_install(monkeypatch):
    cube_module._compiled_simulator.cache_clear()
    monkeypatch.setitem(sys.modules, "ogbench", None)
    with pytest.raises(ImportError, match=r"ogbench is not installed: pip install .*\[sim-robot\]"):
        make_environment("cube")


def test_the_expert_of_ogbench_succeeds_in_eight_of_eight_episodes(task):
    for seed in range(8):
        step, expert = task.reset(generator(seed)), task.make_expert()
        np.random.seed(0)
        expected = np.random.uniform(size=4)
        np.random.seed(0)
        while not step.is_last:
            step = task.step(expert(task, step, generator(seed)))
        assert step.is_success
        assert np.linalg.norm(task.configuration[14:17] - task.goal_configuration[14:17]) < 0.04
        assert np.array_equal(np.random.uniform(size=4), expected)  # nothing was drawn from it


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_hand_goes_where_it_is_told_and_nowhere_else(task, axis, sign):
    first = task.reset(generator(2)).state
    action = np.zeros(5)
    action[axis] = sign * 0.02
    for _ in range(3):
        state = task.step(action).state
    moved = (state - first)[:3]
    assert 0.02 < sign * moved[axis] < 0.06
    assert np.abs(np.delete(moved, axis)).max() < 0.3 * abs(moved[axis])


def test_the_gripper_closes_and_stays_closed(task):
    assert task.reset(generator(2)).state[4] < 0.02
    for _ in range(10):
        state = task.step(np.array([0, 0, 0, 0, 1.0])).state
    assert state[4] > 0.7
    for _ in range(10):
        state = task.step(np.zeros(5)).state
    assert state[4] > 0.7


def test_hand_and_gripper_stay_but_with_the_control_of_ogbench_they_sink_and_creep():
    for has_ogbench_control, sunk, crept in ((False, 0.0, 0.0), (True, 0.035, 0.0285)):
        task = made(has_ogbench_control=has_ogbench_control)
        first = task.reset(generator()).state
        for _ in range(20):
            state = task.step(np.zeros(5)).state
        assert first[2] - state[2] == pytest.approx(sunk, abs=0.006 if sunk else 1e-4)
        assert state[4] - first[4] == pytest.approx(crept, abs=0.003 if crept else 1e-4)


def test_what_was_grasped_is_held_without_being_told_again(task):
    step, expert = task.reset(generator(3)), task.make_expert()
    while task.configuration[16] < 0.1:
        step = task.step(expert(task, step, generator()))
    height = task.configuration[16]
    for _ in range(25):
        task.step(np.zeros(5))
    assert task.configuration[16] == pytest.approx(height, abs=0.02)


def test_the_goal_picture_is_the_frame_at_the_goals_configuration(task):
    for seed in range(3):
        task.reset(generator(seed))
        goal, there = task.goal, task.goal_configuration
        step = task.reset(generator(9), start=there, goal=there)
        assert np.array_equal(step.frame, goal.frame)
        assert np.array_equal(step.state, goal.state)
        assert step.is_success


def test_success_is_ogbenchs_own(task):
    """Its test is a distance of at most 4 cm between the cube and the target's mark."""
    step, expert = task.reset(generator(3)), task.make_expert()
    while not step.is_last:
        step = task.step(expert(task, step, generator()))
        assert task._simulator._compute_successes() == [step.is_success]
    assert step.is_success


def test_the_future_of_a_saved_state_is_the_same_to_the_last_bit(task):
    """In the hand of the expert, in the middle of contact."""
    step, expert = task.reset(generator(3)), task.make_expert()
    for _ in range(25):
        step = task.step(expert(task, step, generator()))
    saved = task.save_state()
    actions = np.stack([task.action_spec.sample(generator(5)) for _ in range(4)])
    imagined = task.simulate(actions)
    assert np.array_equal(task.save_state(), saved)
    found = []
    for action in actions:
        task.step(action)
        found.append(task.distance_to_goal())
    assert np.array_equal(imagined, found)
    assert np.abs(task._data.qvel).max() > 1e-3


def test_what_carries_the_cube_is_drawn_solid_and_the_target_not_at_all(task):
    task.reset(generator(1))
    configuration = task.configuration
    frame = task.render(configuration).astype(int)
    is_red = (frame[..., 0] > 1.8 * frame[..., 1]) & (frame[..., 0] > frame[..., 2] + 30)
    assert 4 <= is_red.sum() <= 60  # one cube
    task._data.mocap_pos[0] = 0.4, 0.0, 0.1
    assert np.array_equal(task.render(configuration), frame)


def test_colours_and_the_weight_of_the_cube_can_vary(task):
    plain = task.reset(generator(7)).frame
    try:
        task.vary({"colour.cube": (0.0, 1.0, 0.0)})
        green = task.reset(generator(7)).frame
        is_cube = (green != plain).any(axis=-1)
        assert 4 <= is_cube.sum() <= 60
        assert (green[is_cube].argmax(-1) == 1).all()
        task.vary({"colour.floor": (0.9, 0.9, 0.9)})
        assert task.reset(generator(7)).frame.mean() > plain.mean() + 60
        task.vary({"mass.cube": (0.5,)})
        task.reset(generator(7))
        assert task._model.body("object_0").mass[0] == 0.5
    finally:
        task.vary({})
    assert np.array_equal(task.reset(generator(7)).frame, plain)
    assert task._model.body("object_0").mass[0] == cube_module.CUBE_MASS


def test_the_fine_meshes_show_ogbenchs_transparent_arm():
    fine, simple = made(has_fine_meshes=True), made()
    frame, other = fine.reset(generator()).frame, simple.reset(generator()).frame
    assert np.array_equal(fine.configuration, simple.configuration)
    assert 0.02 < (frame != other).any(axis=-1).mean() < 0.4


def test_impossible_options_and_places_are_refused(task):
    with pytest.raises(ValueError, match=r"image_size must be in \[32, 512\], got 8"):
        made(image_size=8)
    task.reset(generator())
    wrong = task.configuration
    wrong[14] = 9.0
    with pytest.raises(ValueError, match=r"goal must be possible: cube_x is 9, outside of"):
        task.reset(generator(), goal=wrong)
    wrong[14:21] = 0.4, 0, 0.02, 0, 0, 0, 0
    with pytest.raises(ValueError, match="the cube's quaternion has length 0"):
        task.reset(generator(), goal=wrong)
