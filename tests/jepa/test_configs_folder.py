import pytest

from jepa import configs_folder


@pytest.fixture
def configs(tmp_path, monkeypatch):
    folder = tmp_path / "clone" / "configs"
    (folder / "pretrain").mkdir(parents=True)
    (folder / "pretrain" / "tiny.yaml").write_text("name: tiny\n")
    monkeypatch.setattr(configs_folder, "CANDIDATES", (folder,))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("name", ["pretrain/tiny.yaml", "pretrain/tiny"])
def test_a_config_is_found_by_its_place_in_configs(configs, name):
    assert configs_folder.find_config(name) == configs / "pretrain" / "tiny.yaml"


def test_a_file_that_is_here_comes_first(configs, tmp_path):
    (tmp_path / "mine.yaml").touch()
    assert str(configs_folder.find_config("mine.yaml")) == "mine.yaml"


def test_a_misspelt_config_gets_a_suggestion(configs):
    with pytest.raises(FileNotFoundError, match=r"did you mean pretrain/tiny\.yaml\?"):
        configs_folder.find_config("pretrain/tinny.yaml")


def test_a_package_without_configs_says_what_to_do(configs, tmp_path, monkeypatch):
    monkeypatch.setattr(configs_folder, "CANDIDATES", (tmp_path / "nowhere",))
    with pytest.raises(FileNotFoundError, match="work in a clone"):
        configs_folder.find_config("pretrain/tiny")


def test_every_config_argument_becomes_a_path(configs):
    path = str(configs / "pretrain" / "tiny.yaml")
    arguments = ["fit", "-c", "pretrain/tiny", "--config", "pretrain/tiny.yaml"]
    assert configs_folder.with_found_configs([*arguments, "--config=pretrain/tiny"]) == [
        "fit", "-c", path, "--config", path, f"--config={path}",
    ]  # fmt: skip
