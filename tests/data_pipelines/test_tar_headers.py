import io
import random
import tarfile

import pytest

from data_pipelines.tar_headers import ShardError, split_name, walk_tar


def write_tar(path, members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def tar(tmp_path):
    members = [
        (f"clip/{k:03d}.{e}", bytes([k]) * (100 * k)) for k in range(8) for e in ("json", "mp4")
    ]
    return write_tar(tmp_path / "shard.tar", members)


def seen_by_tarfile(path):
    with tarfile.open(path) as tar:
        return [(member.name, member.offset_data, member.size) for member in tar]


def test_the_walk_sees_what_tarfile_sees(tar):
    assert [(m.name, m.offset, m.size) for m in walk_tar(tar)] == seen_by_tarfile(tar)


def test_gnu_headers_and_long_prefixed_names_are_read(tmp_path):
    path = write_tar(tmp_path / "long.tar", [("d" * 120 + "/k.mp4", b"x")])
    assert walk_tar(path)[0].name == "d" * 120 + "/k.mp4"
    with tarfile.open(tmp_path / "gnu.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    assert walk_tar(tmp_path / "gnu.tar")[0].name == "a.mp4"


def test_no_flipped_header_bit_goes_unnoticed(tar):
    good, data = walk_tar(tar), tar.read_bytes()
    chosen = random.Random(0)
    for _ in range(300):
        member = chosen.choice(good)
        place, bit = member.offset - 512 + chosen.randrange(512), 1 << chosen.randrange(8)
        tar.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        with pytest.raises(ShardError, match=r"shard\.tar"):
            walk_tar(tar)


def test_no_cut_goes_unnoticed(tar):
    data = tar.read_bytes()
    end = walk_tar(tar)[-1]
    for size in [*range(0, end.offset + end.size + 512, 512), 700, end.offset + 5]:
        tar.write_bytes(data[:size])
        with pytest.raises(ShardError, match=r"truncated|claims"):
            walk_tar(tar)


def test_zero_blocks_in_the_middle_do_not_hide_the_rest(tar):
    data, third = tar.read_bytes(), walk_tar(tar)[2]
    tar.write_bytes(data[: third.offset - 512] + bytes(1024) + data[third.offset + 512 :])
    with pytest.raises(ShardError, match="data after the end mark"):
        walk_tar(tar)


def test_a_size_that_lies_is_refused_at_once(tmp_path):
    info = tarfile.TarInfo("bomb.mp4")
    info.size = 7 * 1024**3
    (tmp_path / "bomb.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(ShardError, match="claims 7516192768 bytes"):
        walk_tar(tmp_path / "bomb.tar")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE]
)
def test_links_folders_and_devices_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("a.mp4")
    info.type, info.linkname = kind, "/etc/passwd"
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(ShardError, match="is not allowed, only plain files"):
        walk_tar(tmp_path / "x.tar")


def test_a_member_that_comes_twice_is_refused(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.mp4", b"1"), ("a.mp4", b"2")])
    with pytest.raises(ShardError, match=r"member 'a\.mp4' comes twice"):
        walk_tar(path)


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b" + bytes(600), b"<html>" + b" " * 600])
def test_what_is_no_tar_is_refused(tmp_path, data):
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(ShardError, match=r"not a tar header|truncated"):
        walk_tar(tmp_path / "x.tar")


def test_an_empty_tar_has_no_members(tmp_path):
    assert walk_tar(write_tar(tmp_path / "x.tar", [])) == []


def test_names_split_as_webdataset_splits_them():
    assert split_name("a/b.c/key.states.npy") == ("a/b.c/key", "states.npy")
    assert split_name("key.MP4") == ("key", "mp4")
    for name in ("key", ".mp4", "a/.mp4", "key."):
        with pytest.raises(ShardError, match="no key or no extension"):
            split_name(name)
