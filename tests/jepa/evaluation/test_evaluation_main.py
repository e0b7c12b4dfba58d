import json
import os

import numpy as np
import pytest

from data_pipelines.synthetic import write_moving_shapes
from jepa.checkpoints.native import save_encoder
from jepa.evaluation.__main__ import main, table
from jepa.evaluation.attentive_probe import load_probe
from jepa.evaluation.probing import Row
from jepa.evaluation.scores import Interval
from jepa.models import VideoEncoder

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos of four directions of motion, and an encoder."""
    folder = tmp_path_factory.mktemp("probe")
    write_moving_shapes(folder / "videos", num_videos=40, num_frames=6, size=32)
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=16, dim=24, depth=2, num_heads=2
    )
    save_encoder(encoder, folder / "encoder")
    return folder


def run(folder, *options):
    out = folder / "scores.json"
    words = ["--encoder", folder / "encoder", "--cache", folder / "cache", "--out", out, *options]
    assert main([str(word) for word in words]) == 0
    return json.loads(out.read_text())


def rows_of(report):
    return {row["name"]: row for row in report["rows"]}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", ["--baselines", "untrained", "pixels", "--pool", "all"]),
        ("linear-head", ["--epochs", 1, "--batch", 16]),
        ("knn", ["--clips", 2]),
        pytest.param(
            "attentive", ["--epochs", 1, "--depth", 1, "--layers", 0, -1, "--seeds", 2,
                          "--learning-rates", 1e-3, 1e-4, "--weight-decays", 0.1, "--official"],
            marks=LONG,
        ),
    ],
)  # fmt: skip
def test_each_kind_has_its_baselines_and_intervals(folder, capsys, kind, options):
    report = run(folder, "--data", folder / "videos", "--kind", kind, *options)
    rows, printed = rows_of(report), capsys.readouterr().out
    encoder = str(folder / "encoder")
    assert next(iter(rows)) == encoder and list(rows)[-1] == "chance"
    for name, row in rows.items():
        assert name in printed
        score = row["scores"]["top-1"]
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
        assert (row["gain"] is None) == (name == encoder)
    gain = rows["untrained"]["gain"]["value"]
    values = [rows[name]["scores"]["top-1"]["value"] for name in (encoder, "untrained")]
    assert gain == pytest.approx(values[0] - values[1])
    if kind == "attentive":
        assert len(rows[encoder]["tried"]) == 2
        best = max(row["validation_score"] for row in rows[encoder]["tried"])
        assert rows[encoder]["best_on_validation"] == best
        assert "as the official code reports" in printed
    if kind == "linear":
        assert "pixels" in rows


@LONG
def test_the_states_of_trajectories_are_regressed_and_a_second_run_reads_the_cache(folder, capsys):
    from data_pipelines.shards import pack_trajectories
    from data_pipelines.synthetic import MOVING_SHAPE_SPECIFICATION, moving_shape_episodes

    for name, seed in (("train", 0), ("test", 1)):
        episodes = moving_shape_episodes(num_episodes=12, num_frames=8, size=32, seed=seed)
        pack_trajectories(episodes, folder / name, specification=MOVING_SHAPE_SPECIFICATION)
    options = ["--train", folder / "train", "--test", folder / "test", "--windows", 2]
    first, said = run(folder, *options), capsys.readouterr().err
    assert list(rows_of(first)["untrained"]["scores"]) == ["R2", "R2 of x", "R2 of y"]
    again = run(folder, *options)
    assert again["rows"] == first["rows"]
    assert len(said) > len(capsys.readouterr().err)  # nothing is encoded again


def test_the_chosen_attentive_probe_is_saved(folder):
    run(folder, "--data", folder / "videos", "--kind", "attentive", "--epochs", 1, "--depth", 1,
        "--learning-rates", 1e-3, "--weight-decays", 0.1, "--baselines", "--save",
        folder / "saved")  # fmt: skip
    probe, config = load_probe(folder / "saved")
    assert config["classes"] == ["down", "left", "right", "up"]
    assert probe.probe.config["dim"] == 24


def test_a_quick_look_compares_with_the_untrained_encoder(folder, capsys):
    from data_pipelines.__main__ import main as data

    for name in ("shards", "more"):
        assert data(["pack", str(folder / "videos"), str(folder / name)]) == 0
    scores = run(folder, "--shards", folder / "shards", "--test-shards", folder / "more",
                 "--rows", 32, "--test-rows", 16)  # fmt: skip
    assert set(scores) == {"trained", "untrained"}
    assert "mean token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "name the samples by --data, which is split, or by --train and --test"),
        (["--train", "a"], "name the samples by --data, which is split, or by --train and --test"),
        (["--data", "a", "--train", "b", "--test", "c"], "name the samples by --data"),
        (["--shards", "a"], "--shards and --test-shards go together"),
        (
            ["--shards", "a", "--test-shards", "b", "--kind", "knn"],
            "are a quick look with a linear",
        ),
        (["--data", "a", "--save", "b"], "--save keeps an attentive probe; --kind is linear"),
        (["--data", "a", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--data", "a", "--encode-batch", "0"], "--encode-batch must be at least 1, got 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_one_line(folder, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        main(["--encoder", str(folder / "encoder"), *options])
    assert "\n" not in str(caught.value)


def test_a_set_that_is_on_both_sides_is_refused(folder):
    with pytest.raises(ValueError, match="both"):
        run(folder, "--train", folder / "videos", "--test", folder / "videos")


def test_the_table_names_the_number_of_the_official_code_for_what_it_is():
    score = Interval(0.5, 0.4, 0.6)
    rows = [Row("ours", {"top-1": score}, score, None, 0.75, {}),
            Row("chance", {"top-1": score}, None, Interval(0.1, 0.0, 0.2), None, {})]  # fmt: skip
    plain, official = table(rows), table(rows, is_official=True)
    assert "0.750" not in plain
    assert "best on validation*" in official and "0.750" in official
    assert official.endswith("* on the data that chose the setting, as the official code reports")
    assert "top-1 over seeds" in plain
    assert np.ptp([len(line) for line in plain.splitlines()[:1]]) == 0
