"""Files laid out as the scripts of RoboMimic (dataset_states_to_obs) and LIBERO write them."""

import json

import numpy as np
import pytest

from data_pipelines.__main__ import main
from data_pipelines.importers.base import SourceError
from data_pipelines.importers.hdf5 import open_source
from data_pipelines.shards import ShardIndex, pack_trajectories

h5py = pytest.importorskip("h5py")

ROBOMIMIC_STATES = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
LIBERO_STATES = {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2, "joint_states": 7}
OSC_POSE = {"control_freq": 20, "controller_configs": {"type": "OSC_POSE", "control_delta": True}}


def upright(index_frames, num_rows):
    """Frame i is grey of level 8 + 4 i; of its upper quarter the left half is black."""
    frames = index_frames(num_rows)
    frames[:, :12, :32] = 0
    frames[:, :12, 32:] = 255
    return frames


def is_upright(frames):
    return (frames[:, :12, :32] == 0).all() and (frames[:, :12, 32:] == 255).all()


def actions_of(num_rows, dim=7):
    """Action t is t / 100 in every column but the gripper's, which is -1."""
    actions = np.repeat(np.arange(num_rows)[:, None] / 100.0, dim, axis=1)
    actions[:, -1] = -1
    return actions


def state_of(num_rows, dim, offset):
    return offset + np.arange(num_rows)[:, None] * 0.01 + np.arange(dim)


def write_demo(data, name, num_rows, frames, states, cameras, *, dim=7):
    demo = data.create_group(name)
    demo["actions"] = actions_of(num_rows, dim)
    for camera in cameras:
        demo[f"obs/{camera}"] = frames
    for offset, (key, width) in enumerate(states.items()):
        demo[f"obs/{key}"] = state_of(num_rows, width, 10 * offset)


@pytest.fixture
def robomimic(index_frames):
    def write(path, *, rows=(10,), cameras=("agentview_image",), kwargs=OSC_POSE, dim=7, **more):
        with h5py.File(path, "w") as file:
            data = file.create_group("data")
            if kwargs is not None:
                data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": kwargs})
            for number, num_rows in enumerate(rows):
                frames, states = upright(index_frames, num_rows), more.get("states")
                states = ROBOMIMIC_STATES if states is None else states
                write_demo(data, f"demo_{number}", num_rows, frames, states, cameras, dim=dim)
        return path

    return write


@pytest.fixture
def libero(index_frames):
    def write(path, *, num_rows=10, convention="opengl"):
        with h5py.File(path, "w") as file:
            data = file.create_group("data")
            data.attrs["env_args"] = json.dumps({"env_kwargs": OSC_POSE})
            if convention is not None:
                data.attrs["macros_image_convention"] = convention
            frames = upright(index_frames, num_rows)
            frames = frames if convention == "opencv" else frames[:, ::-1]
            cameras = ("agentview_rgb", "eye_in_hand_rgb")
            write_demo(data, "demo_0", num_rows, frames, LIBERO_STATES, cameras)
        return path

    return write


def only_episode(source, **options):
    (episode,) = open_source(source, **options).episodes()
    return episode


def test_robomimics_action_leads_from_the_row_it_stands_in(tmp_path, robomimic, index_of):
    episode = only_episode(robomimic(tmp_path / "lift.hdf5"))
    np.testing.assert_allclose(episode.actions, actions_of(10)[:-1], atol=1e-6)
    np.testing.assert_array_equal(index_of(episode.frames[:, 12:], (1, 2, 3)), range(10))
    assert is_upright(episode.frames)


def test_states_are_place_rotation_and_fingers_and_their_names_say_so(tmp_path, robomimic):
    importer = open_source(robomimic(tmp_path / "lift.hdf5"))
    (episode,) = importer.episodes()
    expected = [state_of(10, width, 10 * i) for i, width in enumerate((3, 4, 2))]
    np.testing.assert_allclose(episode.states, np.concatenate(expected, axis=1), atol=1e-5)
    specification = importer.specification
    assert specification.state_names[:5] == ("x", "y", "z", "quaternion_x", "quaternion_y")
    assert specification.state_names[7:] == ("finger_left", "finger_right")
    assert specification.state_units == ("metres",) * 3 + ("1",) * 4 + ("metres",) * 2
    assert specification.rotation == "quaternion xyzw"


