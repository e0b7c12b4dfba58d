import pytest
import torch

from data_pipelines.batch import ClipBatch, TrajectoryBatch
from jepa.evaluation.health.model_inputs import (
    clips_of,
    embedded_views,
    encoded,
    frames_with_states,
    pixels_of_places,
    thumbnails,
)
from jepa.models import JepaModel
from jepa.models.conv_encoder import ConvEncoder
from tests.jepa.evaluation.health.collapsed_encoders import fresh

VIDEO = torch.randint(0, 256, (10, 3, 4, 32, 32), dtype=torch.uint8)


def trajectories():
    states = torch.arange(40.0).view(10, 4, 1)
    keys = tuple(f"trajectory-{index // 2}" for index in range(10))
    return TrajectoryBatch(VIDEO, states, states.diff(dim=1), keys)


def test_padding_is_no_clip():
    is_valid = torch.arange(10) < 7
    batch = ClipBatch(VIDEO, torch.zeros(10, 4), tuple(map(str, range(10))), is_valid=is_valid)
    assert torch.equal(clips_of(JepaModel(fresh()), [batch]), VIDEO[:7])


def test_clips_encoded_a_few_at_a_time_are_those_encoded_at_once():
    encoder = fresh()
    with torch.no_grad():
        expected = encoder(VIDEO)
    torch.testing.assert_close(encoded(encoder, VIDEO), expected, rtol=1e-4, atol=1e-5)


def test_pixels_of_a_place_change_only_with_its_own_tubelet():
    encoder, other = fresh(), VIDEO.clone()
    other[:, :, 2:, 8:16, 16:24] = 255 - other[:, :, 2:, 8:16, 16:24]  # time 1, row 1, column 2
    differs = (pixels_of_places(encoder, VIDEO) != pixels_of_places(encoder, other)).any(-1)
    assert differs.nonzero()[:, 1].unique().tolist() == [16 + 4 + 2]


def test_frames_keep_their_states_and_trajectories():
    frames = frames_with_states([trajectories()], at_most_frames=100)
    assert frames.states[:, 0].tolist() == list(range(40))
    assert frames.trajectories.tolist() == [index // 8 for index in range(40)]
    assert torch.equal(frames.pixels[5, :, 0], VIDEO[1, :, 1])


def test_clips_without_states_are_no_trajectories():
    batch = ClipBatch(VIDEO, torch.zeros(10, 4), tuple(map(str, range(10))))
    with pytest.raises(ValueError, match="a world model is measured on trajectories"):
        frames_with_states([batch], at_most_frames=10)


def test_views_of_a_clip_differ_and_depend_on_the_seed_alone():
    encoder = fresh()
    views = embedded_views(encoder, VIDEO[:3], seed=1)
    assert views.shape == (3, 8, 48)
    assert (views[:, 0] - views[:, 1]).abs().amax() > 1e-3
    assert torch.equal(views, embedded_views(encoder, VIDEO[:3], seed=1))
    assert not torch.equal(views, embedded_views(encoder, VIDEO[:3], seed=2))


def test_an_encoder_that_cannot_hide_tokens_sees_frames_that_moved():
    encoder = ConvEncoder(image_size=32).eval()
    frames = VIDEO[:3, :, :1]
    views = embedded_views(encoder, frames, seed=1)
    assert views.shape == (3, 8, 64)
    assert (views[:, 0] - views[:, 1]).abs().amax() > 1e-4


def test_a_thumbnail_is_the_mean_of_its_pixels():
    clip = torch.full((1, 3, 4, 32, 32), 51, dtype=torch.uint8)
    torch.testing.assert_close(thumbnails(clip), torch.full((1, 3 * 4 * 8 * 8), 0.2))
