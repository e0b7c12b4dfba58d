import numpy as np
import pytest

from data_pipelines.action_segments import (
    ActionClasses,
    ActionSegment,
    parse_timestamp,
    read_segments,
    split_by_video,
)

EPIC = """\
narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,\
start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes
P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,\
3,"['door']",[3]
P01_01_1,P01,P01_01,00:00:02.629,00:01:04.37,01:00:06.17,262,370,"turn on, light",turn-on,6,light,\
114,"['light']",[114]
"""


def write(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def make_segment(video="a", verb=0, noun=0, name="x"):
    return ActionSegment(name, video, 1.0, 2.0, verb, noun)


def test_a_table_of_epic_kitchens_is_read(tmp_path):
    first, second = read_segments(write(tmp_path, EPIC))
    assert first == ActionSegment("P01_01_0", "P01_01", 0.14, 3.37, 3, 3, "open door")
    assert (second.start_seconds, second.stop_seconds) == pytest.approx((64.37, 3606.17))
    assert (second.verb_class, second.noun_class) == (6, 114)
    assert second.narration == "turn on, light"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00:01.089", 1.089), ("01:02:03.5", 3723.5), ("02:03", 123), ("7.25", 7.25)],
)
def test_timestamps_are_hours_minutes_seconds(text, seconds):
    assert parse_timestamp(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "a", "1:60", "1:2:3:4", "-1", "1.5:00", "inf", "nan"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is no time: write HH:MM:SS"):
        parse_timestamp(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("video_id,", "video,", "has no column video_id; a table of EPIC-KITCHENS-100 has"),
        (",3,door", ",,door", "line 2 has no verb_class"),
        ("00:00:00.14", "soon", "line 2: 'soon' is no time"),
        ("00:00:00.14", "00:00:03.37", "line 2: the action stops at 3.37 s and starts at 3.37 s"),
        (",114,", ",-1,", "line 3: noun_class must be a whole number, got '-1'"),
        ("P01_01_1,", "P01_01_0,", "has narration_id P01_01_0 twice"),
    ],
)
def test_a_faulty_table_is_refused_with_its_line(tmp_path, old, new, message):
    assert old in EPIC
    with pytest.raises(ValueError, match=message):
        read_segments(write(tmp_path, EPIC.replace(old, new, 1)))


def test_an_empty_and_a_missing_table_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no actions"):
        read_segments(write(tmp_path, EPIC.splitlines()[0] + "\n"))
    with pytest.raises(FileNotFoundError, match="no table of annotations at"):
        read_segments(tmp_path / "none.csv")


def test_without_narration_ids_a_segment_is_named_by_video_and_time(tmp_path):
    text = "video_id,start_timestamp,stop_timestamp,verb_class,noun_class\nv,1.5,2,0,0\n"
    assert read_segments(write(tmp_path, text))[0].name == "v at 1.5 s"


def test_an_action_is_a_verb_with_a_noun():
    segments = [make_segment(verb=v, noun=n) for v, n in ((5, 2), (0, 9), (5, 9), (5, 2))]
    classes = ActionClasses.of(segments)
    assert classes.verbs == (0, 5) and classes.nouns == (2, 9)
    assert classes.actions == ((0, 9), (5, 2), (5, 9))
    assert classes.num_classes == {"verb": 2, "noun": 2, "action": 3}
    expected = [[1, 0, 1], [0, 1, 0], [1, 1, 2], [1, 0, 1]]
    np.testing.assert_array_equal(classes.labels(segments), expected)


def test_no_video_is_on_both_sides_of_a_split():
    segments = [make_segment(f"video{index % 10}", name=str(index)) for index in range(40)]
    stays, held = split_by_video(segments, 0.3, seed=1)
    videos = [{segment.video_id for segment in side} for side in (stays, held)]
    assert len(videos[1]) == 3 and not videos[0] & videos[1]
    assert sorted(s.name for s in (*stays, *held)) == sorted(s.name for s in segments)
    assert split_by_video(segments, 0.3, seed=1)[1] == held
    assert split_by_video(segments, 0.3, seed=2)[1] != held


def test_a_split_leaves_a_video_on_each_side_or_says_that_it_cannot():
    two = [make_segment("a"), make_segment("b")]
    assert [len(side) for side in split_by_video(two, 0.01)] == [1, 1]
    assert [len(side) for side in split_by_video(two, 0.99)] == [1, 1]
    with pytest.raises(ValueError, match="actions of 1 video cannot be divided"):
        split_by_video(two[:1], 0.5)
    with pytest.raises(ValueError, match=r"must be in \(0, 1\), got 1"):
        split_by_video(two, 1.0)
