"""Linear heads: they find what is linear in the features, and leave out what is not labelled."""

import numpy as np
import pytest
import torch

from jepa.evaluation.dense.heads import (
    LinearHead,
    class_loss,
    fit_closed_form,
    train_head,
    value_loss,
)


def pictures_of_classes(num=12, grid=(4, 4), num_classes=3):
    """Features that are the class of their patch, plus noise; targets of 2 x 2 pixels a patch."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(num_classes, (num, *grid), generator=generator)
    features = torch.nn.functional.one_hot(classes, 5).float()
    features += 0.1 * torch.randn(features.shape, generator=generator)
    return features, classes.repeat_interleave(2, 1).repeat_interleave(2, 2)


def pictures_of_values():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 4, 4, 5, generator=generator)
    values = features[..., 0] - 2 * features[..., 1] + 3
    return features, values


STEPS = {train_head: {"num_steps": 200}, fit_closed_form: {}}
FITS = pytest.mark.parametrize("fit", [train_head, fit_closed_form])


@FITS
def test_a_head_reads_classes(fit):
    features, targets = pictures_of_classes()
    reads = fit(features[:8], targets[:8], 3, class_loss, **STEPS[fit])
    found = reads(features[8:], (8, 8)).argmax(1)
    assert (found == targets[8:]).float().mean() > 0.7  # upsampling blurs between patches
    exact = reads(features[8:], (4, 4)).argmax(1)
    assert (exact == targets[8:, ::2, ::2]).float().mean() > 0.98


@FITS
def test_a_head_reads_values(fit):
    features, values = pictures_of_values()
    reads = fit(features[:8], values[:8], 1, value_loss, **STEPS[fit])
    found = reads(features[8:], (4, 4))[:, 0]
    assert (found - values[8:]).abs().mean() < 0.1 * values.std()


@FITS
def test_what_is_not_labelled_teaches_nothing(fit):
    """Two thirds of the pixels are labelled wrongly, but marked as unknown."""
    features, values = pictures_of_values()
    wrong = values.clone()
    wrong[:, :, 1:] = torch.nan
    found = fit(features, wrong, 1, value_loss, **STEPS[fit])(features, (4, 4))[:, 0]
    assert (found - values).abs().mean() < 0.15 * values.std()
    classes = torch.where(features[..., 2] > 0, 1, 0)
    hidden = classes.clone()
    hidden[:, :, 1:] = -1
    found = fit(features, hidden, 2, class_loss, **STEPS[fit])(features, (4, 4)).argmax(1)
    assert (found == classes).float().mean() > 0.9


def test_a_class_that_was_never_seen_is_never_said():
    features, targets = pictures_of_classes(num_classes=2)
    outputs = fit_closed_form(features, targets, 4, class_loss)(features, (8, 8))
    assert outputs.shape == (12, 4, 8, 8)
    assert set(outputs.argmax(1).unique().tolist()) == {0, 1}


def test_the_same_seed_trains_the_same_head():
    features, targets = pictures_of_classes()
    settings = {"num_steps": 20, "num_outputs": 3, "loss": class_loss}
    first, again = (train_head(features, targets, **settings, seed=1) for _ in range(2))
    other = train_head(features, targets, **settings, seed=2)
    torch.testing.assert_close(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


def test_losses_are_those_of_the_known_pixels():
    outputs = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]]]])  # (1, 2 classes, 1, 2)
    targets = torch.tensor([[[0, -1]]])
    assert class_loss(outputs, targets).item() == pytest.approx(np.log(1 + np.exp(-2)))
    values = torch.tensor([[[1.0, torch.nan]]])
    assert value_loss(outputs[:, :1], values).item() == pytest.approx(1.0)


def test_a_head_is_one_layer_at_every_patch():
    """A change of one patch changes nothing at another, before the upsampling."""
    head = LinearHead(5, 3).eval()
    features = torch.randn(1, 4, 4, 5)
    changed = features.clone()
    changed[0, 1, 2] += 1
    difference = (head(changed, (4, 4)) - head(features, (4, 4))).abs().sum(1)[0]
    assert difference[1, 2] > 0
    difference[1, 2] = 0
    assert difference.max() == 0


def test_labels_that_teach_nothing_are_refused():
    features = torch.randn(2, 2, 2, 3)
    with pytest.raises(ValueError, match="at least 2 labelled patches, and 2 classes; got 8"):
        fit_closed_form(features, torch.zeros(2, 4, 4, dtype=torch.int64), 2, class_loss)
    with pytest.raises(ValueError, match="got 0 patches"):
        fit_closed_form(features, torch.full((2, 4, 4), torch.nan), 1, value_loss)
