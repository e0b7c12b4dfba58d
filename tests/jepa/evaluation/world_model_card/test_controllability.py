from dataclasses import replace

import numpy as np
import pytest
import torch

from jepa.evaluation.world_model_card.controllability import action_errors, measure_controllability
from jepa.evaluation.world_model_card.held_out import load_windows
from jepa.evaluation.world_model_card.loading import load_model

NOTHING = ((0.0, 0.0), (0.0, 0.0))


def test_the_ratios_are_those_of_the_gaussians(toys):
    # One step of latent + action + noise, actions N(0, 1), noise N(0, 0.5): the error of a
    # coordinate is N(0, 0.5), N(0, sqrt(2 + 0.25)) with other actions, N(0, sqrt(1.25)) with none.
    windows = toys.windows(noise=0.5, horizon=1, num_episodes=400, per_episode=8)
    found = measure_controllability(toys.world(), windows)
    assert found.shuffled_ratio.value == pytest.approx(3.0, rel=0.03)
    assert found.zero_ratio.value == pytest.approx(5**0.5, rel=0.03)
    assert found.shuffled_ratio.low < 3.0 < found.shuffled_ratio.high
    assert found.true_error.value == pytest.approx(0.5 * np.pi**0.5 / 2, rel=0.02)  # Rayleigh
    assert found.is_controllable


def test_a_model_that_ignores_actions_is_uncontrollable(toys):
    found = measure_controllability(toys.world(push=NOTHING), toys.windows(noise=0.5))
    assert found.shuffled_ratio == (1.0, 1.0, 1.0)
    assert found.verdict.outcome == "fail"
    assert found.verdict.reason.startswith("uncontrollable")
    assert found.response.dead == ("dx", "dy")


def test_a_model_that_moves_the_wrong_way_is_uncontrollable(toys):
    backwards = toys.world(push=((-1.0, 0.0), (0.0, -1.0)))
    found = measure_controllability(backwards, toys.windows(noise=0.5))
    assert found.shuffled_ratio.high < 1
    assert not found.is_controllable


def test_actions_that_never_vary_measure_nothing(toys):
    windows = toys.windows()
    windows = replace(windows, actions=torch.ones_like(windows.actions))
    found = measure_controllability(toys.world(), windows)
    assert "all recorded actions are alike" in found.verdict.reason


def test_one_episode_measures_nothing(toys):
    found = measure_controllability(toys.world(), toys.windows(num_episodes=1))
    assert found.verdict.outcome == "not measurable"


def test_nan_is_refused(toys):
    with pytest.raises(FloatingPointError, match="imagines NaN or infinity with true actions"):
        action_errors(toys.world(decay=float("nan")), toys.windows())


def test_the_shipped_world_model_is_controllable_and_deaf_it_is_not(two_rooms_shards):
    model = load_model("two_rooms")
    windows = load_windows(model, two_rooms_shards, horizon=6)
    healthy = measure_controllability(model, windows)
    assert healthy.shuffled_ratio.low > 2
    assert healthy.is_controllable
    assert healthy.response.dead == ()
    model.dynamics.action_embed.weight.zero_()
    deaf = measure_controllability(model, windows)
    assert deaf.shuffled_ratio == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)
    assert not deaf.is_controllable
    assert deaf.response.dead == ("dx", "dy")
