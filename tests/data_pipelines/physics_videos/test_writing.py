"""What is written is what was made: equal beginnings in the files, and balanced frames."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from data_pipelines.physics_videos.index import read
from data_pipelines.physics_videos.reading import read_video
from data_pipelines.physics_videos.writing import (
    concept_names,
    matched_sets,
    write_matched_videos,
    write_possible_videos,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("physics")
    write_matched_videos(path, num_pairs=2, num_frames=24, size=32, seed=5)
    return path


def frames_of(video):
    return read_video(video, image_size=32).permute(1, 2, 3, 0).numpy()  # (time, h, w, 3)


def test_there_are_two_pairs_of_each_concept(folder):
    videos = read(folder).videos
    assert concept_names() == ("collision", "continuity", "gravity", "permanence", "solidity")
    counts = Counter((video.concept, video.is_possible) for video in videos)
    assert counts == {(name, kind): 2 for name in concept_names() for kind in (True, False)}


def test_the_files_of_a_pair_are_equal_up_to_the_violation_and_differ_there(folder):
    pairs = defaultdict(dict)
    for video in read(folder).videos:
        pairs[video.pair][video.is_possible] = video
    for pair in pairs.values():
        possible, impossible = frames_of(pair[True]), frames_of(pair[False])
        moment = pair[False].violation_frame
        np.testing.assert_array_equal(possible[:moment], impossible[:moment])
        assert (possible[moment] != impossible[moment]).any()


def test_the_files_of_a_balanced_set_hold_the_same_frames(folder):
    sets = defaultdict(lambda: (Counter(), Counter()))
    for video in read(folder).videos:
        if video.variant != "hovers":
            sets[video.set_name][video.is_possible].update(f.tobytes() for f in frames_of(video))
    assert sets
    for impossible, possible in sets.values():
        assert impossible == possible


def test_the_same_seed_writes_the_same_files(folder, tmp_path):
    write_matched_videos(
        tmp_path, num_pairs=2, num_frames=24, size=32, seed=5, concepts=("permanence",)
    )
    for path in sorted(tmp_path.glob("permanence/*.mp4")):
        assert path.read_bytes() == (folder / "permanence" / path.name).read_bytes()
    assert len(list(tmp_path.glob("permanence/*.mp4"))) == 4


def test_possible_videos_have_no_index_and_are_not_those_of_the_pairs(folder, tmp_path):
    paths = write_possible_videos(tmp_path, num_videos=4, num_frames=24, size=32, seed=5)
    assert [path.name for path in paths] == [f"{i:06d}.mp4" for i in range(4)]
    assert sorted(tmp_path.iterdir()) == paths
    others = {path.read_bytes() for path in folder.glob("*/*.mp4")}
    assert not others & {path.read_bytes() for path in paths}


def test_wrong_arguments_are_refused(tmp_path):
    for number in (0, 3):
        with pytest.raises(ValueError, match=f"num_pairs must be even, .* got {number}"):
            write_matched_videos(tmp_path, num_pairs=number)
    with pytest.raises(ValueError, match="no concept named 'magic'; choose from collision"):
        write_matched_videos(tmp_path, num_pairs=2, concepts=("magic",))
    with pytest.raises(ValueError, match="num_frames must be at least 16, got 8"):
        write_possible_videos(tmp_path, num_videos=1, num_frames=8)
    with pytest.raises(ValueError, match="num_videos must be at least 1, got 0"):
        write_possible_videos(tmp_path, num_videos=0)
    with pytest.raises(ValueError, match="num_frames must be at least 16, got 4"):
        next(matched_sets("gravity", num_sets=1, num_frames=4, seed=0))
