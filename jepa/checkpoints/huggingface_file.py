"""The weights in a folder of Hugging Face's `transformers`: one file of safetensors, or shards."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from jepa.checkpoints.folder_writing import WEIGHTS
from jepa.checkpoints.huggingface_names import State
from jepa.checkpoints.manifest import refuse_damage

INDEX, PICKLED = "model.safetensors.index.json", "pytorch_model.bin"


def read_weights(folder: Path) -> tuple[State, str]:
    """Reads all tensors of a folder, sharded or not, and returns the path for errors."""
    if (folder / WEIGHTS).is_file():
        return _read_file(folder / WEIGHTS), str(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder / INDEX), str(folder / INDEX)
    if any(folder.glob("pytorch_model*.bin*")):
        raise ValueError(
            f"{folder} holds {PICKLED}, which may run code when it is read; load it with "
            "transformers and save it again: save_pretrained writes safetensors"
        )
    raise ValueError(f"{folder} holds neither {WEIGHTS} nor {INDEX}")


def _read_shards(index: Path) -> State:
    try:
        places = json.loads(index.read_text())["weight_map"]
        shards = sorted(set(places.values()))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__} {error}"[:100]
        raise ValueError(f"{index} is no index of shards: {reason}") from error
    weights: State = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise ValueError(f"{index} names {shard!r}, which is not a file beside it")
        weights |= _read_file(index.parent / shard)
    if lost := sorted(places.keys() - weights):
        raise ValueError(f"{index} names {len(lost)} weights that no shard holds: {lost[:3]}")
    return weights


def _read_file(path: Path) -> State:
    refuse_damage(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read: {error}; download it again") from error
