"""What is remembered of the last frames, against the dynamics on the whole sequence."""

import numpy as np
import pytest
import torch

from planning.actions.space import ActionSteps
from planning.control.mpc import PlanningPolicy, run_episode
from planning.control.recent_past import RecentPast, memory_of
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM


@pytest.fixture
def world(make_model):
    model = make_model(latents="patch")
    model.context_frames = 3
    return LatentWorld(model)


def walked(world, rooms, num_steps):
    """Latents and actions of a random walk: one more latent than actions."""
    room, generator = rooms(), np.random.default_rng(1)
    place, latents, actions = room.sample_position(generator), [], []
    for _ in range(num_steps + 1):
        latents.append(world.encode(room.render(place), place.astype(np.float32)))
        actions.append(room.action_spec.sample(generator))
        place = room.move(place, actions[-1])
    return latents, actions[:-1]


def test_a_model_of_one_frame_remembers_nothing(make_model, rooms):
    world = LatentWorld(make_model())
    past = RecentPast(world)
    latents, actions = walked(world, rooms, 1)
    past.add(latents[0], actions[0])
    assert memory_of(world, past.past()) is None


def test_before_anything_was_done_there_is_nothing(world):
    assert memory_of(world, RecentPast(world).past()) is None


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_a_rollout_goes_on_from_the_last_frames_as_the_dynamics_do(world, rooms, num_steps):
    """At most two past frames are seen, so of five steps the first three are of no account."""
    latents, actions = walked(world, rooms, num_steps)
    past = RecentPast(world)
    for latent, action in zip(latents, actions, strict=False):
        past.add(latent, action)
    new = torch.tensor(np.random.default_rng(2).uniform(-1, 1, (4, 1, 2)), dtype=torch.float32)
    with torch.no_grad():
        imagined = world.rollout(latents[-1], new, memory=memory_of(world, past.past()))
        first = max(0, num_steps - 2)
        tokens = torch.stack([latent.tokens for latent in latents[first:]])[None]
        states = torch.stack([latent.state for latent in latents[first:]])[None]
        done = torch.tensor(np.stack(actions[first:]))
        for sample in range(4):
            raw = torch.cat((done, new[sample]))[None]
            by_hand = world.model.dynamics(tokens, states, world.model.normalize_actions(raw))
            torch.testing.assert_close(
                imagined.tokens[sample, 0], by_hand.tokens[0, -1], atol=1e-5, rtol=1e-4
            )
        alone = world.rollout(latents[-1], new)
    assert (alone.tokens - imagined.tokens).abs().max() > 1e-4  # the past matters


class JoinsTwo:
    """A world whose actions span two steps; keeps what it was told."""

    context_frames = 3
    action_steps = ActionSteps(2, "one_after_the_other")

    def remember(self, past, actions):
        return past, actions


def test_frames_are_as_far_apart_as_an_action_of_the_model_spans(world, rooms):
    latents, actions = walked(world, rooms, 5)
    past = RecentPast(JoinsTwo())
    for step, (latent, action) in enumerate(zip(latents, actions, strict=False)):
        past.add(latent, action)
        if step == 0:
            assert past.past().seen == ()  # one step is no action of the model
    frames, joined = memory_of(
        JoinsTwo(), past.past()
    )  # now is step 5: the frames before are of steps 1 and 3
    assert torch.equal(frames.tokens, torch.stack([latents[1].tokens, latents[3].tokens]))
    np.testing.assert_array_equal(joined, np.stack(actions)[1:].reshape(2, 4))


def test_a_policy_tells_the_model_what_it_has_seen_and_done(world, rooms, monkeypatch):
    told, remember = [], world.remember
    monkeypatch.setattr(
        world, "remember", lambda past, a: told.append((past, a)) or remember(past, a)
    )
    environment = rooms(max_steps=5)
    planner = CEM(horizon=2, num_samples=8, num_elites=2, num_iterations=1)
    policy = PlanningPolicy(world, planner, execute_steps=1)
    start, goal = np.array([8.0, 8.0]), np.array([24.0, 24.0])
    episode = run_episode(
        environment, policy, start=start, goal=goal, generator=np.random.default_rng(0)
    )
    assert [len(actions) for _, actions in told] == [1, 2, 2, 2]  # nothing before the first plan
    np.testing.assert_allclose(told[-1][1], np.stack(episode.actions)[2:4])
    assert world.num_encoded_frames == 1 + 6  # the goal, and each frame once
