"""The contract every decoder must keep; decoders are found by walking their folder."""

import struct
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


@pytest.fixture(scope="module")
def one_keyframe():
    """300 frames, and the bytes of a file with one keyframe in 250 and B-frames: x264's defaults.

    Noise slides to the right, so that decoding the first frames takes longer than reading all.
    """
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 1), dtype=np.uint8)
    frames = np.stack([np.roll(noise, 2 * index, axis=1) for index in range(300)]).repeat(3, -1)
    data = encode_mp4(frames, frames_per_second=25, keyframe_interval=250, preset="medium")
    return frames, data


# The matrix of a track header for a turn to the right, by degrees: ISO/IEC 14496-12, 8.3.2.
TURNS_TO_THE_RIGHT = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def turned(data, degrees):
    """Writes into an MP4 that it is to be shown turned; the pixels stay as they are."""
    a, b, c, d = (value << 16 for value in TURNS_TO_THE_RIGHT[degrees])  # 16.16 fixed point
    place = data.index(b"tkhd") + 4 + 40  # after the name, 40 bytes of version 0 to the matrix
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return data[:place] + matrix + data[place + len(matrix) :]


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


def test_a_video_with_few_keyframes_and_b_frames_is_decoded_anywhere(decoder, one_keyframe):
    frames, data = one_keyframe
    for index in (0, 150, 299) * 5:  # each time anew, as a data loader does
        with decoder(data, "long") as opened:
            pixels = opened.frames_at([index]).pixels[0]
        assert np.abs(pixels.astype(int) - frames[index]).mean() < 3


def test_all_decoders_give_the_same_frames_of_a_video_with_few_keyframes(one_keyframe):
    found = []
    for name in NAMES:
        with decoder_class(name)(one_keyframe[1], "long") as opened:
            found.append(opened.frames_at([0, 150, 299]).pixels.astype(int))
    assert all(np.abs(pixels - found[0]).max() <= 3 for pixels in found)


@pytest.mark.parametrize("degrees", TURNS_TO_THE_RIGHT)
def test_a_decoder_gives_upright_the_frames_that_a_telephone_stored_sideways(decoder, degrees):
    stored = np.zeros((3, 96, 128, 3), np.uint8)  # four colours, so that no turn looks like another
    stored[:, :48, :64, 0] = stored[:, :48, 64:, 1] = stored[:, 48:, :64, 2] = 200
    stored[:, 48:, 64:] = 200
    upright = np.rot90(stored, -degrees // 90, axes=(1, 2))
    with decoder(turned(encode_mp4(stored, frames_per_second=10), degrees), "phone") as opened:
        pixels, metadata = opened.frames_at([0, 2]).pixels, opened.metadata()
    assert pixels.shape == upright[:2].shape
    assert (metadata.height, metadata.width) == pixels.shape[1:3]
    assert np.abs(pixels.astype(int) - upright[:2]).mean() < 4  # in another turn it is above 60


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
