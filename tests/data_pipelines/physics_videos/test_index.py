"""The index, and what it refuses."""

import json
from pathlib import Path

import pytest

from data_pipelines.physics_videos.index import (
    FORMAT,
    PhysicsVideo,
    Refused,
    is_layout,
    read,
    with_partners,
)


def row(path, pair, is_possible):
    return {
        "path": path,
        "pair": pair,
        "set_name": pair,
        "concept": "gravity",
        "variant": "",
        "is_possible": is_possible,
        "violation_frame": None if is_possible else 7,
        "first_frame": 0,
    }


def write(folder, rows, **changes):
    content = {"format": FORMAT, "videos": rows} | changes
    (folder / "index.json").write_text(json.dumps(content))
    for one in rows:
        (folder / one["path"]).write_bytes(b"video")


def test_rows_are_read_with_their_places(tmp_path):
    assert not is_layout(tmp_path)
    write(tmp_path, [row("a.mp4", "p", True), row("b.mp4", "p", False)])
    assert is_layout(tmp_path)
    found = read(tmp_path)
    assert [video.path for video in found.videos] == [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    assert [video.violation_frame for video in found.videos] == [None, 7]
    assert found.refused == ()


def test_a_missing_file_is_named_and_so_is_the_partner_that_it_leaves(tmp_path):
    write(tmp_path, [row("a.mp4", "p", True), row("b.mp4", "p", False)])
    (tmp_path / "a.mp4").unlink()
    found = read(tmp_path)
    assert found.videos == ()
    assert found.refused[0] == Refused(str(tmp_path / "a.mp4"), "no such file")
    assert found.refused[1].path == str(tmp_path / "b.mp4")
    assert "there is impossible" in found.refused[1].reason


def test_two_possible_videos_are_no_pair():
    videos = [PhysicsVideo(Path(f"{i}"), "p", "s", "c", "", True) for i in range(2)]
    found = with_partners(videos, [])
    assert found.videos == ()
    assert "there is possible and possible" in found.refused[0].reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no index of physics videos"),
        ("[]", "is no index of physics videos"),
        ('{"videos": []}', "is no index of physics videos"),
        ('{"format": "x", "videos": []}', "has format 'x'; 'physics videos 1' is read"),
        ('{"format": "physics videos 1", "videos": [{"x": 1}]}', "is no index of physics videos"),
    ],
)
def test_another_index_is_refused(tmp_path, text, message):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_an_index_that_is_nested_too_deeply_is_refused(tmp_path):
    """Seen to fail without RecursionError in `read`: it was an internal error."""
    (tmp_path / "index.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"index\.json is no index of physics videos"):
        read(tmp_path)
