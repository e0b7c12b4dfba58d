"""Surprises against slow versions, and what may not leak."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jepa.evaluation.surprise.sources import LatentSurprise, PixelSurprise
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.pixels import normalize_pixels


def latent(distance="l1", **encoder_settings):
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=16,
        clip_length_frames=8,
        patch_size=8,
        tubelet_size=2,
        dim=24,
        depth=2,
        num_heads=2,
        **encoder_settings,
    ).eval()
    target = copy.deepcopy(encoder)
    levels = len(encoder.level_indices)
    predictor = MaskedLatentPredictor(
        encoder_dim=24, dim=24, depth=1, num_heads=2, num_levels=levels
    ).eval()
    for part in (encoder, target, predictor):  # fresh weights are so small that little is mixed
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return LatentSurprise(encoder, predictor, target, distance=distance)


def clips(batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, 8, 16, 16), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def slow_surprise(source, video, context_frames):
    """Token by token: (tokens of time,) of one clip."""
    pixels, answers = normalize_pixels(video), []
    shown = torch.arange(context_frames // 2 * 4).unsqueeze(0)
    asked = torch.arange(context_frames // 2 * 4, 16).unsqueeze(0)
    context = source.context_encoder(pixels[:, :, :context_frames])  # the future is not there
    predicted = source.predictor(context, context_ids=shown, target_ids=asked, grid=(4, 2, 2))
    target = source.target_encoder(pixels)
    for place, token in enumerate(asked[0].tolist()):
        wanted = F.layer_norm(target[0, token], (24,))
        got = predicted[0, place]
        answers.append(
            {
                "l1": (got - wanted).abs().mean(),
                "smooth_l1": F.smooth_l1_loss(got, wanted),
                "cosine": 1 - F.cosine_similarity(got, wanted, dim=0),
            }[source.distance]
        )
    return torch.stack(answers).view(-1, 4).mean(1)


@pytest.mark.parametrize("distance", ["l1", "smooth_l1", "cosine"])
def test_surprise_is_the_distance_of_prediction_and_normed_target(distance):
    source, video = latent(distance), clips()
    values = source.surprise(video, (2, 6))  # (contexts, batch, time)
    assert values.shape == (2, 2, 8)
    for row, context in enumerate((2, 6)):
        assert values[row, :, :context].isnan().all()
        for number in range(2):
            expected = slow_surprise(source, video[number : number + 1], context)
            by_frame = expected.repeat_interleave(2)
            torch.testing.assert_close(values[row, number, context:], by_frame)


def test_what_is_not_shown_does_not_change_what_is_predicted():
    """The context encoder sees the context only: to a blind target, later frames do not matter."""
    source = latent()
    for parameter in source.target_encoder.parameters():
        torch.nn.init.zeros_(parameter)
    video = clips(1)
    other = video.clone()
    other[:, :, 4:] = 255 - other[:, :, 4:]
    torch.testing.assert_close(
        source.surprise(video, (4,)), source.surprise(other, (4,)), equal_nan=True
    )
    other[:, :, 3] = 255 - other[:, :, 3]
    assert not torch.allclose(
        source.surprise(video, (4,))[..., 4:], source.surprise(other, (4,))[..., 4:]
    )


def test_a_multi_level_model_is_asked_for_all_levels_each_normed():
    source = latent(levels=[0, 1])
    video = clips(1)
    ids = torch.arange(16).unsqueeze(0)
    with torch.no_grad():
        pixels = normalize_pixels(video)
        predicted = source.predictor(
            source.context_encoder.levels(pixels, token_ids=ids[:, :8]),
            context_ids=ids[:, :8],
            target_ids=ids[:, 8:],
            grid=(4, 2, 2),
        )
        target = source.target_encoder.levels(pixels)[:, 8:]
        halves = [F.layer_norm(half, (24,)) for half in target.split(24, dim=-1)]
        expected = (predicted - torch.cat(halves, -1)).abs().mean()
    values = source.surprise(video, (4,))
    torch.testing.assert_close(values[0, 0, 4:].mean(), expected)


@pytest.mark.parametrize("context", [3, 0, 8])
def test_contexts_that_do_not_fit_the_tubelets_are_refused(context):
    with pytest.raises(ValueError, match=f"a context of {context} frames must be a multiple"):
        latent().surprise(clips(), (context,))


def test_parts_that_do_not_fit_and_unknown_distances_are_refused():
    source = latent()
    wrong = MaskedLatentPredictor(encoder_dim=24, dim=24, depth=1, num_heads=2, output_dim=12)
    with pytest.raises(ValueError, match="puts out 12 numbers a token, the target encoder 24"):
        LatentSurprise(source.context_encoder, wrong, source.target_encoder)
    with pytest.raises(ValueError, match="distance must be one of l1, smooth_l1, cosine"):
        latent("l2")


def ramp(values):
    """A clip of evenly grey frames: (1, 3, time, 2, 2)."""
    frames = torch.tensor(values, dtype=torch.uint8).view(1, 1, -1, 1, 1)
    return frames.expand(1, 3, -1, 2, 2)


def test_frame_difference_by_hand():
    values = PixelSurprise().surprise(ramp([0, 51, 51, 204]), (1, 2))
    expected = [[[np.nan, 0.2, 0.0, 0.6]], [[np.nan, np.nan, 0.0, 0.6]]]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-6)


def test_constant_velocity_expects_a_ramp_to_go_on():
    source = PixelSurprise(extrapolates=True)
    values = source.surprise(ramp([0, 51, 102, 153, 153]), (2,))
    np.testing.assert_allclose(values[0, 0, 2:].numpy(), [0, 0, 0.2], atol=1e-6)
    with pytest.raises(ValueError, match="contexts must be at least 2 frames"):
        source.surprise(ramp([0, 1, 2]), (1,))
