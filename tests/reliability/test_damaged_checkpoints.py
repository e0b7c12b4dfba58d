"""Checkpoints that are not what was written: every one refused, with a line that names the file."""

import os
import random

import pytest
import torch

from jepa.checkpoint_file import KEYS, KEYS_TO_RESUME, check_checkpoint
from jepa.checkpoint_saving import AtomicCheckpointIO
from jepa.checkpoints.native import load_model
from jepa.models import JepaModel, VideoEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model's folder, and a training checkpoint, of 60 kB each."""
    folder = tmp_path_factory.mktemp("damaged")
    encoder = VideoEncoder(image_size=16, clip_length_frames=2, dim=24, depth=1, num_heads=2)
    JepaModel(encoder).save_pretrained(folder / "model")
    whole = {key: {} for key in KEYS + KEYS_TO_RESUME} | {"state_dict": encoder.state_dict()}
    AtomicCheckpointIO().save_checkpoint(whole | {"global_step": 7}, folder / "last.ckpt")
    return folder


def damaged(content, rng):
    """Returns other bytes: a bit flipped, cut, inserted, lost, zeroed, repeated or exchanged."""
    kind = rng.randrange(7)
    at = rng.randrange(len(content))
    num = rng.choice((1, 2, rng.randint(1, 100), rng.randint(1, len(content))))
    changed = bytearray(content)
    if kind == 0:
        changed[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        changed[at:at] = rng.randbytes(min(num, 1000))
    elif kind == 3:
        del changed[at : at + num]
    elif kind == 4:
        changed[at : at + num] = bytes(len(changed[at : at + num]))
    elif kind == 5:
        changed[at:at] = changed[at : at + num]
    else:
        other = rng.randrange(len(content))
        changed[at], changed[other] = changed[other], changed[at]
    return bytes(changed)


PLACES = ("model/model.safetensors", "model/config.json", "model/sha256.json", "last.ckpt")


@pytest.mark.parametrize(
    "number",
    [
        300,
        pytest.param(
            20_000,
            marks=pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it"),
        ),
    ],
)
def test_no_damaged_checkpoint_is_used(folder, number):
    """Neither safetensors nor torch would notice a bit of a weight that is another.

    Seen to fail without refuse_damage: weights, configs and hashes with another byte were used.
    """
    rng, accepted, unnamed, num_damaged = random.Random(number), [], [], 0
    for index in range(number):
        path = folder / PLACES[index % len(PLACES)]
        content = path.read_bytes()
        changed = damaged(content, rng)
        if changed == content:
            continue
        num_damaged += 1
        path.write_bytes(changed)
        try:
            if path.suffix == ".ckpt":
                check_checkpoint(path, resumes=True)
            else:
                load_model(folder / "model")
            accepted.append((index, path.name))
        except (ValueError, FileNotFoundError) as error:
            if path.name not in str(error) or "\n" in str(error):
                unnamed.append((index, str(error)))
        finally:
            path.write_bytes(content)
    assert (accepted, unnamed) == ([], [])
    assert num_damaged > 0.9 * number
    assert check_checkpoint(folder / "last.ckpt", resumes=True) == 7
    assert torch.isfinite(load_model(folder / "model").encoder.patch_embed.weight).all()
