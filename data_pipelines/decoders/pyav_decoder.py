"""PyAV: the second decoder, to check the first one by, and for machines without decord wheels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from data_pipelines.decoders.base import (
    VideoDecoder,
    checked_timestamps,
    metadata_from_timestamps,
)
from data_pipelines.frames import DecodeError, VideoMetadata

_AV_ERRORS = (FFmpegError, ValueError, IndexError, OverflowError)


class PyavDecoder(VideoDecoder):
    """Decodes with PyAV: packets are listed once, frames are found by their presentation time."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data, name)
        try:
            # Naming the format keeps FFmpeg from guessing playlists, which open other files.
            self._file: Any = av.open(io.BytesIO(data), format=self.container)
            self._stream: Any = self._first_video_stream()
            self._stream.thread_count = 1
            self._list_packets()
        except DecodeError:
            raise
        except _AV_ERRORS as error:
            raise DecodeError(name, f"PyAV cannot open it: {error}") from None
        seconds = np.array(self._times) * float(self._stream.time_base)
        self._timestamps_seconds = checked_timestamps(seconds, name)

    def metadata(self) -> VideoMetadata:
        """Returns frame count, rate, duration and size; decodes the first frame for the size."""
        height, width = self._decode([0]).shape[1:3]  # the stream's own are those before turning
        last_duration = self._durations[-1] * float(self._stream.time_base)
        if last_duration <= 0:
            last_duration = 1.0 / float(self._stream.average_rate or 25)
        return metadata_from_timestamps(
            self._timestamps_seconds,
            float(self._timestamps_seconds[-1]) + last_duration,
            height=height,
            width=width,
        )

    def timestamps_seconds(self) -> np.ndarray:
        """Returns when each frame starts: (num_frames,), float64, the first one 0."""
        return self._timestamps_seconds

    def close(self) -> None:
        """Closes the container."""
        self._file.close()

    def _first_video_stream(self) -> object:
        for stream in self._file.streams.video:
            if stream.codec_context is not None:
                return stream
        raise DecodeError(self.name, "PyAV cannot open it: no video track, or an unknown codec")

    def _list_packets(self) -> None:
        """Reads every packet's presentation time and duration, without decoding."""
        packets = [packet for packet in self._file.demux(self._stream) if packet.pts is not None]
        packets.sort(key=lambda packet: packet.pts or 0)
        self._times = [packet.pts for packet in packets]
        self._durations = [packet.duration or 0 for packet in packets]
        self._keyframe_indices = np.array(
            [index for index, packet in enumerate(packets) if packet.is_keyframe], dtype=np.int64
        )

    def _decode(self, indices: Sequence[int]) -> np.ndarray:
        try:
            frames = list(self._wanted_frames(indices))
        except _AV_ERRORS as error:
            raise DecodeError(self.name, f"PyAV: {error}") from None
        if len({frame.shape for frame in frames}) > 1:
            raise DecodeError(self.name, "the frame size changes within the video")
        if len(frames) < len(indices):
            raise DecodeError(self.name, f"{len(frames)} of {len(indices)} frames decoded")
        return np.stack(frames)  # (time, height, width, 3)

    def _wanted_frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yields the frames at increasing indices, seeking where a later keyframe saves work."""
        position, decoded = -1, iter(())  # position: index of the frame decoded last
        for index in indices:
            keyframe = self._keyframe_before(index)
            if position < 0 or keyframe > position:
                self._file.seek(self._times[keyframe], stream=self._stream)
                decoded = self._file.decode(self._stream)
            for frame in decoded:
                if frame.pts is not None and frame.pts >= self._times[index]:
                    if frame.pts == self._times[index]:
                        yield _upright(frame)
                    break
            position = index

    def _keyframe_before(self, index: int) -> int:
        """Returns the index of the last keyframe at or before a frame."""
        place = int(np.searchsorted(self._keyframe_indices, index, side="right")) - 1
        return int(self._keyframe_indices[place]) if place >= 0 else 0


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Returns a frame as a viewer shows it: telephones store it as the sensor lay, and the turn."""
    pixels = frame.to_ndarray(format="rgb24")  # (height, width, 3), as stored
    return np.rot90(pixels, round(frame.rotation / 90))  # both count anticlockwise
