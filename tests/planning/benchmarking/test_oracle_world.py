import numpy as np
import pytest
import torch

from planning.actions.space import ActionSteps
from planning.benchmarking.oracle_world import OraclePolicy, OracleWorld, why_not
from planning.benchmarking.whole_budget import WholeBudget
from planning.control.mpc import run_episode
from planning.environments.two_rooms import TwoRooms
from planning.planners.cem import CEM

START, GOAL = np.array([10.0, 20.0]), np.array([10.0, 40.0])


@pytest.fixture
def rooms_at_start():
    rooms = TwoRooms()
    rooms.reset(np.random.default_rng(0), start=START, goal=GOAL)
    return rooms


def test_its_latents_are_the_true_distances_worked_out_by_hand(rooms_at_start):
    world = OracleWorld(rooms_at_start)
    start = world.encode(rooms_at_start.goal.frame, START)
    assert start.tokens.tolist() == [[20.0]]
    down = torch.tensor([[[0.0, 5.0]] * 3, [[0.0, -5.0]] * 3])
    imagined = world.rollout(start, down)
    assert imagined.tokens.shape == (2, 3, 1, 1)
    assert imagined.tokens[0, :, 0, 0].tolist() == [15.0, 10.0, 5.0]
    goal = world.encode(rooms_at_start.goal.frame)
    assert torch.equal(world.distance(imagined.tokens, goal.tokens), imagined.tokens[..., 0, 0])


def test_imagining_changes_nothing_in_the_environment(rooms_at_start):
    world = OracleWorld(rooms_at_start)
    world.rollout(world.encode(rooms_at_start.goal.frame, START), torch.full((4, 3, 2), 5.0))
    assert rooms_at_start.distance_to_goal() == 20.0
    step = rooms_at_start.step(np.zeros(2))
    assert step.state.tolist() == START.tolist()


@pytest.mark.parametrize("way", ["one_after_the_other", "repeated", "in_equal_parts"])
def test_an_action_that_spans_several_steps_is_seen_at_its_end(rooms_at_start, way):
    steps = ActionSteps(2, way)
    world = OracleWorld(rooms_at_start, steps)
    action = {"one_after_the_other": [0, 5, 0, 5], "repeated": [0, 5], "in_equal_parts": [0, 10]}
    actions = torch.tensor([[action[way]]], dtype=torch.float32)
    assert world.action_dim == actions.shape[-1]
    imagined = world.rollout(world.encode(rooms_at_start.goal.frame, START), actions)
    assert imagined.tokens.flatten().tolist() == [10.0]


def test_planning_in_the_true_simulator_reaches_a_goal_in_the_same_room():
    rooms = WholeBudget(TwoRooms(), max_steps=10, success_distance=4.0)
    planner = CEM(horizon=4, num_samples=24, num_elites=4, num_iterations=3)
    policy = OraclePolicy(
        planner, execute_steps=2, reduction="mean", action_steps=ActionSteps(), seed=0
    )
    record = run_episode(rooms, policy, start=START, goal=GOAL, generator=np.random.default_rng(0))
    assert min(rooms.distances) < 4.0
    assert len(record.plans) == 5
    # What it says of where it is, and of where plans lead, is what happens.
    np.testing.assert_allclose(record.latent_distances, rooms.distances, rtol=1e-6)
    imagined = record.plans[0].imagined_distances[:2]
    np.testing.assert_allclose(imagined, rooms.distances[1:3], rtol=1e-5)


def test_an_environment_that_cannot_be_simulated_offers_no_oracle(rooms_at_start):
    class OnlyReal:
        name = "robot"

    assert why_not(rooms_at_start) is None
    assert why_not(WholeBudget(TwoRooms(), max_steps=3, success_distance=4.0)) is None
    with pytest.raises(ValueError, match="robot cannot be simulated ahead"):
        OracleWorld(OnlyReal())
