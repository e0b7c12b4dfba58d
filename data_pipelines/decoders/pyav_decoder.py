"""PyAV: the exact decoder, and the packet list that the other decoders are checked by."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from data_pipelines.decoders.base import (
    MAX_PIXELS,
    STAMPED_CONTAINERS,
    VideoDecoder,
    checked_timestamps,
    metadata_from_timestamps,
    refuse_huge_frames,
)
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.pixel_conversion import one_thread

# PyAV reports FFmpeg's codes as FFmpegError, and values that Python cannot hold as the others.
_AV_ERRORS = (FFmpegError, ValueError, IndexError, OverflowError, MemoryError)

_ONE_THREAD: dict[str, Any] = dict(one_thread())

_NOT_INTERLACED = (0, 1)  # FFmpeg's AV_FIELD_UNKNOWN, which most videos have, and PROGRESSIVE

_LIMITS = {"max_pixels": str(MAX_PIXELS)}  # a size may change in the middle of a stream, too


@dataclass(frozen=True)
class PacketList:
    """The frames of a video in the order they are shown, from its packets: nothing is decoded.

    Attributes:
        times: when each frame is shown, in ticks: (num_frames,), int64, not decreasing.
        seek_times: when each frame is decoded, in ticks: a seek to it lands at or before the frame.
        durations: in ticks, 0 if the file does not say.
        is_keyframe: True where a seek can land.
        file_positions: the frame's number in the file, hidden ones left out; B-frames lie behind
            frames that are shown later.
        num_hidden: packets that are decoded but not shown, since an edit list cuts them off.
        num_partial_keyframes: keyframes that do not show the whole picture, since it is refreshed
            piecemeal ("intra refresh").
        tick_seconds: the length of a tick.
        stream_index: which of the file's streams this is.
    """

    times: np.ndarray
    seek_times: np.ndarray
    durations: np.ndarray
    is_keyframe: np.ndarray
    file_positions: np.ndarray
    num_hidden: int
    num_partial_keyframes: int
    tick_seconds: float
    stream_index: int

    @property
    def seeks_are_exact(self) -> bool:
        """True if a frame's index can be counted from any keyframe before it.

        In an open GOP, the default of x265, it cannot: frames shown before a keyframe lie behind
        it, and need it.
        """
        keyframes = np.flatnonzero(self.is_keyframe)
        in_order = bool((self.file_positions[keyframes] == keyframes).all())
        return in_order and self.num_hidden == 0 and self.num_partial_keyframes == 0


class PyavDecoder(VideoDecoder):
    """Decodes with PyAV: packets are listed once, frames are found by their presentation time."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data, name)
        try:
            # Naming the format keeps FFmpeg from guessing playlists, which open other files.
            self._file: Any = av.open(io.BytesIO(data), format=self.container, options=_LIMITS)
            self._stream: Any = self._first_video_stream()
            context = self._stream.codec_context
            refuse_huge_frames(name, height=context.height, width=context.width)
            context.options, context.thread_count = _LIMITS, 1
            self.packets = self._list_packets()
            self._refuse_lost_time_scale()
        except DecodeError:
            raise
        except _AV_ERRORS as error:
            raise DecodeError(name, f"PyAV cannot open it: {_reason(error)}") from None
        seconds = self.packets.times * self.packets.tick_seconds
        self._timestamps_seconds = checked_timestamps(seconds, name)

    def metadata(self) -> VideoMetadata:
        """Returns frame count, rate, duration and size; decodes the first frame for the size."""
        height, width = self._decode([0]).shape[1:3]  # the stream's own are those before turning
        return metadata_from_timestamps(
            self._timestamps_seconds, self.duration_seconds(), height=height, width=width
        )

    def duration_seconds(self) -> float:
        """Returns the time from the first frame's start to the last frame's end."""
        last_duration = float(self.packets.durations[-1]) * self.packets.tick_seconds
        if last_duration <= 0:
            last_duration = 1.0 / float(self._stream.average_rate or 25)
        return float(self._timestamps_seconds[-1]) + last_duration

    def timestamps_seconds(self) -> np.ndarray:
        """Returns when each frame starts: (num_frames,), float64, the first one 0."""
        return self._timestamps_seconds

    def close(self) -> None:
        """Closes the container."""
        self._file.close()

    @property
    def has_plain_colours(self) -> bool:
        """True if every library makes the same RGB of the frames, to the bit: 8 bits, no fields.

        Where colours have more bits, or fields of their own (interlaced video), libraries differ in
        how they fill in what is stored of every other pixel only, by up to 60 of 255 at edges.

        Raises:
            DecodeError: if the file does not say what its pixels are.
        """
        context = self._stream.codec_context
        if context.format is None:
            raise DecodeError(self.name, "its pixel format is unknown (a damaged header?)")
        bits = max(component.bits for component in context.format.components)
        field_order = getattr(context, "field_order", 0)  # the oldest PyAV does not tell
        return bits <= 8 and field_order in _NOT_INTERLACED

    def _first_video_stream(self) -> object:
        if not self._file.streams.video:
            raise DecodeError(self.name, "PyAV cannot open it: it has no video stream")
        for stream in self._file.streams.video:
            if stream.codec_context is not None:
                return stream
        raise DecodeError(self.name, "PyAV cannot open it: its codec is unknown")

    def _list_packets(self) -> PacketList:
        """Reads every packet's times, without decoding."""
        rows, num_hidden, num_partial = [], 0, 0
        for packet in self._file.demux(self._stream):
            time = packet.pts
            if time is None:
                continue
            is_keyframe = packet.is_keyframe
            num_partial += is_keyframe and self._is_partial(packet)
            if packet.is_discard:
                num_hidden += 1
                continue
            seek_time = packet.dts
            seek_time = time if seek_time is None else seek_time
            rows.append((time, seek_time, packet.duration or 0, is_keyframe))
        table = np.array(rows, dtype=np.int64).reshape(-1, 4)  # in the order of the file
        order = np.argsort(table[:, 0], kind="stable")
        times, seek_times, durations, is_keyframe = table[order].T
        return PacketList(
            times=times,
            seek_times=seek_times,
            durations=durations,
            is_keyframe=is_keyframe.astype(bool),
            file_positions=order,
            num_hidden=num_hidden,
            num_partial_keyframes=num_partial,
            tick_seconds=float(self._stream.time_base),
            stream_index=self._stream.index,
        )

    def _refuse_lost_time_scale(self) -> None:
        """FFmpeg takes a time scale of 0 for 1; an edit list in ticks then cuts nearly all off."""
        found, listed = len(self.packets.times) + self.packets.num_hidden, self._stream.frames
        if self.packets.tick_seconds >= 1 and found < listed:
            raise DecodeError(
                self.name,
                f"{found} of its {listed} frames are found, in ticks of "
                f"{self.packets.tick_seconds:g} s: its time scale is damaged",
            )

    def _is_partial(self, packet: av.Packet) -> bool:
        if self._stream.codec_context.name != "h264":
            return False
        return not _has_instantaneous_refresh(bytes(packet), self._stream.codec_context.extradata)

    def _decode(self, indices: Sequence[int]) -> np.ndarray:
        try:
            may_seek = self.container in STAMPED_CONTAINERS
            frames = list(self._wanted_frames(indices, seek_to_keyframes=may_seek))
            if len(frames) < len(indices) and self.packets.num_partial_keyframes:
                frames = list(self._wanted_frames(indices, seek_to_keyframes=False))
        except _AV_ERRORS as error:
            raise DecodeError(self.name, f"PyAV: {_reason(error)}") from None
        if len({frame.shape for frame in frames}) > 1:
            raise DecodeError(self.name, "the frame size changes within the video")
        if len(frames) < len(indices):
            raise DecodeError(self.name, f"{len(frames)} of {len(indices)} frames decoded")
        return np.stack(frames)  # (time, height, width, 3)

    def _wanted_frames(
        self, indices: Sequence[int], *, seek_to_keyframes: bool = True
    ) -> Iterator[np.ndarray]:
        """Yields the frames at increasing indices, seeking where a later keyframe saves work."""
        times = self.packets.times
        position, decoded = -1, iter(())  # position: index of the frame decoded last
        for index in indices:
            keyframe = self._keyframe_before(index) if seek_to_keyframes else 0
            if position < 0 or keyframe > position:
                self._file.seek(int(self.packets.seek_times[keyframe]), stream=self._stream)
                decoded = self._file.decode(self._stream)
            for frame in decoded:
                if frame.pts is not None and frame.pts >= times[index]:
                    if frame.pts == times[index]:
                        yield _upright(frame)
                    break
            position = index

    def _keyframe_before(self, index: int) -> int:
        """Returns the index of the last keyframe at or before a frame."""
        keyframes = np.flatnonzero(self.packets.is_keyframe[: index + 1])
        return int(keyframes[-1]) if len(keyframes) else 0


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Returns a frame as a viewer shows it: telephones store it as the sensor lay, and the turn."""
    pixels = frame.to_ndarray(format="rgb24", **_ONE_THREAD)  # (height, width, 3), as stored
    return np.rot90(pixels, round(frame.rotation / 90))  # both count anticlockwise


def _has_instantaneous_refresh(packet: bytes, extradata: bytes | None) -> bool:
    """Returns whether an H.264 packet has a slice of an IDR picture (ITU-T H.264, Table 7-1)."""
    if not extradata or extradata[0] != 1:  # units are separated by start codes (Annex B)
        return any(match[1][0] & 31 == 5 for match in re.finditer(rb"(?s)\x00\x00\x01(.)", packet))
    size_bytes, place = (extradata[4] & 3) + 1, 0  # units come with their size (ISO 14496-15)
    while place + size_bytes < len(packet):
        if packet[place + size_bytes] & 31 == 5:
            return True
        place += size_bytes + int.from_bytes(packet[place : place + size_bytes], "big")
    return False


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
