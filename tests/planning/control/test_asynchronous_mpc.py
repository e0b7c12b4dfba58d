"""Planning while acting: what is executed when, by hand; and with real threads."""

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from planning.actions.limits import Gripper
from planning.actions.space import ActionSpec, ActionSteps
from planning.control import asynchronous_mpc
from planning.control.asynchronous_mpc import AsynchronousPolicy
from planning.control.goal_pursuit import ArrivalRule
from planning.control.metronome import Metronome
from planning.control.mpc import run_episode
from planning.planners.cem import CEM
from planning.types import Goal, Latent, TimeStep


class LineWorld:
    """A robot on a line: the frame's first pixel holds where it is, an action moves it."""

    action_dim = 1
    seconds_per_step = None
    device = torch.device("cpu")

    def __init__(self, num_steps=1, seconds_per_rollout=0.0):
        self.action_steps = ActionSteps(num_steps, "in_equal_parts")
        self.seconds_per_rollout = seconds_per_rollout
        self.encoded = []

    def encode(self, frame, state=None):
        self.encoded.append(place_in(frame))
        return Latent(torch.tensor([[place_in(frame)]]))

    def rollout(self, start, actions):
        time.sleep(self.seconds_per_rollout if len(actions) > 1 else 0)
        return Latent(start.tokens + actions.cumsum(1).unsqueeze(2))

    def distance(self, latents, goal):
        return (latents - goal).abs().mean((-2, -1))


def picture_of(place):
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[0, :2, 0] = divmod(round(place * 100) + 30000, 256)
    return frame


def place_in(frame):
    return (int(frame[0, 0, 0]) * 256 + int(frame[0, 1, 0]) - 30000) / 100


@dataclass
class Robot:
    """Moves by its action, of at most 1; the command takes effect some steps later."""

    lag_steps: int = 0
    max_steps: int = 30
    goal_place: float = 100.0
    name: str = "robot"
    frames_per_second: float = 100.0
    image_size: int = 4
    state_names: tuple = ("x",)
    state_units: tuple = ("metre",)
    success_distance: float = 0.3
    commands: list = field(default_factory=list)
    places: list = field(default_factory=list)

    action_spec = ActionSpec(("dx",), ("metre/step",), (-1.0,), (1.0,))

    def reset(self, generator, *, start, goal):
        self.place, self.commands, self.places = float(start[0]), [], [float(start[0])]
        self.goal_place = float(goal[0])
        return self._shown()

    def step(self, action):
        assert np.isfinite(action).all() and (np.abs(action) <= 1).all(), "refused by the robot"
        self.commands.append(float(action[0]))
        done = self.commands[-1 - self.lag_steps] if len(self.commands) > self.lag_steps else 0.0
        self.place += done
        self.places.append(self.place)
        return self._shown()

    @property
    def goal(self):
        return Goal(picture_of(self.goal_place), np.array([self.goal_place], np.float32))

    def distance_to_goal(self):
        return abs(self.place - self.goal_place)

    def _shown(self):
        is_there = self.distance_to_goal() < self.success_distance
        is_last = is_there or len(self.commands) >= self.max_steps
        return TimeStep(
            picture_of(self.place), np.array([self.place], np.float32), is_there, is_last
        )


class CarefulRobot(Robot):
    """Changes its speed by at most a tenth from step to step."""

    action_spec = ActionSpec(("dx",), ("metre/step",), (-1.0,), (1.0,), max_change=(0.1,))


class Hand(Robot):
    """Moves, and opens (0) or closes (1) a gripper."""

    action_spec = ActionSpec(
        ("dx", "grip"), ("metre/step", "1"), (-1.0, 0.0), (1.0, 1.0), grippers=(Gripper("grip"),)
    )

    def step(self, action):
        self.grips = [*getattr(self, "grips", []), float(action[1])]
        return super().step(action)


