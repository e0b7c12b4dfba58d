import io
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.plan import EpochPlan, ResumableBatchSampler
from data_pipelines.remote_files import RetryPolicy
from data_pipelines.samples import Member
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.skips import SkipCounter
from data_pipelines.streams import CountingLoader
from data_pipelines.tar_headers import ShardError
from data_pipelines.transforms import ResizeWholeFrame

QUICK = RetryPolicy(4, 0.01, 0.03, timeout_seconds=3, stall_seconds=0.2)


@pytest.fixture
def copied(shard_folder, tmp_path):
    return Path(shutil.copytree(shard_folder, tmp_path / "shards"))


def keys(index):
    return [sample.key for sample in index.samples]


def test_the_index_tells_shards_samples_and_hours(shard_folder):
    index = ShardIndex.load(shard_folder)
    assert index.samples_per_shard == [5, 5, 2] and index.num_samples == 12
    assert index.duration_seconds == pytest.approx(sum(range(20, 32)) / 10, abs=1e-3)
    assert index.samples[0].label == "even" and index.specification is None


def test_without_index_json_the_tars_are_walked(copied):
    before = ShardIndex.load(copied)
    (copied / "index.json").unlink()
    walked = ShardIndex.load(str(copied))
    assert keys(walked) == keys(before) and walked.fingerprint == before.fingerprint


def test_one_tar_is_its_part_of_the_index(shard_folder):
    part = ShardIndex.load(shard_folder / "shard-000001.tar")
    assert keys(part) == keys(ShardIndex.load(shard_folder))[5:10]
    assert part.samples[0].members["mp4"].crc32 is not None


def test_several_folders_are_joined(shard_folder, copied):
    joined = ShardIndex.load([str(shard_folder), str(copied)])
    assert joined.num_samples == 24 and joined.samples_per_shard == [5, 5, 2] * 2


def test_an_index_without_json_of_trajectories_finds_the_same_statistics(
    trajectory_folder, tmp_path
):
    copied = Path(shutil.copytree(trajectory_folder, tmp_path / "t"))
    before = ShardIndex.load(copied)
    (copied / "index.json").unlink()
    walked = ShardIndex.load(copied)
    assert walked.specification == before.specification is not None
    assert walked.statistics == before.statistics is not None


def test_joined_trajectories_have_joined_statistics(trajectory_folder, tmp_path):
    copied = Path(shutil.copytree(trajectory_folder, tmp_path / "t"))
    alone = ShardIndex.load(trajectory_folder)
    joined = ShardIndex.load([trajectory_folder, copied])
    assert joined.statistics.state_mean == pytest.approx(alone.statistics.state_mean)
    assert joined.statistics.action_std == pytest.approx(alone.statistics.action_std)


def test_videos_and_trajectories_do_not_go_together(shard_folder, trajectory_folder):
    with pytest.raises(ShardError, match="do not go together"):
        ShardIndex.load([shard_folder, trajectory_folder])


def test_the_fingerprint_changes_with_the_data(shard_folder, copied):
    whole = ShardIndex.load(shard_folder).fingerprint
    assert ShardIndex.load(copied).fingerprint == whole
    assert ShardIndex.load(copied / "shard-000000.tar").fingerprint != whole


def test_places_without_shards_are_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no shard folder or \.tar at .*nowhere"):
        ShardIndex.load(tmp_path / "nowhere")
    with pytest.raises(ShardError, match=r"shard folder .* is empty"):
        ShardIndex.load(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ShardError, match=r"holds no \.tar and no index\.json"):
        ShardIndex.load(tmp_path)
    with pytest.raises(ShardError, match="no shards given"):
        ShardIndex.load([])


def test_a_missing_shard_is_named(copied):
    (copied / "shard-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000001\.tar is in the index but missing"):
        ShardIndex.load(copied)


