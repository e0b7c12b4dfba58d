import inspect
import shutil

import numpy as np
import pytest
import torch

from data_pipelines.clip_sampling import ClipSampling
from data_pipelines.contact_sheet_rows import SheetSettings, read_rows
from data_pipelines.datamodules import ClipDataModule, ImageDataModule
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


def seeded_rows(folder, monkeypatch, **settings):
    """Returns the rows, and the seed that each was drawn from."""
    seeds, with_seed = [], torch.Generator.manual_seed

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            seeds.append(seed)
            return with_seed(self, seed)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", Generator)
        rows = rows_of(folder, num_frames=8, clip_length_frames=8, **settings)
    return list(zip(rows, seeds[1:], strict=True))


def cut_out(row, crop):
    """Returns what a model of 32 x 32 pixels sees of a row."""
    clip = crop_and_resize(torch.from_numpy(row.pixels), crop.box, (32, 32), antialias=True)
    return clip.flip(-1) if crop.is_mirrored else clip


OTHER_CROPS = {
    "crop_scale": (0.05, 0.2),
    "crop_aspect_ratio": (0.5, 0.6),
    "horizontal_flip": False,
}


@pytest.mark.parametrize("options", [{}, OTHER_CROPS])
def test_the_crop_drawn_is_the_one_that_training_takes(moving_folder, monkeypatch, options):
    """The crop of each row, cut out of its frames, is what the data module's stream returns."""
    drawn = seeded_rows(moving_folder, monkeypatch, **options)
    data = ClipDataModule(str(moving_folder), 8, image_size=32, **options)
    training = data.training_dataset(data.index)
    samples = {sample.key: sample for sample in data.index.samples}
    mirrored = {crop.is_mirrored for row, _ in drawn for crop in row.crops}
    assert len(drawn) == 8 and mirrored == ({False} if options else {True, False})
    for row, seed in drawn:
        seen = training.read(samples[row.key], torch.Generator().manual_seed(seed), ()).video[0]
        (crop,) = row.crops
        assert torch.equal(cut_out(row, crop), seen)


def test_several_crops_are_what_the_transform_draws_one_after_the_other(moving_folder, monkeypatch):
    transform = RandomResizedClipCrop(32, scale=(0.1, 0.9))
    for row, seed in seeded_rows(moving_folder, monkeypatch, num_crops=5, crop_scale=(0.1, 0.9)):
        generator = torch.Generator().manual_seed(seed)
        ClipSampling(8).indices(np.arange(12) / 10, generator=generator)  # draws the clip first
        frames = torch.from_numpy(row.pixels)
        assert len({crop.box for crop in row.crops}) == 5
        for crop in row.crops:
            assert torch.equal(cut_out(row, crop), transform(frames, generator))


def test_more_crops_leave_the_first_where_it_is(shard_folder):
    one, six = (rows_of(shard_folder, num_clips=1, num_crops=n) for n in (1, 6))
    assert one[0].crops == six[0].crops[:1]


@pytest.mark.parametrize("module", [ClipDataModule, ImageDataModule])
def test_the_defaults_are_those_of_training(module):
    of_training = {
        name: parameter.default for name, parameter in inspect.signature(module).parameters.items()
    }
    for name in ("image_size", "crop_scale", "crop_aspect_ratio", "horizontal_flip"):
        assert getattr(SheetSettings(), name) == of_training[name]


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
        return [(row.key, row.span_seconds, row.crops) for row in rows]

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
        assert row.crops == () and states.values[:, 0].tolist() == indices.tolist()
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
    assert np.array_equal(row.pixels, pixels[None]) and len(row.crops) == 1


SIZES = ["num_clips", "num_frames", "clip_length_frames", "image_size", "num_crops"]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}=0 must be at least 1"):
        SheetSettings(**{name: 0})
    with pytest.raises(ValueError, match=r"frames_per_second=0 must be in \(0, 1000\]"):
        SheetSettings(frames_per_second=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_crops": 7}, "num_crops=7 must be at most 6"),
        ({"crop_scale": (0.5, 1.5)}, r"scale must satisfy .* got \(0\.5, 1\.5\)"),
        ({"crop_aspect_ratio": (2.0, 1.0)}, r"aspect_ratio must satisfy .* got \(2\.0, 1\.0\)"),
    ],
)
def test_crops_without_a_meaning_are_refused_before_anything_is_read(settings, said):
    with pytest.raises(ValueError, match=said):
        SheetSettings(**settings)
