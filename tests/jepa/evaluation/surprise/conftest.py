"""A tiny model that predicts, with random weights."""

import pytest
import torch

from jepa.evaluation.surprise.models import PredictingModel
from jepa.models import MaskedLatentPredictor, VideoEncoder


@pytest.fixture
def tiny_model():
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=32,
        clip_length_frames=8,
        patch_size=16,
        tubelet_size=2,
        dim=24,
        depth=1,
        num_heads=2,
    ).eval()
    predictor = MaskedLatentPredictor(encoder_dim=24, dim=24, depth=1, num_heads=2).eval()
    return PredictingModel(encoder, predictor, encoder, has_one_encoder=True)
