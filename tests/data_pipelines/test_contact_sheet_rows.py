import shutil

import numpy as np
import pytest
import torch

from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.contact_sheet_rows import SheetSettings, read_rows
from data_pipelines.decoders.isolated import DecodingProcess
from data_pipelines.packing import pack_images, pack_videos
from data_pipelines.shard_index import ShardIndex
from data_pipelines.synthetic import write_moving_shapes
from data_pipelines.transforms import RandomResizedClipCrop, crop_and_resize
from data_pipelines.video_writing import write_mp4


def rows_of(folder, **settings):
    return list(read_rows(ShardIndex.load(folder), SheetSettings(**settings)))


@pytest.fixture(scope="module")
def moving_folder(tmp_path_factory):
    """Shards of eight videos in which every place of a frame looks different."""
    folder = tmp_path_factory.mktemp("moving")
    write_moving_shapes(folder / "videos", num_videos=8, num_frames=12, size=64, seed=0)
    pack_videos(folder / "videos", folder / "shards")
    return folder / "shards"


def test_the_crop_drawn_is_the_one_that_training_takes(moving_folder, monkeypatch):
    """The crop of each row, cut out of its frames, is what the training stream returns."""
    seeds, with_seed = [], torch.Generator.manual_seed

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            seeds.append(seed)
            return with_seed(self, seed)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", Generator)
        rows = rows_of(moving_folder, num_frames=8, clip_length_frames=8)
    index = ShardIndex.load(moving_folder)
    transform = RandomResizedClipCrop(32)
    training = ClipDataset(index, clip_length_frames=8, transform=transform)
    samples = {sample.key: sample for sample in index.samples}
    assert {row.is_mirrored for row in rows} == {True, False}
    assert len(rows) == 8
    for row, seed in zip(rows, seeds[1:], strict=True):
        seen = training.read(samples[row.key], torch.Generator().manual_seed(seed), ()).video[0]
        frames = torch.from_numpy(row.pixels)
        mine = crop_and_resize(frames, row.crop, (32, 32), antialias=True)
        assert torch.equal(mine.flip(-1) if row.is_mirrored else mine, seen)


def test_frames_shown_are_equally_spaced_and_have_their_times(shard_folder, index_of):
    row = rows_of(shard_folder, num_clips=1, num_frames=3, clip_length_frames=9)[0]
    indices = index_of(row.pixels, (1, 2, 3))
    assert np.diff(indices).tolist() == [4, 4]
    assert np.allclose(row.timestamps_seconds, indices / 10, atol=1e-6)
    assert row.span_seconds == (row.timestamps_seconds[0], row.timestamps_seconds[-1])


def test_an_asked_rate_is_kept(shard_folder, index_of):
    row = rows_of(shard_folder, num_clips=1, clip_length_frames=4, frames_per_second=2.0)[0]
    assert np.diff(index_of(row.pixels, (1, 2, 3))).tolist() == [5, 5, 5]


def test_equal_seeds_show_equal_clips_and_other_seeds_other_ones(shard_folder):
    def places(seed):
        rows = rows_of(shard_folder, num_clips=4, num_frames=1, seed=seed)
        return [(row.key, row.span_seconds, row.crop) for row in rows]

    assert places(3) == places(3) != places(4)


def test_what_cannot_be_used_has_a_row_that_says_why(video_folder, tmp_path):
    videos = shutil.copytree(video_folder / "odd", tmp_path / "videos")
    write_mp4(videos / "short.mp4", np.zeros((4, 32, 32, 3), np.uint8), frames_per_second=10)
    index = pack_videos(videos, tmp_path / "out").index
    bad = next(sample for sample in index.samples if sample.key == "video03")
    with open(bad.shard, "r+b") as file:
        file.seek(bad.members["mp4"].offset + 50)
        file.write(b"####")
    rows = {row.key: row for row in rows_of(tmp_path / "out", num_frames=1)}
    reasons = {key: row.reason for key, row in rows.items() if row.reason}
    assert sorted(reasons) == ["short", "video03"] and len(rows) == 7
    assert "'video03.mp4' is not what was packed" in reasons["video03"]
    assert reasons["short"] == "clip needs 16 frames but the video has 4"
    assert len(rows["short"].pixels) == 0 and rows["video01"].reason is None


def test_a_decoder_that_dies_costs_one_row(shard_folder, monkeypatch):
    open_video, asked = DecodingProcess.open, []

    def kill_first(process, data, name):
        video = open_video(process, data, name)
        asked.append(name)
        if len(asked) == 1:
            process.child()._program.kill()
        return video

    monkeypatch.setattr(DecodingProcess, "open", kill_first)
    rows = rows_of(shard_folder, num_clips=3, num_frames=1)
    assert [row.reason is None for row in rows] == [False, True, True]
    assert rows[0].key == asked[0] and rows[0].reason


def test_states_and_actions_are_those_of_the_clips_moments(trajectory_folder, index_of):
    for row in rows_of(trajectory_folder, num_frames=6, clip_length_frames=6):
        indices = index_of(row.pixels, (1, 2, 3))
        states, actions = row.columns
        assert row.crop is None and states.values[:, 0].tolist() == indices.tolist()
        assert actions.values[:, 0].tolist() == (indices[:-1] + 0.5).tolist()
        assert np.allclose(states.times, indices / 10) and len(actions.times) == 5
        assert (states.names, states.units) == (("clock", "constant"), ("frames", "1"))


def test_a_picture_is_a_row_of_one_frame(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in/a.png")
    pack_images(tmp_path / "in", tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert np.array_equal(row.pixels, pixels[None]) and row.crop is not None


@pytest.mark.parametrize("name", ["num_clips", "num_frames", "clip_length_frames", "image_size"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}=0 must be at least 1"):
        SheetSettings(**{name: 0})
    with pytest.raises(ValueError, match=r"frames_per_second=0 must be in \(0, 1000\]"):
        SheetSettings(frames_per_second=0)
