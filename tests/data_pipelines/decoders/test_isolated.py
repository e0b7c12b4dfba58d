"""A decoder that really crashes and really hangs, in a child: it costs one video."""

import contextlib
import os
import pickle
import struct
import sys
import textwrap
import time

import numpy as np
import pytest

from data_pipelines.decoders.base import decoder_class, decoder_names
from data_pipelines.decoders.isolated import DecodingProcess
from data_pipelines.frames import DecodeError
from data_pipelines.video_writing import encode_mp4

BARS = (1, 2, 3)

# Does what the name of the video says; every frame is grey of the level that its index is.
OBEDIENT_DECODER = """
import os, signal, sys, time
import numpy as np
from data_pipelines.decoders.base import VideoDecoder, metadata_from_timestamps
from data_pipelines.frames import DecodeError

class ObedientDecoder(VideoDecoder):
    def __init__(self, data, name):
        super().__init__(data, name)
        self.obey("open")

    def obey(self, moment):
        if not self.name.startswith(moment):
            return
        if "abort" in self.name:
            os.abort()
        if "segfault" in self.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "exit" in self.name:
            os._exit(3)
        if "hang" in self.name:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
            while True:
                time.sleep(1)
        if "stop" in self.name:
            os.kill(os.getpid(), signal.SIGSTOP)
        if "greedy" in self.name:
            np.ones(3 * 2**30, np.uint8)
        if "refuse" in self.name:
            raise DecodeError(self.name, "no good")
        if "bug" in self.name:
            raise KeyError("codec")
        if "shout" in self.name:
            os.write(1, b"shouting\\n")
            os.write(2, b"shouting\\n")

    def timestamps_seconds(self):
        return np.arange(9) / 10

    def metadata(self):
        self.obey("metadata")
        return metadata_from_timestamps(self.timestamps_seconds(), 0.9, height=2, width=4)

    def close(self):
        self.obey("close")

    def _decode(self, indices):
        self.obey("decode")
        return np.array(indices, np.uint8)[:, None, None, None] * np.ones((1, 2, 4, 3), np.uint8)
"""
A_VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(100)


@pytest.fixture(scope="module")
def obedient(tmp_path_factory):
    """The class, importable by its module's name here and in a child."""
    folder = tmp_path_factory.mktemp("decoder")
    (folder / "obedient_decoder.py").write_text(textwrap.dedent(OBEDIENT_DECODER))
    sys.path.insert(0, str(folder))
    import obedient_decoder  # pyright: ignore[reportMissingImports]

    yield obedient_decoder.ObedientDecoder
    sys.path.remove(str(folder))
    del sys.modules["obedient_decoder"]


@pytest.fixture(scope="module")
def process(obedient):
    with DecodingProcess(obedient, timeout_seconds=20, memory_gibibytes=2) as process:
        yield process


