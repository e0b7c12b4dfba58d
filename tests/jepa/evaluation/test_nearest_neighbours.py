import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from jepa.evaluation import nearest_neighbours
from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.nearest_neighbours import nearest, nearest_neighbour_probe
from jepa.evaluation.probe_result import Splits

TEMPERATURE = 0.2


def data(seed, *, samples=120, is_class=True):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, samples)
    features = generator.normal(size=(samples, 1, 4, 5)) + 1.5 * np.eye(5)[labels][:, None, None]
    numbers = features.mean((1, 2))[:, :2]
    index = np.arange(samples)
    return FeatureSet(
        features.astype(np.float32),
        [str(sample) for sample in index],
        index,
        0 * index,
        0 * index,
        labels if is_class else numbers,
        ["a", "b", "c"] if is_class else None,
    )


def weights(distance):
    return np.exp((1 - distance) / TEMPERATURE)


@pytest.mark.parametrize("is_class", [True, False])
@pytest.mark.parametrize("count", [1, 7, 120])
def test_the_answers_are_those_of_scikit_learn(is_class, count):
    splits = Splits(*(data(seed, is_class=is_class) for seed in range(3)))
    result = nearest_neighbour_probe(splits, neighbours=[count], temperature=TEMPERATURE)
    kind = KNeighborsClassifier if is_class else KNeighborsRegressor
    model = kind(count, metric="cosine", weights=weights)
    model.fit(splits.train.features.mean((1, 2)), splits.train.labels)
    predict = model.predict_proba if is_class else model.predict
    expected = predict(splits.test.features.mean((1, 2)))
    assert np.allclose(result.predicted, expected, atol=1e-5)


def test_validation_chooses_how_many():
    splits = Splits(*(data(seed) for seed in range(3)))
    result = nearest_neighbour_probe(splits, neighbours=[1, 20, 100, 5000])
    assert [row["neighbours"] for row in result.tried] == [1, 20, 100]  # 120 samples to train on
    best = max(result.tried, key=lambda row: row["validation_score"])
    assert result.chosen == {"neighbours": best["neighbours"]}
    alone = nearest_neighbour_probe(splits, neighbours=[best["neighbours"]])
    assert np.allclose(result.predicted, alone.predicted, atol=1e-6)


@pytest.mark.parametrize("limit", [1, 300, 2**24])
def test_chunks_do_not_change_what_is_nearest(monkeypatch, limit):
    monkeypatch.setattr(nearest_neighbours, "SIMILARITIES_AT_ONCE", limit)
    generator = torch.Generator().manual_seed(0)
    bank, queries = (
        torch.nn.functional.normalize(torch.randn(rows, 8, generator=generator), dim=1)
        for rows in (100, 33)
    )
    found = nearest(queries, bank, 5)
    similarity = queries @ bank.T
    order = similarity.argsort(dim=1, descending=True)[:, :5]
    assert torch.equal(found.index, order)
    assert torch.allclose(found.similarity, similarity.gather(1, order), atol=1e-6)


def test_no_more_similarities_than_allowed_are_held_at_once(monkeypatch):
    monkeypatch.setattr(nearest_neighbours, "SIMILARITIES_AT_ONCE", 250)
    sizes = []

    class Watched(torch.Tensor):
        def __matmul__(self, other):
            sizes.append(len(self) * other.shape[1])
            return super().__matmul__(other)

    nearest(torch.rand(50, 4).as_subclass(Watched), torch.rand(100, 4), 3)
    assert max(sizes) <= 250 and sum(sizes) == 50 * 100


def test_a_small_temperature_leaves_the_nearest_alone_to_decide():
    splits = Splits(*(data(seed) for seed in range(3)))
    cold = nearest_neighbour_probe(splits, neighbours=[100], temperature=1e-5).predicted
    one = nearest_neighbour_probe(splits, neighbours=[1]).predicted
    assert (cold.argmax(1) == one.argmax(1)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"neighbours": [500]}, r"from 1 to the 120 training samples, got \[500\]"),
        ({"neighbours": [0, 5]}, r"from 1 to the 120 training samples, got \[0, 5\]"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        nearest_neighbour_probe(Splits(*(data(seed) for seed in range(3))), **options)
