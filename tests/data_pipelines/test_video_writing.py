import io

import numpy as np
import pytest

from data_pipelines.decoders import decoder_class
from data_pipelines.video_writing import Mp4Writer, encode_mp4, write_mp4


def test_a_written_video_reads_back_near_the_frames(tmp_path):
    ramp = np.arange(64, dtype=np.uint8) * 3
    frames = np.stack([np.roll(np.tile(ramp[:, None, None], (1, 64, 3)), t, 0) for t in range(8)])
    path = write_mp4(tmp_path / "deep" / "ramp.mp4", frames, frames_per_second=5, crf=5)
    with decoder_class("decord")(path.read_bytes(), "ramp") as video:
        read = video.frames_at(range(8)).pixels
    assert np.abs(read.astype(int) - frames).mean() < 2
    assert [p.name for p in path.parent.iterdir()] == ["ramp.mp4"]


def test_a_better_quality_takes_more_bytes():
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    sizes = [len(encode_mp4(frames, frames_per_second=10, crf=crf)) for crf in (40, 20, 5)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] / 2


def test_equal_frames_are_equal_bytes_every_time(index_frames):
    read = encode_mp4(index_frames(16), frames_per_second=10, keyframe_interval=8)
    with decoder_class("decord")(read, "flat") as video:
        frames = video.frames_at(range(16)).pixels
    settings = {"keyframe_interval": 4, "crf": 23, "preset": "veryfast"}
    # With x264's macroblock tree, up to one file in a hundred differs, in one process of three.
    files = {encode_mp4(frames, frames_per_second=5, **settings) for _ in range(500)}
    assert len(files) == 1


@pytest.mark.parametrize(
    ("shape", "dtype", "rate", "message"),
    [
        ((4, 31, 32, 3), np.uint8, 10, "even sizes, got height=31, width=32"),
        ((4, 3, 32, 32), np.uint8, 10, r"\(time, height, width, 3\) uint8, got \(4, 3, 32, 32\)"),
        ((4, 32, 32, 3), np.float32, 10, "got .* float32"),
        ((0, 32, 32, 3), np.uint8, 10, "at least one frame"),
        ((4, 32, 32, 3), np.uint8, 0, "frames_per_second must be"),
        ((4, 32, 32, 3), np.uint8, float("nan"), "frames_per_second must be"),
    ],
)
def test_frames_that_do_not_fit_are_refused(tmp_path, shape, dtype, rate, message):
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "x.mp4", np.zeros(shape, dtype), frames_per_second=rate)
    assert list(tmp_path.iterdir()) == []


def test_a_video_written_in_pieces_is_the_one_written_at_once():
    frames = np.random.default_rng(0).integers(0, 256, (11, 32, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    with Mp4Writer(buffer, height=32, width=48, frames_per_second=12.5) as video:
        for part in np.split(frames, [1, 5, 8]):
            video.add(part)
        assert video.num_frames == 11
    assert buffer.getvalue() == encode_mp4(frames, frames_per_second=12.5)


def test_frames_of_another_size_do_not_go_into_the_same_video():
    frames = np.zeros((2, 32, 48, 3), dtype=np.uint8)
    with Mp4Writer(io.BytesIO(), height=32, width=48, frames_per_second=5) as video:
        video.add(frames)
        with pytest.raises(ValueError, match=r"frames are \(48, 32\) .* the video is \(32, 48\)"):
            video.add(frames.transpose(0, 2, 1, 3))
