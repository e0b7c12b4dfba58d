import numpy as np
import pytest
from PIL import Image

from data_pipelines.__main__ import main
from data_pipelines.contact_sheet_drawing import CROP_COLOURS


def test_viz_draws_all_samples_and_tells_how_many(shard_folder, tmp_path, capsys):
    out = tmp_path / "new/sheet.png"
    assert main(["viz", str(shard_folder), "--out", str(out), "--frames", "4"]) == 0
    assert capsys.readouterr().out == f"wrote 12 of 12 samples to {out}, unusable: 0\n"
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.width == 2 * 16 + 300 + 4 * 171 + 3 * 6
        is_yellow = (np.asarray(picture) == (255, 214, 10)).all(-1)
    assert is_yellow.any(1).sum() > 12 * 60  # crops in every row


def test_equal_arguments_give_equal_pictures(shard_folder, tmp_path):
    command = ["viz", str(shard_folder), "--clips", "2", "--frames", "2", "--fps", "5"]
    command += ["--clip-length", "4", "--image-size", "64", "--decoder", "pyav"]
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        assert main([*command, "--seed", str(seed), "--out", str(tmp_path / f"{name}.png")]) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_the_crops_of_a_training_config_are_drawn(shard_folder, tmp_path):
    def boxes(*words):
        out = tmp_path / "a.png"
        command = ["viz", str(shard_folder), "--out", str(out), "--clips", "3", "--frames", "1"]
        assert main([*command, *words]) == 0
        with Image.open(out) as picture:
            pixels = np.asarray(picture.convert("RGB"))[:, 316:]  # without the words
        return [int((pixels == colour).all(-1).sum()) for colour in CROP_COLOURS[:4]]

    usual, small = boxes(), boxes("--crop-scale", "0.02", "0.03")
    assert usual[0] > 2 * small[0] > 0 and usual[1:] == small[1:] == [0, 0, 0]
    several = boxes("--crops", "3", "--crop-scale", "0.02", "0.03", "--no-horizontal-flip")
    assert all(count > 100 for count in several[:3]) and several[3] == 0


def test_clips_that_are_too_short_are_named(shard_folder, tmp_path, capsys):
    out = str(tmp_path / "a.png")
    assert main(["viz", str(shard_folder), "--out", out, "--clip-length", "21"]) == 0
    said = capsys.readouterr().out
    assert "unusable: even/video00: clip needs 21 frames but the video has 20\n" in said
    assert said.endswith("unusable: 1\n")


def test_a_sheet_that_shows_nothing_is_a_failure_and_says_why(shard_folder, tmp_path, capsys):
    words = ["--out", str(tmp_path / "a.png"), "--clip-length", "99", "--clips", "5"]
    assert main(["viz", str(shard_folder), *words]) == 1
    said = capsys.readouterr()
    assert said.out.count("unusable: ") == 5 and "wrote" not in said.out
    assert said.err.startswith("nothing to show: 5 of 5 samples cannot be used; first: key '")
    assert "needs 99 frames but the video has" in said.err and said.err.count("\n") == 1
    assert (tmp_path / "a.png").is_file()  # with the reasons


def test_trajectories_have_plots(trajectory_folder, tmp_path):
    for name in ("a", "b"):
        out = str(tmp_path / f"{name}.png")
        assert main(["viz", str(trajectory_folder), "--out", out, "--clips", "1"]) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert (np.asarray(picture) == (31, 119, 180)).all(-1).sum() > 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{shards}", "--out", "{tmp}/a.jpg"], "the name of a contact sheet ends in .png"),
        (["{tmp}/none", "--out", "{tmp}/a.png"], "none"),
        (["{shards}", "--out", "{tmp}/a.png", "--clips", "0"], "num_clips=0 must be at least 1"),
        (["{shards}", "--out", "{tmp}/a.png", "--decoder", "x"], "no decoder named 'x'"),
        (["{shards}", "--out", "{tmp}/a.png", "--crops", "7"], "num_crops=7 must be at most 6"),
        (["{shards}", "--out", "{tmp}/a.png", "--crop-scale", "0", "1"], "scale must satisfy 0 <"),
    ],
)
def test_an_error_is_one_line(shard_folder, tmp_path, capsys, words, said):
    assert main(["viz", *(w.format(shards=shard_folder, tmp=tmp_path) for w in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
