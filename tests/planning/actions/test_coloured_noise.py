"""Coloured noise: its spread, its spectrum, and the slow part that must not be lost."""

import numpy as np
import pytest
import torch

from planning.actions.coloured_noise import coloured_noise, spectral_power


def drawn(exponent, *, num_samples=40_000, num_steps=6, dim=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return coloured_noise(num_samples, num_steps, dim, exponent=exponent, generator=generator)


def slow_covariance(num_steps, exponent):
    """Adds up the cosines of every frequency: covariance of steps t apart."""
    power = [1.0] + [frequency**-exponent for frequency in range(1, num_steps + 1)]
    weights = [power[0], *(2 * p for p in power[1:-1]), power[-1]]
    return [
        sum(w * np.cos(np.pi * k * lag / num_steps) for k, w in enumerate(weights)) / sum(weights)
        for lag in range(num_steps)
    ]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_every_step_has_mean_0_and_standard_deviation_1(exponent):
    noise = drawn(exponent)
    assert noise.shape == (40_000, 6, 1)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(noise.std(0), 1, atol=0.02)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_steps_agree_as_the_sum_of_cosines_says(exponent):
    noise = drawn(exponent)[..., 0].double()
    covariance = (noise.T @ noise / len(noise)).numpy()
    expected = slow_covariance(6, exponent)
    for one in range(6):
        for other in range(6):
            assert covariance[one, other] == pytest.approx(expected[abs(one - other)], abs=0.03)


def test_without_colour_it_is_white():
    covariance = np.cov(drawn(0.0)[..., 0].T.numpy())
    np.testing.assert_allclose(covariance, np.eye(6), atol=0.03)


def test_the_slow_part_is_kept():
    """Of very slow noise almost all is one constant per sample: the mean over the steps has a
    standard deviation near that of a step. To scale each sample to spread 1 would kill it."""
    noise = drawn(6.0)[..., 0]
    assert noise.mean(1).std().item() > 0.75
    assert noise.std(1).mean().item() < 0.6
    assert drawn(0.0)[..., 0].mean(1).std().item() == pytest.approx(6**-0.5, rel=0.03)


def test_the_last_step_need_not_agree_with_the_first():
    """Noise that is periodic over the horizon would have the first and last step as neighbours."""
    noise = drawn(2.0, num_steps=12)[..., 0]
    correlation = np.corrcoef(noise.T.numpy())
    assert correlation[0, 1] > 0.8
    assert correlation[0, 11] < 0.1


def test_values_of_a_step_and_samples_are_independent():
    noise = drawn(2.0, dim=3)
    together = noise.permute(2, 1, 0).flatten(1).numpy()  # (dim, steps * samples)
    np.testing.assert_allclose(np.corrcoef(together), np.eye(3), atol=0.03)
    assert abs(np.corrcoef(noise[::2, 0, 0], noise[1::2, 0, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_short_sequences_have_standard_deviation_1_too(num_steps):
    noise = drawn(2.0, num_steps=num_steps)
    np.testing.assert_allclose(noise.std(0), 1, atol=0.02)


@pytest.mark.parametrize(("steps", "exponent"), [(1, 2.0), (5, 0.0), (8, 3.0)])
def test_the_powers_of_all_frequencies_add_up_to_1(steps, exponent):
    power = spectral_power(steps, exponent)
    assert len(power) == steps + 1
    assert (power[0] + 2 * power[1:-1].sum() + power[-1]).item() == pytest.approx(1)
    if steps > 2:
        assert (power[1] / power[2]).item() == pytest.approx(2**exponent)


def test_the_same_generator_gives_the_same_noise():
    assert torch.equal(drawn(1.0, num_samples=5), drawn(1.0, num_samples=5))
    assert not torch.equal(drawn(1.0, num_samples=5), drawn(1.0, num_samples=5, seed=1))
