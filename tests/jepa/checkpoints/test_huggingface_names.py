"""Names of weights, both ways, without transformers; test_huggingface.py compares with it."""

import pytest
import torch

from jepa.checkpoints.huggingface_names import (
    LAYOUTS,
    from_huggingface,
    older_name,
    to_huggingface,
)
from jepa.models.jepa_model import JepaModel
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor


@pytest.fixture
def make_model(make_encoder):
    """Makes a model that fits a layout."""

    def make(architecture):
        if architecture.startswith("IJepa"):
            options = {"positions": "sincos_2d", "tubelet_size": 1, "clip_length_frames": 1}
            return JepaModel(make_encoder(**options))
        predictor = MaskedLatentPredictor(
            encoder_dim=48, dim=24, depth=2, num_heads=2, positions="rope_tiled"
        )
        probe = AttentiveProbe(dim=48, num_classes={"label": 5}, num_heads=4, depth=3)
        model = JepaModel(make_encoder(positions="rope_tiled"), predictor=predictor)
        model.probe = probe if architecture == "VJEPA2ForVideoClassification" else None
        return model

    return make


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_weights_come_back_bit_by_bit_from_the_names_of_every_class(architecture, make_model):
    state, layout = make_model(architecture).state_dict(), LAYOUTS[architecture]
    theirs = to_huggingface(state, layout)
    assert sum(value.numel() for value in theirs.values()) == sum(
        value.numel() for value in state.values()
    )
    back = from_huggingface(theirs, state, layout)
    assert theirs == {}  # so that memory is not held twice
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_queries_keys_and_values_are_thirds_in_this_order(make_model):
    state = make_model("VJEPA2Model").state_dict()
    theirs = to_huggingface(state, LAYOUTS["VJEPA2Model"])
    joined = state["encoder.transformer.blocks.1.attn.qkv.weight"]
    for index, part in enumerate(("query", "key", "value")):
        found = theirs[f"encoder.layer.1.attention.{part}.weight"]
        assert torch.equal(found, joined[48 * index : 48 * (index + 1)])


def test_in_a_classifier_only_pooler_and_classifier_have_no_prefix(make_model):
    architecture = "VJEPA2ForVideoClassification"
    names = to_huggingface(make_model(architecture).state_dict(), LAYOUTS[architecture])
    bare = {name.partition(".")[0] for name in names if not name.startswith("vjepa2.")}
    assert bare == {"pooler", "classifier"}
    prefixed = {name.split(".")[1] for name in names if name.startswith("vjepa2.")}
    assert prefixed == {"encoder", "predictor"}


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("layers.3.attention.q_proj.bias", "encoder.layer.3.attention.attention.query.bias"),
        (
            "ijepa.layers.0.attention.o_proj.bias",
            "ijepa.encoder.layer.0.attention.output.dense.bias",
        ),
        ("layers.0.mlp.fc1.bias", "encoder.layer.0.intermediate.dense.bias"),
        ("layers.0.mlp.fc2.bias", "encoder.layer.0.output.dense.bias"),
        ("layernorm.weight", "layernorm.weight"),
    ],
)
def test_newer_names_of_image_models_become_those_on_the_hub_and_stay_so(newer, older):
    assert older_name(newer) == older
    assert older_name(older) == older
