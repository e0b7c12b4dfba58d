import numpy as np
import pytest
from scipy import stats

from jepa.evaluation.health.state_distance import rank_correlation, state_distance

RANDOM = np.random.default_rng(0)


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def line(num_frames=60):
    """Frames along a line, of six trajectories."""
    return np.linspace(0.0, 1.0, num_frames)[:, None], np.arange(num_frames) % 6


def test_the_rank_correlation_is_scipys_and_that_of_ranks_worked_out_by_hand():
    first, second = RANDOM.normal(size=40), RANDOM.normal(size=40).round(1)
    assert rank_correlation(first, second) == stats.spearmanr(first, second).statistic
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])) == pytest.approx(0.8)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5)))


def test_a_latent_distance_that_grows_with_that_of_states_is_monotonic_everywhere():
    states, groups = line()
    result = state_distance(distances(states) ** 2, states, groups, num_resamples=20)
    assert result.correlation[-1].value == pytest.approx(1.0, abs=1e-3)  # ties are rounded apart
    assert result.correlation[-1].low == pytest.approx(1.0, abs=1e-3)
    assert result.monotonic_share == 1.0
    assert result.monotonic_radius == result.radius[-1]


def test_a_latent_distance_that_saturates_is_monotonic_up_to_there():
    states, groups = line()
    unit = states.std()
    latent = np.minimum(distances(states), 0.5)
    latent -= 0.1 * np.maximum(distances(states) - 0.5, 0)  # beyond, it even falls
    result = state_distance(latent, states, groups, num_bins=10, num_resamples=20)
    assert 0.35 / unit < result.monotonic_radius < 0.7 / unit
    assert result.correlation[3].value > 0.99
    assert result.correlation[-1].value < result.correlation[3].value
    assert np.diff(result.latent[-3:]).max() < 0


def test_the_monotonic_radius_ends_at_the_first_fall_even_if_it_rises_again():
    states, groups = line()
    far = distances(states)
    latent = np.abs(far - 0.4) + np.where(far < 0.3, 2 * far, 0.0)  # rises, falls, rises
    result = state_distance(latent, states, groups, num_bins=10, num_resamples=2)
    assert 0 < result.monotonic_radius < 0.4 / states.std()
    assert result.latent[-1] > result.latent[-2]


def test_a_latent_distance_of_noise_has_an_interval_around_zero():
    states, groups = line()
    noise = RANDOM.uniform(size=(60, 60))
    result = state_distance((noise + noise.T) / 2, states, groups)
    overall = result.correlation[-1]
    assert overall.low < 0.0 < overall.high
    assert result.monotonic_share < 0.9


def test_columns_of_states_count_in_units_of_their_own_spread():
    states, groups = RANDOM.normal(size=(60, 2)), np.arange(60) % 6
    latent = distances(states / states.std(0))
    scaled = state_distance(latent, states * [1.0, 1e4], groups, num_resamples=5)
    assert scaled.correlation[-1].value == pytest.approx(1.0)


def test_the_correlation_up_to_a_radius_is_that_of_its_pairs_alone():
    states, groups = line(30)
    latent = distances(states) + 0.2 * distances(RANDOM.normal(size=(30, 3)))
    result = state_distance(latent, states, groups, num_bins=4, num_resamples=5)
    first, second = np.triu_indices(30, k=1)
    far = distances(states / states.std())[first, second]
    near = far <= result.radius[1]
    expected = stats.spearmanr(far[near], latent[first, second][near]).statistic
    assert result.correlation[1].value == pytest.approx(expected)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"4 states need latent distances \(4, 4\).*got \(3, 3\)"):
        state_distance(np.zeros((3, 3)), np.zeros((4, 1)), np.zeros(4))
    with pytest.raises(ValueError, match="3 pairs of frames are too few for 8 bins"):
        state_distance(np.zeros((3, 3)), np.zeros((3, 1)), np.zeros(3))
