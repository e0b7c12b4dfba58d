"""Label propagation: features that say where they came from carry masks exactly."""

import numpy as np
import pytest
import torch

from jepa.evaluation.dense.propagation import (
    PropagationSettings,
    patch_shares,
    propagate,
    upsampled_ids,
)

ONE = PropagationSettings(num_neighbours=1)


def shifted(grid, steps):
    """Frames of one-hot features that move a column to the right with each frame, all around."""
    rows, columns = grid
    first = torch.eye(rows * columns).reshape(rows, columns, -1)
    return torch.stack([first.roll(step, dims=1) for step in steps])


def one_label(grid, row, column):
    labels = torch.zeros(*grid, 2)
    labels[..., 0] = 1
    labels[row, column] = torch.tensor([0.0, 1.0])
    return labels


def test_a_mask_moves_with_its_features():
    carried = propagate(shifted((3, 6), range(4)), one_label((3, 6), 1, 0), ONE)
    for time in range(4):
        torch.testing.assert_close(carried[time], one_label((3, 6), 1, time))


def test_nothing_comes_from_beyond_the_radius():
    """Two columns a frame: a radius of 2 follows, one of 1 sees nothing that is alike."""
    features = shifted((3, 9), (0, 2, 4))
    near = PropagationSettings(num_neighbours=1, radius=2, num_context_frames=1)
    torch.testing.assert_close(
        propagate(features, one_label((3, 9), 1, 0), near)[2], one_label((3, 9), 1, 4)
    )
    too_near = PropagationSettings(num_neighbours=1, radius=1, num_context_frames=1)
    lost = propagate(features, one_label((3, 9), 1, 0), too_near)[1:]
    assert lost[:, 1, 2, 1].max() == 0


def test_the_first_frame_brings_back_what_was_hidden():
    """The object leaves for two frames: only the first frame, or a long memory, knows it."""
    grid = (2, 4)
    shown = torch.eye(8).reshape(*grid, -1)
    hidden = shown.clone()
    hidden[0, 0] = torch.nn.functional.one_hot(torch.tensor(7), 8).float()
    features = torch.stack([shown, hidden, hidden, shown])
    short = PropagationSettings(num_neighbours=1, num_context_frames=1)
    carried = propagate(features, one_label(grid, 0, 0), short)
    assert carried[1:3, ..., 1].max() == 0
    torch.testing.assert_close(carried[3], one_label(grid, 0, 0))


def slow_propagation(features, first, settings):
    """The same, patch by patch, as the paper says it."""
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    time, rows, columns, _ = features.shape
    labels = np.zeros((time, rows, columns, first.shape[-1]))
    labels[0] = first
    for now in range(1, time):
        frames = sorted({0, *range(max(0, now - settings.num_context_frames), now)})
        for row in range(rows):
            for column in range(columns):
                near = [
                    (features[now, row, column] @ features[frame, y, x], frame, y, x)
                    for frame in frames
                    for y in range(rows)
                    for x in range(columns)
                    if max(abs(y - row), abs(x - column)) <= settings.radius
                ]
                best = sorted(near, reverse=True)[: settings.num_neighbours]
                weights = np.exp([likeness / settings.temperature for likeness, *_ in best])
                for weight, (_, frame, y, x) in zip(weights / weights.sum(), best, strict=True):
                    labels[now, row, column] += weight * labels[frame, y, x]
    return labels


@pytest.mark.parametrize(
    "settings",
    [
        PropagationSettings(),
        PropagationSettings(num_context_frames=2, radius=1, num_neighbours=3, temperature=0.5),
        PropagationSettings(num_context_frames=0, radius=2, num_neighbours=500),
    ],
)
def test_labels_are_those_of_the_slow_version(settings):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 4, 5, 6)).astype(np.float32)
    first = rng.dirichlet(np.ones(3), (4, 5)).astype(np.float32)
    ours = propagate(torch.from_numpy(features), torch.from_numpy(first), settings)
    expected = slow_propagation(features, first, settings)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    features, first = torch.randn(3, 4, 5, 6), torch.rand(4, 5, 2)
    whole = propagate(features, first)
    monkeypatch.setattr("jepa.evaluation.dense.propagation.CHUNK", 3)
    torch.testing.assert_close(propagate(features, first), whole)


def test_a_patch_has_a_share_of_each_object():
    ids = torch.tensor([[0, 0, 7, 7], [0, 7, 7, 7]])
    torch.testing.assert_close(
        patch_shares(ids, [0, 7], (1, 2)), torch.tensor([[[0.75, 0.25], [0.0, 1.0]]])
    )


def test_ids_come_back_at_full_size():
    ids = torch.zeros(8, 8, dtype=torch.int64)
    ids[2:6, 4:8] = 7
    back = upsampled_ids(patch_shares(ids, [0, 7], (8, 8))[None], [0, 7], (8, 8))
    torch.testing.assert_close(back[0], ids)


def test_a_faded_object_is_still_the_strongest_where_it_is_strongest():
    labels = torch.zeros(1, 4, 4, 2)
    labels[..., 0] = 0.9
    labels[0, 1, 2] = torch.tensor([0.7, 0.3])
    ids = upsampled_ids(labels, [0, 7], (4, 4))[0]
    assert ids[1, 2] == 7
    assert (ids == 7).sum() == 1


def test_an_object_that_is_gone_is_nowhere():
    labels = torch.zeros(1, 2, 2, 2)
    labels[..., 0] = torch.tensor([[1.0, 0.9], [0.8, 1.0]])
    assert (upsampled_ids(labels, [0, 7], (2, 2)) == 7).sum() == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_neighbours": 0}, "num_neighbours at least 1, got 15, 12 and 0"),
        ({"radius": -1}, "radius must be at least 0"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        PropagationSettings(**setting)


def test_labels_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="of the same grid"):
        propagate(torch.randn(2, 3, 3, 4), torch.rand(2, 3, 2))
