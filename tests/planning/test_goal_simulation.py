"""The bookkeeping of an episode, on a world of one number that anybody can simulate by hand."""

import numpy as np
import pytest

from planning.actions.space import ActionSpec
from planning.capabilities import Factor
from planning.goal_simulation import GoalSimulation, checked_values, unreached_goal


class Line(GoalSimulation):
    """A point on a line; an action moves it, and its drift moves it on."""

    name, max_steps, success_distance = "line", 4, 0.5
    configuration_names = ("x",)
    drawn = 0
    x, drift, shade = 0.0, 0.0, 0.0

    @property
    def action_spec(self):
        return ActionSpec(("dx",), ("1",), (-1.0,), (1.0,))

    @property
    def configuration(self):
        return np.array([self.x])

    def sample_configuration(self, generator):
        return generator.uniform(-10, 10, size=1)

    def checked_configuration(self, configuration, what):
        if abs(configuration[0]) > 10:
            raise ValueError(f"{what} must be within 10")
        return np.array(configuration, dtype=np.float64)

    def render(self, configuration):
        self.drawn += 1
        return np.full((1, 1, 3), 10 * configuration[0] + self.shade).astype(np.uint8)

    def _state_at(self, configuration):
        return np.array([configuration[0], 0.0])

    def _state_now(self):
        return np.array([self.x, self.drift])

    def _distance_between(self, configuration, goal):
        return float(abs(configuration - goal)[0])

    def _begin_at(self, configuration, generator):
        self.x, self.drift = float(configuration[0]), 0.0

    def _act(self, action):
        self.x += float(action[0]) + self.drift
        self.drift = float(action[0]) / 2

    def _saved(self):
        return np.array([self.x, self.drift])

    def _load(self, saved):
        self.x, self.drift = saved.tolist()

    @property
    def factors(self):
        return {"shade": Factor((0.0,), (9.0,), (1.0,))}

    def _apply(self, values):
        (self.shade,) = values["shade"]


def started(start=0.0, goal=3.0):
    line = Line()
    line.reset(np.random.default_rng(0), start=np.array([start]), goal=np.array([goal]))
    return line


def test_an_episode_by_hand():
    line = started(goal=3.0)
    step = line.step(np.array([1.0]))  # 1.0, and a drift of 0.5
    assert (line.distance_to_goal(), step.is_success, step.is_last) == (2.0, False, False)
    assert step.state.tolist() == [1.0, 0.5]
    step = line.step(np.array([1.0]))  # 2.5: exactly half a unit away, and not nearer
    assert (step.is_success, step.is_last) == (False, False)
    step = line.step(np.array([0.0]))  # 3.0
    assert (step.is_success, step.is_last) == (True, True)
    assert line.goal.state.tolist() == [3.0, 0.0]
    assert line.goal.frame.tolist() == [[[31, 31, 31]]]


def test_an_episode_ends_after_its_steps():
    line = started(goal=9.0)
    assert [line.step(np.zeros(1)).is_last for _ in range(4)] == [False, False, False, True]
    with pytest.raises(RuntimeError, match="the episode is over"):
        line.step(np.zeros(1))


def test_simulating_draws_nothing_goes_past_the_end_and_comes_back():
    line = started(goal=3.0)
    drawn = line.drawn
    distances = line.simulate(np.array([[1.0], [1.0], [0.5], [0.0], [0.0], [0.0]]))
    assert distances.tolist() == [2.0, 0.5, 0.5, 0.75, 0.75, 0.75]
    assert line.drawn == drawn
    assert line.save_state().tolist() == [0.0, 0.0, 0.0]


def test_actions_that_are_tried_are_bounded_as_those_that_are_done():
    assert started(goal=3.0).simulate(np.array([[5.0]])).tolist() == [2.0]


def test_a_kept_state_has_the_steps_so_far():
    line = started(goal=9.0)
    for _ in range(3):
        line.step(np.zeros(1))
    saved = line.save_state()
    assert line.step(np.zeros(1)).is_last
    line.load_state(saved)
    assert line.step(np.zeros(1)).is_last  # the fourth again


def test_a_task_is_no_success_from_the_beginning():
    generator = np.random.default_rng(0)
    tasks = [Line().draw_task(generator, index) for index in range(200)]
    assert all(abs(start - goal)[0] >= 0.5 and group == "any" for start, goal, group in tasks)


def test_the_goal_configuration_is_a_copy():
    line = started(goal=3.0)
    line.goal_configuration[:] = 0
    assert line.distance_to_goal() == 3.0
    with pytest.raises(RuntimeError, match="no goal before the first reset"):
        _ = Line().goal_configuration


def test_factors_wait_for_the_reset_and_fall_back_to_their_defaults():
    line = started(start=1.0)
    line.vary({"shade": (5.0,)})
    assert line.shade == 1.0
    assert line.reset(np.random.default_rng(0), start=np.array([1.0])).frame[0, 0, 0] == 15
    line.vary({})
    assert line.reset(np.random.default_rng(0), start=np.array([1.0])).frame[0, 0, 0] == 11


def test_a_new_goal_keeps_place_and_drift_and_gives_all_steps_anew():
    line = started(goal=9.0)
    for _ in range(4):
        step = line.step(np.array([0.5]))
    assert step.is_last and not step.is_success
    drawn = line.drawn
    again = line.new_goal(np.random.default_rng(1))
    assert np.array_equal(again.state, step.state) and again.state[1] == 0.25  # half the last move
    assert np.array_equal(again.frame, step.frame)
    assert line.drawn == drawn + 2  # the goal, and what it looks like now
    assert line.goal_configuration[0] != 9.0 and line.distance_to_goal() >= 0.5
    assert [line.step(np.zeros(1)).is_last for _ in range(4)][-1]


def test_a_goal_is_drawn_again_until_it_is_far_enough():
    draws = iter(np.array([[0.1], [0.4], [0.5], [3.0]]))
    goal = unreached_goal(lambda: next(draws), lambda drawn: float(drawn[0]), beyond=0.5)
    assert goal.tolist() == [0.5]
    with pytest.raises(ValueError, match=r"all of 100 goals that were drawn are nearer than 0\.5"):
        unreached_goal(lambda: np.zeros(1), lambda drawn: 0.49, beyond=0.5)


def test_values_are_completed_and_checked():
    factors = {"a": Factor((0.0,), (1.0,), (0.5,)), "b": Factor((0.0,), (1.0,), (0.25,))}
    assert checked_values(factors, {"b": [1]}) == {"a": (0.5,), "b": (1.0,)}
    with pytest.raises(ValueError, match=r"no factor 'c'; there are: a, b"):
        checked_values(factors, {"c": [1]})
    with pytest.raises(ValueError, match=r"a must be 1 numbers between \(0.0,\) and \(1.0,\)"):
        checked_values(factors, {"a": [2]})
