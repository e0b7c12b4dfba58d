"""A stop says why, is what older code expects, and can be sent between processes."""

import copy

import pytest

from planning.safety.safe_stop import NotFiniteStop, RefusedAction, SafeStop


@pytest.mark.parametrize(
    ("stop", "also"),
    [
        (SafeStop("observation", "it is old"), Exception),
        (NotFiniteStop("all are NaN"), FloatingPointError),
        (RefusedAction("it is NaN"), ValueError),
    ],
)
def test_a_stop_says_why_in_one_line_and_survives_being_copied(stop, also):
    assert isinstance(stop, also) and "\n" not in str(stop)
    assert str(stop) == f"stopped ({stop.reason}): {stop.detail}"
    again = copy.copy(stop)  # as being sent to another process does
    assert (type(again), str(again), again.reason) == (type(stop), str(stop), stop.reason)
