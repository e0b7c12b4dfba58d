"""Model-predictive control: what is planned when, from what, and when an episode ends."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from planning.actions.space import ActionSpec, ActionSteps
from planning.baselines import do_nothing
from planning.control.goal_pursuit import ArrivalRule
from planning.control.limited_actions import ActionLimits
from planning.control.mpc import PlanningPolicy, run_episode
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.planners.random_shooting import RandomShooting
from planning.types import Latent, TimeStep

START, GOAL = np.array([8.0, 8.0]), np.array([10.0, 24.0])  # in one room, 16 pixels apart


class PerfectWorld:
    """Reads the disc's place off the picture; actions move it, and there are no walls."""

    def __init__(self, disc_position, action_dim=2, action_steps=None, seconds_per_step=None):
        self.disc_position, self.action_dim = disc_position, action_dim
        self.device = torch.device("cpu")
        self.action_steps = action_steps or ActionSteps()
        self.seconds_per_step = seconds_per_step
        self.encoded, self.states = [], []

    def encode(self, frame, state=None):
        self.encoded.append(frame)
        self.states.append(state)
        place = torch.from_numpy(self.disc_position(frame)).float()
        return Latent(place[None])

    def rollout(self, start, actions):
        return Latent(start.tokens + actions.cumsum(1).unsqueeze(2))

    def distance(self, latents, goal):
        return (latents - goal).norm(dim=-1).mean(-1)


@dataclass
class ScriptedPlanner:
    """Plans (number of the plan / 10, number of the step / 10), and notes what it was asked."""

    make_plan: object
    horizon: int = 4
    asked: list = field(default_factory=list)

    def plan(self, world, start, **options):
        number = len(self.asked)
        steps = torch.arange(self.horizon) / 10
        plan = self.make_plan(torch.stack([torch.full_like(steps, number / 10), steps], dim=-1))
        self.asked.append({"start": start, "plan": plan, **options})
        return plan


@pytest.fixture
def perfect(disc_position):
    return PerfectWorld(disc_position)


@pytest.fixture
def scripted(make_plan):
    return ScriptedPlanner(make_plan)


def played(environment, policy, *, start=START, goal=GOAL):
    generator = np.random.default_rng(0)
    return run_episode(environment, policy, start=start, goal=goal, generator=generator)


def numbers(episode):
    """(plan, step) of each executed action of a scripted planner."""
    return [tuple(round(float(value) * 10) for value in action) for action in episode.actions]


# When it plans, and with what.


@pytest.mark.parametrize(
    ("execute_steps", "expected"),
    [
        (1, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]),
        (2, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]),
        (4, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]),
    ],
)
def test_it_executes_so_many_steps_of_each_plan(rooms, perfect, scripted, execute_steps, expected):
    policy = PlanningPolicy(perfect, scripted, execute_steps=execute_steps)
    episode = played(rooms(max_steps=6), policy)
    assert numbers(episode) == expected
    assert [record.step for record in episode.plans] == list(range(0, 6, execute_steps))


def test_each_plan_is_given_the_one_before_and_how_much_of_it_was_executed(
    rooms, perfect, scripted
):
    played(rooms(max_steps=6), PlanningPolicy(perfect, scripted, execute_steps=2))
    first, second, third = scripted.asked
    assert first["previous_plan"] is None
    assert second["previous_plan"] is first["plan"]
    assert third["previous_plan"] is second["plan"]
    assert second["executed_steps"] == third["executed_steps"] == 2


def test_each_plan_begins_where_the_camera_sees_the_robot(rooms, perfect, scripted, disc_position):
    episode = played(rooms(max_steps=6), PlanningPolicy(perfect, scripted, execute_steps=3))
    for asked, step in zip(scripted.asked, (0, 3), strict=True):
        place = disc_position(episode.frames[step])
        assert asked["start"].tokens[0].numpy() == pytest.approx(place, abs=1e-5)
    assert np.array_equal(perfect.states[1], episode.states[0])
    assert perfect.states[0] is None  # a goal is a picture only


