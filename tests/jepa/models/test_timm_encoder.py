import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from jepa.models.timm_encoder import TimmEncoder, TimmSpec, timm_encoder_from

VIT, CONV = "test_vit", "test_resnet"  # tiny: patches of 16 pixels; a stride of 32


@pytest.fixture
def make_encoder():
    """Makes an encoder with random weights."""

    def make(name=VIT, image_size=48, **options):
        torch.manual_seed(0)
        return TimmEncoder(name=name, image_size=image_size, **options)

    return make


@pytest.fixture
def weights():
    """What timm would publish: the whole model, made for 160 pixels, with its classifier."""
    torch.manual_seed(3)
    return timm.create_model(VIT).state_dict()


def pixels(*size):
    return torch.randint(0, 256, size, dtype=torch.uint8)


# Tokens.

SEQUENCES = [  # name, image size, class and register tokens
    (VIT, 48, 1),
    ("vit_small_patch14_reg4_dinov2", 28, 5),
    ("vit_small_patch16_dinov3", 48, 5),
    ("gmlp_s16_224", 48, 0),
]
MAPS = [  # name, image size, where features hold (row, column)
    (CONV, 96, lambda features, row, column: features[0, :, row, column]),
    ("swin_tiny_patch4_window7_224", 64, lambda features, row, column: features[0, row, column]),
    ("mambaout_femto", 64, lambda features, row, column: features[0, row, column]),
]


def test_layers_are_normed_and_the_last_one_is_the_output(make_encoder):
    encoder = make_encoder(VIT, 48)
    frames = pixels(2, 3, 2, 48, 48)
    depth = len(encoder.model.blocks)
    first, last = encoder.frame_layers(frames, (0, depth - 1))
    torch.testing.assert_close(last, encoder.encode_frames(frames))
    assert first.shape == last.shape and not torch.allclose(first, last)


def test_layers_that_are_not_there_are_refused(make_encoder):
    with pytest.raises(ValueError, match="ascending block indices from 0 to"):
        make_encoder(VIT, 48).frame_layers(pixels(1, 3, 1, 48, 48), (99,))
    with pytest.raises(ValueError, match="test_resnet has no blocks of one width"):
        make_encoder(CONV, 96).frame_layers(pixels(1, 3, 1, 96, 96), (0,))


@pytest.mark.parametrize(("name", "size", "num_prefix"), SEQUENCES)
def test_tokens_are_timms_features_without_class_and_registers(
    name, size, num_prefix, make_encoder
):
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    encoder = make_encoder(name, size)
    image = torch.randn(1, 3, size, size)
    with torch.no_grad():
        features = encoder.model.forward_features(image)
    tokens = encoder.encode_frames(image.unsqueeze(2))
    assert torch.equal(tokens[0], features[:, num_prefix:])
    assert tokens.shape[2] == encoder.grid[1] * encoder.grid[2]


@pytest.mark.parametrize(("name", "size", "feature_at"), MAPS)
def test_maps_become_tokens_row_by_row(name, size, feature_at, make_encoder):
    encoder = make_encoder(name, size)
    image = torch.randn(1, 3, size, size)
    with torch.no_grad():
        features = encoder.model.forward_features(image)
    _, rows, columns = encoder.grid
    by_hand = [
        feature_at(features, row, column) for row in range(rows) for column in range(columns)
    ]
    assert torch.equal(encoder.encode_frames(image.unsqueeze(2))[0, 0], torch.stack(by_hand))


def test_a_patch_of_pixels_is_the_token_of_its_row_and_column(make_encoder):
    """Without blocks, a token knows its own patch only."""
    encoder = make_encoder()
    encoder.model.blocks = nn.Identity()
    frame = pixels(1, 3, 1, 48, 48)
    changed = frame.clone()
    changed[..., 16:32, 32:48] ^= 255  # row 1, column 2
    differs = (encoder.encode_frames(frame) != encoder.encode_frames(changed)).any(-1)
    assert differs[0, 0].nonzero().flatten().tolist() == [1 * 3 + 2]


