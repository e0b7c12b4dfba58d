import math

import pytest
import torch

from jepa.evaluation.health import attention_entropy
from jepa.evaluation.health.attention_entropy import attention_entropies
from jepa.models.attention import split_heads
from jepa.models.rope import rotate


def entropies_of(encoder, video):
    with torch.no_grad(), attention_entropies(encoder) as found:
        tokens = encoder(video)
    return found, tokens


VIDEO = torch.randint(0, 256, (3, 3, 4, 32, 32), dtype=torch.uint8)


def test_attention_that_looks_everywhere_alike_has_entropy_one(make_encoder):
    encoder = make_encoder()
    for block in encoder.transformer.blocks:
        torch.nn.init.zeros_(block.attn.qkv.weight)
        torch.nn.init.zeros_(block.attn.qkv.bias)
    found, _ = entropies_of(encoder, VIDEO)
    for layer in found:
        torch.testing.assert_close(layer, torch.ones(4))


def test_attention_to_one_token_has_entropy_zero(make_encoder):
    encoder = make_encoder()
    with torch.no_grad():
        for block in encoder.transformer.blocks:
            block.attn.qkv.weight.mul_(1e3)
    found, _ = entropies_of(encoder, VIDEO)
    assert max(float(layer.max()) for layer in found) < 0.01


def test_the_entropy_is_that_of_a_slow_softmax_per_layer_and_head(make_encoder):
    encoder = make_encoder()
    inputs = []
    hooks = [
        block.attn.register_forward_pre_hook(lambda module, args: inputs.append((module, *args)))
        for block in encoder.transformer.blocks
    ]
    found, _ = entropies_of(encoder, VIDEO)
    for hook in hooks:
        hook.remove()
    assert len(found) == len(inputs) == 2
    for layer, (attention, x, table) in zip(found, inputs, strict=True):
        with torch.no_grad():
            queries, keys, _ = split_heads(attention.qkv(x), 4)
            scores = rotate(queries, table) @ rotate(keys, table).mT / math.sqrt(12)
        weights = scores.double().softmax(-1)
        expected = -(weights * weights.log()).sum(-1).mean((0, 2)) / math.log(32)
        torch.testing.assert_close(layer.double(), expected, rtol=1e-4, atol=1e-5)


def test_looking_leaves_the_forward_pass_and_the_model_as_they_are(make_encoder):
    encoder = make_encoder()
    with torch.no_grad():
        before = encoder(VIDEO)
    found, tokens = entropies_of(encoder, VIDEO)
    assert torch.equal(tokens, before)
    with torch.no_grad():
        encoder(VIDEO)
    assert len(found) == 2  # nobody looks any more


def test_some_queries_of_a_long_sequence_stand_for_all(make_encoder, monkeypatch):
    encoder = make_encoder()
    everything, _ = entropies_of(encoder, VIDEO)
    monkeypatch.setattr(attention_entropy, "MAX_QUERIES", 8)
    some, _ = entropies_of(encoder, VIDEO)
    for few, many in zip(some, everything, strict=True):
        assert few.mean().item() == pytest.approx(many.mean().item(), abs=0.05)


def test_places_that_may_not_be_looked_at_have_no_weight(make_encoder):
    attention = make_encoder().transformer.blocks[0].attn
    torch.nn.init.zeros_(attention.qkv.weight)
    torch.nn.init.zeros_(attention.qkv.bias)
    half = torch.arange(6) < 3
    with torch.no_grad(), attention_entropies(attention) as found:
        attention(torch.randn(2, 6, 48), None, is_visible=half.expand(6, 6), needs_cache=False)
    torch.testing.assert_close(found[0], torch.full((4,), math.log(3) / math.log(6)))
