"""Imports of real files by the real command, killed, resumed, and with what cannot be used."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data_pipelines.__main__ import main
from data_pipelines.episode_packing import (
    ImportSettings,
    SkipBudget,
    TooManySkippedError,
    import_episodes,
    make_import_plan,
)
from data_pipelines.importers.worlds import open_source
from data_pipelines.manifest import SkippedVideo
from data_pipelines.shard_index import ShardIndex
from data_pipelines.tar_headers import ShardError
from data_pipelines.video_writing import write_mp4

NUM_EPISODES, LENGTH = 12, 6
BAD = (4, 6, 7)  # two of them fill a shard of two


@pytest.fixture(scope="module")
def source(tmp_path_factory, index_frames):
    """Twelve episodes beside videos, of which three are no videos."""
    folder = tmp_path_factory.mktemp("worlds") / "set"
    folder.mkdir()
    steps = NUM_EPISODES * LENGTH
    columns = {
        "ep_len": np.full(NUM_EPISODES, LENGTH),
        "ep_offset": np.arange(NUM_EPISODES) * LENGTH,
        "action": np.linspace(-1, 1, 2 * steps, dtype=np.float32).reshape(steps, 2),
        "proprio": np.arange(steps, dtype=np.float32)[:, None],
    }
    for name, values in columns.items():
        np.savez(folder / f"{name}.npz", values)
    for episode in range(NUM_EPISODES):
        path = folder / "pixels" / f"ep_{episode}.mp4"
        write_mp4(path, index_frames(LENGTH), frames_per_second=10)
        if episode in BAD:
            path.write_bytes(b"words")
    return folder


def words_of(source, out, *more):
    return ["import", "worlds", str(source), str(out), "--samples-per-shard", "2", *more]


def files_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def uninterrupted(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert main(words_of(source, out)) == 0
    return out


def test_what_cannot_be_used_is_named_in_the_index_and_shards_have_no_gaps(uninterrupted):
    index = ShardIndex.load(uninterrupted)
    assert [video.path for video in index.skipped] == [f"episode-{n:06d}" for n in BAD]
    assert all("not a video" in video.reason for video in index.skipped)
    assert index.samples_per_shard == [2, 2, 1, 2, 2]
    assert sorted(files_of(uninterrupted)) == [
        "index.json",
        *(f"shard-{number:06d}.tar" for number in range(5)),
    ]


def test_statistics_are_those_of_the_episodes_that_are_in(uninterrupted):
    rows = np.arange(NUM_EPISODES * LENGTH).reshape(NUM_EPISODES, LENGTH)
    kept = np.delete(rows, BAD, axis=0)
    statistics = ShardIndex.load(uninterrupted).statistics
    np.testing.assert_allclose(statistics.state_mean, [kept.mean()])
    np.testing.assert_allclose(statistics.state_std, [kept.std()])


def test_any_number_of_workers_gives_the_same_bytes(source, uninterrupted, tmp_path):
    assert main(words_of(source, tmp_path / "out", "--workers", "3")) == 0
    assert files_of(tmp_path / "out") == files_of(uninterrupted)


def start_import(source, out, *more):
    program = [sys.executable, "-m", "data_pipelines", *words_of(source, out, *more)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished_shards(out):
    """Shards with a record; one of which all episodes were bad has a record only."""
    records = out.glob(".packing/shard-*.tar.json")
    return [shard for shard in (record.with_suffix("") for record in records) if shard.exists()]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_killed_import_goes_on_and_writes_no_finished_shard_again(
    source, uninterrupted, tmp_path, num_workers
):
    """It is killed by SIGKILL as soon as a shard is finished, with another one begun."""
    out = tmp_path / "out"
    process = start_import(source, out, "--workers", str(num_workers))
    while not (done := finished_shards(out)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (out / "index.json").exists()
    inodes = {path.stat().st_ino for path in done}
    (out / ".shard-000000.tar.tmp-12345").write_bytes(b"of an import of an earlier version")
    assert main(words_of(source, out)) == 0
    assert files_of(out) == files_of(uninterrupted)
    assert inodes <= {path.stat().st_ino for path in out.glob("shard-*.tar")}


def half_imported(source, out):
    """An import that stopped, past its budget, when some of its shards were finished."""
    assert main(words_of(source, out, "--max-skipped-fraction", "0.1")) == 2
    return sorted(out.glob(".packing/shard-*.tar"))


def test_past_the_budget_the_import_stops_with_the_list_and_goes_on_with_a_greater_one(
    source, uninterrupted, tmp_path, capsys
):
    out = tmp_path / "out"
    done = half_imported(source, out)
    said = capsys.readouterr().err
    assert "2 of 12 episodes cannot be used, more than max_skipped_fraction=0.1: " in said
    assert "episode-000004: not a video" in said and "episode-000006: not a video" in said
    assert "episode-000007" not in said and said.count("\n") == 1
    inodes = {path.stat().st_ino for path in done}
    assert len(inodes) == 3
    assert main(words_of(source, out, "--max-skipped-fraction", "0.3")) == 0
    assert files_of(out) == files_of(uninterrupted)
    assert inodes <= {path.stat().st_ino for path in out.glob("shard-*.tar")}


def test_what_finished_shards_left_out_counts_when_an_import_goes_on(source, tmp_path, capsys):
    half_imported(source, tmp_path)
    assert main(words_of(source, tmp_path, "--max-skipped-fraction", "0.17")) == 2
    assert "3 of 12 episodes cannot be used" in capsys.readouterr().err


def test_an_import_of_something_else_does_not_go_on(source, tmp_path, capsys):
    half_imported(source, tmp_path)
    assert main(words_of(source, tmp_path, "--fps", "5")) == 2
    said = capsys.readouterr().err
    assert "unfinished pack of other videos or settings: frames_per_second was None and is 5.0" in (
        said
    )
    assert main(words_of(source, tmp_path, "--fps", "5", "--overwrite")) == 0


def test_a_changed_source_does_not_go_on(source, tmp_path, capsys):
    own = shutil.copytree(source, tmp_path / "set")
    half_imported(own, tmp_path / "out")
    (own / "pixels/ep_9.mp4").write_bytes(b"other words")
    assert main(words_of(own, tmp_path / "out")) == 2
    assert "episode-000009 changed" in capsys.readouterr().err


def test_a_finished_import_is_left_as_it_is(source, uninterrupted, tmp_path, capsys):
    out = shutil.copytree(uninterrupted, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert main(words_of(source, out)) == 0
    assert "already imported" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_source_without_a_usable_episode_leaves_nothing_behind(source, tmp_path, capsys):
    own = shutil.copytree(source, tmp_path / "set")
    for path in (own / "pixels").iterdir():
        path.write_bytes(b"words")
    more = ("--max-skipped-fraction", "1")
    assert main(words_of(own, tmp_path / "out", *more)) == 2
    assert "no usable episode in " in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_changes_while_it_is_imported_stops_the_import(source, tmp_path):
    own = shutil.copytree(source, tmp_path / "set")
    importer = open_source(own)
    assert len(importer.listed) == NUM_EPISODES
    make_plan = make_import_plan(importer, ImportSettings())
    assert make_plan.noun == "episode"
    budget_of_all = ImportSettings(max_skipped_fraction=1.0)

    class Changing(type(importer)):
        def __reduce__(self):  # carried to the worker, when the plan is made
            (own / "pixels/ep_0.mp4").write_bytes(b"words")
            return open_source, (str(own),)

    changing = Changing(**vars(open_source(own)))
    with pytest.raises(ShardError, match="episode-000000 changed while it was imported"):
        import_episodes(changing, tmp_path / "out", budget_of_all)


def test_a_budget_stops_at_the_first_beyond_it():
    budget = SkipBudget(4, 0.5)
    budget.add(SkippedVideo("a", "x"))
    budget.add(SkippedVideo("b", "y"))
    with pytest.raises(TooManySkippedError, match=r"3 of 4 .*: a: x; b: y; c: z"):
        budget.add(SkippedVideo("c", "z"))
    with pytest.raises(ValueError, match=r"max_skipped_fraction must be in \[0, 1\], got 2"):
        ImportSettings(max_skipped_fraction=2)
