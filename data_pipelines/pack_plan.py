"""The plan of a pack: which video goes into which shard, before any of them is opened.

A plan is a pure function of the sorted list of videos (path, size, time of change) and of the
settings. Therefore any number of workers, and a pack that was killed and started again, write the
same shards.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data_pipelines.decoders.base import DecoderName
from data_pipelines.manifest import VerifyFrames
from data_pipelines.recoding import RecodeSettings
from data_pipelines.samples import parse_json
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_writing import KEY_CHARACTERS, key_of_path
from data_pipelines.tar_headers import ShardError
from data_pipelines.video_sources import VideoSource, VideoSources, sizes_and_times

PLAN_FORMAT, PLAN_VERSION = "pack-plan", 1
JSON_RESERVE_BYTES = 900  # a sample's JSON member is shorter than this and its names together
SCENE_CHARACTERS = len("-scene000000")
_PART_OR_SCENE = r"(\[[^]/]*\])?( \(scene \d+\))?$"  # behind the path of a skipped video


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
        _refuse_small(self.samples_per_shard, self.max_shard_bytes)

    @property
    def splits_scenes(self) -> bool:
        """Returns whether one video may give several samples."""
        return self.recode is not None and self.recode.split_scenes is not None


@dataclass(frozen=True)
class ImagePackSettings:
    """What shards of pictures look like.

    Attributes:
        samples_per_shard: at most so many pictures in one shard.
        max_shard_bytes: a shard is closed before the files in it exceed this (one file may).
        short_side: pictures are made smaller and encoded anew; None leaves their bytes as they are.
        kind: tells these settings from those of videos.
    """

    samples_per_shard: int = 4096
    max_shard_bytes: int = 1 << 30
    short_side: int | None = None
    kind: Literal["images"] = "images"

    def __post_init__(self) -> None:
        _refuse_small(self.samples_per_shard, self.max_shard_bytes)
        if self.short_side is not None and not 16 <= self.short_side <= 8192:
            raise ValueError(f"short_side={self.short_side} must be from 16 to 8192 pixels")


@dataclass(frozen=True)
class PlannedVideo:
    """A video or a picture with its key, and how its file looked when the plan was made.

    Attributes:
        source: where it is.
        key: of its sample.
        num_bytes: size of its file, None if there is none that may be read.
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
    def noun(self) -> str:
        """Returns what is packed, in a word."""
        nouns = {"images": "image", "episodes": "episode"}
        return nouns.get(str(self.settings.get("kind")), "video")

    @property
    def fingerprint(self) -> str:
        """Returns a hash of settings and inputs, times of change left out.

        Copies of a folder, packed alike, have equal fingerprints.
        """
        inputs = [[v.key, _plain(v.source), v.num_bytes] for v in self.videos]
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


def make_plan(sources: VideoSources, settings: PackSettings | ImagePackSettings) -> PackPlan:
    """Returns which video goes into which shard; looks at sizes and times, opens nothing.

    Raises:
        ValueError: if a part of a video is listed, and nothing is encoded anew.
        OSError: if sizes cannot be looked up, such as those of a store that does not answer.
    """
    _refuse_parts(sources, settings)
    taken: set[str] = set()
    splits_scenes = isinstance(settings, PackSettings) and settings.splits_scenes
    longest = KEY_CHARACTERS - (SCENE_CHARACTERS if splits_scenes else 0)
    shards: list[list[PlannedVideo]] = []
    num_bytes = 0
    seen = sizes_and_times(sources.root, (source.path for source in sources.videos))
    for source in sources.videos:
        key = _key(source, taken, longest)
        video = PlannedVideo(source, key, *seen[source.path])
        taken.add(video.key)
        extra_bytes = _expected_bytes(video)
        is_full = not shards or len(shards[-1]) >= settings.samples_per_shard
        if is_full or num_bytes + extra_bytes > settings.max_shard_bytes:
            shards.append([])
            num_bytes = 0
        shards[-1].append(video)
        num_bytes += extra_bytes
    plain_settings = json.loads(json.dumps(asdict(settings)))
    if encoder := encoder_of(settings):  # another encoder gives other bytes
        plain_settings["encoder"] = encoder
    return PackPlan(plain_settings, tuple(tuple(shard) for shard in shards))


