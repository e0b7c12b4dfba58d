from types import SimpleNamespace

import pytest
import torch

from data_pipelines.batch import TrajectoryBatch
from data_pipelines.datamodules import TrajectoryDataModule
from jepa.checkpoints.native import load_encoder
from jepa.models import normalize_pixels
from jepa.training.latent_windows import LatentWindows


@pytest.fixture
def make_windows(trajectory_shards, encoder_folder):
    def make(*, clip_length_frames=12, **options):
        trajectories = TrajectoryDataModule(
            trajectory_shards, clip_length_frames, image_size=32, batch_size=4
        )
        settings = {"window_frames": 5, "batch_size": 16, "steps_per_epoch": 10}
        return LatentWindows(trajectories, encoder_folder, **(settings | options))

    return make


@pytest.fixture
def windows(make_windows):
    windows = make_windows()
    windows.setup()
    return windows


def test_all_trajectories_are_encoded_once_by_the_encoder(windows, encoder_folder):
    assert len(set(windows.encoded.keys)) == 8
    encoder = load_encoder(encoder_folder)
    batch = next(iter(windows.trajectories.train_dataloader()))
    tokens = encoder.encode_frames(normalize_pixels(batch.frames))
    for key, clip, states in zip(batch.keys, tokens, batch.states, strict=True):
        place = windows.encoded.keys.index(key)
        torch.testing.assert_close(windows.encoded.tokens[place], clip, atol=1e-5, rtol=1e-4)
        assert torch.equal(windows.encoded.states[place], states)


def test_tokens_states_and_actions_of_a_window_belong_together(windows):
    batch = windows.window_batch(3)
    assert batch.tokens.shape == (16, 5, 16, 48)
    assert batch.actions.shape == (16, 4, 2)
    reached = (batch.states[:, :-1] + batch.actions).clamp(0.2, 0.8)  # the world's law
    torch.testing.assert_close(batch.states[:, 1:], reached)
    whole = windows.encoded
    for tokens, states, key in zip(batch.tokens, batch.states, batch.keys, strict=True):
        place = whole.keys.index(key)
        first = (whole.states[place] == states[0]).all(-1).nonzero()[0].item()
        assert torch.equal(whole.tokens[place, first : first + 5], tokens)


def test_windows_start_everywhere(windows):
    starts = set()
    for step in range(20):
        batch = windows.window_batch(step)
        for states, key in zip(batch.states, batch.keys, strict=True):
            whole = windows.encoded.states[windows.encoded.keys.index(key)]
            starts.add((whole == states[0]).all(-1).nonzero()[0].item())
    assert starts == set(range(12 - 5 + 1))


def test_a_batch_is_a_function_of_seed_step_and_rank(windows):
    first = windows.window_batch(0)
    assert torch.equal(windows.window_batch(0).states, first.states)
    assert not torch.equal(windows.window_batch(1).states, first.states)
    windows.trainer = SimpleNamespace(global_rank=1)
    assert not torch.equal(windows.window_batch(0).states, first.states)
    windows.trainer, windows.seed = None, 2**40 + 1
    assert not torch.equal(windows.window_batch(0).states, first.states)


def test_a_resumed_epoch_goes_on_where_it_stopped(windows):
    straight = [batch.states for batch in windows.train_dataloader()]
    assert len(straight) == 10
    windows.batches_trained = lambda: 7
    resumed = [batch.states for batch in windows.train_dataloader()]
    assert len(resumed) == 3
    assert all(map(torch.equal, resumed, straight[7:]))
    windows.batches_trained = lambda: 10  # the next epoch
    assert len(list(windows.train_dataloader())) == 10


def test_it_tells_what_it_does(windows):
    words = "encoded once, then 10 steps of 16 windows of 5 frames"
    assert windows.describe().endswith(words)
    assert windows.statistics == windows.trajectories.statistics
    assert windows.skips.num_skipped == 0


def test_more_than_the_allowed_memory_is_refused(make_windows):
    with pytest.raises(ValueError, match=r"more than max_gigabytes=0\.0001; train from the Traj"):
        make_windows(max_gigabytes=1e-4).setup()


def test_windows_longer_than_the_trajectories_are_refused(make_windows):
    with pytest.raises(ValueError, match="window_frames=9 exceeds the 6 frames"):
        make_windows(clip_length_frames=6, window_frames=9).setup()


@pytest.mark.parametrize("name", ["window_frames", "batch_size", "steps_per_epoch"])
def test_windows_without_content_are_refused(name, make_windows):
    with pytest.raises(ValueError, match="window_frames must be at least 2, batch_size and"):
        make_windows(**{name: 0})


def test_without_an_encoder_windows_hold_the_frames_of_their_states(make_windows):
    windows = make_windows()
    windows.encoder_folder = None
    windows.setup()
    batch = windows.window_batch(3)
    assert isinstance(batch, TrajectoryBatch)
    assert batch.frames.shape == (16, 3, 5, 32, 32) and batch.frames.dtype == torch.uint8
    whole = windows.encoded
    for frames, states, key in zip(batch.frames, batch.states, batch.keys, strict=True):
        place = whole.keys.index(key)
        first = (whole.states[place] == states[0]).all(-1).nonzero()[0].item()
        assert torch.equal(whole.frames[place][:, first : first + 5], frames)
    assert "decoded once" in windows.describe()
