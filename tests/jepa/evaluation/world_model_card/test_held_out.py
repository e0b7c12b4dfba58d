import numpy as np
import pytest
import torch

from data_pipelines.pose_differences import POSE_COLUMNS, ROTATION
from data_pipelines.shards import pack_trajectories
from data_pipelines.trajectories import Episode, TrajectorySpecification
from jepa.evaluation.world_model_card.causality import measure_causality
from jepa.evaluation.world_model_card.drift import measure_drift
from jepa.evaluation.world_model_card.held_out import load_windows
from jepa.evaluation.world_model_card.loading import load_model
from jepa.models import VideoEncoder
from jepa.models.latents import PatchTokens
from jepa.models.world_model import ColumnScaling, LatentWorldModel


@pytest.fixture(scope="module")
def model():
    return load_model("two_rooms")


@pytest.fixture(scope="module")
def windows(model, two_rooms_shards):
    return load_windows(model, two_rooms_shards, horizon=5, windows_per_episode=2)


def test_windows_of_every_episode_are_read_and_encoded(model, windows):
    assert windows.num_episodes == 12
    assert windows.latents.shape[:2] == (24, 6)
    assert windows.actions.shape == (24, 5, 2)
    assert (windows.horizon, windows.action_names) == (5, ("dx", "dy"))
    assert np.bincount(windows.episodes).tolist() == [2] * 12
    assert torch.equal(model.encode(windows.frames[3:4])[0, 2], windows.latents[3, 2])


def test_states_are_kept_as_recorded_and_as_the_model_wants_them(model, windows):
    assert windows.state_names == ("x", "y")
    assert torch.allclose(
        windows.states, (windows.recorded_states - model.state_mean) / model.state_std
    )


def test_the_same_seed_gives_the_same_windows(model, two_rooms_shards):
    def draw(seed):
        return load_windows(model, two_rooms_shards, horizon=2, max_episodes=3, seed=seed)

    first, again, other = draw(1), draw(1), draw(2)
    assert first.num_episodes == 3
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)


def test_a_model_that_starts_from_several_frames_gets_them(two_rooms_shards):
    model = load_model("two_rooms")
    model.context_frames = 3
    windows = load_windows(model, two_rooms_shards, horizon=4, max_episodes=2)
    assert (windows.num_past, windows.horizon, windows.latents.shape[1]) == (2, 4, 7)
    assert torch.equal(windows.start_latents, windows.latents[:, 2])


def test_donors_are_always_of_another_episode(toys):
    windows = toys.windows(num_episodes=3, per_episode=4)
    for seed in range(20):
        donors = windows.donors(np.random.default_rng(seed))
        assert (windows.episodes[donors] != windows.episodes).all()
    with pytest.raises(ValueError, match="no other episode"):
        toys.windows(num_episodes=1).donors(np.random.default_rng(0))


def test_means_are_over_the_windows_of_an_episode(toys):
    windows = toys.windows(num_episodes=2, per_episode=2)
    found = windows.per_episode(np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 1.0], [5.0, 2.0]]))
    assert found.tolist() == [[2.0, 0.0], [5.0, 1.5]]


def test_some_windows_are_of_many_episodes(toys):
    assert toys.windows().some(5).episodes.tolist() == [0, 5, 10, 14, 19]
    assert len(toys.windows(num_episodes=1).some(100).episodes) == 4


def test_other_actions_are_refused(toys, two_rooms_shards):
    model = toys.world(names=("x_force", "y_force"))
    with pytest.raises(ValueError, match=r"has the actions dx, dy, the model was .* x_force"):
        load_windows(model, two_rooms_shards, horizon=2)


def test_another_rate_is_refused(two_rooms_shards):
    model = load_model("two_rooms")
    model.actions = model.actions._replace(frames_per_second=5.0)
    with pytest.raises(
        ValueError, match=r"gives 10 actions per second, the model was trained on 5"
    ):
        load_windows(model, two_rooms_shards, horizon=2)


def test_joined_actions_are_cut_as_the_model_was_taught(toys, two_rooms_shards):
    names = ("dx@0", "dy@0", "dx@1", "dy@1")
    model = toys.world(names=names, num_steps=2, push=[[0.0, 0.0]] * 4)
    model.actions = model.actions._replace(frames_per_second=5.0)
    model.make_scaling()
    model.config["scaling"] |= {"state_mean": [0.0, 0.0], "state_std": [1.0, 1.0]}
    model.make_scaling()
    windows = load_windows(model, two_rooms_shards, horizon=3, max_episodes=2)
    assert windows.actions.shape == (8, 3, 4)
    assert windows.action_names == names


@pytest.fixture
def pose_shards(tmp_path):
    """Three episodes of a hand at 15 frames a second; x goes on by a centimetre a frame."""
    specification = TrajectorySpecification(
        state_names=POSE_COLUMNS,
        state_units=("metre",) * 3 + ("radian",) * 3 + ("1",),
        action_names=("command",),
        action_units=("1",),
        action_low=(-1.0,),
        action_high=(1.0,),
        frames_per_second=15.0,
        rotation=ROTATION,
    )
    generator, episodes = np.random.default_rng(0), []
    for index in range(3):
        states = np.zeros((40, 7), np.float32)
        states[:, 0] = 0.01 * np.arange(40)
        states[:, 1] = 0.02 * generator.standard_normal(40).cumsum()
        frames = generator.integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
        actions = np.zeros((39, 1), np.float32)
        episodes.append(Episode(frames, states, actions, f"hand{index}", 15.0))
    pack_trajectories(episodes, tmp_path / "poses", specification=specification)
    return str(tmp_path / "poses")


def test_a_model_that_adds_poses_is_shown_pose_differences_at_its_rate(pose_shards):
    model = LatentWorldModel(  # as V-JEPA 2-AC is read: nothing says what its actions are
        VideoEncoder(
            image_size=32, clip_length_frames=2, patch_size=16, dim=48, depth=1, num_heads=4
        ),
        PatchTokens(),
        scaling=ColumnScaling((0.0,) * 7, (1.0,) * 7, (0.0,) * 7, (1.0,) * 7),
        uses_state=True,
        next_state="end_effector_pose",
        dim=48,
        depth=1,
        num_heads=4,
    ).eval()
    windows = load_windows(model, pose_shards, horizon=4)
    assert windows.actions.shape == (12, 4, 7)
    moved = windows.states[:, 1:, 0] - windows.states[:, :-1, 0]
    assert torch.allclose(windows.actions[..., 0], moved, atol=1e-6)
    steps = (moved / 0.01).round().unique().tolist()
    assert set(steps) == {3.0, 4.0}  # frames of 15 a second, four of them a second
    assert measure_causality(model, windows).verdict.outcome == "pass"
    assert len(measure_drift(model, windows).imagined) == 4


@pytest.mark.parametrize("name", ["horizon", "windows_per_episode", "max_episodes"])
def test_counts_below_one_are_refused(model, two_rooms_shards, name):
    with pytest.raises(ValueError, match="must be at least 1"):
        load_windows(model, two_rooms_shards, **{"horizon": 2, name: 0})
