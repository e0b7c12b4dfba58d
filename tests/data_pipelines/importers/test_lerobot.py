"""LeRobot v3.0 folders, written here with pyarrow and PyAV as LeRobot lays them out.

The left half of a frame tells its number in the episode, the right half the episode's number.
"""

import builtins
import gc
import io
import json
import weakref
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from data_pipelines.__main__ import main
from data_pipelines.frames import DecodeError
from data_pipelines.importers import lerobot
from data_pipelines.importers.base import SourceError
from data_pipelines.importers.lerobot import open_source
from data_pipelines.shards import ShardIndex, pack_trajectories
from data_pipelines.video_writing import write_mp4

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LENGTHS = (5, 9, 1 + 6, 12, 4)
CAMERA = "observation.images.top"
CHUNK = "chunk-{chunk_index:03d}/file-{file_index:03d}"


def frames_of(episode, num_frames, *, height=48, width=64):
    frames = np.empty((num_frames, height, width, 3), dtype=np.uint8)
    frames[:, :, : width // 2] = (8 + 8 * np.arange(num_frames))[:, None, None, None]
    frames[:, :, width // 2 :] = 20 + 40 * episode
    return frames


def told_by(frames):
    """Returns each frame's number and its episode's, from the halves of the picture."""
    width = frames.shape[2]
    left = frames[:, 4:-4, 4 : width // 2 - 4].mean((1, 2, 3), dtype=np.float64)
    right = frames[:, 4:-4, width // 2 + 4 : -4].mean((1, 2, 3), dtype=np.float64)
    return np.rint((left - 8) / 8).astype(int).tolist(), np.rint((right - 20) / 40).astype(int)


def columns_of(episode, num_frames):
    """State[t] = (t, episode); action[t] = (t + 0.5, -episode, 1 / 3)."""
    time = np.arange(num_frames, dtype=np.float32)
    ones = np.ones_like(time)
    states = np.stack([time, episode * ones], axis=1)
    return states, np.stack([time + np.float32(0.5), -episode * ones, ones / 3], axis=1)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": "frame.png"}


def lists(rows):
    flat = pa.array(rows.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def write_folder(
    folder,
    *,
    lengths=LENGTHS,
    rate=10,
    image=False,
    episodes_per_data_file=3,
    episodes_per_video=2,
    files_per_chunk=2,
    stats=True,
    row_groups=True,
):
    """Writes a data set; data files and video files begin with different episodes."""
    rows, episodes, start = {}, [], 0
    for episode, length in enumerate(lengths):
        data_place = divmod(episode // episodes_per_data_file, files_per_chunk)
        video_place = divmod(episode // episodes_per_video, files_per_chunk)
        row = {
            "episode_index": episode,
            "tasks": ["push the block"],
            "length": length,
            "data/chunk_index": data_place[0],
            "data/file_index": data_place[1],
            "dataset_from_index": start,
            "dataset_to_index": start + length,
        }
        if not image:
            before = sum(lengths[episode - episode % episodes_per_video : episode])
            row |= {
                f"videos/{CAMERA}/chunk_index": video_place[0],
                f"videos/{CAMERA}/file_index": video_place[1],
                f"videos/{CAMERA}/from_timestamp": before / rate,
                f"videos/{CAMERA}/to_timestamp": (before + length) / rate,
            }
        episodes.append(row)
        states, actions = columns_of(episode, length)
        table = {
            "observation.state": lists(states),
            "action": lists(actions),
            "timestamp": pa.array((np.arange(length) / rate).astype(np.float32)),
            "frame_index": pa.array(np.arange(length)),
            "episode_index": pa.array(np.full(length, episode)),
            "index": pa.array(start + np.arange(length)),
            "task_index": pa.array(np.zeros(length, np.int64)),
        }
        if image:
            table[CAMERA] = pa.array([png(frame) for frame in frames_of(episode, length)])
        rows.setdefault(data_place, []).append(pa.table(table))
        start += length
    for place, tables in rows.items():
        path = folder / "data" / filled(place, "parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.concat_tables(tables)
        pq.write_table(table, path, row_group_size=7 if row_groups else None)
    if not image:
        write_videos(folder, lengths, rate, episodes_per_video, files_per_chunk)
    write_meta(folder, lengths, rate, episodes, image=image, stats=stats)
    return folder


def filled(place, suffix):
    return f"{CHUNK.format(chunk_index=place[0], file_index=place[1])}.{suffix}"


def write_videos(folder, lengths, rate, episodes_per_video, files_per_chunk):
    for number, first in enumerate(range(0, len(lengths), episodes_per_video)):
        members = range(first, min(first + episodes_per_video, len(lengths)))
        frames = np.concatenate([frames_of(episode, lengths[episode]) for episode in members])
        path = folder / "videos" / CAMERA / filled(divmod(number, files_per_chunk), "mp4")
        write_mp4(path, frames, frames_per_second=rate, crf=1, keyframe_interval=4, preset="medium")


def write_meta(folder, lengths, rate, episodes, *, image, stats):
    half = len(episodes) // 2  # two files of episodes
    for number, part in enumerate((episodes[:half], episodes[half:])):
        path = folder / "meta/episodes" / filled((0, number), "parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(part), path)
    pq.write_table(pa.table({"task_index": [0], "task": ["push"]}), folder / "meta/tasks.parquet")
    counter = {"dtype": "int64", "shape": [1], "names": None}
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["clock", "which"]},
        "action": {"dtype": "float32", "shape": [3], "names": {"motors": ["x", "y", "grip"]}},
        CAMERA: {"dtype": "image" if image else "video", "shape": [48, 64, 3], "names": None},
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), counter),
    }
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so100",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "fps": rate,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": f"data/{CHUNK}.parquet",
        "video_path": None if image else f"videos/{{video_key}}/{CHUNK}.mp4",
        "features": features,
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    if stats:
        actions = np.concatenate([columns_of(*pair)[1] for pair in enumerate(lengths)])
        values = {"min": actions.min(0).tolist(), "max": actions.max(0).tolist()}
        (folder / "meta/stats.json").write_text(json.dumps({"action": values}))


def change_info(folder, **changes):
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_features(folder, **changes):
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    change_info(folder, features=features | changes)


def change_rows(path, **changes):
    """Replaces columns of a Parquet file by what functions make of their values."""
    table = pq.read_table(path)
    for name, change in changes.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, [change(table.column(name).to_pylist())])
    pq.write_table(table, path)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("lerobot"))


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set")


# What is read.


@pytest.mark.parametrize("image", [False, True], ids=["video", "image"])
@pytest.mark.parametrize("row_groups", [False, True], ids=["one_group", "many_groups"])
def test_numbers_and_frames_are_those_that_were_recorded(tmp_path, image, row_groups):
    source = open_source(write_folder(tmp_path, image=image, row_groups=row_groups))
    episodes = list(source.episodes())
    assert [episode.key for episode in episodes] == [f"episode-00000{e}" for e in range(5)]
    for number, (episode, length) in enumerate(zip(episodes, LENGTHS, strict=True)):
        states, actions = columns_of(number, length)
        assert episode.states.dtype == episode.actions.dtype == np.float32
        np.testing.assert_array_equal(episode.states, states)
        np.testing.assert_array_equal(episode.actions, actions[:-1])  # the last leads nowhere
        indices, owners = told_by(episode.frames)
        assert indices == list(range(length)) and (owners == number).all()
        assert episode.frames_per_second == 10.0


def test_the_frames_at_the_borders_of_episodes_are_their_own(unchanged):
    for number, episode in enumerate(open_source(unchanged).episodes()):
        indices, owners = told_by(episode.frames[[0, -1]])
        assert indices == [0, LENGTHS[number] - 1] and owners.tolist() == [number, number]


def test_an_episode_begins_at_the_frame_nearest_to_its_time(folder):
    """LeRobot adds up durations in floating point: 0.5 may be written as 0.4999."""
    for path in (folder / "meta/episodes").rglob("*.parquet"):
        change_rows(
            path,
            **{
                f"videos/{CAMERA}/from_timestamp": lambda v: pa.array(
                    [t - 1e-3 * (t > 0) for t in v]
                )
            },
        )
    for number, episode in enumerate(open_source(folder).episodes()):
        indices, owners = told_by(episode.frames)
        assert indices == list(range(LENGTHS[number])) and (owners == number).all()


def test_columns_get_the_names_of_the_folder_and_the_bounds_of_its_statistics(unchanged):
    specification = open_source(unchanged).specification
    assert specification.state_names == ("clock", "which")
    assert specification.action_names == ("x", "y", "grip")
    assert specification.state_units == ("1", "1") and specification.action_units == ("1",) * 3
    third = float(np.float32(1 / 3))
    assert specification.action_low == (0.5, -4.0, third - 1)  # a column that never changes
    assert specification.action_high == (11.5, 0.0, third + 1)
    assert specification.frames_per_second == 10.0


def test_without_statistics_the_bounds_are_those_of_the_data(tmp_path, unchanged):
    without = open_source(write_folder(tmp_path, stats=False)).specification
    assert without == open_source(unchanged).specification


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["p", "q"], ("p", "q")),
        ({"p": 0, "q": 1}, ("p", "q")),
        ({"axes": ["p", "q"]}, ("p", "q")),
        (["dim"], ("state_0", "state_1")),
        (None, ("state_0", "state_1")),
    ],
)
def test_names_are_found_in_all_the_ways_that_recorders_write_them(folder, names, expected):
    feature = {"dtype": "float32", "shape": [2], "names": names}
    change_features(folder, **{"observation.state": feature})
    assert open_source(folder).specification.state_names == expected


