import pytest

from jepa.training.learning_rate_scaling import LearningRateScaling


def test_four_times_the_batch_is_four_times_the_rate_or_twice():
    assert LearningRateScaling(256, "linear").factor(1024) == 4.0
    assert LearningRateScaling(256, "sqrt").factor(1024) == 2.0
    assert LearningRateScaling(256, "sqrt").factor(64) == 0.5
    assert LearningRateScaling(256).factor(256) == 1.0


def test_a_reference_of_nothing_is_refused():
    with pytest.raises(ValueError, match="reference_batch_size must be at least 1, got 0"):
        LearningRateScaling(0)
