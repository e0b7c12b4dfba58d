import numpy as np
import pytest

from data_pipelines.synthetic_actions import write_synthetic_actions
from jepa.evaluation.anticipation.data import ClipOptions, read_data, read_parts


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    return write_synthetic_actions(
        folder, num_videos=(5, 1, 1), actions_per_video=2, size=32, frames_per_second=8.0
    )


def tables(folder, *parts):
    return {part: folder / f"{part}.csv" if part in parts else None
            for part in ("train", "validation", "test")}  # fmt: skip


def read(folder, *parts, frames=8, **options):
    return read_data(
        folder / "videos", tables(folder, *parts), ClipOptions(**options),
        clip_length_frames=frames, image_size=16,
    )  # fmt: skip


def test_training_clips_are_drawn_several_times_and_others_are_fixed(gates):
    data = read(gates, "train", "validation", "test", draws_per_action=3)
    times = {part: [c.anticipation_seconds for c in data.clips[part].clips] for part in data.clips}
    assert len(times["train"]) == 30 and len(set(times["train"])) == 30
    assert min(times["train"]) >= 0.25 and max(times["train"]) <= 1.75
    assert times["validation"] == times["test"] == [1.0, 1.0]
    assert data.labels["train"].shape == (10, 3)
    assert not any(data.skipped.values())


def test_classes_are_those_of_all_parts(gates):
    data = read(gates, "train", "validation", "test")
    every = [segment for segments in data.segments.values() for segment in segments]
    assert data.num_classes["action"] == len({(s.verb_class, s.noun_class) for s in every})
    for part, segments in data.segments.items():
        named = [data.classes.actions[index] for index in data.labels[part][:, 2]]
        assert named == [(s.verb_class, s.noun_class) for s in segments]


def test_missing_tables_are_held_out_by_video(gates):
    parts = read_parts(tables(gates, "train"), ClipOptions(held_out_fraction=0.2))
    videos = {part: {s.video_id for s in segments} for part, segments in parts.items()}
    assert {part: len(names) for part, names in videos.items()} == {
        "train": 3, "validation": 1, "test": 1,
    }  # fmt: skip
    assert len(set.union(*videos.values())) == 5


def test_a_given_test_table_is_left_alone(gates):
    parts = read_parts(tables(gates, "train", "test"), ClipOptions())
    assert {s.video_id for s in parts["test"]} == {"test_0000"}
    assert len({s.video_id for s in parts["train"]}) == 4


def test_parts_that_share_a_video_are_refused(gates):
    twice = tables(gates, "train", "validation") | {"test": gates / "train.csv"}
    with pytest.raises(ValueError, match="train and test share 5 videos, as train_0000"):
        read_parts(twice, ClipOptions())


def test_what_does_not_fit_is_counted_by_part(gates):
    # 32 frames at 8 fps and 1.75 s: the first action of a video, at 4 s, has no such past
    data = read(gates, "train", "validation", "test", frames=32)
    assert {part: len(found) for part, found in data.skipped.items()} == {
        "train": 5, "validation": 1, "test": 1,
    }  # fmt: skip
    assert data.all_skipped("test")[0].reason == "the clip would begin 1.00 s before the video"
    padded = read(gates, "train", "validation", "test", frames=32, short_start="repeat_first")
    assert not any(padded.skipped.values())


def test_a_part_without_clips_is_named(gates):
    with pytest.raises(ValueError, match="train: none of 10 actions can be used"):
        read(gates, "train", "validation", "test", frames=200)


def test_the_official_anchor_sees_into_the_action(gates):
    ours, theirs = (
        read(gates, "train", "validation", "test", anchor=anchor)
        for anchor in ("start", "official")
    )
    shifts = [b.moments_seconds[0] - a.moments_seconds[0] for a, b in zip(
        ours.clips["test"].clips, theirs.clips["test"].clips, strict=True)]  # fmt: skip
    np.testing.assert_allclose(shifts, 1.0)  # actions last 1 s


def test_the_greatest_time_is_of_training_or_of_scoring():
    assert ClipOptions().greatest_seconds == 1.75
    assert ClipOptions(anticipation_seconds=3.0).greatest_seconds == 3.0
