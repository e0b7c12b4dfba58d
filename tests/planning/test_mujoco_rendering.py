"""Pictures of MuJoCo: always the same, of positions alone, and nothing of the simulation moves."""

import os
import subprocess
import sys

import numpy as np
import pytest

from planning.mujoco_rendering import (
    MujocoRenderer,
    Orbit,
    load_mujoco,
    load_physics,
    orbit_of_camera,
    save_physics,
)

WORLD = """
<mujoco>
  <visual><headlight ambient=".3 .3 .3" diffuse=".4 .4 .4" specular="0 0 0"/></visual>
  <asset>
    <texture name="checks" type="2d" builtin="checker" rgb1="1 1 1" rgb2="0 0 0" width="64"
      height="64"/>
    <material name="checks" texture="checks" texrepeat="8 8" reflectance=".5"/>
  </asset>
  <worldbody>
    <light name="lamp" pos="0 0 3" diffuse=".5 .5 .5" specular="0 0 0"/>
    <camera name="above" pos="0 0 3" xyaxes="1 0 0 0 1 0" fovy="50"/>
    <camera name="aslant" pos="0 -2 2" xyaxes="1 0 0 0 .70710678 .70710678" fovy="50"/>
    <geom name="floor" type="plane" size="2 2 .1" material="checks"/>
    <body name="ball" pos="0 0 .3">
      <freejoint/>
      <geom name="ball" size=".2" rgba="1 0 0 1"/>
      <site name="mark" pos="0 0 .3" size=".1" rgba="1 1 0 1"/>
    </body>
    <body name="block" pos=".6 0 .1">
      <freejoint/>
      <geom name="block" type="box" size=".1 .1 .1" rgba="0 0 1 1" group="3"/>
    </body>
    <body name="hand" mocap="true" pos="-.6 0 .2">
      <geom name="hand" type="box" size=".1 .1 .1" rgba="0 1 0 1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def mujoco():
    try:
        return load_mujoco()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def simulation(mujoco):
    model = mujoco.MjModel.from_xml_string(WORLD)
    return model, mujoco.MjData(model)


def moving(mujoco, simulation):
    """The simulation in the middle of a collision, with speeds."""
    model, data = simulation
    data.qvel[:3] = (1.0, 0.2, -1.0)
    data.qvel[6] = -0.5
    for _ in range(60):
        mujoco.mj_step(model, data)
    return model, data


def run(program, **environment):
    """Runs a program in a fresh interpreter; a variable that is None is not set there."""
    variables = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=variables, timeout=60
    )


# What is drawn.


def test_the_same_positions_give_the_same_picture_from_any_renderer(simulation):
    model, data = simulation
    renderer = MujocoRenderer(model, 64, "above")
    first = renderer.render(data)
    assert (first.shape, first.dtype) == ((64, 64, 3), np.uint8)
    assert first.flags.c_contiguous
    large = MujocoRenderer(model, 96, "aslant").render(data)  # drawn in between
    assert large.shape == (96, 96, 3)
    assert np.array_equal(renderer.render(data), first)
    assert np.array_equal(MujocoRenderer(model, 64, "above").render(data), first)


def test_a_picture_does_not_change_when_the_next_is_drawn(simulation):
    model, data = simulation
    renderer = MujocoRenderer(model, 64, "above")
    first = renderer.render(data)
    before = first.copy()
    data.qpos[0] += 0.3
    assert not np.array_equal(renderer.render(data), first)
    assert np.array_equal(first, before)


def test_up_is_up_and_left_is_left(simulation):
    model, data = simulation
    picture = MujocoRenderer(model, 64, "above").render(data).astype(int)
    data.qpos[:3] = (0.0, 0.8, 0.3)  # the ball, further up in the picture
    picture = MujocoRenderer(model, 64, "above", hidden=("mark",)).render(data).astype(int)
    is_red = (picture[..., 0] > 100) & (picture[..., 1:].max(axis=-1) < 50)
    is_green = (picture[..., 1] > 100) & (picture[..., [0, 2]].max(axis=-1) < 50)
    rows, columns = np.nonzero(is_red)
    assert rows.max() < 32
    assert abs(columns.mean() - 31.5) < 2
    assert np.nonzero(is_green)[1].max() < 32  # the hand, at x = -0.6


def test_a_picture_shows_positions_and_neither_speeds_nor_what_was_derived_before(
    mujoco, simulation
):
    model, data = moving(mujoco, simulation)
    at_rest = mujoco.MjData(model)
    at_rest.qpos[:] = data.qpos  # and nothing is derived from it
    data.mocap_pos[0] = at_rest.mocap_pos[0] = (-0.3, 0.5, 0.4)  # after the step
    renderer = MujocoRenderer(model, 64, "aslant")
    assert np.array_equal(renderer.render(data), renderer.render(at_rest))


def test_drawing_changes_nothing_in_the_simulation(mujoco, simulation):
    model, data = moving(mujoco, simulation)
    data.qpos[0] += 0.01  # positions are ahead of what was derived, as after a step
    arrays = ("qpos", "qvel", "qacc_warmstart", "xpos", "geom_xpos", "ctrl", "mocap_pos")
    before = {name: getattr(data, name).copy() for name in arrays}
    looks = {name: getattr(model, name).copy() for name in ("geom_rgba", "light_diffuse")}
    samples = model.vis.quality.offsamples
    renderer = MujocoRenderer(model, 64, "above", hidden=("hand",))
    renderer.look(brightness=0.5, colours={"ball": (0, 1, 0)})
    renderer.render(data)
    assert all(np.array_equal(getattr(data, name), before[name]) for name in arrays)
    assert all(np.array_equal(getattr(model, name), looks[name]) for name in looks)
    assert model.vis.quality.offsamples == samples


def test_edges_are_not_smoothed_and_nothing_is_mirrored(mujoco):
    model = mujoco.MjModel.from_xml_string(WORLD.replace('texture="checks"', ""))
    data = mujoco.MjData(model)
    model.light_diffuse[:] = 0
    model.vis.headlight.diffuse[:] = 0  # only light from everywhere: one colour a thing
    renderer = MujocoRenderer(model, 64, "aslant", hidden=("mark",))
    colours = np.unique(renderer.render(data).reshape(-1, 3) // 8, axis=0)
    assert len(colours) == 4  # nothing, floor, ball, hand; the block is of a group not drawn


def test_nothing_casts_a_shadow(mujoco):
    lamp = WORLD.replace('pos="0 0 3" diffuse', 'pos="0 -3 3" dir="0 1 -1" diffuse')
    model = mujoco.MjModel.from_xml_string(lamp)
    data = mujoco.MjData(model)
    no_floor_light = MujocoRenderer(model, 64, "above", hidden=("ball", "mark")).render(data)
    with_ball = MujocoRenderer(model, 64, "above", hidden=("mark",)).render(data)
    changed = (with_ball != no_floor_light).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert np.hypot(rows - 31.5, columns - 31.5).max() < 8  # the ball itself, and nothing beside


def test_groups_and_names_say_what_is_drawn(simulation):
    model, data = simulation
    shown = MujocoRenderer(model, 64, "above", geom_groups=(0, 3)).render(data)
    usual = MujocoRenderer(model, 64, "above").render(data)
    assert not np.array_equal(shown, usual)  # the block is of group 3
    without = MujocoRenderer(model, 64, "above", hidden=("mark", "ball")).render(data)
    data.qpos[2] = -5.0  # the ball and its mark, far below the floor
    assert np.array_equal(MujocoRenderer(model, 64, "above").render(data), without)
    no_sites = MujocoRenderer(model, 64, "above", site_groups=()).render(data)
    assert np.array_equal(no_sites, without)


# How it looks.


def test_a_camera_of_the_model_and_its_orbit_see_the_same(simulation):
    model, data = simulation
    for camera in ("above", "aslant"):
        orbit = orbit_of_camera(model, camera, (0, 0, 0))
        fixed = MujocoRenderer(model, 64, camera).render(data).astype(int)
        free = MujocoRenderer(model, 64, orbit).render(data).astype(int)
        assert (np.abs(fixed - free).max(axis=-1) > 8).mean() < 0.02  # rounding tips some edges


def test_an_orbit_of_a_camera_stands_where_the_camera_does(simulation):
    model, _ = simulation
    orbit = orbit_of_camera(model, "aslant", (0, 0, 0))
    assert orbit.distance == pytest.approx(8**0.5)
    assert orbit.yaw_degrees == pytest.approx(90)
    assert orbit.pitch_degrees == pytest.approx(-45)
    assert orbit.field_of_view_degrees == 50


def test_a_moved_orbit_looks_at_the_same_point(simulation):
    model, data = simulation
    orbit = Orbit((0.6, 0.0, 0.1), distance=2.0, pitch_degrees=-60)
    assert orbit.moved() == orbit
    renderer = MujocoRenderer(model, 65, orbit, geom_groups=(3,), site_groups=())
    for moved in (orbit, orbit.moved(yaw=30), orbit.moved(pitch=15), orbit.moved(distance=1.5)):
        renderer.look(camera=moved)
        rows, columns = np.nonzero(renderer.render(data)[..., 2] > 60)
        assert (rows.mean(), columns.mean()) == pytest.approx((32, 32), abs=1.5)


def test_a_look_is_undone_by_the_next(simulation):
    model, data = simulation
    renderer = MujocoRenderer(model, 64, "above")
    usual = renderer.render(data)
    renderer.look(camera="aslant", brightness=0.3, colours={"floor": (0, 0, 1), "mark": (0, 1, 1)})
    assert not np.array_equal(renderer.render(data), usual)
    renderer.look()
    assert np.array_equal(renderer.render(data), usual)


def test_brightness_is_a_factor_of_all_lights(simulation):
    model, data = simulation
    renderer = MujocoRenderer(model, 64, "above")
    means = []
    for brightness in (0.0, 0.4, 0.8):
        renderer.look(brightness=brightness)
        means.append(renderer.render(data).mean())
    assert means[0] < 1
    assert means[2] > 1.5 * means[1] > 10


def test_a_colour_replaces_a_material_and_its_texture(simulation):
    model, data = simulation
    renderer = MujocoRenderer(model, 64, "above", hidden=("ball", "mark", "hand"))
    assert renderer.render(data)[..., 0].std() > 30  # a chequered floor
    renderer.look(colours={"floor": (0.0, 0.5, 0.0)})
    picture = renderer.render(data)
    assert picture[..., 0].max() == 0
    assert picture[..., 1].min() > 0


# States to keep.


def test_a_kept_state_goes_on_to_the_last_bit_in_the_middle_of_a_contact(mujoco, simulation):
    model, data = moving(mujoco, simulation)
    saved = save_physics(model, data)
    assert data.ncon > 0

    def next_positions():
        positions = []
        for _ in range(30):
            mujoco.mj_step(model, data)
            positions.append(data.qpos.copy())
        return np.array(positions)

    went_on = next_positions()
    load_physics(model, data, saved)
    assert np.array_equal(save_physics(model, data), saved)
    assert np.array_equal(next_positions(), went_on)


def test_what_is_derived_is_up_to_date_after_a_state_is_put_back(mujoco, simulation):
    model, data = simulation
    mujoco.mj_forward(model, data)
    saved, place = save_physics(model, data), data.body("ball").xpos.copy()
    data.qpos[:3] = 1.0
    mujoco.mj_forward(model, data)
    load_physics(model, data, saved)
    assert np.array_equal(data.body("ball").xpos, place)


def test_a_state_of_another_model_is_refused(simulation):
    model, data = simulation
    with pytest.raises(ValueError, match=r"must have shape \(\d+,\), got \(3,\).*another model"):
        load_physics(model, data, np.zeros(3))


# What is refused.


def test_what_the_model_does_not_have_is_named(simulation):
    model, _ = simulation
    with pytest.raises(ValueError, match="no camera 'aboce'; there are: above, aslant"):
        MujocoRenderer(model, 64, "aboce")
    with pytest.raises(ValueError, match="no geom or site 'bal'"):
        MujocoRenderer(model, 64, "above", hidden=("bal",))
    with pytest.raises(ValueError, match=r"geom_groups must be among 0 to 5, got \(6,\)"):
        MujocoRenderer(model, 64, "above", geom_groups=(6,))
    with pytest.raises(ValueError, match=r"image_size must be in \[1, 2048\], got 0"):
        MujocoRenderer(model, 0, "above")


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"brightness": -1.0}, "brightness must be at least 0, got -1"),
        ({"brightness": float("nan")}, "brightness must be at least 0"),
        ({"colours": {"ball": (0, 0, 2)}}, r"the colour of 'ball' must be 3 values in \[0, 1\]"),
        ({"colours": {"ball": (0, 0)}}, "the colour of 'ball' must be 3 values"),
        ({"colours": {"bowl": (0, 0, 0)}}, "no geom or site 'bowl'"),
        ({"camera": "below"}, "no camera 'below'"),
    ],
)
def test_a_look_that_cannot_be_is_refused(simulation, look, message):
    renderer = MujocoRenderer(simulation[0], 64, "above")
    with pytest.raises(ValueError, match=message):
        renderer.look(**look)


# Processes and machines.

DRAW = f"""
from planning.mujoco_rendering import MujocoRenderer, load_mujoco
mujoco = load_mujoco()
model = mujoco.MjModel.from_xml_string('''{WORLD}''')
data = mujoco.MjData(model)
renderer = MujocoRenderer(model, 64, "above")
"""


@pytest.mark.usefixtures("mujoco")
@pytest.mark.parametrize("first", ["", "import mujoco\n"])
def test_without_a_choice_it_draws_without_a_display_whoever_imports_mujoco_first(first):
    ended = run(first + DRAW + "print(int(renderer.render(data).std()))", MUJOCO_GL=None)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 5
    assert ended.stderr == ""  # also at the end of the process


@pytest.mark.usefixtures("mujoco")
@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_a_backend_draws_or_says_in_one_line_which_package_it_lacks(backend):
    ended = run(DRAW + "renderer.render(data)", MUJOCO_GL=backend)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1]
        assert f"MuJoCo cannot draw with MUJOCO_GL={backend}: " in last
        assert "on Debian: apt-get install lib" in last


@pytest.mark.usefixtures("mujoco")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_after_a_picture_is_told_to_be_a_spawn_instead_of_waiting_forever():
    program = DRAW + (
        "import os\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(int(renderer.render(data).std()) > 5, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(int(renderer.render(data).std()) > 5, flush=True)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        renderer.render(data)\n"
        "    except RuntimeError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    before, parent, after = run(program).stdout.splitlines()
    assert (before, parent) == ("True", "True")
    assert "forked after MuJoCo had drawn cannot draw; start worker processes with" in after


@pytest.mark.usefixtures("mujoco")
def test_a_renderer_that_was_closed_draws_again(simulation):
    model, data = simulation
    renderer = MujocoRenderer(model, 64, "above")
    first = renderer.render(data)
    renderer.close()
    renderer.close()
    assert np.array_equal(renderer.render(data), first)


def test_labels_are_of_what_is_seen(simulation):
    """From 3 metres above: the floor is 3 away, the top of the mark 2.3, the mocap hand 2.7."""
    model, data = simulation
    labels = MujocoRenderer(model, 64, "above").render_labels(data)
    names = [model.body(i).name for i in range(model.nbody)]
    seen = {names[number] for number in np.unique(labels.bodies)}
    assert seen == {"world", "ball", "hand"}
    assert labels.depth[2, 2] == pytest.approx(3.0, abs=1e-3)
    assert labels.depth[32, 32] == pytest.approx(2.3, abs=0.01)
    hand = labels.depth[labels.bodies == names.index("hand")]
    assert np.median(hand) == pytest.approx(2.7, abs=1e-3)


@pytest.mark.parametrize("camera", ["above", "aslant", Orbit((0.0, 0.0, 0.3), 2.5, 40.0, -35.0)])
def test_the_view_projects_as_the_picture_is_drawn(simulation, mujoco, camera):
    """The middle of a body's pixels is where its middle is projected to, at its depth."""
    model, data = simulation
    painter = MujocoRenderer(model, 96, camera, site_groups=())
    labels = painter.render_labels(data)
    for name in ("ball", "hand"):
        body = model.body(name).id
        rows, columns = np.nonzero(labels.bodies == body)
        place, depth = labels.camera.project(labels.body_positions[body])
        np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], place, atol=1.5)
        nearest = labels.depth[labels.bodies == body].min()
        assert 0 < depth - nearest < 0.3


def test_labels_change_no_picture(simulation):
    model, data = simulation
    painter = MujocoRenderer(model, 64, "aslant")
    before = painter.render(data)
    painter.render_labels(data)
    np.testing.assert_array_equal(painter.render(data), before)
