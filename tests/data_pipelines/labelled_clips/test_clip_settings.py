import pytest

from data_pipelines.labelled_clips.clip_settings import ClipSettings
from data_pipelines.transforms import RandomResizedClipCrop


def test_random_views_are_drawn_and_never_mirrored():
    settings = ClipSettings(8, 32, num_views=2, random_views=True, crop_scale=(0.5, 1.0))
    transforms = settings.transforms()
    assert len(transforms) == 2
    for transform in transforms:
        assert isinstance(transform, RandomResizedClipCrop)
        assert transform.scale == (0.5, 1.0) and not transform.horizontal_flip


@pytest.mark.parametrize("name", ["num_clips", "num_views", "image_size", "clip_length_frames"])
def test_a_count_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ClipSettings(**{"clip_length_frames": 4, "image_size": 32, name: 0})


def test_views_that_do_not_fit_the_crop_are_refused_at_once():
    with pytest.raises(ValueError, match="would all be the same"):
        ClipSettings(4, 32, num_views=3, crop="whole")