class Chooser(Robot):
    """Goes left, waits or goes right."""

    action_spec = ActionSpec(
        ("left", "wait", "right"), ("1",) * 3, (0.0,) * 3, (1.0,) * 3, kind="one_hot"
    )


class WideLineWorld(LineWorld):
    """Only the first dimension of an action moves the robot."""

    def __init__(self, action_dim):
        super().__init__()
        self.action_dim = action_dim

    def rollout(self, start, actions):
        return super().rollout(start, actions[..., :1])


@dataclass
class Scripted:
    """Plans a/100, (a+1)/100, ... where a is 10, 20, 30 for its first, second, third plan."""

    make_plan: object
    horizon: int = 4
    asked: list = field(default_factory=list)

    def plan(self, world, start, **options):
        number = 10 * (len(self.asked) + 1)
        self.asked.append({"start": float(start.tokens), **options})
        return self.make_plan((torch.arange(self.horizon) + number)[:, None] / 100)


class Desk:
    """A worker by hand: requests lie here until the test lets them be done."""

    def __init__(self):
        self.requests, self._work, self._future = [], None, None

    def submit(self, work, request):
        self.requests.append(request)
        self._work, self._future = work, Future()
        return self._future

    def finish(self):
        self._future.set_result(self._work(self.requests[-1]))

    def fail(self, error):
        self._future.set_exception(error)


class Slow:
    """A worker whose plans take so many steps of the loop, the last number for ever."""

    def __init__(self, steps):
        self._steps, self._left, self._task = list(steps), 0, None

    def submit(self, work, request):
        self._left = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        self._task = future, _, _ = Future(), work, request
        return future

    def tick(self):
        self._left -= 1
        if self._task is not None and self._left <= 0:
            (future, work, request), self._task = self._task, None
            future.set_result(work(request))


class Played:
    """A policy stepped by hand; numbers are hundredths of an action."""

    def __init__(
        self, make_plan, *, start=0.0, goal=100.0, num_steps=1, robot=None, world=None, **options
    ):
        self.desk, self.robot = Desk(), robot or Robot()
        self.world = world or LineWorld(num_steps)
        self.planner = Scripted(make_plan)
        options = {"lead_steps": 2, **options}
        self.policy = AsynchronousPolicy(
            self.world, self.planner, submit=self.desk.submit, **options
        )
        self.time_step = self.robot.reset(None, start=np.array([start]), goal=np.array([goal]))

    def step(self, *, then_finish=False):
        action = self.policy(self.robot, self.time_step, np.random.default_rng(0))
        self.time_step = self.robot.step(action)
        if then_finish:
            self.desk.finish()
        return round(float(action[0]) * 100, 3)

    def steps(self, count):
        return [self.step() for _ in range(count)]


@pytest.fixture
def played(make_plan):
    return lambda **options: Played(make_plan, **options)


# On time.


def test_it_stands_still_until_there_is_a_first_plan_and_then_follows_it(played):
    it = played()
    assert it.steps(3) == [0, 0, 0]
    it.desk.finish()
    assert it.steps(2) == [10, 11]
    assert it.policy.lateness.num_waiting_steps == 3
    assert len(it.world.encoded) == 2  # the goal, and the frame that was planned from


def test_a_plan_made_in_time_takes_over_at_its_step_and_not_before(played):
    it = played()
    it.step(then_finish=True)
    # At step 1 the first plan takes over and the second is asked for, to begin at step 3.
    assert it.step(then_finish=True) == 10
    assert it.desk.requests[1].begins_at_step == 3
    assert it.steps(3) == [11, 20, 21]
    assert it.policy.lateness.num_late_plans == it.policy.lateness.num_missed_steps == 0


