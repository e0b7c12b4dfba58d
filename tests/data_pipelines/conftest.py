"""Small real videos whose grey level tells the frame's index, and shards of them."""

import json
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import data_pipelines  # noqa: F401  (before lightning and torchvision, see torchvision_on_cpu)
from data_pipelines.shards import pack_trajectories, pack_videos
from data_pipelines.trajectories import Episode, TrajectorySpecification
from data_pipelines.video_writing import write_mp4


def _index_frames(num_frames, *, height=48, width=64):
    """Frame i is grey of level 8 + 4 i, for up to 60 frames."""
    levels = (8 + 4 * np.arange(num_frames)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).copy()


@pytest.fixture(scope="session")
def index_frames():
    return _index_frames


@pytest.fixture(scope="session")
def index_of():
    """Returns which frames these are: over the last three axes but one, whatever the layout."""

    def read(pixels, axes):
        return np.rint((np.asarray(pixels, dtype=np.float64).mean(axes) - 8) / 4).astype(int)

    return read


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory):
    """Twelve videos of 20 to 31 frames at 10 per second, in two class folders."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(12):
        path = folder / ("even" if number % 2 == 0 else "odd") / f"video{number:02d}.mp4"
        write_mp4(path, _index_frames(20 + number), frames_per_second=10, keyframe_interval=8)
    return folder


@pytest.fixture(scope="session")
def shard_folder(video_folder, tmp_path_factory):
    """Three shards of the twelve videos."""
    out = tmp_path_factory.mktemp("shards")
    pack_videos(video_folder, out, samples_per_shard=5)
    return out


@pytest.fixture(scope="session")
def specification():
    return TrajectorySpecification(
        state_names=("clock", "constant"),
        state_units=("frames", "1"),
        action_names=("step",),
        action_units=("frames",),
        action_low=(-100.0,),
        action_high=(100.0,),
        frames_per_second=10.0,
    )


def _episode(number, num_frames=20):
    """State[t] = (t, number); action[t] = t + 0.5, halfway between its two frames."""
    time = np.arange(num_frames, dtype=np.float32)
    return Episode(
        frames=_index_frames(num_frames),
        states=np.stack([time, np.full_like(time, number)], axis=1),
        actions=time[:-1, None] + np.float32(0.5),
        key=f"episode{number:02d}",
        frames_per_second=10.0,
        group=f"group{number % 2}",
    )


@pytest.fixture(scope="session")
def episode():
    return _episode


@pytest.fixture(scope="session")
def trajectory_folder(specification, tmp_path_factory):
    """Two shards of six episodes."""
    out = tmp_path_factory.mktemp("trajectories")
    episodes = (_episode(number) for number in range(6))
    pack_trajectories(episodes, out, specification=specification, samples_per_shard=4)
    return out


class WebRequest(NamedTuple):
    """What a web server was asked: a file, and which of its bytes, None for all."""

    name: str
    first: int | None
    last: int | None


class WebStore(ThreadingHTTPServer):
    """A web server of a folder, with Range, that notes requests and has the faults it is told.

    `faults` are used up one per request; then `fault_of(request)` decides, if there is one.
    """

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _WebAnswer)
        self.folder = folder
        self.requests, self.faults, self.fault_of = [], [], None
        self.lock, self.is_closing = threading.Lock(), threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def note(self, request):
        with self.lock:
            self.requests.append(request)
            if self.faults:
                return self.faults.pop(0)
        return self.fault_of(request) if self.fault_of else None

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""

    def close(self):
        self.is_closing.set()
        self.shutdown()
        self.server_close()


class _WebAnswer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body waits 40 ms for the header to be confirmed

    def do_GET(self):
        name = self.path.partition("?")[0].lstrip("/")
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2])) if asked else (None, None)
        fault = self.server.note(WebRequest(name, first, last))
        path = self.server.folder / name
        if fault is not None and fault.isdigit():
            return self.say(int(fault), b"a page of words", kind="text/plain")
        if fault == "html":
            return self.say(200, b"<html>sign in</html>", kind="text/html; charset=utf-8")
        if not path.is_file():
            return self.say(404, b"no such file")
        data = path.read_bytes()
        if asked is None or fault == "ignores range":
            return self.send(200, data, fault)
        if first >= len(data):
            return self.say(416, b"", ranges=f"bytes */{len(data)}")
        if fault == "other range":
            first, last = 0, last - first
        part = data[first : last + 1]
        self.send(206, part, fault, f"bytes {first}-{first + len(part) - 1}/{len(data)}")

    def say(self, status, body, *, kind="text/plain", ranges=None):
        self.head(status, len(body), kind, ranges)
        self.wfile.write(body)

    def send(self, status, body, fault, ranges=None):
        if fault == "wrong byte":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault == "stall":
            self.head(status, len(body), "application/octet-stream", ranges)
            self.wfile.write(body[: len(body) // 2])
            self.server.is_closing.wait(10)
        if fault == "drip":
            return self.drip(status, body, ranges)
        if fault in ("cut", "stall"):
            if fault == "cut":
                self.head(status, len(body), "application/octet-stream", ranges)
                self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        if fault == "too long":
            self.head(status, len(body) + 7, "application/octet-stream", ranges)
            self.wfile.write(body)
            self.close_connection = True
            return
        if fault == "too short":
            body = body[: len(body) // 2]
        self.head(status, len(body), "application/octet-stream", ranges)
        self.wfile.write(body)

    def drip(self, status, body, ranges):
        """Sends five parts, with four waits of 0.1 s between them."""
        self.head(status, len(body), "application/octet-stream", ranges)
        for part in range(5):
            self.wfile.write(body[len(body) * part // 5 : len(body) * (part + 1) // 5])
            self.wfile.flush()
            self.server.is_closing.wait(0.1 if part < 4 else 0)

    def head(self, status, length, kind, ranges):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", kind)
        self.send_header("ETag", '"version"')
        if ranges:
            self.send_header("Content-Range", ranges)
        self.end_headers()

    def log_message(self, *args):
        """Says nothing."""


@pytest.fixture
def web_store():
    """Returns a maker of web servers: `web_store(folder)` serves the files of a folder."""
    made = []

    def make(folder):
        made.append(WebStore(folder))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture(scope="session")
def image_shards(tmp_path_factory):
    """A tar as others write it: ten pictures, of which picture 6 is words; no index."""
    folder = tmp_path_factory.mktemp("pictures")
    with tarfile.open(folder / "shard-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(10):
            path = folder / f"picture{number}.png"
            Image.new("RGB", (40, 30), (20 * number, 0, 0)).save(path)
            if number == 6:
                path.write_bytes(b"words")
            about = folder / f"picture{number}.json"
            about.write_text(json.dumps({"label": "red"}))
            tar.add(path, path.name)
            tar.add(about, about.name)
            path.unlink()
            about.unlink()
    return folder
