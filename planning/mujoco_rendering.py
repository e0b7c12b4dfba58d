"""Pictures of MuJoCo simulations without a window or a GPU, and their states to keep.

The only file that imports mujoco. Simulators bring a model and its data; this draws them on the
processor. Nearly all of a picture's time there goes into shadows, reflections and smoothed edges,
so none of these is drawn. A picture depends on positions alone (never on speeds, nor on when the
simulator last updated what it derives from them), and drawing changes nothing in the simulation:
the painter has a model and data of its own. Another graphics driver may draw other edges.

`MUJOCO_GL` chooses how: "egl" (the default on Linux; Debian: libegl1 libegl-mesa0 libgl1-mesa-dri),
"osmesa" (Debian: libosmesa6), or "glfw", which needs a display. Graphics are opened at the first
picture and do not survive a fork: worker processes must be spawned, or forked before it.
"""

from __future__ import annotations

import copy
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from planning.rendered_labels import RenderedLabels, View

if TYPE_CHECKING:
    from types import ModuleType

BACKEND_PACKAGES = {
    "egl": "libegl1 libegl-mesa0 libgl1-mesa-dri",
    "osmesa": "libosmesa6",
    "glfw": "libglfw3, and a display",
}
MAX_IMAGE_SIZE = 2048
MAX_GEOMS = 10000
_FAR_IS_ZERO = 1  # mjDEPTH_ZEROFAR: near things keep the digits of their depth
VERTICAL = 1e-6  # horizontal part of a direction of length 1
LIGHTS = ("light_ambient", "light_diffuse", "light_specular")
HEADLIGHTS = ("ambient", "diffuse", "specular")
INSTALL_HINT = "pip install 'jepa-planning[sim]'"

_drawing_processes: list[int] = []  # the one that drew first; a fork of it inherits the entry


@dataclass(frozen=True)
class Orbit:
    """A camera that looks at a point from a distance, upright.

    Attributes:
        look_at: (x, y, z), what is in the middle of the picture, in metres.
        distance: from there to the camera, in metres.
        yaw_degrees: of the direction of view, from the x axis towards the y axis.
        pitch_degrees: of the direction of view: -90 looks straight down.
        field_of_view_degrees: vertical angle that the picture covers.
    """

    look_at: tuple[float, float, float]
    distance: float
    yaw_degrees: float = 90.0
    pitch_degrees: float = -90.0
    field_of_view_degrees: float = 45.0

    def moved(self, *, yaw: float = 0.0, pitch: float = 0.0, distance: float = 1.0) -> Orbit:
        """Returns the camera turned about what it looks at, in degrees, and its distance scaled."""
        return replace(
            self,
            yaw_degrees=self.yaw_degrees + yaw,
            pitch_degrees=self.pitch_degrees + pitch,
            distance=self.distance * distance,
        )


def orbit_of_camera(model: Any, camera: str, look_at: Sequence[float]) -> Orbit:  # noqa: ANN401
    """Returns a camera of the model as one that can be turned about a point.

    It stands where the model's stands, which must not move, and looks at the point; a roll of the
    model's camera about its own axis is lost.

    Raises:
        ValueError: if the model has no such camera.
    """
    mujoco, index = load_mujoco(), _camera_index(model, camera)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    offset = np.asarray(look_at, dtype=np.float64) - data.cam_xpos[index]
    distance = float(np.linalg.norm(offset))
    x, y, z = (offset / distance).tolist()
    if math.hypot(x, y) < VERTICAL:  # then what is up in the picture tells the yaw
        x, y, _ = data.cam_xmat[index].reshape(3, 3)[:, 1].tolist()
    return Orbit(
        look_at=(float(look_at[0]), float(look_at[1]), float(look_at[2])),
        distance=distance,
        yaw_degrees=math.degrees(math.atan2(y, x)),
        pitch_degrees=math.degrees(math.asin(max(-1.0, min(1.0, z)))),
        field_of_view_degrees=float(model.cam_fovy[index]),
    )