def encoder_of(settings: PackSettings | ImagePackSettings) -> str | None:
    """Returns what encodes here, with its version; None if files are copied."""
    if isinstance(settings, ImagePackSettings):
        return None if settings.short_side is None else encoder_version("pillow")
    return None if settings.recode is None else encoder_version("av")


def encoder_version(library: Literal["av", "pillow"]) -> str:
    """Returns the name and the version of a library that encodes."""
    names = {"av": "PyAV", "pillow": "Pillow"}
    return f"{names[library]} {importlib.metadata.version(library)}"


def explain_difference(old: PackPlan, new: PackPlan) -> str | None:
    """Returns the first thing that differs between two plans, or None if nothing does."""
    if difference := _explain_settings(old.settings, new.settings):
        return difference
    before_by_name = {video.source.name: video for video in old.videos}
    now_by_name = {video.source.name: video for video in new.videos}
    if difference := _explain_names(before_by_name, now_by_name):
        return difference
    for name, video in now_by_name.items():
        if before_by_name[name] != video:
            return f"{name} changed"
    return None if old == new else "the division into shards differs"


def explain_other_set(index: ShardIndex, plan: PackPlan) -> str:
    """Returns why a finished set is not of a plan; its own plan is gone, its index says enough."""
    if index.plan_fingerprint is None or index.plan_settings is None:
        return "it is not said from what they were packed"
    if difference := _explain_settings(index.plan_settings, plan.settings):
        return difference
    packed = {sample.source: sample for sample in index.samples if sample.source is not None}
    skipped = {re.sub(_PART_OR_SCENE, "", video.path) for video in index.skipped}
    now_by_path = {video.source.path: video for video in plan.videos}
    if difference := _explain_names({*packed, *skipped}, now_by_path):
        return difference
    for path, sample in packed.items():
        sizes = [m.size for name, m in sample.members.items() if name != "json"]
        if "encoder" not in plan.settings and now_by_path[path].num_bytes not in sizes:
            return f"{path} changed"
    return f"the {plan.noun}s or their labels changed"


def _explain_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Returns the first setting that differs; what the user has set before what follows from it."""
    for name in sorted({*before, *now}, key=lambda name: (name == "encoder", name)):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old != new:
            return f"{name}.{_explain_settings(old, new)}"
        if old != new:
            return f"{name} was {old} and is {new}"
    return None


def _explain_names(before: Collection[str], now: Collection[str]) -> str | None:
    for name in sorted({*before, *now}):
        if name not in now:
            return f"{name} is gone"
        if name not in before:
            return f"{name} is new"
    return None


def _refuse_parts(sources: VideoSources, settings: PackSettings | ImagePackSettings) -> None:
    for source in sources.videos:
        if source.is_part and isinstance(settings, ImagePackSettings):
            raise ValueError(f"{source.name}: a picture has no start and no end")
        if source.is_part and isinstance(settings, PackSettings) and settings.recode is None:
            raise ValueError(
                f"{source.name}: a part of a video (start, end) can only be packed if it is "
                "encoded anew; say how, such as --gop 8"
            )


def _refuse_small(samples_per_shard: int, max_shard_bytes: int) -> None:
    if samples_per_shard < 1 or max_shard_bytes < 1:
        raise ValueError(
            f"samples_per_shard={samples_per_shard} and max_shard_bytes={max_shard_bytes} "
            "must be at least 1"
        )


def _plain(source: VideoSource) -> dict[str, Any]:
    """Returns plain values; sets whose list has no groups keep the fingerprint they always had."""
    return {name: value for name, value in asdict(source).items() if name != "group" or value}


def _key(source: VideoSource, taken: set[str], longest: int) -> str:
    path = source.path
    if source.is_part:  # the part's name, with the extension where a path has it
        stem, _, extension = path.rpartition(".")
        path = f"{stem}{source.name[len(source.path) :]}.{extension}"
    return key_of_path(path, taken=taken, max_characters=longest)


def _expected_bytes(video: PlannedVideo) -> int:
    source = video.source
    names: Sequence[str | None] = (source.path, source.path, source.label, source.group)
    return (video.num_bytes or 0) + JSON_RESERVE_BYTES + sum(len(json.dumps(n)) for n in names)
