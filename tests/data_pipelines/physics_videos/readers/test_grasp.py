"""GRASP: folders of possible and impossible videos of the same names."""

from data_pipelines.physics_videos.readers.grasp import is_layout, read


def test_videos_of_one_name_are_a_pair_and_others_are_refused(tmp_path):
    for place in ("P_Gravity/0", "IP_Gravity/0", "P_Gravity/1", "P_Inertia2/0", "IP_Inertia2/0"):
        path = tmp_path / f"{place}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert is_layout(tmp_path)
    found = read(tmp_path)
    assert sorted((video.pair, video.is_possible) for video in found.videos) == [
        ("Gravity-0", False),
        ("Gravity-0", True),
        ("Inertia2-0", False),
        ("Inertia2-0", True),
    ]
    assert {video.concept for video in found.videos} == {"Gravity", "Inertia2"}
    assert [refused.path for refused in found.refused] == [str(tmp_path / "P_Gravity" / "1.mp4")]


def test_a_folder_without_impossible_partner_is_no_such_layout(tmp_path):
    (tmp_path / "P_Gravity").mkdir()
    assert not is_layout(tmp_path)
