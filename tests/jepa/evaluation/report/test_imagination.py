from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jepa.evaluation.report.clips import held_out_clips
from jepa.evaluation.report.imagination import imagine
from jepa.evaluation.report.section import NotMeasured
from jepa.evaluation.report.subject import load_subject


@pytest.fixture(scope="module")
def seen_clips(predictor_subject, clip_shards):
    return held_out_clips(predictor_subject, clip_shards, num_clips=8)


def test_a_world_model_imagines_the_recorded_actions(world_subject, world_clips):
    imagined = imagine(world_subject, world_clips)
    model, windows = world_subject.model, world_clips.windows
    assert imagined.horizon == 4 and imagined.num_seen == 1
    assert imagined.true.shape == imagined.predicted.shape
    start = model.encode(windows.frames[:2])[:, 0]
    alone = model.rollout(start, windows.states[:2, 0], windows.actions[:2]).tokens
    assert torch.allclose(imagined.predicted[:2], alone, atol=1e-5)
    assert torch.allclose(imagined.current[:2], start, atol=1e-5)


def test_the_frames_are_those_of_the_latents(world_subject, world_clips):
    imagined = imagine(world_subject, world_clips)
    frame = torch.from_numpy(imagined.frames[3, 2].copy()).permute(2, 0, 1)[None, :, None]
    assert torch.allclose(world_subject.model.encode(frame)[0, 0], imagined.latents[3, 2],
                          atol=1e-5)  # fmt: skip
    assert (imagined.true_frames[:, 0] == imagined.frames[:, 1]).all()
    assert (imagined.current_frames == imagined.frames[:, 0]).all()


def test_a_masked_predictor_is_asked_for_the_second_half(predictor_subject, seen_clips):
    imagined = imagine(predictor_subject, seen_clips)
    model, video = predictor_subject.model, seen_clips.video[:1]
    ids = torch.arange(32)[None]
    context = model.encoder(video, token_ids=ids[:, :16])
    predicted = model.predictor(
        context, context_ids=ids[:, :16], target_ids=ids[:, 16:], grid=(2, 4, 4)
    )
    assert torch.allclose(imagined.predicted[0, 0], predicted[0], atol=1e-5)
    whole = F.layer_norm(model.encoder(video), (48,))
    assert torch.allclose(imagined.true[0, 0], whole[0, 16:], atol=1e-5)
    assert imagined.frames.shape[1] == 2 and imagined.ahead(1) == "1 step of 2 frames"


def test_the_current_latent_has_not_seen_the_future(predictor_subject, seen_clips):
    video = torch.cat([batch.video for batch in seen_clips.batches])
    video[:, :, 2:] = 255 - video[:, :, 2:]
    changed = replace(seen_clips, batches=[seen_clips.batches[0]._replace(video=video)])
    before, after = (imagine(predictor_subject, clips) for clips in (seen_clips, changed))
    assert torch.equal(before.current, after.current)
    assert torch.equal(before.predicted, after.predicted)
    assert not torch.allclose(before.latents[:, 0], after.latents[:, 0])  # this one has


def test_an_encoder_alone_predicts_nothing(encoder_folder, clip_shards):
    subject = load_subject(encoder_folder)
    clips = held_out_clips(subject, clip_shards, num_clips=4)
    with pytest.raises(NotMeasured, match="holds an encoder only"):
        imagine(subject, clips)


def test_a_world_model_needs_actions(world_subject, clip_shards):
    clips = held_out_clips(world_subject, clip_shards, num_clips=4)
    with pytest.raises(NotMeasured, match="holds no actions: give shards of trajectories"):
        imagine(world_subject, clips)
    assert np.issubdtype(clips.frames.dtype, np.uint8)
