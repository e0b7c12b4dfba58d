"""The contract of an importer, how one is found by name, and what several of them need.

A new importer is a file `x.py` in this folder; its format is then "x". It has

- `SUMMARY`, a plain string: one line for `--help`, read without importing the file;
- `open_source(source, *, camera, frames_per_second, image_size) -> Importer`.

It imports the library that reads its format inside functions, so that the file can be imported
where that library is missing.

What is wrong with a source as a whole is said when it is opened; what is wrong with one episode
when that episode is read, so that it costs this one only (see `data_pipelines.episode_packing`).
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:  # `jepa data --help` lists the formats, and must not wait for numpy
    import numpy as np

    from data_pipelines.trajectories import Episode, TrajectorySpecification


class SourceError(ValueError):
    """A source that does not have the layout its format asks for: one line that says where."""


@dataclass(frozen=True)
class ListedEpisode:
    """An episode before anybody read it.

    Attributes:
        name: where it lies in its source; no two are alike.
        key: of its sample; no two are alike.
        files: that it is read from, as far as that is known.
    """

    name: str
    key: str
    files: tuple[Path, ...]


class Importer(ABC):
    """One opened source: what its columns mean, and its episodes one by one.

    It may be carried into another process as a pickle.
    """

    @property
    @abstractmethod
    def specification(self) -> TrajectorySpecification:
        """Returns what states and actions mean, at the rate and size that were asked for."""

    @property
    @abstractmethod
    def listed(self) -> Sequence[ListedEpisode]:
        """Returns all episodes in a fixed order, also those that cannot be used."""

    @abstractmethod
    def episode(self, number: int) -> Episode:
        """Reads an episode.

        Args:
            number: its place in `listed`.

        Raises:
            SourceError: if it is not as the source says.
            DecodeError: if its video cannot be read.
        """

    def episodes(self) -> Iterator[Episode]:
        """Yields all episodes, read in this process; holds the frames of one at a time.

        Raises:
            SourceError, DecodeError: at the first that cannot be used.
        """
        try:
            for number in range(len(self.listed)):
                yield self.episode(number)
        finally:
            self.close()

    def close(self) -> None:  # noqa: B027 (most keep nothing open)
        """Closes the files that are kept open from one episode to the next."""


class ImporterModule(Protocol):
    """What the file of an importer defines."""

    SUMMARY: str

    def open_source(
        self,
        source: str | Path,
        *,
        camera: str | None = None,
        frames_per_second: float | None = None,
        image_size: int | None = None,
    ) -> Importer:
        """Opens a source and reads what it says of itself; no video yet.

        Args:
            source: a folder or a file, as the format has it.
            camera: which of several cameras, by the format's own name; None if there is one.
            frames_per_second: a lower rate than the source's; None: every frame.
            image_size: height and width of the frames in pixels; None: as recorded.

        Raises:
            FileNotFoundError: if there is nothing at `source`.
            SourceError: if it is not of this format, or if an option does not fit it; not for
                what is wrong with single episodes.
            ImportError: if the library that reads it is not installed; the line says which extra.
        """
        ...


def summaries() -> dict[str, str]:
    """Returns what each format is, in one line, by the format's name; imports none of them."""
    folder = Path(__file__).parent
    names = sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
    return {name: _summary(folder / f"{name}.py") for name in names if name != "base"}


def importer_module(name: str) -> ImporterModule:
    """Returns the importer of a format.

    Raises:
        ValueError: if there is none of this name.
    """
    known = summaries()
    if name not in known:
        raise ValueError(f"no importer named '{name}'; choose one of {', '.join(known)}")
    return cast(ImporterModule, importlib.import_module(f"data_pipelines.importers.{name}"))


def resized(frames: np.ndarray, image_size: int | None) -> np.ndarray:
    """Returns frames whose short side is `image_size`, and the square in their middle.

    Args:
        frames: (time, height, width, 3), uint8.
        image_size: in pixels, even (H.264 asks for it); None: frames as they are.

    Returns:
        (time, image_size, image_size, 3), uint8; averaged over the pixels that become one.

    Raises:
        ValueError: if `image_size` is odd or below 2.
    """
    if image_size is None:
        return frames
    refuse_bad_image_size(image_size)
    import numpy as np
    from PIL import Image

    time, height, width = frames.shape[:3]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    square = np.empty((time, image_size, image_size, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        small = Image.fromarray(frame).resize(
            (image_size, image_size), Image.Resampling.BILINEAR, box=box
        )
        square[index] = np.asarray(small)
    return square


def refuse_bad_image_size(image_size: int | None) -> None:
    """Raises ValueError if frames of this size could not be packed."""
    if image_size is not None and (image_size < 2 or image_size % 2):
        raise ValueError(f"image_size must be even and at least 2, got {image_size}")


def stride_of_rate(source_rate: float, frames_per_second: float | None) -> int:
    """Returns k such that every k-th frame of a source has the rate that is asked for.

    Args:
        source_rate: frames per second of the source.
        frames_per_second: asked for; None: that of the source.

    Raises:
        SourceError: if it is not the source's rate divided by a whole number.
    """
    if frames_per_second is None:
        return 1
    ratio = source_rate / frames_per_second if frames_per_second > 0 else 0.0
    stride = round(ratio)
    if stride < 1 or abs(ratio - stride) > 1e-3 * stride:
        allowed = ", ".join(f"{source_rate / k:g}" for k in range(1, 7))
        raise SourceError(
            f"{frames_per_second:g} frames per second is not the source's {source_rate:g} divided "
            f"by a whole number; choose one of {allowed}, ..."
        )
    return stride


def joined_actions(actions: np.ndarray, stride: int) -> np.ndarray:
    """Joins the actions between frames that are kept.

    Args:
        actions: (num_frames, dim): actions[t] was sent at frame t.
        stride: every so many frames one is kept.

    Returns:
        (kept - 1, stride * dim): row i holds the actions of frames i * stride to
        (i + 1) * stride - 1, one after the other. The last frame's action leads nowhere.
    """
    steps = max(len(actions) - 1, 0) // stride
    return actions[: steps * stride].reshape(steps, stride * actions.shape[1]).copy()


def _summary(path: Path) -> str:
    """Returns the string that a file assigns to SUMMARY, without running the file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign):
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "SUMMARY" for target in targets):
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value
    raise ValueError(f"{path} assigns no plain string to SUMMARY")
