import random
import zipfile

import pytest
import torch

from jepa.checkpoint_digest import refuse_damage, write_sealed

CONTENT = {"state_dict": {"weight": torch.arange(600.0)}, "global_step": 7, "name": "tiny"}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "last.ckpt"
    with path.open("wb") as file:
        write_sealed(CONTENT, file)
    return path


@pytest.mark.parametrize("mapped", [False, True])
def test_a_sealed_file_is_one_that_torch_reads(path, mapped):
    found = torch.load(path, weights_only=True, mmap=mapped)
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert zipfile.ZipFile(path).testzip() is None
    assert refuse_damage(path)


def test_a_copy_under_another_name_keeps_its_digest(path):
    copy = path.with_name("best.ckpt")
    copy.write_bytes(path.read_bytes())
    assert refuse_damage(copy)


def test_a_file_that_torch_wrote_has_no_digest_but_its_sums_are_checked(path):
    torch.save(CONTENT, path)
    assert not refuse_damage(path)
    content = bytearray(path.read_bytes())
    content[content.index(CONTENT["state_dict"]["weight"].numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last.ckpt is damaged: .*data/0 in it is not what was"):
        refuse_damage(path)


def test_every_bit_of_the_end_counts(path):
    """The digest, its mark, and the record of the zip before it: all of the last 120 bytes."""
    content = path.read_bytes()
    for place in range(len(content) - 120, len(content)):
        for bit in (1, 32):
            changed = bytearray(content)
            changed[place] ^= bit
            path.write_bytes(changed)
            with pytest.raises(ValueError, match="damaged"):
                refuse_damage(path)


def test_no_cut_is_taken_for_a_whole_file(path):
    content = path.read_bytes()
    cuts = {1, 10, 76, 77, 78, 98, 99, *random.Random(0).sample(range(1, len(content)), 50)}
    for cut in cuts | {len(content)}:
        path.write_bytes(content[:-cut])
        with pytest.raises(ValueError, match="damaged"):
            refuse_damage(path)


class FullDisk:
    def write(self, data):
        raise OSError(28, "No space left on device")

    def flush(self):
        pass


def test_a_full_disk_is_called_so():
    with pytest.raises(OSError, match="No space left"):
        write_sealed({"weight": torch.zeros(100_000)}, FullDisk())
