"""Reacher: a pose is reached with both joints, around the circle."""

import math

import numpy as np
import pytest

from planning.environments import make_environment


def made(**options):
    try:
        return make_environment("reacher", **options)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("offset", "is_success"),
    [
        ((0.049, 0.0), True),
        ((0.051, 0.0), False),
        ((0.0, -0.049), True),
        ((0.0, -0.051), False),
        ((0.049, 0.049), True),  # each joint on its own, not their sum
        ((2 * math.pi + 0.049, 0.0), True),
        ((2 * math.pi + 0.051, 0.0), False),
    ],
)
def test_success_is_both_joints_within_a_twentieth_of_a_radian(offset, is_success):
    goal = np.array([3.12, 0.5])  # near the seam of the circle
    step = made().reset(np.random.default_rng(0), start=goal + offset, goal=goal)
    assert step.is_success == is_success


def test_the_shoulder_is_told_between_minus_pi_and_pi():
    environment = made()
    for angle, told in ((3.5, 3.5 - 2 * math.pi), (-3.5, 2 * math.pi - 3.5), (7.0, 0.71681)):
        start = np.array([angle, 0.0])
        step = environment.reset(np.random.default_rng(0), start=start, goal=np.array([1.0, 1.0]))
        assert step.state[0] == pytest.approx(told, abs=1e-4)
        turned = environment.render(np.array([angle + 2 * math.pi, 0.0]))
        # A turn later, sines differ in the last bit: at most the edge of the arm.
        assert (turned != step.frame).any(axis=-1).mean() < 0.01


def test_a_torque_turns_its_joint_that_way():
    environment = made()
    rest = np.array([0.0, 0.0])
    for action, joint, sign in (((1, 0), 0, 1), ((-1, 0), 0, -1), ((0, 1), 1, 1), ((0, -1), 1, -1)):
        environment.reset(np.random.default_rng(0), start=rest, goal=np.array([2.0, 2.0]))
        for _ in range(3):
            step = environment.step(np.array(action, dtype=float))
        assert sign * step.state[joint] > 0.05
        assert sign * step.state[joint + 2] > 0


def test_an_action_that_is_held_is_the_action_again_and_again():
    held, single = made(action_repeat=3), made(action_repeat=1)
    assert (held.frames_per_second, single.frames_per_second) == pytest.approx((50 / 3, 50))
    for environment in (held, single):
        environment.reset(
            np.random.default_rng(0), start=np.array([0.0, 1.0]), goal=np.array([2.0, -2.0])
        )
    for action in np.random.default_rng(0).uniform(-1, 1, size=(5, 2)):
        step = held.step(action)
        for _ in range(3):
            other = single.step(action)
        assert np.array_equal(step.state, other.state)


def test_the_ball_of_the_suites_own_task_is_not_drawn():
    environment = made()
    pose = np.array([0.3, -0.4])
    frame = environment.render(pose)
    environment._painter.model.geom("target").pos[:] = (0.1, 0.1, 0.05)
    assert np.array_equal(environment.render(pose), frame)


def test_the_arm_ends_where_its_angles_say():
    environment = made(image_size=128)
    environment.vary({"colour.agent": (1, 0, 0), "colour.background": (0, 0, 0)})
    pose = np.array([math.pi / 2, math.pi / 2])  # up, then to the left
    environment.reset(np.random.default_rng(0), start=pose, goal=pose)
    is_arm = environment.render(pose)[..., 0] > 60
    rows, columns = np.nonzero(is_arm)
    pixels_per_metre = 128 / (2 * 0.75 * math.tan(math.radians(22.5)))
    assert 64 - rows.min() == pytest.approx(0.13 * pixels_per_metre, abs=2.5)
    assert 64 - columns.min() == pytest.approx(0.13 * pixels_per_metre, abs=2.5)


def test_a_pose_beyond_the_wrist_is_refused():
    with pytest.raises(ValueError, match=r"goal must be \(shoulder, wrist\).* within 2.79 of 0"):
        made().reset(np.random.default_rng(0), goal=np.array([0.0, 3.3]))


def test_what_the_arm_can_reach_with_all_its_strength_can_be_a_goal():
    environment, generator = made(), np.random.default_rng(0)
    for _ in range(5):
        environment.reset(generator, start=np.array([0.0, 2.5]), goal=np.array([0.0, -2.5]))
        for index in range(40):
            environment.step(np.array([1.0 if index % 3 else -1.0, 1.0]))
        pose = environment.configuration
        environment.reset(generator, start=np.zeros(2), goal=pose)
        assert np.allclose(environment.goal_configuration, pose)
