import shutil
from importlib import metadata

import pytest

from planning.benchmarking.provenance import (
    SIMULATORS,
    checkpoint_hash,
    hardware,
    simulator_packages,
    versions,
)
from planning.environments import environment_names


def test_the_hash_is_of_the_bytes_wherever_they_lie(checkpoint, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(checkpoint / "world_model", copy)
    assert checkpoint_hash(checkpoint) == checkpoint_hash(copy)
    (copy / "README.md").write_text("another text beside the weights")
    assert checkpoint_hash(checkpoint) == checkpoint_hash(copy)
    weights = next(copy.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert checkpoint_hash(checkpoint) != checkpoint_hash(copy)


def test_a_folder_without_weights_has_no_hash(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no world model"):
        checkpoint_hash(tmp_path)


def test_versions_and_hardware_are_known_here():
    assert {"python", "torch", "numpy"} <= versions().keys()
    machine = hardware("cpu")
    assert machine["device"] == "cpu" and machine["cores"] >= 1 and machine["threads"] >= 1


def test_simulators_are_those_of_environments_and_have_the_versions_that_are_installed(monkeypatch):
    installed = {"gym-pusht": "0.1.8", "pymunk": "6.11.1"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    assert simulator_packages("pusht") == installed
    assert simulator_packages("two_rooms") == {}
    assert set(SIMULATORS) <= set(environment_names())
