from dataclasses import replace

import torch

from jepa.evaluation.world_model_card.held_out import WINDOWS_AT_ONCE
from jepa.evaluation.world_model_card.rollouts import (
    copy_errors,
    imagine,
    predict_next,
    rollout_errors,
)


def test_an_exact_model_imagines_what_came_true(toys):
    windows = toys.windows(decay=0.9)
    assert len(windows.episodes) > WINDOWS_AT_ONCE  # several parts
    imagined = imagine(toys.world(decay=0.9), windows)
    assert torch.allclose(imagined, windows.future_latents, atol=1e-5)


def test_errors_are_distances_to_what_came_true_by_hand(toys):
    windows = toys.windows(horizon=2, num_episodes=2, per_episode=1)
    windows = replace(windows, latents=torch.zeros_like(windows.latents))
    windows = replace(windows, actions=torch.tensor([[[3.0, 4.0], [0, 0]], [[1, 1], [1, 1]]]))
    errors = rollout_errors(toys.world(), windows)  # root mean square of two numbers
    expected = [[12.5**0.5, 12.5**0.5], [1.0, 2.0]]
    assert torch.allclose(torch.from_numpy(errors), torch.tensor(expected).double())
    assert (copy_errors(toys.world(), windows) == 0).all()


def test_a_rollout_begins_after_the_past(toys):
    windows = replace(toys.windows(decay=0.5), num_past=2)
    imagined = imagine(toys.world(decay=0.5), windows)
    assert imagined.shape[1] == windows.horizon == 4
    assert torch.allclose(imagined, windows.latents[:, 3:], atol=1e-5)


def test_the_past_is_remembered_by_a_model_that_wants_it(toys):
    seen, model = [], toys.world()
    model.dynamics.remember = lambda *past: seen.append([part.shape[1] for part in past])
    imagine(model, replace(toys.windows(), num_past=2))
    assert seen[0] == [2, 2, 2]


def test_next_frames_are_predicted_from_true_ones(toys):
    windows = toys.windows(noise=1.0)
    known = windows.latents[:, :-1], windows.states[:, :-1], windows.actions
    predicted = predict_next(toys.world(), *known)
    expected = windows.latents[:, :-1] + windows.actions.unsqueeze(2)
    assert torch.allclose(predicted, expected)
