"""Where the three parts of a surprise come from: runs, our folders, official files.

A run trains an encoder, a predictor and a slow average of the encoder, and leaves the average and
the predictor in `encoder/`; the trained encoder itself is in its last checkpoint. Where only one
encoder is left, as in folders of `transformers`, it does both: the report says so.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import torch

from jepa.checkpoints.native import (
    CONFIG,
    build_encoder,
    describe,
    load_encoder,
    load_weights,
    save_encoder,
    save_model,
)
from jepa.checkpoints.official import read_official
from jepa.checkpoints.official_config import OfficialConfig
from jepa.checkpoints.pretrained import checkpoint_file, from_pretrained
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.predictor import MaskedLatentPredictor
from jepa.run_folder import last_checkpoint
from jepa.training.starting_weights import read_checkpoint

CONTEXT_ENCODER = "context_encoder"  # folder beside `encoder/`
PREFIX = "encoder."  # of the trained encoder in a training checkpoint
logger = logging.getLogger(__name__)


class PredictingModel(NamedTuple):
    """An encoder that sees the past, a predictor, and the encoder that says what came.

    Attributes:
        context_encoder: of what is shown.
        predictor: of what is not.
        target_encoder: of everything; the slow average of the context encoder.
        has_one_encoder: both encoders are the same one.
    """

    context_encoder: VideoEncoder
    predictor: MaskedLatentPredictor
    target_encoder: VideoEncoder
    has_one_encoder: bool


def load_predicting_model(
    name: str | Path, *, config: OfficialConfig | None = None
) -> PredictingModel:
    """Reads a run folder, a folder of `save_predicting_model` or `save_model`, or an official file.

    Args:
        name: a path, or what else `jepa.from_pretrained` takes.
        config: what an official file of a size that was never released does not say.

    Raises:
        FileNotFoundError: if there is nothing of this name.
        ValueError: if it holds no predictor.
    """
    path = Path(name)
    if path.is_file() and checkpoint_file(path).is_file():
        return _read_official(path, config)
    model = from_pretrained(name)
    encoder, predictor = _parts(model, name)
    context = _context_encoder(path, encoder)
    if context is None:
        logger.warning("%s has no second encoder: the target encoder sees the context, too", name)
        return PredictingModel(encoder, predictor, encoder, has_one_encoder=True)
    return PredictingModel(context, predictor, encoder, has_one_encoder=False)


def save_predicting_model(model: PredictingModel, folder: str | Path) -> Path:
    """Writes all three parts so that `load_predicting_model` reads them; returns the folder."""
    folder = Path(folder)
    save_model(JepaModel(model.target_encoder, predictor=model.predictor), folder / "encoder")
    if not model.has_one_encoder:
        save_encoder(model.context_encoder, folder / CONTEXT_ENCODER)
    return folder


def untrained_predicting_model(model: PredictingModel, *, seed: int = 0) -> PredictingModel:
    """Returns the same architecture with fresh weights: as training begins, with equal encoders."""
    config = describe(JepaModel(model.target_encoder, predictor=model.predictor))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(config, device="cpu").eval()
        predictor = MaskedLatentPredictor(**config["predictor"]).eval()
    return PredictingModel(encoder, predictor, encoder, has_one_encoder=True)


def _parts(model: object, name: str | Path) -> tuple[VideoEncoder, MaskedLatentPredictor]:
    if not isinstance(model, JepaModel) or model.predictor is None:
        raise ValueError(
            f"{name} holds no masked-latent predictor, and surprise is an error of prediction; "
            "give a run of pretraining, or a checkpoint with its predictor"
        )
    return model.encoder, model.predictor


def _context_encoder(folder: Path, encoder: VideoEncoder) -> VideoEncoder | None:
    """Returns the encoder that was trained, where it was kept."""
    if (folder / CONTEXT_ENCODER / CONFIG).is_file():
        return load_encoder(folder / CONTEXT_ENCODER)
    checkpoints = folder / "checkpoints"
    if not any(checkpoints.glob("last*.ckpt")):
        return None
    file = last_checkpoint(checkpoints)
    state = read_checkpoint(file)["state_dict"]
    weights = {
        key.removeprefix(PREFIX): value.clone()
        for key, value in state.items()
        if key.startswith(PREFIX)
    }
    trained: VideoEncoder = build_encoder(describe(JepaModel(encoder)))
    load_weights(trained, weights, source=str(file))
    return trained.eval()


def _read_official(path: Path, config: OfficialConfig | None) -> PredictingModel:
    """Reads an official file: the average as target, and the trained encoder if it is there."""
    converted = read_official(path, config=config)
    for line in converted.warnings:
        logger.warning("%s: %s", path, line)
    target, predictor = _parts(converted.model, path)
    try:
        context = read_official(path, config=config, encoder_key="encoder").model.encoder
    except ValueError as error:
        if "holds no 'encoder'" not in str(error):
            raise
        return PredictingModel(target, predictor, target, has_one_encoder=True)
    assert isinstance(context, VideoEncoder)
    return PredictingModel(context, predictor, target, has_one_encoder=False)
