"""Against outputs of the official models on tiny checkpoints in their format: tests/golden."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import jepa
from jepa.checkpoints.official import read_official, write_official
from jepa.checkpoints.official_config import OfficialConfig
from jepa.checkpoints.official_names import encoder_to_official, predictor_to_official
from jepa.checkpoints.official_sizes import OfficialReader
from jepa.models import (
    ActionConditionedPredictor,
    AttentiveProbe,
    JepaModel,
    LatentWorldModel,
    MaskedLatentPredictor,
    VideoEncoder,
    take_tokens,
)
from jepa.models.dynamics import GRU
from jepa.models.latents import PatchTokens
from jepa.models.sizes import ENCODER_SIZES
from jepa.models.world_model import ColumnScaling
from jepa.objectives import LatentL1, RolloutL1

GOLDEN = Path(__file__).parents[2] / "golden"
FAMILIES = ("vjepa1", "vjepa2", "vjepa2_1", "vjepa2_ac", "ijepa")
GRID = (2, 3, 3)
RELATIVE = 1e-5


def checkpoint(family):
    return GOLDEN / family / "checkpoint.pt"


def config_of(name, **changes):
    config = OfficialConfig.read(GOLDEN / name / "config.json")
    return OfficialConfig(**{**vars(config), **changes})


@pytest.fixture(scope="module")
def models():
    return {f: read_official(checkpoint(f), config=config_of(f)).model for f in FAMILIES}


@pytest.fixture(scope="module")
def golden():
    return {f: load_file(GOLDEN / f / "golden.safetensors") for f in FAMILIES}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def assert_golden(found, expected):
    """Within 1e-5 of the largest value."""
    assert found.shape == expected.shape
    difference = (found - expected).abs().max() / expected.abs().max()
    assert difference <= RELATIVE, f"off by {difference:.1e}"


def question(golden):
    return {"context_ids": golden["context_ids"], "target_ids": golden["target_ids"]}


# Encoders.


@pytest.mark.parametrize("family", ["vjepa1", "vjepa2", "vjepa2_1"])
def test_tokens_of_a_video(models, golden, family):
    assert_golden(models[family].encoder(golden[family]["video"]), golden[family]["encoder_full"])


@pytest.mark.parametrize("family", ["vjepa1", "vjepa2"])
def test_tokens_of_a_masked_video(models, golden, family):
    ids, video = golden[family]["context_ids"], golden[family]["video"]
    tokens = models[family].encoder(video, token_ids=ids)
    assert_golden(tokens, golden[family]["encoder_masked"])


@pytest.mark.parametrize("family", ["vjepa2", "vjepa2_1"])
def test_tokens_of_a_video_that_is_not_square(models, golden, family):
    video = golden[family]["video_other_resolution"]
    assert_golden(models[family].encoder(video), golden[family]["encoder_other_resolution"])


def test_intermediate_layers_of_v_jepa_2(models, golden):
    layers = models["vjepa2"].encoder.layers(golden["vjepa2"]["video"], [0, 1])
    for index, layer in enumerate(layers):
        assert_golden(layer, golden["vjepa2"][f"encoder_layer_{index}"])


def test_levels_of_v_jepa_2_1_whole_and_masked(models, golden):
    encoder, expected = models["vjepa2_1"].encoder, golden["vjepa2_1"]
    assert_golden(encoder.levels(expected["video"]), expected["encoder_levels"])
    masked = encoder.levels(expected["video"], token_ids=expected["context_ids"])
    assert_golden(masked, expected["encoder_masked_levels"])


def test_tokens_of_an_image_through_the_tokenizer_of_v_jepa_2_1(models, golden):
    image = golden["vjepa2_1"]["image"]
    assert_golden(models["vjepa2_1"].encoder(image), golden["vjepa2_1"]["encoder_image"])


def test_tokens_of_an_image_of_i_jepa_whole_and_masked(models, golden):
    encoder, expected = models["ijepa"].encoder, golden["ijepa"]
    image = expected["image"].unsqueeze(2)
    assert_golden(encoder(image), expected["encoder_full"])
    masked = encoder(image, token_ids=expected["context_ids"])
    assert_golden(masked, expected["encoder_masked"])


# Masked predictors and losses.


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("family", ["vjepa1", "vjepa2"])
def test_predictions_with_each_mask_token(models, golden, family, index):
    expected = golden[family]
    predicted = models[family].predictor(
        expected["encoder_masked"], **question(expected), grid=GRID, mask_token_index=index
    )
    assert_golden(predicted, expected[f"predictor_mask_index_{index}"])
    other = expected[f"predictor_mask_index_{1 - index}"]
    assert (predicted - other).abs().max() > 100 * RELATIVE * other.abs().max()


@pytest.mark.parametrize("family", ["vjepa1", "vjepa2"])
def test_the_pretraining_loss(models, golden, family):
    model, expected = models[family], golden[family]
    context = model.encoder(expected["video"], token_ids=expected["context_ids"])
    predicted = model.predictor(context, **question(expected), grid=GRID)
    target = take_tokens(model.encoder(expected["video"]), expected["target_ids"])
    loss = LatentL1()(predicted, target).total
    assert_golden(loss[None], expected["pretrain_loss_mask_index_0"])


def test_multi_level_predictions_of_targets_and_context(models, golden):
    expected = golden["vjepa2_1"]
    targets, context = models["vjepa2_1"].predictor.predict_all(
        expected["encoder_masked_levels"], **question(expected), grid=GRID
    )
    assert_golden(targets, expected["predictor_targets"])
    assert_golden(context, expected["predictor_context"])


def test_predictions_of_i_jepa(models, golden):
    expected = golden["ijepa"]
    predicted = models["ijepa"].predictor(
        expected["encoder_masked"], **question(expected), grid=(1, 3, 3)
    )
    assert_golden(predicted, expected["predictor"])


# The action-conditioned predictor.


@pytest.fixture
def arm(models, golden):
    """The world model with its outputs as the released module returns them, and the golden ones."""
    model, expected = models["vjepa2_ac"], golden["vjepa2_ac"]
    features = expected["features"].unflatten(1, (4, 9))  # (batch, time, tokens, dim)
    return model, expected, features, expected["states"], expected["actions"]


def test_frames_are_encoded_one_by_one(arm):
    model, expected, *_ = arm
    patches = model.encoder.encode_frames(expected["frames"].transpose(1, 2))
    assert_golden(model.latents(patches).flatten(1, 2), expected["features"])


@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_predictions_of_an_arm(arm, num_frames, monkeypatch):
    model, expected, *windows = arm
    windows = [part[:, :num_frames] for part in windows]
    raw = expected[f"predictor_{num_frames}_frames"]
    normed = F.layer_norm(raw, raw.shape[-1:])
    assert_golden(model(*windows).tokens.flatten(1, 2), normed)
    monkeypatch.setattr(model.dynamics, "output", "absolute")
    assert_golden(model(*windows).tokens.flatten(1, 2), raw)


def test_predictions_of_an_arm_whose_camera_is_known(arm, monkeypatch):
    model, expected, *windows = arm
    monkeypatch.setattr(model.dynamics, "output", "absolute")
    predicted = model.dynamics(
        *(part[:, :2] for part in windows), extrinsics=expected["extrinsics"][:, :2]
    )
    assert_golden(predicted.tokens.flatten(1, 2), expected["predictor_extrinsics_2_frames"])


def test_the_two_losses_of_an_arm(arm):
    model, expected, features, states, actions = arm
    compare = RolloutL1()
    forced = model(features[:, :-1], states[:, :-1], actions[:, :-1]).tokens
    loss = compare(forced, features[:, 1:]).total
    assert_golden(loss[None], expected["teacher_forcing_loss"])
    fed_back = torch.stack((features[:, 0], forced[:, 0]), dim=1)
    second = model(fed_back, states[:, :2], actions[:, :2]).tokens[:, 1]
    rollout = torch.stack((forced[:, 0], second), dim=1)
    loss = compare(rollout, features[:, 1:3]).total
    assert_golden(loss[None], expected["rollout_loss_2_steps"])


def test_a_rollout_its_poses_and_the_energies_of_candidates(arm):
    model, expected, features, *_ = arm
    candidates = expected["candidates"]
    start, pose = features[:1, 0], expected["pose"]
    imagined = model.rollout(
        start.expand(len(candidates), -1, -1), pose.expand(len(candidates), -1), candidates
    )
    assert_golden(imagined.tokens[:, -1], expected["rollout_final"])
    poses = torch.cat((pose.expand(len(candidates), 1, -1), imagined.state), dim=1)
    assert_golden(poses, expected["rollout_poses"])
    energies = model.latents.distance(imagined.tokens[:, -1], features[0, 3])
    assert_golden(energies, expected["energies"])


# Saved, loaded and written back.


@pytest.mark.parametrize("family", FAMILIES)
def test_a_converted_checkpoint_comes_back_bit_by_bit(models, family, tmp_path):
    loaded = jepa.from_pretrained(models[family].save_pretrained(tmp_path / "model"))
    before, after = models[family].state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not loaded.training
    assert (loaded.dynamics is not None) == (family == "vjepa2_ac")
    assert (loaded.predictor is not None) == (family != "vjepa2_ac")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_official_file_is_written_with_the_names_and_values_it_had(models, family, tmp_path):
    write_official(models[family], tmp_path / "back.pt")
    before = torch.load(checkpoint(family), weights_only=True)
    after = torch.load(tmp_path / "back.pt", weights_only=True)
    assert [p.name for p in tmp_path.iterdir()] == ["back.pt"]
    for part in ("target_encoder", "predictor"):
        assert before[part].keys() == after[part].keys()
        assert all(torch.equal(before[part][n], after[part][n]) for n in before[part])


MASKED = {"encoder_dim": 48, "dim": 24, "depth": 1, "num_heads": 2}
SINCOS = {"positions": "sincos_3d"}
SINCOS_MASKED = MASKED | SINCOS | {"grid": (2, 4, 4), "num_mask_tokens": 2}
TILED = {"positions": "rope_tiled"}
V2_1 = {"levels": (0, 1), "has_image_tokenizer": True}


@pytest.mark.parametrize(
    ("encoder", "predictor", "words"),
    [
        ({}, None, "positions='rope_tiled', but it has 'rope_interleaved'"),
        (TILED, MASKED, "its predictor would be read with positions='rope_tiled'"),
        (TILED, SINCOS_MASKED, "its predictor would be read with positions='rope_tiled'"),
        (SINCOS, MASKED | TILED | {"num_mask_tokens": 2}, "no family has this model"),
        (SINCOS, SINCOS_MASKED | {"num_mask_tokens": 10}, "positions='rope_tiled', but it has"),
        (TILED | {"rope_grid": 16}, None, "rope_grid=None, but it has 16"),
        (TILED | {"levels": (0, 1)}, None, "no official family has this model"),
        (V2_1, None, "rope_grid=32, but it has None"),
        (V2_1 | {"rope_grid": 24}, None, "rope_grid=32, but it has 24"),
        ({"has_image_tokenizer": True}, None, "no official family has this model"),
        ({"positions": "sincos_2d", "clip_length_frames": 2}, None, "no official family has"),
    ],
)
def test_an_architecture_that_no_family_has_is_not_written(
    make_encoder, tmp_path, encoder, predictor, words
):
    masked = MaskedLatentPredictor(**predictor) if predictor else None
    model = JepaModel(make_encoder(**encoder), predictor=masked)
    with pytest.raises(ValueError, match="no official family has") as caught:
        write_official(model, tmp_path / "back.pt")
    assert words.removeprefix("no family has this model") in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"positions": "rope_interleaved"}, "world_model would be read with positions="),
        ({"has_place_embedding": True}, "no official family has this model"),
        ({"extrinsics_dim": 0}, "no official family has this model"),
    ],
)
def test_a_world_model_that_2_ac_is_not_is_not_written(make_encoder, tmp_path, arm, words):
    settings = TILED | {"extrinsics_dim": 6, "has_place_embedding": False} | arm
    model = LatentWorldModel(
        make_encoder(positions="rope_tiled"),
        PatchTokens(),
        scaling=ColumnScaling([0.0] * 7, [1.0] * 7, [0.0] * 7, [1.0] * 7),
        uses_state=True,
        dim=24,
        depth=1,
        num_heads=2,
        next_state="end_effector_pose",
        **settings,
    )
    with pytest.raises(ValueError, match=words):
        write_official(model, tmp_path / "back.pt")


def test_dynamics_that_no_release_has_are_not_written(make_encoder, tmp_path):
    model = LatentWorldModel(
        make_encoder(positions="rope_tiled"),
        PatchTokens(),
        scaling=ColumnScaling([0.0] * 7, [1.0] * 7, [0.0] * 7, [1.0] * 7),
        uses_state=True,
        dynamics=GRU(dim=24),
    )
    with pytest.raises(ValueError, match="no official family has dynamics of the kind GRU; save"):
        write_official(model, tmp_path / "back.pt")


def test_what_the_file_does_not_hold_is_said(models, tmp_path, make_encoder):
    lines = write_official(models["vjepa2"], tmp_path / "back.pt")
    assert "not in the file: num_heads=2, predictor_num_heads=1, mask_index=0" in lines
    probe = AttentiveProbe(dim=48, num_classes={"label": 3}, num_heads=2)
    model = JepaModel(make_encoder(positions="rope_tiled"), probe=probe)
    assert any("dropped: the probe" in line for line in write_official(model, tmp_path / "b.pt"))


# What is found out, and what is chosen.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_is_found_out(family):
    config = config_of(family, family=None)
    report = read_official(checkpoint(family), config=config).report
    names = dict(vjepa1="1", vjepa2="2", vjepa2_1="2.1", vjepa2_ac="2-AC")
    expected = "I-JEPA" if family == "ijepa" else f"V-JEPA {names[family]}"
    assert report[0].startswith(f"family: {expected} (")


def changed(family, tmp_path, change):
    """A copy of a golden checkpoint after `change(content)`."""
    content = torch.load(checkpoint(family), weights_only=True)
    change(content)
    torch.save(content, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


def test_the_average_of_the_encoder_is_taken_where_there_is_one(golden, tmp_path):
    def forget_target(content):
        content["ema_encoder"] = content.pop("target_encoder")

    path = changed("vjepa2", tmp_path, forget_target)
    average = read_official(path, config=config_of("vjepa2"))
    online = read_official(path, config=config_of("vjepa2"), encoder_key="encoder")
    assert "encoder: ema_encoder" in average.report
    assert "encoder: encoder" in online.report
    video, expected = golden["vjepa2"]["video"], golden["vjepa2"]["encoder_full"]
    assert_golden(average.model.encoder(video), expected)
    assert not torch.allclose(online.model.encoder(video), expected, atol=1e-2)


def test_a_student_s_average_is_preferred_to_its_teacher(tmp_path):
    def distil(content):
        content["ema_encoder"] = content["encoder"]

    report = read_official(changed("vjepa2", tmp_path, distil), config=config_of("vjepa2")).report
    assert "encoder: ema_encoder" in report


@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod.module.backbone."])
def test_wrappers_of_any_depth_are_stripped(golden, tmp_path, prefix):
    def rewrap(content):
        content["target_encoder"] = {
            prefix + name.removeprefix("module.backbone."): value
            for name, value in content["target_encoder"].items()
        }

    model = read_official(changed("vjepa2", tmp_path, rewrap), config=config_of("vjepa2")).model
    assert_golden(model.encoder(golden["vjepa2"]["video"]), golden["vjepa2"]["encoder_full"])


def test_weights_of_two_wrappers_at_once_are_refused(tmp_path):
    def double(content):
        content["target_encoder"]["norm.weight"] = torch.ones(48)

    refused(changed("vjepa2", tmp_path, double), "norm.weight is there twice, once as norm.weight")


def test_half_precision_weights_become_float32_exactly(golden, tmp_path):
    def halve(content):
        for part in ("target_encoder", "predictor"):
            content[part] = {name: value.bfloat16() for name, value in content[part].items()}

    path = changed("vjepa2", tmp_path, halve)
    model = read_official(path, config=config_of("vjepa2")).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    stored = torch.load(path, weights_only=True)["target_encoder"]
    weight = stored["module.backbone.blocks.0.attn.qkv.weight"]
    assert torch.equal(model.encoder.transformer.blocks[0].attn.qkv.weight, weight.float())


def test_dead_position_tables_of_v_jepa_2_are_dropped_and_said_so(golden, tmp_path):
    def add_tables(content):
        content["target_encoder"]["module.backbone.pos_embed"] = torch.randn(1, 18, 48)
        content["predictor"]["module.backbone.predictor_pos_embed"] = torch.randn(1, 18, 24)

    converted = read_official(changed("vjepa2", tmp_path, add_tables), config=config_of("vjepa2"))
    assert any(line.startswith("dropped: pos_embed") for line in converted.report)
    assert any(line.startswith("dropped: predictor_pos_embed") for line in converted.report)
    tokens = converted.model.encoder(golden["vjepa2"]["video"])
    assert_golden(tokens, golden["vjepa2"]["encoder_full"])


def test_v_jepa_2_with_tables_and_two_mask_tokens_can_be_told_by_the_user(golden, tmp_path):
    def look_like_v_jepa_1(content):
        content["target_encoder"]["module.backbone.pos_embed"] = torch.randn(1, 18, 48)
        for index in range(2, 10):
            del content["predictor"][f"module.backbone.mask_tokens.{index}"]

    path = changed("vjepa2", tmp_path, look_like_v_jepa_1)
    config = config_of("vjepa2", family=None, position=None, num_mask_tokens=2)
    model = read_official(path, config=config, family="vjepa2").model
    assert_golden(model.encoder(golden["vjepa2"]["video"]), golden["vjepa2"]["encoder_full"])


def test_an_encoder_alone_with_a_position_table_is_not_guessed(golden, tmp_path):
    def trim(content):
        content["target_encoder"]["module.backbone.pos_embed"] = torch.randn(1, 18, 48)
        del content["predictor"]

    path = changed("vjepa2", tmp_path, trim)
    refused(path, "may be V-JEPA 1 or 2: .* --family vjepa1 or --family vjepa2")
    config = config_of("vjepa2", family=None)
    model = read_official(path, config=config, family="vjepa2").model
    assert_golden(model.encoder(golden["vjepa2"]["video"]), golden["vjepa2"]["encoder_full"])


def test_v_jepa_1_is_taken_with_a_warning():
    warnings = read_official(checkpoint("vjepa1"), config=config_of("vjepa1", family=None)).warnings
    assert any(line.startswith("taken for V-JEPA 1: ") for line in warnings)
    assert read_official(checkpoint("vjepa1"), config=config_of("vjepa1")).warnings == []


def test_2_ac_takes_its_encoder_where_others_take_the_average(tmp_path):
    def spoil(content):
        for value in content["target_encoder"].values():
            value.zero_()

    converted = read_official(changed("vjepa2_ac", tmp_path, spoil), config=config_of("vjepa2_ac"))
    assert converted.model.encoder.patch_embed.weight.abs().max() > 0
    assert converted.warnings == ["taken to be made for 16 frames of 48 px, as rotary weights do "
        "not say; other sizes work all the same (--config: img_size, num_frames)"]  # fmt: skip


def test_positions_of_patches_of_14_pixels_are_stretched_to_18():
    states = released("base", family="vjepa2_1", patch_size=14, image_size=252)
    described = OfficialReader("f.pt", "vjepa2_1", *states, OfficialConfig(img_size=252)).describe()
    assert described["encoder"]["rope_grid"] == 18


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_quantised_weights_are_refused(tmp_path, dtype):
    def quantise(content):
        weights = content["target_encoder"]
        weights["module.backbone.norm.weight"] = torch.ones(48, dtype=dtype)

    words = "norm.weight is torch.* quantised or sparse weights are not read"
    refused(changed("vjepa2", tmp_path, quantise), words)


def test_the_trained_mask_token_is_found_and_used(tmp_path):
    def train_only_3(content):
        for name, value in content["predictor"].items():
            if "mask_tokens" in name and not name.endswith(".3"):
                value.zero_()

    converted = read_official(changed("vjepa2", tmp_path, train_only_3), config=config_of("vjepa2"))
    assert converted.model.predictor.mask_token_index == 3
    assert any("trained (3); using 3" in line for line in converted.report)


def test_a_config_may_choose_the_mask_token():
    converted = read_official(checkpoint("vjepa2"), config=config_of("vjepa2", mask_index=4))
    assert converted.model.predictor.mask_token_index == 4


def test_a_distilled_predictor_has_one_level_and_the_width_of_its_teacher(tmp_path):
    def distil(content):
        predictor, prefix = content["predictor"], "module.backbone."
        for name in ("predictor_embed.0", "predictor_embed.2", "predictor_proj_context"):
            for kind in ("weight", "bias"):
                del predictor[f"{prefix}{name}.{kind}"]
        predictor[f"{prefix}predictor_embed.weight"] = torch.randn(24, 24)
        predictor[f"{prefix}predictor_embed.bias"] = torch.randn(24)
        predictor[f"{prefix}predictor_proj.weight"] = torch.randn(52, 24)
        predictor[f"{prefix}predictor_proj.bias"] = torch.randn(52)
        for level in (0, 1, 2):
            for kind in ("weight", "bias"):
                norm = content["target_encoder"].pop(f"{prefix}norms_block.{level}.{kind}")
        content["target_encoder"][f"{prefix}norms_block.0.weight"] = norm + 1
        content["target_encoder"][f"{prefix}norms_block.0.bias"] = norm
        for kind in ("weight", "bias"):
            del content["target_encoder"][f"{prefix}norms_block.3.{kind}"]

    path = changed("vjepa2_1", tmp_path, distil)
    model = read_official(path, config=config_of("vjepa2_1", levels=None)).model
    assert model.encoder.level_indices == (11,)
    assert (model.predictor.input_dim, model.predictor.output_dim) == (24, 52)
    assert model.predictor.context_proj is None


# Released sizes: everything is known, nothing is asked for.


def released(size, *, family, predictor=None, **settings):
    """Official states of a released model, without memory for its weights."""
    shape = ENCODER_SIZES[size]._asdict()
    levels = shape.pop("levels")
    if family == "vjepa2_1":
        settings |= {"levels": levels, "has_image_tokenizer": True, "rope_grid": 16}
    with torch.device("meta"):
        encoder = VideoEncoder(**shape | settings)
        part = predictor(encoder.dim) if predictor else None
    if part is None:
        return encoder_to_official(encoder), {}
    state = predictor_to_official(part, has_one_mask_token=family == "ijepa")
    state |= {name: torch.ones(value.shape) for name, value in state.items() if "mask_tok" in name}
    return encoder_to_official(encoder), state


def masked(**settings):
    return lambda dim: MaskedLatentPredictor(encoder_dim=dim, **settings)


V1 = {"positions": "sincos_3d", "image_size": 224}
V1_PREDICTOR = {"positions": "sincos_3d", "num_mask_tokens": 2, "grid": (8, 14, 14)}
IJEPA = {"positions": "sincos_2d", "tubelet_size": 1, "clip_length_frames": 1}
FOUR_LEVELS = {"num_levels": 4, "predicts_context": True, "has_modalities": True,
               "num_mask_tokens": 8}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "size", "settings", "predictor", "heads", "predictor_heads", "image_size"),
    [
        ("vjepa1", "large", V1, V1_PREDICTOR | {"num_heads": 16}, 16, 16, 224),
        ("vjepa1", "huge", V1 | {"image_size": 384}, V1_PREDICTOR | {"num_heads": 16}, 16, 16, 384),
        ("vjepa2", "large", {}, {"num_mask_tokens": 10}, 16, 12, 256),
        ("vjepa2", "huge", {}, {"num_mask_tokens": 10}, 16, 12, 256),
        ("vjepa2", "giant", {}, {"num_mask_tokens": 10}, 22, 12, 256),
        ("vjepa2_1", "base", {}, {"num_mask_tokens": 8, "output_dim": 1664}, 12, 12, 256),
        ("vjepa2_1", "large", {}, {"num_mask_tokens": 8, "output_dim": 1664}, 16, 12, 256),
        ("vjepa2_1", "giant", {}, FOUR_LEVELS | {"depth": 24}, 22, 12, 256),
        ("vjepa2_1", "gigantic", {}, FOUR_LEVELS | {"depth": 24}, 26, 12, 256),
        ("ijepa", "huge", IJEPA | {"patch_size": 14, "image_size": 224}, None, 16, None, 224),
        ("ijepa", "giant", IJEPA | {"image_size": 224}, None, 16, None, 224),
    ],
)
def test_released_sizes_need_no_config(
    family, size, settings, predictor, heads, predictor_heads, image_size
):
    states = released(
        size, family=family, predictor=masked(**predictor) if predictor else None, **settings
    )
    described = OfficialReader("file.pt", family, *states, OfficialConfig()).describe()
    encoder = described["encoder"]
    assert encoder["num_heads"] == heads
    assert encoder["image_size"] == image_size
    assert encoder["levels"] == (list(ENCODER_SIZES[size].levels) if "2_1" in family else None)
    assert encoder["rope_grid"] == (16 if family == "vjepa2_1" else None)
    if predictor:
        assert described["predictor"]["num_heads"] == predictor_heads
        assert described["predictor"]["output_dim"] == predictor.get(
            "output_dim", encoder["dim"] * predictor.get("num_levels", 1)
        )
        assert described["predictor"]["depth"] == predictor.get("depth", 12)


def test_the_released_arm_needs_no_config():
    def arm(dim):
        return ActionConditionedPredictor(
            latent_dim=dim, action_dim=7, state_dim=7, grid=(16, 16), positions="rope_tiled",
            next_state="end_effector_pose", extrinsics_dim=6, has_place_embedding=False,
        )  # fmt: skip

    states = released("giant", family="vjepa2_ac", predictor=arm)
    described = OfficialReader("file.pt", "vjepa2_ac", *states, OfficialConfig()).describe()
    assert described["encoder"]["num_heads"] == 22
    assert described["world_model"]["num_heads"] == 16
    assert described["world_model"]["dim"] == 1024


# The optimiser's share of a file is never read.


PEAK = """
import re, sys
from pathlib import Path
import jepa.checkpoints.official, jepa.checkpoints.native
from jepa.checkpoints.__main__ import main

def mebibytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = mebibytes("VmRSS")
main(sys.argv[1:])
print("MiB", mebibytes("VmHWM") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak of memory: Linux")
def test_converting_needs_no_memory_for_the_optimiser(tmp_path):
    """A file with 400 MB of optimiser state, of which nothing may be read."""
    content = torch.load(checkpoint("vjepa2"), weights_only=True)
    moments = {"exp_avg": torch.ones(50_000_000), "exp_avg_sq": torch.ones(50_000_000)}
    torch.save(content | {"opt": {"state": {0: moments}}}, tmp_path / "large.pt")
    arguments = [tmp_path / "large.pt", tmp_path / "out", "--config", GOLDEN / "vjepa2/config.json"]
    run = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    grown = float(run.stdout.rpartition("MiB")[2])
    assert grown < 100, f"converting took {grown:.0f} MiB of a file of 400"


# What is refused: always one line, and never a part of a model.


def refused(path, words, *, family="vjepa2", **options):
    settings = {"config": config_of(family, family=None, position=None)} | options
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        read_official(path, **settings)
    assert "\n" not in str(caught.value)


def test_v_jepa_2_1_asked_for_as_2_is_refused():
    words = r"is a V-JEPA 2.1 checkpoint \(its levels have norms of their own\), not V-JEPA 2: "
    config = config_of("vjepa2_1", family=None)
    with pytest.raises(ValueError, match=words):
        read_official(checkpoint("vjepa2_1"), config=config, family="vjepa2")


@pytest.mark.parametrize("wanted", ["vjepa2_1", "vjepa2_ac", "ijepa", "vjepa1"])
def test_v_jepa_2_asked_for_as_something_else_is_refused(wanted):
    config = config_of("vjepa2", family=None)
    with pytest.raises(
        ValueError, match=r"is a V-JEPA 2 checkpoint .* it would give wrong numbers"
    ):
        read_official(checkpoint("vjepa2"), config=config, family=wanted)


def test_a_family_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"family must be one of vjepa1, .*; got 'vjepa3'"):
        read_official(checkpoint("vjepa2"), config=config_of("vjepa2"), family="vjepa3")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(tmp_path, share):
    whole = checkpoint("vjepa2").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path / "cut.pt", "cut short")


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    refused(tmp_path / "text.pt", "is no checkpoint: a pickle that torch did not write")
    (tmp_path / "empty.pt").write_bytes(b"")
    refused(tmp_path / "empty.pt", "cannot be read as a checkpoint: cut short")


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "nowhere.pt", "no file .*nowhere.pt")


