"""decord: the default decoder. The only file that imports decord.

One short-lived reader per video, one thread, from bytes: readers kept open grow without limit
(decord issue 157), and readers made before a fork hang (294).

decord finds a frame by counting from a keyframe's place in the file, which it takes for the place
at which the keyframe is shown. Where the two differ it gives other frames and says nothing: in an
open GOP (x265's default) up to a keyframe interval off, with an edit list that hides the first
frames all of them. It reads no times from AVI files with B-frames. Its wheels cannot decode AV1.
PyAV decodes such videos.

DECORD_EOF_RETRY_MAX is left at decord's 10,240. It looks like a bound on the time that a damaged
file costs, but what it counts are packets read while the first frame is still being decoded, and
packets that give no frame; once all are read it is the limit. At 128, whole files of 300 frames
were refused, by chance; damaged ones, up to 1080p, are refused within 0.3 s at 10,240 and at
1,000,000 alike.
"""

from __future__ import annotations

import ctypes
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from data_pipelines.decoders.packet_checked import PacketCheckedDecoder
from data_pipelines.decoders.pyav_decoder import PacketList
from data_pipelines.frames import DecodeError


@contextmanager
def _kept_to_itself() -> Iterator[None]:
    """Lets a library be loaded so that none that is loaded later takes its symbols.

    decord opens its own for all (RTLD_GLOBAL), with the zlib in it: pygame, if loaded afterwards,
    then reads no PNG any more ("bad parameters to zlib").
    """
    for_all = ctypes.RTLD_GLOBAL
    ctypes.RTLD_GLOBAL = ctypes.RTLD_LOCAL
    try:
        yield
    finally:
        ctypes.RTLD_GLOBAL = for_all


with _kept_to_itself():
    import decord  # pyright: ignore[reportMissingImports]

decord.logging.set_level(decord.logging.FATAL)  # FFmpeg's own complaints; ours name the video

_DECORD_ERRORS = (decord.DECORDError, RuntimeError, IndexError)

# FFmpeg's AVERROR_DECODER_NOT_FOUND, as decord says it when it looks for a stream of video.
_NO_CODEC = "(-1128613112 vs. 0)"


class DecordDecoder(PacketCheckedDecoder):
    """Decodes with decord 0.6 (or decord2) on the CPU, where decord gives the asked frames."""

    def _open_reader(self, data: bytes, packets: PacketList) -> object | None:
        try:
            reader = decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
        except _DECORD_ERRORS as error:  # its message quotes the file's bytes: not repeated
            if _NO_CODEC in str(error):
                return None
            reason = "decord cannot open it (damaged, or of an unusual kind; try the pyav decoder)"
            raise DecodeError(self.name, reason) from None
        try:
            spans = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)
        except _DECORD_ERRORS as error:
            raise DecodeError(self.name, f"decord: {_reason(error)}") from None
        return reader if _agree(spans.reshape(-1, 2)[:, 0], self.timestamps_seconds()) else None

    def _read(self, indices: Sequence[int]) -> np.ndarray:
        try:
            return self._reader.get_batch(indices).asnumpy()  # (time, height, width, 3)
        except _DECORD_ERRORS as error:
            raise DecodeError(self.name, f"decord: {_reason(error)}") from None


def _agree(starts_seconds: np.ndarray, timestamps_seconds: np.ndarray) -> bool:
    """Returns whether decord, which has 32-bit floats, knows the same frames at the same times."""
    if len(starts_seconds) != len(timestamps_seconds):
        return False
    shifted = starts_seconds - starts_seconds[0]
    return np.allclose(shifted, timestamps_seconds, rtol=1e-6, atol=1e-3)


def _reason(error: Exception) -> str:
    """Returns what decord says after its source location, without the stack trace."""
    text = str(error).strip().splitlines()
    if text and "size must exactly match" in text[0]:  # it takes the padding of rows for colours
        return "cannot read frames as narrow as these; use the pyav decoder, or make them wider"
    return re.sub(r"^.*\.(cc|h):\d+: ", "", text[0]) if text else type(error).__name__
