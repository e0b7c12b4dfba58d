import math
import os

import pytest
import torch

from jepa.models import attention
from jepa.models.attention import attend, join_heads, rotary_attention, split_heads
from jepa.models.eager_cpu import multiplies_bfloat16
from jepa.models.rope import rope_angles, rotation

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")

BATCH, HEADS, TOKENS, HEAD_DIM = 2, 3, 10, 12
STYLES = (None, "interleaved", "tiled")
needs_bfloat16 = pytest.mark.skipif(
    not multiplies_bfloat16(), reason="this processor does not multiply bfloat16"
)


def table_of(style):
    if style is None:
        return None
    places = torch.randint(0, 9, (BATCH, TOKENS, 3)).float()
    return rotation(rope_angles(places, head_dim=HEAD_DIM, style=style))


def matrix_of(table):
    """The rotation of each token as a matrix: (batch, 1, tokens, head_dim, head_dim)."""
    matrix = torch.zeros(BATCH, 1, TOKENS, HEAD_DIM, HEAD_DIM, dtype=torch.float64)
    for pair in range(HEAD_DIM // 2):
        even, odd = 2 * pair, 2 * pair + 1
        for member, conjugate in enumerate((1, -1)[: len(table)]):
            real, imaginary = table[member, ..., pair, :].double().unbind(-1)
            matrix[..., even, even] += real
            matrix[..., odd, even] += imaginary
            matrix[..., even, odd] -= conjugate * imaginary
            matrix[..., odd, odd] += conjugate * real
    return matrix


def defined(qkv, table, is_visible):
    """Attention by its definition, in double precision."""
    queries, keys, values = split_heads(qkv, HEADS)
    if table is not None:
        matrix = matrix_of(table)
        queries, keys = ((matrix @ x.unsqueeze(-1)).squeeze(-1) for x in (queries, keys))
    scores = queries @ keys.mT / HEAD_DIM**0.5
    if is_visible is not None:
        scores = scores.masked_fill(~is_visible, -torch.inf)
    return join_heads(scores.softmax(-1) @ values)


def learned(qkv, run):
    """What comes out, and the gradient of a sum in which every number counts differently."""
    qkv = qkv.clone().requires_grad_()
    output = run(qkv)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return output, qkv.grad


def inputs(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(BATCH, TOKENS, 3 * HEADS * HEAD_DIM, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("is_causal", [False, True])
def test_it_is_attention_with_and_without_gradient(style, is_causal):
    table, qkv = table_of(style), inputs()
    is_visible = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril() if is_causal else None

    def run(x):
        return rotary_attention(x, table, num_heads=HEADS, is_visible=is_visible)

    expected = learned(qkv.double(), lambda x: defined(x, table, is_visible))
    for found, wanted in zip(learned(qkv, run), expected, strict=True):
        torch.testing.assert_close(found, wanted.float())
    torch.testing.assert_close(run(qkv), expected[0].float())


@needs_bfloat16
@pytest.mark.parametrize("style", STYLES)
def test_in_bfloat16_too(style):
    table, qkv = table_of(style), inputs(torch.bfloat16)

    def run(x):
        return rotary_attention(x, table, num_heads=HEADS)

    expected = learned(qkv.double(), lambda x: defined(x, table, None))
    for found, wanted in zip(learned(qkv, run), expected, strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), wanted, atol=0.02, rtol=0.02)
    with torch.no_grad():
        torch.testing.assert_close(run(qkv).double(), expected[0], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("style", STYLES)
def test_sequences_too_long_for_products_give_the_same(monkeypatch, style):
    table, qkv = table_of(style), inputs()
    short = learned(qkv, lambda x: rotary_attention(x, table, num_heads=HEADS))
    monkeypatch.setattr(attention, "MAX_TOKENS_TO_LEARN", {})
    long = learned(qkv, lambda x: rotary_attention(x, table, num_heads=HEADS))
    assert short[0].grad_fn.name() != long[0].grad_fn.name()
    for found, expected in zip(long, short, strict=True):
        torch.testing.assert_close(found, expected)


@needs_bfloat16
def test_heads_that_are_taken_in_parts_give_the_same(monkeypatch):
    queries, keys, values = (x.contiguous() for x in split_heads(inputs(torch.bfloat16), HEADS))
    whole = attend(queries, keys, values)
    monkeypatch.setattr(attention, "MAX_SCORES", 2 * TOKENS**2)  # two heads at a time
    torch.testing.assert_close(attend(queries, keys, values), whole)


@needs_bfloat16
def test_a_past_that_all_samples_share_need_not_be_repeated():
    queries, keys, values = split_heads(inputs(torch.bfloat16), HEADS)
    shared = attend(queries, keys[:1].expand_as(keys), values[:1].expand_as(values))
    assert torch.equal(shared[:1], attend(queries[:1], keys[:1], values[:1]))


@LONG
@pytest.mark.slow
def test_compiled_it_gives_the_same():
    table, qkv = table_of("tiled"), inputs()

    def run(x):
        return rotary_attention(x, table, num_heads=HEADS)

    eager = learned(qkv, run)
    for found, expected in zip(learned(qkv, torch.compile(run)), eager, strict=True):
        torch.testing.assert_close(found, expected)


@needs_bfloat16
@pytest.mark.parametrize("size", [1.0, 200.0, 2000.0])
@pytest.mark.parametrize("shift", [0.0, 300.0, -300.0])
def test_scores_of_any_size_become_weights(size, shift):
    """2 ** score overflows or vanishes for most of these; the weights must not."""
    scores = (size * torch.randn(3, 4, 7) + shift).bfloat16()
    expected = torch.softmax(scores.double() * math.log(2), -1)
    found = attention._softmax_base_2(scores.clone())
    torch.testing.assert_close(found.double(), expected, atol=0.01, rtol=0.01)


@needs_bfloat16
def test_what_is_not_visible_weighs_nothing_and_no_score_is_lost():
    scores = torch.zeros(2, 3, 4).bfloat16()
    scores[..., 2:] = -torch.inf
    assert torch.equal(attention._softmax_base_2(scores)[..., 2:], torch.zeros(2, 3, 2).bfloat16())
    assert torch.equal(scores[..., :2], torch.full((2, 3, 2), 0.5).bfloat16())


@needs_bfloat16
def test_a_score_that_is_no_number_stays_none():
    assert attention._softmax_base_2(torch.full((1, 2, 3), torch.nan).bfloat16()).isnan().all()
