import logging
import os

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from jepa.training.model_blocks import blocks_of, checkpoint_blocks, compile_blocks
from tests.jepa.training.rank_fits import encoder_and_predictor

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")


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


def test_blocks_in_the_compiler_give_the_same_numbers_and_keep_their_names():
    same_as_compiled_by(backend="eager")


@LONG
@pytest.mark.slow
def test_compiled_blocks_give_the_same_numbers_and_keep_their_names():
    same_as_compiled_by()


def same_as_compiled_by(**options):
    plain, compiled = encoder_and_predictor()[0], encoder_and_predictor()[0]
    compile_blocks([compiled], **options)
    assert list(plain.state_dict()) == list(compiled.state_dict())
    (loss, gradients), (again, others) = map(loss_and_gradients, (plain, compiled))
    torch.testing.assert_close(again, loss)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


@pytest.fixture
def dynamo():
    """Nothing compiled so far, and torch's own limit, which is put back.

    Not by `monkeypatch`: it deletes a setting that was not in the module's dictionary,
    and torch then hides the setting from every later test of the process.
    """
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=8):
        yield torch._dynamo.config
    torch._dynamo.reset()


@pytest.mark.slow
def test_masks_of_many_lengths_are_compiled_once_and_never_run_uncompiled(dynamo, caplog):
    encoder, predictor = encoder_and_predictor()
    graphs = CompileCounter()
    compile_blocks([encoder, predictor], backend=graphs)
    assert dynamo.recompile_limit >= 64
    video, ids = torch.ones(2, 3, 4, 32, 32), torch.arange(32).expand(2, -1)

    def predict(length):
        shown, asked = ids[:, :length], ids[:, length:]
        tokens = encoder(video, token_ids=shown)
        return predictor(tokens, context_ids=shown, target_ids=asked, grid=(2, 4, 4))

    def run(lengths):
        for length in lengths:
            predict(length)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                predict(length)
            with torch.inference_mode():
                predict(length)

    with caplog.at_level(logging.WARNING, "torch._dynamo"):
        run((10, 20))
        num_graphs = graphs.frame_count
        assert num_graphs > 8  # more than torch allows by itself
        run((4, 7, 12, 17, 23, 28))
    assert graphs.frame_count == num_graphs
    assert "recompile_limit" not in caplog.text
