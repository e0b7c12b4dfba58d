import numpy as np
import pytest

from planning.benchmarking.whole_budget import WholeBudget
from planning.environments import environment_names, make_environment
from planning.environments.two_rooms import TwoRooms

STILL = np.zeros(2, np.float32)


def made(name):
    try:
        return make_environment(name)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def budget():
    environment = WholeBudget(TwoRooms(), max_steps=3, success_distance=4.0)
    start, goal = np.array([10.0, 20.0]), np.array([10.0, 26.0])
    environment.reset(np.random.default_rng(0), start=start, goal=goal)
    return environment


def test_an_episode_goes_on_after_its_success_and_every_distance_is_kept(budget):
    steps = [budget.step(np.array([0.0, 4.0])) for _ in range(3)]
    assert budget.distances == pytest.approx([6, 2, 2, 6])
    assert [step.is_success for step in steps] == [True, True, False]
    assert [step.is_last for step in steps] == [False, False, True]
    with pytest.raises(RuntimeError, match="call reset"):
        budget.step(STILL)


def test_its_own_success_distance_is_the_one_that_counts():
    strict = WholeBudget(TwoRooms(), max_steps=3, success_distance=1.0)
    place = np.array([10.0, 20.0])
    step = strict.reset(np.random.default_rng(0), start=place, goal=np.array([10.0, 22.0]))
    assert not step.is_success  # two rooms would say so: within 4
    assert strict.step(np.array([0.0, 1.5])).is_success


def test_the_environment_keeps_its_own_success_distance(budget):
    assert budget.environment.success_distance == 4.0
    with pytest.raises(ValueError, match="must be finite"):
        budget.step(np.array([np.nan, 0]))
    assert budget.environment.success_distance == 4.0


def test_a_reset_forgets_the_distances_of_the_episode_before(budget):
    budget.step(STILL)
    budget.reset(np.random.default_rng(0), start=None, goal=None)
    assert len(budget.distances) == 1


class EndsByItself(TwoRooms):
    """Its simulation is over after the second step, as that of a pole that has fallen."""

    def step(self, action):
        step = super().step(action)
        self.has_ended = self._steps >= 2
        return step._replace(is_last=step.is_last or self.has_ended)


def test_a_task_that_ends_by_itself_ends_the_episode_before_its_budget():
    environment = WholeBudget(EndsByItself(), max_steps=5, success_distance=4.0)
    start, goal = np.array([10.0, 20.0]), np.array([10.0, 26.0])
    environment.reset(np.random.default_rng(0), start=start, goal=goal)
    steps = [environment.step(np.array([0.0, 4.0])), environment.step(STILL)]
    assert [step.is_last for step in steps] == [False, True]
    assert steps[-1].is_success and len(environment.distances) == 3


class Fails(TwoRooms):
    """Its simulation fails at the second step, or moves to where no number is."""

    how = "raises"

    def step(self, action):
        step = super().step(action)
        if self._steps >= 2 and self.how == "raises":
            raise ArithmeticError("huge\nvelocity")
        return step

    def distance_to_goal(self):
        is_nan = self.how == "nan" and self._steps >= 2
        return float("nan") if is_nan else super().distance_to_goal()


@pytest.mark.parametrize(
    ("how", "why"),
    [("raises", "ArithmeticError: huge velocity"), ("nan", "its distance to the goal is nan")],
)
def test_an_environment_that_fails_ends_its_episode_without_a_success(how, why):
    """Seen to fail before: the error ended the evaluation, and what had been played was lost."""
    inner = Fails()
    inner.how = how
    environment = WholeBudget(inner, max_steps=5, success_distance=4.0)
    start, goal = np.array([10.0, 20.0]), np.array([10.0, 26.0])
    environment.reset(np.random.default_rng(0), start=start, goal=goal)
    assert environment.step(np.array([0.0, 4.0])).is_success
    step = environment.step(STILL)
    assert step.is_last and not step.is_success and len(environment.distances) == 2
    assert environment.failure == f"the environment failed at step 2: {why}"
    with pytest.raises(RuntimeError, match=r"failed at step 2.*call reset"):
        environment.step(STILL)
    environment.reset(np.random.default_rng(0), start=start, goal=goal)
    assert environment.failure is None


def test_what_else_the_environment_offers_is_there(budget):
    assert budget.room(np.array([60.0, 10.0])) == 1
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = budget.no_such_thing


@pytest.mark.parametrize("name", environment_names())
def test_every_environment_goes_on_from_its_goal_to_the_end_of_the_budget(name):
    inner = made(name)
    generator = np.random.default_rng(0)
    place = getattr(inner, "configuration", None)
    step = inner.reset(generator, start=None, goal=None)
    place = getattr(inner, "configuration", step.state)
    budget = WholeBudget(inner, max_steps=3, success_distance=inner.success_distance)
    step = budget.reset(generator, start=np.array(place), goal=np.array(place))
    assert step.is_success and not step.is_last and budget.distances[0] < budget.success_distance
    for _ in range(3):
        assert not step.is_last
        step = budget.step(budget.action_spec.sample(generator))
    assert step.is_last and len(budget.distances) == 4
