"""One shard as a job: all that a worker needs to write it, in this process or on another machine.

A job's result is a function of the job alone, so it may run twice: the shard and its record are
written under names that no other attempt has, then renamed.
"""

from __future__ import annotations

import json
import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from data_pipelines.frames import VideoMetadata
from data_pipelines.isolated_probe import ProbeProcess
from data_pipelines.manifest import SkippedVideo
from data_pipelines.pack_plan import ImagePackSettings, PackSettings, PlannedVideo
from data_pipelines.recoding import RecodedScene
from data_pipelines.remote_files import (
    RemoteFileError,
    RemoteFileMissingError,
    RemoteFileRefusedError,
    RemoteFiles,
)
from data_pipelines.samples import Sample, Shard, shard_to_json
from data_pipelines.shard_writing import (
    replace_durably,
    sample_json,
    shard_name,
    write_shard,
    write_whole,
)
from data_pipelines.tar_headers import ShardError
from data_pipelines.urls import is_url
from data_pipelines.video_sources import join, read_source, size_and_time

RECODE_TIMEOUT_SECONDS = 4 * 3600.0  # for one video

Packed = tuple[Sample, dict[str, bytes]]  # a sample and its members, extension -> bytes


class PackingStopped(Exception):
    """Another worker failed, or the user stopped the pack."""


@dataclass(frozen=True)
class ShardJob:
    """One shard of a plan, to be written.

    Attributes:
        number: of the shard.
        videos: what goes into it.
        settings: what its samples look like.
        root: folder or URL that the videos' paths are relative to.
        folder: where the shard and its record go; it exists.
        encoder: what encodes videos anew, None if nothing does.
    """

    number: int
    videos: tuple[PlannedVideo, ...]
    settings: PackSettings | ImagePackSettings
    root: str
    folder: str
    encoder: str | None = None

    @property
    def shard(self) -> Path:
        """Returns where the shard will be."""
        return Path(self.folder, shard_name(self.number))

    @property
    def record(self) -> Path:
        """Returns where it will be written what is in the shard, when the shard is there."""
        return Path(self.folder, f"{shard_name(self.number)}.json")


