"""RoboMimic and LIBERO: demonstrations of simulated arms in HDF5 files.

    data                          attributes: env_args (JSON, with control_freq)
    data/demo_0/actions           (rows, action_dim), what the controller was told
    data/demo_0/obs/<camera>      (rows, height, width, 3), uint8
    data/demo_0/obs/<state>       (rows, ...)

Actions are kept as they are: commands, most often seven numbers in [-1, 1] for the controller
OSC_POSE (a turn and a shift of the hand, and the gripper). Neither differences of poses nor in
metres; `action_kind` says so. At a lower frame rate the actions between two kept frames are joined,
columns side by side (`dx@0`, ..., `dx@1`, ...), as in `lerobot.py`: commands cannot be added.

What LIBERO's own script (scripts/create_dataset.py) does differently from RoboMimic's:

- It records what the camera sees *after* the action of the same row; RoboMimic what it sees before.
  So from row t to row t + 1 leads action t + 1 of LIBERO and action t of RoboMimic. Files that were
  made by replaying LIBERO otherwise (they lack the attribute `macros_image_convention`) record
  before the action, as RoboMimic.
- Its images are stored from the bottom row to the top (MuJoCo's order, LIBERO issue 11). They are
  turned upright: rows reversed. OpenVLA and others turn them by 180 degrees instead, which also
  swaps left and right (openvla issue 295). `upside_down` overrides what is said here.

The last row of RoboMimic has an action but no frame after it; that action is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.hdf5_files import (
    Hdf5Group,
    bounds_of_actions,
    hdf5_files,
    open_hdf5,
    read_array,
)
from data_pipelines.importers.base import (
    Importer,
    ListedEpisode,
    SourceError,
    joined_actions,
    refuse_bad_image_size,
    resized,
    stride_of_rate,
)
from data_pipelines.shard_writing import key_of_path
from data_pipelines.trajectories import Episode, TrajectorySpecification, joined_names

SUMMARY = "RoboMimic and LIBERO: HDF5 files with data/demo_N/actions and data/demo_N/obs"

CONTROL_RATE = 20.0  # of both, where a file does not say

_CONVENTION = "macros_image_convention"  # written by LIBERO's own script only
_LIBERO_CAMERAS = ("agentview_rgb", "eye_in_hand_rgb")
_QUATERNION = tuple((f"quaternion_{axis}", "1") for axis in "xyzw")
_PLACE = (("x", "metres"), ("y", "metres"), ("z", "metres"))
_TURN = tuple((f"axis_angle_{axis}", "radians") for axis in "xyz")
_FINGERS = (("finger_left", "metres"), ("finger_right", "metres"))
# Key of obs, and its columns with units; those that are there become states, in this order.
_STATES = {
    "robot0_eef_pos": _PLACE,
    "robot0_eef_quat": _QUATERNION,
    "robot0_gripper_qpos": _FINGERS,
    "ee_pos": _PLACE,
    "ee_ori": _TURN,
    "gripper_states": _FINGERS,
}
_ROTATIONS = {"robot0_eef_quat": "quaternion xyzw", "ee_ori": "axis-angle, radians"}
# Rotations are axis times angle in both.
_ACTION_NAMES = {
    "OSC_POSE": ("dx", "dy", "dz", "turn_x", "turn_y", "turn_z", "gripper"),
    "OSC_POSE, absolute": ("x", "y", "z", *(name for name, _ in _TURN), "gripper"),
}


class _Demo(NamedTuple):
    """A demonstration, or a file of which none can be named.

    Attributes:
        file: that it is in.
        name: "demo_0", ...; "" for a file that cannot be read.
        fault: why it cannot be used, as far as that was seen when the source was opened.
    """

    file: Path
    name: str
    fault: str = ""


class _Layout(NamedTuple):
    """What must be the same in all demonstrations of a source."""

    cameras: tuple[str, ...]
    states: tuple[str, ...]
    action_dim: int
    rate: float
    controller: str
    sees_after_action: bool
    convention: str


def open_source(
    source: str | Path,
    *,
    camera: str | None = None,
    frames_per_second: float | None = None,
    image_size: int | None = None,
    upside_down: bool | None = None,
) -> Hdf5Importer:
    """Opens a file, or all HDF5 files below a folder; reads all actions for their bounds.

    Args:
        source: a file or a folder.
        camera: key of obs, such as "agentview_image"; None if there is one.
        frames_per_second: the source's rate divided by a whole number; None: every frame.
        image_size: height and width of the frames in pixels; None: as recorded.
        upside_down: whether rows of pixels are stored from the bottom up. None: True for LIBERO's
            cameras (`agentview_rgb`, `eye_in_hand_rgb`), unless the file says "opencv".

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        SourceError: if it is not of this layout, or if an option does not fit.
        ImportError: if h5py is not installed.
    """
    refuse_bad_image_size(image_size)
    files = hdf5_files(Path(source))
    layouts = {path: _layout_or_fault(path) for path in files}
    readable = {path: layout for path, layout in layouts.items() if isinstance(layout, _Layout)}
    if not readable:
        raise SourceError(str(layouts[files[0]]))
    first, layout = next(iter(readable.items()))
    demos: list[_Demo] = []
    low, high = np.full(layout.action_dim, np.inf), np.full(layout.action_dim, -np.inf)
    for path, other in layouts.items():
        if not isinstance(other, _Layout):
            demos.append(_Demo(path, "", other))
            continue
        if other != layout:
            raise SourceError(f"{path}: {_first_difference(other, layout)} of {first}")
        for demo, actions in _demos(path, layout.action_dim):
            demos.append(demo)
            if actions is not None:
                low, high = np.minimum(low, actions.min(0)), np.maximum(high, actions.max(0))
    if not (low <= high).all():
        raise SourceError(f"{source}: no demonstration with usable actions; {demos[0].fault}")
    camera = _chosen_camera(first, layout.cameras, camera)
    if upside_down is None:
        upside_down = camera in _LIBERO_CAMERAS and layout.convention != "opencv"
    return Hdf5Importer(
        source=Path(source),
        demos=tuple(demos),
        layout=layout,
        camera=camera,
        stride=stride_of_rate(layout.rate, frames_per_second),
        image_size=image_size,
        upside_down=upside_down,
        bounds=bounds_of_actions(low, high),
    )


@dataclass(frozen=True)
class Hdf5Importer(Importer):
    """The demonstrations of a file or a folder.

    Attributes:
        source: as opened.
        demos: file and name of each, file by file, demo_2 before demo_10.
        layout: what is the same in all of them.
        camera: key of obs.
        stride: every stride-th frame is kept.
        image_size: of the frames in pixels, or None.
        upside_down: whether rows of pixels are stored from the bottom up.
        bounds: of the recorded actions, low and high.
    """

    source: Path
    demos: tuple[_Demo, ...]
    layout: _Layout
    camera: str
    stride: int
    image_size: int | None
    upside_down: bool
    bounds: tuple[tuple[float, ...], ...]

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns what states and actions mean."""
        states = self.layout.states
        columns = [column for key in states for column in _STATES[key]]
        dim, controller = self.layout.action_dim, self.layout.controller
        is_pose = dim == 7 and controller in _ACTION_NAMES
        numbered = tuple(f"action_{i}" for i in range(dim))
        names = _ACTION_NAMES[controller] if is_pose else numbered
        return TrajectorySpecification(
            state_names=tuple(name for name, _ in columns),
            state_units=tuple(unit for _, unit in columns),
            action_names=joined_names(names, self.stride),
            action_units=("1",) * dim * self.stride,
            action_low=self.bounds[0] * self.stride,
            action_high=self.bounds[1] * self.stride,
            frames_per_second=self.layout.rate / self.stride,
            frame="world" if columns else "",
            rotation=next((_ROTATIONS[key] for key in states if key in _ROTATIONS), ""),
            gripper="state: places of two fingers; action: -1 open to 1 closed" if is_pose else "",
            action_kind=f"command to {controller or 'an unnamed controller'}",
        )

    @cached_property
    def listed(self) -> Sequence[ListedEpisode]:
        """Returns the demonstrations; names are relative to the source."""
        folder = self.source if self.source.is_dir() else self.source.parent
        listed, keys = [], set()
        for demo in self.demos:
            file = demo.file.relative_to(folder)
            place = "/".join(filter(None, (file.with_suffix("").as_posix(), demo.name)))
            key = key_of_path(f"{place}.hdf5", taken=keys)
            keys.add(key)
            name = "/".join(filter(None, (file.as_posix(), demo.name)))
            listed.append(ListedEpisode(name, key, (demo.file,)))
        return listed

    def episode(self, number: int) -> Episode:
        """Reads a demonstration.

        Raises:
            SourceError: if an array is missing, of another length or unreadable.
        """
        demo, key = self.demos[number], self.listed[number].key
        if demo.fault:
            raise SourceError(demo.fault)
        with open_hdf5(demo.file) as file:
            group = file[f"data/{demo.name}"]
            frames = read_array(group, f"obs/{self.camera}", ndim=4)
            states = [read_array(group, f"obs/{key}", ndim=2) for key in self.layout.states]
            actions = read_array(group, "actions", ndim=2)
        where = f"{demo.file}: {demo.name}"
        rows = sorted({len(frames), len(actions), *map(len, states)})
        if len(rows) != 1 or rows[0] < 2:
            raise SourceError(f"{where}: arrays must be equally long, at least 2 rows; got {rows}")
        columns = np.concatenate([np.zeros((len(frames), 0)), *states], axis=1)
        if self.layout.sees_after_action:
            actions = np.roll(actions, -1, axis=0)  # what is rolled to the end is not used
        frames = frames[:: self.stride]
        frames = frames[:, ::-1] if self.upside_down else frames
        return Episode(
            frames=resized(np.ascontiguousarray(frames), self.image_size),
            states=columns[:: self.stride].astype(np.float32),
            actions=joined_actions(actions, self.stride).astype(np.float32),
            key=key,
            frames_per_second=self.specification.frames_per_second,
            group=key,
        )


