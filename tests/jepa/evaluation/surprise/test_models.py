"""Where the parts come from: the trained encoder sees the context, its average is the target."""

import logging

import pytest
import torch

from jepa.checkpoints.native import save_encoder, save_model
from jepa.checkpoints.official import write_official
from jepa.checkpoints.official_config import OfficialConfig
from jepa.evaluation.surprise.models import (
    PredictingModel,
    load_predicting_model,
    save_predicting_model,
    untrained_predicting_model,
)
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.training.pretraining import Pretraining

SIZES = {
    "image_size": 32,
    "clip_length_frames": 4,
    "patch_size": 16,
    "tubelet_size": 2,
    "dim": 48,
    "depth": 1,
    "num_heads": 2,
}


def encoder(seed, **settings):
    torch.manual_seed(seed)
    return VideoEncoder(**{**SIZES, **settings}).eval()


def predictor(seed=9):
    torch.manual_seed(seed)
    return MaskedLatentPredictor(encoder_dim=48, dim=48, depth=1, num_heads=2).eval()


def equal(first, second):
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_three_parts_come_back_as_they_were_saved(tmp_path):
    model = PredictingModel(encoder(0), predictor(), encoder(1), has_one_encoder=False)
    loaded = load_predicting_model(save_predicting_model(model, tmp_path / "model"))
    assert not loaded.has_one_encoder
    assert equal(loaded.context_encoder, model.context_encoder)
    assert equal(loaded.predictor, model.predictor)
    assert equal(loaded.target_encoder, model.target_encoder)
    assert not equal(loaded.context_encoder, loaded.target_encoder)


def test_a_run_gives_its_trained_encoder_from_the_checkpoint_and_the_average_as_target(tmp_path):
    training = Pretraining(encoder(0), predictor())
    for parameter in training.target_encoder.parameters():
        parameter.data += 0.5
    model = JepaModel(training.released_encoder, predictor=training.predictor)
    save_model(model, tmp_path / "encoder")
    (tmp_path / "checkpoints").mkdir()
    checkpoint = {"state_dict": training.state_dict(), "pytorch-lightning_version": "2.5"}
    torch.save(checkpoint, tmp_path / "checkpoints" / "last.ckpt")
    loaded = load_predicting_model(tmp_path)
    assert equal(loaded.context_encoder, training.encoder)
    assert equal(loaded.target_encoder, training.released_encoder)
    assert not equal(loaded.context_encoder, loaded.target_encoder)
    assert not any(module.training for module in loaded.context_encoder.modules())


def test_one_encoder_does_both_and_it_is_said(tmp_path, caplog):
    save_model(JepaModel(encoder(0), predictor=predictor()), tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = load_predicting_model(tmp_path)
    assert loaded.has_one_encoder
    assert loaded.context_encoder is loaded.target_encoder
    assert "has no second encoder" in caplog.text


def test_an_official_file_gives_both_encoders(tmp_path):
    online, average = encoder(0, positions="sincos_3d"), encoder(1, positions="sincos_3d")
    settings = {"positions": "sincos_3d", "grid": (2, 2, 2), "num_mask_tokens": 2}
    answers = MaskedLatentPredictor(encoder_dim=48, dim=48, depth=1, num_heads=2, **settings)
    torch.nn.init.normal_(answers.mask_tokens)
    files = [tmp_path / "online.pt", tmp_path / "average.pt"]
    for part, file in zip((online, average), files, strict=True):
        write_official(JepaModel(part, predictor=answers), file)
    contents = [torch.load(file, weights_only=True) for file in files]
    contents[0]["target_encoder"] = contents[1]["encoder"]
    torch.save(contents[0], tmp_path / "both.pt")
    sizes = OfficialConfig(num_heads=2, predictor_num_heads=2, img_size=32, num_frames=4)
    loaded = load_predicting_model(tmp_path / "both.pt", config=sizes)
    assert equal(loaded.context_encoder, online)
    assert equal(loaded.target_encoder, average)


def test_untrained_parts_are_fresh_equal_in_shape_and_repeatable():
    model = PredictingModel(encoder(0), predictor(), encoder(1), has_one_encoder=False)
    fresh, again = (untrained_predicting_model(model, seed=3) for _ in range(2))
    assert equal(fresh.target_encoder, again.target_encoder)
    assert equal(fresh.predictor, again.predictor)
    assert not equal(fresh.target_encoder, model.target_encoder)
    assert fresh.target_encoder.config == model.target_encoder.config
    assert fresh.predictor.config == model.predictor.config


def test_what_holds_no_predictor_is_refused(tmp_path):
    save_encoder(encoder(0), tmp_path)
    with pytest.raises(ValueError, match="holds no masked-latent predictor"):
        load_predicting_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load_predicting_model("/no/such/place")
