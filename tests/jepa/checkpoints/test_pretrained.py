import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import jepa
from jepa.checkpoints.native import save_encoder
from jepa.checkpoints.official_names import encoder_to_official
from jepa.models import JepaModel, LatentWorldModel, VideoEncoder

GOLDEN = Path(__file__).parents[2] / "golden"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def saved(make_encoder, tmp_path):
    return save_encoder(make_encoder(), tmp_path / "run" / "encoder")


@pytest.mark.parametrize(
    "place", ["", "..", "config.json", "model.safetensors"], ids=["folder", "run", "config", "file"]
)
def test_our_own_folder_is_found_by_any_of_its_names(saved, place):
    model = jepa.from_pretrained(saved / place)
    assert isinstance(model, JepaModel) and not model.training
    assert model.predictor is model.dynamics is model.probe is None
    video = torch.randint(0, 256, (1, 3, 4, 32, 32), dtype=torch.uint8)
    assert model.encoder(video).shape == (1, 32, 48)
    assert torch.equal(model(video), model.encoder(video))


def test_an_official_file_that_needs_no_config_is_read_at_once(tmp_path):
    content = torch.load(GOLDEN / "vjepa2_ac" / "checkpoint.pt", weights_only=True)
    torch.save(content, tmp_path / "arm.pt")
    with pytest.raises(ValueError, match="num_heads cannot be read off"):
        jepa.from_pretrained(tmp_path / "arm.pt")


def test_a_world_model_brings_its_dynamics(tmp_path):
    from jepa.checkpoints.official import read_official
    from jepa.checkpoints.official_config import OfficialConfig

    folder = GOLDEN / "vjepa2_ac"
    config = OfficialConfig.read(folder / "config.json")
    read_official(folder / "checkpoint.pt", config=config).model.save_pretrained(tmp_path / "arm")
    model = jepa.from_pretrained(tmp_path / "arm")
    assert isinstance(model, LatentWorldModel)
    assert model.dynamics.action_dim == 7
    assert model.predictor is model.probe is None
    assert "V-JEPA 2-AC" in model.source
    frames = torch.randint(0, 256, (1, 3, 2, 48, 48), dtype=torch.uint8)
    assert model.encode(frames).shape == (1, 2, 9, 48)


def test_what_was_taken_for_granted_is_a_warning(tmp_path, caplog):
    with torch.device("meta"):
        large = VideoEncoder(positions="rope_tiled", dim=192, depth=12, num_heads=3)
    state = {f"module.{n}": torch.zeros(v.shape) for n, v in encoder_to_official(large).items()}
    torch.save({"encoder": state}, tmp_path / "tiny.pt")
    with caplog.at_level("INFO"):
        model = jepa.from_pretrained(tmp_path / "tiny.pt")
    assert model.encoder.num_heads == 3  # a size that is known
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("no average of the encoder in the file: the online one" in w for w in warnings)
    assert any("taken to be made for 64 frames of 256 px" in w for w in warnings)
    assert any("family: V-JEPA 2 (" in r.getMessage() for r in caplog.records)


def test_a_model_does_not_hang_on_the_file_that_it_came_from(tmp_path):
    with torch.device("meta"):
        encoder = VideoEncoder(positions="rope_tiled", dim=192, depth=12, num_heads=3)
    state = {n: torch.zeros(v.shape) for n, v in encoder_to_official(encoder).items()}
    torch.save({"encoder": state}, tmp_path / "tiny.pt")
    model = jepa.from_pretrained(tmp_path / "tiny.pt")
    with (tmp_path / "tiny.pt").open("r+b") as file:
        file.write(b"\xff" * (tmp_path / "tiny.pt").stat().st_size)
    assert not any(parameter.any() for parameter in model.parameters())


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"0")
    with pytest.raises(ValueError, match="is no checkpoint: give a folder, or a file that ends in"):
        jepa.from_pretrained(tmp_path / "video.mp4")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no JepaModel or LatentWorldModel in"):
        jepa.from_pretrained(tmp_path)


def test_a_model_without_a_probe_classifies_nothing(saved):
    with pytest.raises(ValueError, match="holds no probe"):
        jepa.from_pretrained(saved).classify(torch.zeros(1, 3, 4, 32, 32))


def test_the_package_offers_nothing_else_by_magic():
    with pytest.raises(AttributeError, match="no attribute 'from_pretrain'"):
        jepa.from_pretrain  # noqa: B018


# The hub, as a real server on this machine speaks it.


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one repository, lab/tiny, from `folder`."""

    folder: Path
    asked: list[str]

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        if path.startswith("/api/models/lab/tiny/tree/"):
            files = [p for p in self.folder.iterdir() if p.is_file()]
            tree = [{"type": "file", "path": p.name, "size": p.stat().st_size,
                     "oid": hashlib.sha1(p.read_bytes()).hexdigest()} for p in files]  # fmt: skip
            return self.send(json.dumps(tree).encode(), with_body, JSON)
        if path.startswith("/api/models/lab/tiny"):
            names = sorted(p.name for p in self.folder.iterdir())
            body = json.dumps(
                {"id": "lab/tiny", "modelId": "lab/tiny", "sha": COMMIT, "private": False,
                 "tags": [], "downloads": 0, "siblings": [{"rfilename": n} for n in names]}
            ).encode()  # fmt: skip
            return self.send(body, with_body, JSON)
        name = path.rpartition("/")[2]
        if path.startswith("/lab/tiny/resolve/") and (self.folder / name).is_file():
            body = (self.folder / name).read_bytes()
            tag = hashlib.sha256(body).hexdigest()
            return self.send(body, with_body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, body, with_body, headers):
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(saved):
    shutil.copy(GOLDEN / "vjepa2" / "config.json", saved / "not_wanted.bin")
    handler = type("LabHub", (Hub,), {"folder": saved, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()


def ask(program, endpoint, cache, **environment):
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"}  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=clean | settings | environment,
    )


LOAD = (
    "import jepa; print(sum(p.sum().item() for p in jepa.from_pretrained('lab/tiny').parameters()))"
)


def test_a_name_on_the_hub_is_downloaded_once_and_then_taken_from_the_cache(hub, saved, tmp_path):
    endpoint, asked = hub
    run = ask(LOAD, endpoint, tmp_path / "cache")
    assert run.returncode == 0, run.stderr
    expected = sum(p.sum().item() for p in load_file(saved / "model.safetensors").values())
    assert float(run.stdout) == pytest.approx(expected, rel=1e-5)
    fetched = {line.rpartition("/")[2] for line in asked if line.startswith("GET /lab")}
    assert fetched == {  # and not the .bin
        "config.json", "model.safetensors", "README.md", "sha256.json",
    }  # fmt: skip
    asked.clear()
    again = ask(LOAD, endpoint, tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert (again.stdout, asked) == (run.stdout, [])


def test_a_name_that_the_hub_does_not_know_is_one_line(hub, tmp_path):
    program = "import jepa; jepa.from_pretrained('lab/other')"
    run = ask(program, hub[0], tmp_path / "cache")
    assert (
        "FileNotFoundError: no file or folder 'lab/other' here, and the hub refuses" in run.stderr
    )
