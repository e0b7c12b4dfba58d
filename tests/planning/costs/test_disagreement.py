"""The penalty of being unsure, by hand."""

import pytest
import torch

from planning.costs import Disagreement

STEPS = [[1.0, 5.0, 3.0], [0.0, 0.0, 6.0]]


@pytest.mark.parametrize(
    ("reduction", "expected"), [("mean", [3, 2]), ("max", [5, 6]), ("last", [3, 6])]
)
def test_reductions_by_hand(rollouts, reduction, expected):
    assert Disagreement(reduction)(rollouts(disagreement=STEPS), None).tolist() == expected


def test_a_unit_is_what_counts_as_one(rollouts):
    assert Disagreement("max", unit=2.0)(rollouts(disagreement=STEPS), None).tolist() == [2.5, 3]


def test_what_is_normal_costs_nothing_by_hand(rollouts):
    unsure = rollouts(disagreement=STEPS)
    assert Disagreement("max", threshold=2.0)(unsure, None).tolist() == [3, 4]
    by_step = torch.tensor([2.0, 2.0, 3.0])
    assert Disagreement(threshold=by_step, unit=2.0)(unsure, None).tolist() == [0.5, 0.5]


def test_calibration_lets_its_share_of_the_familiar_pass_at_every_step():
    generator = torch.Generator().manual_seed(0)
    familiar = torch.rand(1000, 3, generator=generator) * torch.tensor([1.0, 2.0, 4.0])
    cost = Disagreement.calibrated(familiar, quantile=0.8)
    assert cost.threshold.tolist() == pytest.approx([0.8, 1.6, 3.2], rel=0.05)
    assert cost.unit == pytest.approx(5.6 / 3, rel=0.05)
    assert (familiar > cost.threshold).float().mean(0).tolist() == pytest.approx([0.2] * 3)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_members_that_never_or_boundlessly_differ_are_nothing_to_calibrate_on(value):
    match = "familiar rollouts must disagree by more than 0 and finitely, their quantile 0.9 is"
    with pytest.raises(ValueError, match=match):
        Disagreement.calibrated(torch.full((10, 2), value))


def test_nan_stays_nan_whatever_the_reduction(rollouts):
    unsure = rollouts(disagreement=[[1.0, float("nan")]])
    for reduction in ("mean", "max", "last"):
        assert Disagreement(reduction)(unsure, None).isnan().all()


def test_a_gradient_flows_to_the_worst_step_only(rollouts):
    steps = torch.tensor([STEPS[0]], requires_grad=True)
    Disagreement("max")(rollouts(disagreement=steps), None).sum().backward()
    assert steps.grad.tolist() == [[0, 1, 0]]


def test_a_world_model_with_one_member_is_refused(rollouts):
    with pytest.raises(ValueError, match="needs a world model with an ensemble, this one has one"):
        Disagreement()(rollouts(tokens=torch.zeros(1, 2, 1, 1)), None)


@pytest.mark.parametrize("unit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_unit_that_is_none_is_refused(unit):
    with pytest.raises(ValueError, match="unit must be positive and finite, got"):
        Disagreement(unit=unit)


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), torch.tensor([1.0, float("inf")])])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be a number or .* at least 0 and finite"):
        Disagreement(threshold=threshold)


def test_a_threshold_of_another_horizon_is_refused(rollouts):
    with pytest.raises(ValueError, match="the threshold has 2 steps, the rollouts have 3; calib"):
        Disagreement(threshold=torch.ones(2))(rollouts(disagreement=STEPS), None)


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ValueError, match=r"quantile must be in \(0, 1\), got 1"):
        Disagreement.calibrated(torch.ones(5, 3), quantile=1)
    with pytest.raises(ValueError, match=r"\(rollouts, horizon\), at least one, got \(0, 3\)"):
        Disagreement.calibrated(torch.ones(0, 3))


def test_another_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction must be 'mean', 'max' or 'last', got 'sum'"):
        Disagreement("sum")