def test_actions_are_named_as_commands_to_their_controller(tmp_path, robomimic):
    specification = open_source(robomimic(tmp_path / "lift.hdf5")).specification
    assert specification.action_kind == "command to OSC_POSE"
    assert specification.action_names == ("dx", "dy", "dz", "turn_x", "turn_y", "turn_z", "gripper")
    assert specification.action_low == (-1.0,) * 7
    assert specification.action_high == (1.0,) * 7


@pytest.mark.parametrize(
    ("controller", "kind"),
    [
        ({"type": "OSC_POSE", "control_delta": False}, "command to OSC_POSE, absolute"),
        ({"body_parts": {"right": {"type": "OSC_POSE", "input_type": "absolute"}}}, "absolute"),
        ({"body_parts": {"right": {"type": "JOINT_VELOCITY"}}}, "command to JOINT_VELOCITY"),
        (None, "command to an unnamed controller"),
    ],
)
def test_what_the_controller_is_told_is_written_down(tmp_path, robomimic, controller, kind):
    path = robomimic(tmp_path / "a.hdf5", kwargs={"controller_configs": controller})
    assert open_source(path).specification.action_kind.endswith(kind)


def test_columns_of_absolute_poses_are_not_called_differences(tmp_path, robomimic):
    absolute = {"type": "OSC_POSE", "control_delta": False}
    path = robomimic(tmp_path / "a.hdf5", kwargs={"controller_configs": absolute})
    assert open_source(path).specification.action_names[0] == "x"


def test_actions_beyond_one_widen_the_bounds(tmp_path, robomimic):
    path = robomimic(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][3, 0] = 2.5
    specification = open_source(path).specification
    assert specification.action_high[0] == 2.5
    assert specification.action_low[6] == -2.0  # the gripper never moved from -1


def test_the_rate_is_the_files_and_20_without_one(tmp_path, robomimic):
    slow = robomimic(tmp_path / "slow.hdf5", kwargs={"control_freq": 10})
    silent = robomimic(tmp_path / "silent.hdf5", kwargs=None)
    assert open_source(slow).specification.frames_per_second == 10
    assert open_source(silent).specification.frames_per_second == 20


def test_at_half_the_rate_two_actions_stand_side_by_side(tmp_path, robomimic, index_of):
    importer = open_source(robomimic(tmp_path / "lift.hdf5", rows=(8,)), frames_per_second=10)
    (episode,) = importer.episodes()
    np.testing.assert_array_equal(index_of(episode.frames[:, 12:], (1, 2, 3)), [0, 2, 4, 6])
    np.testing.assert_allclose(episode.states[:, 0], [0.00, 0.02, 0.04, 0.06], atol=1e-6)
    np.testing.assert_allclose(episode.actions[:, 0], [0.00, 0.02, 0.04], atol=1e-6)
    np.testing.assert_allclose(episode.actions[:, 7], [0.01, 0.03, 0.05], atol=1e-6)
    assert importer.specification.action_names[::7] == ("dx@0", "dx@1")
    assert episode.frames_per_second == importer.specification.frames_per_second == 10


def test_a_rate_that_no_whole_stride_gives_is_refused(tmp_path, robomimic):
    with pytest.raises(SourceError, match="choose one of 20, 10"):
        open_source(robomimic(tmp_path / "lift.hdf5"), frames_per_second=8)


def test_liberos_action_leads_to_the_row_it_stands_in(tmp_path, libero):
    episode = only_episode(libero(tmp_path / "task.hdf5"), camera="agentview_rgb")
    np.testing.assert_allclose(episode.actions, actions_of(10)[1:], atol=1e-6)


def test_at_half_the_rate_liberos_actions_are_still_those_between(tmp_path, libero):
    path = libero(tmp_path / "task.hdf5", num_rows=5)
    episode = only_episode(path, camera="agentview_rgb", frames_per_second=10)
    np.testing.assert_allclose(episode.actions[:, [0, 7]], [[0.01, 0.02], [0.03, 0.04]], atol=1e-6)