def _layout_or_fault(path: Path) -> _Layout | str:
    """Returns the layout of a file's first demonstration that has one, or a fault."""
    try:
        with open_hdf5(path) as file:
            names = _demo_names(file)
    except SourceError as error:
        return str(error)
    faults = []
    for name in names:
        try:
            return _layout_of_demo(path, name)
        except SourceError as error:
            faults.append(str(error))
    return faults[0]


def _demos(path: Path, action_dim: int) -> Iterator[tuple[_Demo, np.ndarray | None]]:
    """Yields the demonstrations of a file with their actions; None if these cannot be used."""
    with open_hdf5(path) as file:
        for name in _demo_names(file):
            try:
                actions = _usable_actions(file, name, action_dim)
            except SourceError as error:
                yield _Demo(path, name, str(error)), None
            else:
                yield _Demo(path, name), actions


def _usable_actions(file: Hdf5Group, name: str, action_dim: int) -> np.ndarray:
    """Returns the actions of a demonstration: (rows, action_dim).

    Raises:
        SourceError: if they are missing, of another width, or not finite.
    """
    where = f"{file.file.filename}: {name}"
    if not hasattr(file[f"data/{name}"], "keys"):
        raise SourceError(f"{where} is no group")
    actions = read_array(file, f"data/{name}/actions", ndim=2)
    if actions.shape[1] != action_dim or not len(actions):
        raise SourceError(f"{where}: actions must be (rows, {action_dim}), are {actions.shape}")
    if not np.isfinite(actions).all():
        raise SourceError(f"{where} has actions that are not finite")
    return actions


