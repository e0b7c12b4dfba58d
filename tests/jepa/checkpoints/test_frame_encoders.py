import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from data_pipelines.datamodules import TrajectoryDataModule
from jepa.checkpoints.frame_encoders import load_frame_encoder, resolve_frame_encoder
from jepa.checkpoints.huggingface import write_huggingface
from jepa.checkpoints.native import load_encoder, load_world_model, save_world_model
from jepa.checkpoints.official import write_official
from jepa.models import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.latents import PatchTokens
from jepa.models.timm_encoder import TimmEncoder
from jepa.models.world_model import ColumnScaling, LatentWorldModel
from jepa.training.latent_windows import LatentWindows
from jepa.training.world_model_training import WorldModelTraining
from planning.latent_world import LatentWorld


@pytest.fixture(scope="session")
def timm_spec(tmp_path_factory):
    """A model of timm with local weights: 2 x 2 tokens of 32 x 32 pixels."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file(timm.create_model("test_vit", img_size=32).state_dict(), file)
    return f"timm:test_vit@32:{file}"


@pytest.fixture
def make_model():
    def make(encoder):
        return WorldModelTraining(encoder, dim=24, depth=1, num_heads=2)

    return make


@pytest.fixture
def make_trajectories(trajectory_shards):
    def make(frames=5):
        return TrajectoryDataModule(
            trajectory_shards, frames, image_size=32, batch_size=4, steps_per_epoch=8
        )

    return make


def test_a_folder_is_an_encoder_of_ours(encoder_folder):
    encoder = load_frame_encoder(encoder_folder)
    assert isinstance(encoder, VideoEncoder)
    expected = load_encoder(encoder_folder).state_dict()
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in expected.items())


def test_a_spec_is_an_encoder_of_timm(timm_spec):
    encoder = load_frame_encoder(timm_spec)
    assert isinstance(encoder, TimmEncoder)
    assert encoder.config == {"name": "test_vit", "image_size": 32}
    assert (encoder.grid, encoder.tubelet) == ((1, 2, 2), (1, 16, 16))


def test_a_folder_that_does_not_exist_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere"):
        load_frame_encoder(str(tmp_path / "nowhere"))


def test_whatever_from_pretrained_takes_is_an_encoder(make_encoder, tmp_path, monkeypatch):
    size = {"dim": 192, "depth": 12, "num_heads": 3, "patch_size": 16}  # a released one
    encoder = make_encoder(positions="rope_tiled", **size)
    write_huggingface(JepaModel(encoder), tmp_path / "theirs")
    write_official(JepaModel(encoder), tmp_path / "official.pt")
    frames = torch.randint(0, 256, (1, 3, 2, 32, 32), dtype=torch.uint8)
    for name in ("theirs", "official.pt"):
        loaded = load_frame_encoder(str(tmp_path / name))
        assert not loaded.training
        torch.testing.assert_close(loaded.encode_frames(frames), encoder.encode_frames(frames))
        monkeypatch.chdir(tmp_path)
        assert resolve_frame_encoder(name) == resolve_frame_encoder(str(tmp_path / name))
    assert resolve_frame_encoder("facebook/vjepa2-vitl-fpc64-256") == (
        "facebook/vjepa2-vitl-fpc64-256"
    )


def test_a_folder_without_a_model_has_no_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no JepaModel or LatentWorldModel in"):
        resolve_frame_encoder(str(tmp_path))


def test_one_encoder_has_one_name_and_two_have_two(encoder_folder, tmp_path, monkeypatch):
    run_folder = encoder_folder.removesuffix("/encoder")
    assert resolve_frame_encoder(run_folder) == resolve_frame_encoder(encoder_folder)
    monkeypatch.chdir(tmp_path)
    here = resolve_frame_encoder("timm:test_vit@32:w.pth")
    assert here == resolve_frame_encoder(f"timm:test_vit@32:{tmp_path}/w.pth")
    others = ["timm:test_vit@32", "timm:test_vit@48:w.pth", "timm:test_vit2@32:w.pth"]
    assert len({here, *map(resolve_frame_encoder, others)}) == 4


@pytest.mark.parametrize("way", ["stream", "windows"])
def test_a_world_model_trains_on_a_frozen_encoder_of_timm_and_plans(
    way, timm_spec, make_model, make_trajectories, make_trainer
):
    data = make_trajectories()
    if way == "windows":
        data = LatentWindows(
            make_trajectories(12), timm_spec, window_frames=5, batch_size=4, steps_per_epoch=8
        )
    model, trainer = make_model(timm_spec), make_trainer(2)
    trainer.fit(model, data)
    assert len(trainer.losses) == 2
    assert np.isfinite(trainer.losses).all()
    # The encoder has not moved, the dynamics have.
    before = load_frame_encoder(timm_spec).state_dict()
    after = model.world.encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert model.world.dynamics.proj.bias.abs().sum() > 0
    # It imagines: from the same start, other actions lead elsewhere.
    world = LatentWorld(model.world)
    assert world.image_size == 32
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    start = world.encode(frame, np.zeros(2, np.float32))
    torch.testing.assert_close(start.tokens, normed_tokens(timm_spec, frame))
    actions = torch.tensor([0.1, -0.1]).view(2, 1, 1).expand(2, 3, 2)
    with torch.no_grad():
        ends = world.rollout(start, actions)
    assert ends.tokens.shape == (2, 3, 4, 64)
    assert not torch.allclose(ends.tokens[0], ends.tokens[1])
    assert world.distance(ends.tokens, start.tokens).isfinite().all()


def normed_tokens(spec, frame):
    """The layer-normed tokens of one frame, (tokens, dim)."""
    video = torch.from_numpy(frame).permute(2, 0, 1)[None, :, None]
    tokens = load_frame_encoder(spec).encode_frames(video)[0, 0]
    return torch.nn.functional.layer_norm(tokens, (64,))


def test_data_encoded_by_timm_do_not_go_with_another_encoder(
    timm_spec, encoder_folder, make_model, make_trajectories, make_trainer
):
    data = LatentWindows(make_trajectories(12), timm_spec, window_frames=5)
    with pytest.raises(ValueError, match=r"encoded by timm:test_vit@32.* give both the same enc"):
        make_trainer(1).fit(make_model(encoder_folder), data)


def test_a_saved_world_model_brings_its_encoder_of_timm_along(tmp_path):
    world = LatentWorldModel(
        TimmEncoder(name="test_vit", image_size=32),
        PatchTokens(),
        scaling=ColumnScaling((0.0,), (1.0,), (0.0,), (1.0,)),
        uses_state=True,
        dim=24,
        depth=1,
        num_heads=2,
    )
    loaded = load_world_model(save_world_model(world, tmp_path / "world_model"))
    frames = torch.randint(0, 256, (1, 3, 2, 32, 32), dtype=torch.uint8)
    assert torch.equal(loaded.encode(frames), world.encode(frames))
