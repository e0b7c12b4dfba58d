"""Plans that begin later than now, with real world models that remember several frames."""

from concurrent.futures import Future

import numpy as np
import pytest
import torch

from jepa.models.world_model import ActionColumns
from planning.actions.model_actions import model_actions
from planning.control.asynchronous_mpc import AsynchronousPolicy
from planning.control.mpc import PlanningPolicy, run_episode
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.planners.cem_gradient import CEMGradient

SMALL = CEM(horizon=3, num_samples=12, num_elites=3, num_iterations=2)
DOWNHILL = CEMGradient(horizon=3, num_samples=6, num_elites=3, num_iterations=2, num_steps=2)


@pytest.fixture
def make_world(make_model):
    """A world model of three frames, whose actions span some steps."""

    def make(num_steps=1):
        model = make_model(latents="patch")
        model.context_frames = 3
        if num_steps > 1:
            model.actions = ActionColumns(
                ("dx", "dy"), ("pixel",) * 2, (-2.5,) * 2, (2.5,) * 2, 5.0, "repeat", "equal",
                num_steps,
            )  # fmt: skip
        return LatentWorld(model)

    return make


def at_once(work, request):
    """A worker that takes no time."""
    future = Future()
    future.set_result(work(request))
    return future


def played(environment, policy):
    start, goal = np.array([8.0, 8.0]), np.array([24.0, 24.0])
    return run_episode(
        environment, policy, start=start, goal=goal, generator=np.random.default_rng(0)
    )


@pytest.mark.parametrize("planner", [SMALL, DOWNHILL], ids=["cem", "cem_gradient"])
@pytest.mark.parametrize(("num_steps", "execute_steps"), [(1, 1), (1, 2), (2, 1)])
def test_without_latency_planning_while_acting_is_planning_and_waiting(
    make_world, rooms, planner, num_steps, execute_steps
):
    waits = PlanningPolicy(make_world(num_steps), planner, execute_steps=execute_steps)
    never_waits = AsynchronousPolicy(
        make_world(num_steps), planner, execute_steps=execute_steps, lead_steps=0, submit=at_once
    )
    one, other = (played(rooms(max_steps=8), policy) for policy in (waits, never_waits))
    np.testing.assert_array_equal(one.actions, other.actions)
    assert len(one.plans) == len(other.plans) == 8 // (num_steps * execute_steps)
    for first, second in zip(one.plans, other.plans, strict=True):
        assert torch.equal(first.plan.actions, second.plan.actions)
        assert first.plan.cost == second.plan.cost
        np.testing.assert_array_equal(first.imagined_distances, second.imagined_distances)
    assert never_waits.lateness.num_waiting_steps == never_waits.lateness.num_late_plans == 0


class Watching:
    """Plans, and keeps what it was asked."""

    def __init__(self, planner):
        self.planner, self.horizon, self.asked = planner, planner.horizon, []

    def plan(self, world, start, **options):
        self.asked.append((start, options.get("memory")))
        return self.planner.plan(world, start, **options)


@torch.no_grad()
def imagined_by_hand(world, frames, actions):
    """What follows on frames and what was done in each, by the dynamics on the whole sequence."""
    tokens = torch.stack([frame.tokens for frame in frames])[None]
    states = torch.stack([frame.state for frame in frames])[None]
    done = world.model.normalize_actions(torch.stack(list(actions)))[None]
    said = world.model.dynamics(tokens, states, done)
    return type(frames[0])(said.tokens[0, -1], said.state[0, -1])


@pytest.mark.parametrize(("num_steps", "lead_steps"), [(1, 1), (1, 3), (2, 2)])
def test_a_plan_ahead_begins_with_the_real_past_and_the_imagined_frames_in_between(
    make_world, rooms, num_steps, lead_steps
):
    world, requests = make_world(num_steps), []
    planner = Watching(SMALL)

    def submit(work, request):
        requests.append(request)
        return at_once(work, request)

    policy = AsynchronousPolicy(world, planner, lead_steps=lead_steps, submit=submit)
    episode = played(rooms(max_steps=12), policy)
    seen = [world.encode(f, s) for f, s in zip(episode.frames, episode.states, strict=True)]
    assert len(requests) >= 4
    for request, (start, memory) in list(zip(requests, planner.asked, strict=True))[2:]:
        step = request.step
        assert len(request.pending) == lead_steps
        if step + lead_steps > episode.num_steps:
            continue  # it ended before
        np.testing.assert_allclose(request.pending, episode.actions[step : step + lead_steps])
        first = step - min(2, step // num_steps) * num_steps
        frames = seen[first : step + 1 : num_steps]
        executed = torch.from_numpy(np.stack(episode.actions[first : step + lead_steps]))
        actions = list(model_actions(world.action_steps, executed))
        while len(frames) <= len(actions):
            frames.append(imagined_by_hand(world, frames, actions[: len(frames)]))
        torch.testing.assert_close(start.tokens, frames[-1].tokens, atol=2e-5, rtol=1e-4)
        probe = torch.tensor([0.7, -1.1])
        with torch.no_grad():
            following = world.rollout(start, probe[None, None], memory=memory).tokens[0, 0]
            forgetful = world.rollout(start, probe[None, None]).tokens[0, 0]
        expected = imagined_by_hand(world, frames[-3:], [*actions[-2:], probe]).tokens
        torch.testing.assert_close(following, expected, atol=5e-5, rtol=1e-4)
        assert (forgetful - expected).abs().max() > 1e-3  # the past matters


def test_each_frame_that_is_remembered_is_encoded_once(make_world, rooms, monkeypatch):
    world, encoded = make_world(), []
    encode = world.encode
    monkeypatch.setattr(
        world, "encode", lambda frame, state=None: encoded.append(id(frame)) or encode(frame, state)
    )
    policy = AsynchronousPolicy(world, SMALL, execute_steps=2, lead_steps=1, submit=at_once)
    episode = played(rooms(max_steps=9), policy)
    assert len(encoded) == len(set(encoded)) <= 1 + len(episode.frames)
    assert len(encoded) > 1 + len(policy.plans)  # also frames that were not planned from
