import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from jepa.checkpoints.native import (
    build_model,
    describe,
    load_encoder,
    load_model,
    load_weights,
    load_world_model,
    save_encoder,
    save_model,
    save_world_model,
    untrained_encoder,
    untrained_world_model,
)
from jepa.models.dynamics import GRU, AdaLN, Ensemble
from jepa.models.jepa_model import JepaModel
from jepa.models.latents import PatchTokens, SlowFeatures
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor
from jepa.models.timm_encoder import TimmEncoder
from jepa.models.world_model import ColumnScaling, LatentWorldModel


@pytest.fixture
def encoder(make_encoder):
    return make_encoder()


@pytest.fixture
def saved(encoder, tmp_path):
    return save_encoder(encoder, tmp_path / "run" / "encoder")


@pytest.fixture
def make_world(encoder):
    def make(latents):
        return LatentWorldModel(
            encoder,
            latents,
            scaling=ColumnScaling((0.1, 1 / 3), (0.2, 1e-3), (0.0,), (0.7,)),
            uses_state=True,
            dim=24,
            depth=1,
            num_heads=2,
        ).eval()

    return make


def same_weights(one, two):
    left, right = one.state_dict(), two.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


def test_an_encoder_comes_back_bit_by_bit_in_evaluation_mode(encoder, saved):
    loaded = load_encoder(saved)
    assert same_weights(loaded, encoder)
    assert loaded.config == encoder.config
    assert not loaded.training
    video = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(loaded(video), encoder(video))


def test_the_run_folder_is_as_good_as_the_folder_in_it(encoder, saved):
    assert same_weights(load_encoder(saved.parent), encoder)
    assert same_weights(load_encoder(str(saved)), encoder)


