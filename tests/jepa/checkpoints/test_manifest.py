import json

import pytest

from jepa.checkpoints.manifest import manifest_text, refuse_damage


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    (tmp_path / "sha256.json").write_text(manifest_text([path]))
    return path


def test_a_file_that_was_not_changed_passes(path):
    refuse_damage(path)


def test_a_folder_without_hashes_is_taken_as_it_is(path):
    path.with_name("sha256.json").unlink()
    path.write_bytes(b"others")
    refuse_damage(path)


@pytest.mark.parametrize("content", [b"Weights", b"weight", b""])
def test_a_file_that_was_changed_is_named(content, path):
    """Seen to fail without the comparison: a flipped bit of a weight loads."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is not the file that sha256\.json"):
        refuse_damage(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no hashes"),
        ("[" * 100_000, "names no hashes"),
        ("\ufffd", "names no hashes"),
        ("{}", "names no hashes"),
        ('{"format": 1, "sha256": []}', "names no hashes"),
        ('{"format": 1, "sha256": {}}', "names no hashes"),
        ('{\n "format": 1,\n "sha256": {}\n}\n', r"does not name model\.safetensors"),
        ('{"format": 2, "sha256": {}}', "has format 2, this version reads 1; upgrade"),
    ],
)
def test_hashes_that_are_not_whole_are_refused(text, words, path):
    path.with_name("sha256.json").write_text(text)
    with pytest.raises(ValueError, match=rf"sha256\.json .*{words}"):
        refuse_damage(path)


def test_hashes_are_read_by_other_tools(path):
    content = json.loads(path.with_name("sha256.json").read_text())
    assert content["sha256"]["model.safetensors"].startswith("9a129038d9a00aed")
