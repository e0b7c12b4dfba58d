"""The class of Hugging Face's `transformers` that holds a model of ours, or why none does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jepa.checkpoints.huggingface_names import IMAGE, VIDEO, VIDEO_CLASSES
from jepa.checkpoints.huggingface_settings import POOLER_MLP_RATIO
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.pooler import NORM_EPS as PROBE_NORM_EPS
from jepa.models.transformer import NORM_EPS


def architecture_of(model: JepaModel) -> str:
    """Returns the name of the class, for a model that `refuse_what_they_lack` lets pass."""
    if model.encoder.config["positions"] == "sincos_2d":
        return IMAGE
    return VIDEO if model.probe is None else VIDEO_CLASSES


def refuse_what_they_lack(model: JepaModel) -> None:
    """Raises ValueError with one line that says why transformers cannot hold the model."""
    keeps = "save_pretrained keeps all of it"
    if not isinstance(model, JepaModel) or not isinstance(model.encoder, VideoEncoder):
        what = type(model if not isinstance(model, JepaModel) else model.encoder).__name__
        raise ValueError(f"transformers has no class for a {what}; {keeps}")
    reasons = [
        *_what_they_lack_of_encoders(model.encoder.config),
        *_what_they_lack_of_predictors(model),
        *_what_they_lack_of_probes(model),
    ]
    if reasons:
        raise ValueError(f"transformers cannot hold this model: {'; '.join(reasons)}; {keeps}")


def _what_they_lack_of_encoders(config: dict[str, Any]) -> Iterable[str]:
    if config["levels"] is not None or config["has_image_tokenizer"]:
        yield "V-JEPA 2.1, with norms of levels or an image tokenizer, is not in transformers"
    elif config["rope_grid"] is not None:
        yield f"its positions are token indices, not stretched to rope_grid={config['rope_grid']}"
    elif config["positions"] == "rope_interleaved":
        yield "its rotary positions are tiled, not interleaved"
    elif config["positions"] == "sincos_3d":
        yield "V-JEPA 1, with sincos_3d positions, is not in transformers"
    elif config["positions"] == "sincos_2d" and config["tubelet_size"] != 1:
        yield f"its I-JEPA has frames, not tubelets of {config['tubelet_size']} frames"


def _what_they_lack_of_predictors(model: JepaModel) -> Iterable[str]:
    if model.predictor is None or architecture_of(model) == IMAGE:
        return
    config, dim = model.predictor.config, model.encoder.dim
    theirs = {
        "encoder_dim": (dim,),
        "positions": ("rope_tiled",),
        "rope_grid": (None,),
        "num_levels": (1,),
        "output_dim": (None, dim),
        "predicts_context": (False,),
        "has_modalities": (False,),
    }
    for name, allowed in theirs.items():
        if config[name] not in allowed:
            yield f"transformers' predictor has {name}={allowed[0]!r}, not {config[name]!r}"


def _what_they_lack_of_probes(model: JepaModel) -> Iterable[str]:
    if model.probe is None:
        return
    if architecture_of(model) == IMAGE:
        yield "its I-JEPA has no attentive probe: write JepaModel(model.encoder)"
        return
    config, heads = model.probe.config, model.encoder.num_heads
    if len(config["num_classes"]) > 1:
        yield f"its probe has one head, not {', '.join(config['num_classes'])}"
    if config["num_heads"] != heads:
        yield f"its probe has the encoder's {heads} attention heads, not {config['num_heads']}"
    if round(config["dim"] * config["mlp_ratio"]) != int(config["dim"] * POOLER_MLP_RATIO):
        yield f"its probe has mlp_ratio={POOLER_MLP_RATIO}, not {config['mlp_ratio']}"
    if config["norm_eps"] not in (NORM_EPS, PROBE_NORM_EPS):
        yield f"its probe has norm_eps={NORM_EPS}, not {config['norm_eps']}"
