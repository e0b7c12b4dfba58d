"""Every YAML in configs/ that `jepa fit` takes is understood: no key in it is unknown."""

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from data_pipelines.shards import pack_trajectories, pack_videos
from data_pipelines.synthetic import (
    MOVING_SHAPE_SPECIFICATION,
    moving_shape_episodes,
    write_moving_shapes,
)
from jepa.__main__ import main
from jepa.checkpoints.native import load_world_model, save_encoder
from jepa.models import VideoEncoder

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Configs that stand on top of another one.
STAGES = {"vith16_256_cooldown": "vith16_256", "vitg16_256_cooldown": "vitg16_256",
          "vitl16_one_gpu": "vitl16_256"}  # fmt: skip
TINY_WORLD_MODELS = sorted((CONFIGS / "world_model").glob("*tiny.yaml"))
TINY = sorted((CONFIGS / "pretrain").glob("tiny*.yaml"))


def training_configs():
    """The configs that name a model and data; the others belong to other verbs."""
    for path in sorted(CONFIGS.rglob("*.yaml")):
        if {"model", "data"} <= yaml.safe_load(path.read_text()).keys() and path.stem not in STAGES:
            yield path


def settings(value):
    """Counts what a config sets: its leaves."""
    if isinstance(value, dict):
        return sum(map(settings, value.values()))
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return sum(map(settings, value))
    return 1


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


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=named)
def test_a_config_fits_on_a_page(path):
    assert settings(yaml.safe_load(path.read_text())) <= 40


@pytest.mark.parametrize(("stage", "base"), STAGES.items())
def test_a_stage_is_understood_on_top_of_its_base(stage, base, capsys):
    paths = [CONFIGS / "pretrain" / f"{name}.yaml" for name in (base, stage)]
    configs = [option for path in paths for option in ("--config", str(path))]
    assert main(["fit", *configs, "--print_config"]) == 0, capsys.readouterr().err
    understood = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(paths[1].read_text())
    assert understood["trainer"].items() >= written["trainer"].items()
    encoder = yaml.safe_load(paths[0].read_text())["model"]["init_args"]["encoder"]["init_args"]
    assert understood["model"]["init_args"]["encoder"]["init_args"].items() >= encoder.items()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Videos and their first frames, packed."""
    folder = tmp_path_factory.mktemp("shapes")
    write_moving_shapes(folder / "videos", num_videos=8, num_frames=12, size=64)
    pack_videos(folder / "videos", folder / "shards")
    return folder


@pytest.mark.parametrize("path", TINY, ids=named)
def test_a_tiny_config_trains_and_leaves_an_encoder(path, shards, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]
    if path.stem == "tiny_distillation":  # its teacher
        teacher = str(CONFIGS / "pretrain" / "tiny.yaml")
        first = ["fit", "--config", teacher, "--data.shards", str(shards / "shards"), *options]
        assert main(first) == 0, capsys.readouterr().err
    data = str(pictures(shards) if path.stem == "tiny_images" else shards / "shards")
    arguments = ["fit", "--config", str(path), "--data.shards", data, *options]
    assert main(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "runs" / "pretrain" / path.stem / "encoder" / "model.safetensors").is_file()


def pictures(folder):
    """Shards of pictures."""
    if not (folder / "pictures").exists():
        generator = torch.Generator().manual_seed(0)
        (folder / "images").mkdir()
        for number in range(32):
            pixels = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / "images" / f"{number}.png")
        assert main(["data", "pack", str(folder / "images"), str(folder / "pictures"),
                     "--images"]) == 0  # fmt: skip
    return folder / "pictures"


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    """Trajectories of 20 frames of 64 pixels, packed, and an encoder that sees them."""
    folder = tmp_path_factory.mktemp("moving")
    episodes = moving_shape_episodes(num_episodes=6, num_frames=20, size=64)
    pack_trajectories(episodes, folder / "shards", specification=MOVING_SHAPE_SPECIFICATION)
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=64, clip_length_frames=4, patch_size=16, dim=48, depth=1, num_heads=4
    )
    save_encoder(encoder, folder / "encoder")
    return folder


@pytest.mark.parametrize("path", TINY_WORLD_MODELS, ids=named)
def test_a_tiny_world_model_config_trains_and_leaves_its_dynamics(
    path, trajectories, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    written = yaml.safe_load(path.read_text())["model"]["init_args"]
    options = ["--data.shards", str(trajectories / "shards"), "--data.batch_size", "16",
               "--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]  # fmt: skip
    if isinstance(written["encoder"], str):
        options += ["--model.encoder", str(trajectories / "encoder")]
    assert main(["fit", "--config", str(path), *options]) == 0, capsys.readouterr().err
    world = load_world_model(tmp_path / "runs" / "world_model" / path.stem)
    named_class = written.get("dynamics", {}).get("class_path", "x.ActionConditionedPredictor")
    assert type(world.dynamics).__name__ == named_class.rpartition(".")[2]
    assert world.context_frames == written.get("context_frames", 1)


@pytest.fixture(scope="module")
def long_trajectories(tmp_path_factory):
    """Trajectories of 40 frames of 64 pixels, packed: enough for six frames, five steps apart."""
    folder = tmp_path_factory.mktemp("long")
    episodes = moving_shape_episodes(num_episodes=4, num_frames=40, size=64)
    pack_trajectories(episodes, folder / "shards", specification=MOVING_SHAPE_SPECIFICATION)
    return folder


@pytest.mark.parametrize("name", ["pusht_sigreg", "pusht_vicreg"])
def test_a_joint_recipe_of_pusht_trains_on_blocks_of_five_actions(
    name, long_trajectories, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    trajectories = "--data.trajectories.init_args"
    options = [f"{trajectories}.shards", str(long_trajectories / "shards"),
               f"{trajectories}.clip_length_frames", "7", "--data.batch_size", "8",
               "--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]  # fmt: skip
    config = str(CONFIGS / "world_model" / f"{name}.yaml")
    assert main(["fit", "--config", config, *options]) == 0, capsys.readouterr().err
    world = load_world_model(tmp_path / "runs" / "world_model" / name)
    assert world.actions is not None
    assert (world.actions.mode, world.actions.num_steps) == ("concatenate", 5)
    assert world.dynamics.state_dim == 0  # the state would hold the pose of the T


def test_the_frozen_recipe_of_pusht_trains_on_its_own_encoder(
    long_trajectories, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shards = str(long_trajectories / "shards")
    few = ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]
    first = ["fit", "--config", str(CONFIGS / "pretrain" / "pusht.yaml"), "--data.shards", shards,
             "--data.batch_size", "4", *few]  # fmt: skip
    assert main(first) == 0, capsys.readouterr().err
    options = ["--data.trajectories.init_args.shards", shards, "--data.batch_size", "8",
               "--data.trajectories.init_args.clip_length_frames", "7",
               "--model.latents.init_args.num_features", "4"]  # fmt: skip
    config = str(CONFIGS / "world_model" / "pusht_frozen_jepa.yaml")
    assert main(["fit", "--config", config, *options, *few]) == 0, capsys.readouterr().err
    world = load_world_model(tmp_path / "runs" / "world_model" / "pusht_frozen_jepa")
    assert world.actions is not None and world.actions.num_steps == 5
