import shutil

import pytest

from planning.benchmarking.provenance import checkpoint_hash, hardware, versions


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