def test_units_and_meanings_that_a_folder_tells_are_kept(folder):
    about = {
        "units": ["m", "m", "1"],
        "low": [-9.0, -9.0, 0.0],
        "high": [99.0, 9.0, 1.0],
        "frame": "base",
        "action_kind": "pose difference",
    }
    names = ["x", "y", "grip"]
    change_features(
        folder, action={"dtype": "float32", "shape": [3], "names": names, "info": about}
    )
    specification = open_source(folder).specification
    assert specification.action_units == ("m", "m", "1")
    assert specification.action_low == (-9.0, -9.0, 0.0)
    assert (specification.frame, specification.action_kind) == ("base", "pose difference")
    assert specification.rotation == ""


def test_a_column_of_plain_numbers_is_one_of_width_one(folder):
    change_features(folder, action={"dtype": "float32", "shape": [1], "names": ["x"]})
    for path in (folder / "data").rglob("*.parquet"):
        change_rows(path, action=lambda rows: pa.array([row[0] for row in rows], pa.float32()))
    (folder / "meta/stats.json").unlink()
    first = next(open_source(folder).episodes())
    np.testing.assert_array_equal(first.actions, columns_of(0, 5)[1][:-1, :1])


def test_at_half_the_rate_every_second_frame_stays_and_the_actions_between_are_joined(unchanged):
    source = open_source(unchanged, frames_per_second=5.0)
    specification = source.specification
    assert specification.frames_per_second == 5.0
    assert specification.action_names == ("x@0", "y@0", "grip@0", "x@1", "y@1", "grip@1")
    assert specification.action_low[:3] == specification.action_low[3:]
    for number, episode in enumerate(source.episodes()):
        kept = range(0, LENGTHS[number], 2)
        assert told_by(episode.frames)[0] == list(kept)
        assert episode.states[:, 0].tolist() == list(kept)
        # (t + 0.5) of the frame that stays, and of the one after it that does not
        expected = [[t + 0.5, t + 1.5] for t in list(kept)[:-1]]
        assert episode.actions[:, [0, 3]].tolist() == expected


