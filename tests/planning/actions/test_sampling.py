"""Statistics of sampled sequences, and small refits and shifts by hand."""

import numpy as np
import pytest
import torch

from planning.actions.sampling import (
    ActionDistribution,
    refit,
    sample_sequences,
    shift,
)
from planning.actions.space import ActionSpec

WIDE = ActionSpec(("a", "b"), ("1", "1"), (-1e6, -1e6), (1e6, 1e6))


def drawn(distribution, num_samples=20000, *, smoothness=0.0, spec=WIDE, seed=0):
    return sample_sequences(
        distribution,
        num_samples,
        space=spec,
        smoothness=smoothness,
        generator=torch.Generator().manual_seed(seed),
    )


def distribution_of_steps(horizon=6):
    mean = torch.arange(horizon * 2.0).reshape(horizon, 2)
    std = torch.linspace(0.5, 3.0, horizon * 2).reshape(horizon, 2)
    return ActionDistribution(mean, std)


# Samples.


@pytest.mark.parametrize("smoothness", [0.0, 0.3, 0.9])
def test_mean_and_std_of_every_step_are_those_of_the_distribution(smoothness):
    distribution = distribution_of_steps()
    samples = drawn(distribution, smoothness=smoothness)
    error = 5 / 20000**0.5  # five standard errors of a mean, in standard deviations
    assert ((samples.mean(0) - distribution.mean) / distribution.std).abs().max() < error
    assert (samples.std(0) / distribution.std - 1).abs().max() < error


@pytest.mark.parametrize("smoothness", [0.0, 0.3, 0.9])
def test_noise_of_steps_apart_is_correlated_by_a_power_of_the_smoothness(smoothness):
    samples = drawn(distribution_of_steps(), smoothness=smoothness)
    for dim in (0, 1):
        correlation = np.corrcoef(samples[:, :, dim].numpy().T)
        for step in range(6):
            for other in range(6):
                expected = smoothness ** abs(step - other)
                assert correlation[step, other] == pytest.approx(expected, abs=0.03)


def test_dimensions_and_samples_are_independent():
    samples = drawn(distribution_of_steps(), smoothness=0.5)
    noise = ((samples - distribution_of_steps().mean) / distribution_of_steps().std).numpy()
    assert np.corrcoef(noise[:, 3, 0], noise[:, 3, 1])[0, 1] == pytest.approx(0, abs=0.03)
    assert np.corrcoef(noise[:-1, 3, 0], noise[1:, 3, 0])[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("smoothness", [0.0, 0.7])
@pytest.mark.parametrize("num_samples", [1, 2, 5])
def test_the_first_sample_is_the_mean_and_no_other_is(num_samples, smoothness):
    distribution = distribution_of_steps()
    samples = drawn(distribution, num_samples, smoothness=smoothness)
    assert samples.shape == (num_samples, 6, 2)
    assert torch.equal(samples[0], distribution.mean)
    assert (samples[1:] != distribution.mean).all()


def test_one_step_needs_no_neighbour():
    distribution = ActionDistribution(torch.zeros(1, 2), torch.ones(1, 2))
    assert torch.equal(drawn(distribution, smoothness=0.9), drawn(distribution, smoothness=0.0))


def test_samples_are_clipped_to_the_bounds_and_reach_them():
    spec = ActionSpec(("a", "b"), ("1", "1"), (-1.0, 0.0), (0.5, 3.0))
    distribution = ActionDistribution(torch.zeros(4, 2), torch.full((4, 2), 10.0))
    samples = drawn(distribution, spec=spec)
    assert samples.amin((0, 1)).tolist() == [-1.0, 0.0]
    assert samples.amax((0, 1)).tolist() == [0.5, 3.0]


def test_the_generator_alone_decides():
    distribution = distribution_of_steps()
    assert torch.equal(drawn(distribution, 8, seed=1), drawn(distribution, 8, seed=1))
    assert not torch.equal(drawn(distribution, 8, seed=1), drawn(distribution, 8, seed=2))


def test_samples_have_the_type_of_the_mean():
    distribution = ActionDistribution(torch.zeros(2, 2).double(), torch.ones(2, 2).double())
    assert drawn(distribution, 3).dtype == torch.float64


# Refit, by hand.


def test_a_refit_takes_mean_and_population_std_of_the_elites():
    old = ActionDistribution(torch.tensor([[10.0]]), torch.tensor([[5.0]]))
    elites = torch.tensor([[[1.0]], [[3.0]], [[5.0]], [[7.0]]])
    mean, std = refit(old, elites, momentum=0.0, min_std=torch.tensor([0.1]))
    assert mean.item() == 4.0
    assert std.item() == pytest.approx(5**0.5)  # squares 9, 1, 1, 9


def test_momentum_keeps_its_share_of_the_old_distribution():
    old = ActionDistribution(torch.tensor([[10.0]]), torch.tensor([[5.0]]))
    elites = torch.tensor([[[1.0]], [[3.0]]])
    mean, std = refit(old, elites, momentum=0.25, min_std=torch.tensor([0.1]))
    assert mean.item() == pytest.approx(0.25 * 10 + 0.75 * 2)
    assert std.item() == pytest.approx(0.25 * 5 + 0.75 * 1)


def test_the_std_of_each_dimension_has_its_own_floor():
    old = ActionDistribution(torch.zeros(2, 2), torch.ones(2, 2))
    _, std = refit(old, torch.zeros(1, 2, 2), momentum=0.0, min_std=torch.tensor([0.1, 0.7]))
    assert std.numpy() == pytest.approx(np.array([[0.1, 0.7]] * 2))


# Shift, by hand.

THREE = ActionDistribution(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.1], [0.2], [0.3]]))


@pytest.mark.parametrize(
    ("steps", "mean", "std"),
    [
        (0, [1, 2, 3], [0.1, 0.2, 0.3]),
        (1, [2, 3, 3], [0.2, 0.3, 9.0]),
        (2, [3, 3, 3], [0.3, 9.0, 9.0]),
        (3, [3, 3, 3], [9.0, 9.0, 9.0]),
    ],
)
def test_a_shift_drops_what_was_executed_and_repeats_the_last_mean(steps, mean, std):
    shifted = shift(THREE, steps, tail_std=torch.tensor([9.0]))
    assert shifted.mean.flatten().tolist() == mean
    assert shifted.std.flatten().tolist() == pytest.approx(std)


def test_two_shifts_by_one_are_one_shift_by_two():
    tail = torch.tensor([9.0])
    twice = shift(shift(THREE, 1, tail_std=tail), 1, tail_std=tail)
    once = shift(THREE, 2, tail_std=tail)
    assert torch.equal(twice.mean, once.mean)
    assert torch.equal(twice.std, once.std)


@pytest.mark.parametrize("steps", [-1, 4])
def test_a_shift_beyond_the_plan_is_refused(steps):
    with pytest.raises(ValueError, match=f"cannot shift a plan of 3 steps by {steps}"):
        shift(THREE, steps, tail_std=torch.tensor([9.0]))
