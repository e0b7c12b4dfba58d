import os
import shutil
import subprocess
import sys

import pytest

from data_pipelines.__main__ import main
from data_pipelines.shard_index import ShardIndex


def run(*words):
    return main([str(word) for word in words])


def test_split_says_what_is_in_each_part(trajectory_folder, tmp_path, capsys):
    assert (
        run("split", trajectory_folder, "--out", tmp_path, "--parts", "train=0.5", "val=0.5") == 0
    )
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"train: 3 samples, 1 groups, 0.002 hours, 50.0% of the samples (50.0% asked), in "
        f"{tmp_path}/train",
        f"val: 3 samples, 1 groups, 0.002 hours, 50.0% of the samples (50.0% asked), in "
        f"{tmp_path}/val",
    ]
    assert (
        run("split", trajectory_folder, "--out", tmp_path, "--parts", "train=0.5", "val=0.5") == 0
    )
    assert capsys.readouterr().out.count("(was there already)") == 2


def test_split_and_merge_are_inverses_but_for_the_order(shard_folder, tmp_path, capsys):
    parts = ["--parts", "a=0.4", "b=0.35", "c=0.25", "--seed", "3", "--stratify", "label"]
    assert run("split", shard_folder, "--out", tmp_path / "p", *parts) == 0
    places = [tmp_path / "p" / name for name in "abc"]
    assert run("merge", *places, "--out", tmp_path / "m", "--samples-per-shard", 5) == 0
    assert "merged 12 samples (0.009 hours) into" in capsys.readouterr().out
    keys = {sample.key for sample in ShardIndex.load(shard_folder).samples}
    assert {sample.key for sample in ShardIndex.load(tmp_path / "m").samples} == keys
    assert run("check", tmp_path / "m") == 0


def test_convert_goes_both_ways(shard_folder, tmp_path, capsys):
    assert run("convert", shard_folder, tmp_path / "videos", "--to", "folder") == 0
    said = capsys.readouterr().out
    assert said.startswith("unpacked 12 of 12 samples into") and "videos.csv OUT" in said
    assert run("convert", shard_folder, tmp_path / "s", "--short-side", 16, "--workers", 2) == 0
    assert "converted 12 samples" in capsys.readouterr().out
    assert ShardIndex.load(tmp_path / "s").samples[0].metadata.height == 16


def test_a_damaged_sample_is_a_line_and_no_error(shard_folder, tmp_path, capsys):
    shutil.copytree(shard_folder, tmp_path / "in")
    bad = ShardIndex.load(tmp_path / "in").samples[0]
    with open(bad.shard, "r+b") as file:
        file.seek(bad.members["mp4"].offset)
        file.write(b"damage")
    assert run("merge", tmp_path / "in", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("skipped 1 of 1: even/video00: shard-000000.tar: 'even/video00.mp4'")
    assert said[1].startswith("merged 11 samples")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["split", "SET", "--out", "OUT", "--parts", "a=0.5", "b"], "such as train=0.9, got 'b'"),
        (["split", "SET", "--out", "OUT", "--parts", "a=0.5", "a=0.5"], "'a' is named twice"),
        (["split", "SET", "--out", "OUT", "--parts", "a=0.5", "b=0.4"], "add up to 1, got 0.9"),
        (["split", "SET", "--out", "SET", "--parts", "a=0.5", "b=0.5"], "is, or lies in, the set"),
        (["merge", "SET", "nowhere", "--out", "OUT"], "nowhere"),
        (["merge", "SET", "SET", "--out", "OUT"], "is listed twice"),
        (["merge", "SET", "--out", "FILE/out"], "Not a directory"),
        (["convert", "SET", "SET"], "is, or lies in, the set"),
        (["convert", "SET", "OUT", "--to", "folder", "--fps", "4"], "leave out --fps"),
        (["convert", "SET", "OUT", "--copy", "--fps", "4"], "leave out --fps"),
        (["convert", "SET", "OUT", "--workers", "0"], "num_workers=0 must be at least 1"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(shard_folder, tmp_path, capsys, words, said):
    (tmp_path / "file").write_text("")
    places = {"SET": str(shard_folder), "OUT": str(tmp_path / "out"), "FILE": f"{tmp_path}/file"}
    before = sorted(os.listdir(shard_folder))
    words = [places.get(word, word.replace("FILE", places["FILE"])) for word in words]
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not list(tmp_path.glob("out/*")) and sorted(os.listdir(shard_folder)) == before


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_is_one_line_and_the_merge_goes_on_later(shard_folder, tmp_path):
    program = (
        "import resource, sys; from data_pipelines.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["merge", str(shard_folder), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out/index.json").exists()
    assert run(*words) == 0
    assert ShardIndex.load(tmp_path / "out").num_samples == 12


def test_an_unknown_decoder_is_answered_with_the_names_there_are(shard_folder, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("check", shard_folder, "--decoder", "quicktime")
    said = capsys.readouterr().err
    assert "no decoder named 'quicktime'; choose from decord, pyav" in said
    assert run("check", shard_folder, "--decoder", "pyav") == 0
