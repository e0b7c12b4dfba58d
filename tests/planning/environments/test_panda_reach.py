"""Reaching with the Panda: the hand, and nothing else, has to be within 5 cm."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("robosuite", reason="pip install 'jepa-planning[sim-robot]'")

from data_pipelines.datamodules import TrajectoryDataModule
from data_pipelines.shards import ShardReader
from planning.collection import Collection, collect_episodes
from planning.data_policies import DataPolicy
from planning.environments.panda_reach import LEAST_WAY, PandaReach


@pytest.fixture(scope="module")
def task():
    return PandaReach()


def test_the_expert_reaches_the_goal_in_eight_of_eight_episodes(task):
    for seed in range(8):
        generator = np.random.default_rng(seed)
        step, expert = task.reset(generator), task.make_expert()
        assert not step.is_success
        while not step.is_last:
            step = task.step(expert(task, step, generator))
        assert step.is_success
        assert np.linalg.norm(step.state[:3] - task.goal.state[:3]) < 0.05


def test_the_distance_is_that_between_the_hands(task):
    for seed in range(4):
        step = task.reset(np.random.default_rng(seed))
        between = float(np.linalg.norm(step.state[:3] - task.goal.state[:3]))
        assert task.distance_to_goal() == pytest.approx(between, abs=1e-6)
        assert between >= LEAST_WAY


def test_the_goal_keeps_the_cube_where_it_is(task):
    generator = np.random.default_rng(0)
    start, goal = task._sample_task(generator, None, None)
    assert np.array_equal(start[9:16], goal[9:16])
    again, same = task._sample_task(generator, None, goal)
    assert same is goal
    assert np.array_equal(again[9:16], goal[9:16])


def test_doing_nothing_never_succeeds(task):
    step = task.reset(np.random.default_rng(0))
    while not step.is_last:
        step = task.step(np.zeros(7))
    assert not step.is_success


# What is recorded, and what is learnt from.

STEPS = 5


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    policy = DataPolicy("noisy-expert", max_noise=0.6)
    collection = Collection("panda_reach", policy, 3, num_steps=STEPS, options={"image_size": 32})
    return collect_episodes(collection, tmp_path_factory.mktemp("panda") / "shards")


@pytest.fixture(scope="module")
def simulated(task, collected):
    """key -> what the simulator says after each step: place, rotation, closedness, commands."""
    reader, found = ShardReader(), {}
    for sample in collected.index.samples:
        start = np.array(json.loads(reader.read(sample, "json"))["about"]["start"])
        actions = reader.read_array(sample, "actions.npy")
        away = task._elsewhere(np.random.default_rng(0), start)
        task.reset(np.random.default_rng(0), start=start, goal=away)
        table, rows = task._table, []
        for action in [None, *actions]:
            if action is not None:
                task._act(action)
            rows.append((table.hand_position.copy(), table.hand_rotation.copy(), table.closedness))
        found[sample.key] = *(np.array(column) for column in zip(*rows, strict=True)), actions
    return found


def only_batch(collected, **options):
    data = TrajectoryDataModule(
        str(collected.folder), STEPS + 1, image_size=32, batch_size=3, **options
    )
    (batch,) = data.train_dataloader()
    return data, batch


def test_pose_differences_of_what_was_collected_are_what_the_hand_did(collected, simulated):
    data, batch = only_batch(collected, actions="pose_difference")
    assert data.specification.action_names == (
        "dx", "dy", "dz", "droll", "dpitch", "dyaw", "dgripper"
    )  # fmt: skip
    assert data.specification.action_kind == "pose difference"
    for key, actions in zip(batch.keys, batch.actions.numpy(), strict=True):
        places, rotations, closedness, _ = simulated[key]
        np.testing.assert_allclose(actions[:, :3], np.diff(places, axis=0), atol=2e-6)
        turns = rotations[1:] @ rotations[:-1].transpose(0, 2, 1)  # in the base frame
        told = Rotation.from_euler("xyz", actions[:, 3:6]).as_matrix()
        np.testing.assert_allclose(told, turns, atol=2e-6)
        np.testing.assert_allclose(actions[:, 6], np.diff(closedness), atol=2e-6)
        assert np.abs(actions[:, :3]).max() > 0.01 and np.abs(actions[:, 3:6]).max() > 0.01


def test_what_was_commanded_can_be_learnt_from_too_and_is_not_what_the_hand_did(
    collected, simulated
):
    data, batch = only_batch(collected)
    assert data.specification.action_kind == "commanded pose difference"
    assert (data.specification.frame, data.specification.gripper) == (
        "base", "closedness, 0 open to 1 closed"
    )  # fmt: skip
    for key, actions in zip(batch.keys, batch.actions.numpy(), strict=True):
        places, _, _, commands = simulated[key]
        np.testing.assert_array_equal(actions, commands)
        assert np.abs(actions[:, :3] - np.diff(places, axis=0)).max() > 0.003  # the arm lags


def test_recorded_poses_are_the_simulators_with_the_seam_of_roll_where_no_hand_is(
    collected, simulated
):
    _, batch = only_batch(collected)
    for key, states in zip(batch.keys, batch.states.numpy(), strict=True):
        places, rotations, closedness, _ = simulated[key]
        np.testing.assert_allclose(states[:, :3], places, atol=1e-6)
        told = Rotation.from_euler("xyz", states[:, 3:6]).as_matrix()
        np.testing.assert_allclose(told, rotations, atol=2e-6)
        np.testing.assert_allclose(states[:, 6], closedness, atol=1e-6)
        assert (states[:, 3] >= 0).all() and np.abs(np.diff(states[:, 3])).max() < 1