class MujocoRenderer:
    """Draws a model: square pictures, quickly, exactly and always the same.

    Args:
        model: a mujoco.MjModel; copied, so that no look that is set here reaches the simulation.
        image_size: height and width of a picture in pixels.
        camera: the name of a camera of the model, or where a free one stands.
        geom_groups: the groups of geoms to draw, 0 to 5; models hide collision geoms in one.
        site_groups: the groups of sites to draw.
        hidden: names of geoms and sites that are not drawn, such as the mark of a target.

    Attributes:
        model: the painter's own copy. What `look` does not know may be changed in it, such as
            sizes; shapes of meshes and textures are fixed at the first picture.

    Raises:
        ValueError: if the image size, a group, a camera or a name does not exist.
        ImportError: if mujoco is not installed.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        image_size: int,
        camera: str | Orbit,
        *,
        geom_groups: Sequence[int] = (0, 1, 2),
        site_groups: Sequence[int] = (0, 1, 2),
        hidden: Sequence[str] = (),
    ) -> None:
        if not 1 <= image_size <= MAX_IMAGE_SIZE:
            raise ValueError(f"image_size must be in [1, {MAX_IMAGE_SIZE}], got {image_size}")
        mujoco = load_mujoco()
        self.image_size = image_size
        self.model = copy.copy(model)
        self._data = mujoco.MjData(self.model)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = _switches(geom_groups, "geom_groups")
        self._options.sitegroup[:] = _switches(site_groups, "site_groups")
        self.model.vis.quality.offsamples = 0
        self.model.vis.quality.shadowsize = 0
        self.model.vis.global_.offwidth = self.model.vis.global_.offheight = image_size
        for name in hidden:
            self._hide(name)
        self._default_camera = camera
        self._original = copy.copy(self.model)
        self._graphics: _Graphics | None = None
        self.look()

    def look(
        self,
        *,
        camera: str | Orbit | None = None,
        brightness: float = 1.0,
        colours: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Sets how pictures look from now on; what is not said is as in the beginning.

        Args:
            camera: name of a camera, or where a free one stands.
            brightness: factor of all lights, at least 0.
            colours: of geoms and sites by name: red, green and blue in [0, 1]. They replace a
                material and its texture.

        Raises:
            ValueError: if there is no such camera, geom or site, or a value is out of range.
        """
        if not (math.isfinite(brightness) and brightness >= 0):
            raise ValueError(f"brightness must be at least 0, got {brightness}")
        self._camera = self._camera_of(self._default_camera if camera is None else camera)
        self._restore()
        for part in LIGHTS:
            getattr(self.model, part)[:] *= brightness
        for part in HEADLIGHTS:
            getattr(self.model.vis.headlight, part)[:] *= brightness
        for name, colour in (colours or {}).items():
            self._paint(name, colour)

    def render(self, data: Any) -> np.ndarray:  # noqa: ANN401
        """Draws where everything is.

        Args:
            data: a mujoco.MjData of the model; only its positions are read.

        Returns:
            (image_size, image_size, 3), uint8, RGB; a new array.

        Raises:
            RuntimeError: if nothing can be drawn on this machine; the message says what to install.
        """
        mujoco, painted = load_mujoco(), self._data
        painted.qpos[:] = data.qpos
        painted.mocap_pos[:], painted.mocap_quat[:] = data.mocap_pos, data.mocap_quat
        for update in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            update(self.model, painted)
        mujoco.mj_tendon(self.model, painted)
        if self._graphics is None:
            self._graphics = _Graphics(self.model, self.image_size)
        return self._graphics.draw(self.model, painted, self._options, self._camera)

    def render_labels(self, data: Any) -> RenderedLabels:  # noqa: ANN401
        """Draws what is where, and how far away, from where `render` would look.

        Args:
            data: as for `render`.

        Raises:
            RuntimeError: as `render`.
        """
        self.render(data)
        assert self._graphics is not None  # `render` opened it
        return self._graphics.read_labels(self.model, self._data)

    def close(self) -> None:
        """Frees the graphics; the next picture opens them again."""
        if self._graphics is not None:
            self._graphics.close()
        self._graphics = None

    # ------------------------------------------------------------------ private

    def _camera_of(self, camera: str | Orbit) -> Any:  # noqa: ANN401
        mujoco = load_mujoco()
        made = mujoco.MjvCamera()
        if isinstance(camera, str):
            made.type = mujoco.mjtCamera.mjCAMERA_FIXED
            made.fixedcamid = _camera_index(self.model, camera)
            return made
        made.type = mujoco.mjtCamera.mjCAMERA_FREE
        made.lookat[:] = camera.look_at
        made.distance = camera.distance
        made.azimuth, made.elevation = camera.yaw_degrees, camera.pitch_degrees
        self.model.vis.global_.fovy = camera.field_of_view_degrees
        return made

    def _restore(self) -> None:
        colours = ("geom_rgba", "geom_matid", "site_rgba", "site_matid")
        for part in (*LIGHTS, *colours):
            getattr(self.model, part)[:] = getattr(self._original, part)
        for part in HEADLIGHTS:
            light = getattr(self._original.vis.headlight, part)
            getattr(self.model.vis.headlight, part)[:] = light

    def _paint(self, name: str, colour: Sequence[float]) -> None:
        values = np.asarray(colour, dtype=np.float64)
        if values.shape != (3,) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"the colour of {name!r} must be 3 values in [0, 1], got {colour}")
        kind, index = self._find(name)
        getattr(self.model, f"{kind}_matid")[index] = -1
        getattr(self.model, f"{kind}_rgba")[index, :3] = values

    def _hide(self, name: str) -> None:
        kind, index = self._find(name)
        getattr(self.model, f"{kind}_rgba")[index] = 0  # what is wholly transparent is not drawn

    def _find(self, name: str) -> tuple[str, int]:
        """Returns "geom" or "site", and the index of the one of this name."""
        mujoco = load_mujoco()
        for kind in ("geom", "site"):
            type_of_object = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
            index = mujoco.mj_name2id(self.model, type_of_object, name)
            if index >= 0:
                return kind, index
        raise ValueError(f"the model has no geom or site {name!r}")


