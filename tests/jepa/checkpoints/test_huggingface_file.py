"""Weights of a folder, in one file or in shards; transformers is not needed."""

import json

import pytest
import torch
from safetensors.torch import save_file

from jepa.checkpoints.huggingface_file import read_weights


@pytest.fixture
def folder(tmp_path):
    save_file({"a": torch.ones(2), "b": torch.zeros(3)}, tmp_path / "model.safetensors")
    return tmp_path


def not_read(folder, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_weights(folder)
    assert "\n" not in str(caught.value)


def test_one_file_is_read_whole_and_named(folder):
    weights, source = read_weights(folder)
    assert {name: value.tolist() for name, value in weights.items()} == {"a": [1, 1], "b": [0] * 3}
    assert source == str(folder / "model.safetensors")


def test_shards_are_joined_and_their_index_named(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "two.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    weights, source = read_weights(tmp_path)
    assert {name: value.tolist() for name, value in weights.items()} == {"a": [1, 1], "b": [0] * 3}
    assert source == str(index)


def test_weights_that_are_cut_short_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    not_read(folder, "model.safetensors cannot be read: .*; download it again")


def test_pickled_weights_are_refused_with_what_to_do(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    not_read(folder, "pytorch_model.bin, which may run code .* save_pretrained writes safetensors")
    (folder / "pytorch_model.bin").unlink()
    not_read(folder, "holds neither model.safetensors nor model.safetensors.index.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no index of shards"),
        ("[]", "is no index of shards"),
        ("{}", "is no index of shards"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "which is not a file beside it"),
        ('{"weight_map": {"a": "lost.safetensors"}}', "lost.safetensors cannot be read"),
        ('{"weight_map": {"c": "part.safetensors"}}', r"1 weights that no shard holds: \['c'\]"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(content, words, folder):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(content)
    not_read(folder, words)
