import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from data_pipelines.labelled_clips.evaluation_crops import CropOfResizedFrame, evaluation_crops

GENERATOR = torch.Generator()


def ramp(height, width, *, along_width):
    """One frame whose brightness is 2 times the column, or the row: (1, height, width, 3)."""
    rows, columns = np.mgrid[:height, :width]
    values = (2 * (columns if along_width else rows)).astype(np.uint8)
    return torch.from_numpy(np.repeat(values[None, :, :, None], 3, axis=3))


def test_three_crops_go_from_one_end_of_the_long_side_to_the_other():
    frames = ramp(64, 96, along_width=True)
    # short side int(56 * 256 / 224) = 64: the frame keeps its size, the slack is 96 - 56 = 40
    crops = evaluation_crops("official", 56, 3)
    firsts = [int(crop(frames, GENERATOR)[0, 0, 0, 0]) for crop in crops]
    assert firsts == [0, 2 * 20, 2 * 40]


def test_across_the_long_side_the_crop_is_in_the_middle():
    frames = ramp(64, 96, along_width=False)
    for crop in evaluation_crops("official", 56, 3):
        assert int(crop(frames, GENERATOR)[0, 0, 0, 0]) == 2 * 4  # (64 - 56) // 2 rows down


def test_a_tall_frame_is_cropped_from_the_top_to_the_bottom():
    frames = ramp(96, 64, along_width=False)
    firsts = [int(c(frames, GENERATOR)[0, 0, 0, 0]) for c in evaluation_crops("official", 56, 3)]
    assert firsts == [0, 40, 80]
    across = ramp(96, 64, along_width=True)
    assert int(CropOfResizedFrame(56)(across, GENERATOR)[0, 0, 0, 0]) == 8


def test_one_view_is_torchvisions_resize_and_center_crop():
    frames = torch.randint(0, 256, (2, 70, 110, 3), dtype=torch.uint8)
    images = frames.permute(0, 3, 1, 2)
    resized = functional.resize(images, [int(48 * 256 / 224)], antialias=True)
    expected = functional.center_crop(resized, [48, 48])
    difference = CropOfResizedFrame(48)(frames, GENERATOR).transpose(0, 1).int() - expected.int()
    # torchvision rounds a half slack up to even and we down: at most the neighbouring column
    assert resized.shape[-2] == 54 and difference.abs().max() == 0


def test_square_views_are_as_large_as_the_short_side():
    frames = ramp(60, 100, along_width=True)
    firsts = [
        int(crop(frames, GENERATOR)[0, 0, 0, 0]) for crop in evaluation_crops("square", 60, 3)
    ]
    assert firsts == [0, 40, 80]


def test_whole_frames_have_one_view_only():
    (crop,) = evaluation_crops("whole", 30, 1)
    assert crop(ramp(60, 120, along_width=True), GENERATOR).shape == (3, 1, 30, 30)
    with pytest.raises(ValueError, match="3 of whole frames would all be the same"):
        evaluation_crops("whole", 30, 3)


def test_an_unknown_crop_is_named():
    with pytest.raises(ValueError, match="official, square, whole, got 'middle'"):
        evaluation_crops("middle", 30, 1)  # pyright: ignore
    with pytest.raises(ValueError, match=r"place must be in \[0, 3\), got 3"):
        CropOfResizedFrame(30, 3, 3)
