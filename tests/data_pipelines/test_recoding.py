import io
import json
from fractions import Fraction

import av
import numpy as np
import pytest

from data_pipelines.decoders import decoder_class
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.packing import pack_videos
from data_pipelines.recoding import RecodeSettings, output_size, output_times, recode
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.video_writing import encode_mp4, write_mp4


@pytest.fixture(scope="module")
def video():
    """Forty frames at 10 per second; frame i is grey of level 10 + 6 i.

    The steps are wide because each encoding loses up to one level where colours are converted.
    """
    levels = (10 + 6 * np.arange(40)).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (40, 96, 128, 3))
    return encode_mp4(frames, frames_per_second=10, crf=10)


def indices_of(data):
    """Which frames of `video` these are."""
    return np.rint((frames_of(data).pixels.mean((1, 2, 3)) - 9) / 6).astype(int)


def frames_of(data):
    with decoder_class("pyav")(data, "x") as decoder:
        return decoder.frames_at(range(len(decoder.timestamps_seconds())))


def packets_of(data):
    with av.open(io.BytesIO(data)) as file:
        return [packet for packet in file.demux(video=0) if packet.pts is not None]


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        ("10", list(range(40))),
        ("5", list(range(0, 40, 2))),
        ("4", [int(2.5 * n) for n in range(16)]),  # nearest earlier frame: 0, 2, 5, 7, 10, ...
        ("20", [n // 2 for n in range(80)]),
        (None, list(range(40))),
    ],
)
def test_each_new_frame_is_the_one_on_screen_at_its_time(video, decoder, rate, shown):
    _, (scene,) = recode(video, "x", RecodeSettings(rate, crf=5), decoder=decoder)
    frames = frames_of(scene.data)
    np.testing.assert_array_equal(indices_of(scene.data), shown)
    np.testing.assert_allclose(frames.timestamps_seconds, np.arange(len(shown)) / float(rate or 10))
    assert scene.metadata.num_frames == len(shown)


def test_a_rate_that_is_a_fraction_does_not_drift():
    rate = Fraction(30000, 1001)
    metadata = VideoMetadata(300_000, 30.0, 10_000.0, 64, 64)
    times = output_times(rate, start=Fraction(0), end_seconds=10_000.0, metadata=metadata)
    assert times[270_000] == float(270_000 * Fraction(1001, 30000))
    assert times[-1] < 10_000.0 <= times[-1] + float(1 / rate) + 1e-3


def test_a_part_begins_and_ends_where_it_was_asked_to(video):
    _, (scene,) = recode(
        video, "x", RecodeSettings("10"), decoder="pyav", start_seconds=1.0, end_seconds=2.0
    )
    np.testing.assert_array_equal(indices_of(scene.data), range(10, 20))
    assert scene.start_seconds == 1.0
    with pytest.raises(DecodeError, match=r"nothing between 9 s and its end: it lasts 4\.00 s"):
        recode(video, "x", RecodeSettings(), decoder="pyav", start_seconds=9.0)


@pytest.mark.parametrize(
    ("before", "short_side", "after"),
    [
        ((1080, 1920), 288, (288, 512)),
        ((1920, 1080), 288, (512, 288)),
        ((719, 1279), 288, (288, 512)),
        ((100, 101), 50, (50, 50)),
        ((240, 320), 288, (240, 320)),
        ((241, 321), None, (240, 320)),
    ],
)
def test_sizes_are_even_keep_the_aspect_and_never_grow(before, short_side, after):
    assert output_size(*before, short_side) == after


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
def test_every_codec_has_short_gops_no_b_frames_and_equal_bytes(video, codec):
    settings = RecodeSettings("10", 64, 4, codec, crf=12)
    first, second = (recode(video, "x", settings, decoder="decord")[1][0] for _ in range(2))
    assert first.data == second.data
    assert (first.metadata.height, first.metadata.width) == (64, 86)
    packets = packets_of(first.data)
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, 40, 4))
    assert all(packet.pts == packet.dts for packet in packets)
    assert np.abs(indices_of(first.data) - np.arange(40)).max() <= 1


