"""The verb, from making videos to the table."""

import json

import pytest

from jepa import command_line
from jepa.evaluation.surprise.__main__ import main
from jepa.evaluation.surprise.models import save_predicting_model


@pytest.fixture
def model(tiny_model, tmp_path):
    return save_predicting_model(tiny_model, tmp_path / "model")


def test_videos_are_made_and_measured(tmp_path, model, capsys):
    videos, out, curves = tmp_path / "videos", tmp_path / "scores.json", tmp_path / "curves"
    shape = ["--frames", "16", "--size", "32", "--seed", "3"]
    concepts = ["--concepts", "permanence", "gravity"]
    assert main(["make", str(videos), "--pairs", "2", *concepts, *shape]) == 0
    assert "2 pairs of each concept" in capsys.readouterr().out
    options = ["--contexts", "2", "4", "--stride", "4", "--resamples", "20"]
    options += ["--out", str(out), "--figure", str(curves)]
    assert main(["--model", str(model), "--data", str(videos), *options]) == 0
    table = capsys.readouterr().out
    for word in ("permanence", "gravity", "all", "model", "untrained", "pixels: frame difference"):
        assert word in table
    content = json.loads(out.read_text())
    assert content["verdicts"]["model"]["all"]["num_pairs"] == 4
    assert content["options"]["contexts"] == [2, 4]
    pair = content["pairs"][0]
    assert len(pair["possible"]["model"]["curve"]) == 16
    assert pair["possible"]["model"]["curve"][0] is None  # never predicted
    assert sorted(path.name for path in curves.iterdir()) == ["gravity.png", "permanence.png"]


def test_possible_videos_are_made_without_an_index(tmp_path, capsys):
    options = ["--possible-only", "--videos", "2", "--frames", "16", "--size", "32"]
    assert main(["make", str(tmp_path / "videos"), *options]) == 0
    assert "jepa data pack" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert names == ["000000.mp4", "000001.mp4"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "MODEL", "--data", "gone"], "no folder gone"),
        (["--model", "gone", "--data", "TMP"], "no file or folder 'gone'"),
        (["--model", "MODEL", "--data", "TMP"], "nor the layout of IntPhys"),
        (["--model", "MODEL", "--data", "TMP", "--contexts", "8"], "contexts_frames must be in"),
        (["--model", "MODEL", "--data", "TMP", "--mask-token", "4"], "mask_token_index must be 0"),
        (["make", "TMP"], "is not empty"),
        (["make", "TMP/new", "--pairs", "0"], "num_pairs must be even, as a set has two; got 0"),
        (["make", "TMP/new", "--concepts", "magic"], "invalid choice: 'magic'"),
        ([], "the following arguments are required: --model"),
    ],
)
def test_bad_input_is_one_line(tmp_path, model, capsys, words, message):
    (tmp_path / "something").write_text("")
    words = [w.replace("MODEL", str(model)).replace("TMP", str(tmp_path)) for w in words]
    assert command_line.run(main, words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
