import numpy as np
import pytest

from planning.capabilities import (
    Factor,
    HasConfiguration,
    HasExpert,
    SetsGoals,
    Simulates,
    Varies,
)
from planning.environments.two_rooms import TwoRooms

MASS_AND_HUE = Factor(low=(0.5, -1.0), high=(2.0, 1.0), default=(1.0, 0.0))


def test_a_factor_is_drawn_inside_its_bounds_and_the_same_for_the_same_generator():
    drawn = [MASS_AND_HUE.sample(np.random.default_rng(seed)) for seed in range(200)]
    assert drawn[3] == MASS_AND_HUE.sample(np.random.default_rng(3))
    assert all(MASS_AND_HUE.check("mass", value) == value for value in drawn)
    low, high = np.min(drawn, axis=0), np.max(drawn, axis=0)
    assert (high - low > 0.9 * np.array([1.5, 2.0])).all()  # of the whole range


@pytest.mark.parametrize("value", [(0.4, 0.0), (1.0,), (1.0, float("nan")), (1.0, 0.0, 0.0)])
def test_a_value_outside_its_bounds_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"block.mass must be 2 numbers between \(0.5, -1.0\)"):
        MASS_AND_HUE.check("block.mass", value)


def test_what_an_environment_does_not_define_it_does_not_offer():
    offers = (HasConfiguration, HasExpert, SetsGoals, Simulates, Varies)
    assert not any(isinstance(object(), offer) for offer in offers)
    assert not isinstance(TwoRooms(), HasConfiguration)  # its state is all there is
