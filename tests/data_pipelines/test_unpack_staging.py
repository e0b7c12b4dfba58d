import pytest

from data_pipelines.manifest import SkippedVideo
from data_pipelines.pack_plan import PackPlan, PlannedVideo
from data_pipelines.tar_headers import ShardError
from data_pipelines.unpack_staging import RECORD_NAME, FolderInProgress
from data_pipelines.video_sources import VideoSource

SKIPPED = (SkippedVideo("c", "it is broken"),)


def plan(*keys):
    videos = tuple(PlannedVideo(VideoSource(key), key, 3, None) for key in keys)
    return PackPlan({"verb": "unpack"}, (videos,))


def files_in(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def unpack(out, *, overwrite=False):
    """Makes a folder of two files and a list, if it is not there; returns what was skipped."""
    with FolderInProgress(out, plan("a", "b", "c"), overwrite=overwrite) as new:
        if new.finished is not None:
            return new.finished
        new.keep("a.bin", b"one")
        new.keep("deep/b.bin", b"two")
        assert new.written is None and not (out / "a.bin").exists()
        new.finish({"list.csv": b"a,b"}, SKIPPED)


def test_files_wait_unseen_and_appear_together_with_the_list(tmp_path):
    assert unpack(tmp_path / "out") is None
    found = files_in(tmp_path / "out")
    assert found.pop(RECORD_NAME)
    assert found == {"a.bin": b"one", "deep/b.bin": b"two", "list.csv": b"a,b"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_finished_folder_says_what_was_skipped_and_is_left_alone(tmp_path):
    unpack(tmp_path / "out")
    (tmp_path / ".out.unpacking").mkdir()  # of a run that was killed while it tidied up
    before = files_in(tmp_path / "out")
    assert unpack(tmp_path / "out") == SKIPPED
    assert files_in(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_another_plan_is_in_the_way_unless_it_may_be_replaced(tmp_path):
    out = tmp_path / "out"
    unpack(out)
    with pytest.raises(ShardError, match="is not empty; choose another folder or --overwrite"):
        FolderInProgress(out, plan("a"), overwrite=False)
    with FolderInProgress(out, plan("a"), overwrite=True) as new:
        new.keep("a.bin", b"new")
        new.finish({"list.csv": b"a"}, ())
    found = files_in(out)
    assert (found["a.bin"], found["list.csv"], found["deep/b.bin"]) == (b"new", b"a", b"two")
    with FolderInProgress(out, plan("a"), overwrite=False) as again:
        assert again.finished == ()


def test_what_was_begun_waits_for_the_same_plan(tmp_path):
    with FolderInProgress(tmp_path / "out", plan("a"), overwrite=False) as new:
        new.keep("a.bin", b"one")
    with FolderInProgress(tmp_path / "out", plan("a"), overwrite=False) as again:
        assert files_in(again.files) == {"a.bin": b"one"}
    with pytest.raises(ShardError, match="other samples: b is new; start anew with --overwrite"):
        FolderInProgress(tmp_path / "out", plan("a", "b"), overwrite=False)
    with FolderInProgress(tmp_path / "out", plan("a", "b"), overwrite=True) as other:
        assert files_in(other.files) == {}
        other.abandon()
    assert list(tmp_path.iterdir()) == []


def test_the_current_folder_can_be_filled(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with FolderInProgress(tmp_path / "here" / ".." / "here", plan("a"), overwrite=False) as new:
        assert new.folder == tmp_path / ".here.unpacking"