def test_a_shard_of_another_size_is_named(copied):
    with (copied / "shard-000002.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ShardError, match=r"shard-000002\.tar changed: \d+ bytes, the index says"):
        ShardIndex.load(copied)


def test_an_index_of_another_version_is_refused(copied):
    values = json.loads((copied / "index.json").read_text())
    (copied / "index.json").write_text(json.dumps({**values, "version": 99}))
    with pytest.raises(ShardError, match="version 99, this program reads 'video-shards' version 1"):
        ShardIndex.load(copied)


@pytest.mark.parametrize("damage", ["{", '{"format": "video-shards", "version": 1}', "[]"])
def test_a_damaged_index_is_refused(copied, damage):
    (copied / "index.json").write_text(damage)
    with pytest.raises(ShardError, match=r"index\.json"):
        ShardIndex.load(copied)


@pytest.mark.parametrize(
    "damage",
    [
        lambda sample: sample.pop("members"),
        lambda sample: sample.update(label={}),
        lambda sample: sample.update(members={"mp4": [2**70, 1, 1]}),
        lambda sample: sample.update(members={"mp4": [0.5, 1, 1]}),
        lambda sample: sample.update(members={"mp4": [1]}),
    ],
)
def test_an_index_with_a_sample_of_no_sense_is_refused(copied, damage):
    values = json.loads((copied / "index.json").read_text())
    damage(values["shards"][1]["samples"][2])
    (copied / "index.json").write_text(json.dumps(values))
    with pytest.raises(ShardError, match=r"index\.json is damaged \(\w+Error"):
        ShardIndex.load(copied)


def test_an_index_may_not_point_out_of_its_folder(copied):
    text = (copied / "index.json").read_text()
    (copied / "index.json").write_text(text.replace("shard-000000.tar", "../../secret.tar"))
    with pytest.raises(ShardError, match="is a path"):
        ShardIndex.load(copied)


def test_a_shard_listed_twice_is_refused(shard_folder):
    with pytest.raises(ShardError, match=r"shard-000000\.tar is listed twice"):
        ShardIndex.load([shard_folder, shard_folder / "shard-000000.tar"])


def test_a_key_in_two_tars_is_refused(copied):
    (copied / "index.json").unlink()
    shutil.copy(copied / "shard-000000.tar", copied / "shard-000007.tar")
    with pytest.raises(ShardError, match="key 'even/video00' is in two shards"):
        ShardIndex.load(copied)


def test_a_key_that_an_index_lists_twice_is_refused(copied):
    """Seen to fail without the guard: one video was trained on twice as often, another never."""
    text = (copied / "index.json").read_text()
    other = ShardIndex.load(copied).samples[1].key
    (copied / "index.json").write_text(text.replace(f'"{other}"', '"even/video00"'))
    with pytest.raises(ShardError, match=r"key 'even/video00' is twice in .*shard-000000\.tar"):
        ShardIndex.load(copied)


def test_ranges_in_braces_name_tars_of_the_index(shard_folder):
    part = ShardIndex.load(f"{shard_folder}/shard-{{000001..000002}}.tar")
    assert keys(part) == keys(ShardIndex.load(shard_folder))[5:]
    with pytest.raises(FileNotFoundError, match=r"no shard folder or \.tar at .*000003\.tar"):
        ShardIndex.load(f"{shard_folder}/shard-{{000001..000003}}.tar")
    with pytest.raises(ShardError, match="must run upwards"):
        ShardIndex.load(f"{shard_folder}/shard-{{2..1}}.tar")


def test_a_range_of_tars_keeps_the_statistics_of_its_set(trajectory_folder):
    whole = ShardIndex.load(trajectory_folder)
    part = ShardIndex.load(f"{trajectory_folder}/shard-{{000000..000001}}.tar")
    assert part.shards == whole.shards and part.statistics == whole.statistics is not None


# From afar.


def counted(store):
    return [(request.name, request.first) for request in store.requests]


def test_a_remote_set_is_that_of_its_folder(shard_folder, web_store):
    store = web_store(shard_folder)
    remote, local = ShardIndex.load(store.url, retry=QUICK), ShardIndex.load(shard_folder)
    assert keys(remote) == keys(local) and remote.fingerprint == local.fingerprint
    assert [s.members for s in remote.samples] == [s.members for s in local.samples]
    assert remote.shards[2].path == f"{store.url}/shard-000002.tar"
    tars = [(f"shard-00000{n}.tar", 0) for n in range(3)]  # a byte of each, for its size
    assert sorted(counted(store)) == [("index.json", 0), ("index.json", 0), *tars]


def test_a_set_is_loaded_in_spite_of_faults_that_pass(shard_folder, web_store):
    store = web_store(shard_folder)
    store.faults = ["500", "cut", None, "stall", "html", "503"]
    index = ShardIndex.load(store.url, retry=QUICK)
    assert index.fingerprint == ShardIndex.load(shard_folder).fingerprint


def test_remote_tars_without_an_index_are_walked_by_few_and_small_requests(tmp_path, web_store):
    """24 samples of 200 kB in two tars: what is fetched is headers, not payloads."""
    rng = np.random.default_rng(0)
    for number in range(2):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w", format=tarfile.USTAR_FORMAT) as t:
            for k in range(12):
                parts = {"mp4": rng.bytes(200_000), "json": b'{"label": "a"}'}
                for extension, data in parts.items():
                    info = tarfile.TarInfo(f"{number}-{k}.{extension}")
                    info.size = len(data)
                    t.addfile(info, io.BytesIO(data))
    store = web_store(tmp_path)
    index = ShardIndex.load(f"{store.url}/shard-{{0..1}}.tar", retry=QUICK)
    assert index.fingerprint == ShardIndex.load(tmp_path).fingerprint and index.num_samples == 24
    assert index.samples[0].label == "a"
    fetched = [r.last - r.first + 1 for r in store.requests if r.name != "index.json"]
    assert len(fetched) <= 24 + 2 * 2 and max(fetched) <= 1 << 16  # sizes and first headers
    assert sum(fetched) < 0.4 * sum(shard.num_bytes for shard in index.shards)


def test_one_remote_tar_is_its_part_of_the_index(shard_folder, web_store):
    store = web_store(shard_folder)
    whole = ShardIndex.load(shard_folder)
    part = ShardIndex.load(f"{store.url}/shard-000001.tar?signature=x", retry=QUICK)
    assert keys(part) == keys(whole)[5:10] and part.samples[0].members["mp4"].crc32 is not None
    part = ShardIndex.load(f"{store.url}/shard-{{000001..000002}}.tar", retry=QUICK)
    assert keys(part) == keys(whole)[5:]


@pytest.mark.parametrize("status", ["403", "404"])
def test_a_signed_tar_needs_no_index_beside_it(shard_folder, web_store, status):
    """A signed URL opens one file; the store forbids any look at another."""
    store = web_store(shard_folder)
    store.fault_of = lambda request: status if request.name == "index.json" else None
    part = ShardIndex.load(f"{store.url}/shard-000001.tar?signature=x", retry=QUICK)
    assert keys(part) == keys(ShardIndex.load(shard_folder))[5:10]
    assert part.samples[0].members["mp4"].crc32 is None


def test_remote_trajectories_without_an_index_find_the_same_statistics(
    trajectory_folder, web_store
):
    store, local = web_store(trajectory_folder), ShardIndex.load(trajectory_folder)
    store.fault_of = lambda request: "404" if request.name == "index.json" else None
    walked = ShardIndex.load(f"{store.url}/shard-{{000000..000001}}.tar", retry=QUICK)
    assert walked.specification == local.specification is not None
    assert walked.statistics == local.statistics is not None


def test_a_web_folder_without_an_index_says_what_to_do(shard_folder, tmp_path, web_store):
    store = web_store(tmp_path)
    with pytest.raises(
        ShardError, match=r"has no index\.json, and a web server does not list"
    ) as e:
        ShardIndex.load(f"http://me:secret@127.0.0.1:{store.server_port}/set?t=secret", retry=QUICK)
    assert "shard-{000000..000007}.tar" in str(e.value) and "secret" not in str(e.value)
    store.fault_of = lambda request: "403"
    with pytest.raises(OSError, match=r"index\.json: status 403 \(Forbidden\)"):
        ShardIndex.load(store.url, retry=QUICK)
    store.fault_of = lambda request: "html"
    with pytest.raises(OSError, match="an HTML page came instead of data"):
        ShardIndex.load(store.url, retry=QUICK)


def test_a_remote_shard_that_is_missing_or_changed_is_named(copied, web_store):
    store = web_store(copied)
    with (copied / "shard-000002.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ShardError, match=r"/shard-000002\.tar changed: \d+ bytes, the index says"):
        ShardIndex.load(store.url, retry=QUICK)
    (copied / "shard-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"/shard-000001\.tar is in the index but missing"):
        ShardIndex.load(store.url, retry=QUICK)
    assert ShardIndex.load(store.url, retry=QUICK, verify_files=False).num_samples == 12


def test_a_store_with_a_listing_needs_no_index(shard_folder, copied):
    (copied / "index.json").unlink()
    memory = fsspec.filesystem("memory")
    memory.put(f"{copied}/", "/listed-set/", recursive=True)
    index = ShardIndex.load("memory://listed-set", retry=QUICK)
    assert index.fingerprint == ShardIndex.load(shard_folder).fingerprint
    assert index.shards[0].path == "memory://listed-set/shard-000000.tar"
    whole, local = ShardReader(), ShardReader()
    for mine, theirs in zip(index.samples, ShardIndex.load(copied).samples, strict=True):
        assert whole.read(mine, "mp4") == local.read(theirs, "mp4")
    with pytest.raises(ShardError, match=r"memory://nowhere holds no \.tar and no index\.json"):
        ShardIndex.load("memory://nowhere", retry=QUICK)


def test_local_and_remote_sets_are_joined(shard_folder, copied, web_store):
    joined = ShardIndex.load([shard_folder, web_store(copied).url], retry=QUICK)
    assert joined.samples_per_shard == [5, 5, 2] * 2
    with pytest.raises(ShardError, match=r"http://.*/shard-000000\.tar is listed twice"):
        ShardIndex.load([joined.shards[3].path] * 2, retry=QUICK)


def test_only_known_kinds_of_url_are_loaded():
    for url in ("pipe://cat /etc/passwd", "simplecache::http://host/x.tar"):
        with pytest.raises(ValueError, match="is not read here; known are http"):
            ShardIndex.load(url)


# From S3: a real client, and a server that speaks as S3 does.


@pytest.fixture(scope="module")
def bucket(shard_folder):
    """A bucket with the shards, of moto's server; without s3fs or moto the tests are skipped."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs")
    server_class = pytest.importorskip(
        "moto.server", reason="moto is not installed: pip install 'moto[server]'"
    ).ThreadedMotoServer
    server = server_class(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    environment = {
        "FSSPEC_S3_ENDPOINT_URL": endpoint,
        "FSSPEC_S3_KEY": "key",
        "FSSPEC_S3_SECRET": "secret",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr("data_pipelines.remote_files._stores", {})
        patch.setitem(fsspec.config.conf, "s3", {})
        fsspec.config.set_conf_env(fsspec.config.conf)  # as an import of fsspec does
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("bucket")
        store.put(f"{shard_folder}/", "bucket/set/", recursive=True)
        store.put(f"{shard_folder}/", "bucket/bare/", recursive=True)
        store.rm("bucket/bare/index.json")
        yield "s3://bucket"
    server.stop()


def test_the_environment_says_where_s3_is(bucket):
    """As a user calls it: a new process, and nothing but environment variables."""
    command = [sys.executable, "-m", "data_pipelines", "info", f"{bucket}/set"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "samples    12, skipped" in run.stdout, run.stderr


@pytest.mark.parametrize("name", ["set", "bare", "set/shard-{000000..000002}.tar"])
def test_a_set_in_s3_is_that_of_its_folder(bucket, shard_folder, name):
    remote, local = ShardIndex.load(f"{bucket}/{name}"), ShardIndex.load(shard_folder)
    assert remote.fingerprint == local.fingerprint
    here, there = ShardReader(), ShardReader()
    for mine, theirs in zip(remote.samples, local.samples, strict=True):
        assert there.read(mine, "mp4") == here.read(theirs, "mp4")


def test_what_is_not_in_s3_is_said(bucket):
    with pytest.raises(ShardError, match=r"s3://bucket/none holds no \.tar and no index\.json"):
        ShardIndex.load(f"{bucket}/none")
    sample = ShardIndex.load(f"{bucket}/set").samples[0]
    gone = replace(sample, shard=f"{bucket}/set/gone.tar")
    with pytest.raises(ShardError, match=r"s3://bucket/set/gone\.tar: no such file"):
        ShardReader(retry=QUICK).read(gone, "mp4")
    past = replace(sample, members={"mp4": Member(1 << 30, 9)})
    with pytest.raises(ShardError, match=r"s3://bucket/set/shard-000000\.tar: "):
        ShardReader(retry=QUICK).read(past, "mp4")


def test_forked_workers_read_s3_after_their_parent_did(bucket, shard_folder):
    index = ShardIndex.load(f"{bucket}/set")
    dataset = ClipDataset(index, clip_length_frames=6, transform=ResizeWholeFrame(32))
    dataset.reader.read(index.samples[0], "mp4")
    sampler = ResumableBatchSampler(EpochPlan([12], seed=0), slots_per_batch=3, steps_per_epoch=4)
    skips = SkipCounter(0.0)
    batches = list(CountingLoader(dataset, sampler, skips=skips, num_workers=2))
    assert sorted(key for batch in batches for key in batch.keys) == sorted(keys(index))
    assert ShardReader().read(index.samples[3], "mp4")  # and the parent goes on
