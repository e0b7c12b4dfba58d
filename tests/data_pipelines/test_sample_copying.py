import functools
import http.server
import threading

import pytest

from data_pipelines.merging import merge_shards
from data_pipelines.sample_copying import (
    Layout,
    OutgoingSample,
    ShardSet,
    even_runs,
    explain_bad_key,
    leads_out,
    load_sets,
    make_copy_plan,
)
from data_pipelines.samples import Member, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.tar_headers import ShardError


@pytest.mark.parametrize(
    "key", ["../../x", "/etc/x", "a/../x", "a//x", "./x", "", "a\\..\\x", "C:x", "a/", ".."]
)
def test_keys_that_leave_their_folder_are_found(key):
    assert leads_out(key)
    assert explain_bad_key(key, ["mp4"]).startswith("its key leads out of its folder")


@pytest.mark.parametrize("key", ["x", "a/b/x", "a b/ü", "..x", "a..b/c"])
def test_other_keys_are_fine(key):
    assert explain_bad_key(key, ["mp4", "json"]) is None


def test_names_that_no_tar_can_hold_are_found():
    assert "too long for a tar" in explain_bad_key("x" * 97, ["mp4"])
    assert explain_bad_key("x" * 96, ["mp4"]) is None
    assert "for itself" in explain_bad_key("x", ["_meta"])


@pytest.mark.parametrize(
    ("sizes", "samples", "num_bytes", "counts"),
    [
        ([1] * 10, 4, 100, [3, 3, 4]),  # three shards are needed; they are even
        ([1] * 8, 4, 100, [4, 4]),
        ([5] * 6, 100, 10, [2, 2, 2]),
        ([9, 1, 1, 9], 2, 10, [2, 2]),
        ([50, 1, 1], 9, 10, [1, 2]),  # one sample may be larger than a shard
        ([1, 1, 1, 9, 9], 9, 10, [3, 1, 1]),  # even counts would be too large
        ([], 4, 4, []),
    ],
)
def test_samples_are_divided_into_few_even_shards(sizes, samples, num_bytes, counts):
    runs = even_runs(sizes, Layout(samples, num_bytes))
    assert [len(run) for run in runs] == counts
    assert [number for run in runs for number in run] == list(range(len(sizes)))


def test_a_layout_without_room_is_refused():
    with pytest.raises(ValueError, match="samples_per_shard=0"):
        Layout(samples_per_shard=0)


def outgoing(shard="a.tar", *, crc32=7, label=None, group=""):
    members = {"mp4": Member(512, 10, crc32)}
    return OutgoingSample(Sample("k", shard, members, label=label, group=group), "k", group)


def test_a_plan_knows_what_samples_are_and_not_where_they_lie():
    first, moved, *changed = (
        make_copy_plan([one], {"verb": "merge"}, Layout()).fingerprint
        for one in (
            outgoing(),
            outgoing("elsewhere/b.tar"),
            outgoing(crc32=8),
            outgoing(label="x"),
            outgoing(group="g"),
        )
    )
    assert first == moved
    assert len({first, *changed}) == 4


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("data/train", "train"),
        ("data/train/", "train"),
        ("a/shard-000000.tar", "shard-000000"),
        ("http://host/sets/train?key=1", "train"),
        ("s3://bucket/train/", "train"),
    ],
)
def test_a_set_has_the_name_of_its_folder(place, name):
    assert ShardSet(place, ShardIndex(())).name == name


def test_a_shard_given_twice_is_refused(shard_folder):
    with pytest.raises(ShardError, match=r"shard-000000\.tar is listed twice"):
        load_sets([shard_folder, shard_folder / "shard-000000.tar"])
    with pytest.raises(ShardError, match="no shards given"):
        load_sets([])


class QuietServer(http.server.SimpleHTTPRequestHandler):
    """Answers as Python's own web server, which gives no ranges; may keep the tars to itself."""

    keeps_tars = False

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.keeps_tars and self.path.endswith(".tar"):
            self.send_error(403)
        else:
            super().do_GET()


@pytest.fixture
def url(shard_folder):
    handler = functools.partial(QuietServer, directory=str(shard_folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_samples_behind_a_url_are_copied_as_those_on_a_disk(url, shard_folder, tmp_path):
    for name, place in {"far": url, "near": shard_folder}.items():
        merge_shards(place, tmp_path / name)
    for name in ("index.json", "shard-000000.tar"):
        assert (tmp_path / "far" / name).read_bytes() == (tmp_path / "near" / name).read_bytes()


def test_a_store_out_of_reach_stops_a_copy_instead_of_costing_samples(url, tmp_path, monkeypatch):
    index = ShardIndex.load(url)  # while it could be reached
    monkeypatch.setattr(ShardIndex, "load", lambda place: index)
    monkeypatch.setattr(QuietServer, "keeps_tars", True)
    with pytest.raises(ShardError, match=r"127\.0\.0\.1.*403"):
        merge_shards(url, tmp_path)
    assert not (tmp_path / "index.json").exists()
    monkeypatch.setattr(QuietServer, "keeps_tars", False)
    assert merge_shards(url, tmp_path).index.num_samples == 12
