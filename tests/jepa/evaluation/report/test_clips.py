import numpy as np
import pytest

from jepa.evaluation.report.clips import held_out_clips


def test_clips_of_an_encoder_have_its_length_and_the_labels_of_their_videos(
    predictor_subject, clip_shards
):
    clips = held_out_clips(predictor_subject, clip_shards, num_clips=5)
    assert clips.video.shape[1:] == (3, 4, 32, 32) and len(clips.keys) == len(clips.labels) >= 5
    assert len(set(clips.keys)) == len(clips.keys)
    assert set(clips.labels) <= {"up", "down", "left", "right"}
    assert clips.windows is None and clips.frames.shape[-1] == 3


def test_windows_of_a_world_model_are_as_long_as_the_horizon(world_clips):
    assert world_clips.windows.horizon == 4 and len(world_clips.windows.frames) == 10
    assert world_clips.specification is not None
    frames = world_clips.frames
    assert frames.dtype == np.uint8 and frames.shape[2:] == (32, 32, 3)


def test_an_encoder_can_look_at_recordings(predictor_subject, recordings):
    clips = held_out_clips(predictor_subject, recordings, num_clips=4, frame_stride=2)
    assert clips.video.shape[1:] == (3, 4, 32, 32) and clips.windows is None


def test_the_fingerprint_is_of_the_data(predictor_subject, recordings, clip_shards):
    one, other = (held_out_clips(predictor_subject, data, num_clips=2).fingerprint
                  for data in (recordings, clip_shards))  # fmt: skip
    assert one != other


def test_one_clip_is_too_few(predictor_subject, clip_shards):
    with pytest.raises(ValueError, match="--clips must be at least 2, got 1"):
        held_out_clips(predictor_subject, clip_shards, num_clips=1)
