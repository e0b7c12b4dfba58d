import importlib.util
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from jepa.evaluation.feature_store import FeatureStore

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "attentive_probe.py"


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("attentive_probe_benchmark", FILE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_encoding_again_gives_the_rows_of_the_cache(benchmark, tmp_path):
    encoder, parts = benchmark.prepare(tmp_path, Namespace(size=32, dim=32, depth=1, videos=8))
    cached = FeatureStore.build(tmp_path / "cache", encoder, parts[0], dtype="float32").as_set()
    again = benchmark.Encoding(encoder, parts[0])
    rows = np.array([[3], [0], [7]])
    assert again.shape == cached.features.shape and len(again) == 8
    assert np.allclose(again[rows], cached.features[rows], atol=1e-5)


def test_a_line_tells_the_ratio_and_both_accuracies(benchmark, tmp_path, capsys):
    encoder, parts = benchmark.prepare(tmp_path, Namespace(size=32, dim=32, depth=1, videos=8))
    stores = [FeatureStore.build(tmp_path / "cache", encoder, part) for part in parts]
    cached, test = (store.as_set() for store in stores)
    again = benchmark.replace(cached, features=benchmark.Encoding(encoder, parts[0]))
    benchmark.row(1, 1, 1, cached, again, test, benchmark.Seconds(1.0, 1.0))
    cells = capsys.readouterr().out.split()
    assert len(cells) == len(benchmark.TITLES)
    assert cells[4].endswith("x") and cells[7] == cells[8]