def test_a_plan_begins_where_the_robot_will_be_when_it_is_ready(played):
    it = played(lead_steps=3)
    it.step(then_finish=True)
    before = it.robot.place
    it.step(then_finish=True)
    it.steps(2)  # the three steps between the camera frame and the plan
    assert it.planner.asked[1]["start"] == pytest.approx(before + 0.10 + 0.11 + 0.12, abs=0.011)
    assert it.robot.place == pytest.approx(it.planner.asked[1]["start"], abs=0.011)
    assert it.step() == 20


def test_what_a_lead_is_longer_than_the_plan_is_predicted_as_standing_still(played):
    it = played(lead_steps=6)
    it.step(then_finish=True)
    it.step()
    pending = it.desk.requests[1].pending[:, 0] * 100
    assert pending.round(3).tolist() == [10, 11, 12, 13, 0, 0]


def test_the_lead_is_as_long_as_the_slowest_of_the_last_plans_took(played):
    ticks = iter([0.0, 0.034, 1.0, 1.012])
    it = played(lead_steps=None, period_seconds=0.01, clock=lambda: next(ticks))
    it.step(then_finish=True)
    it.step(then_finish=True)
    first, second = it.desk.requests
    assert first.begins_at_step == 0
    assert second.begins_at_step - second.step == 4  # 34 ms in steps of 10 ms


def test_a_slow_first_plan_does_not_make_the_robot_wait_for_those_after_it(played):
    ticks = iter([0.0, 5.0, 10.0, 10.012, 20.0, 20.012])  # 500 steps, then 2 each
    it = played(lead_steps=None, period_seconds=0.01, clock=lambda: next(ticks))
    it.step(then_finish=True)
    it.step(then_finish=True)
    second = it.desk.requests[1]
    assert second.begins_at_step == 5  # the end of the first plan, not step 501
    assert it.steps(4) == [11, 12, 13, 20]
    it.steps(1)
    third = it.desk.requests[2]
    assert third.begins_at_step - third.step == 2  # the first plan does not count any more


def test_who_stands_still_begins_a_plan_as_soon_as_it_is_there(played):
    it = played(lead_steps=8)
    it.step(then_finish=True)
    it.steps(5)  # 10 to 13, and one step of standing still
    it.desk.finish()  # meant for step 9, now it is step 6
    assert it.steps(2) == [20, 21]
    assert it.policy.plans[-1].begins_at_step == 6
    assert it.policy.lateness.num_late_plans == 0


def test_of_a_robot_that_stands_still_no_standing_still_is_imagined(played):
    ticks = iter([0.0, 0.05, 1.0, 1.05])
    it = played(lead_steps=None, period_seconds=0.01, clock=lambda: next(ticks))
    it.policy._motion.max_hold_steps = 0
    it.step(then_finish=True)
    it.step()
    assert len(it.desk.requests[1].pending) == 4  # the plan's own steps; five were measured


def test_a_lead_is_rounded_up_to_whole_actions_of_the_model(played):
    it = played(num_steps=2, lead_steps=3)
    it.step(then_finish=True)
    it.step(then_finish=True)
    second = it.desk.requests[1]
    assert second.begins_at_step - second.step == len(second.pending) == 4
    it.steps(3)
    assert it.planner.asked[1]["start"] == pytest.approx(it.robot.place, abs=0.011)
    assert it.step() == 10  # 0.20 in two parts


def test_a_plan_whose_rest_is_shorter_than_what_shall_be_executed_is_followed_up(played):
    it = played(lead_steps=1, execute_steps=4, stale="hold")
    it.step(then_finish=True)
    it.steps(6)  # the second plan was meant for step 5; 13 was held in steps 5 and 6
    it.desk.finish()
    assert it.steps(1) == [22]
    assert it.steps(1) == [23]
    assert it.desk.requests[2].begins_at_step == 9  # its end, not step 7 + 4


