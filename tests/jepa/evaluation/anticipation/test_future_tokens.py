import math

import pytest
import torch

from jepa.evaluation.anticipation.future_tokens import Anticipator, future_ids, untrained_twin
from jepa.models import JepaModel, MaskedLatentPredictor, VideoEncoder


def make_model(*, positions="rope_interleaved", levels=None, output_dim=None, frames=8):
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=frames, dim=24, depth=2, num_heads=2, levels=levels
    )
    grid = encoder.grid if positions.startswith("sincos") else None
    predictor = MaskedLatentPredictor(
        encoder_dim=24, dim=24, depth=1, num_heads=2, positions=positions, grid=grid,
        num_levels=len(levels or [1]), output_dim=output_dim,
    )  # fmt: skip
    for parameter in (*encoder.parameters(), *predictor.parameters()):
        torch.nn.init.normal_(parameter, std=0.2)
    return JepaModel(encoder, predictor=predictor).eval()


def make_anticipator(*, fps=8.0, step_tubelets=None, **settings):
    model = make_model(**settings)
    return Anticipator(model, frames_per_second=fps, step_tubelets=step_tubelets).eval()


def random_video(frames, batch=2):
    return torch.randn(batch, 3, frames, 32, 32, generator=torch.Generator().manual_seed(1))


def test_one_second_after_a_clip_of_the_paper_is_four_tubelets_on():
    # 32 frames at 8 fps and 256 pixels: N = 16 * 256 tokens, int(1 * 8 / 2) = 4 tubelets of 256
    ids = future_ids(torch.tensor([4]), (16, 16, 16))
    assert ids.tolist() == [list(range(4096 + 1024, 4096 + 1280))]


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.3, 1), (1.0, 4), (1.74, 6), (1.75, 7)]
)
def test_whole_tubelets_lie_between_clip_and_future(seconds, steps):
    anticipator = make_anticipator()
    assert anticipator.steps_ahead(torch.tensor([seconds])).tolist() == [steps]


def test_a_time_that_floats_cannot_hold_is_not_rounded_down():
    seconds = torch.tensor([0.7])  # 0.69999999 in single precision: 6.9999999 tubelets
    assert float(seconds.double() * 20 / 2) < 7
    assert make_anticipator(fps=20.0).steps_ahead(seconds).tolist() == [7]


@torch.no_grad()
def test_the_future_is_what_the_predictor_says_of_these_places():
    anticipator = make_anticipator()
    video = random_video(4)  # 2 x 2 x 2 tokens, so ids 0 to 7
    observed, predicted = anticipator(video, torch.tensor([0.25, 0.5]))
    context = anticipator.encoder(video)
    expected = anticipator.predictor(
        context,
        context_ids=torch.arange(8).expand(2, -1),
        target_ids=torch.tensor([[12, 13, 14, 15], [16, 17, 18, 19]]),
        grid=(5, 2, 2),
    )
    torch.testing.assert_close(observed, context)
    torch.testing.assert_close(predicted, expected)