def _layout_of_demo(path: Path, name: str) -> _Layout:
    with open_hdf5(path) as file:
        data, demo = file["data"], file[f"data/{name}"]
        if "obs" not in demo or not hasattr(demo["obs"], "keys"):
            raise SourceError(
                f"{path}: {name} has no 'obs' group; files of states only have no images "
                "(make them with dataset_states_to_obs.py of RoboMimic)"
            )
        obs = demo["obs"]
        cameras = tuple(sorted(key for key in obs if _is_images(obs[key])))
        if not cameras:
            raise SourceError(f"{path}: no images in obs; there are: {', '.join(sorted(obs))}")
        for key in _STATES.keys() & set(obs):
            if obs[key].shape[1:] != (len(_STATES[key]),):
                raise SourceError(
                    f"{path}: obs/{key} must be (rows, {len(_STATES[key])}), is {obs[key].shape}"
                )
        kwargs = _environment(path, data.attrs.get("env_args"))
        convention = _text(data.attrs.get(_CONVENTION, ""))
        return _Layout(
            cameras=cameras,
            states=tuple(key for key in _STATES if key in obs),
            action_dim=read_array(demo, "actions", ndim=2).shape[1],
            rate=float(kwargs.get("control_freq") or CONTROL_RATE),
            controller=_controller(kwargs.get("controller_configs")),
            sees_after_action=bool(convention),
            convention=convention,
        )


