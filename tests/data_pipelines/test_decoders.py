"""The contract every decoder must keep; decoders are found by walking their folder."""

import io
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest

import data_pipelines.decoders
from data_pipelines.decoders.base import DecoderName, decoder_class, decoder_names
from data_pipelines.decoders.pyav_decoder import PyavDecoder
from data_pipelines.frames import DecodeError
from data_pipelines.video_writing import encode_mp4

FOLDER = Path(data_pipelines.decoders.__file__).parent
NAMES = decoder_names()
LAST_TWO_AND_CHANNELS = (1, 2, 3)
NUM_FRAMES = 40
IRREGULAR_MS = np.cumsum(np.random.default_rng(1).integers(11, 120, NUM_FRAMES)) - 50
REGULAR_MS = np.arange(NUM_FRAMES) * 40
X264 = {"crf": "12", "preset": "medium", "g": "12"}
X265 = {"crf": "12", "preset": "ultrafast", "x265-params": "log-level=none:keyint=12"}
OPEN_GOP = {**X264, "x264-params": "open-gop=1:bframes=4:b-adapt=0:scenecut=0"}
SVT_AV1 = {"preset": "10", "crf": "10", "svtav1-params": "keyint=12"}
INTERLACED = {**X264, "flags": "+ilme+ildct", "x264-params": "tff=1"}
INTRA_REFRESH = {**X264, "x264-params": "intra-refresh=1:bframes=0"}


def installed(name):
    try:
        return decoder_class(name)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(params=NAMES)
def decoder(request):
    return installed(request.param)


