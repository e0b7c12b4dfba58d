import pytest
import torch

from jepa.checkpoints.native import load_model
from jepa.evaluation.report.section import NotMeasured
from jepa.evaluation.report.subject import (
    is_masked_predictor,
    load_subject,
    untrained_encoder,
    weights_fingerprint,
)


def test_a_subject_says_what_it_is(world_subject, predictor_subject, encoder_folder):
    assert world_subject.kind == "world model"
    assert predictor_subject.kind == "encoder and masked predictor"
    assert load_subject(encoder_folder).kind == "encoder"
    assert (world_subject.image_size, world_subject.clip_length_frames) == (32, 4)
    assert is_masked_predictor(predictor_subject.model)
    assert not is_masked_predictor(world_subject.model)


def test_a_shipped_checkpoint_is_found_by_its_name():
    assert load_subject("two_rooms").world_model().dynamics.action_dim == 2


def test_the_fingerprint_changes_with_any_weight(predictor_folder):
    model = load_model(predictor_folder)
    before = weights_fingerprint(model)
    assert before == weights_fingerprint(load_model(predictor_folder)) and len(before) == 16
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    assert weights_fingerprint(model) != before


@pytest.mark.parametrize("folder", ["world_folder", "predictor_folder"])
def test_the_untrained_twin_is_of_the_seed_and_no_copy(folder, request):
    model = load_model(request.getfixturevalue(folder))
    one, same, other = (untrained_encoder(model, seed=seed) for seed in (1, 1, 2))
    weights = [encoder.patch_embed.weight for encoder in (one, same, other, model.encoder)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])


def test_an_encoder_is_no_world_model(predictor_subject):
    with pytest.raises(NotMeasured, match="imagines no actions"):
        predictor_subject.world_model()


def test_a_checkpoint_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_subject(tmp_path / "nothing")