def test_a_warm_start_is_the_plan_before_with_the_steps_that_will_have_passed(played):
    it = played()
    it.step(then_finish=True)
    it.step(then_finish=True)  # takes over at step 1; the next begins at step 3
    assert it.planner.asked[0]["previous_plan"] is None
    assert it.planner.asked[1]["previous_plan"] is it.policy.plans[0].plan
    assert it.planner.asked[1]["executed_steps"] == 2
    assert it.planner.asked[1]["previous_action"].item() == pytest.approx(0.11)


def test_at_least_so_many_actions_of_each_plan_are_executed(played):
    it = played(lead_steps=1, execute_steps=3)
    it.step(then_finish=True)
    seen = []
    for _ in range(6):
        seen.append(it.step())
        if it.policy._future is not None and not it.policy._future.done():
            it.desk.finish()
    assert seen == [10, 11, 12, 20, 21, 22]


def test_an_action_over_several_steps_is_predicted_and_executed_in_parts(played):
    it = played(num_steps=2, lead_steps=2)
    it.step(then_finish=True)
    it.step(then_finish=True)
    assert it.steps(3) == [5, 10, 10]  # 0.10 in two parts, then the second plan's 0.20
    assert it.planner.asked[1]["start"] == pytest.approx(0.10, abs=0.011)


# Late.


@pytest.mark.parametrize(
    ("stale", "expected"),
    [
        ("continue", [12, 13, 0, 0]),  # the old plan to its end, then nothing
        ("hold", [11, 11, 11, 11]),
        ("zero", [0, 0, 0, 0]),
    ],
)
def test_a_late_plan_is_bridged_as_the_stale_policy_says(played, stale, expected):
    it = played(stale=stale)
    it.step(then_finish=True)
    assert it.steps(2) == [10, 11]
    assert it.steps(4) == expected  # from step 3 on the second plan should be here
    assert it.policy.lateness.num_late_plans == 1
    assert it.policy.lateness.num_missed_steps == 4


def test_of_a_late_plan_the_steps_whose_time_has_passed_are_skipped(played):
    it = played(stale="continue")
    it.step(then_finish=True)
    it.steps(4)  # the second plan was meant for step 3
    it.desk.finish()
    assert it.steps(2) == [22, 23]
    assert it.policy.plans[-1].begins_at_step == 3


def test_who_stood_still_meanwhile_begins_a_late_plan_at_its_beginning(played):
    it = played(stale="zero")
    it.step(then_finish=True)
    it.steps(4)
    it.desk.finish()
    assert it.steps(2) == [20, 21]


@pytest.mark.parametrize("num_standing", [1, 2, 20])
def test_steps_in_which_the_robot_stood_still_are_not_skipped(played, num_standing):
    it = played(lead_steps=4)
    it.step(then_finish=True)
    assert it.steps(4 + num_standing) == [10, 11, 12, 13] + [0] * num_standing
    it.desk.finish()  # planned from where those four actions end, and there it still stands
    assert it.planner.asked[1]["start"] == pytest.approx(it.robot.place, abs=0.011)
    assert it.steps(2) == [20, 21]
    assert it.policy.plans[-1].begins_at_step == 5 + num_standing


def test_after_holding_only_the_steps_that_were_held_are_skipped(played):
    it = played(stale="hold", max_hold_steps=2)
    it.step(then_finish=True)
    assert it.steps(7) == [10, 11, 11, 11, 0, 0, 0]  # the second plan was meant for step 3
    it.desk.finish()
    assert it.steps(2) == [22, 23]


@pytest.mark.parametrize("stale", ["continue", "hold", "zero"])
def test_a_planner_that_takes_longer_than_its_horizon_still_moves_the_robot(stale):
    desk, robot = Slow([1, 6]), Robot(max_steps=60)
    planner = CEM(horizon=4, num_samples=16, num_elites=4, num_iterations=1)
    policy = AsynchronousPolicy(
        LineWorld(), planner, stale=stale, lead_steps=1, max_hold_steps=4, submit=desk.submit
    )
    run_episode(robot, policy, start=np.zeros(1), goal=np.array([100.0]),
                generator=np.random.default_rng(0), pace=desk.tick)  # fmt: skip
    assert np.count_nonzero(robot.commands) >= 8  # of the first plan alone: 4
    assert policy.lateness.num_plans >= 4


