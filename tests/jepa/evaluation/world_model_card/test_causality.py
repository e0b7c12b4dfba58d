import pytest
import torch

from jepa.evaluation.world_model_card.causality import measure_causality


def test_a_causal_model_does_not_move_at_all(toys):
    found = measure_causality(toys.world(decay=0.9), toys.windows(horizon=6))
    assert len(found.predicted) == len(found.imagined) == 5
    assert len(found.encoded) == 6
    assert found.largest_change <= 1e-6
    assert found.later_change > 1  # the exchange was felt where it may be
    assert found.verdict.outcome == "pass"


@pytest.mark.parametrize(
    ("kind", "what", "size"),
    [("peeks when taught", "predicted", 0.1), ("peeks when imagining", "imagined", 0.1)],
)
def test_a_model_that_looks_ahead_is_caught(toys, kind, what, size):
    found = measure_causality(toys.world(kind), toys.windows())
    assert min(getattr(found, what)) > size  # at every step
    assert found.verdict.outcome == "fail"
    assert f"looks ahead: what is {what} up to step 1" in found.verdict.reason


def test_an_encoder_that_looks_ahead_is_caught(toys, mixes_time):
    model = toys.world()
    model.encoder = mixes_time
    model.latents = torch.nn.Identity()
    model.latents.distance = None
    found = measure_causality(model, toys.windows())
    assert max(found.predicted) == 0
    assert min(found.encoded) > 1e-4
    assert "what is encoded up to step 1" in found.verdict.reason


def test_a_model_that_says_nan_is_not_called_causal(toys):
    found = measure_causality(toys.world(decay=float("nan")), toys.windows())
    assert found.verdict.outcome == "fail"


def test_one_episode_has_no_other_future(toys):
    found = measure_causality(toys.world(), toys.windows(num_episodes=1))
    assert found.verdict == (
        "not measurable",
        "needs two episodes, and windows of at least two actions",
    )