@pytest.mark.parametrize(("name", "size"), [(VIT, 48), (CONV, 64)])
def test_a_batch_is_encoded_as_its_frames_one_by_one(name, size, make_encoder):
    encoder, frames = make_encoder(name, size), pixels(2, 3, 3, size, size)
    tokens = encoder.encode_frames(frames)
    for clip, clip_tokens in zip(frames, tokens, strict=True):
        for time in range(3):
            alone = encoder.encode_frames(clip[None, :, time : time + 1])[0, 0]
            torch.testing.assert_close(clip_tokens[time], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(tokens[0, 0], tokens[0, 1], atol=1e-3)


# Pixels.


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        (VIT, 48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("vit_small_patch14_dinov2.lvd142m", 28, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("eva02_tiny_patch14_224", 28, (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),  # CLIP
    ],
)
def test_bytes_are_normalised_with_the_models_own_statistics(name, size, mean, std, make_encoder):
    encoder, seen = make_encoder(name, size), []
    encoder.model.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frame = torch.zeros(1, 3, 1, size, size, dtype=torch.uint8)
    frame[:, 1], frame[:, 2] = 51, 255
    encoder.encode_frames(frame)
    expected = [(value - m) / s for value, m, s in zip((0, 0.2, 1), mean, std, strict=True)]
    assert seen[0].amin((0, 2, 3)).tolist() == pytest.approx(expected, abs=1e-3)
    assert seen[0].amax((0, 2, 3)).tolist() == pytest.approx(expected, abs=1e-3)


def test_floats_are_taken_as_normalised(make_encoder):
    encoder, frames = make_encoder(), pixels(1, 3, 2, 48, 48)
    by_hand = (frames / 255 - 0.5) / 0.5
    torch.testing.assert_close(encoder.encode_frames(by_hand), encoder.encode_frames(frames))


# Frozen.


@pytest.mark.parametrize(("name", "size"), [(VIT, 48), (CONV, 64)])
def test_it_stays_in_evaluation_mode_when_the_module_around_it_trains(name, size, make_encoder):
    encoder, frames = make_encoder(name, size), pixels(2, 3, 2, size, size)
    assert not any(module.training for module in encoder.modules())
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    before = encoder.encode_frames(frames)
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    around = nn.Sequential(encoder).train()
    assert around.training
    assert torch.equal(encoder.encode_frames(frames), before)
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in state.items())


def test_no_gradient_comes_out_of_it(make_encoder):
    encoder = make_encoder()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    frames = torch.randn(1, 3, 1, 48, 48, requires_grad=True)
    assert not encoder.encode_frames(frames).requires_grad


# Sizes.


@pytest.mark.parametrize(
    ("name", "size", "side", "stride", "dim"),
    [
        (VIT, 48, 3, 16, 64),
        (VIT, None, 10, 16, 64),
        ("vit_small_patch14_reg4_dinov2", 28, 2, 14, 384),
        (CONV, 96, 3, 32, 96),
        (CONV, None, 5, 32, 96),
        ("swin_tiny_patch4_window7_224", 64, 2, 32, 768),
    ],
)
def test_the_grid_times_the_tubelet_is_the_image(name, size, side, stride, dim, make_encoder):
    encoder = make_encoder(name, size)
    assert (encoder.grid, encoder.tubelet) == ((1, side, side), (1, stride, stride))
    assert encoder.config["image_size"] == side * stride
    assert encoder.dim == dim


def test_a_conv_net_takes_other_frames_that_its_stride_divides(make_encoder):
    encoder, image = make_encoder(CONV, 64), torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        features = encoder.model.forward_features(image)  # (1, dim, 3, 2)
    tokens = encoder.encode_frames(image.unsqueeze(2))
    assert torch.equal(tokens[0, 0, 1 * 2 + 1], features[0, :, 1, 1])
    with pytest.raises(ValueError, match="takes frames of multiples of 32 pixels, got 80 x 64"):
        encoder.encode_frames(pixels(1, 3, 1, 80, 64))


def test_the_config_makes_the_same_architecture_again(make_encoder):
    encoder, frames = make_encoder(), pixels(1, 3, 1, 48, 48)
    again = TimmEncoder(**json.loads(json.dumps(encoder.config)))
    assert not torch.equal(again.encode_frames(frames), encoder.encode_frames(frames))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.encode_frames(frames), encoder.encode_frames(frames))


# Weights of a file.


