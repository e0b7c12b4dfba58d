"""Encoders, predictors and the parts they are made of."""

from jepa.models.dynamics import ActionConditionedPredictor, Prediction
from jepa.models.encoder import VideoEncoder, take_tokens
from jepa.models.jepa_model import JepaModel
from jepa.models.pixels import normalize_pixels
from jepa.models.pooler import AttentivePooler, AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor
from jepa.models.world_model import LatentWorldModel

__all__ = [
    "ActionConditionedPredictor",
    "AttentivePooler",
    "AttentiveProbe",
    "JepaModel",
    "LatentWorldModel",
    "MaskedLatentPredictor",
    "Prediction",
    "VideoEncoder",
    "normalize_pixels",
    "take_tokens",
]
