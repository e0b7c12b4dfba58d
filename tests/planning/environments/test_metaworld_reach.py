"""Metaworld's reach-v3: its hand, its physics and its test of success, with a goal that is seen."""

import sys
from typing import Any

import numpy as np
import pytest

from planning.environments import make_environment


def made(**options) -> Any:
    pytest.importorskip("metaworld", reason="pip install 'jepa-planning[sim-robot]'")
    return make_environment("metaworld_reach", **options)


@pytest.fixture(scope="module")
def task():
    return made()


def generator(seed=0):
    return np.random.default_rng(seed)


def test_without_metaworld_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(
        ImportError, match=r"metaworld is not installed: pip install .*\[sim-robot\]"
    ):
        make_environment("metaworld_reach")


def test_the_expert_reaches_the_goal_in_eight_of_eight_episodes(task):
    for seed in range(8):
        step, expert = task.reset(generator(seed)), task.make_expert()
        assert not step.is_success
        while not step.is_last:
            step = task.step(expert(task, step, generator(seed)))
        assert step.is_success
        assert task._num_steps < 20


def test_success_is_that_of_metaworld(task):
    """Its own test: the middle of the finger tips is within 5 cm of the target."""
    step, expert = task.reset(generator(4)), task.make_expert()
    target = task._tips(task.goal_configuration)
    while not step.is_last:
        step = task.step(expert(task, step, generator()))
        distance = np.linalg.norm(task._simulator.tcp_center - target)
        assert distance == pytest.approx(task.distance_to_goal(), abs=1e-9)
        assert (distance <= 0.05) == step.is_success


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_hand_comes_to_where_it_is_pulled(task, axis, sign):
    first = task.reset(generator(1)).state
    action = np.array([0.0, 0.0, 0.0, -1.0])
    action[axis] = sign * 0.03
    for number in range(8):
        state = task.step(action if number == 0 else action * (0, 0, 0, 1)).state
    moved = (state - first)[:3]
    assert moved[axis] == pytest.approx(sign * 0.03, abs=0.004)
    assert np.abs(np.delete(moved, axis)).max() < 0.004


def test_an_effort_closes_and_opens_the_fingers(task):
    task.reset(generator(1))
    efforts = []
    for effort in (1.0, -1.0):
        for _ in range(8):
            state = task.step(np.array([0, 0, 0, effort])).state
        efforts.append(float(state[3]))
    assert efforts[0] > 0.3
    assert efforts[1] < 0.05


def test_the_action_is_the_same_movement_however_it_is_divided():
    ends = []
    for repeat, count in ((1, 10), (5, 2), (10, 1)):
        task = made(action_repeat=repeat)
        assert task.frames_per_second == 80 / repeat
        assert task.action_spec.high[0] == pytest.approx(0.01 * repeat)
        task.reset(generator(1))
        for _ in range(count):
            task.step(np.array([0.005 * repeat, 0, 0, -1.0]))
        ends.append(task.configuration)
    assert np.abs(ends[1] - ends[0]).max() < 1e-6
    assert np.abs(ends[2] - ends[0]).max() < 1e-6


def test_starts_and_goals_are_settled_apart_and_share_the_puck(task):
    for seed in range(4):
        step = task.reset(generator(seed))
        start, goal = task.configuration, task.goal_configuration
        assert np.array_equal(start[9:16], goal[9:16])
        place = task._tips(goal)
        assert (place > [-0.11, 0.79, 0.04]).all()
        assert (place < [0.11, 0.91, 0.31]).all()
        for _ in range(3):
            later = task.step(np.zeros(4))
        assert np.abs(later.state - step.state).max() < 1e-3
        assert np.array_equal(later.frame, step.frame)


def test_the_goal_picture_is_the_frame_at_the_goals_configuration(task):
    for seed in range(3):
        task.reset(generator(seed))
        goal, there = task.goal, task.goal_configuration
        step = task.reset(generator(9), start=there, goal=there)
        assert np.array_equal(step.frame, goal.frame)
        assert np.array_equal(step.state, goal.state)
        assert step.is_success


def test_the_mark_of_the_target_is_not_drawn(task):
    frame = task.reset(generator(2)).frame
    task._simulator.model.site("goal").pos[:] = 0.0, 0.7, 0.1
    assert np.array_equal(task.render(task.configuration), frame)


def test_the_future_of_a_saved_state_is_the_same_to_the_last_bit(task):
    task.reset(generator(3))
    actions = np.stack([task.action_spec.sample(generator(5)) for _ in range(4)])
    task.step(actions[0])
    saved = task.save_state()
    imagined = task.simulate(actions)
    assert np.array_equal(task.save_state(), saved)
    found = []
    for action in actions:
        task.step(action)
        found.append(task.distance_to_goal())
    assert np.array_equal(imagined, found)


def test_colours_can_vary_and_come_back(task):
    plain = task.reset(generator(7)).frame
    try:
        task.vary({"colour.puck": (0.0, 1.0, 0.0)})
        green = task.reset(generator(7)).frame
        is_puck = (green != plain).any(axis=-1)
        assert 3 <= is_puck.sum() <= 40
        assert (green[is_puck].argmax(-1) == 1).all()
    finally:
        task.vary({})
    assert np.array_equal(task.reset(generator(7)).frame, plain)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"image_size": 8}, r"image_size must be in \[32, 512\], got 8"),
        ({"action_repeat": 0}, r"action_repeat must be in \[1, 20\], got 0"),
    ],
)
def test_impossible_options_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        made(**options)


def test_a_place_to_which_the_hand_cannot_be_pulled_is_refused(task):
    task.reset(generator())
    wrong = task.configuration
    wrong[16] = 3.0
    with pytest.raises(ValueError, match=r"start must be possible: target_x is 3, outside of"):
        task.reset(generator(), start=wrong)
