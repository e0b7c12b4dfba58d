"""Layouts are told apart, frames are read as they are."""

import numpy as np
import pytest
import torch
from PIL import Image

from data_pipelines.physics_videos.index import PhysicsVideo
from data_pipelines.physics_videos.reading import open_physics_folder, read_video
from data_pipelines.physics_videos.writing import write_matched_videos
from data_pipelines.video_writing import write_mp4


def write_grey(path, values):
    frames = np.stack([np.full((16, 24, 3), value, np.uint8) for value in values])
    write_mp4(path, frames, frames_per_second=10, crf=0)


def test_our_own_folder_is_read_with_every_frame(tmp_path):
    write_matched_videos(tmp_path, num_pairs=2, num_frames=16, size=32, concepts=("continuity",))
    found = open_physics_folder(tmp_path)
    assert (found.layout, found.frame_step, len(found.content.videos)) == ("physics videos", 1, 4)


def test_grasp_is_known_by_its_folders_and_damaged_videos_are_named(tmp_path):
    for place in ("P_Gravity/0", "IP_Gravity/0", "P_Gravity/1", "IP_Gravity/1"):
        write_grey(tmp_path / f"{place}.mp4", range(0, 100, 10))
    damaged = tmp_path / "IP_Gravity" / "1.mp4"
    damaged.write_bytes(damaged.read_bytes()[:300])
    found = open_physics_folder(tmp_path)
    assert (found.layout, found.frame_step) == ("GRASP", 10)
    assert [video.pair for video in found.content.videos] == ["Gravity-0", "Gravity-0"]
    assert {path for path, _ in found.content.refused} == {
        str(damaged),
        str(tmp_path / "P_Gravity" / "1.mp4"),
    }


def test_frames_are_taken_from_the_first_one_in_steps(tmp_path):
    write_grey(tmp_path / "v.mp4", range(0, 100, 10))
    video = PhysicsVideo(tmp_path / "v.mp4", "p", "s", "c", "", True, first_frame=2)
    pixels = read_video(video, image_size=8, frame_step=3)
    assert pixels.shape == (3, 3, 8, 8)
    assert pixels.dtype == torch.uint8
    np.testing.assert_allclose(pixels[0, :, 4, 4].tolist(), [20, 50, 80], atol=2)
    with pytest.raises(ValueError, match="frame_step must be at least 1, got 0"):
        read_video(video, image_size=8, frame_step=0)


def test_pictures_in_a_folder_are_frames(tmp_path):
    for number, value in enumerate((10, 20, 30, 40)):
        picture = Image.fromarray(np.full((12, 12, 3), value, np.uint8))
        picture.save(tmp_path / f"scene_{number + 1:03d}.png")
    video = PhysicsVideo(tmp_path, "p", "s", "c", "", True)
    assert read_video(video, image_size=12, frame_step=2)[0, :, 0, 0].tolist() == [10, 30]


def test_what_is_no_such_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_physics_folder(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"nor the layout of IntPhys, GRASP, InfLevel; `jepa"):
        open_physics_folder(tmp_path)
    for place in ("P_Gravity/0", "IP_Gravity/0"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / f"{place}.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no pair can be used; 2 refused, the first: .*empty"):
        open_physics_folder(tmp_path)
