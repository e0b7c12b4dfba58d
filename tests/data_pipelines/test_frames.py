import pickle

from data_pipelines.frames import DecodeError, one_line


def test_a_decode_error_names_the_video_in_one_line():
    error = DecodeError("kitchen/04.mp4", "stream 0\nstack trace\n  at ffmpeg")
    assert str(error) == "kitchen/04.mp4: stream 0"


def test_a_decode_error_survives_the_way_out_of_a_worker():
    error = pickle.loads(pickle.dumps(DecodeError("a.mp4", "damaged")))
    assert (error.name, error.reason) == ("a.mp4", "damaged")


def test_one_line_hides_control_characters_and_cuts_long_text():
    assert one_line("\n a\x1b[2Jb \n c") == "a?[2Jb"
    assert len(one_line("x" * 999)) == 200
    assert one_line("") == "no reason given"
