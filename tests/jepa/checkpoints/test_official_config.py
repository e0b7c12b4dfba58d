import json

import pytest

from jepa.checkpoints.official_config import OfficialConfig


def read(tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps(content))
    return OfficialConfig.read(tmp_path / "config.json")


def test_known_keys_are_read_and_others_are_named(tmp_path):
    config = read(tmp_path, {"num_heads": 16, "levels": [5, 11], "note": "from the wiki"})
    assert (config.num_heads, config.levels, config.img_size) == (16, [5, 11], None)
    assert config.ignored == ("note",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"num_haeds": 16}, "no use for 'num_haeds'; did you mean 'num_heads'?"),
        ({"num_heads": "16"}, "num_heads must be a whole number, got '16'"),
        ({"num_heads": 0}, "num_heads must be a whole number, got 0"),
        ({"num_heads": True}, "num_heads must be a whole number, got True"),
        ({"mask_index": -1}, "mask_index must be a whole number, got -1"),
        ({"levels": 5}, "levels must be a list of whole numbers, got 5"),
        ({"mlp_ratio": "4"}, "mlp_ratio must be a positive number, got '4'"),
        ({"family": 2}, "family must be a string, got 2"),
        ([16], "must hold an object, got"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError) as caught:
        read(tmp_path, content)
    assert words in str(caught.value)


def test_a_file_that_is_no_json_or_not_there_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        OfficialConfig.read(tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match="no config file"):
        OfficialConfig.read(tmp_path / "other.json")


def test_only_what_is_said_can_contradict():
    OfficialConfig(depth=2).refuse_contradictions({"depth": 2, "embed_dim": 48})
    with pytest.raises(ValueError, match="says depth=3, but the weights say 2"):
        OfficialConfig(depth=3).refuse_contradictions({"depth": 2})


def test_a_position_may_say_more_than_the_weights():
    config = OfficialConfig(position="sincos-3d (uniform_power)")
    config.refuse_contradictions({"position": "sincos-3d"})
    with pytest.raises(ValueError, match="but the weights say 'rope-tiled'"):
        config.refuse_contradictions({"position": "rope-tiled"})