@pytest.mark.parametrize("kind", [".safetensors", ".pth"])
def test_weights_of_a_file_are_loaded_without_their_classifier(kind, weights, tmp_path):
    file = tmp_path / f"weights{kind}"
    save_file(weights, file) if kind == ".safetensors" else torch.save(weights, file)
    encoder = timm_encoder_from(f"timm:{VIT}@160:{file}")
    assert "head.weight" in weights
    expected = {key: value for key, value in weights.items() if not key.startswith("head.")}
    state = encoder.model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert "state_dict" not in encoder.model.pretrained_cfg


def test_positions_of_a_file_are_interpolated_to_another_size(weights, tmp_path, make_encoder):
    embedding = torch.arange(10.0).repeat_interleave(10).view(1, 100, 1)  # every token its row
    weights["pos_embed"] = torch.cat((torch.zeros(1, 1, 64), embedding.expand(1, 100, 64)), dim=1)
    save_file(weights, tmp_path / "w.safetensors")
    encoder = make_encoder(VIT, 80, pretrained=tmp_path / "w.safetensors")
    rows = encoder.model.pos_embed[0, 1:, 0].view(5, 5)
    assert torch.allclose(rows, rows[:, :1])
    assert rows[:, 0].tolist() == pytest.approx([0.5, 2.5, 4.5, 6.5, 8.5], abs=0.1)
    assert torch.equal(encoder.model.patch_embed.proj.weight, weights["patch_embed.proj.weight"])


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_refused(fault, weights, tmp_path, make_encoder):
    """timm itself forgives missing weights, and leaves them random."""
    name = "blocks.2.mlp.fc1.weight"
    if fault == "missing":
        del weights[name]
    elif fault == "unexpected":
        name = "blocks.99.mlp.fc1.weight"
        weights[name] = torch.zeros(2)
    else:
        weights[name] = torch.zeros(2)
    save_file(weights, tmp_path / "w.safetensors")
    message = rf"w\.safetensors does not fit '{VIT}': .*{name}"
    with pytest.raises(ValueError, match=message) as error:
        make_encoder(pretrained=tmp_path / "w.safetensors")
    assert "\n" not in str(error.value)


def test_a_file_that_could_run_code_is_refused(tmp_path, make_encoder):
    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"w": Touch()}, protocol=2))
    with pytest.raises(ValueError, match=r"w\.pth wants to run code"):
        make_encoder(pretrained=tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_files_without_weights_are_refused(weights, tmp_path, make_encoder):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="something else than the weights of a model"):
        make_encoder(pretrained=tmp_path / "w.pth")
    save_file({"head.weight": weights["head.weight"]}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="holds no weights of 'test_vit'"):
        make_encoder(pretrained=tmp_path / "w.safetensors")
    (tmp_path / "w.npz").touch()
    with pytest.raises(ValueError, match=r"must be one of \.safetensors, .* got .*w\.npz"):
        make_encoder(pretrained=tmp_path / "w.npz")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere\.pth"):
        make_encoder(pretrained=tmp_path / "nowhere.pth")


# What is refused.


