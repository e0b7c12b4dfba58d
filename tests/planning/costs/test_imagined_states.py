"""Columns and units of imagined states."""

import pytest
import torch

from planning.costs import StateUnits
from planning.costs.imagined_states import imagined_states

UNITS = StateUnits(torch.tensor([10.0, 20.0]), torch.tensor([2.0, 4.0]))
STATES = [[[0.0, 1.0], [-1.0, 0.5]]]  # one sample, two steps, two columns


def ask(imagined, columns=None, units=None):
    return imagined_states(imagined, columns=columns, units=units, asked_by="This")


def test_raw_units_by_hand_and_back():
    states = torch.tensor(STATES)
    assert UNITS.raw(states).tolist() == [[[10, 24], [8, 22]]]
    assert torch.equal(UNITS.normalized(UNITS.raw(states)), states)


def test_columns_are_chosen_in_their_order(rollouts):
    imagined = rollouts(states=STATES)
    assert ask(imagined).tolist() == STATES
    assert ask(imagined, columns=(1,)).tolist() == [[[1.0], [0.5]]]
    assert ask(imagined, columns=(1, 0), units=UNITS).tolist() == [[[24, 10], [22, 8]]]


@pytest.mark.parametrize("states", [None, torch.zeros(1, 2, 0)])
def test_a_world_without_state_is_refused(rollouts, states):
    imagined = rollouts(tokens=torch.zeros(1, 2, 1, 1), states=states)
    with pytest.raises(ValueError, match=r"This needs imagined states, .* uses_state=True"):
        ask(imagined)


@pytest.mark.parametrize("columns", [(2,), (-1,), ()])
def test_columns_that_are_not_there_are_refused(rollouts, columns):
    with pytest.raises(ValueError, match=r"This asks for state columns \(.*\), there are 0 to 1"):
        ask(rollouts(states=STATES), columns=columns)


def test_units_of_another_state_are_refused(rollouts):
    with pytest.raises(ValueError, match="units of 2 columns, the imagined states have 3"):
        ask(rollouts(states=torch.zeros(1, 2, 3)), units=UNITS)
