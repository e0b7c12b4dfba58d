import pytest
import torch

from data_pipelines.batch import ClipBatch
from jepa.evaluation.health.measuring import Measured, measure
from jepa.evaluation.health.verdict import judge
from jepa.models import JepaModel, MaskedLatentPredictor
from tests.jepa.evaluation.health.collapsed_encoders import KINDS, fresh


def moving_squares(num_clips=16):
    """Clips of squares that move, on backgrounds of noise, as one batch."""
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 60, (num_clips, 3, 1, 32, 32), generator=generator).repeat(
        1, 1, 4, 1, 1
    )
    for clip in video:
        colour = torch.randint(80, 256, (3, 1, 1), generator=generator)
        x, y, dx = torch.randint(0, 16, (3,), generator=generator).tolist()
        for time in range(4):
            left = (x + time * (dx % 4)) % 24
            clip[:, time, y : y + 8, left : left + 8] = colour
    keys = tuple(f"clip-{index}" for index in range(num_clips))
    return ClipBatch(video.to(torch.uint8), torch.zeros(num_clips, 4), keys)


BATCH = moving_squares()


@pytest.fixture(scope="module")
def twins():
    """What an untrained encoder has, by its positions."""
    styles = ("rope_interleaved", "sincos_3d")
    return {s: measure(JepaModel(fresh(7, positions=s)), [BATCH]).values for s in styles}


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_that_is_collapsed_on_purpose_is_called_collapsed(kind, twins):
    encoder = KINDS[kind]()
    values = measure(JepaModel(encoder), [BATCH]).values
    judgement = judge(values, twins[encoder.config["positions"]])
    assert judgement.verdict == "collapsed", judgement.line


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_encoder_of_random_weights_is_called_untrained_and_not_collapsed(seed, twins):
    values = measure(JepaModel(fresh(seed)), [BATCH]).values
    judgement = judge(values, twins["rope_interleaved"])
    assert judgement.verdict == "untrained", judgement.line


def test_tokens_may_be_equal_while_clips_differ_and_the_other_way_round():
    of_tokens = measure(JepaModel(KINDS["tokens_all_equal"]()), [BATCH]).values
    assert of_tokens["place_variance"] < 0.01 < 0.9 < of_tokens["clip_variance"]
    assert of_tokens["duplicate_tokens"] == 1
    of_clips = measure(JepaModel(KINDS["clips_all_equal"]()), [BATCH]).values
    assert of_clips["clip_variance"] < 1e-6 < 0.9 < of_clips["place_variance"]
    assert of_clips["dead_tokens"] == 1


def test_the_rank_of_few_directions_is_their_number():
    values = measure(JepaModel(KINDS["two_directions"]()), [BATCH]).values
    assert 1 < values["effective_rank"] <= 2.01
    assert values["lidar"] <= 2.01


def test_the_same_seed_measures_the_same_and_the_model_stays_as_it_is():
    encoder = fresh(1)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, second = (measure(JepaModel(encoder), [BATCH], seed=3).values for _ in range(2))
    assert first == second
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_predictor_is_measured_beside_the_mean_and_an_untrained_one_is_no_better():
    predictor = MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2)
    values = measure(JepaModel(fresh(1), predictor=predictor), [BATCH]).values
    assert values["prediction_gain"] < 0
    assert {"prediction_cosine", "prediction_cosine_shuffled", "prediction_cosine_mean"} <= {
        *values
    }


def test_the_lag_behind_an_online_encoder_is_measured():
    encoder, online = fresh(1), fresh(1)
    values = measure(JepaModel(encoder), [BATCH], online=online).values
    assert values["ema_distance"] == 0
    assert values["ema_feature_lag"] == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.1)
    values = measure(JepaModel(encoder), [BATCH], online=online).values
    assert values["ema_distance"] == pytest.approx(0.1, rel=1e-3)


def test_what_is_no_number_is_left_out():
    found = Measured()
    found.note(a=float("nan"), b=torch.tensor(2.0))
    assert found.values == {"b": 2.0}


def test_a_single_clip_is_refused():
    one = ClipBatch(BATCH.video[:1], BATCH.timestamps_seconds[:1], BATCH.keys[:1])
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        measure(JepaModel(fresh(1)), [one])