@pytest.mark.parametrize("convention", ["opengl", "opencv", None])
def test_liberos_images_come_out_upright(tmp_path, libero, convention, index_of):
    path = libero(tmp_path / "task.hdf5", convention=convention)
    frames = only_episode(path, camera="agentview_rgb").frames
    assert is_upright(frames)
    np.testing.assert_array_equal(index_of(frames[:, 12:], (1, 2, 3)), range(10))


def test_turning_upright_can_be_decided_by_hand(tmp_path, libero, robomimic):
    path = libero(tmp_path / "task.hdf5")
    kept = only_episode(path, camera="agentview_rgb", upside_down=False).frames
    assert is_upright(kept[:, ::-1])
    turned = only_episode(robomimic(tmp_path / "lift.hdf5"), upside_down=True).frames
    assert is_upright(turned[:, ::-1])


def test_libero_replayed_by_others_sees_before_it_acts(tmp_path, libero):
    path = libero(tmp_path / "task.hdf5", convention=None)
    episode = only_episode(path, camera="eye_in_hand_rgb")
    np.testing.assert_allclose(episode.actions, actions_of(10)[:-1], atol=1e-6)


def test_liberos_states_are_place_turn_and_fingers(tmp_path, libero):
    specification = open_source(libero(tmp_path / "a.hdf5"), camera="agentview_rgb").specification
    assert specification.state_names[3:6] == ("axis_angle_x", "axis_angle_y", "axis_angle_z")
    assert specification.state_dim == 8
    assert specification.rotation == "axis-angle, radians"


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path, robomimic):
    path = robomimic(tmp_path / "lift.hdf5", rows=tuple(range(4, 16)))
    episodes = list(open_source(path).episodes())
    assert [len(episode.frames) for episode in episodes] == list(range(4, 16))
    assert [episode.key for episode in episodes][9:11] == ["lift/demo_9", "lift/demo_10"]
    assert len({episode.group for episode in episodes}) == 12


def test_a_folder_of_files_is_one_set_even_with_long_names(tmp_path, robomimic):
    for task in ("close_the_drawer" * 7, "close_the_drawer" * 7 + "s", "open"):
        robomimic(tmp_path / f"{task}_demo.hdf5", rows=(4, 5))
    keys = [episode.key for episode in open_source(tmp_path).episodes()]
    assert len(set(keys)) == 6 and max(map(len, keys)) <= 95


def test_a_folder_whose_files_differ_is_refused(tmp_path, robomimic):
    robomimic(tmp_path / "a.hdf5")
    robomimic(tmp_path / "b.hdf5", kwargs={**OSC_POSE, "control_freq": 10})
    with pytest.raises(
        SourceError, match=r"b\.hdf5: its rate is 10\.0, not the 20\.0 of .*a\.hdf5"
    ):
        open_source(tmp_path)


def test_without_poses_there_are_no_states(tmp_path, robomimic, read_back):
    importer = open_source(robomimic(tmp_path / "a.hdf5", states={}))
    assert importer.specification.state_names == ()
    out = tmp_path / "shards"
    pack_trajectories(importer.episodes(), out, specification=importer.specification)
    ((_, _, states, _),) = read_back(out)
    assert states.shape == (10, 0)


def test_shards_hold_the_same_numbers(tmp_path, libero, read_back, index_of):
    importer = open_source(libero(tmp_path / "task.hdf5"), camera="agentview_rgb", image_size=48)
    out = tmp_path / "shards"
    result = pack_trajectories(importer.episodes(), out, specification=importer.specification)
    assert result.index.specification == importer.specification
    ((sample, frames, states, actions),) = read_back(out)
    assert sample.key == "task/demo_0" and sample.metadata.frames_per_second == 20
    np.testing.assert_array_equal(index_of(frames[:, 16:], (1, 2, 3)), range(10))
    np.testing.assert_allclose(states[:, :3], state_of(10, 3, 0), atol=1e-5)
    np.testing.assert_allclose(actions, actions_of(10)[1:], atol=1e-6)


