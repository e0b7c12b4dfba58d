"""Packing videos: a plan, workers that take its shards, and one moment when the set appears.

The plan is in `pack_plan`, a shard as a job in `shard_jobs`, who runs the jobs in
`packing_engines`, and what keeps a pack that is killed from being lost in `pack_staging`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.decoders.base import DecoderName, decoder_class
from data_pipelines.manifest import SkippedVideo, VerifyFrames
from data_pipelines.pack_plan import ImagePackSettings, PackPlan, PackSettings, make_plan
from data_pipelines.pack_staging import PLAN_NAME, STAGING_NAME, Staging
from data_pipelines.packing_engines import LocalEngine, PackingEngine
from data_pipelines.recoding import RecodeSettings
from data_pipelines.shard_index import MAX_LISTED, ShardIndex
from data_pipelines.video_sources import IMAGE_EXTENSIONS, VideoSources, exact, find_sources

__all__ = ["PLAN_NAME", "STAGING_NAME", "PackResult", "pack_images", "pack_videos"]


@dataclass(frozen=True)
class PackResult:
    """What was packed, and what was not.

    Attributes:
        folder: where the shards are.
        index: as written to `index.json`.
        was_there: the set was finished before, and nothing was done.
        remarks: on what was left out, listed twice or is shorter than asked for, a line each.
    """

    folder: Path
    index: ShardIndex
    was_there: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def num_samples(self) -> int:
        """Returns how many videos or trajectories were packed."""
        return self.index.num_samples

    @property
    def skipped(self) -> tuple[SkippedVideo, ...]:
        """Returns the videos that could not be packed, with reasons."""
        return self.index.skipped


def pack_videos(
    folder: str | Path,
    out: str | Path,
    *,
    samples_per_shard: int = 256,
    max_shard_bytes: int = 1 << 30,
    decoder: DecoderName = "decord",
    verify_frames: VerifyFrames = "ends",
    recode: RecodeSettings | None = None,
    min_seconds: float = 0.0,
    min_frames: int = 0,
    overwrite: bool = False,
    num_workers: int = 1,
    engine: PackingEngine | None = None,
) -> PackResult:
    """Packs every readable video of a folder or a list, bytes unchanged or encoded anew.

    A pack that was stopped goes on when it is asked for again with the same arguments; the shards
    and the index are then, byte for byte, those of a pack that was not stopped. One that was
    finished is returned as it is, if names and sizes of the videos are what they were.

    Args:
        folder: searched with its sub-folders, and a video's sub-folder is its label; or a list of
            videos, or a bucket's URL (see `video_sources`).
        out: where `shard-000000.tar`, ... and `index.json` go.
        samples_per_shard: at most so many videos in one shard.
        max_shard_bytes: a shard is closed before the files in it exceed this (one file may).
        decoder: which decoder must be able to read a video for it to be packed.
        verify_frames: decode the first and last frame of each video ("ends"), or all of them.
        recode: how videos are encoded anew; None leaves their bytes as they are.
        min_seconds: a sample that is shorter is skipped and named.
        min_frames: a sample with fewer frames is skipped and named.
        overwrite: replace the shards that are in `out`, or an unfinished pack of something else.
        num_workers: processes that decode, each with a shard of its own.
        engine: who packs; None: threads of this process, `num_workers` of them.

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if it holds no video, or none that can be read.
        ShardError: if `out` holds a set or an unfinished pack of other videos or settings and
            overwrite is False, or if a video changes while it is packed.
        OSError: if a store cannot be reached; what is finished is kept, and the pack goes on when
            it is asked for again.
    """
    settings = PackSettings(
        samples_per_shard,
        max_shard_bytes,
        decoder,
        verify_frames,
        recode=recode,
        min_seconds=min_seconds,
        min_frames=min_frames,
    )
    decoder_class(decoder)  # not installed: say so before the work
    engine = engine or LocalEngine(num_workers)
    return _pack(find_sources(folder), settings, folder, out, overwrite=overwrite, engine=engine)


def pack_images(
    folder: str | Path,
    out: str | Path,
    *,
    samples_per_shard: int = 4096,
    max_shard_bytes: int = 1 << 30,
    short_side: int | None = None,
    overwrite: bool = False,
    engine: PackingEngine | None = None,
) -> PackResult:
    """Packs every readable picture of a folder or a list, bytes unchanged or as smaller JPEG.

    A sample is a picture and its JSON; its metadata are those of a video of one frame that lasts
    one second.

    Args:
        folder: searched with its sub-folders, and a picture's sub-folder is its label; or a list
            of pictures, or a bucket's URL (see `video_sources`).
        out: as in `pack_videos`, and so the arguments below that are not explained.
        samples_per_shard: see there.
        max_shard_bytes: see there.
        short_side: pixels; larger pictures are made smaller and encoded as JPEG of quality 95,
            upright and without transparency, and the others too. None copies the files.
        overwrite: see there.
        engine: who packs; None: one thread of this process.

    Raises:
        FileNotFoundError: if there is no such folder or list.
        ValueError: if it holds no picture, or none that can be read.
        ShardError: as in `pack_videos`.
    """
    settings = ImagePackSettings(samples_per_shard, max_shard_bytes, short_side)
    sources = find_sources(folder, extensions=IMAGE_EXTENSIONS)
    return _pack(sources, settings, folder, out, overwrite=overwrite, engine=engine)


def _pack(
    sources: VideoSources,
    settings: PackSettings | ImagePackSettings,
    folder: str | Path,
    out: str | Path,
    *,
    overwrite: bool,
    engine: PackingEngine | None,
) -> PackResult:
    """Runs the jobs that are missing; returns the finished set."""
    staging, plan = Staging(Path(out)), make_plan(sources, settings)
    index = staging.begin(plan, overwrite=overwrite)
    was_there = index is not None
    if index is None:
        with staging:
            (engine or LocalEngine()).run(staging.missing_jobs(sources.root, settings))
            index = staging.finish(str(folder))
    remarks = (*sources.remarks, *_remark_on_short_parts(plan, index))
    return PackResult(Path(out), index, was_there, remarks)


def _remark_on_short_parts(plan: PackPlan, index: ShardIndex) -> tuple[str, ...]:
    """Returns a line on the parts that lack frames, as they reach beyond the end of their video."""
    seconds_of = _seconds_of_videos(index)
    skipped = {re.sub(r" \(scene \d+\)$", "", video.path) for video in index.skipped}
    short = []
    for source, key in ((video.source, video.key) for video in plan.videos):
        if source.end_seconds is None or key not in seconds_of or source.name in skipped:
            continue
        asked = source.end_seconds - (source.start_seconds or 0.0)
        seconds, frame_seconds = seconds_of[key]
        if seconds < asked - 0.02 * frame_seconds:  # at least one frame is missing
            short.append(f"{source.name} has {seconds:.2f} s of {exact(round(asked, 6))} s")
    if not short:
        return ()
    more = f"; and {len(short) - MAX_LISTED} more" if len(short) > MAX_LISTED else ""
    listed = "; ".join(short[:MAX_LISTED])
    return (f"shortened: {len(short)} parts reach beyond the end of their video: {listed}{more}",)


def _seconds_of_videos(index: ShardIndex) -> dict[str, tuple[float, float]]:
    """Returns key of a planned video -> seconds of its samples together, and of one frame."""
    found: dict[str, tuple[float, float]] = {}
    for sample in index.samples:
        if sample.metadata is not None:
            key = re.sub(r"-scene\d+$", "", sample.key)
            before = found.get(key, (0.0, 0.0))[0]
            frame_seconds = 1.0 / sample.metadata.frames_per_second
            found[key] = before + sample.metadata.duration_seconds, frame_seconds
    return found
