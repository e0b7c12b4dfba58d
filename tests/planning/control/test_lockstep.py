"""Episodes in lockstep end as they do alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from planning.actions.space import ActionSteps
from planning.control.lockstep import Player, play_together
from planning.control.mpc import PlanningPolicy
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import evaluate, evaluate_together, freeze_tasks
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.search.settings import make_planner
from planning.types import Latent


class PlaceWorld:
    """Reads the disc's place off the picture; there are no walls; of one start or of several."""

    action_dim, seconds_per_step, device = 2, None, torch.device("cpu")
    action_steps = ActionSteps()

    def __init__(self, disc_position):
        self.disc_position, self.num_calls, self.encoded = disc_position, 0, 0

    def encode(self, frame, state=None):
        self.encoded += 1
        return Latent(torch.from_numpy(self.disc_position(frame)).float()[None])

    def rollout(self, start, actions):
        self.num_calls += 1
        return Latent(start.tokens[..., None, None, :, :] + actions.cumsum(-2).unsqueeze(-2))

    def distance(self, latents, goal):
        return (latents - goal).norm(dim=-1).mean(-1)


@pytest.fixture(scope="module")
def tasks():
    return freeze_tasks(TwoRooms(max_steps=12), name="few", num_tasks=6, seed=3)


@pytest.fixture
def world(disc_position):
    return PlaceWorld(disc_position)


def policy_of(world, planner, **options):
    return lambda index: PlanningPolicy(world, planner, execute_steps=2, seed=index, **options)


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "random_shooting"])
@pytest.mark.parametrize("batch_size", [2, 4, 100])
def test_outcomes_equal_those_one_by_one(tasks, world, name, batch_size):
    few = {} if name == "random_shooting" else {"num_elites": 8, "num_iterations": 3}
    planner = make_planner(name, {"horizon": 4, "num_samples": 32, **few})
    alone = evaluate(name, policy_of(world, planner), tasks)
    together = evaluate_together(name, policy_of(world, planner), tasks, batch_size=batch_size)
    for one, other in zip(alone.episodes, together.episodes, strict=True):
        assert one.is_success == other.is_success
        np.testing.assert_allclose(np.stack(one.actions), np.stack(other.actions), atol=1e-4)
        np.testing.assert_allclose(one.latent_distances, other.latent_distances, atol=1e-3)
        assert len(one.plans) == len(other.plans)


def test_planning_together_shares_the_calls_of_the_world_model(tasks, disc_position):
    planner = CEM(horizon=4, num_samples=32, num_elites=4, num_iterations=3)
    alone, together = PlaceWorld(disc_position), PlaceWorld(disc_position)
    evaluate("cem", policy_of(alone, planner), tasks)
    evaluate_together("cem", policy_of(together, planner), tasks, batch_size=6)
    # What is left to each by itself is one rollout a plan, for the imagined distances.
    assert together.num_calls < alone.num_calls / 2
    assert together.encoded == alone.encoded


def test_a_real_world_model_gives_the_same_episodes_in_a_batch(rooms, make_model):
    world = LatentWorld(make_model())
    planner = CEM(horizon=2, num_samples=16, num_elites=4, num_iterations=2)
    starts = [np.array([8.0, 8.0]), np.array([22.0, 9.0]), np.array([9.0, 20.0])]

    def player(index):
        policy = PlanningPolicy(world, planner, execute_steps=1, seed=index)
        goal = np.array([10.0, 24.0])
        generator = np.random.default_rng(index)
        return Player(rooms(max_steps=3), policy, start=starts[index], goal=goal,
                      generator=generator)  # fmt: skip

    alone = [play_together([player(index)])[0] for index in range(3)]
    together = play_together([player(index) for index in range(3)])
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.actions, other.actions, atol=1e-4)


def test_actions_change_as_little_as_the_environment_demands(rooms, world, make_plan):
    class Careful(type(rooms())):
        @property
        def action_spec(self):
            return replace(super().action_spec, max_change=(0.5, 0.5))

    place = np.array([8.0, 8.0])
    player = Player(
        Careful(image_size=32), PlanningPolicy(world, CEM(horizon=4)), start=place,
        goal=place + 16, generator=np.random.default_rng(0),
    )  # fmt: skip
    player.prepare()
    player.policy.accept(make_plan([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 0.0]]))
    for _ in range(4):
        player.advance()
    assert np.stack(player.episode.actions)[:, 0].tolist() == [0.0, 0.5, 1.0, 0.5]


def test_the_seconds_of_a_plan_are_its_share(tasks, world, monkeypatch):
    planner = CEM(horizon=4, num_samples=8, num_elites=2, num_iterations=1)
    began = evaluate_together("cem", policy_of(world, planner), tasks, batch_size=6)
    planned = sum(record.plan.seconds for e in began.episodes for record in e.plans)
    assert 0 < planned < began.seconds


def test_a_batch_below_one_and_other_planners_are_refused(tasks, world, rooms):
    planner = CEM(horizon=4)
    with pytest.raises(ValueError, match="the batch must be at least 1 episode, got 0"):
        evaluate_together("cem", policy_of(world, planner), tasks, batch_size=0)

    class Own:
        horizon = 4

    with pytest.raises(ValueError, match="Own is no SearchPlanner"):
        evaluate_together("own", policy_of(world, Own()), tasks, batch_size=2)
    mixed = [CEM(horizon=4), CEM(horizon=5)]
    with pytest.raises(ValueError, match="must share one world, one planner and one deadline"):
        evaluate_together("two", lambda i: policy_of(world, mixed[i % 2])(i), tasks, batch_size=2)
