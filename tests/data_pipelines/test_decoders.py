"""The contract every decoder must keep; decoders are found by walking their folder."""

from pathlib import Path

import numpy as np
import pytest

import data_pipelines.decoders
from data_pipelines.decoders.base import decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.video_writing import encode_mp4

FOLDER = Path(data_pipelines.decoders.__file__).parent
NAMES = sorted(p.name.removesuffix("_decoder.py") for p in FOLDER.glob("*_decoder.py"))
LAST_TWO_AND_CHANNELS = (1, 2, 3)


@pytest.fixture(params=NAMES)
def decoder(request):
    return decoder_class(request.param)


@pytest.fixture(scope="module", params=["ultrafast", "medium"], ids=["simple", "b_frames"])
def video(request, index_frames):
    frames = index_frames(50, height=48, width=64)
    return encode_mp4(frames, frames_per_second=12.5, keyframe_interval=12, preset=request.param)


def test_both_decoders_are_found():
    assert {"decord", "pyav"} <= set(NAMES)


def test_a_decoder_returns_the_asked_frames_in_the_asked_order(decoder, video, index_of):
    asked = [49, 0, 7, 7, 23, 24, 12]
    with decoder(video, "video") as opened:
        frames = opened.frames_at(asked)
    assert frames.pixels.dtype == np.uint8 and frames.pixels.shape == (7, 48, 64, 3)
    assert index_of(frames.pixels, LAST_TWO_AND_CHANNELS).tolist() == asked
    np.testing.assert_allclose(frames.timestamps_seconds, np.array(asked) / 12.5, atol=1e-5)


def test_a_decoder_may_be_asked_twice_and_backwards(decoder, video, index_of):
    with decoder(video, "video") as opened:
        later = opened.frames_at([40, 41]).pixels
        earlier = opened.frames_at([3]).pixels
        everything = opened.frames_at(range(50)).pixels
    assert index_of(later, LAST_TWO_AND_CHANNELS).tolist() == [40, 41]
    assert index_of(earlier, LAST_TWO_AND_CHANNELS).tolist() == [3]
    assert index_of(everything, LAST_TWO_AND_CHANNELS).tolist() == list(range(50))


def test_a_decoder_tells_frames_rate_duration_and_size(decoder, video):
    with decoder(video, "video") as opened:
        metadata = opened.metadata()
        timestamps_seconds = opened.timestamps_seconds()
    assert (metadata.num_frames, metadata.height, metadata.width) == (50, 48, 64)
    assert metadata.frames_per_second == pytest.approx(12.5, rel=1e-3)
    assert metadata.duration_seconds == pytest.approx(4.0, rel=1e-3)
    assert timestamps_seconds[0] == 0 and len(timestamps_seconds) == 50


def test_a_decoder_keeps_red_red(decoder):
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[..., 0] = 200
    with decoder(encode_mp4(frames, frames_per_second=5), "red") as opened:
        red, green, blue = opened.frames_at([1]).pixels.mean((0, 1, 2))
    assert red > 190 and green < 15 and blue < 15


def test_an_index_outside_the_video_is_refused(decoder, video):
    with decoder(video, "video") as opened:
        with pytest.raises(IndexError, match="video has frames 0 to 49"):
            opened.frames_at([0, 50])
        with pytest.raises(IndexError, match="from -1"):
            opened.frames_at([-1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"these are words, not a video\n" * 99, "not a video: begins with"),
        (b"#EXTM3U\n/etc/passwd\n" * 9, "not a video"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(5000), "cannot open it"),
        (b"\x1a\x45\xdf\xa3" + bytes(5000), "cannot open it"),
    ],
    ids=["empty", "text", "playlist", "no_boxes", "no_matroska"],
)
def test_bytes_that_are_no_video_are_refused_by_name(decoder, data, reason):
    with pytest.raises(DecodeError, match=rf"^bad\.mp4: .*{reason}"):
        decoder(data, "bad.mp4")


def test_a_video_cut_short_is_refused_by_name(decoder, video):
    with pytest.raises(DecodeError, match=r"^cut\.mp4: .*cannot open it"):
        decoder(video[: len(video) // 2], "cut.mp4")


def test_text_named_mp4_leaves_nothing_on_stderr(decoder, capfd):
    with pytest.raises(DecodeError):
        decoder(b"secret words " * 1000, "text.mp4")
    assert capfd.readouterr().err == ""


def test_frames_too_narrow_for_decord_are_refused_with_the_way_out(index_frames):
    data = encode_mp4(index_frames(4, height=32, width=48), frames_per_second=10)
    with decoder_class("decord")(data, "narrow.mp4") as video:
        with pytest.raises(DecodeError, match=r"narrow\.mp4: .*use the pyav decoder"):
            video.frames_at([0])
    with decoder_class("pyav")(data, "narrow.mp4") as video:
        assert video.frames_at([0]).pixels.shape == (1, 32, 48, 3)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(ValueError, match="no decoder named 'vlc'; choose"):
        decoder_class("vlc")
