import pytest
import torch
from torchvision.transforms.v2 import functional

from data_pipelines import transforms
from data_pipelines.transforms import (
    CropBox,
    RandomResizedClipCrop,
    ResizeShortSideAndCenterCrop,
    ResizeWholeFrame,
    SquareAlongLongSide,
    crop_and_resize,
    random_crop_box,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def coordinates(time, height, width):
    """Every frame alike: red tells the row, green the column."""
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    frame = torch.stack([rows, columns, torch.zeros_like(rows)], dim=-1)
    return frame.expand(time, height, width, 3).contiguous()


def test_all_frames_of_a_clip_get_the_same_crop_and_mirror():
    transform = RandomResizedClipCrop(16)
    for seed in range(10):
        clip = transform(coordinates(5, 60, 80), generator(seed))
        assert clip.shape == (3, 5, 16, 16) and clip.dtype == torch.uint8
        assert (clip == clip[:, :1]).all()


def test_different_seeds_give_different_crops_and_equal_seeds_equal_ones():
    transform, frames = RandomResizedClipCrop(16), coordinates(2, 60, 80)
    assert torch.equal(transform(frames, generator(1)), transform(frames, generator(1)))
    assert not torch.equal(transform(frames, generator(1)), transform(frames, generator(2)))


def test_half_of_the_clips_are_mirrored():
    transform, frames = RandomResizedClipCrop(16, scale=(1.0, 1.0)), coordinates(1, 64, 64)
    shared = generator()
    clips = [transform(frames, shared) for _ in range(200)]
    mirrored = sum(bool(clip[1, 0, 0, 0] > clip[1, 0, 0, -1]) for clip in clips)
    assert 70 < mirrored < 130


def test_without_flip_nothing_is_mirrored():
    transform = RandomResizedClipCrop(16, horizontal_flip=False)
    for seed in range(20):
        clip = transform(coordinates(1, 64, 64), generator(seed))
        assert clip[1, 0, 0, 0] < clip[1, 0, 0, -1]


def test_boxes_lie_in_the_frame_with_the_asked_area_and_shape():
    shared = generator()
    for _ in range(300):
        top, left, height, width = random_crop_box(
            120, 200, scale=(0.3, 0.6), aspect_ratio=(0.75, 1.35), generator=shared
        )
        assert top >= 0 and left >= 0 and top + height <= 120 and left + width <= 200
        assert 0.29 < height * width / (120 * 200) < 0.61
        assert 0.73 < width / height < 1.37


def test_a_frame_no_box_fits_gets_the_central_one():
    box = random_crop_box(
        10, 200, scale=(0.9, 1.0), aspect_ratio=(0.75, 1.35), generator=generator()
    )
    assert (box.top, box.height) == (0, 10)
    assert box.width == round(10 * 1.35) and box.left == (200 - box.width) // 2


def test_evaluation_takes_the_central_square():
    clip = ResizeShortSideAndCenterCrop(40)(coordinates(2, 40, 80), generator())
    assert torch.equal(clip[1, 0, 0], torch.arange(20, 60, dtype=torch.uint8))
    assert torch.equal(clip[0, 1, :, 0], torch.arange(40, dtype=torch.uint8))


@pytest.mark.parametrize(("height", "width", "channel"), [(40, 81, 1), (81, 40, 0)])
def test_spatial_views_go_from_one_end_of_the_long_side_to_the_other(height, width, channel):
    frames = coordinates(2, height, width)
    views = [SquareAlongLongSide(40, place, 3)(frames, generator()) for place in range(3)]
    assert [int(view[channel, 0].min()) for view in views] == [0, 20, 41]
    assert [int(view[channel, 0].max()) for view in views] == [39, 59, 80]
    assert all(int(view[1 - channel, 0].max()) == 39 for view in views)
    only = SquareAlongLongSide(32)(frames, generator())
    assert torch.equal(only, ResizeShortSideAndCenterCrop(32)(frames, generator()))


def test_two_views_of_a_square_frame_are_the_same():
    frames = coordinates(1, 48, 48)
    views = [SquareAlongLongSide(24, place, 2)(frames, generator()) for place in range(2)]
    assert torch.equal(*views)
    with pytest.raises(ValueError, match=r"place must be in \[0, 2\), got 2"):
        SquareAlongLongSide(24, 2, 2)


def test_frames_resized_a_few_at_a_time_are_those_resized_together(monkeypatch):
    frames = torch.randint(0, 256, (7, 60, 80, 3), dtype=torch.uint8)
    together = crop_and_resize(frames, CropBox(5, 6, 50, 61), (32, 24), antialias=True)
    monkeypatch.setattr(transforms, "_RESIZED_AT_ONCE_BYTES", 3 * 3 * 50 * 61)  # 3 + 3 + 1
    parts = crop_and_resize(frames, CropBox(5, 6, 50, 61), (32, 24), antialias=True)
    assert torch.equal(parts, together)
    order_of_planes = functional.resize(
        frames[:, 5:55, 6:67].permute(0, 3, 1, 2).contiguous(), [32, 24], antialias=True
    )
    assert torch.equal(parts, order_of_planes.transpose(0, 1))


def test_the_whole_frame_is_kept_when_resizing():
    clip = ResizeWholeFrame(32)(coordinates(2, 64, 64), generator())
    assert clip.shape == (3, 2, 32, 32)
    assert clip[0, 0, 0, 0] <= 1 and clip[0, 0, -1, 0] >= 62
    same = ResizeWholeFrame(64)(coordinates(2, 64, 64), generator())
    assert torch.equal(same.permute(1, 2, 3, 0), coordinates(2, 64, 64))


def test_a_box_is_resized_to_any_height_and_width():
    clip = crop_and_resize(coordinates(2, 48, 64), CropBox(8, 4, 40, 60), (20, 15), antialias=True)
    assert clip.shape == (3, 2, 20, 15) and clip.dtype == torch.uint8
    # The middle of each of 20 rows of 2 pixels, and of 15 columns of 4, away from the borders.
    rows, columns = 8.5 + 2 * torch.arange(20), 5.5 + 4 * torch.arange(15)
    assert (clip[0, 0, 1:-1, 7] - rows[1:-1]).abs().max() <= 0.5
    assert (clip[1, 1, 9, 1:-1] - columns[1:-1]).abs().max() <= 0.5


def test_settings_that_make_no_box_are_refused():
    with pytest.raises(ValueError, match="scale must satisfy"):
        RandomResizedClipCrop(16, scale=(0.5, 0.3))
    with pytest.raises(ValueError, match="aspect_ratio must satisfy"):
        RandomResizedClipCrop(16, aspect_ratio=(0.0, 1.0))