def test_frames_become_squares_of_the_size_that_is_asked_for(unchanged):
    for episode in open_source(unchanged, image_size=32).episodes():
        assert episode.frames.shape[1:] == (32, 32, 3)
        assert told_by(episode.frames)[0] == list(range(len(episode.frames)))


def test_a_long_episode_is_decoded_in_pieces_that_follow_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot, "_FRAMES_AT_ONCE", 4)
    folder = write_folder(tmp_path, lengths=(3, 22, 4))
    for number, episode in enumerate(open_source(folder).episodes()):
        assert told_by(episode.frames)[0] == list(range((3, 22, 4)[number]))


def test_the_frames_of_one_episode_are_gone_when_the_next_is_read(unchanged):
    episodes = open_source(unchanged).episodes()
    alive = []
    for _ in LENGTHS:
        episode = next(episodes)
        alive.append(weakref.ref(episode.frames))
        del episode
        gc.collect()
        assert sum(frames() is not None for frames in alive) == 0


def test_a_video_of_many_episodes_is_opened_once(unchanged, monkeypatch):
    opened = []
    decoder_class = lerobot.decoder_class

    def counted(name):
        def open_decoder(data, path):
            opened.append(path)
            return decoder_class(name)(data, path)

        return open_decoder

    monkeypatch.setattr(lerobot, "decoder_class", counted)
    assert len(list(open_source(unchanged).episodes())) == 5
    assert len(opened) == 3 == len(set(opened))