def _demo_names(file: Hdf5Group) -> list[str]:
    """Returns the names of the demonstrations, demo_2 before demo_10."""
    if "data" not in file or not hasattr(file["data"], "keys"):
        raise SourceError(f"{file.file.filename}: no 'data' group; RoboMimic and LIBERO have one")
    names = [name for name in file["data"] if re.fullmatch(r"demo_\d+", name)]
    if not names:
        raise SourceError(f"{file.file.filename}: no 'data/demo_0', 'data/demo_1', ...")
    return sorted(names, key=lambda name: int(name.rpartition("_")[2]))


def _is_images(array: Any) -> bool:  # noqa: ANN401
    return getattr(array, "dtype", None) == np.uint8 and array.ndim == 4 and array.shape[3] == 3


def _environment(path: Path, env_args: object) -> dict[str, Any]:
    """Returns env_kwargs of the attribute env_args; empty without it."""
    if env_args is None:
        return {}
    try:
        kwargs = json.loads(_text(env_args)).get("env_kwargs") or {}
    except (ValueError, AttributeError):
        raise SourceError(f"{path}: the attribute env_args of 'data' is not JSON") from None
    return kwargs if isinstance(kwargs, dict) else {}


def _controller(configuration: Any) -> str:  # noqa: ANN401
    """Returns a controller's name: "OSC_POSE", or "OSC_POSE, absolute" if it is told poses."""
    if not isinstance(configuration, dict):
        return ""
    arms = configuration.get("body_parts")  # robosuite 1.5
    if isinstance(arms, dict) and isinstance(arms.get("right"), dict):
        configuration = arms["right"]
    is_absolute = (
        configuration.get("control_delta") is False or configuration.get("input_type") == "absolute"
    )
    return f"{configuration.get('type', '')}{', absolute' if is_absolute else ''}"


def _chosen_camera(path: Path, cameras: tuple[str, ...], camera: str | None) -> str:
    if camera is None and len(cameras) == 1:
        return cameras[0]
    if camera not in cameras:
        asked = "several cameras" if camera is None else f"no camera '{camera}'"
        raise SourceError(f"{path}: {asked}; choose one of {', '.join(cameras)}")
    return camera


def _first_difference(layout: _Layout, expected: _Layout) -> str:
    for name, value, other in zip(layout._fields, layout, expected, strict=True):
        if value != other:
            return f"its {name} is {value}, not the {other}"
    raise AssertionError("equal layouts have no difference")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
