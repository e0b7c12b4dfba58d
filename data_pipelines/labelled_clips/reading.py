"""`read_labelled_clips`: shards, folders and lists become labelled sets, divided without leaks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.labelled_clips.clip_settings import ClipSettings
from data_pipelines.labelled_clips.labelled_set import (
    LabelledClips,
    identity_of,
    recording_of,
)
from data_pipelines.labelled_clips.trajectory_windows import read_windows
from data_pipelines.labelled_clips.videos_and_images import ImageClips, VideoClips
from data_pipelines.samples import Member, Sample
from data_pipelines.shard_index import ShardIndex, Shards
from data_pipelines.shard_places import INDEX_NAME
from data_pipelines.splitting import SplitSettings, assign_parts
from data_pipelines.urls import is_url, shown
from data_pipelines.video_sources import (
    IMAGE_EXTENSIONS,
    LIST_EXTENSIONS,
    VIDEO_EXTENSIONS,
    VideoSources,
    find_sources,
    join,
    sizes_and_times,
)

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def read_labelled_clips(
    data: Shards,
    *,
    target: str | None = None,
    classes: Sequence[str] | None = None,
    crop: str | None = None,
    **settings: Any,  # noqa: ANN401 - those of ClipSettings, which refuses all others
) -> LabelledClips:
    """Returns labelled samples; nothing is decoded yet.

    Args:
        data: shards of labelled videos or images, or of trajectories, as `ShardIndex.load` takes
            them; a folder with one sub-folder of videos, or of images, for each class; or a list
            of them, .csv or text, with lines "path label". A URL is one of shards.
        target: what is to be told. None: the label of videos and images, the states of
            trajectories. "label", or of trajectories see `Target`.
        classes: of another split of the same data, so that a class has the same index in both;
            None: those that occur, sorted, numbers by their value.
        crop: see `evaluation_crops`; None: "official", of trajectories "whole".
        settings: of `ClipSettings`; clip_length_frames and image_size must be given.

    Raises:
        FileNotFoundError: if there is nothing of this name.
        ValueError: if samples have no label, or one that is not in `classes`; or if a setting or
            the target does not fit the data.
    """
    if not _are_shards(data):
        videos = find_sources(str(data), extensions=_extensions_in(data))
        samples, changed = _samples_of_files(videos)
    else:
        index = ShardIndex.load(data)
        if index.specification is not None and target != "label":
            whole = ClipSettings(**settings, crop=crop or "whole")  # pyright: ignore
            return read_windows(index, whole, target or "states")
        samples, changed = tuple(index.samples), {}
    if target not in (None, "label"):
        raise ValueError(f"videos and images have labels only: target='label', got {target!r}")
    return _with_labels(
        samples,
        ClipSettings(**settings, crop=crop or "official"),  # pyright: ignore
        identities=tuple(identity_of(s, changed.get(s.key, ())) for s in samples),
        classes=classes,
        place=data,
    )


def split_labelled_clips(
    data: LabelledClips, shares: Mapping[str, float] = SHARES, *, seed: int = 0
) -> dict[str, LabelledClips]:
    """Divides a set so that no recording is in two parts, and each class in all, if it can be.

    Args:
        data: to be divided.
        shares: name of a part -> its share; they add up to 1.
        seed: same seed, same parts.

    Raises:
        ValueError: if there are fewer recordings than parts, or the shares do not add up.
    """
    units = [
        replace(sample, key=key, group=recording, label=label)
        for sample, key, recording, label in zip(
            data.samples, data.keys, data.recordings, _class_names(data), strict=True
        )
    ]
    settings = SplitSettings(parts=shares, seed=seed, stratify=data.classes is not None)
    part_of = assign_parts(units, settings)
    return {
        name: data.take([n for n, key in enumerate(data.keys) if part_of[key] == name])
        for name in shares
    }


def refuse_shared_recordings(parts: Mapping[str, LabelledClips]) -> None:
    """Raises if two parts hold the same recording, or samples of the same bytes and name.

    Raises:
        ValueError: naming one.
    """
    seen: dict[tuple[str, str], str] = {}
    for name, part in parts.items():
        tokens = {("recording", recording) for recording in part.recordings}
        for token in sorted(tokens):
            other = seen.setdefault(token, name)
            if other != name:
                raise ValueError(
                    f"{token[1]} is in both {other} and {name}: what is learned there would be "
                    "asked here; divide by recording (split_labelled_clips, `jepa data split`)"
                )


def _class_names(data: LabelledClips) -> list[str | None]:
    if data.classes is None:
        return [None] * len(data)
    return [data.classes[label] for label in data.labels]


def _are_shards(data: Shards) -> bool:
    if not isinstance(data, str | Path):
        return True
    if is_url(str(data)):
        return True
    path = Path(data)
    if path.is_dir():
        return (path / INDEX_NAME).is_file() or any(path.glob("*.tar"))
    return path.suffix.lower().lstrip(".") not in LIST_EXTENSIONS


def _extensions_in(data: Shards) -> tuple[str, ...]:
    """Returns the extensions of images for a folder that holds these and no videos."""
    if not isinstance(data, str | Path) or not Path(data).is_dir():
        return (*VIDEO_EXTENSIONS, *IMAGE_EXTENSIONS)
    endings = {
        name.rpartition(".")[2].lower()
        for _, _, names in os.walk(data, followlinks=True)
        for name in names
    }
    has_images, has_videos = endings & {*IMAGE_EXTENSIONS}, endings & {*VIDEO_EXTENSIONS}
    return IMAGE_EXTENSIONS if has_images and not has_videos else VIDEO_EXTENSIONS


def _samples_of_files(
    sources: VideoSources,
) -> tuple[tuple[Sample, ...], dict[str, tuple[object, ...]]]:
    """Returns files as samples: each is a shard of its own, whose only member is all of it.

    Also returns when each file was changed, by its key.
    """
    parts = [source.name for source in sources.videos if source.is_part]
    if parts:
        raise ValueError(
            f"{len(parts)} lines of the list name a part of a video, the first {parts[0]}: pack "
            "them first (`jepa data pack`)"
        )
    about = sizes_and_times(sources.root, [source.path for source in sources.videos])
    samples = tuple(
        Sample(
            key=source.path,
            shard=join(sources.root, source.path),
            members={_extension(source.path): Member(0, about[source.path][0] or 0)},
            label=source.label,
            source=source.path,
            group=source.group,
        )
        for source in sources.videos
    )
    return samples, {path: (changed,) for path, (_, changed) in about.items()}


def _extension(path: str) -> str:
    return path.rpartition(".")[2].lower()


def _with_labels(
    samples: tuple[Sample, ...],
    settings: ClipSettings,
    *,
    identities: tuple[str, ...],
    classes: Sequence[str] | None,
    place: Shards,
) -> LabelledClips:
    known, labels = _class_indices(samples, classes, place)
    return _kind_of(samples, settings)(
        samples=samples,
        settings=settings,
        keys=tuple(sample.key for sample in samples),
        labels=labels,
        classes=known,
        targets=(),
        recordings=tuple(map(recording_of, samples)),
        identities=identities,
    )


def _class_indices(
    samples: Sequence[Sample], classes: Sequence[str] | None, place: Shards
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the classes, and the index of each sample's."""
    unlabelled = [sample.key for sample in samples if sample.label is None]
    if unlabelled:
        raise ValueError(
            f"{len(unlabelled)} of {len(samples)} samples of {shown(str(place))} have no label, "
            f"the first {unlabelled[0]}: pack from one folder per class, or name a list of labels"
        )
    names = [str(sample.label) for sample in samples]
    known = tuple(sorted(set(names), key=_by_number) if classes is None else classes)
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(
            f"{shown(str(place))} has {len(unknown)} classes that are not among the {len(known)} "
            f"trained on: {', '.join(unknown[:3])}"
        )
    index_of_class = {name: index for index, name in enumerate(known)}
    return known, np.array([index_of_class[name] for name in names], np.int64)


def _by_number(name: str) -> tuple[int, str]:
    """Sorts "2" before "10", as the index that it is."""
    return (int(name), name) if name.isdecimal() else (0, name)


def _kind_of(samples: Sequence[Sample], settings: ClipSettings) -> type[VideoClips | ImageClips]:
    num_images = sum(sample.is_image for sample in samples)
    if num_images == 0:
        return VideoClips
    if num_images < len(samples):
        raise ValueError(
            f"{num_images} of {len(samples)} samples are images, the others videos: probe them "
            "one after the other"
        )
    if settings.num_clips > 1:
        raise ValueError(f"an image has one moment: num_clips must be 1, got {settings.num_clips}")
    return ImageClips