class _Graphics:
    """What is open in one process: a context to draw in, and a scene."""

    def __init__(self, model: Any, image_size: int) -> None:  # noqa: ANN401
        mujoco = load_mujoco()
        _refuse_a_fork()
        _drawing_processes[:] = [os.getpid()]
        self._size = image_size
        self._context = _open_context(image_size)
        self._context.make_current()
        self._drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._drawer)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0

    def draw(self, model: Any, data: Any, options: Any, camera: Any) -> np.ndarray:  # noqa: ANN401
        mujoco = load_mujoco()
        _refuse_a_fork()
        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, options, None, camera, every, self._scene)
        self._context.make_current()  # another library may have drawn in between
        pixels = np.empty((self._size, self._size, 3), dtype=np.uint8)
        rectangle = mujoco.MjrRect(0, 0, self._size, self._size)
        mujoco.mjr_render(rectangle, self._scene, self._drawer)
        mujoco.mjr_readPixels(pixels, None, rectangle, self._drawer)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest

    def read_labels(self, model: Any, data: Any) -> RenderedLabels:  # noqa: ANN401
        """Labels what was drawn last: each thing is drawn in the colour of its number."""
        mujoco, scene, size = load_mujoco(), self._scene, self._size
        marks = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
        colours, depth = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.float32)
        rectangle = mujoco.MjrRect(0, 0, size, size)
        depth_map, self._drawer.readDepthMap = self._drawer.readDepthMap, _FAR_IS_ZERO
        scene.flags[marks] = 1
        try:
            mujoco.mjr_render(rectangle, scene, self._drawer)
            mujoco.mjr_readPixels(colours, depth, rectangle, self._drawer)
        finally:
            scene.flags[marks] = 0
            self._drawer.readDepthMap = depth_map
        bodies = _bodies_of_marks(model, scene)[colours[::-1].astype(np.int64) @ (1, 256, 65536)]
        near, far = (
            value * model.stat.extent for value in (model.vis.map.znear, model.vis.map.zfar)
        )
        return RenderedLabels(
            bodies=bodies,
            depth=(near * far / (near + depth[::-1].astype(np.float64) * (far - near))),
            camera=_view_of(scene, size),
            body_positions=data.xpos.copy(),
            body_rotations=data.xmat.reshape(-1, 3, 3).copy(),
        )

    def close(self) -> None:
        self._context.make_current()
        self._drawer.free()
        self._context.free()


def _bodies_of_marks(model: Any, scene: Any) -> np.ndarray:  # noqa: ANN401
    """Returns the body of each number that things are drawn as: (numbers,); -1 for none."""
    mujoco = load_mujoco()
    owners = {
        mujoco.mjtObj.mjOBJ_GEOM.value: model.geom_bodyid,
        mujoco.mjtObj.mjOBJ_SITE.value: model.site_bodyid,
    }
    bodies = np.full(scene.ngeom + 1, -1, dtype=np.int64)
    for thing in scene.geoms[: scene.ngeom]:
        if thing.segid >= 0 and thing.objtype in owners:
            bodies[thing.segid + 1] = owners[thing.objtype][thing.objid]
    return bodies


def _view_of(scene: Any, image_size: int) -> View:  # noqa: ANN401
    """Returns the camera of a scene: half way between its two eyes."""
    left, right = scene.camera[0], scene.camera[1]
    forward, up = np.array(left.forward, np.float64), np.array(left.up, np.float64)
    return View(
        position=(np.array(left.pos, np.float64) + np.array(right.pos, np.float64)) / 2,
        axes=np.stack([np.cross(forward, up), -up, forward]),
        focal_length=float(
            image_size * left.frustum_near / (left.frustum_top - left.frustum_bottom)
        ),
        image_size=image_size,
    )


