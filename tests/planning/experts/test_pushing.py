"""The expert of PushT: its geometry by hand, and goals that it reaches in the real simulator."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from planning.experts.pushing import AFTER_GAIN, CANVAS_PIXELS, GAIN, PushingExpert
from planning.experts.tee import MASS_CENTRE

MIDDLE = (256.0, 256.0 - MASS_CENTRE)  # a block place whose centre of mass is at (256, 256)
MAX_OFFSET = 100.0


def pushes(disc, *, goal_offset, angle=0.0):
    """Where the disc should be one step later, for a T in the middle of the canvas."""
    state = np.array([*disc, *MIDDLE, angle])
    goal = np.array([50.0, 50.0, MIDDLE[0] + goal_offset[0], MIDDLE[1] + goal_offset[1], angle])
    return PushingExpert().move(state, goal)


def test_it_pushes_from_behind():
    """The T should go down: the disc touches the middle of its top edge and moves down."""
    step = pushes((256.0, 256.0 - 45.0 - 15.0), goal_offset=(0, 60))
    assert step[1] > 5 and abs(step[0]) < 4


def test_a_disc_on_the_wrong_side_walks_away_around_the_t_first():
    disc = np.array([256.0, 256.0 + 75.0 + 16.0])  # below the stem; the T should go down
    step = pushes(disc, goal_offset=(0, 60))
    assert abs(step[0]) > 10  # sideways, not through the T


def test_nothing_but_the_disc_moves_once_the_t_is_at_its_goal():
    step = pushes((100.0, 100.0), goal_offset=(0, 0))
    np.testing.assert_allclose(step / np.linalg.norm(step), [-math.sqrt(0.5)] * 2)


def test_the_same_push_is_chosen_however_the_t_is_turned():
    """Turning T, disc and goal together turns the step with them."""
    offset, push = np.array([30.0, -60.0]), np.array([20.0, 60.0])
    steps = []
    for angle in (0.0, 1.1):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        centre = np.array([256.0, 256.0])
        place = centre - turn @ np.array([0.0, MASS_CENTRE])
        state = np.array([*(centre + turn @ offset), *place, angle])
        goal = np.array([50.0, 50.0, *(place + turn @ push), angle])
        steps.append(turn.T @ PushingExpert().move(state, goal))
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-6)


def test_it_infers_what_was_executed_from_where_the_disc_went():
    """Whatever noise was added to its action, its next action takes the disc's speed away."""
    expert = PushingExpert()
    goal = np.array([115.0, 108.0, 400.0, 400.0, 0.0])  # in reach of a step
    spec = SimpleNamespace(low=(-MAX_OFFSET,) * 2, high=(MAX_OFFSET,) * 2)
    environment = SimpleNamespace(goal=SimpleNamespace(state=goal), action_spec=spec)
    place, executed = np.array([100.0, 100.0]), np.array([0.0, 0.0])
    for noise in (np.array([40.0, -25.0]), np.array([-30.0, 10.0]), np.zeros(2)):
        state = np.array([*place, 400.0, 400.0, 0.0])
        wanted = expert.move(state, goal)
        action = expert(environment, SimpleNamespace(state=state), np.random.default_rng(0))
        np.testing.assert_allclose(GAIN * action + AFTER_GAIN * executed, wanted, atol=1e-4)
        disturbed = action + noise
        place = place + GAIN * disturbed + AFTER_GAIN * executed
        executed = disturbed


def test_a_pace_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"pace must be in \(0, 1\], got 0"):
        PushingExpert(pace=0)
    with pytest.raises(ValueError, match="tolerance_pixels must be above 0, got -1"):
        PushingExpert(tolerance_pixels=-1)


def test_twice_the_pace_walks_twice_as_far():
    steps = []
    for pace in (0.5, 1.0):
        state = np.array([100.0, 100.0, *MIDDLE, 0.0])
        goal = np.array([400.0, 100.0, *MIDDLE, 0.0])
        steps.append(PushingExpert(pace=pace).move(state, goal))
    np.testing.assert_allclose(steps[1], 2 * steps[0])
    assert np.linalg.norm(steps[0]) == pytest.approx(15.0)


def test_it_reaches_almost_all_random_goals_in_the_simulator():
    pytest.importorskip("gym_pusht", reason="pip install 'jepa-planning[sim]'")
    from planning.environments.pusht import PushT

    environment = PushT(image_size=32, max_steps=150)
    successes, block_moved = 0, 0
    for seed in range(12):
        generator = np.random.default_rng((1, seed))
        time_step, expert = environment.reset(generator), environment.make_expert()
        start = time_step.state.copy()
        while not time_step.is_last:
            action = expert(environment, time_step, generator)
            assert np.abs(action).max() <= environment.max_offset
            time_step = environment.step(action)
            assert ((time_step.state[:2] >= 0) & (time_step.state[:2] <= CANVAS_PIXELS)).all()
        successes += time_step.is_success
        block_moved += bool(np.abs(time_step.state - start)[2:].max() > 10)
    assert successes >= 10, f"{successes} of 12"
    assert block_moved >= 11
