"""Damaged input of every kind, from damaged videos over damaged tars to damaged stores.

Three tables: what is damaged, how, and what is said of it. At each stage that meets the damage, all
other samples are delivered, the damaged one is named and counted with its reason, and past the
budget the run stops with the list. Real files, real tars, a real web server.
"""

import io
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from data_pipelines.__main__ import main
from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from data_pipelines.decoders.base import decoder_class
from data_pipelines.frames import DecodeError
from data_pipelines.plan import EpochPlan, ResumableBatchSampler
from data_pipelines.remote_files import RemoteFileError, RetryPolicy
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.skips import SkipCounter, TooManySkippedError
from data_pipelines.streams import CountingLoader
from data_pipelines.tar_headers import ShardError
from data_pipelines.transforms import ResizeWholeFrame
from data_pipelines.video_writing import encode_mp4

ROOT = Path(__file__).parents[2]
NUM_FRAMES = 20  # of the video that is damaged, and of a clip: every frame of it is asked for
GOOD = [f"good{number}" for number in range(4)]
QUICK = RetryPolicy(3, 0.01, 0.03, timeout_seconds=3, stall_seconds=0.3)


def delivered(index, *, steps, skips=None, retry=None, isolate=None):
    """Trains on an index for some steps; returns the keys that came, and the counter of skips."""
    dataset = ClipDataset(
        index,
        clip_length_frames=NUM_FRAMES,
        transform=ResizeWholeFrame(16),
        reader=ShardReader(retry=retry),
        isolate_decoding=isolate,
    )
    plan = EpochPlan([index.num_samples], seed=0)
    sampler = ResumableBatchSampler(plan, slots_per_batch=1, steps_per_epoch=steps)
    skips = skips or SkipCounter(1.0)
    batches = list(CountingLoader(dataset, sampler, skips=skips))
    return [key for batch in batches for key in batch.keys], skips


def said_by(command, capsys):
    code = main([str(word) for word in command])
    out, err = capsys.readouterr()
    return code, out, err


# Damaged videos: met by scan and pack, by check, and in training on tars of somebody else.


class DamagedVideo(NamedTuple):
    name: str
    damage: Callable[[bytes], bytes]
    said: str


