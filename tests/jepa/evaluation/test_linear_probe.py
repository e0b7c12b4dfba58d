import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.head_training import Sweep
from jepa.evaluation.linear_probe import LinearHead, linear_head_probe, linear_probe, pooled
from jepa.evaluation.probe_result import Splits, main_score


def feature_set(features, labels, *, views=1, clips=1, classes=None):
    """Features (samples, views, clips, layers, tokens, dim)."""
    features = np.asarray(features, np.float32).reshape(-1, views, clips, *np.shape(features)[-3:])
    samples = len(features)
    ids = np.stack(np.meshgrid(*map(np.arange, (samples, views, clips)), indexing="ij"), -1)
    groups, view_ids, clip_ids = ids.reshape(-1, 3).T
    keys = [str(index) for index in range(samples)]
    rows = features.reshape(-1, *features.shape[3:])
    return FeatureSet(rows, keys, groups, clip_ids, view_ids, np.asarray(labels), classes)


def numbers(seed, *, samples=80, noise=0.5, dim=6):
    """Tokens whose mean is a linear mix of two targets."""
    generator = np.random.default_rng(seed)
    mix = np.random.default_rng(7).normal(size=(2, dim))
    targets = generator.normal(size=(samples, 2))
    tokens = (targets @ mix)[:, None] + noise * generator.normal(size=(samples, 4, dim))
    return feature_set(tokens[:, None], targets)


def blobs(seed, *, samples=90, views=1, spread=1.0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, samples)
    tokens = spread * generator.normal(size=(samples, views, 1, 1, 2, 5))
    tokens += np.eye(5)[labels][:, None, None, None, None]
    return feature_set(tokens, labels, views=views, classes=["a", "b", "c"])


def three(make, **options):
    return Splits(*(make(seed, **options) for seed in range(3)))


def test_numbers_are_fitted_by_scikit_learns_ridge_with_the_penalty_that_validation_prefers():
    splits = three(numbers)
    result = linear_probe(splits)
    scaler = StandardScaler().fit(pooled(splits.train, "mean")[:, 0])
    x, x_validation, x_test = (scaler.transform(pooled(data, "mean")[:, 0]) for data in splits)
    models = [Ridge(alpha=row["penalty"]).fit(x, splits.train.labels) for row in result.tried]
    scores = [model.score(x_validation, splits.validation.labels) for model in models]
    assert [row["validation_score"] for row in result.tried] == pytest.approx(scores, abs=1e-5)
    best = int(np.argmax(scores))
    assert np.allclose(result.predicted, models[best].predict(x_test), atol=1e-5)
    assert result.chosen == {"penalty": result.tried[best]["penalty"]}


def test_classes_are_fitted_by_scikit_learns_logistic_regression():
    splits = three(blobs)
    result = linear_probe(splits, penalties=[1.0])
    scaler = StandardScaler().fit(pooled(splits.train, "mean")[:, 0])
    x, _, x_test = (scaler.transform(pooled(data, "mean")[:, 0]) for data in splits)
    model = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit(x, splits.train.labels)
    assert np.allclose(result.predicted, model.predict_proba(x_test), atol=1e-2)
    assert main_score(result.predicted, splits.test) == pytest.approx(
        model.score(x_test, splits.test.labels), abs=0.03
    )


def test_the_mean_token_cannot_tell_where_and_all_tokens_can():
    generator = np.random.default_rng(0)

    def one_hot_places(_):
        place = generator.integers(0, 8, 200)
        return feature_set(np.eye(8)[place][:, None, :, None], place[:, None].astype(float))

    splits = three(one_hot_places)
    assert main_score(linear_probe(splits, pool="mean").predicted, splits.test) < 0.05
    assert main_score(linear_probe(splits, pool="all").predicted, splits.test) > 0.99


def test_a_class_without_training_samples_keeps_its_place():
    def two_of_three(seed):
        data = blobs(seed, spread=0.1)
        labels = np.where(data.labels == 1, 2, 0)
        features = np.eye(5)[labels][:, None, None].repeat(2, axis=2)
        return feature_set(features, labels, classes=["a", "b", "c"])

    result = linear_probe(three(two_of_three))
    assert result.predicted.shape == (90, 3)
    assert (result.predicted[:, 1] == 0).all()
    assert result.validation_score == 1.0


def test_answers_are_averaged_over_views_and_each_view_is_a_training_row():
    splits = three(blobs, views=3)
    result = linear_probe(splits, penalties=[1.0])
    rows = [
        feature_set(
            np.asarray(data.features)[:, None, None],
            np.repeat(data.labels, 3),
            classes=data.classes,
        )
        for data in splits
    ]
    of_rows = linear_probe(Splits(*rows), penalties=[1.0]).predicted
    assert np.allclose(result.predicted, of_rows.reshape(-1, 3, 3).mean(1), atol=1e-6)


@pytest.mark.parametrize(("pool", "width"), [("mean", 2 * 3), ("all", 2 * 2 * 4 * 3)])
def test_pooling_by_a_slow_loop(pool, width, monkeypatch):
    monkeypatch.setattr("jepa.evaluation.linear_probe.ROWS_AT_ONCE", 7)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(5, 3, 2, 2, 4, 3)).astype(np.float32)
    data = feature_set(features, np.zeros((5, 1)), views=3, clips=2)
    order = generator.permutation(30)
    mixed = FeatureSet(
        data.features[order],
        data.keys,
        data.groups[order],
        data.clips[order],
        data.views[order],
        data.labels,
    )
    found = pooled(mixed, pool)
    assert found.shape == (5, 3, width)
    for sample in range(5):
        for view in range(3):
            clips = features[sample, view]  # (clips, layers, tokens, dim)
            expected = clips.mean((0, 2)).ravel() if pool == "mean" else clips.ravel()
            assert np.allclose(found[sample, view], expected, atol=1e-6)


def test_the_trained_layer_comes_to_what_logistic_regression_finds():
    splits = three(blobs, samples=240)
    sweep = Sweep([3e-2], [0.0], epochs=60, batch_size=60)
    trained = main_score(linear_head_probe(splits, sweep=sweep).predicted, splits.test)
    fitted = main_score(linear_probe(splits).predicted, splits.test)
    assert fitted > 0.55  # chance is 1/3
    assert trained == pytest.approx(fitted, abs=0.04)


def test_the_trained_layer_reads_off_numbers():
    splits = three(numbers, noise=0.0)
    sweep = Sweep([1e-1], [0.0], epochs=100, batch_size=40)
    assert main_score(linear_head_probe(splits, sweep=sweep).predicted, splits.test) > 0.98


def test_a_last_batch_of_one_sample_is_no_batch_norm_of_one():
    head = LinearHead(4, 2).train()
    head(torch.randn(8, 3, 4))
    mean = head.get_buffer("norm.running_mean")
    before = mean.clone()
    assert head(torch.randn(1, 3, 4)).isfinite().all()
    assert torch.equal(mean, before)
    head(torch.randn(8, 3, 4))
    assert not torch.equal(mean, before)


def test_another_word_for_pooling_is_refused():
    with pytest.raises(ValueError, match="pool must be 'mean' or 'all', got 'max'"):
        pooled(numbers(0), "max")  # pyright: ignore[reportArgumentType]
