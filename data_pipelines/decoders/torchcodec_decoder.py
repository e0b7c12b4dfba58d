"""torchcodec: an optional decoder, for machines that have FFmpeg's libraries.

The only file that imports torchcodec. It needs a version that fits torch (0.12 or 0.13 with a
CPU-only torch 2.13; from 0.14 on the wheels want CUDA's libraries) and FFmpeg 4 to 8 installed.

It has no way to list the times of frames without decoding them, so it is given PyAV's packet list.
That also spares its own scan, which in 0.11 and 0.12 loses memory when a video comes as bytes. In
open GOPs it misses frames, and in videos refreshed piecemeal it gives wrong ones: PyAV decodes
both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from data_pipelines.decoders.packet_checked import PacketCheckedDecoder
from data_pipelines.decoders.pyav_decoder import PacketList
from data_pipelines.frames import DecodeError

try:
    from torchcodec.decoders import (  # pyright: ignore[reportMissingImports]
        VideoDecoder as Reader,  # pyright: ignore[reportPrivateImportUsage]
    )
except ImportError as error:
    raise ImportError(
        "the torchcodec decoder needs torchcodec: pip install 'jepa-planning[torchcodec]'"
    ) from error
except (OSError, RuntimeError) as error:  # its message is a page of tracebacks, one per FFmpeg
    raise ImportError(
        "torchcodec is installed but cannot load its libraries: install FFmpeg 4 to 8 (Debian: "
        "apt-get install ffmpeg) and a torchcodec for this torch (CPU-only: 0.12 or 0.13)"
    ) from error

_TORCHCODEC_ERRORS = (RuntimeError, ValueError, IndexError, MemoryError)


class TorchcodecDecoder(PacketCheckedDecoder):
    """Decodes with torchcodec on the CPU, one thread, where it gives the asked frames."""

    def _open_reader(self, data: bytes, packets: PacketList) -> object | None:
        try:
            return Reader(
                data,
                stream_index=packets.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device="cpu",
                custom_frame_mappings=_frame_mappings(packets),
            )
        except _TORCHCODEC_ERRORS as error:
            raise DecodeError(self.name, f"torchcodec cannot open it: {error}") from None

    def _read(self, indices: Sequence[int]) -> np.ndarray:
        try:
            return self._reader.get_frames_at(list(indices)).data.numpy()
        except _TORCHCODEC_ERRORS as error:
            raise DecodeError(self.name, f"torchcodec: {error}") from None


def _frame_mappings(packets: PacketList) -> str:
    """Returns the frames, in the order they are shown, as ffprobe would list them."""
    columns = zip(
        packets.times.tolist(),
        packets.durations.tolist(),
        packets.is_keyframe.tolist(),
        strict=True,
    )
    return json.dumps(
        {
            "frames": [
                {"pts": time, "duration": duration, "key_frame": int(is_keyframe)}
                for time, duration, is_keyframe in columns
            ]
        }
    )
