import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.__main__ import main


def test_synthetic_videos_are_packed_described_and_checked(tmp_path, capsys):
    videos, shards = str(tmp_path / "videos"), str(tmp_path / "shards")
    assert main(["synthesize", videos, "--videos", "4", "--frames", "6", "--size", "32"]) == 0
    assert main(["pack", videos, shards]) == 0
    assert "packed 4 of 4 videos" in capsys.readouterr().out
    assert main(["info", shards]) == 0
    said = capsys.readouterr().out
    assert "samples    4" in said and "labels     4: down, left, right, up" in said
    assert main(["check", shards, "--full"]) == 0
    assert "checked 4 samples in 1 shards: no problem" in capsys.readouterr().out


def test_synthetic_trajectories_tell_their_columns(tmp_path, capsys):
    assert main(["synthesize", str(tmp_path), "--trajectories", "2", "--frames", "5"]) == 0
    assert main(["info", str(tmp_path)]) == 0
    assert "actions    velocity_x [frame widths per step]" in capsys.readouterr().out


def test_one_bad_video_is_skipped_and_named(video_folder, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.mp4").write_bytes((video_folder / "odd/video01.mp4").read_bytes())
    (tmp_path / "in/bad.mp4").write_text("words")
    assert main(["pack", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert "skipped 1 of 2: bad.mp4: not a video" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "words"])
def test_nothing_to_pack_is_an_error_in_one_line(tmp_path, capsys, content):
    (tmp_path / "in").mkdir()
    if content:
        (tmp_path / "in/bad.mp4").write_text(content)
    assert main(["pack", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no ") and said.count("\n") == 1


def test_shards_are_replaced_only_on_demand(video_folder, tmp_path, capsys):
    arguments = ["pack", str(video_folder), str(tmp_path)]
    other = [*arguments, "--min-frames", "4"]
    assert [main(arguments), main(other), main([*other, "--overwrite"])] == [0, 2, 0]
    assert "already holds shards" in capsys.readouterr().err


def test_a_check_that_finds_something_exits_with_1(shard_folder, tmp_path, capsys):
    shard = tmp_path / "x.tar"
    data = bytearray((shard_folder / "shard-000000.tar").read_bytes())
    data[2048:3072] = b"#" * 1024
    shard.write_bytes(data)
    assert main(["check", str(shard)]) in (1, 2)
    said = capsys.readouterr()
    assert "x.tar" in said.out + said.err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["info", str(tmp_path / "nowhere"), "--debug"])


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = (
        "import sys; from data_pipelines.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'av', 'decord', 'lightning'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pack" in done.stdout


def interrupted(command, *, when):
    """Runs a verb, presses Ctrl-C when a condition holds, and returns its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not when():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the children, too
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("program", ["data_pipelines", "jepa"])
def test_ctrl_c_ends_a_pack_in_one_line_and_the_same_command_goes_on(
    video_folder, tmp_path, program, capsys
):
    words = ["pack", video_folder, tmp_path / "out", "--samples-per-shard", "2"]
    words += ["--workers", "2", "--short-side", "32"]
    command = ["jepa", "data", *words] if program == "jepa" else [program, *words]
    first = tmp_path / "out" / ".packing" / "shard-000000.tar.json"
    code, out, err = interrupted(command, when=first.exists)
    assert (code, out, err) == (130, "", "interrupted; run the same command again to go on\n")
    kept = first.with_suffix("").stat().st_ino
    assert not (tmp_path / "out" / "index.json").exists()
    assert main([str(word) for word in words]) == 0
    assert "packed 12 of 12 videos" in capsys.readouterr().out
    assert (tmp_path / "out" / "shard-000000.tar").stat().st_ino == kept


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_ends_a_verb_that_cannot_go_on_in_one_line(tmp_path):
    words = ["synthesize", tmp_path / "many", "--videos", "100000"]
    code, out, err = interrupted(
        ["data_pipelines", *words], when=lambda: any(tmp_path.rglob("*.mp4"))
    )
    assert (code, out, err) == (130, "", "interrupted\n")