def test_deadline_and_bounds_are_handed_on(rooms, perfect, scripted):
    policy = PlanningPolicy(perfect, scripted, deadline_seconds=0.25)
    environment = rooms(max_steps=1)
    played(environment, policy)
    assert scripted.asked[0]["deadline_seconds"] == 0.25
    assert scripted.asked[0]["action_spec"] == environment.action_spec


def test_limits_beside_the_environments_are_handed_on_too(rooms, perfect, scripted):
    limits = ActionLimits({"dy": (-1.0, 2.0)})
    played(rooms(max_steps=1), PlanningPolicy(perfect, scripted, limits=limits))
    spec = scripted.asked[0]["action_spec"]
    assert (spec.low, spec.high) == ((-2.5, -1.0), (2.5, 2.0))


@pytest.mark.parametrize("execute_steps", [0, 5, -1])
def test_more_or_fewer_steps_than_a_plan_has_cannot_be_executed(perfect, scripted, execute_steps):
    match = f"execute_steps must be from 1 to the horizon 4, got {execute_steps}"
    with pytest.raises(ValueError, match=match):
        PlanningPolicy(perfect, scripted, execute_steps=execute_steps)


def test_a_reduction_that_is_not_known_is_refused_before_acting(rooms, perfect, scripted):
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'last', got 'first'"):
        played(rooms(), PlanningPolicy(perfect, scripted, reduction="first"))
    assert scripted.asked == []


# What is remembered.


def test_imagined_distances_are_those_along_the_chosen_actions(
    rooms, perfect, scripted, disc_position
):
    episode = played(rooms(max_steps=2), PlanningPolicy(perfect, scripted))
    (record,) = episode.plans
    place, goal = disc_position(episode.frames[0]), disc_position(episode.goal.frame)
    places = place + record.plan.actions.numpy().cumsum(0)
    expected = np.linalg.norm(places - goal, axis=-1)
    assert record.imagined_distances.shape == (4,)
    assert record.imagined_distances == pytest.approx(expected, abs=1e-4)


def test_latent_distances_are_measured_at_every_frame(rooms, perfect, disc_position):
    episode = played(rooms(), PlanningPolicy(perfect, CEM(horizon=4, num_samples=64, num_elites=8)))
    goal = disc_position(episode.goal.frame)
    expected = [np.linalg.norm(disc_position(frame) - goal) for frame in episode.frames]
    assert episode.latent_distances == pytest.approx(expected, abs=1e-4)


def test_an_episode_has_one_more_frame_and_state_than_actions(rooms, perfect, scripted):
    environment = rooms(max_steps=5)
    episode = played(environment, PlanningPolicy(perfect, scripted))
    assert (len(episode.frames), len(episode.states), episode.num_steps) == (6, 6, 5)
    for frame, state in zip(episode.frames, episode.states, strict=True):
        difference = np.abs(environment.render(state).astype(int) - frame)
        assert difference.max() <= 1  # a state is rounded to float32
    assert np.array_equal(episode.goal.frame, environment.render(GOAL))


def test_recorded_actions_are_those_executed_inside_the_bounds(rooms):
    def too_far(environment, time_step, generator):
        return np.array([-0.5, 100.0])

    episode = played(rooms(max_steps=3), too_far)
    assert [action.tolist() for action in episode.actions] == [[-0.5, 2.5]] * 3
    assert episode.states[1] - episode.states[0] == pytest.approx([-0.5, 2.5])


def test_a_policy_that_does_not_plan_leaves_no_plans(rooms):
    episode = played(rooms(max_steps=3), do_nothing)
    assert (episode.plans, episode.latent_distances) == ([], [])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_stops_the_episode(rooms, bad):
    with pytest.raises(ValueError, match="action must be finite"):
        played(rooms(), lambda environment, time_step, generator: np.array([0.0, bad]))


# Goals of one's own, and what a plan is told.


def test_goal_images_replace_the_environments_goal_and_are_pursued_in_order(
    rooms, perfect, scripted, disc_position
):
    environment = rooms(max_steps=6)
    places = [START + 0.05, np.array([20.0, 8.0])]
    policy = PlanningPolicy(
        perfect,
        scripted,
        goals=[environment.render(place) for place in places],
        arrival=ArrivalRule(distance=1.0),
    )
    episode = played(environment, policy)
    # The first goal is where it stands: the second is pursued from the beginning.
    assert {record.goal_index for record in episode.plans} == {1}
    place = disc_position(episode.frames[0])
    assert episode.latent_distances[0] == pytest.approx(np.linalg.norm(place - places[1]), abs=0.1)


