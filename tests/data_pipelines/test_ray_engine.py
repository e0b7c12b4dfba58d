"""A real Ray on this machine, started once; its cluster is also reached by its address."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from data_pipelines.pack_plan import PackSettings
from data_pipelines.packing import pack_images, pack_videos
from data_pipelines.ray_engine import RayEngine, _wait_for_record, refuse_unfit_node
from data_pipelines.recoding import RecodeSettings
from data_pipelines.shard_jobs import ShardJob
from data_pipelines.tar_headers import ShardError

ray = pytest.importorskip("ray", reason="needs ray: pip install 'jepa-planning[ray]'")


@pytest.fixture(scope="module")
def cluster():
    """The address of a Ray with two CPUs, to which this process is connected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        context = ray.init(
            "local",
            num_cpus=2,
            object_store_memory=200 << 20,
            include_dashboard=False,
            log_to_driver=False,
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()


@pytest.fixture(scope="module")
def videos(video_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("with_bad") / "videos"
    shutil.copytree(video_folder, folder)
    (folder / "even/video05.mp4").write_text("words")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for level in range(8):
        Image.new("RGB", (40, 30), (level, 2 * level, 9)).save(folder / f"{level}.png")
    return folder


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def store(videos, web_store):
    """A web server of the videos; its `list_file` names them all."""
    store = web_store(videos)
    names = sorted(path.relative_to(videos).as_posix() for path in videos.rglob("*.mp4"))
    store.list_file = videos.parent / f"{store.server_port}.txt"
    store.list_file.write_text("".join(f"{store.url}/{name}\n" for name in names))
    return store


def writers_of(shard, out):
    """Returns the processes that write a shard, as the names of its unfinished files tell."""
    unfinished = (out / ".packing").glob(f"{shard}.*.tmp")
    return [int(re.search(r"-(\d+)\.tmp$", path.name)[1]) for path in unfinished]


def wait_until_gone(process_id):
    deadline = time.monotonic() + 30
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(process_id, 0)
            time.sleep(0.05)
        pytest.fail(f"process {process_id} still runs")


def pack_while_workers_die(store, out, *, times):
    """Packs; whoever writes the second shard is killed when it asks for a video's bytes."""
    killed = []

    def kill_writers(request):
        for process_id in writers_of("shard-000001", out):
            if process_id not in killed and len(killed) < times:
                killed.append(process_id)
                os.kill(process_id, signal.SIGKILL)

    store.fault_of = kill_writers
    try:
        pack_videos(store.list_file, out, samples_per_shard=4, engine=RayEngine())
    finally:
        assert len(killed) == times


def test_ray_gives_the_bytes_of_the_local_engine(cluster, videos, tmp_path):
    here, out = tmp_path / "here", tmp_path / "ray"
    pack_videos(videos, here, samples_per_shard=4)
    result = pack_videos(videos, out, samples_per_shard=4, engine=RayEngine(max_tasks=2))
    assert hashes(out) == hashes(here) and len(hashes(out)) == 5
    assert [video.path for video in result.skipped] == ["even/video05.mp4"]
    assert pack_videos(videos, out, samples_per_shard=4, engine=RayEngine()).was_there


def test_videos_encoded_anew_have_the_bytes_of_the_local_engine(cluster, videos, tmp_path):
    settings = {"recode": RecodeSettings("5", keyframe_interval=4), "samples_per_shard": 3}
    pack_videos(videos / "odd", tmp_path / "1", **settings)
    pack_videos(videos / "odd", tmp_path / "2", **settings, engine=RayEngine())
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_images_have_the_bytes_of_the_local_engine(cluster, pictures, tmp_path):
    settings = {"samples_per_shard": 3, "short_side": 16}
    pack_images(pictures, tmp_path / "1", **settings)
    pack_images(pictures, tmp_path / "2", **settings, engine=RayEngine())
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_a_worker_that_dies_costs_a_second_try(cluster, store, tmp_path):
    pack_videos(store.list_file, tmp_path / "here", samples_per_shard=4)
    pack_while_workers_die(store, tmp_path / "ray", times=1)
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "here")


def test_workers_that_die_twice_end_the_pack_with_the_shards_name(cluster, store, tmp_path):
    here, out = tmp_path / "here", tmp_path / "ray"
    message = r"^shard-000001\.tar could not be packed, its worker died again .*begin with even/"
    with pytest.raises(ShardError, match=message) as failure:
        pack_while_workers_die(store, out, times=2)
    assert "\n" not in str(failure.value) and not (out / "index.json").exists()
    pack_videos(store.list_file, out, samples_per_shard=4)  # another engine goes on
    pack_videos(store.list_file, here, samples_per_shard=4)
    assert hashes(out) == hashes(here)


def test_an_error_in_a_worker_is_raised_as_it_was(cluster, videos, tmp_path):
    own = shutil.copytree(videos, tmp_path / "videos")
    stopped = threading.Event()

    def touch():
        while not stopped.is_set():
            os.utime(own / "odd/video01.mp4")
            time.sleep(0.02)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        message = r"^odd/video01\.mp4 changed while it was packed"
        with pytest.raises(ShardError, match=message) as failure:
            pack_videos(own, tmp_path / "out", engine=RayEngine())
    finally:
        stopped.set()
        toucher.join()
    assert type(failure.value) is ShardError


def test_only_so_many_tasks_wait_in_the_cluster(cluster, pictures, tmp_path, monkeypatch):
    sizes, wait = [], ray.wait

    def counted(pending, **options):
        sizes.append(len(pending))
        return wait(pending, **options)

    monkeypatch.setattr(ray, "wait", counted)
    pack_images(pictures, tmp_path, samples_per_shard=1, engine=RayEngine(max_tasks=3))
    assert max(sizes) == 3 and len(hashes(tmp_path)) == 9


@pytest.fixture
def heeding_interrupts():
    """A test started in the background of a shell ignores SIGINT, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_interrupts")
def test_ctrl_c_cancels_the_tasks_and_the_next_pack_goes_on(cluster, store, tmp_path):
    """Whoever writes the second shard gets no byte of a video until it is gone."""
    reached, released, writers = threading.Event(), threading.Event(), []

    def hold(request):
        if found := writers_of("shard-000001", tmp_path):
            writers.extend(found)
            reached.set()
            released.wait(60)

    store.fault_of = hold
    command = [sys.executable, "-m", "data_pipelines", "pack", str(store.list_file), str(tmp_path)]
    command += ["--samples-per-shard", "7", "--engine", "ray", "--ray-address", cluster]
    process = subprocess.Popen(
        [*command, "--workers", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    was_reached = reached.wait(60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert was_reached, said
    wait_until_gone(writers[0])
    released.set()
    assert process.returncode != 0 and not (tmp_path / "index.json").exists()
    left = sorted(path.name for path in (tmp_path / ".packing").glob("shard-*.tar"))
    assert left == ["shard-000000.tar"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "packed 12 of 13 videos" in done.stdout and len(hashes(tmp_path)) == 3


def test_a_node_without_the_files_or_with_another_encoder_is_named(tmp_path):
    job = ShardJob(0, (), PackSettings(), str(tmp_path), str(tmp_path / "none"))
    message = r"^node .* does not see .*none: videos and OUT must lie on storage that all nodes see"
    with pytest.raises(ShardError, match=message):
        refuse_unfit_node(job)
    job = replace(job, folder=str(tmp_path))
    refuse_unfit_node(job)
    with pytest.raises(ShardError, match=r"node .* has None, the pack was planned with PyAV 1\.0"):
        refuse_unfit_node(replace(job, encoder="PyAV 1.0"))
    with pytest.raises(ShardError, match=r"a node wrote .*, but it is not seen on .*: videos and"):
        _wait_for_record(job, timeout_seconds=0.1)


def test_no_cluster_is_an_error_of_one_line(videos, tmp_path):
    command = ["pack", str(videos), str(tmp_path), "--engine", "ray", "--ray-address", "nowhere"]
    done = subprocess.run(
        [sys.executable, "-m", "data_pipelines", *command],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert re.search(r"^error: no Ray at nowhere: .+$", done.stderr, re.M), done.stderr


def test_ray_that_is_not_installed_is_an_error_that_says_what_to_install(
    videos, tmp_path, monkeypatch, capsys
):
    from data_pipelines.__main__ import main

    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["pack", str(videos), str(tmp_path), "--engine", "ray"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: --engine ray needs ray: pip install 'jepa-planning[ray]', here and on the nodes\n"
    )
    assert main(["pack", str(videos), str(tmp_path), "--ray-address", "auto"]) == 2
    assert capsys.readouterr().err == "error: --ray-address is for --engine ray\n"