def test_a_plan_that_comes_after_its_end_is_counted_and_thrown_away(played):
    it = played(stale="hold")
    it.step(then_finish=True)
    it.steps(6)  # meant for steps 3 to 6, now it is step 7, and 11 was held all the time
    it.desk.finish()
    assert it.steps(1) == [11]
    assert it.policy.lateness.num_discarded_plans == 1
    it.desk.finish()  # another was asked for at once
    assert it.desk.requests[-1].step == 7


def test_an_action_is_not_held_for_ever(played):
    it = played(stale="hold", max_hold_steps=3)
    it.step(then_finish=True)
    it.steps(2)
    assert it.steps(5) == [11, 11, 11, 0, 0]


def test_the_age_of_what_is_executed_is_counted_from_the_camera_frame(played):
    it = played()
    it.step(then_finish=True)
    it.step(then_finish=True)  # the frame of step 1, the plan from step 3 on
    it.steps(3)
    assert it.policy.lateness.oldest_frame_steps == 3  # at step 4, of the frame at step 1


# Limits from step to step, and standing still.


def limited_run(stale, steps, lead_steps, num_steps=1):
    desk, robot = Slow(steps), CarefulRobot(max_steps=24)
    planner = CEM(horizon=6, num_samples=64, num_elites=8, num_iterations=3)
    policy = AsynchronousPolicy(
        LineWorld(num_steps), planner, stale=stale, lead_steps=lead_steps, submit=desk.submit
    )
    run_episode(robot, policy, start=np.zeros(1), goal=np.array([100.0]),
                generator=np.random.default_rng(0), pace=desk.tick)  # fmt: skip
    return np.array(robot.commands)


@pytest.mark.parametrize("stale", ["continue", "hold", "zero"])
@pytest.mark.parametrize("steps", [[2, 1], [1, 4], [1, 9], [3]])
@pytest.mark.parametrize("num_steps", [1, 2])
def test_no_action_changes_more_than_allowed_whatever_comes_late(stale, steps, num_steps):
    commands = limited_run(stale, steps, 2, num_steps)
    changes = np.diff(commands, prepend=0.0)  # it begins standing still
    assert np.abs(changes).max() <= 0.1 + 1e-6
    assert commands.max() > 0.15


def test_the_first_plan_is_told_that_the_robot_stands_still(played):
    it = played(robot=CarefulRobot())
    it.step(then_finish=True)
    assert it.planner.asked[0]["previous_action"].tolist() == [0.0]


def test_who_stops_slows_down_as_it_must_and_the_plan_before_knew_it(played, make_plan):
    it = played(robot=CarefulRobot(), lead_steps=7)
    it.planner.plan = lambda world, start, **options: make_plan([[0.1], [0.2], [0.3], [0.4]])
    it.step(then_finish=True)
    executed = it.steps(7)
    assert executed == pytest.approx([10, 20, 30, 40, 30, 20, 10], abs=1e-3)
    predicted = it.desk.requests[1].pending[:, 0] * 100
    assert predicted == pytest.approx(executed, abs=1e-3)


def test_a_gripper_that_holds_something_holds_it_while_the_robot_stands_still(played, make_plan):
    robot = Hand()
    it = played(robot=robot, world=WideLineWorld(2), stale="zero", standstill=(0.0, 1.0))
    it.planner.plan = lambda world, start, **options: make_plan([[0.1, 1.0], [0.2, 0.0]])
    it.planner.horizon = 2
    it.step(then_finish=True)
    it.steps(4)  # two of the plan, the last of which opens the gripper, and two of standing still
    assert robot.grips == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert robot.commands[-2:] == [0.0, 0.0]
    robot.grips[:] = []
    it.policy._motion.last = np.array([0.0, 1.0], np.float32)
    assert it.policy.stop_action().tolist() == [0.0, 1.0]


