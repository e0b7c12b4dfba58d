import numpy as np
import pytest
from PIL import Image

from data_pipelines.batch import SkippedSample
from data_pipelines.labelled_clips.reading import read_labelled_clips
from data_pipelines.labelled_clips.videos_and_images import ImageClips, VideoClips


@pytest.fixture(scope="module")
def from_shards(shard_folder):
    return read_labelled_clips(
        str(shard_folder), clip_length_frames=4, image_size=32, num_clips=3, num_views=2
    )


def test_clips_are_spread_over_the_video_and_each_has_its_views(from_shards, index_of):
    data = from_shards
    assert isinstance(data, VideoClips)
    video = data[0].video  # video00: 20 frames
    assert video.shape == (6, 3, 4, 32, 32)
    frames = index_of(video, (1, 3, 4))  # (rows, time)
    # parts of 6, 7 and 7 frames; a clip of 4 in the middle of each: starts 0..2, 0..3, 0..3
    assert frames[:, 0].tolist() == [1, 1, 8, 8, 15, 15]
    assert (np.diff(frames, axis=1) == 1).all()


def test_the_same_sample_gives_the_same_clips_every_time(from_shards):
    first, again = from_shards[3], from_shards[3]
    assert first.key == again.key
    assert first.video.equal(again.video)


def test_random_views_depend_on_the_seed_and_the_sample_alone(from_shards):
    train = from_shards.with_random_views(4, seed=1)
    assert train[0].video.shape == (12, 3, 4, 32, 32)
    assert train.num_views == 4 and train.fingerprint != from_shards.fingerprint
    other_order = train.take([5, 0])
    assert other_order[1].video.equal(train[0].video)
    assert not from_shards.with_random_views(4, seed=2)[0].video.equal(train[0].video)


def test_a_short_video_repeats_its_end_unless_it_is_to_be_skipped(video_folder, index_of):
    options = {"clip_length_frames": 24, "image_size": 32}
    repeated = read_labelled_clips(video_folder, **options)
    assert index_of(repeated[0].video, (1, 3, 4))[0, -5:].tolist() == [19] * 5  # 20 frames
    skipped = read_labelled_clips(video_folder, **options, short_video="skip")[0]
    assert isinstance(skipped, SkippedSample)
    assert skipped.key == "even/video00.mp4" and "20" in skipped.reason


def test_plain_files_give_the_clips_of_the_shards_made_of_them(video_folder, from_shards):
    plain = read_labelled_clips(
        video_folder, clip_length_frames=4, image_size=32, num_clips=3, num_views=2
    )
    assert plain[2].video.equal(from_shards[2].video)
    assert plain.classes == from_shards.classes == ("even", "odd")
    assert plain.labels.tolist() == [0] * 6 + [1] * 6


def test_a_damaged_video_is_named_and_says_why(tmp_path, video_folder):
    (tmp_path / "even").mkdir()
    data = (video_folder / "even" / "video00.mp4").read_bytes()
    (tmp_path / "even" / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "even" / "none.mp4").write_bytes(b"not a video at all")
    clips = read_labelled_clips(tmp_path, clip_length_frames=4, image_size=32)
    for number, name in enumerate(("cut.mp4", "none.mp4")):
        skipped = clips[number]
        assert isinstance(skipped, SkippedSample)
        assert skipped.key == f"even/{name}" and skipped.reason


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, colour in enumerate(("red", "blue", "red", "blue")):
        path = folder / colour / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), colour).save(path)
    return folder


def test_an_image_is_a_still_video(image_folder):
    data = read_labelled_clips(image_folder, clip_length_frames=6, image_size=32, num_views=3)
    assert isinstance(data, ImageClips)
    assert data.classes == ("blue", "red") and data.labels.tolist() == [0, 0, 1, 1]
    video = data[2].video  # red
    assert video.shape == (3, 3, 6, 32, 32)
    assert video[:, 0].min() == 255 and video[:, 1:].max() == 0


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"\x89PNG nothing")
    skipped = read_labelled_clips(tmp_path, clip_length_frames=1, image_size=32)[0]
    assert isinstance(skipped, SkippedSample) and skipped.key == "a/x.png"


def test_images_have_one_moment(image_folder):
    with pytest.raises(ValueError, match="an image has one moment: num_clips must be 1, got 2"):
        read_labelled_clips(image_folder, clip_length_frames=6, image_size=32, num_clips=2)