def levels(process, name, indices=(0, 8, 3, 3)):
    with process.open(A_VIDEO, name) as video:
        return video.frames_at(indices).pixels[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("name", decoder_names())
def test_the_child_gives_what_the_decoder_gives_here(name, index_frames, index_of):
    try:
        decoder = decoder_class(name)
    except ImportError as error:
        pytest.skip(str(error))
    data = encode_mp4(index_frames(30), frames_per_second=10)
    with DecodingProcess(decoder) as process:
        with decoder(data, "x") as here, process.open(data, "x") as there:
            asked = [29, 0, 7, 7]
            assert index_of(there.frames_at(asked).pixels, BARS).tolist() == asked
            assert np.array_equal(here.frames_at(asked).pixels, there.frames_at(asked).pixels)
            assert np.array_equal(here.timestamps_seconds(), there.timestamps_seconds())
            assert here.metadata() == there.metadata()
            with pytest.raises(IndexError, match="video has frames 0 to 29"):
                there.frames_at([30])


@pytest.mark.parametrize("moment", ["open", "decode"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("abort", r"ObedientDecoder crashed on it \(signal 6\)"),
        ("segfault", r"ObedientDecoder crashed on it \(signal 11\)"),
        ("exit", r"ObedientDecoder crashed on it \(status 3\)"),
        ("greedy", "decoding it takes more memory than is allowed"),
        ("refuse", "no good"),
        ("bug", "ObedientDecoder: KeyError: 'codec'"),
    ],
)
def test_a_fault_in_the_child_names_its_video_and_the_next_one_is_decoded(
    process, moment, fault, reason
):
    name = f"{moment}/{fault}.mp4"
    with pytest.raises(DecodeError, match=rf"^{name}: {reason}"):
        levels(process, name)
    assert levels(process, "good.mp4") == [0, 8, 3, 3]


@pytest.mark.parametrize("name", ["open/hang", "decode/hang", "decode/stop"])
def test_a_video_that_hangs_the_decoder_is_given_up_in_time(obedient, name):
    with DecodingProcess(obedient, timeout_seconds=0.5) as process:
        levels(process, "good.mp4")  # the child has started
        started = time.monotonic()
        with pytest.raises(DecodeError, match=rf"^{name}: decoding took more than 0\.5 s"):
            levels(process, name)
        assert time.monotonic() - started < 10
        assert levels(process, "good.mp4") == [0, 8, 3, 3]


def test_a_child_that_dies_between_two_videos_costs_none(process):
    levels(process, "good.mp4")
    process.child()._program.kill()
    process.child()._program.wait()
    with pytest.raises(DecodeError, match=r"crashed on it \(signal 9\)"):
        levels(process, "unlucky.mp4")
    assert levels(process, "good.mp4") == [0, 8, 3, 3]


def test_what_a_library_prints_reaches_nobody(process, capfd):
    assert levels(process, "decode/shout.mp4") == [0, 8, 3, 3]
    assert capfd.readouterr() == ("", "")


def open_files():
    """Returns the numbers of this process's open files, each with what it is; none on a Mac."""
    folder, found = "/proc/self/fd", set()
    for number in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(FileNotFoundError):  # the listing itself
            found.add((number, os.readlink(f"{folder}/{number}")))
    return found


def test_no_child_and_no_open_file_are_left_behind(obedient):
    before = open_files()  # others may close some of theirs meanwhile: of connections, by and by
    with DecodingProcess(obedient) as process:
        levels(process, "good.mp4")
        for _ in range(3):
            with pytest.raises(DecodeError):
                levels(process, "decode/abort.mp4")
        levels(process, "good.mp4")
        child = process.child()
        assert open_files() - before or not before
    assert child._program.returncode is not None
    assert open_files() - before == set()


def test_a_video_is_closed_when_the_next_one_is_opened(process):
    first = process.open(A_VIDEO, "first.mp4")
    second = process.open(A_VIDEO, "second.mp4")
    with pytest.raises(ValueError, match=r"first\.mp4: the decoder is closed"):
        first.frames_at([0])
    first.close()  # closes nothing that is not its own
    assert second.frames_at([4]).pixels.max() == 4


def test_a_forked_process_starts_a_child_of_its_own(process):
    levels(process, "good.mp4")
    ours = process.child()._program.pid
    reads, writes = os.pipe()
    if (forked := os.fork()) == 0:
        result = levels(process, "good.mp4")
        theirs = process.child()._program.pid
        process.close()
        os.write(writes, struct.pack("?i", result == [0, 8, 3, 3], theirs))
        os._exit(0)
    os.waitpid(forked, 0)
    was_right, theirs = struct.unpack("?i", os.read(reads, 8))
    os.close(reads), os.close(writes)
    assert was_right and theirs != ours
    assert levels(process, "good.mp4") == [0, 8, 3, 3]
    assert process.child()._program.pid == ours


def test_a_pickled_process_starts_a_child_of_its_own(process):
    levels(process, "good.mp4")
    with pickle.loads(pickle.dumps(process)) as copy:
        assert levels(copy, "good.mp4") == [0, 8, 3, 3]
        assert copy.child()._program.pid != process.child()._program.pid
        assert (copy.timeout_seconds, copy.memory_gibibytes) == (20, 2)


def test_a_decoder_that_the_child_cannot_import_is_said_at_once(obedient):
    class Local(obedient):
        pass

    with pytest.raises(RuntimeError, match="the decoding process did not start"):
        DecodingProcess(Local).open(A_VIDEO, "any.mp4")


# Damaged bytes, for every decoder.


def damaged(good):
    """Yields a name and bytes: cut, empty, another beginning, a huge picture, flipped bits."""
    for part in range(20):
        yield f"cut-at-{5 * part}-percent", good[: len(good) * part // 20]
    yield "zeros", bytes(5000)
    yield "wrong-magic", b"12345678" + good[8:]
    huge = bytearray(good)
    place = good.index(b"tkhd") + 4 + 76  # width and height, 16.16: ISO/IEC 14496-12, 8.3.2
    huge[place : place + 8] = struct.pack(">II", 65535 << 16, 65535 << 16)
    place = good.index(b"avc1") + 4 + 24  # width and height: 12.1.3
    huge[place : place + 4] = struct.pack(">HH", 65535, 65535)
    yield "huge-picture", bytes(huge)
    for seed in range(50):
        generator = np.random.default_rng(seed)
        first = 32 if seed % 2 else good.index(b"moov")  # half of them in the header
        flipped = bytearray(good)
        for place in generator.integers(first, len(good), generator.integers(1, 20)):
            flipped[place] ^= 1 << int(generator.integers(8))
        yield f"flipped-{seed}", bytes(flipped)


@pytest.mark.parametrize("name", decoder_names())
def test_damaged_bytes_are_decoded_or_refused_by_name_and_in_silence(name, index_frames, capfd):
    try:
        decoder = decoder_class(name)
    except ImportError as error:
        pytest.skip(str(error))
    good = encode_mp4(index_frames(30), frames_per_second=10, preset="medium")
    num_refused = 0
    with DecodingProcess(decoder, timeout_seconds=20) as process:
        for key, data in damaged(good):
            try:
                with process.open(data, key) as video:
                    num_frames = video.metadata().num_frames
                    frames = video.frames_at([0, num_frames // 2, num_frames - 1])
                assert frames.pixels.shape[0] == 3 and frames.pixels.shape[-1] == 3
            except DecodeError as error:
                num_refused += 1
                assert str(error).startswith(f"{key}: ") and "\n" not in str(error)
                assert "took more than" not in error.reason
        with process.open(good, "good") as video:
            assert video.metadata().num_frames == 30
    assert num_refused > 40  # the damage was real
    assert capfd.readouterr() == ("", "")
