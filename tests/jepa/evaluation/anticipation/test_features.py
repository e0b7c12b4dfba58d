from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jepa.evaluation.anticipation.features import AnticipationFeatures, encode_clips
from jepa.evaluation.anticipation.future_tokens import Anticipator
from jepa.models import JepaModel, MaskedLatentPredictor, VideoEncoder

LABELS = np.array([[0, 1, 2], [1, 0, 3], [2, 2, 0]])


@pytest.fixture(scope="module")
def anticipator():
    torch.manual_seed(0)
    encoder = VideoEncoder(image_size=32, clip_length_frames=4, dim=24, depth=1, num_heads=2)
    predictor = MaskedLatentPredictor(encoder_dim=24, dim=24, depth=1, num_heads=2)
    model = JepaModel(encoder, predictor=predictor)
    return Anticipator(model, frames_per_second=8.0).eval()


def make_seen(num_clips=5):
    generator = torch.Generator().manual_seed(0)
    return [
        SimpleNamespace(
            clip=SimpleNamespace(
                row=index % 3,
                anticipation_seconds=0.25 * index,
                segment=SimpleNamespace(video_id=f"video{index // 2}"),
            ),
            video=torch.randint(0, 256, (3, 4, 32, 32), generator=generator, dtype=torch.uint8),
        )
        for index in range(num_clips)
    ]


def encode(anticipator, seen, **settings):
    return encode_clips(anticipator, seen, LABELS, num_clips=7, batch_size=2, **settings)


def test_rows_are_the_tokens_of_their_clips_with_labels_and_videos(anticipator):
    seen = make_seen()
    features = encode(anticipator, seen)
    assert len(features) == 5 and features.observed.shape == (5, 8, 24)
    for row, item in enumerate(seen):
        seconds = torch.tensor([item.clip.anticipation_seconds])
        with torch.no_grad():
            alone = anticipator(item.video[None], seconds)
        np.testing.assert_allclose(features.observed[row], alone.observed[0], atol=1e-5)
        np.testing.assert_allclose(features.predicted[row], alone.predicted[0], atol=1e-5)
    np.testing.assert_array_equal(features.labels, LABELS[[0, 1, 2, 0, 1]])
    assert features.videos.tolist() == [0, 0, 1, 1, 2]


def test_modes_show_observed_tokens_predicted_ones_or_both(anticipator):
    features = encode(anticipator, make_seen())
    rows = np.array([0, 3])
    both = features.tokens("both", rows)
    assert both.shape == (2, 12, 24) and both.dtype == torch.float32
    torch.testing.assert_close(both[:, :8], features.tokens("encoder", rows))
    torch.testing.assert_close(both[:, 8:], features.tokens("predictor", rows))
    assert torch.equal(both[:, :8], torch.from_numpy(features.observed[rows]))


def test_the_last_frame_alone_shows_no_motion(anticipator):
    seen = make_seen(1)
    still = [SimpleNamespace(clip=seen[0].clip, video=seen[0].video[:, [3] * 4])]
    expected = encode(anticipator, still)
    found = encode(anticipator, seen, last_frame_only=True)
    np.testing.assert_array_equal(found.observed, expected.observed)
    np.testing.assert_array_equal(found.predicted, expected.predicted)
    assert np.abs(found.observed - encode(anticipator, seen).observed).max() > 1e-2


def test_features_may_be_kept_on_the_disk(anticipator, tmp_path):
    kept = encode(anticipator, make_seen(), folder=tmp_path / "cache")
    held = encode(anticipator, make_seen())
    assert isinstance(kept.observed, np.memmap) and kept.observed.dtype == np.float16
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
        "observed.npy", "predicted.npy",
    ]  # fmt: skip
    np.testing.assert_allclose(kept.observed, held.observed, atol=4e-3)
    tokens = kept.tokens("both", np.arange(5))
    torch.testing.assert_close(tokens, held.tokens("both", np.arange(5)), atol=4e-3, rtol=0)


def make_features(predicted_dim):
    zeros = np.zeros((2, 3, 24), np.float32)
    predicted = None if predicted_dim is None else np.zeros((2, 1, predicted_dim), np.float32)
    return AnticipationFeatures(zeros, predicted, LABELS[:2], np.arange(2))


def test_what_cannot_stand_side_by_side_is_refused():
    other = make_features(40)
    assert other.dim("encoder") == 24 and other.dim("predictor") == 40
    with pytest.raises(ValueError, match="24 channels, those predicted 40, of another model"):
        other.tokens("both", np.arange(2))
    with pytest.raises(ValueError, match="mode 'both': the model holds no predictor"):
        make_features(None).dim("both")


def test_without_clips_there_is_nothing_to_encode(anticipator):
    with pytest.raises(ValueError, match="no clips to anticipate from"):
        encode(anticipator, [])
