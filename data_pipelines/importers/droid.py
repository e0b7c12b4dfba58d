"""DROID, as recorded: one folder per trajectory, at 15 steps per second (arXiv:2403.12945).

    AUTOLab/success/2023-07-07/Fri_Jul__7_09:42:23_2023/
        metadata_*.json           lab, building, which camera is which
        trajectory.h5             one row per step: robot state, times
        recordings/MP4/*.mp4      one file per camera, one frame per row

States are the measured pose, [x, y, z, roll, pitch, yaw, gripper]: metres in the robot's base
frame, radians (extrinsic x-y-z Euler angles) and closedness in [0, 1]. Actions are the differences
between the poses of kept frames (V-JEPA 2, arXiv:2506.09985, Sec. 3.1), not the operator's
commands, so a lower frame rate loses no motion.

Three traps of the published files:

- The videos claim 60 frames per second and hold one frame per row. Their clock is not looked at;
  rows and times are those of trajectory.h5. (V-JEPA 2's own loader asks the video: its 4 frames per
  second are 1 in truth, facebookresearch/vjepa2 issue 183. For the data that the released weights
  saw ask for 1 frame per second here.)
- Videos may lack their last frame (droid-dataset/droid issue 54): up to 2 rows without a frame, or
  frames without a row, are cut off at the end and remarked on; a larger difference is refused.
- Folders without metadata are incomplete, by DROID's own rule: their trajectories are refused.

A trajectory that cannot be used costs only itself: thirteen labs recorded 76,000.
Cameras: "left" (the exterior camera on the robot's left, the default and V-JEPA 2's choice),
"right", "wrist", "ext1", "ext2", or a serial number. Only the left eye of a stereo camera is in
these videos. Failed attempts are imported too; name the folder "success" to leave them out.

What stays together in a split is a scene (metadata `scene_id`): a robot and its cameras, until they
are moved. Where no scene is named it is the building and the day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.decoders import decoder_class
from data_pipelines.hdf5_files import has_array, open_hdf5, read_array
from data_pipelines.importers.base import (
    Importer,
    ListedEpisode,
    SourceError,
    refuse_bad_image_size,
    resized,
    stride_of_rate,
)
from data_pipelines.pose_differences import ROTATION, pose_differences
from data_pipelines.shard_writing import key_of_path
from data_pipelines.trajectories import Episode, TrajectorySpecification

SUMMARY = "DROID raw: a folder per trajectory with metadata*.json, trajectory.h5, recordings/MP4"

CONTROL_RATE = 15.0  # steps per second that DROID's robots aim at
RATE_TOLERANCE = 0.1  # a measured rate this close to it counts as it
MOST_ROWS_CUT = 2
ROLES = ("left", "right", "wrist", "ext1", "ext2")

_STATE = "observation/robot_state/"
_CLOCKS = (
    "observation/timestamp/control/step_start",
    "observation/timestamp/robot_state/read_start",
)
_FRAMES_AT_ONCE = 32  # full frames are large: they shrink before more are decoded
_TRAJECTORIES_TIMED = 16
_CUT = "cut at the end: 1 or 2 rows without a frame, or frames without a row"


def open_source(
    source: str | Path,
    *,
    camera: str | None = None,
    frames_per_second: float | None = None,
    image_size: int | None = None,
) -> DroidImporter:
    """Finds the trajectories below a folder and how fast they were recorded.

    Args:
        source: a trajectory's folder, or any folder above.
        camera: "left" (default), "right", "wrist", "ext1", "ext2" or a serial number.
        frames_per_second: every k-th frame is kept, k = round(15 / frames_per_second); refused if
            that is more than 5 % off.
        image_size: height and width of the frames in pixels; None: as recorded.

    Raises:
        FileNotFoundError: if there is no such folder.
        SourceError: if it holds no complete trajectory, or if an option does not fit.
        ImportError: if h5py is not installed.
    """
    source, camera = Path(source), camera or "left"
    refuse_bad_image_size(image_size)
    if camera not in ROLES and not re.fullmatch(r"\d+(-stereo)?", camera):
        raise SourceError(
            f"camera must be one of {', '.join(ROLES)} or a serial number, got '{camera}'"
        )
    if not source.is_dir():
        raise FileNotFoundError(f"no folder {source}")
    folders = sorted(path.parent for path in source.rglob("trajectory.h5"))
    complete = [folder for folder in folders if any(folder.glob("metadata*.json"))]
    if not complete:
        what = "trajectory.h5" if not folders else "metadata*.json beside a trajectory.h5"
        raise SourceError(f"{source}: no {what} in this folder or below; is it raw DROID data?")
    rate = _rate_of_set(complete)
    stride = _stride(rate, frames_per_second)
    return DroidImporter(source, tuple(folders), camera, rate, stride, image_size)


@dataclass(frozen=True)
class DroidImporter(Importer):
    """The trajectories of a folder.

    Attributes:
        source: the folder that was opened.
        folders: of the trajectories, sorted, incomplete ones too.
        camera: a role or a serial number.
        source_rate: rows per second.
        stride: every stride-th frame is kept.
        image_size: of the frames in pixels, or None.
    """

    source: Path
    folders: tuple[Path, ...]
    camera: str
    source_rate: float
    stride: int
    image_size: int | None

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns what states and actions mean; the bounds say what can be, not what is safe."""
        angles = ("roll", "pitch", "yaw")
        return TrajectorySpecification(
            state_names=("x", "y", "z", *angles, "gripper"),
            state_units=("metres",) * 3 + ("radians",) * 3 + ("1",),
            action_names=("dx", "dy", "dz", *(f"d{angle}" for angle in angles), "dgripper"),
            action_units=("metres",) * 3 + ("radians",) * 3 + ("1",),
            action_low=(-2.0,) * 3 + (-np.pi,) * 3 + (-1.0,),  # 2 m: no arm of 0.86 m goes further
            action_high=(2.0,) * 3 + (np.pi,) * 3 + (1.0,),
            frames_per_second=self.source_rate / self.stride,
            frame="base",
            rotation=ROTATION,
            gripper="closedness, 0 open to 1 closed",
            action_kind="pose difference",
        )

    @cached_property
    def listed(self) -> Sequence[ListedEpisode]:
        """Returns the trajectories by folder; names are relative to the source."""
        listed, keys = [], set()
        for folder in self.folders:
            name = folder.relative_to(self.source).as_posix()
            name = self.source.resolve().name if name == "." else name
            key = key_of_path(f"{name}.h5", taken=keys)
            keys.add(key)
            files = (folder / "trajectory.h5", *sorted(folder.glob("recordings/MP4/*.mp4")))
            listed.append(ListedEpisode(name, key, files))
        return listed

    def episode(self, number: int) -> Episode:
        """Reads a trajectory; it remarks on an end that was cut off, and on another rate.

        Of a trajectory whose own clock is more than 10 % off the source's rate, a kept frame is a
        little later or earlier than said; poses and actions are exact.

        Raises:
            SourceError: if it is incomplete, or if rows and frames do not fit together.
            DecodeError: if its video cannot be read.
        """
        folder = self.folders[number]
        metadata = _metadata(folder)
        poses = _poses(folder / "trajectory.h5")  # (rows, 7)
        video = _video_path(folder, metadata, self.camera)
        frames, num_frames = self._frames(video, len(poses))  # (time, height, width, 3)
        remarks = [_CUT] if num_frames != len(poses) else []
        if not _is_near(_measured_rate(folder), self.source_rate):
            remarks.append(f"recorded more than 10 % off {self.source_rate:g} steps per second")
        poses = poses[:: self.stride][: len(frames)]  # (time, 7)
        return Episode(
            frames=frames,
            states=poses.astype(np.float32),
            actions=pose_differences(poses).astype(np.float32),
            key=self.listed[number].key,
            frames_per_second=self.specification.frames_per_second,
            group=_group(folder, metadata),
            remarks=tuple(remarks),
        )

    def _frames(self, path: Path, num_rows: int) -> tuple[np.ndarray, int]:
        """Returns every stride-th frame that has a row, (time, height, width, 3); and how many."""
        with decoder_class("decord")(path.read_bytes(), str(path)) as video:
            num_frames = len(video.timestamps_seconds())
            if abs(num_frames - num_rows) > MOST_ROWS_CUT:
                raise SourceError(
                    f"{path}: {num_frames} frames for {num_rows} rows of trajectory.h5; more than "
                    f"{MOST_ROWS_CUT} apart cannot be aligned"
                )
            indices = np.arange(0, min(num_frames, num_rows), self.stride)
            if len(indices) < 2:
                raise SourceError(f"{path}: {num_frames} frames; 2 are needed after the stride")
            parts = [
                resized(video.frames_at(part).pixels, self.image_size)
                for part in np.split(indices, range(_FRAMES_AT_ONCE, len(indices), _FRAMES_AT_ONCE))
            ]
        return np.concatenate(parts), num_frames