def truncated(data):
    return data[: len(data) // 2]


def sound_only(data):
    """A whole MP4 file with a second of silence."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=16000)
        silence = np.zeros((2, 16000), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


def one_frame(data):
    return encode_mp4(np.zeros((1, 48, 64, 3), np.uint8), frames_per_second=10)


def random_middle(data):
    """Other bytes in the middle third of the media data."""
    start = data.index(b"mdat") + 4
    third = int.from_bytes(data[start - 8 : start - 4], "big") // 3
    noise = random.Random(0).randbytes(third)
    return data[: start + third] + noise + data[start + 2 * third :]


def huge_header(data):
    """Headers that claim 16000 x 16000 pixels, in the container and in H.264's own.

    Each frame would be 768 MB of RGB; the file has a few kilobytes, and a decoder believes it.
    """
    blocks = 1000  # of 16 pixels
    place = data.index(b"avcC") + 4 + 8  # of the sequence parameter set (ITU-T H.264, 7.3.2.1.1)
    size = int.from_bytes(data[place - 2 : place], "big")
    bits = "".join(f"{byte:08b}" for byte in data[place + 1 : place + size])
    end = 24  # profile, constraints, level; then Exp-Golomb numbers up to the width
    for number in range(4):  # id, frame number bits, order type 2, reference frames
        zeros = bits.index("1", end) - end
        end += 2 * zeros + 1
        assert number != 2 or bits[end - 3 : end] == "011"
    size_code = f"{blocks:b}".rjust(2 * blocks.bit_length() - 1, "0")
    flags = "1" + "1" + "0" + "0" + "1"  # whole frames, direct 8x8, no cropping, no VUI, the end
    bits = bits[: end + 1] + size_code * 2 + flags
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    inside = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    changed = bytearray(data)
    changed[place + 1 : place + size] = inside.ljust(size - 1, b"\0")
    entry, track = data.index(b"avc1", data.index(b"stsd")), data.index(b"tkhd")
    changed[entry + 28 : entry + 32] = (16 * blocks).to_bytes(2, "big") * 2
    changed[track + 80 : track + 88] = (16 * blocks << 16).to_bytes(4, "big") * 2
    return bytes(changed)


VIDEOS = [
    DamagedVideo("truncated", truncated, "PyAV cannot open it: .*Invalid data"),
    DamagedVideo("zero bytes", lambda data: b"", "the file is empty"),
    DamagedVideo(
        "words named mp4", lambda data: b"# notes\n" * 9, "not a video: begins with 23 20"
    ),
    DamagedVideo("sound only", sound_only, "it has no video stream"),
    DamagedVideo("one frame", one_frame, "clip needs 20 frames but the video has 1|too short: 1"),
    DamagedVideo("huge header", huge_header, "claims frames of 16000 x 16000 pixels; at most 67"),
    DamagedVideo("random middle", random_middle, "decord: .*Error sending packet|PyAV: .*Invalid"),
]
each_video = pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video.name)


def key_of(video):
    return video.name.replace(" ", "_")


@pytest.fixture(scope="module")
def good_bytes(index_frames):
    return encode_mp4(index_frames(NUM_FRAMES), frames_per_second=10, keyframe_interval=8)


@pytest.fixture(scope="module")
def sick_folder(good_bytes, tmp_path_factory):
    """Four good videos and all the damaged ones."""
    folder = tmp_path_factory.mktemp("sick")
    for key in GOOD:
        (folder / f"{key}.mp4").write_bytes(good_bytes)
    for video in VIDEOS:
        (folder / f"{key_of(video)}.mp4").write_bytes(video.damage(good_bytes))
    return folder


@pytest.fixture(scope="module")
def sick_tar(sick_folder, tmp_path_factory):
    """The same as a tar of somebody else."""
    files = {path.name: path.read_bytes() for path in sorted(sick_folder.iterdir())}
    return write_tar(tmp_path_factory.mktemp("sick_tar") / "some.tar", files.items())


def write_tar(place, members):
    """Writes a tar to a path, or into a buffer."""
    name, file = (None, place) if isinstance(place, io.BytesIO) else (place, None)
    with tarfile.open(name, "w", file, format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return place


@pytest.fixture(scope="module")
def checked(sick_tar):
    """What `check` says of the tar."""
    command = [sys.executable, "-m", "data_pipelines", "check", str(sick_tar), "--full"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr


@pytest.fixture(scope="module")
def packed(sick_folder, tmp_path_factory):
    """What packing says, with the lines of the program."""
    out = tmp_path_factory.mktemp("packed")
    command = ["pack", str(sick_folder), str(out), "--full", "--min-frames", str(NUM_FRAMES)]
    run = subprocess.run(
        [sys.executable, "-m", "data_pipelines", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return run, ShardIndex.load(out)


@pytest.fixture(scope="module")
def trained(sick_tar):
    """What training on the tar of somebody else delivers and counts, twice over."""
    index = ShardIndex.load(sick_tar)
    return delivered(index, steps=2 * index.num_samples)


@each_video
def test_packing_goes_on_and_names_the_damaged_video(packed, video):
    run, index = packed
    assert run.returncode == 0 and "packed 4 of 11 videos" in run.stdout
    assert [sample.key for sample in index.samples] == GOOD
    (reason,) = [skip.reason for skip in index.skipped if skip.path == f"{key_of(video)}.mp4"]
    assert re.search(video.said, reason) and f"{key_of(video)}.mp4: {reason}" in run.stdout
    assert run.stderr == ""  # no library floods it


def test_scanning_goes_on_and_lists_the_damaged_videos(sick_folder, tmp_path, capsys):
    code, out, err = said_by(["scan", sick_folder, tmp_path / "m.csv", "--full"], capsys)
    assert (code, err) == (0, "") and "wrote 5 of 11 videos" in out  # one frame is a video, too
    listed = (tmp_path / "m.skipped.csv").read_text()
    for video in VIDEOS:
        assert bool(re.search(rf"{key_of(video)}.mp4,.*({video.said})", listed)) != (
            video.damage is one_frame
        )


@each_video
def test_checking_names_the_damaged_video(checked, video):
    code, out, err = checked
    assert (code, err) == (1, "") and "checked 11 samples in 1 shards: 6 problems" in out
    said = re.search(rf"some.tar: '{key_of(video)}': .*({video.said})", out)
    assert bool(said) != (video.damage is one_frame)


@each_video
def test_training_goes_on_and_counts_the_damaged_video(trained, video):
    keys, skips = trained
    assert set(keys) == set(GOOD) and len(keys) == 22  # every place of every batch is filled
    assert skips.keys[key_of(video)] >= 2  # in each of the two passes
    assert re.search(video.said, skips.reason_of_key[key_of(video)])
    assert sum(skips.keys.values()) == sum(skips.reasons.values()) == skips.num_skipped


@each_video
def test_past_the_budget_training_stops_with_the_list(sick_folder, tmp_path, video):
    files = [(f"{key}.mp4", (sick_folder / f"{key}.mp4").read_bytes()) for key in GOOD[:2]]
    files.append((bad := f"{key_of(video)}.mp4", (sick_folder / bad).read_bytes()))
    index = ShardIndex.load(write_tar(tmp_path / "x.tar", files))
    skips = SkipCounter(0.2, grace_samples=6)
    said = f"more than max_skipped_fraction=0.2: '{key_of(video)}': .*({video.said})"
    with pytest.raises(TooManySkippedError, match=said):
        delivered(index, steps=6, skips=skips, isolate=False)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_a_huge_header_is_refused_without_the_memory_that_it_asks_for(good_bytes, decoder):
    video = huge_header(good_bytes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecodeError, match="claims frames of 16000 x 16000 pixels"):
        decoder_class(decoder)(video, "huge")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


# Damaged tars of somebody else, which have no index: met when they are walked.


class DamagedTar(NamedTuple):
    """What is done to eight samples k0 to k7, each of a JSON and a video.

    Attributes:
        name: of the damage.
        damage: the members, name and bytes, to the bytes of a tar.
        lost: key (or the beginning of a place) -> what is said; {} if nothing is lost.
        gone: keys that are not in the file any more, so that nobody can name them.
    """

    name: str
    damage: Callable[[list[tuple[str, bytes]]], bytes]
    lost: dict[str, str]
    gone: tuple[str, ...] = ()


def bytes_of_tar(members):
    buffer = io.BytesIO()
    write_tar(buffer, members)
    return buffer.getvalue()


def header_at(data, name):
    return data.index(name.encode() + b"\0")


def changed_header(name, change):
    def damage(members):
        data = bytearray(bytes_of_tar(members))
        at = header_at(data, name)
        data[at : at + 512] = change(bytes(data[at : at + 512]))
        return bytes(data)

    return damage


def flipped(header):
    return header[:100] + bytes([header[100] ^ 1]) + header[101:]


def lying(header):
    """A size of 7 GiB, with the right checksum."""
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    info.size = 7 << 30
    return info.tobuf(tarfile.USTAR_FORMAT)


def linked(header):
    info = tarfile.TarInfo("k3.mp4")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info.tobuf(tarfile.USTAR_FORMAT)


def cut(place):
    def damage(members):
        data = bytes_of_tar(members)
        return data[: place(data)]

    return damage


def with_member(name, data):
    """Another content of one member; None leaves it out."""
    return lambda members: bytes_of_tar(
        [(n, data if n == name else d) for n, d in members if n != name or data is not None]
    )


TARS = [
    DamagedTar(
        "header of a video",
        changed_header("k3.mp4", flipped),
        {"k3": r"has no video; header at byte \d+: damaged, its checksum differs; \d+ bytes are"},
    ),
    DamagedTar(
        "header of a JSON",
        changed_header("k3.json", flipped),
        {"k3": r"has no json; header at byte \d+: damaged, its checksum differs; 1024 bytes are"},
    ),
    DamagedTar(
        "header of zeros",
        changed_header("k3.mp4", lambda header: bytes(512)),
        {"k3": "has no video; data after the end mark"},
    ),
    DamagedTar(
        "size that lies", changed_header("k3.mp4", lying), {"k3": "claims 7516192768 bytes, the"}
    ),
    DamagedTar(
        "link", changed_header("k3.mp4", linked), {"k3": "'k3.mp4' of type b'2' is not allowed"}
    ),
    DamagedTar(
        "cut within a video",
        cut(lambda data: header_at(data, "k4.mp4") + 1000),
        {"k4": r"'k4.mp4' claims \d+ bytes, the shard ends after 488 \(truncated"},
        gone=("k5", "k6", "k7"),
    ),
    DamagedTar(
        "cut between samples",
        cut(lambda data: header_at(data, "k5.json")),
        {"some.tar at byte ": "truncated: no end mark"},
        gone=("k5", "k6", "k7"),
    ),
    DamagedTar(
        "member twice",
        lambda members: bytes_of_tar([*members[:8], members[7], *members[8:]]),
        {"k3": "member 'k3.mp4' comes twice"},
    ),
    DamagedTar(
        "key twice",
        lambda members: bytes_of_tar([*members, *members[6:8]]),
        {"k3": "key 'k3' reappears at byte"},
    ),
    DamagedTar("no JSON", with_member("k3.json", None), {}),
    DamagedTar("no video", with_member("k3.mp4", None), {"k3": "sample 'k3' has no video"}),
    DamagedTar("JSON of words", with_member("k3.json", b"{words"), {"k3": "'k3.json' is not JSON"}),
    DamagedTar(
        "JSON of a list", with_member("k3.json", b"[1]"), {"k3": "must be a JSON object, got list"}
    ),
    DamagedTar(
        "JSON of wrong types",
        with_member(
            "k3.json",
            b'{"num_frames": Infinity, "frames_per_second": "x", "duration_seconds": [], '
            b'"height": -1, "width": null, "label": {}, "group": 7}',
        ),
        {},
    ),
    DamagedTar(
        "member that is no sample's",
        lambda members: bytes_of_tar([("README", b"words"), *members]),
        {"some.tar/README": "member 'README' has no key or no extension"},
    ),
]
each_tar = pytest.mark.parametrize("tar", TARS, ids=lambda tar: tar.name)
KEYS = [f"k{number}" for number in range(8)]


def members_of(video, keys=KEYS):
    about = {"num_frames": 20, "frames_per_second": 10, "duration_seconds": 2}
    text = json.dumps({**about, "height": 48, "width": 64}).encode()
    return [
        (f"{key}.{end}", data) for key in keys for end, data in (("json", text), ("mp4", video))
    ]


@pytest.fixture
def broken(good_bytes, tmp_path):
    """Returns a maker of damaged tars, in a folder of their own."""

    def make(tar):
        path = tmp_path / "somebody" / "some.tar"
        path.parent.mkdir()
        path.write_bytes(tar.damage(members_of(good_bytes)))
        return path

    return make


def left(tar):
    return [key for key in KEYS if key not in tar.lost and key not in tar.gone]


def named(tar, pairs):
    """Returns whether these (key, reason) are what a row of the table says, and no others."""
    pairs = list(pairs)
    return len(pairs) == len(tar.lost) and all(
        key.startswith(start) and re.search(said, reason)
        for (key, reason), (start, said) in zip(pairs, tar.lost.items(), strict=True)
    )


@each_tar
def test_training_goes_on_with_what_is_whole_in_a_damaged_tar(broken, tar, caplog):
    index = ShardIndex.load(broken(tar))
    keys, skips = delivered(index, steps=index.num_samples, isolate=False)
    assert sorted(keys) == left(tar) and skips.num_skipped == 0
    assert named(tar, [(video.path, video.reason) for video in index.damaged])
    assert index.skipped == index.damaged
    for video in index.damaged:
        assert f"left out '{video.path}': some.tar: " in caplog.text


@each_tar
def test_checking_names_what_is_lost_and_looks_at_the_rest(broken, tar, capsys):
    path = broken(tar)
    code, out, _ = said_by(["check", path], capsys)
    pairs = re.findall(rf"^{re.escape(str(path))}: '(.*?)': (.*)$", out, re.M)
    assert code == bool(tar.lost) and named(tar, pairs), out
    assert f"checked {len(left(tar))} samples in 1 shards: " in out


@each_tar
def test_more_damage_than_the_budget_stops_a_run_at_its_start_with_the_list(broken, tar):
    path = str(broken(tar))
    settings = {"clip_length_frames": 6, "image_size": 16, "batch_size": 2}
    generous = ClipDataModule(path, **settings, max_skipped_fraction=0.5)
    generous.setup()
    assert named(tar, generous.skips.left_out.items())
    assert (f"({len(tar.lost)} damaged ones left out)" in generous.describe()) == bool(tar.lost)
    strict = ClipDataModule(path, **settings, max_skipped_fraction=0.1)
    if not tar.lost:
        return strict.setup()
    (start, said), *_ = tar.lost.items()
    message = f"1 of . samples cannot be used, .*=0.1: '{re.escape(start)}.*{said}"
    with pytest.raises(TooManySkippedError, match=message):
        strict.setup()


@pytest.mark.parametrize("data", [b"", b"words", bytes(700), b"\x1f\x8b" + bytes(600)])
def test_a_tar_of_which_nothing_can_be_used_is_refused(tmp_path, data):
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(ShardError, match=r"bad\.tar: .*(truncated|not a tar header)"):
        ShardIndex.load(tmp_path)


def test_names_that_lead_out_are_keys_in_training_and_are_never_written(
    good_bytes, tmp_path, capsys
):
    tar = write_tar(tmp_path / "in.tar", members_of(good_bytes, ["a", "../../b", "/etc/c"]))
    index = ShardIndex.load(tar)
    assert sorted(delivered(index, steps=3, isolate=False)[0]) == ["../../b", "/etc/c", "a"]
    for verb, out in (("convert", "new"), ("unpack", "folder")):
        words = ["convert", tar, tmp_path / "deep" / "er" / out]
        words += ["--to", "folder"] if verb == "unpack" else []
        code, said, _ = said_by(words, capsys)
        assert code == 0 and said.count("its key leads out of its folder") == 2
        assert "'../../b'" in said or "../../b: " in said
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.stem in ("b", "c")]
    assert written == []


def test_what_was_lost_goes_along_into_a_new_set(broken, tmp_path, capsys):
    path = broken(TARS[0])
    assert said_by(["convert", path, tmp_path / "new"], capsys)[0] == 0
    new = ShardIndex.load(tmp_path / "new")
    assert [sample.key for sample in new.samples] == left(TARS[0])
    assert named(TARS[0], [(video.path, video.reason) for video in new.skipped])
    assert new.damaged == () and "some.tar: sample" in new.skipped[0].reason
    code, _, err = said_by(["merge", path, "--out", tmp_path / "m", "--copy-shards"], capsys)
    assert code == 2 and "'k3': some.tar: sample 'k3' has no video" in err


@pytest.mark.parametrize("name", ["../../shard-000000.tar", "/etc/shard-000000.tar"])
def test_an_index_that_leads_out_is_refused(shard_folder, tmp_path, name):
    copied = Path(shutil.copytree(shard_folder, tmp_path / "copied"))
    text = (copied / "index.json").read_text()
    (copied / "index.json").write_text(text.replace("shard-000000.tar", name))
    with pytest.raises(ShardError, match=f"shard name '{name}' is a path"):
        ShardIndex.load(copied)


def test_damaged_trajectories_are_left_out_and_named(trajectory_folder, tmp_path):
    members = []
    for sample in ShardIndex.load(trajectory_folder).samples:
        data = {end: ShardReader().read(sample, end) for end in sample.members}
        if sample.key == "episode01":
            data["states.npy"] = b"words"
        if sample.key == "episode02":
            del data["actions.npy"]
        if sample.key == "episode03":
            data["states.npy"] = data["actions.npy"]
        members += [(f"{sample.key}.{end}", data[end]) for end in data]
    index = ShardIndex.load(write_tar(tmp_path / "x.tar", members))
    assert [sample.key for sample in index.samples] == ["episode00", "episode04", "episode05"]
    said = {video.path: video.reason for video in index.damaged}
    assert list(said) == ["episode01", "episode02", "episode03"]
    assert "has no states.npy or no actions.npy, which the others have" in said["episode02"]
    assert "has states (19, 1) and actions (19, 1); they must be (T, 2)" in said["episode03"]
    data = TrajectoryDataModule(
        str(tmp_path / "x.tar"), 5, image_size=16, batch_size=3, max_skipped_fraction=0.5
    )
    data.setup()
    assert sorted(next(iter(data.train_dataloader())).keys) == [s.key for s in index.samples]


# Damaged stores: a web server that has a bad day, met by each reading of a sample.


class DamagedStore(NamedTuple):
    """A fault of a web server, of the requests for one sample.

    Attributes:
        name: of the fault.
        once: the fault passes.
        fault: see `WebStore`; "" for a byte that is another on the server's disk.
        said: None if nothing is lost.
    """

    name: str
    once: bool
    fault: str
    said: str | None


STORES = [
    DamagedStore("500 once", True, "500", None),
    DamagedStore("500 always", False, "500", r"status 500 \(Internal Server Error\)"),
    DamagedStore("404", False, "404", r"status 404 \(Not Found\)"),
    DamagedStore("slow", False, "drip", None),
    DamagedStore("stalled once", True, "stall", None),
    DamagedStore("stalled always", False, "stall", "stalled: no byte for 0.3 s"),
    DamagedStore("cut once", True, "cut", None),
    DamagedStore("cut always", False, "cut", "the connection ended early|ClientPayloadError"),
    DamagedStore("page of words", False, "html", "an HTML page came instead of data"),
    DamagedStore("wrong checksum", False, "", r"is not what was packed \(CRC-32 differs at byte"),
]
each_store = pytest.mark.parametrize("bad", STORES, ids=lambda store: store.name)


@pytest.fixture
def served(shard_folder, web_store, tmp_path):
    """Returns a maker: the set behind a web server that has this fault for its third sample."""

    def make(bad):
        copied = Path(shutil.copytree(shard_folder, tmp_path / "served"))
        store, sample = web_store(copied), ShardIndex.load(copied).samples[2]
        index = ShardIndex.load(store.url, retry=QUICK)
        member, left = sample.members["mp4"], [1 if bad.once else 1 << 30]

        def fault_of(request):
            has_it = request.first is not None and request.first <= member.offset <= request.last
            if not has_it or request.name != "shard-000000.tar" or left[0] == 0:
                return None
            left[0] -= 1
            return bad.fault or None

        if not bad.fault:
            path = copied / "shard-000000.tar"
            data = bytearray(path.read_bytes())
            data[member.offset + 99] ^= 4
            path.write_bytes(data)
        store.fault_of = fault_of
        return store, index, sample.key

    return make


@each_store
def test_training_goes_on_when_a_store_fails_and_counts_what_is_out_of_reach(served, bad):
    _, index, key = served(bad)
    keys, skips = delivered(index, steps=index.num_samples, retry=QUICK)
    everything = {sample.key for sample in index.samples}
    if bad.said is None:
        return (
            None if (set(keys), skips.num_skipped) == (everything, 0) else pytest.fail(str(skips))
        )
    assert set(keys) == everything - {key} and len(keys) == 12
    assert set(skips.keys) == {key} and re.search(bad.said, skips.reason_of_key[key])
    assert f"{index.shards[0].path}: " in skips.reason_of_key[key]


@each_store
def test_past_the_budget_a_failing_store_stops_the_run_with_the_list(served, bad):
    _, index, key = served(bad)
    skips = SkipCounter(0.05, grace_samples=12)
    if bad.said is None:
        delivered(index, steps=12, retry=QUICK, skips=skips)
        return
    with pytest.raises(TooManySkippedError, match=f"=0.05: '{key}': .*({bad.said})"):
        delivered(index, steps=12, retry=QUICK, skips=skips)


@pytest.mark.parametrize("bad", [s for s in STORES if s.fault], ids=lambda store: store.name)
def test_an_index_out_of_reach_is_one_line_and_one_that_comes_late_is_read(
    shard_folder, web_store, bad
):
    store = web_store(shard_folder)
    if bad.once:
        store.faults = [bad.fault]
    else:
        store.fault_of = lambda request: bad.fault
    if bad.said is None:
        assert ShardIndex.load(store.url, retry=QUICK).num_samples == 12
        return
    said = f"/index.json: .*({bad.said})|has no index.json"
    with pytest.raises((RemoteFileError, ShardError), match=said) as caught:
        ShardIndex.load(store.url, retry=QUICK)
    assert "\n" not in str(caught.value)
