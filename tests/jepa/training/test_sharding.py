import pytest
import torch

from jepa.checkpoints.native import load_encoder, load_model
from jepa.models import JepaModel
from jepa.training.sharding import is_sharded, whole_model
from tests.jepa.training.rank_fits import encoder_and_predictor


def test_a_model_in_one_piece_is_its_own_whole():
    model = JepaModel(*encoder_and_predictor()[:1], predictor=encoder_and_predictor()[1])
    assert not is_sharded(model)
    assert whole_model(model, keeps=True) is model


@pytest.mark.slow
def test_sharded_weights_train_as_copied_ones_do(two_ranks):
    copied, sharded = two_ranks("whole-ddp")[0], two_ranks("whole-fsdp2")[0]
    assert sharded["losses"] == pytest.approx(copied["losses"], abs=1e-6)
    assert sharded["weights"].keys() == copied["weights"].keys()
    for name, value in copied["weights"].items():
        torch.testing.assert_close(sharded["weights"][name], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_sharded_run_leaves_a_whole_encoder_and_a_whole_checkpoint(two_ranks):
    folder, found = two_ranks.folder / "whole-fsdp2", two_ranks("whole-fsdp2")[0]
    for name, value in load_encoder(folder).state_dict().items():
        assert torch.equal(value, found["weights"][f"target_encoder.encoder.{name}"])
    predictor = load_model(folder).predictor
    for name, value in predictor.state_dict().items():
        assert torch.equal(value, found["weights"][f"predictor.{name}"])
    saved = torch.load(folder / "step=6.ckpt", weights_only=True)
    for name, value in saved["state_dict"].items():
        assert torch.equal(value, found["weights"][name])
    assert len(saved["optimizer_states"][0]["state"]) == len(found["gradients"])


@pytest.mark.slow
def test_a_rank_with_padding_only_does_not_keep_a_sharded_validation_waiting(two_ranks):
    (copied, _), sharded = two_ranks("padding-ddp"), two_ranks("padding-fsdp2")
    assert copied["validation/loss"] > 0.1  # that of rank 0, undiluted
    for logged in sharded:
        assert logged["validation/loss"] == pytest.approx(copied["validation/loss"], rel=1e-4)