def test_a_folder_becomes_shards(unchanged, tmp_path):
    source = open_source(unchanged)
    result = pack_trajectories(
        source.episodes(), tmp_path / "out", specification=source.specification
    )
    assert result.num_samples == 5 and result.index.specification == source.specification


# Cameras.


def two_cameras(folder):
    other = {"dtype": "video", "shape": [48, 64, 3], "names": None}
    change_features(folder, **{"observation.images.wrist": other})
    return folder


def test_one_of_several_cameras_must_be_chosen(folder):
    two_cameras(folder)
    told = r"2 cameras; choose one \(--camera\): observation.images.top, observation.images.wrist"
    with pytest.raises(SourceError, match=told):
        open_source(folder)


@pytest.mark.parametrize("name", ["top", CAMERA])
def test_a_camera_is_chosen_by_its_name_or_the_end_of_it(folder, name):
    episode = next(open_source(two_cameras(folder), camera=name).episodes())
    assert told_by(episode.frames)[0] == [0, 1, 2, 3, 4]


def test_a_camera_of_depth_is_no_camera(folder):
    depth = {"dtype": "video", "shape": [48, 64, 1], "info": {"video.is_depth_map": True}}
    change_features(folder, **{"observation.images.depth": depth})
    assert next(open_source(folder).episodes()).frames.shape == (5, 48, 64, 3)
    with pytest.raises(SourceError, match=r"no camera 'depth'; it has observation\.images\.top$"):
        open_source(folder, camera="depth")


# What is refused, in one line.


def refused(folder, message, **options):
    with pytest.raises((SourceError, DecodeError), match=message) as caught:
        for _ in open_source(folder, **options).episodes():
            pass
    assert "\n" not in str(caught.value)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_source(tmp_path / "nowhere")


def test_a_folder_without_info_is_refused(folder):
    (folder / "meta/info.json").unlink()
    refused(folder, r"is no LeRobot data set: it has no meta/info\.json")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("v2.1", r"is LeRobot v2\.1, this program reads v3\.0; convert it .*_v21_to_v30"),
        ("v1.6", r"codebase_version is 'v1\.6', this program reads v3\.0"),
        (None, "codebase_version is None"),
    ],
)
def test_another_version_is_refused_and_told_how_to_convert(folder, version, message):
    change_info(folder, codebase_version=version)
    refused(folder, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"info\.json is not JSON"),
        ("[]", r"info\.json must be a JSON object, got list"),
        ('{"codebase_version": "v3.0"}', r"info\.json is damaged \(KeyError: 'fps'\)"),
        (
            '{"codebase_version": "v3.0", "fps": "fast", "features": {}}',
            r"info\.json is damaged \(ValueError",
        ),
    ],
)
def test_damaged_info_is_refused(folder, text, message):
    (folder / "meta/info.json").write_text(text)
    refused(folder, message)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("data/{chunk}.parquet", r"path template 'data/\{chunk\}\.parquet' cannot be filled in"),
        ("../{chunk_index}.parquet", r"'\.\./0\.parquet' is no path inside the folder"),
        ("/{chunk_index}.parquet", r"'/0\.parquet' is no path inside the folder"),
    ],
)
def test_a_template_that_leads_elsewhere_is_refused(folder, template, message):
    change_info(folder, data_path=template)
    refused(folder, message)


def test_a_feature_that_is_missing_is_refused_with_those_that_exist(folder):
    info = json.loads((folder / "meta/info.json").read_text())
    del info["features"]["action"]
    change_info(folder, features=info["features"])
    refused(folder, "has no feature 'action'; it has observation.state, ")


