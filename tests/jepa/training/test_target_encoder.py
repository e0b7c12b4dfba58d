import pytest
import torch
from torch import nn

from jepa.training.target_encoder import TargetEncoder


def filled(value):
    module = nn.Linear(3, 2)
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)
    return module


def test_after_k_updates_the_share_that_is_left_is_the_momentum_to_the_k():
    target = TargetEncoder(filled(0.0), momentum=(0.9, 0.9))
    online = filled(1.0)
    for _ in range(3):
        target.update(online, progress=0.5)
    for parameter in target.encoder.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1 - 0.9**3))
    for parameter in online.parameters():
        assert (parameter == 1).all()


def test_momentum_goes_from_first_to_last_along_a_straight_line():
    target = TargetEncoder(filled(0.0), momentum=(0.6, 1.0))
    momenta = [target.momentum_at(progress) for progress in (0.0, 0.25, 0.5, 1.0, 7.0)]
    assert momenta == pytest.approx([0.6, 0.7, 0.8, 1.0, 1.0])


def test_equal_momenta_stay_constant():
    target = TargetEncoder(filled(0.0), momentum=(0.99925, 0.99925))
    assert {target.momentum_at(progress / 7) for progress in range(8)} == {0.99925}


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_without_momentum_it_is_the_online_encoder_and_with_all_of_it_it_stands(momentum, expected):
    target = TargetEncoder(filled(0.0), momentum=(momentum, momentum))
    target.update(filled(1.0), progress=0.0)
    assert all((parameter == expected).all() for parameter in target.encoder.parameters())


def test_it_is_a_copy_and_shares_no_memory(make_encoder):
    online = make_encoder()
    target = TargetEncoder(online, momentum=(0.9, 1.0))
    pairs = list(zip(target.encoder.parameters(), online.parameters(), strict=True))
    assert all(torch.equal(slow, fast) for slow, fast in pairs)
    assert all(slow.data_ptr() != fast.data_ptr() for slow, fast in pairs)


def test_no_gradient_reaches_it_or_goes_through_it(make_encoder):
    target = TargetEncoder(make_encoder(), momentum=(0.9, 1.0))
    video = torch.randn(1, 3, 4, 32, 32, requires_grad=True)
    assert not target(video).requires_grad
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_it_is_kept_in_single_precision():
    target = TargetEncoder(filled(0.0).bfloat16(), momentum=(0.999, 0.999))
    target.update(filled(1.0).bfloat16(), progress=0.0)
    for parameter in target.encoder.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.001))


@pytest.mark.parametrize("momentum", [(1.0, 0.9), (-0.1, 0.9), (0.9, 1.1)])
def test_momenta_that_fall_or_leave_the_unit_interval_are_refused(momentum):
    with pytest.raises(ValueError, match="0 <= first <= last <= 1, got"):
        TargetEncoder(filled(0.0), momentum=momentum)
