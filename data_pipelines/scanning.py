"""Scanning: what is in a folder, a list or a bucket, written down as a manifest to read and edit.

A manifest is a CSV or Parquet table with a row per readable video; `pack` takes it as its source.
What cannot be read stands, with the reason, in a list beside it.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import os
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.decoders.base import DecoderName
from data_pipelines.image_packing import ImageProbe
from data_pipelines.isolated_probe import ProbeProcess
from data_pipelines.manifest import SkippedVideo, VerifyFrames
from data_pipelines.shard_writing import replace_durably, write_whole
from data_pipelines.urls import is_url
from data_pipelines.video_sources import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    VideoSource,
    find_sources,
    join,
    read_source,
)


@dataclass(frozen=True)
class ScanResult:
    """What a scan wrote.

    Attributes:
        manifest: the table of readable videos.
        skipped_list: the list of the others; not there if all can be read.
        rows: of the manifest, column -> value.
        skipped: the videos that cannot be read.
        remarks: on what was not looked at, a line each.
    """

    manifest: Path
    skipped_list: Path
    rows: tuple[dict[str, Any], ...]
    skipped: tuple[SkippedVideo, ...]
    remarks: tuple[str, ...] = ()


def scan_videos(
    source: str | Path,
    out: str | Path,
    *,
    decoder: DecoderName = "decord",
    verify_frames: VerifyFrames = "ends",
    with_sha256: bool = False,
    num_workers: int = 1,
    images: bool = False,
) -> ScanResult:
    """Looks at every video, or every image, and writes a manifest.

    The columns are path (absolute, or a URL), label, num_frames, fps, duration (seconds), height,
    width, and where the source has them or they are asked for group, start and end (seconds) and
    sha256.

    Args:
        source: a folder, a list of videos, or a bucket's URL (see `video_sources`).
        out: the manifest to write; its name ends in .csv or .parquet.
        decoder: which decoder to trust.
        verify_frames: decode the first and the last frame ("ends"), or all of them.
        with_sha256: hash each file as well.
        num_workers: processes that decode; of images threads.
        images: look for pictures; each counts as a video of one frame and one second.

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        ValueError: if it names no video, or none that can be read, or if `out` has another name.
        ImportError: if a package is missing that `source` or `out` needs.
    """
    out = Path(out)
    _refuse_wrong_name(out)
    if num_workers < 1:
        raise ValueError(f"num_workers={num_workers} must be at least 1")
    sources = find_sources(source, extensions=IMAGE_EXTENSIONS if images else VIDEO_EXTENSIONS)
    probes: list[ProbeProcess | ImageProbe] = [
        ImageProbe(sources.root)
        if images
        else ProbeProcess(sources.root, decoder=decoder, verify_frames=verify_frames)
        for _ in range(num_workers)
    ]
    rows, skipped = _Scanner(sources.root, probes, with_sha256).scan(sources.videos)
    if not rows:
        noun = "image" if images else "video"
        raise ValueError(
            f"no usable {noun} in {source}: {len(skipped)} of {len(skipped)} skipped; "
            f"first: {skipped[0].path}: {skipped[0].reason}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    skipped_list = out.with_name(f"{out.stem}.skipped.csv")
    _write_skipped(skipped_list, skipped)
    _write_table(out, rows)
    return ScanResult(out, skipped_list, tuple(rows), tuple(skipped), sources.remarks)


def _refuse_wrong_name(manifest: Path) -> None:
    """Says before the work, not after, that a manifest cannot be written."""
    if manifest.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{manifest}: a manifest's name ends in .csv or .parquet")
    if manifest.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ImportError(
            f"{manifest}: Parquet needs pyarrow: pip install pyarrow, or write a .csv"
        )


def _write_skipped(path: Path, skipped: Sequence[SkippedVideo]) -> None:
    if skipped:
        about = [{"path": video.path, "reason": video.reason} for video in skipped]
        write_whole(path, _csv_bytes(about))
    else:
        path.unlink(missing_ok=True)  # an earlier scan's


class _Columns(NamedTuple):
    """Which columns a manifest has that most have not."""

    has_parts: bool
    has_groups: bool


class _Scanner:
    """Reads rows with several probes; the order of the answers is that of the videos."""

    def __init__(
        self, root: str, probes: Sequence[ProbeProcess | ImageProbe], with_sha256: bool
    ) -> None:
        self.root = root
        self.with_sha256 = with_sha256
        self.probes = probes
        self._free: queue.SimpleQueue[ProbeProcess | ImageProbe] = queue.SimpleQueue()
        for probe in self.probes:
            self._free.put(probe)

    def scan(
        self, videos: tuple[VideoSource, ...]
    ) -> tuple[list[dict[str, Any]], list[SkippedVideo]]:
        """Returns the rows, and what cannot be read."""
        optional = _Columns(
            has_parts=any(video.is_part for video in videos),
            has_groups=any(video.group for video in videos),
        )
        rows, skipped = [], []
        executor = ThreadPoolExecutor(len(self.probes))
        try:
            for answer in executor.map(lambda video: self._read(video, optional), videos):
                (skipped if isinstance(answer, SkippedVideo) else rows).append(answer)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            for probe in self.probes:
                probe.kill()
            executor.shutdown()
            for probe in self.probes:
                probe.close()
        return rows, skipped

    def _read(self, video: VideoSource, optional: _Columns) -> dict[str, Any] | SkippedVideo:
        data = None
        if self.with_sha256:
            try:
                data = read_source(self.root, video.path)
            except OSError as error:
                return SkippedVideo(self._place(video), error.strerror or str(error))
        probe = self._free.get()
        try:
            row = probe.read_row(video.path, data)
        finally:
            self._free.put(probe)
        if isinstance(row, SkippedVideo):
            return SkippedVideo(self._place(video), row.reason)
        times = {"start": video.start_seconds, "end": video.end_seconds}
        values = {
            "path": self._place(video),
            "label": video.label,
            **({"group": video.group} if optional.has_groups else {}),
            "num_frames": row.metadata.num_frames,
            "fps": row.metadata.frames_per_second,
            "duration": row.metadata.duration_seconds,
            "height": row.metadata.height,
            "width": row.metadata.width,
            **(times if optional.has_parts else {}),
        }
        if data is not None:
            values["sha256"] = hashlib.sha256(data).hexdigest()
        return values

    def _place(self, video: VideoSource) -> str:
        place = join(self.root, video.path)
        return place if is_url(place) else os.path.abspath(place)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".csv":
        write_whole(path, _csv_bytes(rows))
        return
    from data_pipelines.parquet import ParquetWriter

    unfinished = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with ParquetWriter(unfinished) as file:
            file.add({name: [row[name] for row in rows] for name in rows[0]})
        replace_durably(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _csv_bytes(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
