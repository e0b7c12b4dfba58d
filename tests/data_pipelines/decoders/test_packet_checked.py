"""Containers without an index: real files whose grey level tells the frame, by every decoder."""

import io
import os

import av
import numpy as np
import pytest

from data_pipelines.decoders.base import container_format, decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.packing import pack_videos
from data_pipelines.recoding import RecodeSettings
from data_pipelines.shard_reader import ShardReader
from data_pipelines.video_writing import encode_mp4

NUM_FRAMES, RATE = 50, 25

# Extension: the muxer, the codec, B-frames, and the container that its bytes name.
KINDS = {
    "3gp": ("3gp", "libx264", 2, "mp4"),
    "flv": ("flv", "libx264", 2, "flv"),
    "ts": ("mpegts", "libx264", 2, "mpegts"),
    "m2ts": ("mpegts", "mpeg2video", 2, "mpegts"),
    "mpg": ("mpeg", "mpeg1video", 2, "mpeg"),
    "vob": ("vob", "mpeg2video", 2, "mpeg"),
    "wmv": ("asf", "wmv2", 0, "asf"),
    "ogv": ("ogg", "libvpx", 0, "ogg"),
}


def video_of(kind):
    muxer, codec, num_b_frames, _ = KINDS[kind]
    file = io.BytesIO()
    options = {"mpegts_m2ts_mode": "1"} if kind == "m2ts" else {}
    with av.open(file, "w", format=muxer, options=options) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.gop_size = 12
        stream.codec_context.max_b_frames = num_b_frames
        for index in range(NUM_FRAMES):
            frame = np.full((96, 128, 3), 8 + 4 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        (folder / f"video.{kind}").write_bytes(video_of(kind))
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_frames_at_random_places_are_those_asked_for(videos, index_of, kind, decoder):
    """decord by itself gives frame 46 of the Flash file, and 12 of the stream, for 49 and 0.

    FFmpeg's times are off by a frame after a seek in the MPEG-1 file.
    """
    data = (videos / f"video.{kind}").read_bytes()
    assert container_format(data, kind) == KINDS[kind][3]
    order = np.random.default_rng(0).permutation(NUM_FRAMES)
    with decoder_class(decoder)(data, kind) as video:
        np.testing.assert_allclose(video.timestamps_seconds(), np.arange(50) / RATE, atol=2e-3)
        np.testing.assert_array_equal(index_of(video.frames_at(order).pixels, (1, 2, 3)), order)
        each = [video.frames_at([index]).pixels[0] for index in range(NUM_FRAMES)]
        np.testing.assert_array_equal(index_of(each, (1, 2, 3)), np.arange(NUM_FRAMES))
    for index in (0, 31, 49):
        with decoder_class(decoder)(data, kind) as video:
            assert index_of(video.frames_at([index]).pixels, (1, 2, 3)) == [index]


def test_all_of_them_are_packed_and_read_back(videos, tmp_path, index_of):
    index = pack_videos(videos, tmp_path / "copied").index
    assert index.num_samples == len(KINDS) and not index.skipped
    reader = ShardReader()
    for sample in index.samples:
        extension = os.path.splitext(sample.source)[1][1:]
        assert sample.metadata.num_frames == NUM_FRAMES
        with decoder_class("decord")(reader.read(sample, extension), sample.key) as video:
            assert index_of(video.frames_at([31]).pixels, (1, 2, 3)) == [31]
    again = pack_videos(videos, tmp_path / "anew", recode=RecodeSettings(short_side=48)).index
    assert [sample.metadata.num_frames for sample in again.samples] == [NUM_FRAMES] * len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_ends_in_its_header_is_refused(videos, kind):
    data = (videos / f"video.{kind}").read_bytes()
    with pytest.raises(DecodeError), decoder_class("decord")(data[:20], kind) as video:
        video.frames_at([0])


def test_words_are_no_video():
    for data in (b"G" + b"words" * 200, b"import x from 'y'", b"GIF89a"):
        with pytest.raises(DecodeError, match="not a video: begins with"):
            container_format(data, "x.ts")


def test_a_header_that_does_not_say_what_its_pixels_are_is_refused():
    data = encode_mp4(np.zeros((4, 48, 64, 3), np.uint8), frames_per_second=10)
    place = data.index(b"avcC") + 4
    damaged = data[:place] + bytes(8) + data[place + 8 :]
    with pytest.raises(DecodeError, match="x: its pixel format is unknown"):
        decoder_class("decord")(damaged, "x")