def test_saving_again_replaces_and_leaves_no_other_file(saved, make_encoder):
    other = make_encoder(seed=9)
    save_encoder(other, saved)
    assert same_weights(load_encoder(saved), other)
    names = sorted(path.name for path in saved.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors", "sha256.json"]


def test_an_untrained_encoder_is_the_same_architecture_with_weights_of_its_seed(encoder, saved):
    before = torch.random.get_rng_state()
    one, same, other = (untrained_encoder(saved, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.config == encoder.config
    assert same_weights(one, same)
    assert not same_weights(one, other)
    assert not same_weights(one, encoder)


@pytest.mark.parametrize("make_latents", [PatchTokens, lambda: SlowFeatures(num_features=6)])
def test_nothing_of_an_untrained_world_model_was_trained_or_fitted(make_world, make_latents):
    model = make_world(make_latents())
    with torch.no_grad():
        for buffer in model.latents.buffers():
            buffer.copy_(7 + torch.arange(buffer.numel()).reshape(buffer.shape))
    before = torch.random.get_rng_state()
    one, same, other = (untrained_world_model(model, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.config == model.config and not one.training
    assert same_weights(one, same)
    fresh, drawn = dict(one.named_parameters()), dict(other.named_parameters())
    for name, weights in model.named_parameters():
        if weights.ndim > 1 and weights.std() > 0:
            assert not torch.equal(fresh[name], weights), name
            assert not torch.equal(fresh[name], drawn[name]), name
    fitted, kept = dict(one.latents.named_buffers()), dict(one.named_buffers())
    for name, value in model.latents.named_buffers():
        assert not torch.equal(fitted[name], value), name
    for name in ("state_mean", "state_std", "action_mean", "action_std"):  # a choice of units
        assert torch.equal(kept[name], getattr(model, name))
    tokens = torch.randn(50, model.encoder.grid[1] * model.encoder.grid[2], model.encoder.dim)
    latents = one.latents(tokens)
    assert latents.isfinite().all() and latents.std(0).mean() > 0.2
    assert one.latents.distance(latents, latents[0]).isfinite().all()


@pytest.mark.parametrize(
    "make_latents",
    [
        PatchTokens,
        lambda: SlowFeatures(num_features=6, num_tokens=2, pool_grid=(2, 2)),
    ],
    ids=["patches", "slow"],
)
def test_a_world_model_comes_back_with_latents_dynamics_and_scaling(
    make_latents, make_world, tmp_path
):
    world = make_world(make_latents())
    if isinstance(world.latents, SlowFeatures):  # as if fitted
        for value in world.latents.buffers():
            value.uniform_(0.5, 1.0)
    loaded = load_world_model(save_world_model(world, tmp_path / "world_model").parent)
    assert same_weights(loaded, world)
    assert loaded.config == world.config
    assert loaded.latents.is_fitted
    frames = torch.randint(0, 256, (2, 3, 1, 32, 32), dtype=torch.uint8)
    states, actions = torch.rand(2, 2), torch.rand(2, 3, 1)
    first, second = (
        model.rollout(model.encode(frames)[:, 0], model.normalize_states(states), actions)
        for model in (world, loaded)
    )
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.state, second.state)
    goal = world.encode(frames)[0, 0]
    distances = [model.latents.distance(first.tokens, goal) for model in (world, loaded)]
    assert torch.equal(*distances)


LATENTS = [PatchTokens, lambda: SlowFeatures(num_features=6, num_tokens=2, pool_grid=(2, 2))]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_world_model_of_another_precision_comes_back_in_it(dtype, make_world, tmp_path):
    world = make_world(PatchTokens()).to(dtype)
    loaded = load_world_model(save_world_model(world, tmp_path))
    tensors = dict(world.named_parameters()) | dict(world.named_buffers())
    again = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
    assert {name: v.dtype for name, v in again.items()} == dict.fromkeys(tensors, dtype)
    frames = torch.randint(0, 256, (1, 3, 1, 32, 32), dtype=torch.uint8)
    states, actions = torch.rand(1, 2, dtype=dtype), torch.rand(1, 3, 1, dtype=dtype)
    with torch.no_grad():
        first, second = (
            model.rollout(model.encode(frames)[:, 0], model.normalize_states(states), actions)
            for model in (world, loaded)
        )
    assert second.tokens.dtype == dtype
    torch.testing.assert_close(first.tokens, second.tokens)
    torch.testing.assert_close(first.state, second.state)


@pytest.mark.parametrize("make_latents", LATENTS, ids=["patches", "slow"])
def test_a_world_model_is_built_without_memory_and_no_tensor_stays_so(make_latents, make_world):
    world = make_world(make_latents())
    built = build_model(describe(world))
    assert all(value.is_meta for value in (*built.parameters(), *built.buffers()))
    load_weights(built, world.state_dict(), source="here")
    assert not any(value.is_meta for value in (*built.parameters(), *built.buffers()))


def test_a_tensor_that_would_stay_without_memory_is_a_fault_of_ours(make_encoder):
    encoder = make_encoder()
    with torch.device("meta"):
        built = type(encoder)(**encoder.config)
    built.register_buffer("forgotten", torch.empty(1, device="meta"), persistent=False)
    with pytest.raises(AssertionError, match=r"1 tensors were given no numbers: \['forgotten'\]"):
        load_weights(built, encoder.state_dict(), source="here")


def whole_model(encoder):
    return JepaModel(
        encoder,
        predictor=MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2),
        probe=AttentiveProbe(dim=48, num_classes={"label": 3}, num_heads=4, depth=2),
    )


def timm_world():
    return LatentWorldModel(
        TimmEncoder(name="test_vit", image_size=32),
        PatchTokens(),
        scaling=ColumnScaling((0.0,), (1.0,), (0.0,), (1.0,)),
        uses_state=True,
        dim=24,
        depth=1,
        num_heads=2,
    )


@pytest.mark.parametrize("kind", ["whole", "patches", "slow", "timm"])
def test_loading_draws_no_random_numbers(kind, encoder, make_world, tmp_path):
    models = {
        "whole": lambda: whole_model(encoder),
        "patches": lambda: make_world(PatchTokens()),
        "slow": lambda: make_world(LATENTS[1]()),
        "timm": timm_world,
    }
    folder = save_model(models[kind](), tmp_path)
    before = torch.random.get_rng_state()
    loaded = load_model(folder)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(list(loaded.parameters())) > 0


def test_tied_weights_are_saved_and_come_back_alike(encoder, tmp_path):
    first, second = encoder.transformer.blocks
    second.mlp[0].weight = first.mlp[0].weight
    loaded = load_encoder(save_encoder(encoder, tmp_path))
    assert same_weights(loaded, encoder)


# What is refused: always one line.


def refused(folder, error, words, load=load_encoder):
    """Of a folder that somebody changed by hand, and took the hashes out of."""
    for hashes in folder.rglob("sha256.json"):
        hashes.unlink()
    with pytest.raises(error, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    for place, value in changes.items():
        if value is None:
            del config[place]
        else:
            config[place] = value
    (folder / "config.json").write_text(json.dumps(config))


def test_a_missing_folder_is_refused(tmp_path):
    words = "no JepaModel in .*nowhere: expected config.json and model.safetensors"
    refused(tmp_path / "nowhere", FileNotFoundError, words)


def test_a_model_of_another_kind_is_refused(saved):
    words = (
        r"no LatentWorldModel in .*encoder/config.json has model 'JepaModel'; known are JepaModel, "
        "LatentWorldModel"
    )
    refused(saved, FileNotFoundError, words, load=load_world_model)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model": "VideoEncoder"}, "has model 'VideoEncoder'; known are JepaModel, LatentWorldM"),
        ({"model_type": "vjepa2"}, "of transformers, model_type 'vjepa2': jepa.from_pretrained re"),
        ({"layers": 3}, "names no model; known are JepaModel"),
    ],
)
def test_a_config_of_something_else_is_refused_with_what_it_is(config, words, saved):
    (saved / "config.json").write_text(json.dumps(config))
    for folder in (saved, saved.parent):
        refused(folder, FileNotFoundError, words, load=load_model)


def test_weights_that_are_cut_short_are_refused(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(saved, ValueError, r"model\.safetensors cannot be read: ")


def test_weights_that_are_something_else_are_refused(saved):
    (saved / "model.safetensors").write_bytes(b"not a file of tensors")
    refused(saved, ValueError, r"model\.safetensors cannot be read: ")


def test_missing_weights_are_refused(saved):
    (saved / "model.safetensors").unlink()
    refused(saved, ValueError, r"model\.safetensors cannot be read: ")


def test_weights_with_other_names_are_refused(saved):
    weights = load_file(saved / "model.safetensors")
    weights["encoder.extra"] = weights.pop("encoder.transformer.norm.weight")
    save_file(weights, saved / "model.safetensors")
    words = r"1 missing \['transformer.norm.weight'\], 1 unexpected \['extra'\]"
    refused(saved, ValueError, words)


def test_weights_with_other_shapes_are_refused(saved, encoder):
    change_config(saved, encoder=encoder.config | {"patch_size": 16})
    words = (
        r"does not fit config.json: patch_embed.weight is \(48, 3, 2, 8, 8\), not \(48, 3, 2, 16"
    )
    refused(saved, ValueError, words)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"patch": 16}, "unexpected keyword argument 'patch'"),
        ("large", "describes no model of this version"),
        (None, "it has no 'encoder'"),
    ],
)
def test_a_config_that_describes_no_encoder_is_refused(described, words, saved):
    change_config(saved, encoder=described)
    refused(saved, ValueError, words)