def test_a_new_goal_drops_what_is_left_of_the_plan_and_its_warm_start(rooms, perfect, scripted):
    environment = rooms(max_steps=6)
    goals = [environment.render(np.array(place)) for place in ((24.0, 8.0), (8.0, 24.0))]
    arrival = ArrivalRule(distance=0.01, max_steps=2)
    episode = played(environment, PlanningPolicy(perfect, scripted, goals=goals, arrival=arrival))
    assert [(record.step, record.goal_index) for record in episode.plans] == [(0, 0), (2, 1)]
    assert scripted.asked[1]["previous_plan"] is None


def test_any_cost_can_pursue_a_goal(rooms, perfect):
    def to_the_right(goal, world):
        return lambda imagined, actions: -actions[..., 0].sum(-1)

    planner = CEM(horizon=4, num_samples=64, num_elites=8)
    episode = played(rooms(max_steps=3), PlanningPolicy(perfect, planner, cost_of=to_the_right))
    assert np.stack(episode.actions)[:, 0].min() > 2.0
    assert len(episode.plans[0].imagined_distances) == 4  # still told, of the latent distance


def test_each_plan_is_told_what_was_executed_last(rooms, perfect, scripted):
    episode = played(rooms(max_steps=6), PlanningPolicy(perfect, scripted, execute_steps=2))
    told = [asked["previous_action"] for asked in scripted.asked]
    assert told[0] is None
    assert told[1].numpy() == pytest.approx(episode.actions[1])
    assert told[2].numpy() == pytest.approx(episode.actions[3])


def test_it_ends_where_the_camera_sees_the_goal_and_looks_at_each_frame_once(rooms, perfect):
    policy = PlanningPolicy(
        perfect, CEM(horizon=4), execute_steps=2, arrival=ArrivalRule(distance=6.0)
    )
    episode = run_episode(
        rooms(), policy, start=START, goal=GOAL, generator=np.random.default_rng(0),
        has_arrived=policy.has_arrived,
    )  # fmt: skip
    assert episode.is_success and episode.latent_distances[-1] < 6.0
    assert min(episode.latent_distances[:-1]) >= 6.0
    assert len(perfect.encoded) == 1 + len(episode.frames)


