"""The engine is a real one: what physics conserves is conserved."""

import numpy as np
import pytest

from data_pipelines.physics_videos.engine import (
    FRAMES_PER_SECOND,
    GRAVITY,
    Block,
    Body,
    simulate,
    simulate_around,
)

FLOOR = Block(-2.0, 0.9, 3.0, 1.5)


def test_a_thing_on_the_floor_goes_on_as_it_did():
    motion = simulate([Body((0.1, 0.82), (0.4, 0.0))], [FLOOR], num_frames=20)
    expected = 0.1 + 0.4 * np.arange(20) / FRAMES_PER_SECOND
    np.testing.assert_allclose(motion.positions[:, 0, 0], expected, atol=1e-6)
    np.testing.assert_allclose(motion.positions[:, 0, 1], 0.82, atol=1e-4)


def test_a_falling_thing_follows_the_parabola_of_free_fall():
    motion = simulate([Body((0.5, 0.1), (0.2, -0.3))], num_frames=10)
    seconds = np.arange(10) / FRAMES_PER_SECOND
    np.testing.assert_allclose(motion.positions[:, 0, 0], 0.5 + 0.2 * seconds, atol=1e-9)
    expected = 0.1 - 0.3 * seconds + GRAVITY * seconds**2 / 2
    np.testing.assert_allclose(motion.positions[:, 0, 1], expected, atol=3e-3)
    np.testing.assert_allclose(motion.velocities[:, 0, 1], -0.3 + GRAVITY * seconds, atol=1e-9)


@pytest.mark.parametrize("shape", ["disc", "square"])
def test_a_bouncing_thing_comes_back_as_high_as_it_fell_from(shape):
    motion = simulate([Body((0.5, 0.3), radius=0.08, shape=shape)], [FLOOR], num_frames=40)
    heights = motion.positions[:, 0, 1]
    assert heights.max() < 0.82 + 0.01  # it never goes through the floor
    assert heights[15:].min() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("speeds", [(0.4, 0.0), (0.4, -0.4), (0.5, -0.2)])
def test_a_collision_conserves_momentum_and_energy_and_exchanges_velocities(speeds):
    bodies = [Body((x, 0.82), (v, 0.0)) for x, v in zip((0.3, 0.6), speeds, strict=True)]
    motion = simulate(bodies, [FLOOR], num_frames=24)
    velocities = motion.velocities[..., 0]  # (time, 2)
    np.testing.assert_allclose(velocities.sum(1), sum(speeds), atol=1e-6)
    energy = (velocities**2).sum(1)
    np.testing.assert_allclose(energy[[0, -1]], sum(v**2 for v in speeds), atol=1e-6)
    np.testing.assert_allclose(velocities[-1], speeds[::-1], atol=1e-6)  # of equal masses


def test_a_wall_turns_a_thing_round():
    wall = Block(0.5, 0.4, 0.55, 0.9)
    motion = simulate([Body((0.2, 0.82), (0.4, 0.0))], [FLOOR, wall], num_frames=16)
    assert motion.positions[:, 0, 0].max() < 0.5 - 0.08 + 1e-3
    assert motion.velocities[-1, 0, 0] == pytest.approx(-0.4)


def test_a_motion_round_a_moment_is_there_at_that_moment_and_runs_forward_as_it_was_made():
    bodies = [Body((0.42, 0.82), (0.4, 0.0)), Body((0.58, 0.82), (0.0, 0.0))]
    motion = simulate_around(bodies, [FLOOR], num_frames=24, moment=10)
    np.testing.assert_allclose(motion.positions[10, :, 0], (0.42, 0.58))
    np.testing.assert_allclose(motion.velocities[10, :, 0], (0.4, 0.0))
    first = [
        Body(tuple(place), tuple(velocity))
        for place, velocity in zip(motion.positions[0], motion.velocities[0], strict=True)
    ]
    again = simulate(first, [FLOOR], num_frames=24)
    np.testing.assert_allclose(again.positions, motion.positions, atol=2e-3)


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        simulate([], num_frames=0)
    with pytest.raises(ValueError, match="moment must be 0 to 7, got 8"):
        simulate_around([], num_frames=8, moment=8)
