"""Parameter counts of the published models, built without memory for them."""

import pytest
import torch

from jepa.models import ActionConditionedPredictor, MaskedLatentPredictor, VideoEncoder
from jepa.models.sizes import ENCODER_SIZES


def num_parameters(make, **settings):
    with torch.device("meta"):
        module = make(**settings)
    return sum(parameter.numel() for parameter in module.parameters())


def encoder_settings(name, **settings):
    size = ENCODER_SIZES[name]
    sizes = {"dim": size.dim, "depth": size.depth, "num_heads": size.num_heads}
    return sizes | {"mlp_ratio": size.mlp_ratio} | settings


@pytest.mark.parametrize(
    ("name", "published"),
    [("large", 303_885_312), ("huge", 631_648_000), ("giant", 1_012_173_952)],
)
def test_encoders_of_v_jepa_2_have_the_published_size(name, published):
    assert num_parameters(VideoEncoder, **encoder_settings(name)) == published


@pytest.mark.parametrize(
    ("name", "published"),
    [("large", 304_680_960), ("giant", 1_013_267_968), ("gigantic", 1_845_216_768)],
)
def test_encoders_of_v_jepa_2_1_have_the_published_size(name, published):
    settings = encoder_settings(name, has_image_tokenizer=True, levels=ENCODER_SIZES[name].levels)
    assert num_parameters(VideoEncoder, **settings, rope_grid=16) == published


def test_the_base_encoder_of_v_jepa_2_1_has_86_8_million():
    settings = encoder_settings("base", has_image_tokenizer=True, levels=(2, 5, 8, 11))
    assert round(num_parameters(VideoEncoder, **settings) / 1e6, 1) == 86.8


def test_the_action_conditioned_predictor_has_the_published_size():
    count = num_parameters(
        ActionConditionedPredictor,
        latent_dim=1408,
        action_dim=7,
        state_dim=7,
        grid=(16, 16),
        positions="rope_tiled",
        next_state="end_effector_pose",
        extrinsics_dim=6,
        has_place_embedding=False,
    )
    assert count == 305_220_992


@pytest.mark.parametrize(
    ("encoder", "depth", "millions"), [("giant", 24, 55.4), ("gigantic", 24, 59.4)]
)
def test_multi_level_predictors_of_v_jepa_2_1_have_the_published_size(encoder, depth, millions):
    count = num_parameters(
        MaskedLatentPredictor,
        encoder_dim=ENCODER_SIZES[encoder].dim,
        depth=depth,
        num_mask_tokens=8,
        num_levels=4,
        predicts_context=True,
        has_modalities=True,
    )
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("encoder", ["large", "huge", "giant"])
def test_predictors_of_v_jepa_2_have_22_million(encoder):
    count = num_parameters(
        MaskedLatentPredictor, encoder_dim=ENCODER_SIZES[encoder].dim, num_mask_tokens=10
    )
    assert 22.0 <= count / 1e6 <= 22.45


@pytest.mark.parametrize("name", ENCODER_SIZES)
def test_every_size_can_be_rotated_and_ends_with_its_last_level(name):
    size = ENCODER_SIZES[name]
    assert size.dim % size.num_heads == 0 and size.dim // size.num_heads >= 12
    assert size.levels is None or (len(size.levels) == 4 and size.levels[-1] == size.depth - 1)
