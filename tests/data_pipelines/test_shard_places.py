import pytest

from data_pipelines.remote_files import RemoteFiles, RetryPolicy
from data_pipelines.shard_places import FolderPlace, RemotePlace, shard_place
from data_pipelines.tar_headers import ShardError

REMOTE = RemoteFiles(RetryPolicy(2, 0.01, 0.01, timeout_seconds=2, stall_seconds=0.5))


@pytest.mark.parametrize(
    ("place", "folder", "tars"),
    [
        ("http://host/set", "http://host/set", None),
        ("http://host/set?t=1", "http://host/set?t=1", None),
        ("s3://bucket/set/a.tar", "s3://bucket/set", ["a.tar"]),
        ("http://host/set/a-{8..10}.tar?t=1", "http://host/set?t=1", 3),
    ],
)
def test_a_url_is_a_folder_or_tars_in_one(place, folder, tars):
    found = shard_place(place, REMOTE)
    assert isinstance(found, RemotePlace) and found.folder == folder
    assert found.tars == (["a-8.tar", "a-9.tar", "a-10.tar"] if tars == 3 else tars)


def test_a_path_is_a_folder_or_tars_in_one(tmp_path):
    for name in ("a-1.tar", "a-2.tar", "b-{1..2}.tar"):
        (tmp_path / name).touch()
    places = [tmp_path, tmp_path / "a-{1..2}.tar", tmp_path / "b-{1..2}.tar"]
    found = [shard_place(place, REMOTE) for place in places]
    assert all(isinstance(p, FolderPlace) and p.folder == str(tmp_path) for p in found)
    named_so = ["b-{1..2}.tar"]  # a file of this very name comes first
    assert [place.tars for place in found] == [None, ["a-1.tar", "a-2.tar"], named_so]


def test_a_range_stands_in_the_name_only(tmp_path):
    with pytest.raises(ShardError, match=r"http://host/\{1\.\.2\}/a\.tar: a range must be in the "):
        shard_place("http://me:secret@host/{1..2}/a.tar", REMOTE)
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.tar").touch()
    with pytest.raises(ShardError, match="a range must be in the name of the tar"):
        shard_place(tmp_path / "{1..2}" / "a.tar", REMOTE)


def test_remote_tars_are_walked_in_the_order_asked(shard_folder, web_store):
    place = f"{web_store(shard_folder).url}/shard-{{000000..000002}}.tar"
    shards = shard_place(place, REMOTE).walk()
    assert [shard.path[-10:] for shard in shards] == ["000000.tar", "000001.tar", "000002.tar"]
    local = shard_place(shard_folder / "shard-{000000..000002}.tar", REMOTE).walk()
    assert [shard.num_bytes for shard in shards] == [shard.num_bytes for shard in local]