def test_weights_that_cannot_be_downloaded_are_one_clear_line(monkeypatch, make_encoder):
    def offline(name, *, pretrained, **options):
        assert (name, pretrained) == ("vit_tiny_patch16_224.augreg_in21k", True)
        raise OSError("no connection\nand so on")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        OSError, match=r"the weights of 'vit_tiny.*' could not be downloaded: ch"
    ) as e:
        make_encoder("vit_tiny_patch16_224.augreg_in21k", 64, pretrained=True)
    assert "timm:vit_tiny_patch16_224.augreg_in21k@64:FILE (no connection)" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_model_without_published_weights_is_refused(make_encoder):
    with pytest.raises(ValueError, match="timm has no weights for 'test_vit4': give a file"):
        make_encoder("test_vit4", pretrained=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "vit_smal_patch14_dinov2",
            "no model 'vit_smal_patch14_dinov2'; did you mean vit_small_pat",
        ),
        ("qqqqqq", "timm has no model 'qqqqqq'; timm.list_models"),
        ("vit_small_patch14_dinov2.lvd142", r"no weights '.*'; did you mean .*dinov2\.lvd142m\?"),
        ("pit_ti_224", "no grid of tokens: its features are one token of the image"),
        ("coat_tiny", "coat_tiny has no grid of tokens: its features are list, not"),
        ("volo_d1_224", "no square grid of tokens: its features hold 197"),
        ("resnet10t", r"176 into 6 x 6 tokens of 32 pixels.*; use 160 or 192"),
    ],
)
def test_models_that_it_cannot_use_are_refused(name, message, make_encoder):
    with pytest.raises(ValueError, match=message):
        make_encoder(name, None)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (VIT, 60, r"test_vit, made for 160 pixels, cannot take image_size=60: .*divisible"),
        (CONV, 80, r"image_size=80 into 3 x 3 tokens of 32 pixels, which do not .* use 64 or 96"),
        ("efficientformer_l1", 96, "made for 224 pixels, cannot take image_size=96"),
        (VIT, 0, "image_size must be at least 1 pixel, got 0"),
    ],
)
def test_sizes_that_a_model_cannot_take_are_refused(name, size, message, make_encoder):
    with pytest.raises(ValueError, match=message):
        make_encoder(name, size)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (pixels(1, 3, 1, 64, 64), "made for frames of 48 x 48 pixels, got 64 x 64; resize them"),
        (pixels(1, 3, 48, 48), r"must be \(batch, 3, time, height, width\), got \(1, 3, 48, 48\)"),
        (pixels(1, 1, 3, 48, 48), r"must be \(batch, 3, time, .* got \(1, 1, 3, 48, 48\)"),
        (torch.zeros(1, 3, 1, 48, 48, dtype=torch.int64), r"must be uint8 .* got torch\.int64"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames, message, make_encoder):
    with pytest.raises(ValueError, match=message):
        make_encoder().encode_frames(frames)


# Specs.


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("timm:a_b.c", ("a_b.c", None, None)),
        ("timm:a@224", ("a", 224, None)),
        ("timm:a@96:/x/y@2:z.pth", ("a", 96, Path("/x/y@2:z.pth"))),
        ("timm:a:/x.safetensors", ("a", None, Path("/x.safetensors"))),
    ],
)
def test_a_spec_says_name_size_and_file(spec, parsed):
    assert TimmSpec.parse(spec) == parsed
    assert str(TimmSpec.parse(spec)) == spec


def test_a_relative_file_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TimmSpec.parse("timm:a@64:w.pth").weights_file == tmp_path.resolve() / "w.pth"


@pytest.mark.parametrize(
    "spec",
    ["timm:", "timm:@224", "timm:a@", "timm:a@big", "timm:a@0", "timm:a@-1", "timm:a@2:", "a@224"],
)
def test_a_spec_that_says_nothing_is_refused(spec):
    with pytest.raises(ValueError, match=r"is timm:NAME, timm:NAME@SIZE or .*, as in .*; got '"):
        TimmSpec.parse(spec)


@pytest.mark.parametrize("content", [b"these are words, not weights", b"", b"\x80\x02}q\x00."])
def test_a_file_that_torch_did_not_write_is_one_clear_line(content, tmp_path, make_encoder):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth ") as caught:
        make_encoder(pretrained=tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["state_dict", "model_ema"])
def test_weights_are_found_where_timm_looks_for_them(place, weights, tmp_path):
    inside = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"epoch": 3, "model": {"no": torch.zeros(1)}, place: inside}, tmp_path / "w.pth")
    encoder = timm_encoder_from(f"timm:{VIT}@160:{tmp_path / 'w.pth'}")
    assert torch.equal(encoder.model.patch_embed.proj.weight, weights["patch_embed.proj.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": 5}, "the name of a model of timm must be a string, got 5"),
        ({"name": VIT, "image_size": "48"}, "image_size must be a whole number of pixels, got '48"),
    ],
)
def test_settings_of_a_wrong_kind_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TimmEncoder(**settings)


def test_pixels_go_into_an_encoder_of_half_precision(make_encoder):
    frames = pixels(1, 3, 2, 48, 48)
    encoder = make_encoder()
    expected = encoder.encode_frames(frames)
    tokens = encoder.bfloat16().encode_frames(frames)
    assert tokens.dtype == torch.bfloat16
    torch.testing.assert_close(tokens.float(), expected, atol=0.15, rtol=0.1)