class Malicious:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_a_file_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path):
    trace = tmp_path / "it_ran"
    torch.save({"encoder": Malicious(str(trace))}, tmp_path / "bad.pt")
    refused(tmp_path / "bad.pt", r"wants to run code \(posix.mkdir\)")
    assert not trace.exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert trace.exists()  # it would have run


def test_missing_and_unexpected_weights_are_named_as_in_the_file(tmp_path):
    prefix = "module.backbone."

    def rename(content):
        norm = content["target_encoder"].pop(f"{prefix}blocks.1.norm1.weight")
        content["target_encoder"][f"{prefix}blocks.1.extra.weight"] = norm

    words = r"1 missing \['blocks.1.norm1.weight'\], 1 unexpected \['blocks.1.extra.weight'\]"
    refused(changed("vjepa2", tmp_path, rename), words)


@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"])
def test_a_checkpoint_without_what_tells_its_size_is_refused(tmp_path, name):
    path = changed("vjepa2", tmp_path, lambda c: c["target_encoder"].pop(f"module.backbone.{name}"))
    refused(path, f"{name}( is missing)?")


def test_a_weight_of_another_shape_is_refused(tmp_path):
    def narrow(content):
        content["predictor"]["module.backbone.predictor_norm.weight"] = torch.ones(23)

    path = changed("vjepa2", tmp_path, narrow)
    refused(path, r"predictor_norm.weight is \(23,\), not \(24,\)")


