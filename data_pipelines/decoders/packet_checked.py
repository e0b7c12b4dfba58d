"""Decoders that seek by counting frames: used where counting is right, PyAV elsewhere.

decord and torchcodec return other frames than the asked ones, and say nothing, when a keyframe is
no clean start: see `PacketList.seeks_are_exact`. PyAV's packet list tells such videos apart. So
they do in containers without an index (Flash, MPEG streams, WMV), whose seeks are guesses. And they
return other colours of videos with more than 8 bits and of interlaced ones. PyAV decodes all these,
so the name of the decoder changes no pixel.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.decoders.base import (
    INDEXED_CONTAINERS,
    VideoDecoder,
    metadata_from_timestamps,
)
from data_pipelines.decoders.pyav_decoder import PacketList, PyavDecoder
from data_pipelines.frames import VideoMetadata


class PacketCheckedDecoder(VideoDecoder):
    """Takes times from PyAV's packet list, and pixels from a reader where that one is exact."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data, name)
        self._pyav = PyavDecoder(data, name)  # lists packets, decodes nothing
        self._reader: Any = None  # stays None where PyAV decodes
        is_exact = self._pyav.packets.seeks_are_exact and self._pyav.has_plain_colours
        if self.container in INDEXED_CONTAINERS and is_exact:
            self._reader = self._open_reader(data, self._pyav.packets)

    @abstractmethod
    def _open_reader(self, data: bytes, packets: PacketList) -> object | None:
        """Returns the library's reader; None if it cannot be trusted with this video."""

    @abstractmethod
    def _read(self, indices: Sequence[int]) -> np.ndarray:
        """Returns the frames at indices that are increasing, unique and in range."""

    def metadata(self) -> VideoMetadata:
        """Returns frame count, rate, duration and size; decodes the first frame for the size."""
        height, width = self._decode([0]).shape[1:3]
        return metadata_from_timestamps(
            self.timestamps_seconds(), self._pyav.duration_seconds(), height=height, width=width
        )

    def timestamps_seconds(self) -> np.ndarray:
        """Returns when each frame starts: (num_frames,), float64, the first one 0."""
        return self._pyav.timestamps_seconds()

    def close(self) -> None:
        """Frees the reader."""
        self._reader = None
        self._pyav.close()

    def _decode(self, indices: Sequence[int]) -> np.ndarray:
        return self._pyav._decode(indices) if self._reader is None else self._read(indices)
