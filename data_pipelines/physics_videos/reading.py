"""Folders of physics videos: which layout it is, what is in it, and the frames of a video."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipelines.decoders.base import decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.images import read_image
from data_pipelines.physics_videos import index
from data_pipelines.physics_videos.index import PhysicsVideo, PhysicsVideos, Refused, with_partners
from data_pipelines.physics_videos.readers import grasp, inflevel, intphys
from data_pipelines.transforms import ResizeShortSideAndCenterCrop

READERS: tuple[ModuleType, ...] = (intphys, grasp, inflevel)


class PhysicsFolder(NamedTuple):
    """A folder of physics videos.

    Attributes:
        layout: whose layout it has.
        frame_step: every so many frames one is taken, as the authors of V-JEPA did (arXiv:
            2502.11831) for this benchmark; 1 for videos that we made.
        content: the videos.
    """

    layout: str
    frame_step: int
    content: PhysicsVideos


def open_physics_folder(folder: str | Path) -> PhysicsFolder:
    """Finds out the layout of a folder, and lists its videos; damaged ones are refused by name.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it has no known layout, or no pair in it can be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    if index.is_layout(folder):
        layout, frame_step, content = "physics videos", 1, index.read(folder)
    else:
        reader = next((reader for reader in READERS if reader.is_layout(folder)), None)
        if reader is None:
            known = ", ".join(reader.NAME for reader in READERS)
            raise ValueError(
                f"{folder} has neither {index.INDEX} nor the layout of {known}; `jepa surprise "
                f"make {folder}` makes videos"
            )
        layout, frame_step, content = reader.NAME, reader.FRAME_STEP, reader.read(folder)
    content = _without_damaged(content)
    if not content.videos:
        first = f", the first: {': '.join(content.refused[0])}" if content.refused else ""
        raise ValueError(f"{folder}: no pair can be used; {len(content.refused)} refused{first}")
    return PhysicsFolder(layout, frame_step, content)


def read_video(video: PhysicsVideo, *, image_size: int, frame_step: int = 1) -> Tensor:
    """Reads a video's frames, the largest centred square of each.

    Args:
        video: from `first_frame` on.
        image_size: height and width of the result.
        frame_step: every so many frames one is taken.

    Returns:
        (3, time, image_size, image_size), uint8.

    Raises:
        DecodeError: if a frame cannot be read.
        ValueError: if frame_step is less than 1.
    """
    if frame_step < 1:
        raise ValueError(f"frame_step must be at least 1, got {frame_step}")
    if video.path.is_dir():
        files = intphys.frame_files(video.path)[video.first_frame :: frame_step]
        pixels = np.stack([read_image(file) for file in files])
    else:
        with decoder_class("pyav")(video.path.read_bytes(), str(video.path)) as decoder:
            num_frames = len(decoder.timestamps_seconds())
            pixels = decoder.frames_at(range(video.first_frame, num_frames, frame_step)).pixels
    crop = ResizeShortSideAndCenterCrop(image_size)
    return crop(torch.from_numpy(np.ascontiguousarray(pixels)), torch.Generator())


def _without_damaged(content: PhysicsVideos) -> PhysicsVideos:
    """Opens every video file, so that a damaged one is named before hours of work."""
    there: list[PhysicsVideo] = []
    refused = list(content.refused)
    for video in content.videos:
        try:
            if not video.path.is_dir():
                with decoder_class("pyav")(video.path.read_bytes(), str(video.path)) as decoder:
                    decoder.metadata()
            there.append(video)
        except DecodeError as error:
            refused.append(Refused(str(video.path), error.reason))
    return with_partners(there, refused)