def test_scenes_are_split_where_the_picture_jumps():
    dark, light = np.full((10, 64, 64, 3), 20, np.uint8), np.full((7, 64, 64, 3), 200, np.uint8)
    data = encode_mp4(np.concatenate([dark, light, dark]), frames_per_second=10)
    _, scenes = recode(data, "x", RecodeSettings(split_scenes=25), decoder="pyav")
    assert [scene.metadata.num_frames for scene in scenes] == [10, 7, 10]
    assert [scene.start_seconds for scene in scenes] == pytest.approx([0.0, 1.0, 1.7])
    _, scenes = recode(data, "x", RecodeSettings(split_scenes=190), decoder="pyav")
    assert len(scenes) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"frames_per_second": "fast"}, "'fast' is no rate"),
        ({"frames_per_second": "0"}, "'0' is no rate"),
        ({"short_side": 4}, "short_side=4 must be from 16"),
        ({"keyframe_interval": 0}, "keyframe_interval=0 must be at least 1"),
        ({"codec": "mpeg2"}, "no codec 'mpeg2'; choose from h264, hevc, vp9"),
        ({"crf": 60}, "crf=60 is not a quality of h264"),
        ({"split_scenes": 0}, "split_scenes=0 must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(settings, said):
    with pytest.raises(ValueError, match=said):
        RecodeSettings(**settings)


# Packing with it.


@pytest.fixture(scope="module")
def wide_folder(index_frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    for number, num_frames in enumerate((30, 12, 5)):
        frames = index_frames(num_frames, height=96, width=128)
        frames[num_frames // 2 :] += 100
        write_mp4(folder / f"class{number}" / "a b.mp4", frames, frames_per_second=10, crf=10)
    return folder


def test_packed_samples_say_what_they_were_and_how_they_were_encoded(wide_folder, tmp_path):
    settings = RecodeSettings("5", 64)
    first = pack_videos(wide_folder, tmp_path / "1", recode=settings, samples_per_shard=2)
    second = pack_videos(
        wide_folder, tmp_path / "2", recode=settings, samples_per_shard=2, num_workers=2
    )
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()
    assert first.index.fingerprint == second.index.fingerprint
    sample = first.index.samples[0]
    about = json.loads(ShardReader().read(sample, "json"))
    assert (about["num_frames"], about["height"], about["label"]) == (15, 64, "class0")
    assert about["original"]["num_frames"] == 30 and about["original"]["height"] == 96
    assert about["recoded"] == settings.to_json()
    assert sample.group == "" and sample.source == "class0/a b.mp4"


def test_scenes_of_one_video_are_samples_of_one_group(wide_folder, tmp_path):
    index = pack_videos(wide_folder, tmp_path, recode=RecodeSettings(split_scenes=30)).index
    assert [sample.key for sample in index.samples] == [
        f"class{number}/a_b-scene00{scene}" for number in range(3) for scene in range(2)
    ]
    assert [s.group for s in index.samples[:2]] == ["class0/a b.mp4"] * 2
    assert ShardIndex.load(tmp_path) == index


def test_what_is_too_short_is_skipped_and_named(wide_folder, tmp_path):
    copied = pack_videos(wide_folder, tmp_path / "1", min_frames=6)
    assert [(v.path, v.reason) for v in copied.skipped] == [
        ("class2/a b.mp4", "too short: 5 frames, at least 6 are asked for")
    ]
    split = pack_videos(
        wide_folder, tmp_path / "2", recode=RecodeSettings(split_scenes=30), min_seconds=0.55
    )
    assert [(v.path, v.reason) for v in split.skipped] == [
        (f"class2/a b.mp4 (scene {n})", f"too short: 0.{s}0 s, at least 0.55 s are asked for")
        for n, s in ((0, 2), (1, 3))
    ]


def test_parts_in_a_list_are_cut_out_and_copying_refuses_them(wide_folder, tmp_path):
    rows = ["path,label,start,end", f"{wide_folder}/class0/a b.mp4,x,0,1"]
    rows.append(f"{wide_folder}/class0/a b.mp4,y,1,3")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"a b\.mp4\[0-1\]: a part of a video"):
        pack_videos(tmp_path / "list.csv", tmp_path / "out")
    index = pack_videos(tmp_path / "list.csv", tmp_path / "out", recode=RecodeSettings()).index
    assert [(s.metadata.num_frames, s.label, s.group) for s in index.samples] == [
        (10, "x", "a b.mp4"),
        (20, "y", "a b.mp4"),
    ]
    assert len({sample.key for sample in index.samples}) == 2


def test_a_video_that_cannot_be_decoded_is_skipped_when_it_is_encoded_anew(wide_folder, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.mp4").write_text("words")
    (tmp_path / "in/good.mp4").write_bytes((wide_folder / "class0/a b.mp4").read_bytes())
    result = pack_videos(tmp_path / "in", tmp_path / "out", recode=RecodeSettings("5"))
    assert [video.path for video in result.skipped] == ["bad.mp4"] and result.num_samples == 1