def bar_frames(num_frames=NUM_FRAMES, *, height=48, width=64):
    """Frame i shows the bits of i as eight bars, black or white, the lowest bit on the left."""
    bits = np.arange(num_frames)[:, None] >> np.arange(8) & 1  # (time, 8)
    bars = np.repeat(bits, -(-width // 8), axis=1)[:, :width]
    levels = np.where(bars, 230, 20).astype(np.uint8)[:, None, :, None]
    return np.broadcast_to(levels, (num_frames, height, width, 3)).copy()


def bars_read(pixels):
    """The inverse of `bar_frames`: which frames these are."""
    width = -(-pixels.shape[2] // 8)
    centres = np.minimum(np.arange(8) * width + width // 2, pixels.shape[2] - 1)
    bits = pixels[:, pixels.shape[1] // 2, centres].mean(-1) > 125  # (time, 8)
    return (bits << np.arange(8)).sum(1).tolist()


def encoded(
    frames,
    times_ms=REGULAR_MS,
    *,
    codec="libx264",
    pixel_format="yuv420p",
    options=X264,
    container="mp4",
    container_options=None,
    first_packet_ms=0,
    colorspace=None,
):
    """Frames shown at these times, as a file; first_packet_ms below 0 makes an edit list."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=container_options or {}) as file:
        stream = file.add_stream(codec, rate=Fraction(25), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.thread_count = pixel_format, 1
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        tick = Fraction(1, 25 if container == "avi" else 1000)
        stream.time_base = stream.codec_context.time_base = tick

        def write(packets):
            for packet in packets:
                packet.pts += first_packet_ms
                packet.dts += first_packet_ms
                file.mux(packet)

        for pixels, milliseconds in zip(frames, times_ms, strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pixel_format, dst_colorspace=colorspace)
            frame.pts, frame.time_base = round(int(milliseconds) / 1000 / tick), tick
            write(stream.encode(frame))
        write(stream.encode())
    return buffer.getvalue()


# Ways to store the same frames: settings of `encoded`, which times they are shown at.
STORED = {
    "constant rate": ({}, REGULAR_MS),
    "variable rate": ({}, IRREGULAR_MS),
    "variable rate, no B-frames": ({"options": {**X264, "bf": "0"}}, IRREGULAR_MS),
    "variable rate, Matroska": ({"container": "matroska"}, IRREGULAR_MS),
    "variable rate, fragments": (
        {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
        IRREGULAR_MS,
    ),
    "a pause of 5 s": ({}, REGULAR_MS + 5000 * (REGULAR_MS > 900)),
    "first frame at 3 s": ({}, REGULAR_MS + 3000),
    "first frame at 3 s, Matroska": ({"container": "matroska"}, REGULAR_MS + 3000),
    "open GOP": ({"options": OPEN_GOP}, REGULAR_MS),
    "open GOP, variable rate": ({"options": OPEN_GOP}, IRREGULAR_MS),
    "open GOP, Matroska": ({"options": OPEN_GOP, "container": "matroska"}, REGULAR_MS),
    "intra refresh": ({"options": INTRA_REFRESH}, REGULAR_MS),
    "one keyframe": ({"options": {**X264, "g": "250"}}, REGULAR_MS),
    "every colour kept": ({"pixel_format": "yuv444p"}, REGULAR_MS),
    "10 bits": ({"pixel_format": "yuv420p10le"}, REGULAR_MS),
    "HEVC": ({"codec": "libx265", "options": X265}, REGULAR_MS),
    "HEVC, 10 bits, variable rate": (
        {"codec": "libx265", "options": X265, "pixel_format": "yuv420p10le"},
        IRREGULAR_MS,
    ),
    "VP9": (
        {"codec": "libvpx-vp9", "container": "webm", "options": {"crf": "10", "g": "12"}},
        REGULAR_MS,
    ),
    "AV1": ({"codec": "libsvtav1", "options": SVT_AV1}, REGULAR_MS),
    "interlaced": ({"options": INTERLACED}, REGULAR_MS),
    "MPEG-4 in AVI": (
        {"codec": "mpeg4", "container": "avi", "options": {"g": "12", "q": "2"}},
        REGULAR_MS,
    ),
    "MPEG-4 in AVI, B-frames": (
        {"codec": "mpeg4", "container": "avi", "options": {"g": "3", "q": "2", "bf": "2"}},
        REGULAR_MS,
    ),
}


@pytest.fixture(scope="module", params=STORED)
def stored(request):
    """A file's bytes, and when its frames are shown, counted from the first one."""
    settings, times_ms = STORED[request.param]
    return encoded(bar_frames(), times_ms, **settings), (times_ms - times_ms[0]) / 1000


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


def test_every_decoder_in_the_folder_is_found_by_its_file():
    assert {"decord", "pyav", "torchcodec"} <= set(NAMES)
    assert len(list(FOLDER.glob("*_decoder.py"))) == len(NAMES) == len(set(NAMES))
    assert get_args(DecoderName) == NAMES  # so that a command line lists them


def test_a_decoder_gives_exactly_the_asked_frames_however_they_are_stored(decoder, stored):
    data, _ = stored
    everything = list(range(NUM_FRAMES))
    with decoder(data, "video") as opened:
        assert bars_read(opened.frames_at(everything).pixels) == everything
    shuffled = np.random.default_rng(0).permutation(NUM_FRAMES).tolist()
    with decoder(data, "video") as opened:  # one after the other, forwards and backwards
        assert [bars_read(opened.frames_at([i]).pixels)[0] for i in shuffled] == shuffled
    asked = [39, 12, 0, 25, 12, 11, 11, 38]
    with decoder(data, "video") as opened:  # at once, with repeats
        assert bars_read(opened.frames_at(asked).pixels) == asked


def test_the_first_frames_asked_of_a_decoder_are_the_asked_ones(decoder, stored):
    data, _ = stored
    for index in range(NUM_FRAMES):  # each time anew, as a data loader does
        with decoder(data, "video") as opened:
            assert bars_read(opened.frames_at([index]).pixels) == [index]


def test_times_are_those_at_which_frames_are_shown(decoder, stored):
    data, times_seconds = stored
    with decoder(data, "video") as opened:
        np.testing.assert_allclose(opened.timestamps_seconds(), times_seconds, atol=6e-4)
        frames, metadata = opened.frames_at([5, 30]), opened.metadata()
    np.testing.assert_allclose(frames.timestamps_seconds, times_seconds[[5, 30]], atol=6e-4)
    assert metadata.num_frames == NUM_FRAMES
    assert times_seconds[-1] < metadata.duration_seconds < times_seconds[-1] + 0.2
    assert metadata.frames_per_second == pytest.approx(NUM_FRAMES / metadata.duration_seconds)


def test_all_decoders_agree_about_every_video(stored):
    found = []
    for name in NAMES:
        try:
            decoder = decoder_class(name)
        except ImportError:
            continue
        with decoder(stored[0], "video") as opened:
            found.append((opened.timestamps_seconds().tolist(), opened.metadata()))
    assert found == [found[0]] * len(found)


COLOURS = {
    "8 bits": {},
    "8 bits, full range": {"pixel_format": "yuvj420p"},
    "8 bits, BT.709": {"colorspace": 1},
    "8 bits, BT.2020": {"colorspace": 9},
    "4:2:2": {"pixel_format": "yuv422p"},
    "10 bits": {"pixel_format": "yuv420p10le"},
    "10 bits, BT.709": {"pixel_format": "yuv420p10le", "colorspace": 1},
    "10 bits, 4:2:2": {"pixel_format": "yuv422p10le"},
    "12 bits": {"codec": "libx265", "options": X265, "pixel_format": "yuv420p12le"},
    "interlaced": {"options": INTERLACED},
}


@pytest.mark.parametrize("name", ["decord", "torchcodec"])
@pytest.mark.parametrize("settings", COLOURS.values(), ids=COLOURS)
def test_the_name_of_the_decoder_changes_no_pixel(name, settings):
    """Colours that change from pixel to pixel, so that each way to fill them in shows."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    frames = np.stack([np.roll(noise, shift, 1) for shift in range(6)]).repeat(2, 1).repeat(2, 2)
    data = encoded(frames, **settings)
    with decoder_class("pyav")(data, "video") as opened:
        expected = opened.frames_at(range(6)).pixels
    with installed(name)(data, "video") as opened:
        assert np.array_equal(opened.frames_at(range(6)).pixels, expected)


def test_frames_that_an_edit_list_hides_are_not_counted(decoder):
    data = encoded(bar_frames(), first_packet_ms=-400)
    with decoder(data, "cut at the front") as opened:
        timestamps_seconds = opened.timestamps_seconds()
        shown = bars_read(opened.frames_at(range(len(timestamps_seconds))).pixels)
        again = bars_read(opened.frames_at([0, 7]).pixels)
    assert shown == list(range(10, NUM_FRAMES)) and again == [10, 17]
    np.testing.assert_allclose(timestamps_seconds, REGULAR_MS[:30] / 1000, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(47, 65), (65, 131)])
def test_odd_sizes_are_kept(decoder, height, width):
    data = encoded(bar_frames(height=height, width=width), pixel_format="yuv444p")
    with decoder(data, "odd") as opened:
        pixels, metadata = opened.frames_at([39, 2]).pixels, opened.metadata()
    assert pixels.shape == (2, height, width, 3) and bars_read(pixels) == [39, 2]
    assert (metadata.height, metadata.width) == (height, width)


def test_a_video_of_one_frame_is_a_video(decoder):
    with decoder(encoded(bar_frames(1)), "one") as opened:
        assert opened.timestamps_seconds().tolist() == [0.0]
        assert bars_read(opened.frames_at([0, 0, 0]).pixels) == [0, 0, 0]
        assert opened.metadata().num_frames == 1 and opened.metadata().duration_seconds > 0


def test_a_file_with_sound_only_is_refused(decoder):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        file.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(DecodeError, match=r"^song\.mp4: .*no video stream$"):
        decoder(buffer.getvalue(), "song.mp4")


@pytest.mark.parametrize(
    ("settings", "exact"),
    [
        ({}, True),
        ({"container": "matroska"}, True),
        ({"codec": "mpeg4", "container": "avi", "options": {"g": "12", "q": "2"}}, True),
        ({"options": OPEN_GOP}, False),
        ({"codec": "libx265", "options": X265}, False),
        ({"options": INTRA_REFRESH}, False),
        ({"first_packet_ms": -400}, False),
    ],
    ids=["mp4", "matroska", "avi", "open_gop", "hevc", "intra_refresh", "edit_list"],
)
def test_the_packet_list_tells_where_counting_from_a_keyframe_goes_wrong(settings, exact):
    with PyavDecoder(encoded(bar_frames(), **settings), "video") as opened:
        assert opened.packets.seeks_are_exact is exact


@pytest.mark.parametrize("options", [OPEN_GOP, INTRA_REFRESH], ids=["open_gop", "intra_refresh"])
def test_decord_alone_would_give_other_frames_in_silence(options):
    """Why PyAV decodes such videos: when this fails, decord is mended, and need not be spared."""
    decord = pytest.importorskip("decord")
    data = encoded(bar_frames(), options=options)
    found = []
    for index in range(NUM_FRAMES):
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        found += bars_read(reader.get_batch([index]).asnumpy())
    assert found != list(range(NUM_FRAMES))


def test_decord_leaves_av1_to_pyav():
    """Why: decord's wheels have no decoder of it."""
    data = encoded(bar_frames(), codec="libsvtav1", options=SVT_AV1)
    with installed("decord")(data, "a.mp4") as opened:
        assert opened._reader is None and bars_read(opened.frames_at([39, 5]).pixels) == [39, 5]


def test_decord_decodes_itself_what_it_decodes_exactly():
    with installed("decord")(encoded(bar_frames()), "plain") as opened:
        assert opened._reader is not None
    with installed("decord")(encoded(bar_frames(), options=OPEN_GOP), "open GOP") as opened:
        assert opened._reader is None


def test_a_decoder_whose_library_cannot_be_loaded_says_so_in_one_line(tmp_path):
    (tmp_path / "torchcodec").mkdir()
    for source, line in [
        ("raise ImportError('none')", "pip install 'jepa-planning[torchcodec]'"),
        ("raise RuntimeError('libavutil.so.56\\n' * 99)", "apt-get install ffmpeg"),
    ]:
        (tmp_path / "torchcodec" / "__init__.py").write_text(source)
        program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + (
            "from data_pipelines.decoders import decoder_class\n"
            "try:\n    decoder_class('torchcodec')\n"
            "except ImportError as error:\n    print(error)"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            cwd=FOLDER.parents[1],
        )  # fmt: skip
        assert len(ran.stdout.splitlines()) == 1 and line in ran.stdout


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
    for name in ("decord", "pyav"):
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


def test_a_video_whose_time_scale_is_zero_is_refused(decoder, video):
    """Seen to fail without the guard: one of its frames was found, which lasts 1024 s."""
    data = bytearray(video)
    place = data.index(b"mdhd") + 16
    data[place : place + 4] = bytes(4)
    with pytest.raises(DecodeError, match=r"^zero\.mp4: .*time scale is damaged"):
        decoder(bytes(data), "zero.mp4")


def test_text_named_mp4_leaves_nothing_on_stderr(decoder, capfd):
    with pytest.raises(DecodeError):
        decoder(b"secret words " * 1000, "text.mp4")
    assert capfd.readouterr().err == ""


def test_frames_too_narrow_for_decord_are_refused_with_the_way_out(index_frames):
    data = encode_mp4(index_frames(4, height=32, width=48), frames_per_second=10)
    with installed("decord")(data, "narrow.mp4") as video:
        with pytest.raises(DecodeError, match=r"narrow\.mp4: .*use the pyav decoder"):
            video.frames_at([0])
    with decoder_class("pyav")(data, "narrow.mp4") as video:
        assert video.frames_at([0]).pixels.shape == (1, 32, 48, 3)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(ValueError, match="no decoder named 'vlc'; choose from decord, pyav, torch"):
        decoder_class("vlc")


def test_decord_shares_its_own_zlib_with_nobody():
    """Opened for all, as decord does by itself, it breaks what is loaded later (pygame's PNGs)."""
    program = (
        "import ctypes, data_pipelines.decoders.decord_decoder\n"
        "print(hasattr(ctypes.CDLL(None), 'DECORDGetLastError'), ctypes.RTLD_GLOBAL > 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr
