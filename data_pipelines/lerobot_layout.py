"""Where things lie in a LeRobotDataset v3.0 folder: its info, its features, its episodes.

The layout, by LeRobot's page "LeRobotDataset v3.0" and by folders that LeRobot wrote:

- `meta/info.json`: version, frames per second, features (name -> dtype, shape, names), templates;
- `meta/stats.json`: least and greatest value, mean, std of each feature;
- `meta/tasks.parquet`: task_index of each task's words;
- `meta/episodes/chunk-000/file-000.parquet`: a row for each episode: where its rows and frames are;
- `data/chunk-000/file-000.parquet`: a row for each frame; many episodes in a file;
- `videos/<camera>/chunk-000/file-000.mp4`: the frames of many episodes, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.parquet import ParquetReader

VERSION = "v3.0"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
STATE, ACTION = "observation.state", "action"


class LayoutError(ValueError):
    """A folder that is not laid out as LeRobot v3.0: one line that says where."""


@dataclass(frozen=True)
class LeRobotInfo:
    """What `meta/info.json` says.

    Attributes:
        folder: of the data set.
        frames_per_second: of rows and frames.
        features: name -> "dtype", "shape", "names", and what a program added as "info".
        num_episodes: how many there are.
        data_path: template of the Parquet files' paths.
        video_path: template of the video files' paths; "" if there is no video.
    """

    folder: Path
    frames_per_second: float
    features: Mapping[str, Mapping[str, Any]]
    num_episodes: int
    data_path: str
    video_path: str

    @property
    def cameras(self) -> list[str]:
        """Returns the features that are colour videos or colour images."""
        return [
            name
            for name, feature in self.features.items()
            if feature.get("dtype") in ("video", "image") and not _is_depth(feature)
        ]

    def is_video(self, camera: str) -> bool:
        """Returns whether a camera's frames are in MP4 files, and not in the Parquet rows."""
        return self.features[camera]["dtype"] == "video"


@dataclass(frozen=True)
class EpisodePlace:
    """Where one episode lies.

    Attributes:
        index: its number, counted from 0.
        num_frames: how many rows and frames it has.
        data_file: path of the Parquet file that holds its rows.
        video_file: path of the MP4 file that holds its frames; None if they are in the rows.
        from_seconds: when its first frame starts in that file.
    """

    index: int
    num_frames: int
    data_file: Path
    video_file: Path | None
    from_seconds: float


def load_info(folder: str | Path) -> LeRobotInfo:
    """Reads `meta/info.json`.

    Raises:
        FileNotFoundError: if there is no such folder.
        LayoutError: if it is no LeRobot data set, or one of another version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    if not (folder / INFO_PATH).is_file():
        raise LayoutError(f"{folder} is no LeRobot data set: it has no {INFO_PATH}")
    values = read_json(folder / INFO_PATH)
    _refuse_other_version(folder, values.get("codebase_version"))
    try:
        info = LeRobotInfo(
            folder=folder,
            frames_per_second=float(values["fps"]),
            features={name: dict(feature) for name, feature in values["features"].items()},
            num_episodes=int(values["total_episodes"]),
            data_path=str(values["data_path"]),
            video_path=str(values.get("video_path") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise LayoutError(f"{folder / INFO_PATH} is damaged ({reason})") from None
    return info


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        LayoutError: if the file holds none.
    """
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise LayoutError(f"{path} must be a JSON object, got {type(values).__name__}")
    return values


def episode_places(info: LeRobotInfo, camera: str) -> list[EpisodePlace]:
    """Reads where all episodes lie, in the order of their numbers.

    Args:
        info: of the data set.
        camera: the feature whose frames are wanted.

    Raises:
        LayoutError: if episodes are missing or come twice, or if no episode has all its files.
    """
    paths = sorted((info.folder / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
    if not paths:
        raise LayoutError(f"{info.folder} has no meta/episodes/chunk-*/file-*.parquet")
    places = [place for path in paths for place in _places_in(info, camera, path)]
    places.sort(key=lambda place: place.index)
    if [place.index for place in places] != list(range(info.num_episodes)) or not places:
        raise LayoutError(
            f"{info.folder}: {INFO_PATH} says {info.num_episodes} episodes, meta/episodes lists "
            f"{len(places)} ({len({place.index for place in places})} different ones)"
        )
    _refuse_missing_files(places)
    return places


def _places_in(info: LeRobotInfo, camera: str, path: Path) -> list[EpisodePlace]:
    is_video = info.is_video(camera)
    names = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    if is_video:
        names += [f"videos/{camera}/{what}" for what in _VIDEO_COLUMNS]
    with ParquetReader(path) as table:
        rows = list(zip(*(table.values(name) for name in names), strict=True))
    places = []
    for index, length, chunk_index, file_index, *video in rows:
        if None in (index, length, chunk_index, file_index, *video):
            raise LayoutError(f"{path}: episode {index} does not say where it lies (null)")
        data_file = _file(info, info.data_path, chunk_index, file_index)
        video_file, from_seconds = None, 0.0
        if is_video:
            video_file = _file(info, info.video_path, *video[:2], video_key=camera)
            from_seconds = float(video[2])
        places.append(EpisodePlace(index, length, data_file, video_file, from_seconds))
    return places


_VIDEO_COLUMNS = ("chunk_index", "file_index", "from_timestamp")


def _file(
    info: LeRobotInfo, template: str, chunk_index: int, file_index: int, *, video_key: str = ""
) -> Path:
    try:
        relative = Path(
            template.format(chunk_index=chunk_index, file_index=file_index, video_key=video_key)
        )
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise LayoutError(
            f"{info.folder / INFO_PATH}: path template '{template}' cannot be filled in: "
            f"{type(error).__name__} {error}"
        ) from None
    if relative.is_absolute() or ".." in relative.parts or relative == Path("."):
        raise LayoutError(f"{info.folder / INFO_PATH}: '{relative}' is no path inside the folder")
    return info.folder / relative


def _refuse_missing_files(places: list[EpisodePlace]) -> None:
    """Raises if no episode has its files; if some have, the others are named one by one."""
    missing: dict[Path, EpisodePlace] = {}
    exists: dict[Path, bool] = {}
    num_whole = 0
    for place in places:
        files = [path for path in (place.data_file, place.video_file) if path is not None]
        for path in files:
            if path not in exists:
                exists[path] = path.is_file()
            if not exists[path]:
                missing.setdefault(path, place)
        num_whole += all(exists[path] for path in files)
    if num_whole == 0:
        path, place = next(iter(missing.items()))
        raise LayoutError(f"{path} is missing (episode {place.index}); download it again")


def _refuse_other_version(folder: Path, version: object) -> None:
    if isinstance(version, str) and version.startswith("v3."):
        return
    if isinstance(version, str) and version.startswith("v2"):
        raise LayoutError(
            f"{folder} is LeRobot {version}, this program reads {VERSION}; convert it with LeRobot "
            "(0.4 or newer): python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 "
            "--repo-id=NAME (newer ones: lerobot.scripts.convert_dataset_v21_to_v30)"
        )
    raise LayoutError(
        f"{folder / INFO_PATH}: codebase_version is {version!r}, this program reads {VERSION}"
    )


def _is_depth(feature: Mapping[str, Any]) -> bool:
    about = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(about.get("is_depth_map") or about.get("video.is_depth_map"))