def test_plans_are_told_when_they_are_made(rooms, perfect, scripted):
    told = []
    policy = PlanningPolicy(perfect, scripted, execute_steps=3, on_plan=told.append)
    episode = played(rooms(max_steps=6), policy)
    assert told == episode.plans
    assert told[1].latent_distance == episode.latent_distances[3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_plan_that_is_not_finite_is_not_executed(rooms, perfect, make_plan, bad):
    class Broken:
        horizon = 4

        def plan(self, world, start, **options):
            return make_plan(torch.tensor([[0.0, 0.0], [0.0, bad], [0.0, 0.0], [0.0, 0.0]]))

    environment, executed = rooms(), []
    environment.step = executed.append
    with pytest.raises(FloatingPointError, match="the plan has an action that is NaN"):
        played(environment, PlanningPolicy(perfect, Broken()))
    assert executed == []


@pytest.mark.parametrize("seed", range(5))
def test_nan_anywhere_in_a_world_becomes_an_error_or_a_finite_action(rooms, disc_position, seed):
    generator = np.random.default_rng(seed)
    outcomes = {"finite": 0, "error": 0}

    class Faulty(PerfectWorld):
        def rollout(self, start, actions):
            tokens = super().rollout(start, actions).tokens
            share = generator.choice([0.0, 0.01, 0.5, 1.0])
            bad = torch.from_numpy(generator.random(tokens.shape) < share)
            value = float(generator.choice([np.nan, np.inf, -np.inf]))
            return Latent(torch.where(bad, value, tokens))

    for _ in range(40):
        planner = CEM(horizon=3, num_samples=8, num_elites=3, num_iterations=2)
        environment = rooms(max_steps=3)
        try:
            episode = played(environment, PlanningPolicy(Faulty(disc_position), planner,
                                                         execute_steps=1))  # fmt: skip
        except FloatingPointError:
            outcomes["error"] += 1
            continue
        outcomes["finite"] += 1
        assert np.isfinite(episode.actions).all() and np.abs(episode.actions).max() <= 2.5
    assert min(outcomes.values()) > 0  # both were met


def test_a_robot_that_has_moved_is_told_to_stop_when_something_fails(rooms):
    def fails(environment, time_step, generator):
        if time_step.state[0] > START[0] + 2:
            raise RuntimeError("no more")
        return np.array([1.0, 0.0])

    environment, stops = rooms(), []

    def stop():
        stops.append(environment.reset)
        return np.zeros(2)

    with pytest.raises(RuntimeError, match="no more"):
        run_episode(environment, fails, start=START, goal=GOAL,
                    generator=np.random.default_rng(0), stop_action=stop)  # fmt: skip
    assert len(stops) == 1


class Cart:
    """Takes speeds of at most 1, changed by at most 0.25 a step; one command can fail."""

    name, frames_per_second, goal = "cart", 10.0, None

    def __init__(self, *, max_change=(0.25,), fails_at=(), max_steps=100):
        self.action_spec = ActionSpec(("v",), ("m/s",), (-1.0,), (1.0,), max_change=max_change)
        self.fails_at, self.max_steps, self.commands = fails_at, max_steps, []

    def reset(self, generator, *, start, goal):
        return self._shown()

    def step(self, action):
        self.commands.append(round(float(action[0]), 4))
        if len(self.commands) in self.fails_at:
            raise OSError("the line is dead")
        assert len(self.commands) <= self.max_steps, "stepped after its end"
        return self._shown()

    def distance_to_goal(self):
        return float(len(self.commands))

    def _shown(self):
        is_last = len(self.commands) >= self.max_steps
        return TimeStep(np.zeros((1, 1, 3), np.uint8), np.zeros(1, np.float32), False, is_last)


def driven(cart, policy=lambda *seen: np.ones(1), **options):
    return run_episode(cart, policy, start=None, goal=None, generator=np.random.default_rng(0),
                       stop_action=lambda: np.zeros(1), **options)  # fmt: skip


def test_each_action_is_within_the_largest_change_from_the_one_before():
    cart, wanted = Cart(max_steps=5), iter([0.2, 1.0, 1.0, -1.0, -1.0])
    episode = driven(cart, lambda *seen: np.array([next(wanted)]))
    assert cart.commands == [0.2, 0.45, 0.7, 0.45, 0.2]
    assert np.concatenate(episode.actions) == pytest.approx(cart.commands)


def test_a_robot_that_arrives_is_told_to_stop_and_that_is_not_part_of_the_record():
    cart, beats = Cart(), []
    episode = driven(
        cart, has_arrived=lambda *seen: len(cart.commands) == 3, pace=lambda: beats.append(1)
    )
    assert cart.commands == [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert episode.is_success and episode.num_steps == 3 and episode.final_distance == 3.0
    assert len(beats) == 6  # every command but the last waits for its beat


def test_an_environment_that_has_ended_by_itself_is_not_stepped_again():
    cart = Cart(max_steps=3)
    assert driven(cart).num_steps == 3
    assert cart.commands == [1.0, 1.0, 1.0]


def test_nor_is_it_when_something_fails_after_its_end(caplog):
    cart = Cart(max_steps=3)

    def pace():
        if len(cart.commands) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driven(cart, pace=pace)
    assert cart.commands == [1.0, 1.0, 1.0] and caplog.text == ""


def test_who_arrives_before_moving_is_told_nothing():
    cart = Cart()
    assert driven(cart, has_arrived=lambda *seen: True).num_steps == 0
    assert cart.commands == []


def test_a_failure_in_the_very_first_step_stops_the_robot_too():
    cart = Cart(fails_at=(1,), max_change=None)
    with pytest.raises(OSError, match="the line is dead"):
        driven(cart)
    assert cart.commands == [1.0, 0.0]


def test_a_stop_that_fails_is_told_beside_what_failed_first(caplog):
    cart = Cart(fails_at=(2, 3), max_change=None)
    with pytest.raises(OSError, match="the line is dead") as told:
        driven(cart)
    line = "the robot may still be moving: stopping it failed (OSError: the line is dead)"
    assert line in caplog.text
    assert getattr(told.value, "__notes__", [line]) == [line]


# The end of an episode.


@pytest.mark.parametrize("planner_class", [CEM, RandomShooting])
@pytest.mark.parametrize("reduction", ["mean", "last"])
def test_with_a_perfect_model_it_reaches_the_goal_and_ends_there(
    rooms, perfect, planner_class, reduction
):
    policy = PlanningPolicy(perfect, planner_class(horizon=4), execute_steps=2, reduction=reduction)
    episode = played(rooms(), policy)
    assert episode.is_success
    assert 6 <= episode.num_steps <= 12  # 16 pixels in steps of at most 2.5, to within 2
    distances = [float(np.linalg.norm(state - GOAL)) for state in episode.states]
    assert episode.final_distance == pytest.approx(distances[-1], abs=1e-4)
    assert distances[-1] < 2.0 <= min(distances[:-1])


def test_without_success_it_ends_when_the_steps_are_used_up(rooms, perfect, scripted):
    episode = played(rooms(max_steps=6), PlanningPolicy(perfect, scripted))
    assert (episode.num_steps, episode.is_success) == (6, False)


def test_an_episode_that_begins_at_the_goal_needs_no_action(rooms, perfect, scripted):
    episode = played(rooms(), PlanningPolicy(perfect, scripted), goal=START)
    assert (episode.num_steps, episode.is_success, episode.final_distance) == (0, True, 0.0)
    assert scripted.asked == []


# Randomness.


def test_the_same_seed_gives_the_same_episode_and_another_seed_another(rooms, perfect):
    def actions(seed):
        planner = CEM(horizon=4, num_samples=32, num_elites=4)
        return np.stack(played(rooms(), PlanningPolicy(perfect, planner, seed=seed)).actions)

    assert np.array_equal(actions(0), actions(0))
    assert not np.array_equal(actions(0)[0], actions(1)[0])


def test_two_plans_of_one_episode_draw_different_samples(rooms, perfect):
    planner = RandomShooting(horizon=2, num_samples=4)
    states = []
    original = perfect.rollout

    def spy(start, actions):
        if len(actions) > 1:
            states.append(actions[1:].clone())  # the first is the mean or the previous plan
        return original(start, actions)

    perfect.rollout = spy
    played(rooms(max_steps=2), PlanningPolicy(perfect, planner, execute_steps=1))
    assert not torch.equal(states[0], states[1])


# Where one action of the model is several steps of the environment.


class WideWorld(PerfectWorld):
    """Three actions side by side, or their sum, move the disc."""

    def rollout(self, start, actions):
        each = self.action_steps.split(actions.flatten(0, 1))  # (samples * horizon * 3, 2)
        return super().rollout(start, each.reshape(*actions.shape[:2], 3, 2).sum(2))


@pytest.mark.parametrize(
    ("way", "action_dim"), [("one_after_the_other", 6), ("repeated", 2), ("in_equal_parts", 2)]
)
def test_a_plan_of_wide_actions_is_executed_step_by_step(rooms, disc_position, way, action_dim):
    world = WideWorld(disc_position, action_dim, ActionSteps(3, way))
    planner = CEM(horizon=3, num_samples=64, num_elites=8)
    environment = rooms(max_steps=12)
    episode = played(environment, PlanningPolicy(world, planner, execute_steps=2))
    assert [record.step for record in episode.plans] == [0, 6][: len(episode.plans)]
    assert episode.is_success  # 16 pixels away, 2.5 a step: at least 6 steps
    spec = environment.action_spec
    actions = np.stack(episode.actions)
    assert (actions >= spec.low).all() and (actions <= spec.high).all()
    first = world.action_steps.split(episode.plans[0].plan.actions)
    np.testing.assert_allclose(actions[:6], first[: len(actions[:6])], atol=1e-6)


def test_steps_that_do_not_make_up_the_models_action_are_refused(rooms, disc_position, scripted):
    world = PerfectWorld(disc_position, 6, ActionSteps(2))
    with pytest.raises(ValueError, match=r"of 6 dimensions, two_rooms has 2, 2 steps of it 4 \("):
        played(rooms(), PlanningPolicy(world, scripted))


def test_pose_differences_over_another_time_than_a_step_are_refused(rooms, disc_position, scripted):
    environment = rooms(max_steps=2)
    seconds = 1 / environment.frames_per_second
    slow = PerfectWorld(disc_position, seconds_per_step=2 * seconds)
    with pytest.raises(ValueError, match=r"pose differences over .* s, a step of two_rooms lasts"):
        played(environment, PlanningPolicy(slow, scripted))
    right = PerfectWorld(disc_position, seconds_per_step=1.05 * seconds)
    assert played(environment, PlanningPolicy(right, scripted)).num_steps == 2


# With a real world model.


@pytest.mark.parametrize("latents", ["slow", "patches"])
@pytest.mark.parametrize("execute_steps", [1, 2])
def test_each_frame_of_an_episode_and_the_goal_are_encoded_once(
    rooms, make_model, latents, execute_steps
):
    world, images = LatentWorld(make_model(latents=latents)), []
    world.model.encoder.register_forward_hook(lambda *io: images.append(len(io[2])))
    planner = CEM(horizon=2, num_samples=16, num_elites=4, num_iterations=2)
    episode = played(
        rooms(max_steps=5), PlanningPolicy(world, planner, execute_steps=execute_steps)
    )
    assert sum(images) == len(images) == world.num_encoded_frames == len(episode.frames) + 1
    assert len(episode.latent_distances) == len(episode.frames)
    assert np.isfinite(episode.latent_distances).all()


def test_a_model_for_other_actions_is_refused_before_acting(rooms, make_model, scripted):
    class ThreeActions(type(rooms())):
        @property
        def action_spec(self):
            return ActionSpec(("dx", "dy", "grip"), ("1",) * 3, (-1.0,) * 3, (1.0,) * 3)

    world = LatentWorld(make_model())
    match = r"imagines actions of 2 dimensions, two_rooms has 3 \(dx, dy, grip\)"
    with pytest.raises(ValueError, match=match):
        played(ThreeActions(image_size=32), PlanningPolicy(world, scripted))
    assert scripted.asked == []
    assert world.num_encoded_frames == 0


def test_other_bounds_than_those_of_the_training_are_kept(rooms, perfect):
    class SmallSteps(type(rooms())):
        @property
        def action_spec(self):
            return ActionSpec(("dx", "dy"), ("pixel/step",) * 2, (-0.5, 0.0), (0.25, 1.0))

    planner = CEM(horizon=4, num_samples=64, num_elites=8)
    episode = played(SmallSteps(image_size=32, max_steps=6), PlanningPolicy(perfect, planner))
    actions = np.stack(episode.actions)
    assert (actions >= [-0.5, 0.0]).all()
    assert (actions <= [0.25, 1.0]).all()
    assert actions[:, 1].mean() > 0.8  # the goal is below


def test_a_goal_of_another_size_is_refused_before_acting(rooms, make_model, scripted):
    larger = type(rooms())(image_size=64)
    policy = PlanningPolicy(LatentWorld(make_model()), scripted)
    with pytest.raises(ValueError, match=r"frame must be \(32, 32, 3\) uint8, got \(64, 64, 3\)"):
        played(larger, policy, start=START * 2, goal=GOAL * 2)
    assert scripted.asked == []


def test_a_broken_model_stops_the_episode_instead_of_acting(rooms, make_model):
    model = make_model()
    with torch.no_grad():
        model.dynamics.proj.weight.fill_(float("nan"))
    executed = []
    environment = rooms()
    environment.step = executed.append
    planner = CEM(horizon=2, num_samples=8, num_elites=2)
    with pytest.raises(FloatingPointError, match="imagined costs are NaN or infinite"):
        played(environment, PlanningPolicy(LatentWorld(model), planner, execute_steps=1))
    assert executed == []