def test_a_camera_must_be_chosen_and_exist(tmp_path, libero):
    path = libero(tmp_path / "task.hdf5")
    with pytest.raises(SourceError, match="several cameras; choose one of agentview_rgb, eye_in"):
        open_source(path)
    with pytest.raises(SourceError, match="no camera 'top'; choose one of agentview_rgb"):
        open_source(path, camera="top")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.pop("data"), "no 'data' group"),
        (lambda file: file["data"].pop("demo_0"), "no 'data/demo_0', 'data/demo_1'"),
        (lambda file: file["data/demo_0"].pop("obs"), "demo_0 has no 'obs' group"),
        (lambda file: file["data/demo_0"].pop("actions"), "actions' is missing"),
        (lambda file: file["data/demo_0/obs"].pop("agentview_image"), "no images in obs; there"),
        (lambda file: file["data"].attrs.update(env_args="{"), "env_args of 'data' is not JSON"),
        (lambda file: file["data/demo_0/actions"].__setitem__((0, 0), np.nan), "not finite"),
    ],
)
def test_another_layout_is_refused_in_one_line(tmp_path, robomimic, damage, message):
    path = robomimic(tmp_path / "lift.hdf5")
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_arrays_of_different_lengths_are_refused(tmp_path, robomimic):
    path = robomimic(tmp_path / "lift.hdf5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].pop("actions")
        file["data/demo_0/actions"] = actions_of(9)
    with pytest.raises(SourceError, match=r"demo_0: arrays must be equally long.*got \[9, 10\]"):
        only_episode(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda demo: demo.pop("actions"), "actions' is missing"),
        (lambda demo: demo.pop("obs"), "obs/agentview_image' is missing"),
        (lambda demo: demo["actions"].__setitem__((0, 0), np.nan), "actions that are not finite"),
        (lambda demo: replaced(demo, actions_of(9)), "must be equally long"),
        (lambda demo: replaced(demo, actions_of(10, 3)), r"must be \(rows, 7\), are \(10, 3\)"),
    ],
)
def test_one_bad_demonstration_costs_itself_only(tmp_path, robomimic, damage, message, capsys):
    path = robomimic(tmp_path / "lift.hdf5", rows=(10, 10, 10))
    with h5py.File(path, "r+") as file:
        damage(file["data/demo_1"])
    with pytest.raises(SourceError, match=message):
        open_source(path).episode(1)
    assert main(["import", "hdf5", str(path), str(tmp_path / "out")]) == 0
    assert "skipped 1 of 3: lift.hdf5/demo_1: " in capsys.readouterr().out
    index = ShardIndex.load(tmp_path / "out")
    assert [sample.key for sample in index.samples] == ["lift/demo_0", "lift/demo_2"]


def test_the_layout_is_that_of_the_first_demonstration_that_has_one(tmp_path, robomimic):
    path = robomimic(tmp_path / "lift.hdf5", rows=(10, 8))
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].pop("obs")
    source = open_source(path)
    assert source.layout.cameras == ("agentview_image",)
    assert len(source.episode(1).frames) == 8
    with pytest.raises(SourceError, match="obs/agentview_image' is missing"):
        source.episode(0)


def replaced(demo, actions):
    demo.pop("actions")
    demo["actions"] = actions


def test_a_damaged_file_among_others_costs_itself_only(tmp_path, robomimic):
    for name in "abc":
        robomimic(tmp_path / f"{name}.hdf5", rows=(4, 4))
    (tmp_path / "a.hdf5").write_bytes(b"PK")
    source = open_source(tmp_path)
    assert [one.name for one in source.listed][:2] == ["a.hdf5", "b.hdf5/demo_0"]
    assert source.episode(1).key == "b/demo_0"
    with pytest.raises(SourceError, match=r"a\.hdf5: no HDF5 file, or damaged"):
        source.episode(0)


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "a.hdf5").write_bytes(b"PK\x03\x04")
    with pytest.raises(SourceError, match=r"a\.hdf5: no HDF5 file, or damaged"):
        open_source(tmp_path / "a.hdf5")
    with pytest.raises(SourceError, match=r"no \.h5 or \.hdf5 file in this folder"):
        (tmp_path / "empty").mkdir()
        open_source(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_source(tmp_path / "nothing")


def test_without_h5py_the_extra_is_named(tmp_path, robomimic, monkeypatch):
    path = robomimic(tmp_path / "lift.hdf5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'jepa-planning\[robot\]'"):
        open_source(path)