def test_a_file_without_an_encoder_is_refused(tmp_path):
    def only_optimiser(content):
        for part in ("encoder", "target_encoder", "predictor"):
            del content[part]

    refused(changed("vjepa2", tmp_path, only_optimiser), r"holds no encoder; its keys are .*opt, ")
    refused(GOLDEN / "probe" / "checkpoint.pt", "holds no encoder; it holds probes: give it as")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds a list, not a checkpoint's dictionary")


def test_a_copy_of_the_encoder_that_is_not_there_is_refused():
    words = "holds no 'ema_encoder'; it has target_encoder, encoder"
    refused(checkpoint("vjepa2"), words, encoder_key="ema_encoder")


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("vjepa2", "num_heads"),
        ("vjepa2", "predictor_num_heads"),
        ("vjepa2_ac", "predictor_num_heads"),
    ],
)
def test_heads_that_nobody_knows_are_asked_for(family, key):
    words = rf"{key} cannot be read off .*; give it to jepa convert with --config config.json"
    refused(checkpoint(family), words, config=config_of(family, **{key: None}))


def test_levels_that_nobody_knows_are_asked_for(tmp_path):
    config = config_of("vjepa2_1", levels=[2, 5, 11])
    refused(checkpoint("vjepa2_1"), "levels cannot be read off", config=config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": 3}, "the config says depth=3, but the weights say 2"),
        ({"embed_dim": 50}, "the config says embed_dim=50, but the weights say 48"),
        ({"position": "rope-interleaved"}, "says position='rope-interleaved', but the weights say"),
        ({"num_mask_tokens": 2}, "the config says num_mask_tokens=2, but the weights say 10"),
        ({"num_heads": 5}, "dim=48 must be divisible by num_heads=5"),
        ({"num_heads": 8}, "head_dim must be even and at least 12, got 6"),
        ({"mask_index": 10}, "mask_token_index must be 0 to 9, got 10"),
    ],
)
def test_a_config_that_the_weights_contradict_is_refused(change, words):
    refused(checkpoint("vjepa2"), words, config=config_of("vjepa2", **change))


def test_positions_for_another_size_than_the_config_says_are_refused():
    words = "the config says img_size=64, but .* has positions for 48 pixels"
    refused(checkpoint("vjepa1"), words, config=config_of("vjepa1", img_size=64))


def test_a_video_that_the_patches_do_not_divide_is_refused(models):
    with pytest.raises(ValueError, match="height 50 is not a multiple of the tubelet's 16; use 48"):
        models["vjepa2"].encoder(torch.zeros(1, 3, 4, 50, 48))


def test_every_golden_config_is_read_whole_or_says_what_it_ignores():
    for family in FAMILIES:
        content = json.loads((GOLDEN / family / "config.json").read_text())
        config = OfficialConfig.read(GOLDEN / family / "config.json")
        assert {"seed", "note"} <= set(config.ignored) <= content.keys()