def test_a_state_that_is_no_vector_is_refused(folder):
    change_features(folder, **{"observation.state": {"dtype": "float32", "shape": [2, 3]}})
    refused(folder, r"feature 'observation\.state' must be \(dim,\), got shape \[2, 3\]")


def test_a_missing_file_costs_its_own_episodes_only(folder):
    (folder / "videos" / CAMERA / "chunk-001/file-000.mp4").unlink()
    source = open_source(folder)
    with pytest.raises(SourceError, match=r"chunk-001/file-000\.mp4 is missing; download it"):
        source.episode(4)
    assert source.episode(3).key == "episode-000003"
    (folder / "data/chunk-000/file-001.parquet").unlink()
    with pytest.raises(SourceError, match=r"chunk-000/file-001\.parquet is missing; download it"):
        open_source(folder).episode(3)


def test_a_set_without_a_whole_episode_is_refused_before_any_work(folder):
    for path in (folder / "videos").rglob("*.mp4"):
        path.unlink()
    with pytest.raises(SourceError, match=r"chunk-000/file-000\.mp4 is missing \(episode 0\)"):
        open_source(folder)


def test_one_truncated_video_costs_its_own_episodes_only(folder, tmp_path, capsys):
    """Two episodes lie in it; it is a real file without its end, and the real command."""
    path = folder / "videos" / CAMERA / "chunk-000/file-001.mp4"
    path.write_bytes(path.read_bytes()[:-500])
    assert main(["import", "lerobot", str(folder), str(tmp_path / "out")]) == 0
    index = ShardIndex.load(tmp_path / "out")
    assert [sample.key for sample in index.samples] == [f"episode-00000{n}" for n in (0, 1, 4)]
    assert [video.path for video in index.skipped] == ["episode-000002", "episode-000003"]
    assert "imported 3 of 5 episodes" in capsys.readouterr().out


def test_a_video_that_cannot_be_opened_is_read_once(folder, monkeypatch):
    path = folder / "videos" / CAMERA / "chunk-000/file-001.mp4"
    path.write_bytes(path.read_bytes()[:-500])
    source, reads, read = open_source(folder), [], type(path).read_bytes
    monkeypatch.setattr(type(path), "read_bytes", lambda self: reads.append(self) or read(self))
    for number in (2, 3, 4):
        with suppress(DecodeError):
            source.episode(number)
    assert [one.name for one in reads] == ["file-001.mp4", "file-000.mp4"]


def test_a_video_cut_in_its_bytes_is_refused(folder):
    path = folder / "videos" / CAMERA / "chunk-000/file-001.mp4"
    path.write_bytes(path.read_bytes()[:-200])
    refused(folder, r"file-001\.mp4: ")


def rewritten(path, *, codec=None, **options):
    """Writes a video again, with the index of its frames first, as LeRobot does; or in AV1."""
    av = pytest.importorskip("av")
    again = path.with_name("again.mp4")
    with av.open(path) as old, av.open(again, "w", options=options) as new:
        track = old.streams.video[0]
        if codec is None:
            copy = new.add_stream_from_template(track)
            for packet in old.demux(track):
                if packet.pts is not None:
                    packet.stream = copy
                    new.mux(packet)
        else:
            copy = new.add_stream(codec, rate=track.average_rate, options={"g": "2", "crf": "10"})
            copy.height, copy.width, copy.pix_fmt = track.height, track.width, "yuv420p"
            for number, frame in enumerate(old.decode(track)):
                frame.pts, frame.time_base = number, 1 / track.average_rate
                new.mux(copy.encode(frame))
            new.mux(copy.encode())
    again.replace(path)


def test_a_video_whose_download_stopped_is_refused_though_its_index_is_whole(folder):
    path = folder / "videos" / CAMERA / "chunk-000/file-001.mp4"
    rewritten(path, movflags="faststart")
    assert len(list(open_source(folder).episodes())) == 5
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refused(folder, r"file-001\.mp4: ")