NONSENSE = [
    ("encoder", {"patch_size": 0}, "patch_size must be a whole number from 1"),
    ("encoder", {"dim": -48}, "dim must be"),
    ("encoder", {"dim": 10**15}, "dim must be"),
    ("encoder", {"num_heads": 1.5}, "num_heads must be"),
    ("encoder", {"tubelet_size": -2}, "tubelet_size must be"),
    ("encoder", {"levels": ["0", "1"]}, "levels must be"),
    ("encoder", {"positions": 3}, "positions must be one of"),
    ("predictor", {"grid": [1, 2]}, "grid must be"),
    ("predictor", {"depth": "1"}, "depth must be"),
    ("probe", {"dim": -48}, "describes no model of this version"),
    ("probe", {"num_heads": 0}, "num_heads must be"),
    ("probe", {"num_classes": [3]}, "describes no model of this version"),
]


@pytest.mark.parametrize(("part", "changes", "words"), NONSENSE, ids=str)
def test_nonsense_in_a_config_is_refused(part, changes, words, encoder, tmp_path):
    folder = save_model(whole_model(encoder), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change_config(folder, **{part: config[part] | changes})
    refused(folder, ValueError, words, load=load_model)


@pytest.mark.parametrize("value", [True, "/etc/passwd", False])
def test_a_config_cannot_make_timm_read_or_download_weights(value, tmp_path, monkeypatch):
    folder = save_world_model(timm_world(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change_config(folder, encoder=config["encoder"] | {"pretrained": value})
    monkeypatch.setattr("timm.create_model", None)  # not even built
    words = "an encoder of timm has name and image_size only, not pretrained"
    refused(folder, ValueError, words, load=load_world_model)


ADALN = {"dim": 24, "depth": 1, "num_heads": 2, "head_dim": 12, "mlp_dim": 16}
OTHER_DYNAMICS = {
    "adaln": lambda: AdaLN(**ADALN, context_frames=2, dropout=0.3),
    "gru": lambda: GRU(dim=24),
    "ensemble": lambda: Ensemble(AdaLN(**ADALN), num_members=3, hidden_dim=8, prior_scale=0.7),
}


@pytest.fixture
def make_other(make_encoder):
    def make(dynamics, **options):
        scaling = ColumnScaling((0.1, 1 / 3), (0.2, 1e-3), (0.0,), (0.7,))
        return LatentWorldModel(
            make_encoder(), PatchTokens(), scaling=scaling, uses_state=True, dynamics=dynamics,
            **options,
        ).eval()  # fmt: skip

    return make


@pytest.mark.parametrize("kind", OTHER_DYNAMICS)
def test_dynamics_come_back_by_their_name_and_settings(kind, make_other, tmp_path):
    world = make_other(OTHER_DYNAMICS[kind](), context_frames=2)
    save_world_model(world, tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())["world_model"]
    assert described["dynamics"] == {
        "name": type(world.dynamics).__name__, **world.dynamics.config
    }  # fmt: skip
    loaded = load_world_model(tmp_path)
    assert loaded.context_frames == 2 and loaded.dynamics.config == world.dynamics.config
    frames = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)
    latents, states, actions = world.encode(frames), torch.rand(2, 4, 2), torch.rand(2, 4, 1)
    imagined = []
    for model in (world, loaded):
        felt = model.normalize_states(states)
        known = model.remember(latents[:, :2], felt[:, :2], actions[:, :2])
        imagined.append(model.rollout(latents[:, 2], felt[:, 2], actions, memory=known))
    for ours, theirs in zip(*imagined, strict=True):
        assert ours is theirs is None or torch.equal(ours, theirs)


def test_the_default_dynamics_are_described_as_they_always_were(make_world, tmp_path):
    """So older versions read them, and ours reads what older ones wrote."""
    config = describe(make_world(PatchTokens()))["world_model"]
    assert list(config) == [
        "scaling", "uses_state", "dim", "depth", "num_heads", "mlp_ratio", "positions",
        "next_state", "extrinsics_dim", "has_place_embedding",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Cosmos"}, r"config.json describes dynamics 'Cosmos'; known are ActionCond.*GRU"),
        ({"name": None}, r"describes dynamics None; known are"),
        ({"dim": 0}, "dim must be a whole number from 1"),
        ({"width": 3}, r"config.json describes no model .* unexpected keyword argument 'width'"),
        ({"trunk": {"name": "GRU"}}, r"unexpected keyword argument 'trunk'"),
    ],
)
def test_dynamics_that_are_not_known_are_refused(changes, words, make_other, tmp_path):
    save_world_model(make_other(GRU(dim=24)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["world_model"]["dynamics"] |= changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "sha256.json").unlink()
    with pytest.raises(ValueError, match=words):
        load_world_model(tmp_path)


def test_a_latent_space_that_is_not_known_is_refused(make_world, tmp_path):
    folder = save_world_model(make_world(PatchTokens()), tmp_path)
    change_config(folder, latents={"name": "FastFeatures"})
    refused(folder, ValueError, "it has no 'FastFeatures'", load=load_world_model)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"), (b"[]", "an object")],
)
def test_a_config_that_cannot_be_read_is_refused(content, words, saved):
    (saved / "config.json").write_bytes(content)
    refused(saved, ValueError, f"config.json .*{words}")
