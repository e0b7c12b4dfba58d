import math

import pytest
import torch

from jepa.models import rope
from jepa.models.rope import axis_dim, grid_coordinates, rope_angles, rotate, rotation

HEAD_DIM = 28  # 8 channels an axis, 4 that rest


def turned(x, coordinates):
    return rotate(x, rotation(rope_angles(coordinates, head_dim=x.shape[-1])))


def turned_one_by_one(x, coordinates):
    """The definition: every channel pair is a complex number, turned by coordinate x frequency."""
    x, width = x.clone(), axis_dim(x.shape[-1])
    pairs = width // 2
    for token, place in enumerate(coordinates.tolist()):
        for axis, coordinate in enumerate(place):
            for pair in range(pairs):
                first = axis * width + 2 * pair
                angle = coordinate * 10_000.0 ** (-pair / pairs)
                for head in range(x.shape[1]):
                    real, imaginary = x[0, head, token, first : first + 2].tolist()
                    number = complex(real, imaginary) * complex(math.cos(angle), math.sin(angle))
                    x[0, head, token, first] = number.real
                    x[0, head, token, first + 1] = number.imag
    return x


def test_rotation_equals_complex_multiplication():
    x = torch.randn(1, 2, 5, HEAD_DIM, dtype=torch.float64)
    coordinates = torch.randint(0, 20, (5, 3)).float()
    torch.testing.assert_close(
        turned(x, coordinates), turned_one_by_one(x, coordinates), atol=1e-5, rtol=0
    )


def test_attention_depends_on_differences_of_places_only():
    query, key = torch.randn(2, 1, 1, 4, HEAD_DIM)
    here, there = torch.randint(0, 10, (2, 4, 3)).float()
    shift = torch.tensor([3.0, 7.0, 2.0])
    near = (turned(query, here) * turned(key, there)).sum(-1)
    far = (turned(query, here + shift) * turned(key, there + shift)).sum(-1)
    torch.testing.assert_close(near, far, atol=1e-4, rtol=0)
    assert not torch.allclose(near, (turned(query, here) * turned(key, there + shift)).sum(-1))


def test_every_channel_pair_keeps_its_norm():
    x = torch.randn(2, 3, 6, HEAD_DIM)
    result = turned(x, torch.rand(6, 3) * 50)
    norms = [y.unflatten(-1, (-1, 2)).norm(dim=-1) for y in (x, result)]
    torch.testing.assert_close(*norms)


def test_a_token_at_the_origin_is_not_rotated():
    x = torch.randn(1, 2, 3, HEAD_DIM)
    assert torch.equal(turned(x, torch.zeros(3, 3)), x)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_head_is_laid_out_as_time_height_width_rest(axis):
    x = torch.ones(1, 1, 1, HEAD_DIM)
    place = torch.zeros(1, 3)
    place[0, axis] = 1.0
    moved = (turned(x, place) != x).flatten().nonzero().flatten()
    width = axis_dim(HEAD_DIM)
    assert moved.tolist() == list(range(axis * width, (axis + 1) * width))


def test_every_sample_may_have_its_own_places():
    x, places = torch.randn(2, 3, 4, HEAD_DIM), torch.rand(2, 4, 3) * 9
    both = turned(x, places)
    for sample in range(2):
        alone = turned(x[sample : sample + 1], places[sample])
        torch.testing.assert_close(both[sample : sample + 1], alone)


def test_grid_coordinates_run_through_width_first():
    coordinates = grid_coordinates((2, 2, 3))
    assert coordinates[:4].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]]
    assert coordinates[6].tolist() == [1, 0, 0]
    assert len(coordinates.unique(dim=0)) == 12


def test_tiled_tables_give_the_members_of_a_pair_different_frequencies():
    """Channel j of an axis turns by frequency j mod 4, as the weights of V-JEPA 2 expect."""
    x = torch.randn(1, 1, 1, HEAD_DIM, dtype=torch.float64)
    angles = rope_angles(torch.tensor([[3.0, 5.0, 2.0]]), head_dim=HEAD_DIM, style="tiled")
    found = rotate(x, rotation(angles.double()))[0, 0, 0]
    expected = x[0, 0, 0].clone()
    for axis, coordinate in enumerate((3.0, 5.0, 2.0)):
        for channel in range(8):
            angle = coordinate * 10_000.0 ** (-(channel % 4) / 4)
            here, partner = 8 * axis + channel, 8 * axis + (channel ^ 1)
            sign = 1 if channel % 2 else -1
            turned = x[0, 0, 0, here] * math.cos(angle)
            expected[here] = turned + sign * x[0, 0, 0, partner] * math.sin(angle)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_tiled_tables_are_no_rotation():
    """Kept for the released weights; if this fails, the bug they were trained with is gone."""
    x = torch.randn(1, 1, 1, HEAD_DIM)
    angles = rope_angles(torch.tensor([[3.0, 5.0, 2.0]]), head_dim=HEAD_DIM, style="tiled")
    assert not torch.allclose(rotate(x, rotation(angles)).norm(), x.norm(), rtol=1e-3)


@pytest.mark.parametrize("head_dim", [13, 10, 0])
def test_a_head_that_cannot_be_rotated_is_refused(head_dim):
    with pytest.raises(ValueError, match=f"even and at least 12, got {head_dim}"):
        rope_angles(torch.zeros(1, 3), head_dim=head_dim)


def test_coordinates_of_another_layout_are_refused():
    with pytest.raises(ValueError, match=r"must be \(..., tokens, 3\), got \(5, 2\)"):
        rope_angles(torch.zeros(5, 2), head_dim=HEAD_DIM)


@pytest.mark.parametrize("style", ["interleaved", "tiled"])
def test_the_quick_rotation_equals_the_one_in_plain_operations(monkeypatch, style):
    x = torch.randn(2, 3, 5, HEAD_DIM).transpose(1, 2).transpose(2, 1)
    table = rotation(rope_angles(torch.rand(2, 5, 3) * 9, head_dim=HEAD_DIM, style=style))
    weights = torch.randn(2, 3, 5, HEAD_DIM)
    results = []
    for is_quick in (True, False):
        monkeypatch.setattr(rope, "runs_on_eager_cpu", lambda *_, answer=is_quick: answer)
        leaf = x.clone().requires_grad_()
        output = rotate(leaf, table)
        (output * weights).sum().backward()
        results.append((output.detach(), leaf.grad))
    for quick, plain in zip(*results, strict=True):
        torch.testing.assert_close(quick, plain)


def test_half_precision_is_rotated_in_single_precision():
    x = torch.randn(1, 2, 5, HEAD_DIM)
    table = rotation(rope_angles(torch.rand(5, 3) * 9, head_dim=HEAD_DIM))
    found = rotate(x.bfloat16(), table)
    assert torch.equal(found, rotate(x.bfloat16().float(), table).bfloat16())
