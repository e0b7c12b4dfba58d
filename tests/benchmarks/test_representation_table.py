import importlib.util
import os
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "representation_table.py"


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("representation_table", FILE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["representation_table"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def test_no_question_is_scored_on_what_was_trained_on(benchmark):
    questions = benchmark.questions(Path("here"), depth=2, epochs=3)
    assert [question.name for question in questions] == [
        "state, linear", "state, attentive", "motion, linear", "motion, knn", "motion, attentive",
    ]  # fmt: skip
    for question in questions:
        assert question.data.test not in (None, question.data.train, "here/shards")
    assert questions[-1].probe.sweep.epochs == 3
    assert len(questions[-1].probe.sweep.settings) == 6


def test_the_encoder_that_is_trained_sees_the_clips_that_it_is_asked_about(benchmark):
    model = benchmark.RECIPE["model"]["init_args"]
    encoder, data = model["encoder"]["init_args"], benchmark.RECIPE["data"]["init_args"]
    for name in ("clip_length_frames", "image_size"):
        assert encoder[name] == data[name] == benchmark.CLIP[name]
    assert model["predictor"]["init_args"]["encoder_dim"] == encoder["dim"]


def test_what_an_earlier_run_found_is_kept(benchmark, tmp_path):
    assert benchmark.known(tmp_path / "table.json") == {}
    (tmp_path / "table.json").write_text('{"motion, knn": []}')
    assert benchmark.known(tmp_path / "table.json") == {"motion, knn": []}


@pytest.mark.slow
@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_the_table_has_every_row(benchmark, monkeypatch, capsys, tmp_path):
    words = ["--folder", str(tmp_path), "--steps", "2", "--videos", "32", "--episodes", "8",
             "--epochs", "1", "--depth", "1", "--baselines", "untrained", "pixels"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["representation_table.py", *words])
    benchmark.main()
    printed = capsys.readouterr().out
    for name in (
        "state, linear",
        "motion, attentive",
        "untrained",
        "pixels",
        "one frame",
        "chance",
    ):
        assert name in printed
