"""What a shard holds: samples of a few members each, as values and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipelines.frames import VideoMetadata
from data_pipelines.tar_headers import ShardError
from data_pipelines.urls import is_url, join_url, shown, split_url
from data_pipelines.video_sources import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS

STATES, ACTIONS = "states.npy", "actions.npy"


@dataclass(frozen=True)
class Member:
    """Where one file of a sample lies in its shard.

    Attributes:
        offset: first byte.
        size: in bytes.
        crc32: of the bytes when they were packed; None if the index was built from headers.
    """

    offset: int
    size: int
    crc32: int | None = None


@dataclass(frozen=True)
class Sample:
    """One video, or one trajectory.

    Attributes:
        key: unique in its folder of shards.
        shard: path of its tar.
        members: extension -> where it lies.
        metadata: None if the shard does not say.
        label: class folder of the source video, if any.
        source: path of the source video, relative to the packed folder.
        group: what must stay together when the set is split.
    """

    key: str
    shard: str
    members: Mapping[str, Member]
    metadata: VideoMetadata | None = None
    label: str | None = None
    source: str | None = None
    group: str = ""

    @property
    def video_extension(self) -> str:
        """Returns the extension of the video member."""
        for extension in self.members:
            if extension in VIDEO_EXTENSIONS:
                return extension
        raise ShardError(f"{shown(self.shard)}: sample '{self.key}' has no video")

    @property
    def image_extension(self) -> str:
        """Returns the extension of the image member."""
        for extension in self.members:
            if extension in IMAGE_EXTENSIONS:
                return extension
        raise ShardError(f"{shown(self.shard)}: sample '{self.key}' has no image")

    @property
    def is_image(self) -> bool:
        """Returns whether the sample is a picture, not a video."""
        names = self.members.keys()
        return bool(names & set(IMAGE_EXTENSIONS)) and not names & set(VIDEO_EXTENSIONS)

    @property
    def is_trajectory(self) -> bool:
        """Returns whether states and actions lie beside the video."""
        return STATES in self.members and ACTIONS in self.members


@dataclass(frozen=True)
class Shard:
    """One tar file."""

    path: str
    num_bytes: int
    samples: tuple[Sample, ...]
    sha256: str | None = None


def shard_to_json(shard: Shard) -> dict[str, Any]:
    """Returns plain values for the index; `shard_from_json` is the inverse."""
    return {
        "name": name_of_shard(shard.path),
        "num_bytes": shard.num_bytes,
        "sha256": shard.sha256,
        "samples": [_sample_to_json(sample) for sample in shard.samples],
    }


def name_of_shard(path: str) -> str:
    """Returns the file name of a shard that lies in a folder or behind a URL."""
    return split_url(path)[1] if is_url(path) else Path(path).name


def shard_from_json(values: Mapping[str, Any], folder: str | Path) -> Shard:
    """Builds the shard that `shard_to_json` wrote, in the folder or at the URL where it lies."""
    if Path(values["name"]).name != values["name"]:
        raise ValueError(f"shard name '{values['name']}' is a path")
    is_remote = is_url(str(folder))
    path = join_url(str(folder), values["name"]) if is_remote else str(Path(folder, values["name"]))
    samples = tuple(
        Sample(
            sample["key"],
            path,
            {name: Member(*place) for name, place in sample["members"].items()},
            metadata_from_json(sample),
            label=sample["label"],
            source=sample["source"],
            group=sample["group"],
        )
        for sample in values["samples"]
    )
    return Shard(path, values["num_bytes"], samples, values["sha256"])


def metadata_from_json(values: Mapping[str, Any]) -> VideoMetadata | None:
    """Returns the metadata if all of it is there; foreign shards may lack it."""
    try:
        return VideoMetadata(
            num_frames=int(values["num_frames"]),
            frames_per_second=float(values["frames_per_second"]),
            duration_seconds=float(values["duration_seconds"]),
            height=int(values["height"]),
            width=int(values["width"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
        ShardError: that says where, if it is none.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{where} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ShardError(f"{where} must be a JSON object, got {type(values).__name__}")
    return values


def _sample_to_json(sample: Sample) -> dict[str, Any]:
    return {
        "key": sample.key,
        "members": {name: [m.offset, m.size, m.crc32] for name, m in sample.members.items()},
        "label": sample.label,
        "source": sample.source,
        "group": sample.group,
        **(asdict(sample.metadata) if sample.metadata else {}),
    }
