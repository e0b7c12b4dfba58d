import io
import random
import re
import subprocess
import tarfile

import pytest
import webdataset

from data_pipelines.tar_headers import (
    ShardError,
    TarFault,
    TarMember,
    open_tar,
    split_name,
    survey_open_tar,
    walk_tar,
)


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
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"]
)
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_links_devices_and_sparse_files_are_refused(tmp_path, kind, format):
    info = tarfile.TarInfo("a.mp4")
    info.type, info.linkname, info.mtime = kind, "/etc/passwd", 7.5
    (tmp_path / "x.tar").write_bytes(info.tobuf(format) + bytes(1024))
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


def test_after_a_damaged_header_the_survey_goes_on_at_the_next(tar):
    good, data = walk_tar(tar), bytearray(tar.read_bytes())
    data[good[4].offset - 412] ^= 1
    tar.write_bytes(data)
    with open_tar(tar) as file:
        found = list(survey_open_tar(file, "x"))
    assert [one for one in found if isinstance(one, TarMember)] == good[:4] + good[5:]
    assert found[4] == TarFault(
        good[4].offset - 512,
        good[5].offset - 512,
        f"header at byte {good[4].offset - 512}: damaged, its checksum differs",
        None,
    )


# What is said ahead of a header.


def tar_of_webdataset(folder, keys=("000000", "000001", "000002")):
    """A shard as WebDataset's own writer makes it: a PAX header, with a time, for each member."""
    with webdataset.ShardWriter(f"{folder}/shard-%06d.tar", verbose=0) as writer:
        for key in keys:
            writer.write({"__key__": key, "json": {"label": key}, "mp4": b"v" * 700})
    return folder / "shard-000000.tar"


@pytest.fixture
def real_files(tmp_path):
    """Files for `tar`, some in folders, some with names that no header holds."""
    folder = tmp_path / "files"
    for name in ("a.mp4", "sub/b.mp4", f"{'d' * 60}/{'e' * 60}/c.mp4", "f" * 120 + ".mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 50)
    (folder / "sub/äö.mp4").write_bytes(b"umlauts")
    return folder


def test_a_shard_of_webdataset_is_read(tmp_path):
    path = tar_of_webdataset(tmp_path)
    assert path.read_bytes().count(b"mtime=") == 6
    assert [(m.name, m.offset, m.size) for m in walk_tar(path)] == seen_by_tarfile(path)


@pytest.mark.parametrize("format", ["gnu", "pax", "oldgnu", "ustar"])
def test_what_the_program_tar_writes_is_read(real_files, tmp_path, format):
    """Folders have entries of their own, and long names and umlauts headers of their own."""
    path = tmp_path / "x.tar"
    excluded = ["--exclude=f*"] if format == "ustar" else []  # it has no room for such a name
    command = ["tar", "cf", path, f"--format={format}", *excluded, "-C", real_files, "."]
    subprocess.run(command, check=True)
    data = path.read_bytes()
    read = {m.name: data[m.offset : m.offset + m.size] for m in walk_tar(path)}
    assert read == {
        file.relative_to(real_files).as_posix(): file.read_bytes()
        for file in real_files.rglob("*.mp4")
        if not (excluded and file.name.startswith("f"))
    }


def test_what_git_and_python_write_is_read(tmp_path):
    """A global header with a comment, and one with a size that no header holds."""
    with tarfile.open(tmp_path / "x.tar", "w", pax_headers={"comment": "abc"}) as tar:
        info = tarfile.TarInfo("k" * 130 + ".mp4")
        info.size, info.pax_headers = 5, {"size": "5", "SCHILY.xattr.user.x": "\x00y"}
        tar.addfile(info, io.BytesIO(b"12345"))
    (member,) = walk_tar(tmp_path / "x.tar")
    assert (member.name, member.size) == ("k" * 130 + ".mp4", 5)
    assert (tmp_path / "x.tar").read_bytes()[member.offset : member.offset + 5] == b"12345"


def tar_with(ahead, header=None, *, kind=b"x", then=()):
    """A tar whose first member has something said ahead of its header."""
    info = tarfile.TarInfo("./PaxHeaders/a")
    info.type, info.size = kind, len(ahead)
    members = [tarfile.TarInfo("first.mp4"), *map(tarfile.TarInfo, then)]
    blocks = [header or info.tobuf(tarfile.USTAR_FORMAT), ahead + bytes(-len(ahead) % 512)]
    blocks += [member.tobuf(tarfile.USTAR_FORMAT) for member in members]
    return b"".join(blocks) + bytes(1024)


def record(key, value):
    for size in range(1000):
        if len(text := f"{size} {key}={value}\n") == size:
            return text.encode()
    raise AssertionError


def surveyed(tmp_path, data):
    (tmp_path / "x.tar").write_bytes(data)
    with open_tar(tmp_path / "x.tar") as file:
        return list(survey_open_tar(file, "x"))


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (record("path", "a\x01b.mp4"), "name is empty, too long or not printable"),
        (record("path", "k" * 256), "name is empty, too long or not printable"),
        (record("path", "a.mp4").replace(b"a.", b"\xff."), "name is not UTF-8"),
        (record("size", "9" * 18), r"'first\.mp4' claims 9{18} bytes"),
        (record("GNU.sparse.major", "1"), "'first.mp4' is a sparse file"),
    ],
)
def test_what_is_said_ahead_is_checked_as_a_header_is(tmp_path, ahead, said):
    fault, *rest = surveyed(tmp_path, tar_with(ahead, then=["second.mp4"]))
    assert isinstance(fault, TarFault) and re.search(said, fault.reason)
    assert [member.name for member in rest] == ["second.mp4"]


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (b"9 size=\n\n", "is no number"),
        (b"7 size=-\n", "no PAX record at its byte 0"),
        (b"99999 path=a.mp4\n", "no PAX record at its byte 0"),
        (b"0 path=a.mp4\n", "no PAX record"),
        (b"-5 path=a.mp4\n", "is no number"),
        (b"\0" * 700, "is no number"),
        (record("size", "0x10"), "b'0x10' is no number"),
        (record("size", "9" * 30), "is no number"),
        (record("mtime", "1") + b"junk", "is no number"),
    ],
)
def test_a_member_whose_name_was_said_in_vain_is_lost_not_renamed(tmp_path, ahead, said):
    """Its header holds another name than the file's, which must not become a sample."""
    (fault, member) = surveyed(tmp_path, tar_with(ahead, then=["second.mp4"]))
    assert isinstance(fault, TarFault) and re.search(said, fault.reason) and fault.name is None
    assert member.name == "second.mp4"


