import math

import pytest
import torch
import torch.nn.functional as F

from jepa.models.positions import Positions, refuse_wrong_ids, sincos_2d, sincos_3d
from jepa.models.rope import grid_coordinates, rope_angles, rotation

GRID = (2, 3, 4)


def positions(style, **options):
    settings = {"dim": 48, "num_heads": 2, "grid": GRID} | options
    return Positions(style, **settings)


def test_sincos_3d_is_its_definition():
    table = sincos_3d(GRID, 20)  # 8 channels an axis, of which the last axis keeps 4
    place = (1, 2, 3)
    row = table[(1 * 3 + 2) * 4 + 3]
    expected = []
    for coordinate in place:
        angles = [coordinate / 10_000 ** (i / 4) for i in range(4)]
        expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert row.tolist() == pytest.approx(expected[:20])


def test_sincos_2d_tells_the_width_first():
    row = sincos_2d((3, 4), 8)[1 * 4 + 3]  # height 1, width 3
    expected = []
    for coordinate in (3, 1):
        angles = [coordinate / 10_000 ** (i / 2) for i in range(2)]
        expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    assert row.tolist() == pytest.approx(expected)


def test_sincos_positions_are_added_to_the_tokens_at_their_places():
    tokens, ids = torch.randn(2, 3, 48), torch.tensor([[5, 0, 23], [1, 2, 3]])
    placed, table = positions("sincos_3d")(tokens, GRID, token_ids=ids)
    assert table is None
    torch.testing.assert_close(placed - tokens, sincos_3d(GRID, 48).float()[ids])


def test_fewer_frames_take_the_first_rows_of_the_table():
    tokens = torch.zeros(1, 12, 48)
    placed, _ = positions("sincos_3d")(tokens, (1, 3, 4))
    assert torch.equal(placed[0], sincos_3d(GRID, 48).float()[:12])


def test_another_grid_is_interpolated_and_its_middle_lies_between():
    """Twice as wide: the two new columns over an old one average to it, up to curvature."""
    made_for = positions("sincos_3d", grid=(1, 2, 8))
    placed, _ = made_for(torch.zeros(1, 32, 48), (1, 2, 16))
    wide, narrow = placed[0].view(2, 8, 2, 48), made_for.table.view(2, 8, 48)
    expected = 0.75 * narrow[:, 3] + 0.25 * narrow[:, 2]
    torch.testing.assert_close(wide[:, 3, 0], expected)


def test_a_larger_image_is_interpolated_bicubically():
    made_for = positions("sincos_2d", grid=(1, 3, 3))
    placed, _ = made_for(torch.zeros(1, 30, 48), (1, 5, 6))
    image = made_for.table.view(1, 3, 3, 48).permute(0, 3, 1, 2)
    expected = F.interpolate(image, size=(5, 6), mode="bicubic").permute(0, 2, 3, 1).view(30, 48)
    torch.testing.assert_close(placed[0], expected)


@pytest.mark.parametrize("style", ["interleaved", "tiled"])
def test_rotary_styles_give_the_tables_of_rope_and_leave_tokens_alone(style):
    tokens, ids = torch.randn(2, 2, 48), torch.tensor([[5, 0], [1, 23]])
    placed, table = positions(f"rope_{style}")(tokens, GRID, token_ids=ids)
    assert placed is tokens
    places = grid_coordinates(GRID)[ids]
    torch.testing.assert_close(table, rotation(rope_angles(places, head_dim=24, style=style)))


def test_places_are_stretched_to_the_grid_of_training():
    stretched = positions("rope_interleaved", rope_grid=16).stretch(grid_coordinates(GRID), GRID)
    assert stretched[-1].tolist() == [1.0, 15.0, 15.0]  # time is not stretched
    assert stretched[1].tolist() == pytest.approx([0.0, 0.0, 5.0])
    same = positions("rope_interleaved", rope_grid=16).stretch(
        grid_coordinates((2, 16, 16)), (2, 16, 16)
    )
    assert torch.equal(same, grid_coordinates((2, 16, 16)))


def test_a_grid_of_one_row_is_stretched_without_a_division_by_zero():
    grid = (1, 1, 4)
    stretched = positions("rope_interleaved", rope_grid=16).stretch(grid_coordinates(grid), grid)
    assert stretched[:, 1].tolist() == [0.0] * 4


def test_only_sincos_tables_are_saved():
    assert list(positions("sincos_3d").state_dict()) == ["table"]
    assert list(positions("rope_tiled").state_dict()) == []


@pytest.mark.parametrize(
    ("style", "options", "words"),
    [
        ("rope", {}, "positions must be one of rope_interleaved, rope_tiled, sincos_3d, sincos_2d"),
        ("sincos_3d", {"grid": None}, "need the grid that they are made for"),
        ("sincos_2d", {}, r"are for one frame, got grid \(2, 3, 4\)"),
        ("sincos_3d", {"rope_grid": 16}, "rope_grid=16 is for rotary positions"),
        ("rope_tiled", {"num_heads": 8}, "head_dim must be even and at least 12, got 6"),
        ("rope_tiled", {"num_heads": 5}, "dim=48 must be divisible by num_heads=5"),
        ("sincos_2d", {"grid": (1, 3, 3), "dim": 50}, "a multiple of 4, got 50"),
    ],
)
def test_settings_that_do_not_fit_are_refused(style, options, words):
    with pytest.raises(ValueError, match=words):
        positions(style, **options)


def test_image_positions_refuse_a_video():
    with pytest.raises(ValueError, match=r"for one frame, got grid \(2, 3, 3\)"):
        positions("sincos_2d", grid=(1, 3, 3))(torch.zeros(1, 18, 48), (2, 3, 3))


def test_ids_are_looked_at_on_the_cpu_only():
    """Elsewhere a look would wait for the device: a meta tensor could not even be looked at."""
    wrong = torch.tensor([24])
    with pytest.raises(ValueError, match=r"ids must be 0 to 23, .* got 24 to 24"):
        refuse_wrong_ids(GRID, ids=wrong)
    refuse_wrong_ids(GRID, ids=wrong.to("meta"))
    refuse_wrong_ids(GRID, ids=wrong[:0])
    refuse_wrong_ids(GRID, ids=torch.tensor([[0, 23]], dtype=torch.int32))