def test_av1_is_read_for_that_is_what_lerobot_writes(folder):
    av = pytest.importorskip("av")
    try:
        av.codec.Codec("libsvtav1", "w")
    except av.error.FFmpegError:
        pytest.skip("this PyAV cannot write AV1")
    for path in (folder / "videos").rglob("*.mp4"):
        rewritten(path, codec="libsvtav1")
    for number, episode in enumerate(open_source(folder).episodes()):
        indices, owners = told_by(episode.frames)
        assert indices == list(range(LENGTHS[number])) and (owners == number).all()


def test_a_video_with_fewer_frames_than_its_episodes_is_refused(folder):
    path = folder / "videos" / CAMERA / "chunk-000/file-000.mp4"
    write_mp4(path, np.concatenate([frames_of(0, 5), frames_of(1, 8)]), frames_per_second=10)
    refused(folder, r"file-000\.mp4: episode 1 has frames 5 to 13, the video has 0 to 12")


def test_a_video_at_another_rate_is_refused(folder):
    path = folder / "videos" / CAMERA / "chunk-000/file-000.mp4"
    write_mp4(path, np.concatenate([frames_of(0, 5), frames_of(1, 9)]), frames_per_second=12)
    refused(folder, r"file-000\.mp4: episode 0: time of frame 4 is -0\.0667 s from where 10")


def test_an_episode_of_another_length_than_its_rows_is_refused(folder):
    def longer(values):
        return pa.array([12 if value == 9 else value for value in values])

    change_rows(folder / "meta/episodes/chunk-000/file-000.parquet", length=longer)
    refused(folder, r"file-000\.parquet: episode 1 has 9 rows, meta/episodes says 12")


def test_a_count_of_episodes_that_is_not_theirs_is_refused(folder):
    change_info(folder, total_episodes=6)
    refused(folder, r"says 6 episodes, meta/episodes lists 5 \(5 different ones\)")


def test_episodes_that_come_twice_are_refused(folder):
    change_rows(
        folder / "meta/episodes/chunk-000/file-000.parquet",
        episode_index=lambda values: pa.array([0] * len(values)),
    )
    refused(folder, r"says 5 episodes, meta/episodes lists 5 \(4 different ones\)")


def test_rows_out_of_order_are_refused(folder):
    change_rows(
        folder / "data/chunk-000/file-000.parquet",
        frame_index=lambda values: pa.array([1, 0, *values[2:]]),
    )
    refused(folder, "episode 0: its rows are not in the order of frame_index, from 0 on")


def test_rows_whose_times_skip_frames_are_refused(folder):
    """LeRobot would show the frame of the row's time, which is not the row's number then."""
    change_rows(
        folder / "data/chunk-000/file-000.parquet",
        timestamp=lambda values: pa.array([*values[:3], values[3] + 0.1, *values[4:]]),
    )
    refused(folder, r"'timestamp' of row 3 is \+0\.1000 s from where 10 frames per second put it")


def test_rows_of_another_width_are_refused(folder):
    change_features(folder, **{"observation.state": {"dtype": "float32", "shape": [3]}})
    refused(folder, r"'observation\.state' has 2 columns, meta/info\.json says 3")


def test_a_damaged_image_is_named_by_its_row(tmp_path):
    folder = write_folder(tmp_path, image=True)
    change_rows(
        folder / "data/chunk-000/file-000.parquet",
        **{CAMERA: lambda cells: pa.array([*cells[:6], {"bytes": b"x", "path": ""}, *cells[7:]])},
    )
    refused(folder, r"file-000\.parquet: row 6: not an image")


def test_images_that_lie_elsewhere_are_refused(tmp_path):
    folder = write_folder(tmp_path, image=True)
    change_rows(
        folder / "data/chunk-000/file-000.parquet",
        **{CAMERA: lambda cells: pa.array([{"bytes": None, "path": "a.png"}] * len(cells))},
    )
    # pyarrow types a column of only nulls as null
    refused(folder, "row 0 holds no image bytes; embed the images")


def test_a_rate_that_does_not_divide_is_refused(unchanged):
    refused(unchanged, "4 frames per second is not the source's 10 divided", frames_per_second=4.0)


def test_without_pyarrow_one_line_says_what_to_install(unchanged, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *rest):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(ImportError, match=r"pip install 'jepa-planning\[robot\]'"):
        open_source(unchanged)
