"""What robots' tasks share, with the smallest robot there is: a mass on a rail."""

import numpy as np
import pytest

from planning.actions.space import ActionSpec
from planning.capabilities import Factor, Simulates, Varies
from planning.environments._robot_tasks import RobotTask, defaults_of, prepare_for
from planning.mujoco_rendering import load_mujoco

pytest.importorskip("mujoco", reason="pip install 'jepa-planning[sim]'")

RAIL = """
<mujoco><option gravity="0 0 0"/><worldbody><body><joint name="rail" type="slide" axis="1 0 0"/>
<geom size="0.1" mass="1"/></body></worldbody><actuator><motor joint="rail"/></actuator></mujoco>
"""


class Rail(RobotTask):
    """A mass is pushed along a rail; goals are half a metre to the right of their starts."""

    name, max_steps, success_distance = "rail", 10, 0.05
    configuration_names = ("x",)

    def __init__(self):
        mujoco = load_mujoco()
        self.model = mujoco.MjModel.from_xml_string(RAIL)
        self.data = mujoco.MjData(self.model)
        self.num_changes = 0
        self._apply(defaults_of(self))

    factors = property(lambda self: {"mass": Factor((0.5,), (4.0,), (1.0,))})
    action_spec = property(lambda self: ActionSpec(("force",), ("newton",), (-1.0,), (1.0,)))
    configuration = property(lambda self: self.data.qpos.copy())
    _model_and_data = property(lambda self: (self.model, self.data))
    _bounds = property(lambda self: ([-2.0], [2.0]))

    def _sample_task(self, generator, start, goal):
        start = generator.uniform(-1, 1, size=1) if start is None else start
        return start, start + 0.5 if goal is None else goal

    def _change(self, values):
        self.num_changes += 1
        self.model.body_mass[1] = values["mass"][0]

    def _begin_at(self, configuration, generator):
        load_mujoco().mj_resetData(self.model, self.data)
        self.data.qpos[:] = configuration

    def _act(self, action):
        self.data.ctrl[:] = action
        load_mujoco().mj_step(self.model, self.data, nstep=50)

    def render(self, configuration):
        return np.full((4, 4, 3), int(100 + 50 * configuration[0]), dtype=np.uint8)

    def _state_at(self, configuration):
        return configuration

    def _distance_between(self, configuration, goal):
        return float(abs(configuration - goal).max())


def generator(seed=0):
    return np.random.default_rng(seed)


def test_a_goal_belongs_to_its_start():
    task = Rail()
    for seed in range(3):
        step = task.reset(generator(seed))
        assert task.goal.state - step.state == pytest.approx(0.5)
    task.reset(generator(), start=np.array([0.25]))
    assert task.goal_configuration == pytest.approx(0.75)
    start, goal, group = task.draw_task(generator(), 0)
    assert (goal - start).item() == pytest.approx(0.5)
    assert group == "any"


def test_what_was_given_is_checked_and_the_first_that_is_wrong_is_named():
    task = Rail()
    with pytest.raises(ValueError, match=r"goal must be possible: x is 5, outside of \[-2, 2\]"):
        task.reset(generator(), goal=np.array([5.0]))
    for wrong in (np.zeros(2), np.array([np.inf])):
        with pytest.raises(ValueError, match=r"start must be 1 finite numbers \(x\), got"):
            task.reset(generator(), start=wrong)


def test_factors_are_applied_once_where_they_stay_the_same():
    task = Rail()
    assert isinstance(task, Varies)
    for _ in range(3):
        task.reset(generator())
    assert task.num_changes == 1
    task.vary({"mass": (2.0,)})
    assert task.model.body_mass[1] == 1.0  # from the next reset on
    for _ in range(2):
        task.reset(generator())
    assert (task.num_changes, task.model.body_mass[1]) == (2, 2.0)
    task.vary({})
    task.reset(generator())
    assert (task.num_changes, task.model.body_mass[1]) == (3, 1.0)


def test_a_simulation_that_was_tried_is_put_back_with_its_speed():
    task = Rail()
    assert isinstance(task, Simulates)
    task.reset(generator())
    task.step(np.array([1.0]))
    saved = task.save_state()
    distances = task.simulate(np.ones((5, 1)))
    assert (np.diff(distances) < 0).all()  # ever nearer
    assert np.array_equal(task.save_state(), saved)
    # 50 steps of 2 ms with 1 N on 1 kg from rest: the sum of the speeds after each step.
    assert task.data.qvel[0] == pytest.approx(0.1)
    expected = 0.5 - sum(0.002 * 0.002 * number for number in range(1, 101))
    assert distances[0] == pytest.approx(expected)


def test_a_simulator_that_is_not_there_is_named_with_how_to_get_it():
    with pytest.raises(ImportError, match=r"no_such_thing is not installed: pip install .*robot\]"):
        prepare_for("no_such_thing")
    prepare_for("mujoco")