@torch.no_grad()
def test_clips_of_a_batch_have_their_own_times():
    anticipator, video = make_anticipator(), random_video(4)
    together = anticipator(video, torch.tensor([0.0, 1.0])).predicted
    for index, seconds in enumerate((0.0, 1.0)):
        alone = anticipator(video[index : index + 1], torch.tensor([seconds])).predicted
        torch.testing.assert_close(together[index], alone[0], rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


@torch.no_grad()
def test_rolling_forward_goes_on_from_its_own_predictions():
    anticipator, video = make_anticipator(step_tubelets=1), random_video(4)
    found = anticipator(video, torch.tensor([0.25, 0.5])).predicted  # 1 and 2 tubelets between
    context = anticipator.encoder(video)
    for step in range(3):
        places = torch.arange(8 + 4 * step).expand(2, -1)
        more = anticipator.predictor(
            context, context_ids=places, target_ids=places[:, :4] + 8 + 4 * step,
            grid=(3 + step, 2, 2),
        )  # fmt: skip
        context = torch.cat((context, more), dim=1)
    torch.testing.assert_close(found[0], context[0, 12:16])
    torch.testing.assert_close(found[1], context[1, 16:20])
    jumped = make_anticipator()(video, torch.tensor([0.25, 0.5])).predicted
    assert (found - jumped).abs().max() > 1e-3


@torch.no_grad()
def test_a_roll_in_one_stride_sees_no_prediction_before():
    stride, video = make_anticipator(step_tubelets=3), random_video(4)
    found = stride(video, torch.tensor([0.5, 0.5])).predicted
    context, places = stride.encoder(video), torch.arange(20).expand(2, -1)
    every = stride.predictor(
        context, context_ids=places[:, :8], target_ids=places[:, 8:], grid=(5, 2, 2)
    )
    torch.testing.assert_close(found, every[:, 8:])


@torch.no_grad()
def test_of_several_levels_the_last_is_taken():
    anticipator = make_anticipator(levels=[0, 1])
    video = random_video(4)
    observed, predicted = anticipator(video, torch.tensor([0.0, 0.0]))
    assert observed.shape == (2, 8, 24) and predicted.shape == (2, 4, 24)
    torch.testing.assert_close(observed, anticipator.encoder(video))
    whole = anticipator.predictor(
        anticipator.encoder.levels(video),
        context_ids=torch.arange(8).expand(2, -1),
        target_ids=torch.arange(8, 12).expand(2, -1),
        grid=(3, 2, 2),
    )
    torch.testing.assert_close(predicted, whole[..., 24:])


def test_without_a_predictor_nothing_is_predicted():
    model = JepaModel(make_model().encoder)
    tokens = Anticipator(model, frames_per_second=8.0)(random_video(4), torch.ones(2))
    assert tokens.predicted is None


def test_positions_that_end_say_how_far_can_be_anticipated():
    anticipator = make_anticipator(positions="sincos_3d")  # 4 tubelets; 2 are observed
    assert anticipator.largest_anticipation_seconds((2, 2, 2)) == 0.5
    anticipator(random_video(4), torch.tensor([0.25, 0.49]))
    with pytest.raises(ValueError, match=r"positions for 8 frames, and the clip takes 4 of them: "
                       r"less than 0\.5 s can be anticipated, 0\.5 s was asked"):  # fmt: skip
        anticipator(random_video(4), torch.tensor([0.25, 0.5]))
    with pytest.raises(ValueError, match="none is left, 0 s was asked; observe fewer frames"):
        anticipator(random_video(8), torch.zeros(2))


def test_rotary_positions_have_no_end_but_training_had():
    anticipator = make_anticipator()
    assert math.isinf(anticipator.largest_anticipation_seconds((2, 2, 2)))
    assert anticipator.trained_seconds((2, 2, 2)) == 0.5


def test_a_predictor_in_a_teachers_space_is_not_rolled_forward():
    anticipator = make_anticipator(output_dim=40)
    assert anticipator.predicted_dim == 40
    assert anticipator(random_video(4), torch.zeros(2)).predicted.shape == (2, 4, 40)
    with pytest.raises(ValueError, match="takes tokens of 24 channels and predicts 40"):
        make_anticipator(output_dim=40, step_tubelets=1)


def test_impossible_settings_are_refused():
    model = make_model()
    with pytest.raises(ValueError, match="frames_per_second must be above 0, got 0"):
        Anticipator(model, frames_per_second=0)
    with pytest.raises(ValueError, match="step_tubelets must be at least 1, got 0"):
        Anticipator(model, frames_per_second=8, step_tubelets=0)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Anticipator(model, frames_per_second=8)(random_video(4), torch.tensor([0.0, -1.0]))


def test_an_untrained_twin_has_the_same_parts_and_other_weights():
    model = make_model()
    twin, same = untrained_twin(model, seed=3), untrained_twin(model, seed=3)
    assert twin.predictor.config == model.predictor.config
    for ours, theirs, again in zip(
        model.parameters(), twin.parameters(), same.parameters(), strict=True
    ):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(theirs, again, rtol=0, atol=0)
    assert (model.encoder.patch_embed.weight - twin.encoder.patch_embed.weight).abs().max() > 0.01
