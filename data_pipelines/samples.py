"""What a shard holds: samples of a few members each, as values and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from data_pipelines.frames import VideoMetadata
from data_pipelines.manifest import SkippedVideo
from data_pipelines.sample_columns import Place, Record, RecordColumns
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
        return are_of_image(self.members)

    @property
    def is_trajectory(self) -> bool:
        """Returns whether states and actions lie beside the video."""
        return are_of_trajectory(self.members)


def are_of_image(extensions: Iterable[str]) -> bool:
    """Returns whether a sample with these members is a picture, not a video."""
    names = set(extensions)
    return bool(names & set(IMAGE_EXTENSIONS)) and not names & set(VIDEO_EXTENSIONS)


def are_of_trajectory(extensions: Iterable[str]) -> bool:
    """Returns whether a sample with these members is a trajectory."""
    return {STATES, ACTIONS} <= set(extensions)


class Samples(Sequence[Sample]):
    """Samples in columns: each is made when it is asked for, and nobody keeps it.

    Args:
        samples: to hold.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._columns = RecordColumns(
            map(_record_of, samples), num_texts=5, num_numbers=len(fields(VideoMetadata))
        )

    def __len__(self) -> int:
        return len(self._columns)

    @overload
    def __getitem__(self, number: int) -> Sample: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, number: int | slice) -> Sample | tuple[Sample, ...]:
        if isinstance(number, slice):
            return tuple(self[one] for one in range(len(self))[number])
        return _sample_of(self._columns[range(len(self))[number]])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __repr__(self) -> str:
        return f"Samples({list(self)})"

    def count_of(self, are_wanted: Callable[[Iterable[str]], bool]) -> int:
        """Returns how many samples have members of which this is True, such as `are_of_image`."""
        return self._columns.count(filter(are_wanted, self._columns.layouts))

    @property
    def duration_seconds(self) -> float:
        """Returns how long all videos last together, as far as is known; pictures do not."""
        videos = [names for names in self._columns.layouts if not are_of_image(names)]
        return sum(self._columns.known(_DURATION_COLUMN, videos))

    def keys(self) -> Iterator[str]:
        """Yields the key of each sample."""
        for number in range(len(self)):
            yield self._columns.text(number, 0) or ""

    def keys_and_sizes(self) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Yields of each sample its key, and the extensions and sizes of its members, sorted."""
        for number, key in enumerate(self.keys()):
            sizes = [(place.extension, place.size) for place in self._columns.places(number)]
            yield key, sorted(sizes)


_DURATION_COLUMN = [field.name for field in fields(VideoMetadata)].index("duration_seconds")


def _record_of(sample: Sample) -> Record:
    return Record(
        (sample.key, sample.shard, sample.label, sample.source, sample.group),
        tuple(Place(name, m.offset, m.size, m.crc32) for name, m in sample.members.items()),
        None if sample.metadata is None else astuple(sample.metadata),
    )


def _sample_of(record: Record) -> Sample:
    key, shard, label, source, group = record.texts
    members = {p.extension: Member(p.offset, p.size, p.crc32) for p in record.places}
    metadata = None
    if record.numbers is not None:
        num_frames, frames_per_second, duration_seconds, height, width = record.numbers
        metadata = VideoMetadata(
            int(num_frames), frames_per_second, duration_seconds, int(height), int(width)
        )
    return Sample(key or "", shard or "", members, metadata, label, source, group or "")


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        path: a path or a URL.
        num_bytes: its size.
        samples: that can be used; held as `Samples`, however they come.
        sha256: of the file when it was packed; None if the index was built from headers.
        damaged: what an index built from headers has left out, and why.
    """

    path: str
    num_bytes: int
    samples: Sequence[Sample]
    sha256: str | None = None
    damaged: tuple[SkippedVideo, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", self.columns)

    @cached_property
    def columns(self) -> Samples:
        """Returns the samples, as what they are held in."""
        return self.samples if isinstance(self.samples, Samples) else Samples(self.samples)


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
    samples = Samples(
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
    """Returns the metadata if all of it is there and can be; foreign shards may lack it."""
    try:
        metadata = VideoMetadata(
            num_frames=int(values["num_frames"]),
            frames_per_second=float(values["frames_per_second"]),
            duration_seconds=float(values["duration_seconds"]),
            height=int(values["height"]),
            width=int(values["width"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return metadata if all(0 < value < 2**53 for value in astuple(metadata)) else None


def parse_json(
    data: bytes, where: str, *, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    """Parses a JSON object.

    Args:
        data: the text.
        where: it comes from.
        object_hook: takes each object as it is read, and returns what it becomes.

    Raises:
        ShardError: that says where, if it is none.
    """
    try:
        values = json.loads(data, object_hook=object_hook)
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
