"""Every YAML in configs/ that `jepa fit` takes is understood: no key in it is unknown."""

from pathlib import Path

import pytest
import yaml

from jepa.__main__ import main

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def training_configs():
    """The configs that name a model and data; the others belong to other verbs."""
    for path in sorted(CONFIGS.rglob("*.yaml")):
        if {"model", "data"} <= yaml.safe_load(path.read_text()).keys():
            yield path


def named(path):
    return path.relative_to(CONFIGS).as_posix()


@pytest.mark.parametrize("path", training_configs(), ids=named)
def test_a_config_is_understood(path, capsys, tmp_path, monkeypatch):
    """--print_config parses everything, and builds nothing."""
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", str(path), "--print_config"]) == 0, capsys.readouterr().err
    understood = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(path.read_text())
    for part in ("model", "data"):
        assert understood[part]["class_path"] == written[part]["class_path"]
        assert written[part]["init_args"].keys() <= understood[part]["init_args"].keys()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=named)
def test_a_data_config_is_understood_on_top_of_a_training_config(path, capsys):
    written = yaml.safe_load(path.read_text())["data"]
    kind = "world_model" if "Trajectory" in written["class_path"] else "pretrain"
    base = CONFIGS / kind / "tiny.yaml"
    configs = ["--config", str(base), "--config", str(path)]
    assert main(["fit", *configs, "--print_config"]) == 0, capsys.readouterr().err
    understood = yaml.safe_load(capsys.readouterr().out)["data"]
    assert understood["class_path"] == written["class_path"]
    for name, value in written["init_args"].items():
        if not isinstance(value, list | dict):  # of those, parts with defaults are filled in
            assert understood["init_args"][name] == value


@pytest.mark.parametrize(
    "place", [("model", "init_args"), ("model", "init_args", "encoder", "init_args"), ("trainer",)]
)
def test_an_unknown_key_is_not_understood(place, capsys, tmp_path):
    config = yaml.safe_load((CONFIGS / "demo" / "pretrain.yaml").read_text())
    section = config
    for name in place:
        section = section[name]
    section["learning_rat"] = 1.0
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "mine.yaml"), "--print_config"]) == 2
    assert "learning_rat" in capsys.readouterr().err
