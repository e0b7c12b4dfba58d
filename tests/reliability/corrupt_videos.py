"""Damaged MP4 files of 14 classes, made from whole ones by changing bytes.

The whole ones are real: moving shapes, encoded as H.264 with B-frames and several keyframes. What
is changed where is drawn from a seed, so that any file of a failing test can be made again.
"""

import io
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np

from data_pipelines.synthetic import DIRECTIONS, moving_shape
from data_pipelines.video_writing import encode_mp4

NUM_FRAMES = 20
NUM_WHOLE = 8  # different videos that are damaged
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts")


class CorruptVideo(NamedTuple):
    """A damaged file: what was done to it, a name, its bytes."""

    kind: str
    name: str
    data: bytes


def whole_videos(count: int = NUM_WHOLE) -> list[bytes]:
    """Returns different small MP4 files of `NUM_FRAMES` frames."""
    return [_whole_video(number) for number in range(count)]


def corrupt_videos(per_kind: int, *, seed: int = 0) -> Iterator[CorruptVideo]:
    """Yields so many files of each kind."""
    videos = whole_videos()
    for kind, damage in KINDS.items():
        for number in range(per_kind):
            rng = random.Random(f"{seed} {kind} {number}")
            data = damage(videos[number % len(videos)], rng)
            yield CorruptVideo(kind, f"{kind.replace(' ', '-')}-{number:03d}", data)


def _whole_video(number: int) -> bytes:
    direction = list(DIRECTIONS)[number % len(DIRECTIONS)]
    rng = np.random.default_rng((7, number))
    frames = moving_shape(rng, direction, num_frames=NUM_FRAMES, size=64)
    return encode_mp4(frames, frames_per_second=10, keyframe_interval=8)


class _Box(NamedTuple):
    """An MP4 box (ISO/IEC 14496-12, 4.2): its kind, where it begins, its body, its end."""

    kind: bytes
    start: int
    body: int
    end: int


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[_Box]:
    """Yields all boxes, those inside containers too."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        box = _Box(data[start + 4 : start + 8], start, start + 8, start + size)
        yield box
        if box.kind in _CONTAINERS:
            yield from _boxes(data, box.body, box.end)
        start = box.end


def _box(data: bytes, kind: bytes) -> _Box:
    return next(box for box in _boxes(data) if box.kind == kind)


def _tail_cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(8, len(data))]


def _head_cut(data: bytes, rng: random.Random) -> bytes:
    return data[rng.randrange(1, len(data) // 2) :]


def _no_moov(data: bytes, rng: random.Random) -> bytes:
    """The table of contents is gone, is called by another name, or is empty."""
    moov, way = _box(data, b"moov"), rng.randrange(3)
    if way == 0:
        return data[: moov.start] + data[moov.end :]
    if way == 1:
        return data[: moov.start + 4] + b"junk" + data[moov.body :]
    return data[: moov.start] + b"\0\0\0\x08moov" + data[moov.end :]


def _bit_flips(data: bytes, rng: random.Random) -> bytes:
    mdat, changed = _box(data, b"mdat"), bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(mdat.body, mdat.end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _zeroed_run(data: bytes, rng: random.Random) -> bytes:
    mdat = _box(data, b"mdat")
    size = rng.randint(16, (mdat.end - mdat.body) // 2)
    start = rng.randrange(mdat.body, mdat.end - size)
    return data[:start] + bytes(size) + data[start + size :]


def _noise_in(kind: bytes) -> Callable[[bytes, random.Random], bytes]:
    """Random bytes behind version, flags and count of a table; or the count itself is a lie."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        box, changed = _box(data, kind), bytearray(data)
        first = box.body + (4 if rng.random() < 0.3 else 8)
        for _ in range(rng.randint(1, 8)):
            changed[rng.randrange(first, box.end)] = rng.randrange(256)
        return bytes(changed)

    return damage


def _time_scale(data: bytes, rng: random.Random) -> bytes:
    """No ticks in a second, in the file's header, the track's, or both."""
    changed = bytearray(data)
    for kind in rng.choice([(b"mvhd",), (b"mdhd",), (b"mvhd", b"mdhd")]):
        place = _box(data, kind).body + 12  # behind version, flags and two times (version 0)
        changed[place : place + 4] = bytes(4)
    return bytes(changed)


def _size_lies(data: bytes, rng: random.Random) -> bytes:
    """The size of one box is another: nothing, too much, the rest of the file, 64 bits of it."""
    changed, box = bytearray(data), rng.choice(list(_boxes(data)))
    size = rng.choice([0, 1, 7, 8, 2**31, 2**32 - 1, rng.randrange(2 * (box.end - box.start))])
    changed[box.start : box.start + 4] = size.to_bytes(4, "big")
    return bytes(changed)


def _random_bytes(data: bytes, rng: random.Random) -> bytes:
    """Noise, of which a half begins as an MP4 file does, so that a decoder gets to see it."""
    noise = rng.randbytes(rng.randint(16, 4096))
    return noise if rng.random() < 0.5 else data[:8] + noise


def _empty(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(8)]  # not even one box


def _sound_only(data: bytes, rng: random.Random) -> bytes:
    """A whole file with a sound of up to two seconds and no picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=16000)
        wave = np.random.default_rng(rng.randrange(99)).random((2, rng.randint(2000, 32000)))
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "tail cut": _tail_cut,
    "head cut": _head_cut,
    "no moov": _no_moov,
    "bit flips": _bit_flips,
    "zeroed run": _zeroed_run,
    "stts": _noise_in(b"stts"),
    "stsz": _noise_in(b"stsz"),
    "stco": _noise_in(b"stco"),
    "stsd": _noise_in(b"stsd"),
    "time scale": _time_scale,
    "size lies": _size_lies,
    "random bytes": _random_bytes,
    "empty": _empty,
    "sound only": _sound_only,
}
