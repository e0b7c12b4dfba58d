"""InfLevel-lab: tables of pairs of mp4 files."""

import numpy as np
import pytest

from data_pipelines.physics_videos.readers.inflevel import is_layout, read
from data_pipelines.video_writing import write_mp4

HEADER = "vid1_path,vid1_label,vid1_end_priming_2,vid2_path,vid2_label,vid2_end_priming_2"


def write_table(folder, rows, header=HEADER):
    (folder / "gravity.csv").write_text("\n".join([header, *rows]) + "\n")


def write_video(path, num_frames):
    write_mp4(path, np.zeros((num_frames, 16, 16, 3), np.uint8), frames_per_second=10)


def test_what_follows_the_priming_is_measured_and_of_both_videos_as_much(tmp_path):
    write_video(tmp_path / "gravity" / "a.mp4", 20)
    write_video(tmp_path / "gravity" / "b.mp4", 24)
    write_table(tmp_path, ["gravity/a.mp4,possible,7,gravity/b.mp4,impossible,9"])
    assert is_layout(tmp_path)
    found = read(tmp_path)
    # 20 - 8 = 12 and 24 - 10 = 14 frames are left: the last 12 of both are taken.
    assert [video.first_frame for video in found.videos] == [8, 12]
    assert [video.is_possible for video in found.videos] == [True, False]
    assert found.refused == ()


def test_rows_that_cannot_be_used_are_named(tmp_path):
    write_video(tmp_path / "a.mp4", 10)
    (tmp_path / "damaged.mp4").write_bytes(b"no video")
    rows = [
        "a.mp4,possible,2,gone.mp4,impossible,2",
        "a.mp4,possible,2,damaged.mp4,impossible,2",
        "a.mp4,possible,x,a.mp4,impossible,2",
        "a.mp4,possible,9,a.mp4,impossible,2",
        "a.mp4,possible,2,a.mp4,possible,2",
    ]
    write_table(tmp_path, rows)
    found = read(tmp_path)
    assert found.videos == ()
    reasons = [f"{path}: {reason}" for path, reason in found.refused]
    assert "gravity.csv, row 1" in reasons[0]
    assert "gone.mp4: no such file" in reasons[0]
    assert "damaged.mp4: not a video" in reasons[1]
    assert "gravity.csv, row 3: invalid literal" in reasons[2]
    assert "row 4: pair gravity-0003 has no frames after the priming" in reasons[3]
    assert "there is possible and possible" in reasons[4]


def test_a_table_without_a_column_is_refused(tmp_path):
    write_table(tmp_path, ["a"], header="vid1_path")
    with pytest.raises(ValueError, match=r"gravity\.csv has no column 'vid1_end_priming_2'"):
        read(tmp_path)
