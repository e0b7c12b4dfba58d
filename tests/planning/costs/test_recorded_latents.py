"""A bank of real shards: seen through a real world model, it knows what was recorded."""

import numpy as np
import pytest
import torch

from planning.baselines import StickyRandom
from planning.costs import LatentBank, Mahalanobis, NearestLatents, OutOfDistribution
from planning.costs.recorded_latents import bank_of_shards, disagreement_on_shards
from planning.latent_world import LatentWorld
from planning.recording import record_episodes
from planning.types import Latent


@pytest.fixture(scope="module")
def shards(tmp_path_factory, rooms):
    """Ten short episodes of two rooms."""
    folder = tmp_path_factory.mktemp("shards")
    record_episodes(rooms(), StickyRandom, folder, num_episodes=10, num_steps=20, seed=0)
    return folder


@pytest.fixture
def world(make_model):
    return LatentWorld(make_model())


@pytest.mark.parametrize("kind", [Mahalanobis, NearestLatents])
def test_recorded_frames_are_known_and_noise_is_not(world, shards, kind, rooms, tmp_path):
    bank = bank_of_shards(world, shards, image_size=32, kind=kind, num_frames=60)
    guard = OutOfDistribution(LatentBank.load(bank.save(tmp_path / "bank.safetensors")))
    generator = np.random.default_rng(1)
    frames = [rooms().render(rooms().sample_position(generator)) for _ in range(20)]
    frames += [generator.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(20)]
    tokens = torch.stack([world.encode(frame, np.zeros(2)).tokens for frame in frames])
    known, noise = guard(Latent(tokens[:, None]), None).split(20)
    assert (known == 0).float().mean() > 0.6
    assert noise.min() > known.max()


def test_about_as_many_frames_are_encoded_as_asked_for_four_fifths_of_them_kept(world, shards):
    bank = bank_of_shards(world, shards, image_size=32, kind=NearestLatents, num_frames=50)
    assert world.num_encoded_frames == 50
    assert len(bank.latents) == 40


def test_the_same_seed_makes_the_same_bank_and_another_one_another(world, shards):
    first, second, other = (
        bank_of_shards(world, shards, image_size=32, kind=NearestLatents, num_frames=10, seed=seed)
        for seed in (3, 3, 4)
    )
    assert torch.equal(first.latents, second.latents)
    assert first.threshold == second.threshold
    assert not torch.equal(first.latents, other.latents)


class Unsure:
    """Is as unsure after an action as the frame is bright and the actions so far are large."""

    def __init__(self):
        self.started = []

    def encode(self, frame, state=None):
        self.started.append(state)
        return Latent(torch.full((1, 1), float(frame.mean())))

    def rollout(self, start, actions):
        sizes = actions.abs().sum(-1).cumsum(-1)
        return Latent(start.tokens.expand(*sizes.shape, 1, 1), None, sizes * start.tokens[0, 0])


def test_disagreement_is_that_along_recorded_actions_from_recorded_frames(shards):
    world = Unsure()
    found = disagreement_on_shards(world, shards, horizon=5, image_size=32, num_windows=24)
    assert found.shape == (24, 5) == (len(world.started), 5)
    assert (found.diff(dim=1) > 0).all()  # actions are recorded ones, and none is zero
    brightness = found[:, 0].mean()
    assert 50 < brightness / 2.5 < 500  # steps of at most 2.5 pixels, frames of 0 to 255
    same, other = (
        disagreement_on_shards(
            Unsure(), shards, horizon=5, image_size=32, num_windows=24, seed=seed
        )
        for seed in (0, 1)
    )
    assert torch.equal(found, same) and not torch.equal(found, other)


def test_of_actions_that_span_several_frames_windows_are_longer(shards):
    wide = disagreement_on_shards(
        Unsure(), shards, horizon=3, image_size=32, num_windows=8, frame_stride=2,
        actions="concatenate",
    )  # fmt: skip
    narrow = disagreement_on_shards(Unsure(), shards, horizon=3, image_size=32, num_windows=8)
    assert wide.shape == narrow.shape == (8, 3)
    assert wide.mean() > 1.4 * narrow.mean()  # each is two recorded actions side by side


def test_one_member_has_no_disagreement(world, shards):
    with pytest.raises(ValueError, match="the world model has one member, so nothing disagrees"):
        disagreement_on_shards(world, shards, horizon=3, image_size=32, num_windows=4)


def test_what_cannot_be_calibrated_is_refused(world, tmp_path, rooms, shards):
    record_episodes(rooms(), StickyRandom, tmp_path, num_episodes=1, num_steps=5, seed=0)
    with pytest.raises(ValueError, match="holds one trajectory only: none is left to calibrate"):
        bank_of_shards(world, tmp_path, image_size=32, num_frames=4)
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        bank_of_shards(world, shards, image_size=32, num_frames=0)