def _stride(rate: float, frames_per_second: float | None) -> int:
    if frames_per_second is None or frames_per_second <= 0:
        return stride_of_rate(rate, frames_per_second)
    nearest = rate / max(1, round(rate / frames_per_second))
    is_near = abs(frames_per_second - nearest) <= 0.05 * nearest
    return stride_of_rate(rate, nearest if is_near else frames_per_second)


def _rate_of_set(folders: list[Path]) -> float:
    """Returns 15, or what the clocks say if they agree on something else."""
    chosen = folders[:: -(-len(folders) // _TRAJECTORIES_TIMED)]
    rates = [rate for rate in map(_measured_rate, chosen) if rate is not None]
    if not rates:
        return CONTROL_RATE
    rate = float(np.median(rates))
    return CONTROL_RATE if _is_near(rate, CONTROL_RATE) else round(rate, 2)


def _measured_rate(folder: Path) -> float | None:
    """Returns the median rate of a trajectory's clock, in milliseconds; None without a clock."""
    try:
        with open_hdf5(folder / "trajectory.h5") as file:
            clock = next((name for name in _CLOCKS if has_array(file, name)), None)
            times = read_array(file, clock, ndim=1) if clock else np.zeros(0)
    except SourceError:
        return None  # said when the trajectory is read
    steps_milliseconds = np.diff(times.astype(np.float64))
    median = float(np.median(steps_milliseconds)) if len(steps_milliseconds) else 0.0
    return 1000 / median if median > 0 else None


def _is_near(rate: float | None, expected: float) -> bool:
    return rate is None or abs(rate - expected) <= RATE_TOLERANCE * expected


def _group(folder: Path, metadata: dict[str, Any]) -> str:
    """Returns the scene of a trajectory; if that is not said, its building and day.

    A scene is a robot with its cameras in one place, until somebody moves them.
    """
    lab, scene = metadata.get("lab") or "unknown", metadata.get("scene_id")
    if scene is not None:
        return f"{lab}/scene {scene}"
    date = str(metadata.get("date") or folder.parent.name)
    date = date if re.fullmatch(r"\d{4}-\d\d-\d\d", date) else "unknown"
    return f"{lab}/{metadata.get('building') or 'unknown'}/{date}"


def _metadata(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.glob("metadata*.json"))
    if not paths:
        raise SourceError(f"{folder}: no metadata*.json, so its recording is incomplete")
    path = paths[0]
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{path}: not JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise SourceError(f"{path}: must hold names and values, holds a {type(metadata).__name__}")
    return metadata


def _poses(path: Path) -> np.ndarray:
    """Returns the measured poses: (rows, 7), float64."""
    with open_hdf5(path) as file:
        hand = read_array(file, _STATE + "cartesian_position", ndim=2)  # (rows, 6)
        gripper = read_array(file, _STATE + "gripper_position")  # (rows,)
    if hand.shape[1] != 6 or gripper.size != len(hand):
        raise SourceError(
            f"{path}: cartesian_position must be (rows, 6) and gripper_position (rows,), got "
            f"{hand.shape} and {gripper.shape}"
        )
    return np.concatenate([hand, gripper.reshape(-1, 1)], axis=1).astype(np.float64)


def _video_path(folder: Path, metadata: dict[str, Any], camera: str) -> Path:
    """Returns a camera's video; of the path in the metadata, relative to its lab, the name."""
    videos = folder / "recordings" / "MP4"
    if camera in ROLES:
        said = metadata.get(f"{camera}_mp4_path")
        if not isinstance(said, str):
            raise SourceError(f"{folder}: its metadata name no {camera}_mp4_path")
        path = videos / said.replace("\\", "/").rpartition("/")[2]
    else:
        path = videos / f"{camera}.mp4"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in videos.glob("*.mp4"))) or "none"
        raise SourceError(f"{path}: no such video; cameras recorded here: {there}")
    return path
