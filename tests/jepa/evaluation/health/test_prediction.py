import pytest
import torch

from jepa.evaluation.health.prediction import feature_lag, prediction_scores


def test_an_exact_prediction_gains_all():
    target = torch.randn(5, 7, 16)
    scores = prediction_scores(target, target)
    assert scores.cosine.item() == pytest.approx(1.0)
    assert scores.gain_over_mean.item() == pytest.approx(1.0)
    assert abs(scores.cosine_shuffled.item()) < 0.2


def test_a_predictor_that_says_the_mean_of_the_other_clips_gains_nothing():
    target = torch.randn(5, 7, 16) + 3.0
    mean = (target.sum(0) - target) / 4
    scores = prediction_scores(mean, target)
    assert scores.gain_over_mean.item() == pytest.approx(0.0, abs=1e-5)
    assert scores.cosine.item() == pytest.approx(scores.cosine_mean.item())
    assert scores.cosine > 0.9  # so a high cosine alone proves nothing


def test_a_predictor_that_knows_the_place_only_gains_nothing_though_places_differ():
    places = 5 * torch.randn(1, 7, 16)
    target = places + torch.randn(200, 7, 16)
    scores = prediction_scores(places.expand(200, -1, -1), target)
    assert scores.gain_over_mean.item() == pytest.approx(0.0, abs=0.02)


def test_the_scores_worked_out_by_hand():
    target = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    predicted = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    scores = prediction_scores(predicted, target)
    assert scores.cosine.item() == pytest.approx(0.5)
    assert scores.cosine_shuffled.item() == pytest.approx(0.5)
    assert scores.cosine_mean.item() == pytest.approx(0.0)  # the other clip's target
    assert scores.gain_over_mean.item() == pytest.approx(1 - 0.5 / 1.0)  # squares .5 and 1


def test_a_single_clip_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"at least 2 clips, got \(1, 3, 4\) and \(1, 3, 4\)"):
        prediction_scores(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match=r"got \(2, 3, 4\) and \(2, 2, 4\)"):
        prediction_scores(torch.zeros(2, 3, 4), torch.zeros(2, 2, 4))


def test_the_lag_of_features_is_one_minus_their_cosine():
    tokens = torch.randn(3, 4, 5)
    assert feature_lag(tokens, 2 * tokens).item() == pytest.approx(0.0, abs=1e-6)
    assert feature_lag(tokens, -tokens).item() == pytest.approx(2.0)
