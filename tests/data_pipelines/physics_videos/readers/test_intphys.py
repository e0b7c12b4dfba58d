"""IntPhys: scenes of four movies of pictures, of which two are possible."""

import json

import numpy as np
import pytest
from PIL import Image

from data_pipelines.physics_videos.readers.intphys import frame_files, is_layout, read


def write_scene(folder, verdicts=(True, False, False, True), *, num_frames=6, meet=3):
    """Movies 1 and 3 begin red, 2 and 4 blue; 1 and 2 end green, 3 and 4 black."""
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0), "black": (0, 0, 0)}
    for number, is_possible in enumerate(verdicts):
        begins, ends = ("red", "blue")[number % 2], ("green", "black")[number // 2]
        movie = folder / str(number + 1)
        (movie / "scene").mkdir(parents=True)
        for frame in range(num_frames):
            colour = colours[begins if frame < meet else ends]
            picture = np.full((8, 8, 3), colour, np.uint8)
            Image.fromarray(picture).save(movie / "scene" / f"scene_{frame + 1:03d}.png")
        content = {"header": {"is_possible": is_possible}}
        (movie / "status.json").write_text(json.dumps(content))


def test_pairs_are_those_that_begin_alike(tmp_path):
    write_scene(tmp_path / "O1" / "01")
    assert is_layout(tmp_path)
    found = read(tmp_path)
    assert found.refused == ()
    pairs = {}
    for video in found.videos:
        pairs.setdefault(video.pair, []).append((video.path.parent.name, video.is_possible))
    assert pairs == {
        "O1-01-a": [("1", True), ("3", False)],
        "O1-01-b": [("4", True), ("2", False)],
    }
    assert {video.set_name for video in found.videos} == {"O1-01"}
    assert {video.concept for video in found.videos} == {"permanence"}
    assert [video.violation_frame for video in found.videos] == [None, 3, None, 3]


def test_every_scene_that_cannot_be_used_is_named(tmp_path):
    write_scene(tmp_path / "O1" / "01")
    write_scene(tmp_path / "O2" / "01", (True, True, True, False))
    write_scene(tmp_path / "O2" / "02")
    (tmp_path / "O2" / "02" / "3" / "status.json").write_text("{}")
    write_scene(tmp_path / "O3" / "01")
    (tmp_path / "O3" / "01" / "2" / "scene" / "scene_002.png").write_bytes(b"no picture")
    write_scene(tmp_path / "O3" / "02")
    (tmp_path / "O3" / "02" / "1" / "status.json").unlink()
    found = read(tmp_path)
    assert len(found.videos) == 4
    reasons = {path.removeprefix(f"{tmp_path}/"): reason for path, reason in found.refused}
    assert "must have 2 possible movies of 4, got 3" in reasons["O2/01"]
    assert "does not say header.is_possible" in reasons["O2/02"]
    assert "not an image" in reasons["O3/01"]
    assert "no file" in reasons["O3/02"]


def test_pictures_come_in_order_and_an_empty_movie_is_refused(tmp_path):
    for name in ("scene_010.png", "scene_002.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in frame_files(tmp_path)] == ["scene_002.png", "scene_010.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.png or \.jpg"):
        frame_files(tmp_path / "empty")
