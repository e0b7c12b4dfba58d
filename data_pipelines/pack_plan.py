"""The plan of a pack: which video goes into which shard, before any of them is opened.

A plan is a pure function of the sorted list of videos (path, size, time of change) and of the
settings. Therefore any number of workers, and a pack that was killed and started again, write the
same shards.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipelines.decoders.base import DecoderName
from data_pipelines.manifest import VerifyFrames
from data_pipelines.recoding import RecodeSettings
from data_pipelines.samples import parse_json
from data_pipelines.shard_writing import KEY_CHARACTERS, key_of_path
from data_pipelines.tar_headers import ShardError
from data_pipelines.video_sources import VideoSource, VideoSources, size_and_time

PLAN_FORMAT, PLAN_VERSION = "pack-plan", 1
JSON_RESERVE_BYTES = 900  # a sample's JSON member is shorter than this and its names together
SCENE_CHARACTERS = len("-scene000000")


@dataclass(frozen=True)
class PackSettings:
    """What shards look like, whoever packs them.

    Attributes:
        samples_per_shard: at most so many videos in one shard.
        max_shard_bytes: a shard is closed before the files in it exceed this (one file may).
        decoder: which decoder must be able to read a video for it to be packed.
        verify_frames: decode the first and last frame of each video ("ends"), or all of them.
        recode: how videos are encoded anew; None leaves their bytes as they are.
        min_seconds: a sample that is shorter is skipped.
        min_frames: a sample with fewer frames is skipped.
    """

    samples_per_shard: int = 256
    max_shard_bytes: int = 1 << 30
    decoder: DecoderName = "decord"
    verify_frames: VerifyFrames = "ends"
    recode: RecodeSettings | None = None
    min_seconds: float = 0.0
    min_frames: int = 0

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1 or self.max_shard_bytes < 1:
            raise ValueError(
                f"samples_per_shard={self.samples_per_shard} and "
                f"max_shard_bytes={self.max_shard_bytes} must be at least 1"
            )

    @property
    def splits_scenes(self) -> bool:
        """Returns whether one video may give several samples."""
        return self.recode is not None and self.recode.split_scenes is not None


@dataclass(frozen=True)
class PlannedVideo:
    """A video with its key, and how its file looked when the plan was made.

    Attributes:
        source: where it is.
        key: of its sample.
        num_bytes: size of its file, None if it could not be looked up.
        modified: when the file was changed, as `size_and_time` says it.
    """

    source: VideoSource
    key: str
    num_bytes: int | None
    modified: int | str | None


@dataclass(frozen=True)
class PackPlan:
    """Settings, and the videos of each shard.

    Attributes:
        settings: as plain values.
        shards: the videos of each, in order.
    """

    settings: dict[str, Any]
    shards: tuple[tuple[PlannedVideo, ...], ...]

    @property
    def videos(self) -> Iterator[PlannedVideo]:
        """Yields all videos in their order."""
        return (video for shard in self.shards for video in shard)

    @property
    def fingerprint(self) -> str:
        """Returns a hash of settings and inputs, times of change left out.

        Copies of a folder, packed alike, have equal fingerprints.
        """
        inputs = [[v.key, asdict(v.source), v.num_bytes] for v in self.videos]
        text = json.dumps([PLAN_VERSION, self.settings, inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values; `from_json` is the inverse."""
        return {
            "format": PLAN_FORMAT,
            "version": PLAN_VERSION,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "shards": [[asdict(video) for video in shard] for shard in self.shards],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PackPlan:
        """Builds the plan that `to_json` wrote."""
        shards = tuple(
            tuple(PlannedVideo(**{**v, "source": VideoSource(**v["source"])}) for v in shard)
            for shard in values["shards"]
        )
        return cls(values["settings"], shards)

    @classmethod
    def load(cls, path: Path) -> PackPlan:
        """Reads a plan.

        Raises:
            ShardError: if it is damaged or of another version.
        """
        values = parse_json(path.read_bytes(), str(path))
        try:
            plan = cls.from_json(values)
        except (KeyError, TypeError) as error:
            raise ShardError(f"{path} is damaged ({type(error).__name__}: {error})") from None
        if values.get("version") != PLAN_VERSION or values.get("fingerprint") != plan.fingerprint:
            raise ShardError(f"{path} is damaged or of another version; pack anew with --overwrite")
        return plan


def make_plan(sources: VideoSources, settings: PackSettings) -> PackPlan:
    """Returns which video goes into which shard; looks at sizes and times, opens nothing."""
    for source in sources.videos:
        if source.is_part and settings.recode is None:
            raise ValueError(
                f"{source.name}: a part of a video (start, end) can only be packed if it is "
                "encoded anew; say how, such as --gop 8"
            )
    taken: set[str] = set()
    longest = KEY_CHARACTERS - (SCENE_CHARACTERS if settings.splits_scenes else 0)
    shards: list[list[PlannedVideo]] = []
    num_bytes = 0
    for source in sources.videos:
        video = _planned(sources.root, source, taken, longest)
        taken.add(video.key)
        extra_bytes = _expected_bytes(video)
        is_full = not shards or len(shards[-1]) >= settings.samples_per_shard
        if is_full or num_bytes + extra_bytes > settings.max_shard_bytes:
            shards.append([])
            num_bytes = 0
        shards[-1].append(video)
        num_bytes += extra_bytes
    plain_settings = json.loads(json.dumps(asdict(settings)))
    if settings.recode is not None:  # another encoder gives other bytes
        plain_settings["encoder"] = f"PyAV {importlib.metadata.version('av')}"
    return PackPlan(plain_settings, tuple(tuple(shard) for shard in shards))


def explain_difference(old: PackPlan, new: PackPlan) -> str | None:
    """Returns the first thing that differs between two plans, or None if nothing does."""
    for name in sorted({*old.settings, *new.settings}):
        before, now = old.settings.get(name), new.settings.get(name)
        if before != now:
            return f"{name} was {before} and is {now}"
    before_by_name = {video.source.name: video for video in old.videos}
    now_by_name = {video.source.name: video for video in new.videos}
    for name in sorted({*before_by_name, *now_by_name}):
        if name not in now_by_name:
            return f"{name} is gone"
        if name not in before_by_name:
            return f"{name} is new"
        if before_by_name[name] != now_by_name[name]:
            return f"{name} changed"
    return None if old == new else "the division into shards differs"


def _planned(root: str, source: VideoSource, taken: set[str], longest: int) -> PlannedVideo:
    path = source.path
    if source.is_part:  # the part's name, with the extension where a path has it
        stem, _, extension = path.rpartition(".")
        path = f"{stem}{source.name[len(source.path) :]}.{extension}"
    key = key_of_path(path, taken=taken, max_characters=longest)
    return PlannedVideo(source, key, *size_and_time(root, source.path))


def _expected_bytes(video: PlannedVideo) -> int:
    names: Sequence[str | None] = (video.source.path, video.source.path, video.source.label)
    return (video.num_bytes or 0) + JSON_RESERVE_BYTES + sum(len(json.dumps(n)) for n in names)
