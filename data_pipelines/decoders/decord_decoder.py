"""decord: the default decoder. The only file that imports decord.

One short-lived reader per video, one thread, from bytes: readers kept open grow without limit
(decord issue 157), and readers made before a fork hang (294).

DECORD_EOF_RETRY_MAX is left at decord's 10,240. It looks like a bound on the time that a damaged
file costs, but what it counts are packets read while the first frame is still being decoded, and
packets that give no frame; once all are read it is the limit. At 128, whole files of 300 frames
were refused, by chance; damaged ones, up to 1080p, are refused within 0.3 s at 10,240 and at
1,000,000 alike.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import decord  # pyright: ignore[reportMissingImports]
import numpy as np

from data_pipelines.decoders.base import (
    VideoDecoder,
    checked_timestamps,
    metadata_from_timestamps,
)
from data_pipelines.frames import DecodeError, VideoMetadata

decord.logging.set_level(decord.logging.FATAL)  # FFmpeg's own complaints; ours name the video

_DECORD_ERRORS = (decord.DECORDError, RuntimeError, IndexError)


class DecordDecoder(VideoDecoder):
    """Decodes with decord 0.6 (or decord2) on the CPU."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data, name)
        try:
            self._reader = decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
        except _DECORD_ERRORS:  # its message quotes the file's bytes: not repeated
            raise DecodeError(name, "decord cannot open it (damaged or no video track)") from None
        self._spans_seconds = self._read_spans()  # (num_frames, 2)
        self._timestamps_seconds = checked_timestamps(self._spans_seconds[:, 0], name)

    def metadata(self) -> VideoMetadata:
        """Returns frame count, rate, duration and size; decodes the first frame for the size."""
        height, width = self._decode([0]).shape[1:3]
        last_start, last_end = self._spans_seconds[-1]
        duration_seconds = float(self._timestamps_seconds[-1] + (last_end - last_start))
        return metadata_from_timestamps(
            self._timestamps_seconds, duration_seconds, height=height, width=width
        )

    def timestamps_seconds(self) -> np.ndarray:
        """Returns when each frame starts: (num_frames,), float64, the first one 0."""
        return self._timestamps_seconds

    def close(self) -> None:
        """Frees the reader."""
        self._reader = None

    def _decode(self, indices: Sequence[int]) -> np.ndarray:
        if self._reader is None:
            raise ValueError(f"{self.name}: the decoder is closed")
        try:
            return self._reader.get_batch(indices).asnumpy()  # (time, height, width, 3)
        except _DECORD_ERRORS as error:
            raise DecodeError(self.name, f"decord: {_reason(error)}") from None

    def _read_spans(self) -> np.ndarray:
        """Returns start and end of every frame in seconds: (num_frames, 2), float64."""
        try:
            num_frames = len(self._reader)  # pyright: ignore[reportArgumentType]
            spans = self._reader.get_frame_timestamp(range(num_frames))  # pyright: ignore
        except _DECORD_ERRORS as error:
            raise DecodeError(self.name, f"decord: {_reason(error)}") from None
        return np.asarray(spans, dtype=np.float64).reshape(-1, 2)


def _reason(error: Exception) -> str:
    """Returns what decord says after its source location, without the stack trace."""
    text = str(error).strip().splitlines()
    if text and "size must exactly match" in text[0]:  # it takes the padding of rows for colours
        return "cannot read frames as narrow as these; use the pyav decoder, or make them wider"
    return re.sub(r"^.*\.(cc|h):\d+: ", "", text[0]) if text else type(error).__name__
