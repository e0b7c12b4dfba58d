import math

import pytest
import torch

from jepa.models.rope import rope_angles, rotation
from jepa.models.transformer import Attention, Transformer


def table_of(coordinates):
    return rotation(rope_angles(coordinates, head_dim=12))


@pytest.fixture
def transformer():
    """Two blocks, with weights large enough that everything matters."""
    transformer = Transformer(24, depth=2, num_heads=2, mlp_ratio=2.0)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return transformer


@pytest.fixture
def tokens():
    return torch.randn(2, 6, 24)


@pytest.fixture
def places():
    return torch.randint(0, 5, (6, 3)).float()


def test_attention_equals_its_definition(tokens, places):
    attention, table = Attention(24, 2), table_of(places)
    weights = attention.qkv.weight.view(3, 2, 12, 24)
    biases = attention.qkv.bias.view(3, 2, 12)
    cosine, sine = table[0, 0].unbind(-1)
    expected = []
    for head in range(2):
        query, key, value = (tokens @ weights[i, head].T + biases[i, head] for i in range(3))
        query, key = (
            torch.stack(
                (
                    x[..., ::2] * cosine - x[..., 1::2] * sine,
                    x[..., ::2] * sine + x[..., 1::2] * cosine,
                ),
                dim=-1,
            ).flatten(-2)
            for x in (query, key)
        )
        expected.append((query @ key.mT / math.sqrt(12)).softmax(-1) @ value)
    output, _ = attention(tokens, table)
    torch.testing.assert_close(output, attention.proj(torch.cat(expected, -1)))


def test_the_order_of_tokens_does_not_matter(transformer, tokens, places):
    order = torch.randperm(6)
    straight = transformer(tokens, table_of(places))
    shuffled = transformer(tokens[:, order], table_of(places[order]))
    torch.testing.assert_close(shuffled, straight[:, order], atol=1e-5, rtol=1e-4)


def test_a_token_sees_only_what_is_visible(transformer, tokens, places):
    is_visible = torch.ones(6, 6, dtype=torch.bool).tril()
    before = transformer(tokens, table_of(places), is_visible=is_visible)
    tokens[:, 4:] = torch.randn(2, 2, 24)
    after = transformer(tokens, table_of(places), is_visible=is_visible)
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(after[:, 4], before[:, 4], atol=0.1)


@pytest.mark.parametrize("past_batch", [1, 2])
def test_the_past_may_come_from_a_cache(past_batch, transformer, tokens, places):
    block = transformer.blocks[0]
    tokens[:, :3] = tokens[:1, :3]  # a past that all samples share
    is_visible = torch.ones(6, 6, dtype=torch.bool).tril()
    whole, _ = block(tokens, table_of(places), is_visible=is_visible)
    _, past = block(tokens[:past_batch, :3], table_of(places[:3]), is_visible=is_visible[:3, :3])
    rest, (keys, values) = block(
        tokens[:, 3:], table_of(places[3:]), is_visible=is_visible[3:], past=[past]
    )
    torch.testing.assert_close(rest, whole[:, 3:], atol=1e-5, rtol=1e-4)
    assert keys.shape == values.shape == (2, 2, 3, 12)


def test_deeper_residual_branches_start_smaller():
    transformer = Transformer(96, depth=4, num_heads=2, mlp_ratio=4.0)
    for number, block in enumerate(transformer.blocks, start=1):
        for linear in (block.attn.proj, block.mlp[2]):
            expected = 0.02 / math.sqrt(2 * number)
            assert linear.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert not linear.bias.any()


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="dim=50 must be divisible by num_heads=4"):
        Transformer(50, depth=1, num_heads=4, mlp_ratio=4.0)


def test_without_a_table_nothing_is_rotated(transformer, tokens):
    nowhere = torch.zeros(6, 3)
    torch.testing.assert_close(transformer(tokens, None), transformer(tokens, table_of(nowhere)))


def test_layers_are_what_the_blocks_put_out(transformer, tokens, places):
    table = table_of(places)
    first, last = transformer.layers(tokens, table, [0, 1])
    torch.testing.assert_close(first, transformer.blocks[0](tokens, table)[0])
    torch.testing.assert_close(transformer.norm(last), transformer(tokens, table))


@pytest.mark.parametrize("first_output", [1, 4])
def test_outputs_that_nobody_wants_are_left_out(transformer, tokens, places, first_output):
    whole = transformer(tokens, table_of(places))
    rest = transformer(tokens, table_of(places), first_output=first_output)
    torch.testing.assert_close(rest, whole[:, first_output:])


def test_the_fast_way_without_a_cache_equals_the_way_with_one(transformer, tokens, places):
    block, table = transformer.blocks[0], table_of(places)
    with_cache, cache = block(tokens, table)
    without, none = block(tokens, table, needs_cache=False)
    torch.testing.assert_close(without, with_cache)
    assert none is None
    assert cache is not None


@pytest.mark.parametrize("first_output", [0, 1, 3])
@pytest.mark.parametrize("past_batch", [None, 1, 2])
def test_tokens_that_are_the_same_for_all_may_be_given_once(
    transformer, tokens, places, past_batch, first_output
):
    block, table = transformer.blocks[0], table_of(places)
    own, shared = tokens[:, :2], tokens[:1, 2:]
    past = [] if past_batch is None else [tuple(torch.randn(2, past_batch, 2, 3, 12).unbind(0))]
    options = {"past": past, "first_output": first_output}
    each = torch.cat((own, shared.expand(2, -1, -1)), dim=1)
    expected, kept = block(each, table, **options)
    found, cache = block.forward_shared(own, shared, table, **options)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(cache, kept)
