import numpy as np
import pytest
import torch

from jepa.evaluation.health.planning_signal import planning_signal
from jepa.models.latents import PatchTokens


class Line:
    """A world whose latent is a place on a line, moved by the action; it may be deaf to it."""

    def __init__(self, *, hears_actions=True, context_frames=1):
        self.hears_actions, self.context_frames = hears_actions, context_frames
        self.latents, self.remembered = PatchTokens(), []

    def normalize_states(self, states):
        return states

    def remember(self, latents, states, actions):
        self.remembered.append((latents, states, actions))

    def rollout(self, latents, states, actions, *, memory=None):
        moved = actions.cumsum(1).unsqueeze(2) * float(self.hears_actions)
        return type("Prediction", (), {"tokens": latents.unsqueeze(1) + moved})


def windows(num_windows=40, time=6):
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(num_windows, time - 1, 1, generator=generator)
    places = torch.cat((torch.zeros(num_windows, 1, 1), actions.cumsum(1)), dim=1)
    return places.unsqueeze(2), places, actions  # latents of one token


def test_the_signal_of_a_world_that_knows_its_actions_is_worked_out_by_hand():
    latents, states, actions = windows()
    signal = planning_signal(Line(), latents, states, actions, horizon=4, num_random=39)
    sums = actions[:, :4].sum((1, 2)).numpy()  # where each sequence leads to
    kept = np.abs(sums) >= 0.5 * torch.tensor(sums).abs().median().item()
    assert max(np.abs(signal.true_costs)) < 1e-5  # the true actions lead to the goal
    expected = []
    for window in np.flatnonzero(kept):
        costs = np.abs(np.delete(sums, window) - sums[window])
        expected.append(costs.mean() / costs.std())
    assert signal.signal_to_noise.value == pytest.approx(np.mean(expected), rel=1e-4)
    assert signal.signal_to_noise.low < signal.signal_to_noise.value < signal.signal_to_noise.high
    assert signal.share_beaten == pytest.approx(1.0)


def test_a_world_that_is_deaf_to_actions_has_no_signal():
    signal = planning_signal(Line(hears_actions=False), *windows())
    assert signal.signal_to_noise.value == pytest.approx(0.0, abs=1e-6)
    assert signal.share_beaten == 0.5


def test_the_rollout_starts_after_the_frames_that_are_remembered():
    latents, states, actions = windows()
    world = Line(context_frames=2)
    signal = planning_signal(world, latents, states, actions, horizon=4)
    assert max(np.abs(signal.true_costs)) < 1e-5
    for past, past_states, done in world.remembered:  # one window, for all sequences alike
        assert past.shape[1:] == (1, 1, 1) and past_states.shape[1:] == done.shape[1:] == (1, 1)
        assert (done[0] == actions[:, :1]).all(-1).any()
    assert len(world.remembered) == len(signal.true_costs)


def test_windows_that_are_too_short_are_refused():
    latents, states, actions = windows(time=4)
    with pytest.raises(ValueError, match="at least 3 windows of 5 frames, got 40 of 4"):
        planning_signal(Line(), latents, states, actions, horizon=4)
