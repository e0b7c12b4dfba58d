import pytest
import torch

from jepa.training.model_blocks import blocks_of, checkpoint_blocks, compile_blocks
from tests.jepa.training.rank_fits import encoder_and_predictor


def loss_and_gradients(encoder):
    encoder.zero_grad()
    loss = encoder(torch.ones(2, 3, 4, 32, 32)).square().sum()
    loss.backward()
    return loss, [parameter.grad for parameter in encoder.parameters()]


def test_the_blocks_of_encoder_and_predictor_are_found():
    assert len(list(blocks_of(encoder_and_predictor()))) == 2 + 1


def test_recomputed_blocks_give_the_same_gradients_and_keep_their_names():
    plain, recomputed = encoder_and_predictor()[0], encoder_and_predictor()[0]
    checkpoint_blocks([recomputed])
    assert list(plain.state_dict()) == list(recomputed.state_dict())
    (loss, gradients), (again, others) = map(loss_and_gradients, (plain, recomputed))
    assert torch.equal(loss, again)
    assert all(map(torch.equal, gradients, others))


@pytest.mark.slow
def test_compiled_blocks_give_the_same_numbers_and_keep_their_names():
    plain, compiled = encoder_and_predictor()[0], encoder_and_predictor()[0]
    compile_blocks([compiled])
    assert list(plain.state_dict()) == list(compiled.state_dict())
    (loss, gradients), (again, others) = map(loss_and_gradients, (plain, compiled))
    torch.testing.assert_close(again, loss)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)
