import csv

import numpy as np
import pytest

from data_pipelines.action_segments import read_segments
from data_pipelines.anticipation_timing import AnticipationTiming, plan_clips
from data_pipelines.decoders import decoder_class
from data_pipelines.gate_actions import (
    GATE_COLOURS,
    NOUNS,
    VERBS,
    anticipate_clips,
    gate_places,
)
from data_pipelines.observed_clips import find_named_videos
from data_pipelines.synthetic_actions import write_synthetic_actions


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    return write_synthetic_actions(
        folder, num_videos=(16, 1, 1), actions_per_video=2, size=32, frames_per_second=8.0,
        shuffle_gates=True,
    )  # fmt: skip


def test_tables_have_the_layout_of_epic_kitchens(gates):
    with (gates / "train.csv").open() as file:
        row = next(csv.DictReader(file))
    assert row["video_id"] == "train_0000" and row["narration_id"] == "train_0000_0"
    assert row["start_timestamp"] == "00:00:04.00" and row["stop_timestamp"] == "00:00:05.00"
    assert (row["start_frame"], row["stop_frame"]) == ("32", "40")
    assert row["verb"] == VERBS[int(row["verb_class"])]
    assert row["noun"] == NOUNS[int(row["noun_class"])]
    assert row["all_noun_classes"] == f"[{row['noun_class']}]"


def test_all_actions_are_equally_frequent(gates):
    pairs = [(s.verb_class, s.noun_class) for s in read_segments(gates / "train.csv")]
    assert len(pairs) == len(set(pairs)) == 32


def test_the_oracle_anticipates_every_action_of_the_table(gates):
    segments = read_segments(gates / "train.csv")
    names = {segment.video_id for segment in segments}
    durations = find_named_videos(gates / "videos", names).durations_seconds
    plan = plan_clips(segments, durations, AnticipationTiming(clip_length_frames=16))
    assert not plan.skipped and len(plan.clips) == 32
    expected = [(segment.verb_class, segment.noun_class) for segment in segments]
    assert anticipate_clips(gates / "tracks.npz", plan.clips) == expected


def test_the_oracle_refuses_other_videos_and_clips_that_end_too_early(gates):
    segments = read_segments(gates / "train.csv")[:1]
    long_before = AnticipationTiming(clip_length_frames=2, anticipation_seconds=(1.95, 1.95))
    plan = plan_clips(segments, {"train_0000": 9.0}, long_before)
    with pytest.raises(ValueError, match="train_0000_0: the clip ends before the ball moves"):
        anticipate_clips(gates / "tracks.npz", plan.clips)
    np.savez(gates / "others.npz", frames_per_second=8.0)
    with pytest.raises(ValueError, match="knows no video train_0000"):
        anticipate_clips(gates / "others.npz", plan.clips)


def test_the_video_shows_the_ball_where_the_tracks_say_and_gates_in_their_places(gates):
    path = gates / "videos/train/train_0000.mp4"
    with decoder_class("decord")(path.read_bytes(), "v") as video:
        assert video.metadata().num_frames == 72  # 1 s and two actions of 4 s
        pixels = video.frames_at([26]).pixels[0].astype(float)
    with np.load(gates / "tracks.npz") as tracks:
        ball, places = tracks["train_0000"][26], tracks["train_0000/gates"]
    row, column = (np.array(ball)[::-1] * 32).astype(int)
    assert pixels[row, column].min() > 180  # white
    hits = 0
    for noun, colour in enumerate(GATE_COLOURS.values()):
        row, column = (gate_places()[places[noun]][::-1] * 32).astype(int)
        hits += np.abs(pixels[row, column] - colour).max() < 60
    assert hits >= 7  # the ball may hide one


def test_the_same_seed_writes_the_same_set_and_another_seed_another(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic_actions(
            tmp_path / name, num_videos=(1, 1, 1), actions_per_video=1, size=16, seed=seed,
            frames_per_second=4.0,
        )  # fmt: skip
    first, same, other = (
        (tmp_path / name / "videos/test/test_0000.mp4").read_bytes() for name in "abc"
    )
    assert first == same != other


def test_a_set_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"num_videos=\(1, 0, 1\) and actions_per_video=5 must"):
        write_synthetic_actions(tmp_path, num_videos=(1, 0, 1))
