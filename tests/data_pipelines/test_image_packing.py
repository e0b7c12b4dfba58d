import csv
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from data_pipelines.__main__ import main
from data_pipelines.frames import DecodeError, VideoMetadata
from data_pipelines.image_packing import extension_of, shrunk
from data_pipelines.images import decode_image
from data_pipelines.packing import pack_images
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.tar_headers import ShardError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five pictures in two classes, and two files that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, size in {
        "cat/a.png": (40, 60),
        "cat/b.JPG": (33, 50),
        "dog/c.webp": (64, 48),
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(*size)).save(folder / name)
    Image.fromarray(noise(20, 30)).save(folder / "dog/d.jpeg", exif=turned())
    Image.fromarray(noise(18, 22)).save(folder / "dog/really_a_png.jpg", "PNG")
    (folder / "dog/e.png").write_text("words")
    (folder / "dog/f.jpg").write_bytes((folder / "cat/b.JPG").read_bytes()[:200])
    (folder / "dog/notes.txt").write_text("no picture")
    return folder


def turned():
    """EXIF that says: the camera was held upright, turn the picture by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def contents(folder):
    index, reader = ShardIndex.load(folder), ShardReader()
    return {
        s.key: (s, reader.read(s, s.image_extension), json.loads(reader.read(s, "json")))
        for s in index.samples
    }


def test_pictures_are_copied_byte_for_byte_with_size_and_label(pictures, tmp_path):
    result = pack_images(pictures, tmp_path)
    found = contents(tmp_path)
    assert sorted(found) == ["cat/a", "cat/b", "dog/c", "dog/d", "dog/really_a_png"]
    sizes = {"cat/a": (40, 60), "cat/b": (33, 50), "dog/c": (64, 48), "dog/d": (30, 20)}
    for key, (sample, data, about) in found.items():
        assert data == (pictures / sample.source).read_bytes()
        assert about["label"] == sample.label == key[:3] and about["num_bytes"] == len(data)
        size = sizes.get(key, (18, 22))
        assert sample.metadata == VideoMetadata(1, 1.0, 1.0, *size) and sample.is_image
        assert (about["height"], about["width"]) == size
    extensions = {key: sample.image_extension for key, (sample, _, _) in found.items()}
    assert extensions["cat/b"] == extensions["dog/d"] == "jpg"
    assert extensions["dog/really_a_png"] == "png"  # by the bytes, not by the name
    assert [video.path for video in result.skipped] == ["dog/e.png", "dog/f.jpg"]


def test_smaller_pictures_are_upright_jpegs_that_look_the_same(pictures, tmp_path):
    pack_images(pictures, tmp_path, short_side=24)
    found = contents(tmp_path)
    shapes = {key: decode_image(data, key).shape[:2] for key, (_, data, _) in found.items()}
    assert shapes["cat/a"] == (24, 36) and shapes["dog/c"] == (32, 24)
    assert shapes["dog/d"] == (30, 20)  # smaller already: turned, not enlarged
    for key, (sample, data, about) in found.items():
        assert data[:3] == b"\xff\xd8\xff" and set(sample.members) == {"jpg", "json"}
        assert (sample.metadata.height, sample.metadata.width) == shapes[key]
        original = pictures / sample.source
        assert about["original"]["num_bytes"] == original.stat().st_size
    assert found["cat/a"][2]["original"]["width"] == 60
    smooth = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 80, 3))
    assert np.abs(shrunk(smooth, 32)[:, 0, 0] - (np.arange(32) * 6 + 1.5)).max() < 3


def test_shrinking_keeps_the_shape_and_never_enlarges():
    assert shrunk(noise(100, 301), 50).shape == (50, 151, 3)
    assert shrunk(noise(301, 100), 50).shape == (151, 50, 3)
    assert shrunk(noise(30, 40), 50).shape == (30, 40, 3)


def test_a_picture_of_several_pictures_is_a_jpeg_and_other_formats_are_refused():
    several, file = io.BytesIO(), io.BytesIO()
    pages = [Image.fromarray(noise(8, 8, seed)) for seed in range(2)]
    pages[0].save(several, "MPO", save_all=True, append_images=pages[1:])  # as phones write it
    assert extension_of(several.getvalue(), "a") == "jpg"
    pages[0].save(file, "GIF")
    with pytest.raises(DecodeError, match=r"a\.png: a picture of format GIF; shards hold JPEG"):
        extension_of(file.getvalue(), "a.png")


def test_any_number_of_workers_and_a_second_start_give_the_same_shards(pictures, tmp_path):
    from data_pipelines.packing_engines import LocalEngine

    def files(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    pack_images(pictures, tmp_path / "1", samples_per_shard=2)
    second = pack_images(
        pictures, tmp_path / "2", samples_per_shard=2, engine=LocalEngine(num_workers=3)
    )
    assert files(tmp_path / "1") == files(tmp_path / "2") and not second.was_there
    assert pack_images(pictures, tmp_path / "2", samples_per_shard=2).was_there
    with pytest.raises(ShardError, match="already holds shards: short_side was None and is 20"):
        pack_images(pictures, tmp_path / "2", samples_per_shard=2, short_side=20)


def test_a_pack_of_pictures_that_was_stopped_goes_on(pictures, tmp_path, monkeypatch):
    from data_pipelines import shard_jobs

    write, numbers = shard_jobs.write_shard, []

    def stop_at_second(unfinished, samples, *, final):
        numbers.append(final)
        if len(numbers) == 2:
            raise KeyboardInterrupt
        return write(unfinished, samples, final=final)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shard_jobs, "write_shard", stop_at_second)
        pack_images(pictures, tmp_path / "a", samples_per_shard=2)
    first = (tmp_path / "a/.packing/shard-000000.tar").stat().st_ino
    pack_images(pictures, tmp_path / "a", samples_per_shard=2)
    pack_images(pictures, tmp_path / "b", samples_per_shard=2)
    assert (tmp_path / "a/shard-000000.tar").stat().st_ino == first
    for path in (tmp_path / "b").iterdir():
        assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes()


def test_the_verbs_scan_and_pack_pictures_and_a_manifest_is_a_source(pictures, tmp_path, capsys):
    manifest, out = tmp_path / "m.csv", tmp_path / "out"
    assert main(["scan", str(pictures), str(manifest), "--images", "--workers", "2"]) == 0
    assert "wrote 5 of 7 images into" in capsys.readouterr().out
    rows = list(csv.DictReader(manifest.open()))
    assert rows[0]["path"].endswith("cat/a.png") and rows[0]["label"] == "cat"
    assert (rows[0]["height"], rows[0]["width"], rows[0]["num_frames"]) == ("40", "60", "1")
    assert main(["pack", str(manifest), str(out), "--images"]) == 0
    assert "packed 5 of 5 images into" in capsys.readouterr().out
    assert main(["pack", str(pictures), str(tmp_path / "all"), "--images"]) == 0
    said = capsys.readouterr().out
    assert "skipped 1 of 7: dog/e.png: not an image" in said
    assert "skipped 2 of 7: dog/f.jpg: the image cannot be read" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fps", "4"], "--fps is for videos; leave it or --images out"),
        (["--copy", "--short-side", "32"], "--copy leaves images as they are"),
        (["--short-side", "4"], "short_side=4 must be from 16 to 8192"),
        (["--samples-per-shard", "0"], "samples_per_shard=0 and"),
    ],
)
def test_options_that_do_not_go_together_are_an_error_of_one_line(
    pictures, tmp_path, capsys, words, said
):
    assert main(["pack", str(pictures), str(tmp_path), "--images", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_place_without_pictures_is_an_error(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"no image in .*; looked for jpg, jpeg, png, webp"):
        pack_images(tmp_path, tmp_path / "out")
    (tmp_path / "in").mkdir()
    shutil.copy(pictures / "dog/e.png", tmp_path / "in")
    with pytest.raises(ValueError, match=r"no usable image in .*: 1 of 1 skipped; first: e\.png"):
        pack_images(tmp_path / "in", tmp_path / "out")


# What the other verbs do with shards of pictures.


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def picture_shards(pictures, tmp_path_factory):
    """Three shards of the five good pictures, by the verb."""
    out = tmp_path_factory.mktemp("packed") / "set"
    assert run("pack", pictures, out, "--images", "--samples-per-shard", 2) == 0
    return out


def pictures_in(*folders):
    """Returns key -> label, bytes, size of all pictures of these sets."""
    found = {}
    for folder in folders:
        for key, (sample, data, _) in contents(folder).items():
            assert key not in found
            size = (sample.metadata.height, sample.metadata.width)
            found[key] = (sample.label, data, size)
    return found


def test_check_finds_pictures_well_and_names_what_is_damaged(picture_shards, tmp_path, capsys):
    assert run("check", picture_shards, "--full") == 0
    assert "checked 5 samples in 3 shards: no problem" in capsys.readouterr().out
    shutil.copytree(picture_shards, tmp_path / "set")
    index = ShardIndex.load(tmp_path / "set")
    one, member = index.samples[0], index.samples[0].members["png"]
    data = bytearray((tmp_path / "set/shard-000000.tar").read_bytes())
    data[member.offset : member.offset + 8] = b"no image"
    (tmp_path / "set/shard-000000.tar").write_bytes(data)
    assert run("check", tmp_path / "set") == 1
    said = capsys.readouterr().out
    assert "shard-000000.tar: changed since it was packed (SHA-256 differs)" in said
    (tmp_path / "set/index.json").unlink()  # now no checksum vouches for the pictures
    assert run("check", tmp_path / "set") == 1
    said = capsys.readouterr().out
    assert f"shard-000000.tar: '{one.key}': " in said and "not an image" in said
    assert "checked 5 samples in 3 shards: 1 problems" in said


def test_check_compares_the_size_of_a_picture_with_its_index(picture_shards, tmp_path, capsys):
    shutil.copytree(picture_shards, tmp_path / "set")
    index = json.loads((tmp_path / "set/index.json").read_text())
    index["shards"][0]["samples"][0]["height"] = 41
    (tmp_path / "set/index.json").write_text(json.dumps(index))
    assert run("check", tmp_path / "set") == 1
    assert "'cat/a': 60 x 40 pixels, the index says 60 x 41" in capsys.readouterr().out


def test_info_tells_what_pictures_are_and_nothing_of_time(picture_shards, shard_folder, capsys):
    assert run("info", picture_shards) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["samples"] == "5, skipped when packed 2" and lines["images"] == "5"
    assert (lines["height"], lines["width"]) == ("18 to 64", "20 to 60")
    assert lines["labels"] == "2: cat, dog"
    assert not {"hours", "frames", "rate"} & lines.keys()
    assert run("info", picture_shards, shard_folder) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["samples"].startswith("17") and lines["images"] == "5"
    assert lines["frames"] == "20 to 31" and lines["hours"] == "0.009"  # of the videos only


def test_viz_draws_every_picture_with_its_crop(picture_shards, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert run("viz", picture_shards, "--out", out) == 0
    assert capsys.readouterr().out == f"wrote 5 of 5 samples to {out}, unusable: 0\n"
    with Image.open(out) as picture:
        is_yellow = (np.asarray(picture.convert("RGB")) == (255, 214, 10)).all(-1)
    assert is_yellow.any(1).sum() > 5 * 60


def test_split_and_merge_keep_every_picture(picture_shards, tmp_path, capsys):
    parts = ["--parts", "train=0.6", "val=0.4", "--seed", 1]
    assert run("split", picture_shards, "--out", tmp_path / "parts", *parts) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("train: 3 images, 3 groups, 60.0% of the samples (60.0% asked)")
    places = [tmp_path / "parts/train", tmp_path / "parts/val"]
    assert pictures_in(*places) == pictures_in(picture_shards)
    assert run("merge", *places, "--out", tmp_path / "merged") == 0
    assert f"merged 5 images into {tmp_path}/merged, shards: 1" in capsys.readouterr().out
    assert pictures_in(tmp_path / "merged") == pictures_in(picture_shards)
    assert run("check", *places, tmp_path / "merged") == 0


def test_convert_copies_pictures_byte_for_byte(picture_shards, tmp_path, capsys):
    command = ["convert", picture_shards, tmp_path / "out", "--samples-per-shard", 2]
    assert run(*command) == 0
    assert "converted 5 images into" in capsys.readouterr().out
    reader = ShardReader()
    before, after = (ShardIndex.load(place).samples for place in (picture_shards, tmp_path / "out"))
    for old, new in zip(before, after, strict=True):
        assert (old.key, old.label, old.metadata) == (new.key, new.label, new.metadata)
        assert [*old.members] == [*new.members]
        assert all(reader.read(old, name) == reader.read(new, name) for name in old.members)
    assert run(*command) == 0
    assert "(was there already)" in capsys.readouterr().out


def test_convert_makes_pictures_smaller_as_pack_does(pictures, picture_shards, tmp_path):
    assert run("convert", picture_shards, tmp_path / "out", "--short-side", 24) == 0
    pack_images(pictures, tmp_path / "packed", short_side=24)
    assert pictures_in(tmp_path / "out") == pictures_in(tmp_path / "packed")
    about = contents(tmp_path / "out")["cat/a"][2]
    assert about["original"] == contents(tmp_path / "packed")["cat/a"][2]["original"]
    assert (about["original"]["height"], about["height"]) == (40, 24)


def test_convert_gives_foreign_pictures_an_index_and_names_the_bad_one(
    image_shards, tmp_path, capsys
):
    assert run("convert", image_shards, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "skipped 1 of 1: picture6: not an image" in said and "converted 9 images" in said
    found = pictures_in(tmp_path / "out")
    assert len(found) == 9 and {label for label, _, _ in found.values()} == {"red"}
    assert {size for _, _, size in found.values()} == {(30, 40)}
    assert run("check", tmp_path / "out") == 0


def test_convert_takes_videos_and_pictures_of_one_set(picture_shards, shard_folder, tmp_path):
    both = tmp_path / "both"
    assert run("merge", picture_shards, shard_folder, "--out", both) == 0
    assert run("convert", both, tmp_path / "out", "--short-side", 16, "--workers", 2) == 0
    samples = ShardIndex.load(tmp_path / "out").samples
    assert [sample.is_image for sample in samples] == [True] * 5 + [False] * 12
    assert {min(s.metadata.height, s.metadata.width) for s in samples} == {16}
    assert run("check", tmp_path / "out") == 0


@pytest.mark.parametrize("words", [["--fps", "4"], ["--gop", "8"], ["--codec", "vp9"]])
def test_convert_does_not_encode_pictures_like_videos(picture_shards, tmp_path, capsys, words):
    assert run("convert", picture_shards, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert "images, which can only be made smaller (--short-side)" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_picture_whose_true_name_is_taken_is_left_out_and_named(tmp_path, capsys):
    """A PNG that is called .jpg gets its own name, unless another picture has it."""
    Image.fromarray(noise(18, 22)).save(tmp_path / "a.jpg", "PNG")
    Image.fromarray(noise(18, 22)).save(tmp_path / "a.png")
    Image.fromarray(noise(18, 22)).save(tmp_path / "b.jpg")
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("a.jpg", "a.png", "b.jpg"):
            tar.add(tmp_path / name, name)
    assert run("convert", tmp_path / "x.tar", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "a: its picture 'jpg' is a png, and another has that name" in said
    assert list(contents(tmp_path / "out")) == ["b"]


def test_pictures_go_to_a_folder_and_back(picture_shards, tmp_path, capsys):
    folder = tmp_path / "folder"
    assert run("convert", picture_shards, folder, "--to", "folder") == 0
    said = capsys.readouterr().out
    assert said == (
        f"unpacked 5 of 5 samples into {folder}; to pack them again: `pack {folder}/images.csv "
        "OUT --images`\n"
    )
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        ".unpacked.json",
        "images.csv",
    ]
    assert next(csv.DictReader((folder / "images.csv").open())) == {
        "path": "cat/a.png",
        "label": "cat",
        "source": "cat/a.png",
        "group": "",
    }
    assert run("pack", folder / "images.csv", tmp_path / "again", "--images") == 0
    assert pictures_in(tmp_path / "again") == pictures_in(picture_shards)


def test_videos_and_pictures_of_one_set_get_a_list_each(
    picture_shards, shard_folder, tmp_path, capsys
):
    assert run("convert", picture_shards, shard_folder, tmp_path / "out", "--to", "folder") == 0
    said = capsys.readouterr().out
    assert "videos.csv OUT` and `pack" in said and "images.csv OUT --images`" in said
    rows = {
        n: list(csv.DictReader((tmp_path / f"out/{n}.csv").open())) for n in ("videos", "images")
    }
    assert {name: len(found) for name, found in rows.items()} == {"videos": 12, "images": 5}
