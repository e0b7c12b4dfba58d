"""Trajectories laid out as raw DROID: real MP4s that claim 60 frames per second, real HDF5."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.__main__ import main
from data_pipelines.importers.base import SourceError
from data_pipelines.importers.droid import open_source
from data_pipelines.pose_differences import pose_differences
from data_pipelines.shards import ShardIndex, ShardReader, pack_trajectories
from data_pipelines.video_writing import write_mp4

h5py = pytest.importorskip("h5py")

SERIALS = {"wrist": "11111111", "ext1": "22222222", "ext2": "33333333"}
CRASHES_DECORD = Path(__file__).parent / "crashes_decord.mp4"
MILLISECONDS = 67  # one step at 15 per second, as the clock rounds it


def poses_of(num_rows):
    """The hand turns by 0.1 rad about z and moves by 1 cm along x; the gripper closes."""
    rows = np.arange(num_rows, dtype=np.float64)
    poses = np.zeros((num_rows, 7))
    poses[:, 0], poses[:, 5], poses[:, 6] = 0.4 + 0.01 * rows, 0.1 * rows, rows / 100
    return poses


@pytest.fixture
def write_trajectory(index_frames):
    def write(folder, *, num_rows=20, num_frames=None, step=MILLISECONDS, lab="AUTOLab", **changes):
        num_frames = num_rows if num_frames is None else num_frames
        videos = folder / "recordings" / "MP4"
        for serial, first in (("11111111", 40), ("22222222", 0), ("33333333", 20)):
            frames = index_frames(60)[first : first + num_frames]
            write_mp4(videos / f"{serial}.mp4", frames, frames_per_second=60)
        with h5py.File(folder / "trajectory.h5", "w") as file:
            state = file.create_group("observation/robot_state")
            state["cartesian_position"] = poses_of(num_rows)[:, :6]
            state["gripper_position"] = poses_of(num_rows)[:, 6]
            if step is not None:
                clock = 1_690_000_000_000 + step * np.arange(num_rows)
                file["observation/timestamp/control/step_start"] = clock
        where = f"success/2023-07-07/{folder.name}/recordings/MP4"
        metadata = {f"{role}_mp4_path": f"{where}/{name}.mp4" for role, name in SERIALS.items()}
        metadata |= {"left_mp4_path": metadata["ext1_mp4_path"]}
        metadata |= {"right_mp4_path": metadata["ext2_mp4_path"]}
        metadata |= {"lab": lab, "building": "Soda Hall", **changes}
        (folder / "metadata_AUTOLab+1.json").write_text(json.dumps(metadata))
        return folder

    return write


def only_episode(source, **options):
    (episode,) = open_source(source, **options).episodes()
    return episode


def test_states_are_poses_and_actions_their_differences(tmp_path, write_trajectory, index_of):
    write_trajectory(tmp_path, num_rows=40)
    episode = only_episode(tmp_path)
    np.testing.assert_allclose(episode.states, poses_of(40), atol=1e-6)
    each = [0.01, 0, 0, 0, 0, 0.1, 0.01]  # by hand
    np.testing.assert_allclose(episode.actions, np.tile(each, (39, 1)), atol=1e-6)
    np.testing.assert_array_equal(index_of(episode.frames, (1, 2, 3)), range(40))


def test_the_60_per_second_that_the_video_claims_are_not_believed(tmp_path, write_trajectory):
    write_trajectory(tmp_path)
    assert open_source(tmp_path).specification.frames_per_second == 15
    assert only_episode(tmp_path).frames_per_second == 15


def test_a_lower_rate_keeps_every_third_frame_and_the_way_between_them(
    tmp_path, write_trajectory, index_of
):
    write_trajectory(tmp_path)
    episode = only_episode(tmp_path, frames_per_second=5)  # not 60 / 5 = 12
    np.testing.assert_array_equal(index_of(episode.frames, (1, 2, 3)), [0, 3, 6, 9, 12, 15, 18])
    np.testing.assert_allclose(episode.states, poses_of(20)[::3], atol=1e-6)
    each = [0.03, 0, 0, 0, 0, 0.3, 0.03]
    np.testing.assert_allclose(episode.actions, np.tile(each, (6, 1)), atol=1e-6)
    assert episode.frames_per_second == 5


def test_a_rate_within_5_percent_is_taken_for_the_exact_one(tmp_path, write_trajectory):
    write_trajectory(tmp_path)
    importer = open_source(tmp_path, frames_per_second=3.7)
    assert importer.stride == 4
    assert importer.specification.frames_per_second == 3.75


@pytest.mark.parametrize("rate", [4, 6, 20, 0])
def test_a_rate_that_no_whole_stride_gives_is_refused(tmp_path, write_trajectory, rate):
    write_trajectory(tmp_path)
    with pytest.raises(SourceError, match=r"choose one of 15, 7\.5, 5, 3\.75"):
        open_source(tmp_path, frames_per_second=rate)


def test_a_set_with_another_clock_has_the_clocks_rate(tmp_path, write_trajectory):
    write_trajectory(tmp_path, step=100)
    assert open_source(tmp_path).specification.frames_per_second == 10
    assert open_source(tmp_path, frames_per_second=5).stride == 2


def test_a_clock_near_15_counts_as_15_and_so_does_none(tmp_path, write_trajectory):
    write_trajectory(tmp_path / "near", step=71)  # 14.08 per second, as measured in the wild
    write_trajectory(tmp_path / "none", step=None)
    assert open_source(tmp_path / "near").specification.frames_per_second == 15
    assert open_source(tmp_path / "none").specification.frames_per_second == 15


def test_a_slow_trajectory_among_others_is_remarked_on(tmp_path, write_trajectory):
    for name, step in (("a", 67), ("b", 67), ("c", 120)):
        write_trajectory(tmp_path / name, step=step)
    remarks = [episode.remarks for episode in open_source(tmp_path).episodes()]
    assert remarks == [(), (), ("recorded more than 10 % off 15 steps per second",)]


@pytest.mark.parametrize(
    ("camera", "first"),
    [(None, 0), ("left", 0), ("ext1", 0), ("right", 20), ("wrist", 40), ("33333333", 20)],
)
def test_a_camera_is_chosen_by_role_or_serial_and_left_by_default(
    tmp_path, write_trajectory, index_of, camera, first
):
    write_trajectory(tmp_path, num_rows=4)
    frames = only_episode(tmp_path, camera=camera).frames
    np.testing.assert_array_equal(index_of(frames, (1, 2, 3)), first + np.arange(4))


@pytest.mark.parametrize(("num_rows", "num_frames"), [(12, 10), (11, 10), (10, 12)])
def test_up_to_two_rows_or_frames_too_many_are_cut_off_the_end(
    tmp_path, write_trajectory, index_of, num_rows, num_frames
):
    write_trajectory(tmp_path, num_rows=num_rows, num_frames=num_frames)
    episode = only_episode(tmp_path)
    np.testing.assert_allclose(episode.states, poses_of(10), atol=1e-6)
    np.testing.assert_array_equal(index_of(episode.frames, (1, 2, 3)), range(10))
    assert [remark.partition(":")[0] for remark in episode.remarks] == ["cut at the end"]


def test_three_rows_too_many_are_refused(tmp_path, write_trajectory):
    write_trajectory(tmp_path, num_rows=13, num_frames=10)
    with pytest.raises(SourceError, match=r"10 frames for 13 rows of trajectory\.h5"):
        only_episode(tmp_path)


def test_what_cannot_be_used_is_left_out_counted_and_named(tmp_path, write_trajectory, capsys):
    """A video that ends decord with a signal, real damage of all kinds, and what is incomplete."""
    raw = tmp_path / "raw"
    for name in ("good", "better"):
        write_trajectory(raw / name)
    crashing = write_trajectory(raw / "crashing") / "recordings/MP4/22222222.mp4"
    crashing.write_bytes(CRASHES_DECORD.read_bytes())
    truncated = write_trajectory(raw / "truncated") / "recordings/MP4/22222222.mp4"
    truncated.write_bytes(truncated.read_bytes()[:-700])
    write_trajectory(raw / "misaligned", num_frames=5)
    (write_trajectory(raw / "damaged") / "trajectory.h5").write_bytes(b"not HDF5")
    (write_trajectory(raw / "incomplete") / "metadata_AUTOLab+1.json").unlink()
    with h5py.File(write_trajectory(raw / "broken") / "trajectory.h5", "r+") as file:
        file["observation/robot_state/cartesian_position"][3, 0] = np.nan
    words = ["import", "droid", str(raw), str(tmp_path / "out")]
    assert main([*words, "--max-skipped-fraction", "0.8"]) == 0
    said = capsys.readouterr().out
    assert "skipped 6 of 8" in said and "imported 2 of 8 episodes" in said
    index = ShardIndex.load(tmp_path / "out")
    assert [sample.key for sample in index.samples] == ["better", "good"]
    reasons = {skipped.path: skipped.reason for skipped in index.skipped}
    assert reasons.keys() == {
        *("broken", "crashing", "damaged", "incomplete", "misaligned", "truncated")
    }
    assert "not finite" in reasons["broken"]
    assert reasons["crashing"] == "the process that read it crashed on it (signal 11)"
    assert "no HDF5 file" in reasons["damaged"]
    assert "no metadata" in reasons["incomplete"]
    assert "5 frames for 20 rows" in reasons["misaligned"]
    assert main(["info", str(tmp_path / "out")]) == 0
    assert "samples    2, skipped when packed 6" in capsys.readouterr().out


def test_remarks_are_kept_in_the_sample_and_counted(tmp_path, write_trajectory, capsys):
    for name, num_frames in (("a", 10), ("b", 9), ("c", 9)):
        write_trajectory(tmp_path / "raw" / name, num_rows=10, num_frames=num_frames)
    assert main(["import", "droid", str(tmp_path / "raw"), str(tmp_path / "out")]) == 0
    assert "2 of 3 episodes cut at the end: 1 or 2 rows" in capsys.readouterr().out
    reader = ShardReader()
    about = [json.loads(reader.read(s, "json")) for s in ShardIndex.load(tmp_path / "out").samples]
    assert ["remarks" in one for one in about] == [False, True, True]


def test_a_set_of_which_most_cannot_be_used_is_refused_with_the_list(
    tmp_path, write_trajectory, capsys
):
    for name in "abc":
        write_trajectory(tmp_path / "raw" / name, num_frames=20 if name == "a" else 3)
    words = ["import", "droid", str(tmp_path / "raw"), str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "2 of 3 episodes cannot be used, more than max_skipped_fraction=0.5: b: " in said
    assert not (tmp_path / "out/index.json").exists()
    assert main([*words, "--max-skipped-fraction", "0.7"]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"left_mp4_path": None}, "its metadata name no left_mp4_path"),
        ({"left_mp4_path": "x/9.mp4"}, r"9\.mp4: no such video; .* 11111111, 22222222, 33333333"),
        ({"left_mp4_path": "../../../secret.mp4"}, "MP4/secret.mp4: no such video"),
    ],
)
def test_a_camera_that_is_not_there_is_named(tmp_path, write_trajectory, changes, message):
    write_trajectory(tmp_path, **changes)
    with pytest.raises(SourceError, match=message):
        only_episode(tmp_path)


def test_an_array_that_is_missing_is_named(tmp_path, write_trajectory):
    write_trajectory(tmp_path)
    with h5py.File(tmp_path / "trajectory.h5", "r+") as file:
        del file["observation/robot_state/gripper_position"]
    with pytest.raises(SourceError, match="gripper_position' is missing"):
        only_episode(tmp_path)


def test_a_folder_without_trajectories_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no trajectory\.h5 in this folder or below"):
        open_source(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_source(tmp_path / "nothing")
    with pytest.raises(SourceError, match="camera must be one of left, right"):
        open_source(tmp_path, camera="top")


@pytest.mark.parametrize(
    ("place", "about", "group"),
    [
        ("2023-07-07/a", {"scene_id": 4711}, "AUTOLab/scene 4711"),
        ("2023-07-07/a", {"date": "2023-07-08"}, "AUTOLab/Soda Hall/2023-07-08"),
        ("2023-07-07/a", {}, "AUTOLab/Soda Hall/2023-07-07"),
        ("a", {}, "AUTOLab/Soda Hall/unknown"),
    ],
)
def test_trajectories_of_one_scene_or_day_stay_together(
    tmp_path, write_trajectory, place, about, group
):
    write_trajectory(tmp_path / "success" / place, num_rows=4, **about)
    assert only_episode(tmp_path).group == group


def test_keys_are_the_folders_and_the_pages_split_works(tmp_path, write_trajectory, capsys):
    for day in range(4):
        folder = tmp_path / "raw/success" / f"2023-07-0{day + 1}" / "Fri_Jul__7_09:42:23"
        write_trajectory(folder, num_rows=4)
    assert main(["import", "droid", str(tmp_path / "raw"), str(tmp_path / "droid")]) == 0
    keys = [sample.key for sample in ShardIndex.load(tmp_path / "droid").samples]
    assert keys[0] == "success/2023-07-01/Fri_Jul__7_09_42_23"
    parts = ["--parts", "train=0.75", "val=0.25"]
    words = ["split", str(tmp_path / "droid"), "--out", str(tmp_path / "shards"), *parts]
    assert main(words) == 0
    assert ShardIndex.load(tmp_path / "shards/val").num_samples == 1


def test_shards_of_droid_hold_the_same_numbers(tmp_path, write_trajectory, index_of, read_back):
    write_trajectory(tmp_path / "raw" / "a", num_rows=40)
    importer = open_source(tmp_path / "raw", frames_per_second=7.5, image_size=32)
    out, specification = tmp_path / "shards", importer.specification
    result = pack_trajectories(importer.episodes(), out, specification=specification)
    assert result.index.specification == specification
    assert specification.action_kind == "pose difference"
    ((sample, frames, states, actions),) = read_back(out)
    assert (sample.key, sample.group) == ("a", "AUTOLab/Soda Hall/unknown")
    assert sample.metadata.frames_per_second == 7.5
    assert frames.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(index_of(frames, (1, 2, 3)), range(0, 40, 2))
    np.testing.assert_allclose(states, poses_of(40)[::2], atol=1e-6)
    np.testing.assert_allclose(actions, pose_differences(poses_of(40)[::2]), atol=1e-6)
