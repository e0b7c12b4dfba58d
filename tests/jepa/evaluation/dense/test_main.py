"""`jepa dense`, started as a user starts it."""

import json

import numpy as np
import pytest
import torch

from jepa.checkpoints.native import save_encoder
from jepa.evaluation.dense.__main__ import DenseSettings, dense_probe, main
from jepa.models import VideoEncoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    words = "--clips 5 --frames 4 --size 32 --points 6"
    assert main(["make", str(folder / "clips"), *words.split()]) == 0
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=4, dim=24, depth=1, num_heads=2
    )
    save_encoder(encoder, folder / "encoder")
    return folder


@pytest.mark.parametrize(
    ("task", "scores", "baseline"),
    [
        ("segmentation", {"mean_iou", "pixel_accuracy"}, "place alone"),
        ("depth", {"rmse", "abs_rel", "delta1"}, "place alone"),
        ("propagation", {"J&F", "J", "F"}, "no motion"),
        ("tracking", {"delta_average", "occlusion_accuracy", "average_jaccard"}, "no motion"),
    ],
)
def test_every_task_has_its_baselines_beside_it(folders, tmp_path, capsys, task, scores, baseline):
    words = ["--encoder", str(folders / "encoder"), "--data", str(folders / "clips")]
    code = main([*words, "--task", task, "--out", str(tmp_path / "scores.json")])
    told = json.loads((tmp_path / "scores.json").read_text())
    assert code == 0
    assert list(told["scores"]) == ["encoder", "untrained", "pixels", baseline]
    for row in told["scores"].values():
        assert row.keys() == scores
        for value, low, high in row.values():
            assert low <= value <= high
    table = capsys.readouterr().out
    assert baseline in table and "95 % intervals over clips" in table


def test_a_seed_gives_the_same_scores_again(folders):
    words = (str(folders / "encoder"), folders / "clips", DenseSettings("segmentation", seed=3))
    assert dense_probe(*words) == dense_probe(*words)


def test_heads_are_scored_on_clips_that_they_were_not_fitted_on(folders):
    places = (str(folders / "encoder"), folders / "clips")
    told = dense_probe(*places, DenseSettings("depth", test_share=0.4))
    assert (told["num_fitted"], told["num_clips"]) == (3, 2)
    other = dense_probe(*places, DenseSettings("depth", test_data=folders / "clips"))
    assert (other["num_fitted"], other["num_clips"]) == (5, 5)


def test_an_untrained_encoder_has_no_untrained_twin(folders):
    source = f"untrained:{folders / 'encoder'}"
    told = dense_probe(source, folders / "clips", DenseSettings("tracking", max_clips=2))
    assert list(told["scores"]) == ["encoder", "pixels", "no motion"]
    assert told["num_clips"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sorting"}, "task must be one of segmentation, depth, propagation, tracking"),
        ({"test_share": 1.0}, "test_share must be between 0 and 1, got 1.0"),
        ({"max_clips": 1}, "has 1 clips to use: too few"),
        ({"max_clips": 0}, "max_clips must be at least 1, got 0"),
        ({"layout": "davos"}, "layout must be one of .*clips.*, got 'davos'"),
    ],
)
def test_bad_options_are_one_line(folders, options, message):
    words = {"task": "depth"} | options
    with pytest.raises(ValueError, match=message):
        dense_probe(str(folders / "encoder"), folders / "clips", DenseSettings(**words))


def test_data_that_are_not_there_are_named(folders):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        dense_probe(str(folders / "encoder"), folders / "nowhere", DenseSettings("depth"))
    (folders / "empty").mkdir()
    with pytest.raises(ValueError, match="no data set with dense labels in a layout that is known"):
        dense_probe(str(folders / "encoder"), folders / "empty", DenseSettings("depth"))


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "jepa dense --encoder" in capsys.readouterr().out


def test_clips_are_made_anew_from_a_seed(tmp_path):
    words = ["--clips", "1", "--frames", "2", "--size", "16", "--points", "2"]
    for name in ("a", "b"):
        main(["make", str(tmp_path / name), *words, "--seed", "5"])
    first, again = (np.load(tmp_path / name / "shapes-5-00000.npz") for name in ("a", "b"))
    np.testing.assert_array_equal(first["frames"], again["frames"])
