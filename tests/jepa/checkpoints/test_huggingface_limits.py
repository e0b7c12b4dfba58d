"""What transformers has no class for: refused in one line, and nothing is written."""

import pytest

from jepa.checkpoints.huggingface import write_huggingface
from jepa.checkpoints.huggingface_limits import architecture_of, refuse_what_they_lack
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.latents import PatchTokens
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor
from jepa.models.world_model import ColumnScaling, LatentWorldModel


@pytest.fixture
def model(make_encoder):
    """A model that transformers can hold, whole."""
    predictor = MaskedLatentPredictor(
        encoder_dim=48, dim=24, depth=1, num_heads=2, positions="rope_tiled"
    )
    probe = AttentiveProbe(dim=48, num_classes={"label": 5}, num_heads=4, depth=2, norm_eps=1e-6)
    return JepaModel(make_encoder(positions="rope_tiled"), predictor=predictor, probe=probe)


def test_a_model_that_transformers_can_hold_has_a_class_by_its_parts(model, make_encoder):
    refuse_what_they_lack(model)
    assert architecture_of(model) == "VJEPA2ForVideoClassification"
    model.probe = None
    assert architecture_of(model) == "VJEPA2Model"
    images = make_encoder(positions="sincos_2d", tubelet_size=1, clip_length_frames=1)
    refuse_what_they_lack(JepaModel(images))
    assert architecture_of(JepaModel(images)) == "IJepaModel"


def test_all_that_transformers_lacks_is_said_in_one_line(model):
    model.predictor = MaskedLatentPredictor(**(model.predictor.config | {"rope_grid": 16}))
    model.probe = AttentiveProbe(**(model.probe.config | {"num_heads": 3}))
    with pytest.raises(
        ValueError,
        match=r"transformers' predictor has rope_grid=None, not 16; its probe .* not 3; save_p",
    ):
        refuse_what_they_lack(model)


def not_written(model, folder, words):
    with pytest.raises(ValueError, match=words) as caught:
        write_huggingface(model, folder / "out")
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"positions": "rope_interleaved"}, "rotary positions are tiled, not interleaved"),
        ({"rope_grid": 16}, "not stretched to rope_grid=16"),
        ({"levels": (0, 1)}, "V-JEPA 2.1, with norms of levels or an image tokenizer, is not in"),
        ({"has_image_tokenizer": True}, "V-JEPA 2.1, with norms of levels or an image tokenizer"),
        ({"positions": "sincos_3d"}, "V-JEPA 1, with sincos_3d positions, is not in"),
        (
            {"positions": "sincos_2d", "clip_length_frames": 2},
            "I-JEPA has frames, not tubelets of 2 frames",
        ),
    ],
)
def test_encoders_that_transformers_lacks_are_refused(options, words, make_encoder, tmp_path):
    encoder = make_encoder(**({"positions": "rope_tiled"} | options))
    not_written(JepaModel(encoder), tmp_path, words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"positions": "rope_interleaved"}, "predictor has positions='rope_tiled', not 'rope_int"),
        ({"rope_grid": 16}, "rope_grid=None, not 16"),
        ({"num_levels": 4}, "num_levels=1, not 4"),
        ({"output_dim": 96}, "output_dim=None, not 96"),
        ({"predicts_context": True}, "predicts_context=False, not True"),
        ({"has_modalities": True}, "has_modalities=False, not True"),
    ],
)
def test_predictors_that_transformers_lacks_are_refused(options, words, model, tmp_path):
    settings = model.predictor.config | options
    model.predictor = MaskedLatentPredictor(**settings)
    not_written(model, tmp_path, words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": {"verb": 2, "noun": 3}}, "probe has one head, not verb, noun"),
        ({"num_heads": 3}, "probe has the encoder's 4 attention heads, not 3"),
        ({"mlp_ratio": 48 / 11}, "probe has mlp_ratio=4.0, not 4.36"),
        ({"norm_eps": 1e-3}, "probe has norm_eps=1e-06, not 0.001"),
    ],
)
def test_probes_that_transformers_lacks_are_refused(options, words, model, tmp_path):
    model.probe = AttentiveProbe(**(model.probe.config | options))
    not_written(model, tmp_path, words)


def test_a_probe_of_the_giant_as_released_is_refused(tmp_path):
    """22 heads in the encoder of ViT-g, 16 in its probes: transformers would use 22 in both."""
    encoder = VideoEncoder(image_size=16, clip_length_frames=2, dim=22 * 16, num_heads=22, depth=1,
                           positions="rope_tiled")  # fmt: skip
    probe = AttentiveProbe(dim=22 * 16, num_classes={"label": 2}, num_heads=16, depth=1)
    words = "the encoder's 22 attention heads, not 16"
    not_written(JepaModel(encoder, probe=probe), tmp_path, words)


def test_an_image_encoder_with_a_probe_is_refused(make_encoder, tmp_path):
    encoder = make_encoder(positions="sincos_2d", tubelet_size=1, clip_length_frames=1)
    probe = AttentiveProbe(dim=48, num_classes={"label": 2}, num_heads=4)
    words = "I-JEPA has no attentive probe: write JepaModel"
    not_written(JepaModel(encoder, probe=probe), tmp_path, words)


def test_world_models_are_refused(make_encoder, tmp_path):
    world = LatentWorldModel(
        make_encoder(positions="rope_tiled"),
        PatchTokens(),
        scaling=ColumnScaling((0.0,), (1.0,), (0.0,), (1.0,)),
        uses_state=False,
        dim=24,
        depth=1,
        num_heads=2,
    )
    not_written(world, tmp_path, "no class for a LatentWorldModel; save_pretrained keeps")
