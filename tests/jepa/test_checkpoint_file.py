import pytest
import torch

from jepa.checkpoint_file import KEYS, KEYS_TO_RESUME, check_checkpoint
from jepa.checkpoint_saving import AtomicCheckpointIO

WHOLE = {key: {} for key in KEYS + KEYS_TO_RESUME} | {"global_step": 7}


def test_a_checkpoint_says_its_step(tmp_path):
    AtomicCheckpointIO().save_checkpoint(WHOLE, tmp_path / "new" / "last.ckpt")
    assert check_checkpoint(tmp_path / "new" / "last.ckpt", resumes=True) == 7


def test_a_write_that_fails_leaves_the_old_checkpoint_whole(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(WHOLE, path)
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"state_dict": lambda: None}, path)
    assert check_checkpoint(path, resumes=True) == 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_file_cut_short_is_no_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(WHOLE | {"x": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="not a whole torch file"):
        check_checkpoint(path, resumes=False)


def test_weights_alone_cannot_be_resumed_but_can_be_looked_at(tmp_path):
    path = tmp_path / "weights.ckpt"
    torch.save({key: {} for key in KEYS}, path)
    assert check_checkpoint(path, resumes=False) == 0
    with pytest.raises(ValueError, match="it lacks optimizer_states, lr_schedulers"):
        check_checkpoint(path, resumes=True)


class Unknown:
    pass


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "foreign.ckpt"
    torch.save(WHOLE | {"hyper_parameters": Unknown()}, path)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        check_checkpoint(path, resumes=False)


def test_an_address_is_refused_as_loading_it_would_run_its_code():
    with pytest.raises(ValueError, match="local file"):
        check_checkpoint("https://example.org/last.ckpt", resumes=True)
