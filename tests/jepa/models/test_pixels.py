import pytest
import torch

from jepa.models import normalize_pixels


def test_white_and_black_become_what_imagenet_statistics_say():
    video = torch.zeros(1, 3, 1, 1, 2, dtype=torch.uint8)
    video[..., 1] = 255
    black, white = normalize_pixels(video)[0, :, 0, 0].unbind(-1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(black, -mean / std)
    torch.testing.assert_close(white, (1 - mean) / std)


def test_the_bytes_stay_as_they_were():
    video = torch.randint(0, 256, (1, 3, 2, 4, 4), dtype=torch.uint8)
    before = video.clone()
    normalize_pixels(video)
    assert torch.equal(video, before)


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8), r"got \(2, 4, 3, 8, 8\)"),
        (torch.zeros(3, 4, 8, 8, dtype=torch.uint8), r"got \(3, 4, 8, 8\)"),
        (torch.zeros(1, 3, 4, 8, 8), "must be uint8 in .* got torch.float32"),
    ],
)
def test_another_layout_or_dtype_is_refused(video, words):
    with pytest.raises(ValueError, match=words):
        normalize_pixels(video)
