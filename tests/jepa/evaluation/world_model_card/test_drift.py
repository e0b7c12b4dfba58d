from dataclasses import replace

import numpy as np
import pytest
import torch

from jepa.evaluation.world_model_card.drift import measure_drift, useful_steps
from jepa.evaluation.world_model_card.verdict import Interval

NOTHING = ((0.0, 0.0), (0.0, 0.0))


def test_the_drift_of_an_exact_model_is_the_noise_that_adds_up(toys):
    windows = toys.windows(decay=0.8, noise=0.3, num_episodes=300, per_episode=8)
    found = measure_drift(toys.world(decay=0.8), windows)
    variance = 0.3**2 * np.cumsum(0.8 ** (2 * np.arange(6)))
    expected = np.sqrt(variance) * np.pi**0.5 / 2  # mean of a Rayleigh over root two
    assert [part.value for part in found.imagined] == pytest.approx(expected, rel=0.04)
    assert found.verdict.outcome == "pass"
    assert found.useful_horizon == 6


def test_copying_drifts_as_the_actions_do(toys):
    windows = toys.windows(num_episodes=300, per_episode=8)  # a random walk
    found = measure_drift(toys.world(), windows)
    expected = np.sqrt(np.arange(1, 7)) * np.pi**0.5 / 2
    assert [part.value for part in found.copied] == pytest.approx(expected, rel=0.03)
    assert max(part.high for part in found.imagined) < 1e-5


def test_the_mean_latent_is_as_far_as_the_data_are_wide(toys):
    windows = toys.windows(push=NOTHING, num_episodes=300, per_episode=8)  # N(0, 1), at rest
    windows = replace(windows, latents=windows.latents + 0.01 * torch.randn_like(windows.latents))
    found = measure_drift(toys.world(), windows)
    assert found.mean[2].value == pytest.approx(np.pi**0.5 / 2, rel=0.03)


def test_a_model_that_copies_is_of_no_use_from_the_first_step_on(toys):
    found = measure_drift(toys.world(push=NOTHING), toys.windows(noise=0.1))
    assert found.ratio_to_copy == ((1.0, 1.0, 1.0),) * 6
    assert found.useful_horizon == 0
    assert found.verdict.outcome == "fail"
    assert "after 1 of 6 steps" in found.verdict.reason


def test_a_model_that_blows_up_is_useful_until_then(toys):
    found = measure_drift(toys.world(decay=1.6), toys.windows(num_episodes=60))
    assert 0 < found.useful_horizon < 6
    assert f"after {found.useful_horizon + 1} of 6 steps" in found.verdict.reason


def test_useful_steps_end_at_the_first_gap():
    good, bad = Interval(0.5, 0.4, 0.9), Interval(0.9, 0.8, 1.0)
    assert useful_steps((good, good, bad, good)) == 2
    assert useful_steps((bad, good)) == 0
    assert useful_steps((good, good)) == 2


def test_a_world_at_rest_has_no_drift(toys):
    windows = toys.windows(push=NOTHING)
    assert "do not move" in measure_drift(toys.world(), windows).verdict.reason
