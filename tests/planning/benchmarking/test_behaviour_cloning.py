import numpy as np
import pytest
import torch

from data_pipelines.shards import pack_trajectories
from data_pipelines.trajectories import Episode, TrajectorySpecification
from planning.benchmarking.behaviour_cloning import (
    CloningNetwork,
    CloningPolicy,
    CloningRecipe,
    Recordings,
    clone_behaviour,
    hindsight_pairs,
    read_recordings,
    where_it_is,
)
from planning.control.mpc import run_episode
from planning.data_policies import DataPolicy
from planning.recording import record_episodes

QUICK = CloningRecipe(num_steps=3, batch_size=8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """40 walks of an expert in two rooms of 32 pixels, of 20 steps each."""
    from planning.environments.two_rooms import TwoRooms

    rooms, out = TwoRooms(image_size=32), tmp_path_factory.mktemp("shards")
    make = DataPolicy("expert").maker(rooms)
    record_episodes(rooms, make, out, num_episodes=40, num_steps=20, seed=0, overwrite=True)
    return out


@pytest.fixture(scope="module")
def recordings(shards):
    return read_recordings(shards, image_size=32)


def numbered(num_trajectories, time):
    """The pixel of a frame is its number, and so is its action; trajectories differ by 100."""
    numbers = 100 * torch.arange(float(num_trajectories))[:, None] + torch.arange(float(time))
    return Recordings(numbers[..., None, None, None], numbers[:, :-1, None])


def test_goals_are_later_frames_of_the_same_trajectory_and_actions_those_of_the_frame():
    pairs = hindsight_pairs(
        numbered(2, 6), 800, max_ahead=50, generator=torch.Generator().manual_seed(0)
    )
    now, goal, done = (part.flatten() for part in pairs)
    assert torch.equal(now, done)
    assert torch.equal(now // 100, goal // 100)
    ahead = (goal - now).int().tolist()
    assert (min(ahead), max(ahead)) == (1, 5)
    assert set((goal % 100).int().tolist()) == {1, 2, 3, 4, 5}


def test_goals_are_no_further_ahead_than_they_may_be():
    now, goal, _ = hindsight_pairs(
        numbered(2, 30), 800, max_ahead=3, generator=torch.Generator().manual_seed(0)
    )
    assert set((goal - now).flatten().int().tolist()) == {1, 2, 3}


def test_recordings_are_read_with_frames_and_actions_in_step(tmp_path):
    """Frame t is as bright as 10 t, and its action is t / 20."""
    time = np.arange(16)
    episodes = [
        Episode(
            frames=np.broadcast_to((10 * time)[:, None, None, None], (16, 32, 32, 3)).astype("u1"),
            states=np.zeros((16, 1), np.float32),
            actions=(time[:-1, None] / 20).astype(np.float32),
            key=f"e{number}",
            frames_per_second=10.0,
        )
        for number in range(3)
    ]
    specification = TrajectorySpecification(("x",), ("1",), ("a",), ("1",), (0.0,), (1.0,), 10.0)
    pack_trajectories(episodes, tmp_path / "shards", specification=specification)
    frames, actions, used = read_recordings(tmp_path / "shards", image_size=32)
    assert (frames.shape, frames.dtype) == ((3, 16, 3, 32, 32), torch.uint8)
    assert (actions.shape, used) == ((3, 15, 1), 1.0)
    brightness = frames.float().mean((2, 3, 4))[:, :-1]
    np.testing.assert_allclose(brightness / 200, actions[..., 0], atol=0.02)


def test_of_more_recordings_than_fit_only_a_part_is_used(shards):
    recipe = CloningRecipe(max_bytes=10 * 21 * 3 * 32 * 32)
    part = read_recordings(shards, image_size=32, recipe=recipe)
    assert len(part.frames) == 10 and part.used == 0.25


def test_equal_seeds_give_equal_weights_and_other_seeds_others(recordings):
    def weights(seed):
        recipe = CloningRecipe(**{**vars(QUICK), "seed": seed})
        return clone_behaviour(recordings, recipe=recipe).state_dict()

    one, same, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.0.weight"], other["head.0.weight"])


def test_cloning_leaves_the_global_randomness_alone(shards):
    before = torch.get_rng_state()
    clone_behaviour(read_recordings(shards, image_size=32), recipe=QUICK)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_clone_of_an_expert_walks_towards_goals_in_the_same_room(recordings, rooms):
    recipe = CloningRecipe(num_steps=60, batch_size=32, max_ahead=20, learning_rate=1e-3)
    policy = CloningPolicy(clone_behaviour(recordings, recipe=recipe))
    generator, room, cosines = np.random.default_rng(0), rooms(), []
    while len(cosines) < 40:
        start, goal = room.sample_position(generator), room.sample_position(generator)
        offset = goal - start
        if room.room(start) == room.room(goal) and np.linalg.norm(offset) > 6:
            step = room.reset(generator, start=start, goal=goal)
            action = policy(room, step, generator)
            cosines.append(action @ offset / np.linalg.norm(action) / np.linalg.norm(offset))
    assert np.mean(cosines) > 0.5


def test_it_acts_inside_an_episode(recordings, rooms):
    policy = CloningPolicy(clone_behaviour(recordings, recipe=QUICK))
    generator = np.random.default_rng(0)
    record = run_episode(rooms(3), policy, start=None, goal=None, generator=generator)
    assert 1 <= record.num_steps <= 3


def test_where_it_is_finds_the_brightest_place_of_each_channel():
    features = torch.zeros(1, 2, 5, 5)
    features[0, 0, 0, 4], features[0, 1, 2, 1] = 50.0, 50.0
    assert where_it_is(features)[0].tolist() == pytest.approx([-1.0, 0.0, 1.0, -0.5], abs=1e-4)


def test_an_action_that_never_changes_stays_what_it_is():
    frames = torch.randint(256, (2, 5, 3, 32, 32), dtype=torch.uint8)
    actions = torch.stack((torch.rand(2, 4), torch.full((2, 4), -2.0)), dim=-1)
    network = CloningNetwork(Recordings(frames, actions))
    predicted = network(frames[0], frames[1])
    assert torch.equal(predicted[:, 1], torch.full((5,), -2.0))
    assert len(predicted[:, 0].unique()) == 5


@pytest.mark.parametrize("change", [{"num_steps": 0}, {"learning_rate": 0.0}, {"max_ahead": 0}])
def test_a_recipe_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        CloningRecipe(**change)