def test_what_is_said_ahead_is_read_within_a_bound(tmp_path):
    info = tarfile.TarInfo("./PaxHeaders/a")
    info.type, info.size = b"x", 7 << 30
    lie = tar_with(b"", info.tobuf(tarfile.USTAR_FORMAT), then=["second.mp4"])
    fault, *_ = surveyed(tmp_path, lie)
    assert "7516192768 bytes about the next member; at most 65536 are read" in fault.reason
    comment = record("comment", "c" * 900) * 80  # true, and too long
    fault, member = surveyed(tmp_path, tar_with(comment, then=["second.mp4"]))
    assert "about the next member; at most 65536" in fault.reason and member.name == "second.mp4"


def test_a_global_header_may_not_rename_all_members(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_with(record("path", "same.mp4"), kind=b"g"))
    with pytest.raises(ShardError, match=r"x\.tar: header at byte 0: a global PAX header gives"):
        walk_tar(tmp_path / "x.tar")


def test_a_lost_header_about_the_next_member_loses_that_one_too(real_files, tmp_path):
    """Were it read by its own header, it would be a sample of another name."""
    path = tmp_path / "x.tar"
    lost = set()
    for format, mark in (("gnu", b"././@LongLink"), ("pax", b"PaxHeaders")):
        subprocess.run(["tar", "cf", path, f"--format={format}", "-C", real_files, "."], check=True)
        good, data = {member.name for member in walk_tar(path)}, path.read_bytes()
        places = [at for at in range(0, len(data), 512) if mark in data[at : at + 100]]
        assert len(places) >= 2
        for at in places:
            for damage in (data[at : at + 300] + b"!" + data[at + 301 : at + 512], bytes(512)):
                path.write_bytes(data[:at] + damage + data[at + 512 :])
                with open_tar(path) as file:
                    found = list(survey_open_tar(file, "x"))
                names = {one.name for one in found if isinstance(one, TarMember)}
                if damage[0] or at > places[0]:  # of zeros, only what came before can tell
                    assert names <= good
                lost |= good - names
                assert any(isinstance(one, TarFault) for one in found)
    assert lost >= {"f" * 120 + ".mp4", f"{'d' * 60}/{'e' * 60}/c.mp4", "sub/\u00e4\u00f6.mp4"}


def test_flipped_bits_in_a_shard_of_webdataset_lose_what_they_hit_and_rename_nothing(tmp_path):
    path = tar_of_webdataset(tmp_path)
    good, data = walk_tar(path), path.read_bytes()
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    assert len(headers) == 12
    chosen = random.Random(0)
    for _ in range(300):
        place, bit = chosen.randrange(512), 1 << chosen.randrange(8)
        at = chosen.choice(headers) + place
        path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        with open_tar(path) as file:
            found = list(survey_open_tar(file, "x"))
        if (place, bit) == (155, 32):  # the space after the checksum, which may be a zero
            assert found == good
            continue
        assert len([one for one in found if isinstance(one, TarFault)]) == 1
        members = [one for one in found if isinstance(one, TarMember)]
        assert len(members) == len(good) - 1 and set(members) < set(good)


def test_cuts_of_a_shard_of_webdataset_are_noticed(tmp_path):
    path = tar_of_webdataset(tmp_path)
    data, end = path.read_bytes(), walk_tar(path)[-1]
    for size in range(0, end.offset + end.size + 512, 256):
        path.write_bytes(data[:size])
        with pytest.raises(ShardError, match=r"truncated|claims|ends after"):
            walk_tar(path)