class Packer(ABC):
    """Makes samples of files.

    Args:
        root: folder or URL that paths are relative to.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.is_stopped = False

    @abstractmethod
    def pack(self, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        """Returns the samples of one file, or why it gives none."""

    def samples(
        self, videos: tuple[PlannedVideo, ...], skipped: list[SkippedVideo]
    ) -> Iterator[Packed]:
        """Yields the samples of a shard; what cannot be used goes to `skipped`."""
        for video in videos:
            answers = self.pack(video)
            if self.is_stopped:  # a child may have been ended: its answer counts no more
                raise PackingStopped
            _refuse_changed(self.root, video)
            for answer in answers:
                if isinstance(answer, SkippedVideo):
                    skipped.append(answer)
                else:
                    yield answer

    def stop(self) -> None:
        """Makes `samples` end soon; called from another thread."""
        self.is_stopped = True

    def close(self) -> None:  # noqa: B027 (most have nothing to free)
        """Frees what it holds."""


class VideoPacker(Packer):
    """Copies videos or encodes them anew; a child process of its own decodes."""

    def __init__(self, root: str, settings: PackSettings) -> None:
        super().__init__(root)
        self.settings = settings
        self.probe = ProbeProcess(
            root,
            decoder=settings.decoder,
            verify_frames=settings.verify_frames,
            timeout_seconds=600.0 if settings.recode is None else RECODE_TIMEOUT_SECONDS,
            recode_settings=settings.recode,
        )

    def pack(self, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        """Returns the samples of a video: one, or one for each scene."""
        return self._copy(video) if self.settings.recode is None else self._recode(video)

    def stop(self) -> None:
        """Ends the child too."""
        super().stop()
        self.probe.kill()

    def close(self) -> None:
        """Ends the child."""
        self.probe.close()

    def _copy(self, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        path = video.source.path
        data = read_planned(self.root, video)
        if isinstance(data, SkippedVideo):
            return [data]
        row = self.probe.read_row(path, data)
        if isinstance(row, SkippedVideo):
            return [row]
        if misfit := self._misfit(row.metadata):
            return [SkippedVideo(path, misfit)]
        source = video.source
        sample = Sample(
            video.key, "", {}, row.metadata, label=source.label, source=path, group=source.group
        )
        extension = path.rpartition(".")[2].lower()
        return [(sample, {extension: data, "json": sample_json(sample, num_bytes=len(data))})]

    def _recode(self, video: PlannedVideo) -> list[Packed | SkippedVideo]:
        source, data = video.source, None
        if is_url(self.root):  # of a file, the child reads for itself
            data = read_planned(self.root, video)
            if isinstance(data, SkippedVideo):
                return [SkippedVideo(source.name, data.reason)]
        answer = self.probe.recode(
            source.path,
            data,
            start_seconds=source.start_seconds,
            end_seconds=source.end_seconds,
        )
        if isinstance(answer, SkippedVideo):
            return [SkippedVideo(source.name, answer.reason)]
        original, scenes = answer
        return [self._scene(video, original, *scene) for scene in enumerate(scenes)]

    def _scene(
        self, video: PlannedVideo, original: VideoMetadata, number: int, scene: RecodedScene
    ) -> Packed | SkippedVideo:
        """Returns the sample of a scene, or of the whole video if nothing is split."""
        source, settings = video.source, self.settings.recode
        assert settings is not None
        splits = self.settings.splits_scenes
        if misfit := self._misfit(scene.metadata):
            name = f"{source.name} (scene {number})" if splits else source.name
            return SkippedVideo(name, misfit)
        sample = Sample(
            f"{video.key}-scene{number:03d}" if splits else video.key,
            "",
            {},
            scene.metadata,
            label=source.label,
            source=source.path,
            group=source.group or (source.path if splits or source.is_part else ""),
        )
        about = sample_json(
            sample,
            num_bytes=len(scene.data),
            start_seconds=scene.start_seconds,
            original={**asdict(original), "num_bytes": video.num_bytes},
            recoded=settings.to_json(),
        )
        return sample, {"mp4": scene.data, "json": about}

    def _misfit(self, metadata: VideoMetadata) -> str | None:
        """Returns why a sample is too short, or None."""
        if metadata.duration_seconds < self.settings.min_seconds:
            return (
                f"too short: {metadata.duration_seconds:.2f} s, "
                f"at least {self.settings.min_seconds:g} s are asked for"
            )
        if metadata.num_frames < self.settings.min_frames:
            return (
                f"too short: {metadata.num_frames} frames, "
                f"at least {self.settings.min_frames} are asked for"
            )
        return None


def open_packer(job: ShardJob) -> Packer:
    """Returns what makes the samples of a job, and of all jobs of its plan."""
    if isinstance(job.settings, ImagePackSettings):
        from data_pipelines.image_packing import ImagePacker

        return ImagePacker(job.root, job.settings)
    return VideoPacker(job.root, job.settings)


def write_job(job: ShardJob, packer: Packer) -> None:
    """Writes a shard, if it has samples, and then its record.

    Raises:
        ShardError: if a file changes while it is packed.
        OSError: if one is out of reach; the same job may be tried again.
        PackingStopped: if the packer was stopped.
    """
    attempt = f"{platform.node()}-{os.getpid()}"  # two machines may try the same shard
    unfinished = job.shard.with_suffix(f".{attempt}.tmp")
    skipped: list[SkippedVideo] = []
    try:
        samples = packer.samples(job.videos, skipped)
        shard: Shard | None = write_shard(unfinished, samples, final=str(job.shard))
        if shard.samples:
            replace_durably(unfinished, job.shard)
        else:
            shard = None
    finally:
        unfinished.unlink(missing_ok=True)
    record = {
        "shard": shard and shard_to_json(shard),
        "skipped": [asdict(video) for video in skipped],
    }
    unfinished = job.record.with_suffix(f".{attempt}.tmp-json")
    write_whole(job.record, json.dumps(record).encode(), unfinished=unfinished)


def read_planned(root: str, video: PlannedVideo) -> bytes | SkippedVideo:
    """Returns a planned file's bytes, or why there are none.

    Args:
        root: folder or URL.
        video: whose size is known, so that a store is not asked for it again.

    Raises:
        OSError: if a store cannot be reached now: the video may be whole, and would be lost.
    """
    path = video.source.path
    try:
        if is_url(root) and video.num_bytes is not None:
            return RemoteFiles().read(join(root, path), 0, video.num_bytes)
        return read_source(root, path)
    except (RemoteFileMissingError, RemoteFileRefusedError) as error:
        return SkippedVideo(path, str(error))
    except RemoteFileError as error:
        raise _out_of_reach(error) from None
    except OSError as error:
        return SkippedVideo(path, error.strerror or str(error))


def _refuse_changed(root: str, video: PlannedVideo) -> None:
    """Raises if a file is not as it was when the plan was made, or if that cannot be told."""
    path = video.source.path
    try:
        now = size_and_time(root, path)
    except OSError as error:
        raise _out_of_reach(error) from None
    if now != (video.num_bytes, video.modified):
        what = "was removed" if now[0] is None else "changed"
        raise ShardError(
            f"{path} {what} while it was packed (size or time); pack again when the videos are at "
            "rest, with --overwrite"
        )


def _out_of_reach(error: OSError) -> RemoteFileError:
    return RemoteFileError(
        f"{error}; it may be whole, so it is not left out: finished shards are kept, run again "
        "to go on when it can be reached"
    )
