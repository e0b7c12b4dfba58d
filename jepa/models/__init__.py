"""Encoders, predictors and the parts they are made of."""

from jepa.models.dynamics import ActionConditionedPredictor, Prediction
from jepa.models.encoder import VideoEncoder, take_tokens
from jepa.models.pixels import normalize_pixels
from jepa.models.predictor import MaskedLatentPredictor

__all__ = [
    "ActionConditionedPredictor",
    "MaskedLatentPredictor",
    "Prediction",
    "VideoEncoder",
    "normalize_pixels",
    "take_tokens",
]