def test_a_gripper_without_a_standstill_is_refused_before_anything_moves(played):
    it = played(robot=Hand(), world=WideLineWorld(2))
    with pytest.raises(ValueError, match=r"a binary gripper \(grip\) has no zero.*standstill="):
        it.step()
    assert it.robot.commands == []


def test_choices_need_to_be_told_which_one_does_nothing(played):
    it = played(robot=Chooser(), world=WideLineWorld(3))
    match = r"choices \(left, wait, right\) have no zero action; planning while acting needs"
    with pytest.raises(ValueError, match=match):
        it.step()
    it = played(robot=Chooser(), world=WideLineWorld(3), standstill=(0, 1, 0))
    assert it.policy(it.robot, it.time_step, None).tolist() == [0.0, 1.0, 0.0]


def test_the_period_that_is_used_is_compared_with_the_worlds_actions(played):
    class Timed(LineWorld):
        seconds_per_step = 0.01  # as long as a step of the robot

    with pytest.raises(
        ValueError, match=r"differences over 0\.01 s, a step of robot lasts 0\.05 s"
    ):
        played(world=Timed(), period_seconds=0.05).step()

    class Slower(LineWorld):
        seconds_per_step = 0.05

    assert played(world=Slower(), period_seconds=0.05).step() == 0


# Broken.


def test_after_an_error_it_never_goes_on_as_if_nothing_had_been(played):
    it = played()
    it.step()
    it.desk.fail(FloatingPointError("all 8 imagined costs are NaN or infinite"))
    for _ in range(3):
        with pytest.raises(FloatingPointError, match="all 8 imagined costs are NaN"):
            it.step()


def test_a_closed_policy_refuses_to_act(played):
    it = played()
    it.policy.close()
    with pytest.raises(RuntimeError, match="this policy was closed; make a new one"):
        it.step()


def test_a_thread_that_outlasts_closing_is_told(monkeypatch, caplog):
    monkeypatch.setattr(asynchronous_mpc, "CLOSING_SECONDS", 0.02)
    policy = AsynchronousPolicy(LineWorld(seconds_per_rollout=0.3), PLANNER)
    robot = Robot()
    policy(robot, robot.reset(None, start=[0.0], goal=[9.0]), np.random.default_rng(0))
    time.sleep(0.05)  # it is in the middle of a rollout now
    policy.close()
    assert "the planner is still busy" in caplog.text
    policy._worker._thread.join(5)
    assert not policy._worker._thread.is_alive()
    caplog.clear()
    with AsynchronousPolicy(LineWorld(), PLANNER):
        pass
    assert caplog.text == ""


def test_what_the_worker_raises_is_raised_in_the_loop(played):
    it = played()
    it.step()
    it.desk.fail(FloatingPointError("all 8 imagined costs are NaN or infinite"))
    with pytest.raises(FloatingPointError, match="all 8 imagined costs are NaN"):
        it.step()
    assert len(it.robot.commands) == 1


def test_a_plan_with_nan_never_reaches_the_robot(played, make_plan):
    it = played()
    it.planner.plan = lambda world, start, **options: make_plan(torch.full((4, 1), torch.nan))
    it.step()
    with pytest.raises(FloatingPointError, match="the plan has an action that is NaN"):
        it.desk.finish()


