import logging

import pytest
import torch

from jepa.training.loss_policy import LOSSES_FOR_A_MEDIAN, LossPolicy, LossWatch


def asks(watch, *losses, norm=1.0, step=0, keys=("a", "b")):
    """Whether an update of these batches is allowed."""
    for loss in losses:
        watch.note(torch.tensor(loss), keys)
    return watch.allows_update(torch.tensor(norm), step=step)


def settled(policy, loss=1.0):
    watch = LossWatch(policy)
    for _ in range(LOSSES_FOR_A_MEDIAN):
        assert asks(watch, loss)
    return watch


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_and_names_step_and_samples(value):
    with pytest.raises(
        ValueError, match=r"the loss is -?(nan|inf) at step 7 \(samples a, b, \.\.\."
    ):
        asks(LossWatch(LossPolicy()), value, step=7)


def test_a_gradient_that_is_no_number_stops_the_run_though_the_loss_is_one():
    words = r"the loss is 0\.5 but the norm of its gradient inf at step 3"
    with pytest.raises(ValueError, match=words):
        asks(LossWatch(LossPolicy()), 0.5, norm=float("inf"), step=3)


def test_one_bad_batch_of_several_that_are_accumulated_is_enough():
    assert not asks(LossWatch(LossPolicy("skip")), 1.0, float("nan"), 1.0)


def test_a_skip_is_counted_and_told_and_the_next_update_is_allowed(caplog):
    watch = LossWatch(LossPolicy(on_non_finite="skip"))
    with caplog.at_level(logging.WARNING):
        assert [asks(watch, loss) for loss in (1.0, float("nan"), 1.0)] == [True, False, True]
    assert (watch.num_skipped, watch.skipped_in_a_row) == (1, 0)
    (record,) = caplog.records
    assert "the loss is nan at step 0 (samples a, b, ...): update skipped, 1 in all" in (
        record.getMessage()
    )


def test_several_skips_in_a_row_stop_the_run():
    watch = LossWatch(LossPolicy(on_non_finite="skip", max_skips_in_a_row=2))
    assert not asks(watch, float("nan"))
    assert not asks(watch, float("nan"))
    with pytest.raises(
        ValueError, match="3 updates in a row would be skipped, more than max_skips"
    ):
        asks(watch, float("nan"))


def test_a_leap_of_the_loss_is_skipped_and_what_is_usual_stays_so():
    watch = settled(LossPolicy(max_loss_spike=3.0))
    assert not asks(watch, 3.1)
    assert asks(watch, 2.9)
    assert not asks(watch, 3.1)
    assert watch.num_skipped == 2


def test_a_loss_that_rises_slowly_is_no_leap():
    watch = settled(LossPolicy(max_loss_spike=2.0, window_updates=10))
    assert all(asks(watch, 1.1**power) for power in range(60))


def test_without_enough_losses_nothing_is_a_leap_and_without_a_factor_neither():
    assert asks(LossWatch(LossPolicy(max_loss_spike=2.0)), 1e6)
    assert asks(settled(LossPolicy()), 1e6)


def test_a_leap_that_is_let_through_is_told_once_and_counted(caplog):
    watch = settled(LossPolicy())
    with caplog.at_level(logging.WARNING):
        assert all(asks(watch, loss, step=7) for loss in (4.9, 5.1, 50.0, 1.0, 6.0))
    assert watch.num_spikes == 2
    assert next(record.getMessage() for record in caplog.records) == (
        "the loss is 5.1, more than 5 times 1, the median of the last 11 updates, at step 7 "
        "(samples a, b, ...); its update is made (max_loss_spike leaves such ones out)"
    )


def test_of_a_loss_below_zero_no_multiple_is_a_leap():
    watch = settled(LossPolicy(max_loss_spike=3.0), loss=-1.0)
    assert asks(watch, -0.5) and watch.num_spikes == 0


def test_a_resumed_watch_judges_as_the_first_would():
    watch = settled(LossPolicy(max_loss_spike=3.0))
    asks(watch, 9.0)
    resumed = LossWatch(watch.policy)
    resumed.load_state_dict(watch.state_dict())
    assert resumed.state_dict() == watch.state_dict()
    assert not asks(resumed, 3.1)
    assert (resumed.num_skipped, resumed.skipped_in_a_row) == (2, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_loss_spike": 1.0}, "max_loss_spike must be above 1, got 1.0"),
        ({"warn_loss_spike": 0.5}, "warn_loss_spike must be above 1, got 0.5"),
        ({"max_skips": 3}, "max_skips=3 must be at least max_skips_in_a_row=10"),
        ({"window_updates": 3}, "window_updates must be at least 10"),
        ({"max_skips_in_a_row": 0}, "max_skips_in_a_row at least 1"),
    ],
)
def test_a_policy_without_sense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LossPolicy(**options)
