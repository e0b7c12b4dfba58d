"""Bad videos: rows 47 to 65 of the list of bad inputs."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from tests.reliability.bad_inputs import Inputs, Row, check, params


def packed(change, name: str = "a.mp4", *more):
    """A row's arguments: `jepa data pack` of a folder with one video, its bytes changed."""

    def arguments(inputs: Inputs) -> list:
        whole = next(inputs.videos.rglob("*.mp4")).read_bytes()
        inputs.write(f"in/{name}", change(whole))
        return ["data", "pack", inputs.here / "in", inputs.here / "out", *more]

    return arguments


def box(name: bytes, at: int, value: bytes):
    """Bytes of an MP4 box replaced: `at` counts from the box's name."""

    def change(data: bytes) -> bytes:
        start = data.rindex(name) + at  # not the name among the brands at the beginning
        return data[:start] + value + data[start + len(value) :]

    return change


def written(
    width: int = 64,
    height: int = 64,
    *,
    frames: int = 16,
    codec="libx264",
    pixels="yuv420p",
    rate=10,
):
    """A change that puts another video in the place of a whole one."""

    def change(_: bytes) -> bytes:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, pixels
            for index in range(frames):
                picture = np.full((height, width, 3), 10 * index % 256, np.uint8)
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture)):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return buffer.getvalue()

    return change


def sound(_: bytes) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return buffer.getvalue()


def picture(_: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"

ROWS = [
    Row(47, "an empty video", packed(lambda d: b""), "a.mp4: the file is empty"),
    Row(
        47,
        "random bytes",
        packed(lambda d: bytes(range(256)) * 40),
        "a.mp4: not a video: begins with 00 01",
    ),
    Row(
        48,
        "a video without its tail",
        packed(lambda d: d[: len(d) // 2]),
        "a.mp4: PyAV cannot open it",
    ),
    Row(
        49,
        "a video without a table of contents",
        packed(lambda d: d.replace(b"moov", b"xxxx")),
        "a.mp4",
    ),
    Row(
        51, "zeros where frames were", packed(lambda d: d[:3000] + bytes(2000) + d[5000:]), "a.mp4"
    ),
    Row(52, "times that are nonsense", packed(box(b"stts", 4, b"\xff" * 16)), "a.mp4"),
    Row(53, "sizes that are nonsense", packed(box(b"stsz", 8, b"\xff" * 12)), "a.mp4"),
    Row(53, "places that are nonsense", packed(box(b"stco", 12, b"\xff" * 4)), "a.mp4"),
    # FFmpeg takes it for 1, and the edit list then cuts all but one frame off.
    Row(
        54,
        "a time scale of zero",
        packed(box(b"mdhd", 16, bytes(4))),
        "a.mp4: 1 of its 16 frames are found, in ticks of 1 s: its time scale is damaged",
    ),
    # The stream itself says the size; what the box around it claims is not believed.
    Row(55, "a video of 65535 x 65535", packed(box(b"avc1", 28, b"\xff" * 4)), "packed 1", 0),
    Row(55, "a video of 0 x 0", packed(box(b"avc1", 28, bytes(4))), "packed 1", 0),
    Row(
        56,
        "a video of one frame",
        packed(written(frames=1), "a.mp4", "--min-frames", 8),
        "too short: 1 frames, at least 8",
    ),
    Row(57, "sound alone", packed(sound), "it has no video stream"),
    Row(57, "a picture named as a video", packed(picture), "not a video: begins with 89 50"),
    Row(57, "a text named as a video", packed(lambda d: b"hello\n" * 9), "a.mp4"),
    Row(
        59,
        "a codec that is not known",
        packed(lambda d: d.replace(b"avc1", b"zzzz")),
        "its codec is unknown",
    ),
    Row(60, "a grey video", packed(written(pixels="gray")), "packed 1", 0),
    Row(60, "a video of ten bits", packed(written(pixels="yuv420p10le")), "packed 1", 0),
    Row(61, "a frame count that is a lie", packed(box(b"stsz", 12, b"\x3b\x9a\xca\x00")), "a.mp4"),
    Row(64, "a playlist", packed(lambda d: PLAYLIST), "not a video: begins with"),
    Row(64, "a list of files to join", packed(lambda d: CONCAT), "not a video: begins with"),
    Row(65, "a video that is all black", packed(written()), "packed 1", 0),
]
QUICK = (47, 64)


@pytest.mark.parametrize("row", params(ROWS, quick=QUICK))
def test_a_bad_video_is_one_clear_line(row, inputs, capfd):
    check(row, inputs, capfd)