def test_actions_outside_the_limits_are_clipped_at_the_last_moment(played, make_plan):
    it = played()
    it.planner.plan = lambda world, start, **options: make_plan(torch.full((4, 1), 7.0))
    it.step(then_finish=True)
    assert it.step() == 100


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"stale": "wait"}, "stale must be one of 'continue', 'hold', 'zero', got 'wait'"),
        ({"lead_steps": -1}, "lead_steps must be at least 0, got -1"),
        ({"execute_steps": 5}, "execute_steps must be from 1 to the horizon 4, got 5"),
        ({"deadline_seconds": 0.0}, "deadline_seconds must be above 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(played, options, match):
    with pytest.raises(ValueError, match=match):
        played(**options)


# Goals.


def test_goals_are_pursued_one_after_the_other_and_the_last_one_ends_it(played):
    goals = [picture_of(0.0), picture_of(0.5)]
    it = played(goals=goals, arrival=ArrivalRule(distance=0.2))
    it.step(then_finish=True)  # it begins at the first goal
    assert it.planner.asked[0]["cost"].cost.goal.tokens.item() == pytest.approx(0.5)
    assert not it.policy.has_arrived(it.robot, it.time_step)
    it.steps(4)
    it.desk.finish()  # seen from 0.10
    it.steps(2)
    it.desk.finish()
    it.step()
    assert it.policy.has_arrived(it.robot, it.time_step)


# What was seen before, for world models that want to know (with real ones: test_recent_past.py).


class RememberingWorld(LineWorld):
    """Notes what it is told of the past: places, and what was done there."""

    context_frames = 3

    def __init__(self, num_steps=1):
        super().__init__(num_steps)
        self.told = []

    def remember(self, past, actions):
        places, done = past.tokens[:, 0, 0].tolist(), actions[:, 0].tolist()
        self.told.append([(round(a, 2), round(b, 2)) for a, b in zip(places, done, strict=True)])
        return tuple(self.told[-1])

    def rollout(self, start, actions, *, memory=None):
        return super().rollout(start, actions)


def test_a_plan_remembers_the_frames_before_it_and_those_that_were_imagined(played):
    it = played(world=RememberingWorld(), lead_steps=2)
    it.step(then_finish=True)  # the first plan: 10, 11, 12, 13; nothing was before it
    assert "memory" not in it.planner.asked[0] and it.world.told == []
    it.step(then_finish=True)  # seen at step 1; 10 and 11 are pending, so it begins at step 3
    seen, ahead = it.world.told
    assert seen == [(0.0, 0.0)]  # step 0, where it stood still
    assert ahead == [(0.0, 0.10), (0.10, 0.11)]  # step 1, seen; step 2, imagined
    assert it.planner.asked[1]["memory"] == tuple(ahead)
    assert it.steps(3) == [11, 20, 21]
    it.desk.finish()  # seen at step 3, 20 and 21 pending; 10 and 11 were done before
    assert it.world.told[2] == [(0.0, 0.10), (0.10, 0.11)]
    assert it.world.told[3] == [(0.21, 0.20), (0.41, 0.21)]
    assert len(it.world.encoded) == 1 + 4  # the goal, and the frames of steps 0 to 3: each once


def test_remembered_frames_are_as_far_apart_as_an_action_of_the_model_spans(played):
    it = played(world=RememberingWorld(2), lead_steps=2, execute_steps=4)
    it.step(then_finish=True)
    it.steps(7)  # 0.10, 0.11 and so on, each in two parts, from step 1 on
    it.desk.finish()
    asked = it.desk.requests[-1]
    assert asked.step == 7
    assert [frame.step for frame in asked.past.seen] == [3, 5]
    places = [it.robot.places[frame.step] for frame in asked.past.seen]
    done = [sum(it.robot.commands[frame.step : frame.step + 2]) for frame in asked.past.seen]
    told = it.world.told[-2]  # before the pending actions; after them it remembers others
    assert told == [(round(p, 2), round(d, 2)) for p, d in zip(places, done, strict=True)]


# With real threads and a real clock.

PLANNER = CEM(horizon=12, num_samples=32, num_elites=4, num_iterations=3)


def in_real_time(robot, policy, *, period_seconds=0.01, start=0.0, goal=4.0):
    metronome = Metronome(period_seconds)
    with policy:
        return run_episode(
            robot,
            policy,
            start=np.array([start]),
            goal=np.array([goal]),
            generator=np.random.default_rng(0),
            pace=metronome.wait,
            stop_action=policy.stop_action,
        )


@pytest.mark.parametrize("stale", ["continue", "zero"])
@pytest.mark.parametrize("lag_steps", [0, 2])
def test_a_robot_with_lag_reaches_its_goal_while_the_planner_takes_several_steps(lag_steps, stale):
    world = LineWorld(seconds_per_rollout=0.01)  # 30 ms a plan, steps of 10 ms
    robot = Robot(lag_steps=lag_steps, max_steps=300, success_distance=0.5)
    episode = in_real_time(robot, AsynchronousPolicy(world, PLANNER, stale=stale), goal=20.0)
    assert episode.is_success
    assert len(episode.plans) >= 2
    assert np.isfinite(robot.commands).all()
    assert (np.abs(robot.commands) <= 1).all()


def test_the_loop_keeps_its_beat_although_planning_takes_ten_steps():
    world, robot = LineWorld(seconds_per_rollout=0.05), Robot(max_steps=40)
    policy = AsynchronousPolicy(world, PLANNER)
    began = time.monotonic()
    episode = in_real_time(robot, policy, goal=90.0)
    seconds = time.monotonic() - began
    assert episode.num_steps == 40
    assert seconds < 40 * 0.01 + 1.0  # waiting for each plan would take 40 * 0.15 s
    assert policy.lateness.num_plans >= 1


def test_a_failing_world_stops_the_robot_with_a_zero_action_and_one_clear_error():
    class Breaks(LineWorld):
        def rollout(self, start, actions):
            imagined = super().rollout(start, actions)
            if len(self.encoded) < 4:  # the goal and two plans go well
                return imagined
            return Latent(imagined.tokens * torch.nan)

    robot = Robot(max_steps=1000)
    policy = AsynchronousPolicy(Breaks(), PLANNER)
    with pytest.raises(FloatingPointError, match="imagined costs are NaN or infinite"):
        in_real_time(robot, policy, goal=90.0)
    assert np.isfinite(robot.commands).all()
    assert robot.commands[-1] == 0.0
    assert any(robot.commands)
    assert not [t for t in threading.enumerate() if t.name == "planner"]


def test_ctrl_c_stops_the_robot_and_the_worker_even_in_the_middle_of_a_long_plan():
    class Interrupted(Robot):
        def step(self, action):
            if len(self.commands) == 5:
                self.commands.append(None)  # once
                raise KeyboardInterrupt
            return super().step(action)

    robot = Interrupted()
    long_plan = CEM(horizon=4, num_samples=8, num_elites=2, num_iterations=100_000)
    policy = AsynchronousPolicy(LineWorld(), long_plan)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_real_time(robot, policy)
    assert time.monotonic() - began < 3
    assert robot.commands[-1] == 0.0
    assert not [t for t in threading.enumerate() if t.name == "planner"]


def test_deadlines_make_plans_short_enough_for_the_beat():
    planner = CEM(horizon=8, num_samples=16, num_elites=4, num_iterations=10_000)
    policy = AsynchronousPolicy(LineWorld(), planner, deadline_seconds=0.02)
    episode = in_real_time(Robot(max_steps=60), policy, goal=5.0)
    assert episode.is_success
    assert all(record.plan.seconds < 0.2 for record in episode.plans)
    assert all(record.plan.iterations < 10_000 for record in episode.plans)


def test_each_frame_is_encoded_at_most_once_and_the_goal_once():
    world = LineWorld()
    episode = in_real_time(Robot(max_steps=40), AsynchronousPolicy(world, PLANNER), goal=90.0)
    assert len(world.encoded) <= 1 + len(episode.frames)
    assert world.encoded.count(90.0) == 1
