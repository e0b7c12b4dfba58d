"""Both directions against transformers itself, with random weights that all matter."""

import functools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from jepa.checkpoints.huggingface import convert_huggingface, read_huggingface, write_huggingface
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.pixels import normalize_pixels
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

# Sizes of V-JEPA 2 in the words of transformers.
PREDICTOR = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 2}
SMALL = {"hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 8}
SMALL |= {"crop_size": 32, "frames_per_clip": 4, "pred_num_mask_tokens": 3, **PREDICTOR}
WIDE = SMALL | {"hidden_size": 96, "num_attention_heads": 3, "num_hidden_layers": 3}
WIDE |= {"mlp_ratio": 48 / 11, "pred_mlp_ratio": 4.36, "pred_hidden_size": 36}
OTHER = SMALL | {"patch_size": 6, "crop_size": 30, "frames_per_clip": 6, "tubelet_size": 3}
OTHER |= {"num_pooler_layers": 1, "pred_num_mask_tokens": 10, "pred_num_hidden_layers": 1}
SIZES = {"small": SMALL, "wide": WIDE, "other": OTHER}
every_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
IMAGES = {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2}
IMAGES |= {"intermediate_size": 209, "image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-6}
LABELS = ("fall", "rise", "turn", "wave", "wait")


def randomize(module, seed=0):
    """Makes every weight matter: also norms, biases and mask tokens."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def their_model(size=SMALL, *, seed=0):
    return randomize(transformers.VJEPA2Model(transformers.VJEPA2Config(**size)), seed)


def their_classifier(size=SMALL, *, labels=LABELS):
    config = transformers.VJEPA2Config(**size, id2label=dict(enumerate(labels)))
    return randomize(transformers.VJEPA2ForVideoClassification(config))


def their_image_model(cls=None, *, image_size=32, **options):
    config = transformers.IJepaConfig(**(IMAGES | {"image_size": image_size}))
    return randomize((cls or transformers.IJepaModel)(config, **options))


def our_model(size=SMALL, *, mask_token_index=1, probe_eps=None, has_predictor=True):
    """A model of ours of a size in the words of transformers."""
    torch.manual_seed(1)
    dim, heads = size["hidden_size"], size["num_attention_heads"]
    encoder = VideoEncoder(
        image_size=size["crop_size"],
        clip_length_frames=size["frames_per_clip"],
        patch_size=size["patch_size"],
        tubelet_size=size.get("tubelet_size", 2),
        dim=dim,
        depth=size["num_hidden_layers"],
        num_heads=heads,
        mlp_ratio=size.get("mlp_ratio", 4.0),
        positions="rope_tiled",
    )
    predictor = MaskedLatentPredictor(
        encoder_dim=dim,
        dim=size["pred_hidden_size"],
        depth=size["pred_num_hidden_layers"],
        num_heads=size["pred_num_attention_heads"],
        mlp_ratio=size.get("pred_mlp_ratio", 4.0),
        positions="rope_tiled",
        num_mask_tokens=size["pred_num_mask_tokens"],
        mask_token_index=mask_token_index,
    )
    probe = probe_eps and AttentiveProbe(
        dim=dim, num_classes={"label": 5}, num_heads=heads, depth=2, norm_eps=probe_eps
    )
    model = JepaModel(
        encoder, predictor=predictor if has_predictor else None, probe=probe, source="A test."
    )
    return randomize(model)


def our_image_model(**options):
    settings = {"image_size": 32, "patch_size": 8, "dim": 48, "depth": 2, "num_heads": 3}
    settings |= {"tubelet_size": 1, "clip_length_frames": 1, "positions": "sincos_2d"}
    encoder = VideoEncoder(**(settings | {"mlp_ratio": 209 / 48} | options))
    encoder.positions.table.add_(0.1)  # as if learned
    return randomize(JepaModel(encoder))


def saved(model, folder, **options):
    model.save_pretrained(folder, **options)
    return folder


def clip_for(config, *, frames=None, side=None, batch=2):
    """A random clip (batch, 3, time, height, width); transformers wants (batch, time, 3, ...)."""
    frames, side = frames or config.frames_per_clip, side or config.crop_size
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(2))


def difference(ours, theirs):
    """The largest difference, of the largest value."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max() / theirs.abs().max())


@torch.no_grad()
def their_tokens(model, clip):
    base = getattr(model, "vjepa2", model)
    return base.get_vision_features(clip.transpose(1, 2))


@torch.no_grad()
def their_prediction(model, clip, context_ids, target_ids, *, mask_index=None):
    """What `VJEPA2Model` predicts; only its embedding layer lets one choose the mask token."""
    embeddings = model.predictor.embeddings
    if mask_index is not None:
        embeddings.forward = functools.partial(type(embeddings).forward, embeddings,
                                               mask_index=mask_index)  # fmt: skip
    out = model(clip.transpose(1, 2), context_mask=[context_ids], target_mask=[target_ids])
    embeddings.__dict__.pop("forward", None)
    return out.predictor_output.last_hidden_state


@torch.no_grad()
def our_prediction(model, clip, context_ids, target_ids, *, mask_index=None):
    tokens = model.encoder(clip)  # transformers applies masks to the output only
    context = tokens.gather(1, context_ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    return model.predictor(
        context,
        context_ids=context_ids,
        target_ids=target_ids,
        grid=model.encoder.grid_of(tuple(clip.shape[2:])),
        mask_token_index=mask_index,
    )


def random_split(config, batch=2):
    """Ids of context and targets, in random order, of every sample its own."""
    side = config.crop_size // config.patch_size
    num_tokens = config.frames_per_clip // config.tubelet_size * side**2
    ids = torch.stack([torch.randperm(num_tokens) for _ in range(batch)])
    return ids[:, : num_tokens // 3], ids[:, num_tokens // 3 : -3]


def loaded_by_transformers(cls, folder):
    """Loads, and asserts that every weight came from the file and every weight went somewhere."""
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[problem], (problem, info[problem])
    return model.eval()


# Transformers to us.


@every_size
def test_tokens_are_those_of_transformers(size, tmp_path):
    theirs = their_model(size)
    ours = read_huggingface(saved(theirs, tmp_path))
    clip = clip_for(theirs.config)
    assert difference(ours(clip), their_tokens(theirs, clip)) < 1e-5
    assert not ours.training
    assert ours.probe is None


@every_size
def test_predictions_are_those_of_transformers_with_every_mask_token(size, tmp_path):
    theirs = their_model(size)
    ours = read_huggingface(saved(theirs, tmp_path))
    clip, split = clip_for(theirs.config), random_split(theirs.config)
    predictions = []
    for index in range(size["pred_num_mask_tokens"]):
        expected = their_prediction(theirs, clip, *split, mask_index=index)
        predictions.append(our_prediction(ours, clip, *split, mask_index=index))
        assert difference(predictions[-1], expected) < 1e-5
    assert difference(predictions[0], predictions[1]) > 1e-2  # the token matters


def test_transformers_asks_with_token_1_and_we_with_the_one_that_is_trained(tmp_path):
    theirs = their_model()
    with torch.no_grad():
        theirs.predictor.embeddings.mask_tokens[1:] = 0.0  # as in the released files
    ours, report = convert_huggingface(saved(theirs, tmp_path))
    assert any("1 of 3 look trained (0); using 0" in line for line in report)
    assert ours.predictor.config["mask_token_index"] == 0
    clip, split = clip_for(theirs.config), random_split(theirs.config)
    untold = their_prediction(theirs, clip, *split)
    assert difference(our_prediction(ours, clip, *split, mask_index=1), untold) < 1e-5
    trained = their_prediction(theirs, clip, *split, mask_index=0)
    assert difference(our_prediction(ours, clip, *split), trained) < 1e-5
    assert difference(trained, untold) > 1e-2


def test_if_only_another_mask_token_is_trained_it_is_the_one_that_we_use(tmp_path):
    theirs = their_model()
    with torch.no_grad():
        theirs.predictor.embeddings.mask_tokens[:2] = 0.0
    ours, _ = convert_huggingface(saved(theirs, tmp_path))
    assert ours.predictor.config["mask_token_index"] == ours.predictor.mask_token_index == 2


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_other_lengths_give_the_tokens_of_transformers(frames, tmp_path):
    theirs = their_model()
    ours = read_huggingface(saved(theirs, tmp_path))
    clip = clip_for(theirs.config, frames=frames)
    assert difference(ours(clip), their_tokens(theirs, clip)) < 1e-5


def test_at_another_resolution_ours_is_what_transformers_is_when_configured_for_it(tmp_path):
    theirs = their_model()
    ours = read_huggingface(saved(theirs, tmp_path))
    bigger = transformers.VJEPA2Model(transformers.VJEPA2Config(**(SMALL | {"crop_size": 48})))
    bigger.load_state_dict(theirs.state_dict())
    clip, split = clip_for(bigger.config), random_split(bigger.config)
    assert difference(ours(clip), their_tokens(bigger.eval(), clip)) < 1e-5
    predicted = our_prediction(ours, clip, *split, mask_index=1)
    assert difference(predicted, their_prediction(bigger, clip, *split)) < 1e-5
    assert difference(ours(clip), their_tokens(theirs, clip)) > 1e-2  # what the module's text says


@every_size
def test_logits_are_those_of_transformers(size, tmp_path):
    theirs = their_classifier(size)
    ours = read_huggingface(saved(theirs, tmp_path))
    clip = clip_for(theirs.config)
    with torch.no_grad():
        expected = theirs(clip.transpose(1, 2)).logits
        found = ours.classify(clip)
    assert list(found) == ["label"]
    assert difference(found["label"], expected) < 1e-5
    assert difference(ours(clip), their_tokens(theirs, clip)) < 1e-5
    split = random_split(theirs.config)
    predicted = our_prediction(ours, clip, *split, mask_index=1)
    assert difference(predicted, their_prediction(theirs.vjepa2, clip, *split)) < 1e-5


def test_the_probe_has_the_heads_eps_and_mlp_of_transformers_pooler(tmp_path):
    config = read_huggingface(saved(their_classifier(WIDE), tmp_path)).probe.config
    assert config == {
        "dim": 96,
        "num_classes": {"label": 5},
        "num_heads": 3,
        "depth": 4,
        "mlp_ratio": 4.0,  # also where the encoder has 48 / 11
        "norm_eps": 1e-6,
        "class_names": {"label": list(LABELS)},
    }


@pytest.mark.parametrize(
    "labels",
    [LABELS, [f"class {index}" for index in range(12)], ["Zug", "Ärger"], ["a", "b", "a", "a"]],
    ids=["five", "more_than_ten", "two", "repeated"],
)
def test_names_of_classes_are_kept_on_the_way_to_us_and_back(labels, tmp_path):
    saved(their_classifier(labels=labels), tmp_path / "theirs")
    ours = read_huggingface(tmp_path / "theirs")
    assert ours.probe.class_names == {"label": list(labels)}
    report = write_huggingface(ours, tmp_path / "back")
    before, after = (
        json.loads((tmp_path / place / "config.json").read_text())["id2label"]
        for place in ("theirs", "back")
    )
    assert before == after
    back = loaded_by_transformers(transformers.VJEPA2ForVideoClassification, tmp_path / "back")
    assert back.config.id2label == dict(enumerate(labels))
    assert back.config.label2id == {label: list(labels).index(label) for label in labels}
    assert any("class names" in line for line in report) == (len(set(labels)) < len(labels))


def test_the_top_class_is_the_one_that_transformers_names(tmp_path):
    theirs = their_classifier()
    ours = read_huggingface(saved(theirs, tmp_path))
    clip = clip_for(theirs.config, batch=3)
    with torch.no_grad():
        logits = theirs(clip.transpose(1, 2)).logits
    for row, found in zip(logits, ours.top_classes(clip, k=2), strict=True):
        best = [theirs.config.id2label[index] for index in row.topk(2).indices.tolist()]
        assert [name for name, _ in found["label"]] == best
        assert found["label"][0][1] == pytest.approx(row.softmax(-1).max().item(), abs=1e-5)


def test_the_report_says_how_many_names_of_classes_there_are(tmp_path):
    _, report = convert_huggingface(saved(their_classifier(), tmp_path))
    assert "class names: 5, 0 is 'fall'" in report


def test_two_classes_which_transformers_does_not_write_down_are_read(tmp_path):
    theirs = their_classifier(labels=("LABEL_0", "LABEL_1"))
    ours = read_huggingface(saved(theirs, tmp_path))
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())
    assert ours.probe.config["num_classes"] == {"label": 2}
    assert ours.probe.class_names is None


def test_shards_are_read_as_one_file_is(tmp_path):
    theirs = their_model()
    whole = read_huggingface(saved(theirs, tmp_path / "whole"))
    parts = saved(theirs, tmp_path / "parts", max_shard_size="100KB")
    assert len(list(parts.glob("model-*.safetensors"))) > 2
    assert not (parts / "model.safetensors").exists()
    assert same_weights(read_huggingface(parts), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_made_float32_and_said(dtype, tmp_path):
    theirs = their_model().to(dtype)
    ours, report = convert_huggingface(saved(theirs, tmp_path))
    name = str(dtype).removeprefix("torch.")
    assert f"weights: {name} in the file, converted to float32" in report
    clip = clip_for(theirs.config)
    assert difference(ours(clip), their_tokens(theirs.float(), clip)) < 1e-5


def test_settings_that_a_file_leaves_out_are_the_defaults_of_transformers(tmp_path):
    theirs = their_model()
    change_config(saved(theirs, tmp_path), tubelet_size=None, mlp_ratio=None, qkv_bias=None)
    clip = clip_for(theirs.config)
    assert difference(read_huggingface(tmp_path)(clip), their_tokens(theirs, clip)) < 1e-5


def test_the_source_is_told(tmp_path):
    model = read_huggingface(saved(their_model(), tmp_path / "vjepa2-tiny"))
    assert model.source == (
        "Converted from VJEPA2Model of Hugging Face's transformers: vjepa2-tiny."
    )


# I-JEPA.


@pytest.mark.parametrize("newer_names", [False, True])
@torch.no_grad()
def test_tokens_of_images_are_those_of_transformers(newer_names, tmp_path):
    theirs = their_image_model()
    ours = read_huggingface(saved(theirs, tmp_path, save_original_format=not newer_names))
    names = load_file(tmp_path / "model.safetensors").keys()
    assert any(name.startswith("layers.") for name in names) == newer_names
    images = torch.randn(2, 3, 32, 32)
    assert difference(ours(images.unsqueeze(2)), theirs(images).last_hidden_state) < 1e-5
    assert torch.equal(ours.encoder.positions.table, theirs.embeddings.position_embeddings[0])


@pytest.mark.parametrize("size", [(48, 48), (16, 16), (24, 40), (64, 16)])
@torch.no_grad()
def test_positions_of_images_are_interpolated_as_transformers_does(size, tmp_path):
    theirs = their_image_model()
    ours = read_huggingface(saved(theirs, tmp_path))
    images = torch.randn(2, 3, *size)
    expected = theirs(images, interpolate_pos_encoding=True).last_hidden_state
    assert difference(ours(images.unsqueeze(2)), expected) < 1e-5


@torch.no_grad()
def test_what_is_not_of_the_image_encoder_is_dropped_and_named(tmp_path, caplog):
    theirs = their_image_model(add_pooling_layer=True, use_mask_token=True)
    saved(theirs, tmp_path)
    _, report = convert_huggingface(tmp_path)
    dropped = [line for line in report if line.startswith("dropped")]
    assert len(dropped) == 3
    ours = read_huggingface(tmp_path)
    for name in ("pooler.dense.weight (48, 48)", "pooler.dense.bias", "embeddings.mask_token"):
        assert any(name in line for line in dropped)
        assert name in caplog.text
    images = torch.randn(1, 3, 32, 32)
    assert difference(ours(images.unsqueeze(2)), theirs(images).last_hidden_state) < 1e-5


@pytest.mark.parametrize("newer_names", [False, True])
@torch.no_grad()
def test_of_an_image_classifier_the_encoder_is_read_and_the_head_named(newer_names, tmp_path):
    theirs = their_image_model(transformers.IJepaForImageClassification)
    saved(theirs, tmp_path, save_original_format=not newer_names)
    ours, report = convert_huggingface(tmp_path)
    assert "dropped: classifier.weight (2, 48), not of the encoder" in report
    images = torch.randn(1, 3, 32, 32)
    expected = theirs.ijepa(images).last_hidden_state
    assert difference(ours(images.unsqueeze(2)), expected) < 1e-5
    assert ours.probe is None


# Us to transformers.


@every_size
def test_transformers_loads_what_we_write_and_computes_the_same(size, tmp_path):
    ours = our_model(size)
    write_huggingface(ours, tmp_path)
    theirs = loaded_by_transformers(transformers.VJEPA2Model, tmp_path)
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    clip, split = clip_for(theirs.config), random_split(theirs.config)
    with torch.no_grad():
        assert difference(ours(clip), their_tokens(theirs, clip)) < 1e-5
    expected = their_prediction(theirs, clip, *split)
    assert difference(our_prediction(ours, clip, *split), expected) < 1e-5
    assert isinstance(transformers.AutoModel.from_pretrained(tmp_path), transformers.VJEPA2Model)


def test_transformers_loads_a_probe_as_a_classifier(tmp_path):
    ours = our_model(probe_eps=1e-6)
    write_huggingface(ours, tmp_path)
    theirs = loaded_by_transformers(transformers.VJEPA2ForVideoClassification, tmp_path)
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    clip = clip_for(theirs.config)
    with torch.no_grad():
        expected = theirs(clip.transpose(1, 2)).logits
        assert difference(ours.classify(clip)["label"], expected) < 1e-5


def test_logits_of_a_released_eps_differ_a_little_and_for_that_reason_only(tmp_path):
    ours = our_model(probe_eps=1e-5)
    report = write_huggingface(ours, tmp_path)
    assert any("eps 1e-05" in line and "by a few 1e-5" in line for line in report)
    theirs = loaded_by_transformers(transformers.VJEPA2ForVideoClassification, tmp_path)
    clip = clip_for(theirs.config)
    with torch.no_grad():
        logits = ours.classify(clip)["label"]
        as_written = difference(logits, theirs(clip.transpose(1, 2)).logits)
        for module in theirs.pooler.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-5
        with_our_eps = difference(logits, theirs(clip.transpose(1, 2)).logits)
    assert with_our_eps < 1e-6
    assert 3 * with_our_eps < as_written < 1e-3


@torch.no_grad()
def test_transformers_loads_our_image_encoder(tmp_path):
    ours = our_image_model()
    write_huggingface(ours, tmp_path)
    theirs = loaded_by_transformers(transformers.IJepaModel, tmp_path)
    for size in ((32, 32), (48, 24)):
        images = torch.randn(2, 3, *size)
        expected = theirs(images, interpolate_pos_encoding=True).last_hidden_state
        assert difference(ours(images.unsqueeze(2)), expected) < 1e-5


@torch.no_grad()
def test_the_predictor_of_an_image_encoder_is_dropped_and_named(tmp_path):
    model = our_image_model()
    model.predictor = MaskedLatentPredictor(
        encoder_dim=48, dim=24, depth=1, num_heads=2, positions="sincos_2d", grid=(1, 4, 4)
    )
    assert "dropped: the predictor" in "".join(write_huggingface(model, tmp_path))
    loaded_by_transformers(transformers.IJepaModel, tmp_path)


@torch.no_grad()
def test_a_model_without_predictor_is_written_with_one_that_predicts_zero(tmp_path):
    ours = our_model(has_predictor=False)
    report = write_huggingface(ours, tmp_path)
    assert any("predictor: untrained" in line for line in report)
    assert "predictor: untrained" in (tmp_path / "README.md").read_text()
    theirs = loaded_by_transformers(transformers.VJEPA2Model, tmp_path)
    clip = clip_for(theirs.config)
    out = theirs(clip.transpose(1, 2))
    assert difference(ours(clip), out.last_hidden_state) < 1e-5
    assert not out.predictor_output.last_hidden_state.any()
    again, report = convert_huggingface(tmp_path)
    assert again.predictor is None
    assert same_weights(again, ours)
    assert "predictor: none, the folder holds zeros in its place" in report


@pytest.mark.parametrize(("num_tokens", "index", "differs"), [(3, 0, True), (3, 1, False),
                                                              (1, 0, False)])  # fmt: skip
def test_the_report_says_if_transformers_will_ask_with_another_mask_token(
    num_tokens, index, differs, tmp_path
):
    size = SMALL | {"pred_num_mask_tokens": num_tokens}
    report = write_huggingface(our_model(size, mask_token_index=index), tmp_path)
    assert any("asks with mask token 1, this model with 0" in line for line in report) == differs


def test_every_setting_that_transformers_writes_is_written(tmp_path):
    for ours, theirs in (
        (our_model(), their_model()),
        (our_model(probe_eps=1e-6), their_classifier()),
        (our_image_model(), their_image_model()),
    ):
        write_huggingface(ours, tmp_path / "ours")
        saved(theirs, tmp_path / "theirs")
        found, wanted = (
            json.loads((tmp_path / place / "config.json").read_text())
            for place in ("ours", "theirs")
        )
        assert wanted.keys() - found.keys() == {"transformers_version"}
        assert found["architectures"] == wanted["architectures"]
        assert found["dtype"] == "float32"


@pytest.mark.parametrize(("dim", "hidden"), [(28, 61), (44, 49), (96, 419), (48, 100)])
def test_hidden_widths_are_kept_where_transformers_cuts_and_we_round(dim, hidden, tmp_path):
    size = SMALL | {"hidden_size": dim, "mlp_ratio": hidden / dim}
    model = our_model(size, has_predictor=False)
    assert model.encoder.transformer.blocks[0].mlp[0].out_features == hidden
    write_huggingface(model, tmp_path)
    theirs = loaded_by_transformers(transformers.VJEPA2Model, tmp_path)  # int(28 * (61 / 28)) is 60
    assert theirs.encoder.layer[0].mlp.fc1.out_features == hidden
    assert same_weights(read_huggingface(tmp_path), model)


@pytest.mark.parametrize("make", [their_model, their_classifier, their_image_model])
def test_transformers_to_us_and_back_is_bit_by_bit_the_same(make, tmp_path):
    saved(make(), tmp_path / "theirs")
    write_huggingface(read_huggingface(tmp_path / "theirs"), tmp_path / "back")
    before, after = (
        load_file(tmp_path / place / "model.safetensors") for place in ("theirs", "back")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_us_to_transformers_and_back_is_the_same_model(tmp_path):
    for number, ours in enumerate((our_model(WIDE, probe_eps=1e-6), our_image_model())):
        write_huggingface(ours, tmp_path / str(number))
        back = read_huggingface(tmp_path / str(number))
        assert same_weights(back, ours)
        width = ours.encoder.transformer.blocks[0].mlp[0].out_features / ours.encoder.dim
        assert back.encoder.config == ours.encoder.config | {"mlp_ratio": width}


def test_writing_leaves_the_files_that_transformers_knows_and_their_hashes(tmp_path):
    write_huggingface(our_model(), tmp_path)
    write_huggingface(our_model(), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    processor = "video_preprocessor_config.json"
    assert names == ["README.md", "config.json", "model.safetensors", "sha256.json", processor]
    assert "A test." in (tmp_path / "README.md").read_text()


def test_the_video_processor_is_the_released_one_and_gives_our_pixels(tmp_path):
    write_huggingface(our_model(), tmp_path)
    processor = transformers.AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(processor).__name__ == "VJEPA2VideoProcessor"
    released = transformers.VJEPA2VideoProcessor(crop_size={"height": 32, "width": 32})
    released.save_pretrained(tmp_path / "released")
    name = "video_preprocessor_config.json"
    found, wanted = (json.loads((p / name).read_text()) for p in (tmp_path, tmp_path / "released"))
    assert found | {"return_metadata": False} == wanted  # with the size that crop_size implies
    colours = torch.tensor([10, 100, 250], dtype=torch.uint8).view(3, 1, 1, 1)
    video = colours.expand(3, 4, 40, 40)
    pixels = processor(video.transpose(0, 1), return_tensors="pt").pixel_values_videos[0]
    expected = normalize_pixels(video[None, :, :, :32, :32])[0]
    assert torch.allclose(pixels.transpose(0, 1), expected, atol=1e-5)


def test_the_image_processor_gives_our_pixels(tmp_path):
    write_huggingface(our_image_model(), tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    colours = torch.tensor([10, 100, 250], dtype=torch.uint8).view(3, 1, 1)
    image = colours.expand(3, 50, 40)
    pixels = processor(image, return_tensors="pt").pixel_values
    expected = normalize_pixels(image[None, :, None, :32, :32])[:, :, 0]
    assert torch.allclose(pixels, expected, atol=1e-5)


# What is not read.


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory):
    """config.json and weights of a random model, for the tests that break them."""
    folder = saved(their_model(), tmp_path_factory.mktemp("tiny"))
    return (folder / "config.json").read_text(), load_file(folder / "model.safetensors")


@pytest.fixture
def tiny(tiny_files, tmp_path):
    config, weights = tiny_files
    (tmp_path / "config.json").write_text(config)
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config |= changes
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def not_read(folder, words, error=ValueError):
    with pytest.raises(error, match=words) as caught:
        read_huggingface(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, "has model_type 'llama'; known are vjepa2, ijepa"),
        ({"model_type": None}, "has model_type None; known are vjepa2, ijepa"),
        ({"architectures": ["VJEPA2ForPreTraining"]}, "known are VJEPA2Model, VJEPA2ForVideo"),
        ({"architectures": ["VJEPA2ForVideoClassification"]}, "holds the weights of a bare model"),
        ({"qkv_bias": False}, "config.json: qkv_bias=False is not supported, True is"),
        ({"hidden_act": "gelu_new"}, "hidden_act='gelu_new' is not supported, 'gelu' is"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps=1e-05 is not supported, 1e-06 is"),
        ({"in_chans": 4}, "in_chans=4 is not supported, 3 is"),
        ({"quantization_config": {"bits": 8}}, "quantized weights are not supported"),
        ({"patch_size": [8, 16]}, r"patch_size=\[8, 16\] is not square"),
        ({"crop_size": [32, 64]}, r"crop_size=\[32, 64\] is not square"),
        ({"crop_size": 36}, "config.json: video height 36 is not a multiple"),
        ({"num_attention_heads": 5}, "config.json: dim=48 must be divisible by num_heads=5"),
        ({"hidden_size": "large"}, "config.json: hidden_size must be a whole number from 1"),
        ({"patch_size": 0}, "config.json: patch_size must be a whole number from 1"),
        ({"mlp_ratio": "4"}, "config.json: mlp_ratio must be a number above 0"),
        ({"pred_mlp_ratio": [4]}, "config.json: pred_mlp_ratio must be a number above 0"),
        ({"tubelet_size": -2}, "config.json: tubelet_size must be a whole number from 1"),
        ({"num_attention_heads": 1.5}, "config.json: num_attention_heads must be a whole number"),
        ({"num_hidden_layers": 3}, "says num_hidden_layers=3, .*model.safetensors holds 2"),
        ({"pred_num_hidden_layers": 1}, "says pred_num_hidden_layers=1, .* holds 2"),
        ({"pred_num_hidden_layers": 0}, "a predictor without layers is not supported"),
        (
            {"pred_num_mask_tokens": 4},
            r"predictor.embeddings.mask_tokens is \(3, 1, 1, 24\) of torch.float32, "
            r"not \(4, 1, 1, 24\)",
        ),
        (
            {"mlp_ratio": 3},
            r"encoder.layer.0.mlp.fc1.weight is \(192, 48\) of torch.float32, not \(144, 48\)",
        ),
    ],
)
def test_settings_that_are_not_ours_or_not_the_weights_are_refused(changes, words, tiny):
    change_config(tiny, **changes)
    not_read(tiny, words)


def test_classes_that_do_not_fit_the_classifier_are_refused(tmp_path):
    saved(their_classifier(), tmp_path)
    change_config(tmp_path, id2label={"0": "a", "1": "b"})
    not_read(tmp_path, r"classifier.weight is \(5, 48\) of torch.float32, not \(2, 48\)")
    change_config(tmp_path, id2label=None, num_pooler_layers=2)
    not_read(tmp_path, r"16 unexpected \['pooler.self_attention_layers.2.layer_norm1.bias'")
    change_config(tmp_path, architectures=["VJEPA2Model"])
    not_read(tmp_path, "says VJEPA2Model, but .* holds the weights of a classifier")


def test_a_missing_weight_has_the_name_that_it_has_in_the_file(tiny):
    change_weights(tiny, lambda weights: weights.pop("encoder.layer.1.attention.key.bias"))
    not_read(tiny, r"1 missing \['encoder.layer.1.attention.key.bias'\]$")


def test_a_missing_weight_of_a_classifier_has_its_prefix(tmp_path):
    saved(their_classifier(), tmp_path)
    change_weights(tmp_path, lambda weights: weights.pop("vjepa2.encoder.layernorm.bias"))
    not_read(tmp_path, r"1 missing \['vjepa2.encoder.layernorm.bias'\]$")
    change_weights(
        tmp_path, lambda weights: weights.update({"encoder.layernorm.bias": torch.ones(48)})
    )
    not_read(tmp_path, r"1 missing \['vjepa2.+'\], 1 unexpected \['encoder.layernorm.bias'\]$")


def test_a_missing_weight_of_a_pooler_has_no_prefix(tmp_path):
    saved(their_classifier(), tmp_path)
    change_weights(tmp_path, lambda weights: weights.pop("pooler.query_tokens"))
    not_read(tmp_path, r"1 missing \['pooler.query_tokens'\]$")


def test_missing_mask_tokens_are_refused(tiny):
    change_weights(tiny, lambda weights: weights.pop("predictor.embeddings.mask_tokens"))
    not_read(tiny, r"1 missing \['predictor.embeddings.mask_tokens'\]$")


def test_an_unexpected_weight_is_refused(tiny):
    change_weights(tiny, lambda weights: weights.update(extra=torch.zeros(2)))
    not_read(tiny, r"model.safetensors does not fit config.json: 1 unexpected \['extra'\]$")


def test_weights_that_are_no_floats_are_refused(tiny):
    name = "encoder.layernorm.bias"
    change_weights(tiny, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    not_read(tiny, r"encoder.layernorm.bias is \(48,\) of torch.int8, not \(48,\) of floats")


def test_a_folder_without_config_is_refused(tmp_path):
    not_read(tmp_path, "config.json", error=FileNotFoundError)


@pytest.mark.parametrize("setting", [{"layer_norm_eps": 1e-12}, {"layer_norm_eps": None}])
def test_image_models_of_another_eps_are_refused_also_if_it_is_the_default(setting, tmp_path):
    saved(their_image_model(), tmp_path)
    change_config(tmp_path, **setting)
    not_read(tmp_path, "layer_norm_eps=1e-12 is not supported, 1e-06 is")


def same_weights(one, two):
    left, right = one.state_dict(), two.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )
