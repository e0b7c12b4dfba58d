"""Features of patches: each frame gets its own, whatever the length of the video."""

import numpy as np
import pytest
import torch

from jepa.evaluation.dense.patches import EncoderPatches, PixelPatches, PlacePatches, resized
from jepa.evaluation.encoders import FrameByFrameEncoder, WholeClipEncoder
from jepa.models import VideoEncoder


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=8, tubelet_size=2, dim=24, depth=2,
        num_heads=2,
    ).eval()  # fmt: skip


def frames(num, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def single(module, length=4):
    return FrameByFrameEncoder(module, name="x", clip_length_frames=length, image_size=32)


def test_features_of_single_frames_are_those_of_encode_frames(module):
    video = frames(5)
    features = EncoderPatches(single(module))(video)
    whole = torch.from_numpy(video).permute(3, 0, 1, 2)[None]
    expected = module.encode_frames(whole)[0].unflatten(1, (4, 4))
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num", [1, 3, 4, 9])
def test_every_frame_has_features_whatever_the_length(module, num):
    features = EncoderPatches(single(module))(frames(num))
    assert features.shape == (num, 4, 4, 24)
    last = EncoderPatches(single(module))(frames(num)[-1:])
    torch.testing.assert_close(features[-1:], last, atol=1e-5, rtol=1e-4)


def test_frames_of_a_tubelet_share_the_tokens_of_whole_clips(module):
    encoder = WholeClipEncoder(module, name="x", clip_length_frames=4, image_size=32)
    video = frames(6)
    features = EncoderPatches(encoder)(video)
    assert features.shape == (6, 4, 4, 24)
    torch.testing.assert_close(features[0], features[1])
    assert not torch.allclose(features[1], features[2])
    clip = torch.from_numpy(video[:4]).permute(3, 0, 1, 2)[None]
    expected = module(clip)[0].unflatten(0, (2, 4, 4))
    torch.testing.assert_close(features[:4:2], expected, atol=1e-5, rtol=1e-4)


def test_layers_are_put_side_by_side(module):
    encoder = FrameByFrameEncoder(
        module, name="x", clip_length_frames=4, image_size=32, layers=(0, 1)
    )
    features = EncoderPatches(encoder)(frames(2))
    assert features.shape == (2, 4, 4, 48)
    torch.testing.assert_close(
        features[..., 24:], EncoderPatches(single(module))(frames(2)), atol=1e-5, rtol=1e-4
    )


def test_pixels_of_a_patch_are_its_own():
    video = frames(2, size=16)
    features = PixelPatches((4, 4))(video)
    assert features.shape == (2, 4, 4, 48)
    patch = video[1, 4:8, 8:12].transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(features[1, 1, 2].numpy(), patch.ravel(), atol=1e-6)


def test_the_place_knows_nothing_of_the_picture():
    place = PlacePatches((3, 5), degree=2)
    torch.testing.assert_close(place(frames(2)), place(frames(2, seed=1)))
    assert place(frames(2)).shape == (2, 3, 5, 5)  # y, y^2, x, xy, x^2
    assert len(place(frames(1)).flatten(0, 2).unique(dim=0)) == 15


def test_frames_are_resized_as_torchvision_does():
    from torchvision.transforms.v2.functional import resize

    video = frames(2, size=40)
    expected = resize(torch.from_numpy(video).permute(0, 3, 1, 2), [16, 24], antialias=True)
    difference = resized(video, (16, 24)).int() - expected.int()
    assert difference.abs().max() <= 1
