"""The point mass: inertia by the formulas of a textbook, walls and obstacles by hand."""

import math

import numpy as np
import pytest

from planning.environments.point_mass import DRAG, MAX_FORCE_NEWTONS, PointMass


def started(start, goal=(0.8, 0.8), **options):
    environment = PointMass(**options)
    environment.reset(np.random.default_rng(0), start=np.array(start), goal=np.array(goal))
    return environment


def test_a_force_speeds_the_disc_up_to_force_over_drag():
    environment = started((-0.85, -0.5))
    speeds = []
    for _ in range(8):
        step = environment.step(np.array([2.0, 0.0]))
        speeds.append(float(step.state[2]))
    seconds = 0.1 * np.arange(1, 9)
    expected = 2.0 / DRAG * (1 - np.exp(-DRAG * seconds))  # mass 1 kg
    assert speeds == pytest.approx(expected, rel=0.02)
    assert step.state[3] == 0


def test_the_disc_goes_on_by_itself_for_speed_times_mass_over_drag():
    environment = started((-0.5, -0.5))
    step = environment.step(np.array([MAX_FORCE_NEWTONS, 0.0]))
    begin, speed = float(step.state[0]), float(step.state[2])
    for _ in range(40):
        step = environment.step(np.zeros(2))
    assert step.state[0] - begin == pytest.approx(speed / DRAG, rel=0.05)


def test_one_frame_does_not_tell_how_fast_the_disc_is():
    environment = started((-0.5, -0.5))
    step = environment.step(np.array([MAX_FORCE_NEWTONS, 0.0]))
    assert step.state[2] > 0.3
    place = environment.configuration
    at_rest = environment.reset(np.random.default_rng(0), start=place, goal=np.array([0.8, 0.8]))
    assert at_rest.state[2] == 0
    assert np.array_equal(at_rest.frame, step.frame)


def test_a_wall_stops_the_disc_and_leaves_the_speed_along_it():
    environment = started((0.7, -0.8))
    for _ in range(6):
        step = environment.step(np.array([MAX_FORCE_NEWTONS, 2.0]))
    assert step.state[0] == pytest.approx(0.9)  # the arena ends at 1, the radius is 0.1
    assert step.state[2] == 0
    assert step.state[3] > 0.4


def test_an_obstacle_is_never_entered_and_is_slid_along():
    environment = started((-0.6, 0.02), obstacles=[(0.0, 0.0, 0.3)], max_steps=200)
    distances = []
    for _ in range(60):
        step = environment.step(np.array([2.0, 0.0]))
        distances.append(math.hypot(*step.state[:2]))
    assert min(distances) == pytest.approx(0.4)  # both radii
    assert step.state[0] > 0.5  # round it, on the side it was on
    assert step.state[1] > 0.3


def test_a_disc_that_hits_an_obstacle_head_on_stops():
    environment = started((-0.8, 0.0), obstacles=[(0.0, 0.0, 0.3)])
    for _ in range(20):
        step = environment.step(np.array([2.0, 0.0]))
    assert step.state.tolist() == pytest.approx([-0.4, 0, 0, 0], abs=1e-6)


def test_a_heavier_disc_is_slower_to_start():
    environment, speeds = PointMass(), []
    for mass in (0.5, 1.0, 2.0):
        environment.vary({"mass": (mass,)})
        environment.reset(
            np.random.default_rng(0), start=np.array([-0.5, 0.0]), goal=np.array([0.8, 0.8])
        )
        speeds.append(float(environment.step(np.array([1.0, 0.0])).state[2]))
    expected = [1 / DRAG * (1 - math.exp(-DRAG * 0.1 / mass)) for mass in (0.5, 1.0, 2.0)]
    assert speeds == pytest.approx(expected, rel=0.05)


def test_the_top_speed_is_the_force_over_the_drag():
    environment, speeds = PointMass(), []
    for drag in (2.0, 3.0, 12.0):
        environment.vary({"damping": (drag,)})
        environment.reset(
            np.random.default_rng(0), start=np.array([-0.8, 0.0]), goal=np.array([0.8, 0.8])
        )
        for _ in range(40):
            step = environment.step(np.array([0.3, 0.0]))
        speeds.append(float(step.state[2]))
    assert speeds == pytest.approx([0.15, 0.1, 0.025], rel=1e-3)


def test_without_asking_the_drag_is_as_it_always_was():
    plain, varied = started((-0.5, 0.0)), PointMass()
    varied.vary({"damping": (DRAG,)})
    varied.reset(np.random.default_rng(0), start=np.array([-0.5, 0.0]), goal=np.array([0.8, 0.8]))
    action = np.array([3.0, -1.0])
    assert plain.step(action).state.tolist() == varied.step(action).state.tolist()


def test_the_disc_is_drawn_where_it_is_and_as_large_as_it_is():
    environment = started((0.5, -0.25), image_size=128)
    environment.vary({"colour.agent": (1, 0, 0), "colour.background": (0, 0, 1)})
    frame = environment.reset(
        np.random.default_rng(0), start=np.array([0.5, -0.25]), goal=np.array([0.8, 0.8])
    ).frame
    rows, columns = np.nonzero(frame[..., 0] > 127)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((96, 80), abs=0.3)
    assert len(rows) == pytest.approx(math.pi * 6.4**2, rel=0.05)


def test_any_drawn_start_is_free_for_a_disc_of_any_size():
    environment = PointMass(obstacles=[(0.0, 0.0, 0.3)])
    generator = np.random.default_rng(0)
    starts = [environment.sample_configuration(generator) for _ in range(200)]
    environment.vary({"size.agent": (0.14,)})
    for start in starts:
        environment.reset(generator, start=start, goal=starts[0])


@pytest.mark.parametrize(
    ("obstacles", "message"),
    [
        ([(0, 0)], r"each obstacle must be \(x, y, radius\)"),
        (5, r"each obstacle must be \(x, y, radius\) .* got 5"),
        ([(0, 0, float("nan"))], r"each obstacle must be \(x, y, radius\)"),
        ([(0, 0, -1)], "a radius above 0"),
        ([(0, 0, 2)], "leave no room for the disc"),
    ],
)
def test_obstacles_that_cannot_be_are_refused(obstacles, message):
    with pytest.raises(ValueError, match=message):
        PointMass(obstacles=obstacles)


def test_a_start_inside_an_obstacle_is_refused():
    with pytest.raises(ValueError, match=r"start must be a free place .* got \[0.1, 0.0\]"):
        started((0.1, 0.0), obstacles=[(0.0, 0.0, 0.3)])


def test_the_expert_walks_round_obstacles():
    environment = started((-0.7, 0.0), (0.7, 0.0), obstacles=[(0.0, 0.0, 0.4)])
    expert, generator = environment.make_expert(), np.random.default_rng(0)
    step = environment.reset(generator, start=np.array([-0.7, 0.0]), goal=np.array([0.7, 0.0]))
    while not step.is_last:
        step = environment.step(expert(environment, step, generator))
    assert step.is_success
