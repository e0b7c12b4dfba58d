import numpy as np
import pytest
import torch

from jepa.evaluation.anticipation.features import AnticipationFeatures
from jepa.evaluation.anticipation.focal_loss import sigmoid_focal_loss
from jepa.evaluation.anticipation.heads import (
    EK100_SWEEP,
    TASKS,
    focal_loss_of_heads,
    predict_logits,
    train_probes,
)
from jepa.evaluation.head_training import Sweep

SIZES = {"verb": 2, "noun": 3, "action": 6}


def make_features(num_rows=96, seed=0):
    """The verb is in an observed token, the noun in a predicted one."""
    rng = np.random.default_rng(seed)
    verbs, nouns = rng.integers(0, 2, num_rows), rng.integers(0, 3, num_rows)
    observed = np.zeros((num_rows, 3, 8), np.float32)
    predicted = np.zeros((num_rows, 2, 8), np.float32)
    observed[:, 1] = 0.1 * rng.normal(size=(num_rows, 8))
    predicted[:, 0] = 0.1 * rng.normal(size=(num_rows, 8))
    observed[np.arange(num_rows), 1, verbs] += 3
    predicted[np.arange(num_rows), 0, 2 + nouns] += 3
    labels = np.stack([verbs, nouns, 3 * verbs + nouns], axis=1)
    return AnticipationFeatures(observed, predicted, labels, np.arange(num_rows))


def train(features, mode="both", *, rates=(1e-2,), decays=(1e-4,), epochs=20, **settings):
    sweep = Sweep(rates, decays, epochs=epochs, batch_size=32)
    return train_probes(features, mode, SIZES, sweep, depth=1, num_heads=2, **settings)


def hit_rates(probe, features, mode):
    logits = predict_logits(probe, features, mode, batch_size=40)
    return [
        float((logits[task].argmax(1) == features.labels[:, index]).mean())
        for index, task in enumerate(TASKS)
    ]


def test_three_queries_learn_verb_noun_and_action_from_both_kinds_of_tokens():
    (probe,), losses = train(make_features())
    assert probe.names == TASKS and probe.pooler.queries.shape == (3, 8)
    assert not probe.training
    assert losses.shape == (20, 1) and losses[-1, 0] < losses[0, 0] / 3
    assert min(hit_rates(probe, make_features(seed=1), "both")) > 0.8


def test_what_the_tokens_of_a_mode_do_not_hold_is_not_learned():
    features, fresh = make_features(), make_features(200, seed=1)
    verb, noun, _ = hit_rates(train(features, "encoder").probes[0], fresh, "encoder")
    assert verb > 0.9 and noun < 0.6
    verb, noun, _ = hit_rates(train(features, "predictor").probes[0], fresh, "predictor")
    assert verb < 0.7 and noun > 0.9


def test_probes_of_a_sweep_are_those_that_would_be_trained_alone():
    features = make_features(40)
    several = train(features, rates=(1e-2, 1e-3), decays=(1e-4, 0.5), epochs=2)
    assert len(several.probes) == 4
    for index, (rate, decay) in enumerate([(1e-2, 1e-4), (1e-2, 0.5), (1e-3, 1e-4), (1e-3, 0.5)]):
        alone = train(features, rates=(rate,), decays=(decay,), epochs=2)
        np.testing.assert_allclose(several.losses[:, index], alone.losses[:, 0], rtol=1e-5)
        for ours, theirs in zip(
            several.probes[index].parameters(), alone.probes[0].parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def test_the_loss_is_the_sum_of_the_focal_losses_of_the_heads():
    generator = torch.Generator().manual_seed(0)
    logits = {task: torch.randn(4, size, generator=generator) for task, size in SIZES.items()}
    labels = torch.from_numpy(make_features(4).labels)
    expected = sum(sigmoid_focal_loss(logits[t], labels[:, i]) for i, t in enumerate(TASKS))
    torch.testing.assert_close(focal_loss_of_heads(logits, labels), expected)


def test_the_default_sweep_is_that_of_ek100():
    settings = EK100_SWEEP.settings
    assert len(settings) == 20 and EK100_SWEEP.epochs == 20
    assert {setting["weight_decay"] for setting in settings} == {1e-4, 1e-3, 1e-2, 1e-1}
    assert max(setting["learning_rate"] for setting in settings) == 5e-3


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="8 must be divisible by num_heads=3"):
        train_probes(make_features(4), "both", SIZES, Sweep((1e-3,), (0.0,)), num_heads=3)
