import numpy as np

from jepa.evaluation.report.clips import held_out_clips
from jepa.evaluation.report.feature_maps import feature_map_section, token_maps


def test_maps_of_a_world_model_are_of_single_frames(world_subject, world_clips):
    video = world_clips.video[0]
    maps = token_maps(world_subject, world_subject.model.encoder, video)
    assert maps.shape == (video.shape[1], 4, 4, 48)
    alone = token_maps(world_subject, world_subject.model.encoder, video[:, 2:3])
    assert np.allclose(maps[2], alone[0], atol=1e-5)


def test_maps_of_a_video_encoder_are_of_the_whole_clip_row_by_row(predictor_subject, clip_shards):
    video = held_out_clips(predictor_subject, clip_shards, num_clips=2).video[0]
    maps = token_maps(predictor_subject, predictor_subject.model.encoder, video)
    tokens = predictor_subject.model.encoder(video[None])[0]
    assert maps.shape == (2, 4, 4, 48)
    assert np.allclose(maps[1, 2, 3], tokens[16 + 2 * 4 + 3].numpy(), atol=1e-5)


def test_the_section_shows_two_clips_with_all_their_steps(world_subject, world_clips):
    section = feature_map_section(world_subject, world_clips)
    time = world_clips.video.shape[2]
    assert section.html.count('class="player"') == 2
    assert section.html.count("<img") == 2 * time * 3
    shares = section.numbers
    assert 0 < shares["variance_share"] <= 1 and 0 < shares["variance_share_untrained"] <= 1
