import pytest

from data_pipelines.manifest import scan_folder


def test_a_scan_finds_every_video_with_its_metadata(video_folder):
    manifest = scan_folder(video_folder)
    assert [row.path for row in manifest.rows[:2]] == ["even/video00.mp4", "even/video02.mp4"]
    assert len(manifest.rows) == 12 and manifest.skipped == ()
    last = manifest.rows[-1]
    assert (last.path, last.label) == ("odd/video11.mp4", "odd")
    assert last.metadata.num_frames == 31 and (last.metadata.height, last.metadata.width) == (
        48,
        64,
    )
    assert last.metadata.duration_seconds == pytest.approx(3.1, abs=1e-4)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("verify_frames", ["ends", "all"])
def test_bad_videos_are_named_with_a_reason(tmp_path, video_folder, decoder, verify_frames):
    good = (video_folder / "odd/video01.mp4").read_bytes()
    (tmp_path / "cut.mov").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.webm").write_bytes(b"")
    (tmp_path / "good.MP4").write_bytes(good)
    (tmp_path / "text.mp4").write_text("words")
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / ".hidden.mp4").write_text("not looked at")
    (tmp_path / "folder.avi").mkdir()
    manifest = scan_folder(tmp_path, decoder=decoder, verify_frames=verify_frames)
    assert [row.path for row in manifest.rows] == ["good.MP4"]
    assert manifest.rows[0].label is None
    reasons = {video.path: video.reason for video in manifest.skipped}
    assert set(reasons) == {"cut.mov", "empty.webm", "text.mp4"}
    assert reasons["empty.webm"] == "the file is empty"
    assert reasons["text.mp4"].startswith("not a video: begins with 77 6f 72 64 73")


def test_a_missing_or_empty_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        scan_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no video in .*; looked for mp4, mov"):
        scan_folder(tmp_path)
