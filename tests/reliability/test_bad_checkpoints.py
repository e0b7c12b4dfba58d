"""Bad checkpoints: rows 66 to 80 of the list of bad inputs.

Changed bytes, full disks and locks are in test_checkpoint_saving.py.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.reliability.bad_inputs import ROOT, Inputs, Row, check, fit, params

WORLD = ROOT / "checkpoints/two_rooms"


def planned(change):
    """A row's arguments: `jepa plan run` with a world model, its folder changed.

    Its sha256.json is left out: with it, every change is one and the same line (row 71).
    """

    def arguments(inputs: Inputs) -> list:
        folder = Path(shutil.copytree(WORLD, inputs.here / "world"))
        (folder / "sha256.json").unlink()
        change(folder)
        return [
            *("plan", "run", "--checkpoint", folder, "--env", "two_rooms", "--start", "12,50"),
            *("--goal-state", "52,20", "--max-steps", 2, "--no-pictures", "--out", "out"),
        ]

    return arguments


def swapped(inputs: Inputs) -> list:
    """A row's arguments: a world model beside the sha256.json of what it was."""
    given = planned(settings(more=1))(inputs)
    shutil.copy(WORLD / "sha256.json", inputs.here / "world")
    return given


def weights(change):
    def changed(folder: Path):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return changed


def file_bytes(name: str, change):
    def changed(folder: Path):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return changed


def settings(**values):
    def changed(folder: Path):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return changed


class Runs:
    """Unpickled where code is allowed, it makes a file."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def resumed(content):
    def arguments(inputs: Inputs) -> list:
        path = inputs.here / "some.ckpt"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        return fit("--data.shards", inputs.shards, "--ckpt_path", path)

    return arguments


def converted(content):
    def arguments(inputs: Inputs) -> list:
        path = inputs.here / "some.pt"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        return ["convert", path, inputs.here / "out"]

    return arguments


def first(tensors: dict) -> str:
    return next(name for name in sorted(tensors) if tensors[name].is_floating_point())


ROWS = [
    Row(
        66,
        "a folder that is not there",
        planned(shutil.rmtree),
        "no LatentWorldModel in .*world: expected config.json",
    ),
    Row(
        66,
        "an empty folder",
        planned(lambda f: [p.unlink() for p in f.iterdir()]),
        "no LatentWorldModel in .*world: expected config.json",
    ),
    Row(
        66,
        "no last checkpoint",
        lambda i: fit("--data.shards", i.shards, "--ckpt_path", "last"),
        "there is no runs/.*last.ckpt; leave --ckpt_path out",
    ),
    Row(
        67,
        "settings that are no JSON",
        planned(file_bytes("config.json", lambda d: d[:50])),
        "config.json is not JSON",
    ),
    Row(
        67,
        "settings that are a list",
        planned(file_bytes("config.json", lambda d: b"[]")),
        "config.json must hold an object",
    ),
    Row(67, "no settings", planned(lambda f: (f / "config.json").unlink()), "config.json"),
    Row(
        68, "no weights", planned(lambda f: (f / "model.safetensors").unlink()), "model.safetensors"
    ),
    Row(
        68,
        "weights that are cut",
        planned(file_bytes("model.safetensors", lambda d: d[: len(d) // 2])),
        "model.safetensors cannot be read",
    ),
    Row(
        69,
        "a pickle named safetensors",
        planned(lambda f: torch.save(Runs(), f / "model.safetensors")),
        "model.safetensors cannot be read",
    ),
    Row(
        70,
        "a checkpoint with code",
        resumed({"state_dict": Runs()}),
        "some.ckpt cannot be read .* wants to run code",
    ),
    Row(70, "official weights with code", converted({"encoder": Runs()}), r"some\.pt"),
    Row(70, "a checkpoint that is text", resumed(b"hello"), r"some\.ckpt"),
    Row(70, "an empty checkpoint", resumed(b""), r"some\.ckpt"),
    Row(71, "settings that are not those of sha256.json", swapped, "config.json is not the file"),
    Row(
        72,
        "a checkpoint of the web",
        lambda i: fit("--data.shards", i.shards, "--ckpt_path", "http://127.0.0.1:9/some.ckpt"),
        "takes a local file, got http",
    ),
    Row(
        73,
        "a weight that is missing",
        planned(weights(lambda t: t.pop(first(t)))),
        "does not fit config.json: 1 missing",
    ),
    Row(
        73,
        "a weight too many",
        planned(weights(lambda t: t.update(more=torch.ones(1)))),
        "1 unexpected ..more..",
    ),
    Row(
        74,
        "a weight of another shape",
        planned(weights(lambda t: t.update({first(t): torch.ones(3, 3)}))),
        "3, 3",
    ),
    Row(
        75,
        "a weight that is not finite",
        planned(weights(lambda t: t[first(t)].view(-1)[0].fill_(float("nan")))),
        "are NaN or infinite",
    ),
    Row(
        76,
        "weights without an optimizer",
        resumed({"state_dict": {}}),
        "is not a training checkpoint: it lacks",
    ),
    Row(
        80,
        "an encoder where a world is asked for",
        planned(settings(model="VideoEncoder")),
        "VideoEncoder|LatentWorldModel",
    ),
]
QUICK = (67, 69, 75)


@pytest.mark.parametrize("row", params(ROWS, quick=QUICK))
def test_a_bad_checkpoint_is_one_clear_line(row, inputs, capfd):
    check(row, inputs, capfd)
    assert not (inputs.here / "ran").exists()