def _refuse_a_fork() -> None:
    """Raises RuntimeError where a picture would wait forever for the threads of the parent."""
    if _drawing_processes not in ([], [os.getpid()]):
        raise RuntimeError(
            "a process that was forked after MuJoCo had drawn cannot draw; start worker "
            "processes with multiprocessing.get_context('spawn')"
        )


def body_names_of(model: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Returns the names of a model's bodies, by their numbers; "body 3" where one has none."""
    return tuple(model.body(i).name or f"body {i}" for i in range(model.nbody))


# ---------------------------------------------------------------------- states to keep


def save_physics(model: Any, data: Any) -> np.ndarray:  # noqa: ANN401
    """Returns (size,), float64: all that decides the next step, also the solver's warm start."""
    mujoco = load_mujoco()
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    saved = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, saved, kind)
    return saved


def load_physics(model: Any, data: Any, saved: np.ndarray) -> None:  # noqa: ANN401
    """Puts back what `save_physics` returned, and derives from it what a simulator may read.

    Raises:
        ValueError: if it was saved from another model.
    """
    mujoco = load_mujoco()
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    if saved.shape != (mujoco.mj_stateSize(model, kind),):
        raise ValueError(
            f"the state must have shape ({mujoco.mj_stateSize(model, kind)},), got {saved.shape}; "
            "it belongs to another model"
        )
    mujoco.mj_setState(model, data, saved, kind)
    mujoco.mj_forward(model, data)
    mujoco.mj_setState(model, data, saved, kind)  # forward may move the solver's warm start


# ---------------------------------------------------------------------- the library


def load_mujoco() -> ModuleType:
    """Imports mujoco, drawing without a display where nothing else was asked for.

    Call it before a simulator that draws with MuJoCo is imported: they all read `MUJOCO_GL`.

    Raises:
        ImportError: if it is not installed, or cannot draw as `MUJOCO_GL` asks.
    """
    loaded = sys.modules.get("mujoco")
    if loaded is not None:
        return loaded
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
    backend = os.environ.get("MUJOCO_GL", "")
    try:
        import mujoco  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ImportError(f"this needs MuJoCo: {INSTALL_HINT} ({error})") from error
    except (AttributeError, OSError, ImportError) as error:  # the library of the backend
        raise ImportError(_cannot_draw(backend, error)) from error
    return mujoco


def _open_context(image_size: int) -> Any:  # noqa: ANN401
    """Opens what MuJoCo draws in; where MuJoCo was imported without a choice, that is chosen now.

    Raises:
        RuntimeError: if it cannot be opened.
    """
    backend = os.environ.get("MUJOCO_GL", "").lower()
    if sys.platform == "linux" and backend not in BACKEND_PACKAGES:
        backend = "egl"
    try:
        if backend == "egl":
            from mujoco.egl import GLContext  # pyright: ignore[reportMissingImports]
        elif backend == "osmesa":
            from mujoco.osmesa import GLContext  # pyright: ignore[reportMissingImports]
        else:
            from mujoco import GLContext  # pyright: ignore[reportMissingImports]
        return _until_the_end(GLContext)(image_size, image_size)
    except (AttributeError, OSError, ImportError, RuntimeError) as error:
        raise RuntimeError(_cannot_draw(backend, error)) from error


def _until_the_end(kind: type) -> type:
    """Returns the class of contexts, but such that a process that ends leaves them to the system.

    By then another library may have ended the display under them, and freeing them complains.
    """
    process, is_ending = os.getpid(), sys.is_finalizing

    class Context(kind):
        def __del__(self) -> None:
            if not is_ending() and os.getpid() == process:
                super().__del__()

    return Context


def _cannot_draw(backend: str, error: Exception) -> str:
    packages = BACKEND_PACKAGES.get(backend, BACKEND_PACKAGES["egl"])
    others = " or ".join(f"MUJOCO_GL={name}" for name in ("egl", "osmesa") if name != backend)
    reason = " ".join(str(error).split())[:160]
    return (
        f"MuJoCo cannot draw with MUJOCO_GL={backend or 'unset'}: {reason}; on Debian: apt-get "
        f"install {packages}; or try {others}"
    )


def _switches(groups: Sequence[int], what: str) -> list[int]:
    if not all(group in range(6) for group in groups):
        raise ValueError(f"{what} must be among 0 to 5, got {tuple(groups)}")
    return [int(group in groups) for group in range(6)]


def _camera_index(model: Any, name: str) -> int:  # noqa: ANN401
    mujoco = load_mujoco()
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if index < 0:
        names = (model.camera(i).name for i in range(model.ncam))
        there = ", ".join(name for name in names if name) or "none"
        raise ValueError(f"the model has no camera {name!r}; there are: {there}")
    return index
