"""The parts that are exported give what the models give; no ONNX is needed to see it."""

import pytest
import torch

from jepa.exportable_parts import TensorSpec, dynamics_part, encoder_part, predictor_part
from jepa.models.dynamics import GRU, ActionConditionedPredictor, Ensemble
from jepa.models.predictor import MaskedLatentPredictor

SIZES = {"batch": 3, "context": 11, "targets": 7}


def shaken(model):
    """Weights large enough that everything matters, also what starts as zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def make_dynamics(*, state_dim=4):
    return shaken(
        ActionConditionedPredictor(
            latent_dim=10,
            grid=(2, 3),
            state_dim=state_dim,
            action_dim=2,
            dim=24,
            depth=1,
            num_heads=2,
        )
    )


def drawn(example):
    """Random inputs, from names to tensors."""
    names = [spec.name for spec in example.inputs]
    return dict(zip(names, example.draw(SIZES), strict=True))


def outputs_of(part, inputs):
    with torch.no_grad():
        outputs = part(*inputs.values())
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


def test_names_of_axes_become_lengths_and_numbers_stay_in_their_range():
    floats = TensorSpec("x", ("batch", 3, "context"), "")
    assert floats.sized(SIZES) == (3, 3, 11)
    assert floats.draw(SIZES).shape == (3, 3, 11)
    ids = TensorSpec("ids", ("batch", 400), "", torch.int64, below=5).draw(SIZES)
    assert ids.dtype == torch.int64 and ids.unique().tolist() == [0, 1, 2, 3, 4]
    seeded = [floats.draw(SIZES, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*seeded)


def test_what_comes_out_is_what_the_example_tells(make_encoder):
    encoder = make_encoder()
    predictor = shaken(MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2))
    for part, example in (
        encoder_part(encoder, size=(2, 48, 40)),
        predictor_part(predictor, encoder),
        dynamics_part(make_dynamics()),
        dynamics_part(make_dynamics(), horizon=3),
        dynamics_part(make_dynamics(state_dim=0), horizon=3),
    ):
        found = [tuple(output.shape) for output in outputs_of(part.eval(), drawn(example))]
        assert found == [spec.sized(SIZES) for spec in example.outputs]


def test_the_predictor_is_asked_about_the_grid_and_the_kind_of_its_size(make_encoder):
    encoder = make_encoder()
    predictor = shaken(
        MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2, has_modalities=True)
    )
    for size, grid, modality in (
        ((4, 40, 32), (2, 5, 4), "video"),
        ((1, 40, 48), (1, 5, 6), "image"),
        (None, (2, 4, 4), "video"),
    ):
        part, example = predictor_part(predictor, encoder, size=size)
        inputs = drawn(example)
        places = grid[0] * grid[1] * grid[2]
        assert all(
            0 <= inputs[name].min() < inputs[name].max() < places for name in list(inputs)[1:]
        )
        context = inputs["context"]
        ids = {"context_ids": inputs["context_ids"], "target_ids": inputs["target_ids"]}
        with torch.no_grad():
            expected = predictor(context, **ids, grid=grid, modality=modality)
        torch.testing.assert_close(outputs_of(part, inputs), (expected,))


def test_a_step_is_the_first_frame_of_a_rollout():
    dynamics = make_dynamics()
    step, example = dynamics_part(dynamics)
    rollout, _ = dynamics_part(dynamics, horizon=2)
    inputs = drawn(example)
    tokens, state = outputs_of(step, inputs)
    two = {**inputs, "action": torch.stack((inputs["action"], torch.randn(3, 2)), 1)}
    many_tokens, many_states = outputs_of(rollout, two)
    torch.testing.assert_close((tokens, state), (many_tokens[:, 0], many_states[:, 0]))


def test_without_a_state_nothing_of_a_state_goes_in_or_comes_out():
    dynamics = make_dynamics(state_dim=0)
    part, example = dynamics_part(dynamics)
    inputs = drawn(example)
    assert list(inputs) == ["tokens", "action"]
    with torch.no_grad():
        prediction, _ = dynamics.step(inputs["tokens"], torch.zeros(3, 0), inputs["action"])
    torch.testing.assert_close(outputs_of(part, inputs), (prediction.tokens,))


def test_pixels_are_normalised_inside(make_encoder):
    encoder = make_encoder()
    part, example = encoder_part(encoder, takes_pixels=True)
    (video,) = drawn(example).values()
    assert video.dtype == torch.uint8
    assert video.min() < 10 and video.max() > 245
    plain, _ = encoder_part(encoder)
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # of ImageNet
    by_hand = (video / 255 - torch.tensor(mean).view(3, 1, 1, 1)) / torch.tensor(std).view(
        3, 1, 1, 1
    )
    found, expected = outputs_of(part, {"video": video}), outputs_of(plain, {"video": by_hand})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_horizon_of_nothing_is_refused():
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        dynamics_part(make_dynamics(), horizon=0)


def test_an_ensemble_is_refused():
    ensemble = Ensemble(GRU(dim=24), num_members=3)
    ensemble.build(latent_dim=10, action_dim=2, state_dim=0, grid=(1, 1), output="residual")
    with pytest.raises(ValueError, match="an ensemble of 3 members is not exported, as the file"):
        dynamics_part(ensemble)
