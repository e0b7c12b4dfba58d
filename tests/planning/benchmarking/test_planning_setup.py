import pytest

from planning.actions.parameterization import Repeat
from planning.actions.space import ActionSteps
from planning.benchmarking.planning_setup import Wishes, card_setup, deviations, wished_setup

ONE, TWO = ActionSteps(), ActionSteps(2, "one_after_the_other")


def test_the_cards_steps_become_actions_of_the_world_model(load_card):
    card = load_card()
    for steps, horizon, execute in ((ONE, 4, 2), (TWO, 2, 1)):
        setup = card_setup(card, steps)
        assert (setup.planner.horizon, setup.execute, setup.planner.num_samples) == (
            horizon, execute, 8,
        )  # fmt: skip
        assert deviations(card, setup, steps) == []


def test_steps_that_are_no_whole_number_of_actions_are_refused(load_card):
    three = ActionSteps(3, "repeated")
    with pytest.raises(ValueError, match="horizon_steps 4 is no multiple of the 3 steps"):
        card_setup(load_card(), three)
    setup = wished_setup(load_card(), three, Wishes(horizon=2, execute=1))
    assert deviations(load_card(), setup, three) == [
        "horizon 6 steps (card: 4)", "execute 3 steps (card: 2)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (Wishes(), []),
        (Wishes(planner="random-shooting"), []),
        (Wishes(settings={"num_samples": "8"}), []),
        (Wishes(settings={"num_samples": "16"}), ["num_samples 16 (card: 8)"]),
        (Wishes(planner="cem"), ["planner cem (card: random_shooting)"]),
        (Wishes(horizon=5), ["horizon 5 steps (card: 4)"]),
        (Wishes(execute=1), ["execute 1 steps (card: 2)"]),
        (Wishes(cost="last"), ["cost last (card: mean)"]),
        (Wishes(deadline_seconds=0.05), ["deadline 50 ms (card: none)"]),
    ],
)
def test_whatever_differs_from_the_card_is_told_and_nothing_else(load_card, wishes, expected):
    card = load_card()
    assert deviations(card, wished_setup(card, ONE, wishes), ONE) == expected


def test_what_is_chosen_of_a_plan_is_told_too(load_card):
    card = load_card()
    setup = wished_setup(card, ONE, Wishes(parameterization=Repeat(2)))
    (line,) = deviations(card, setup, ONE)
    assert line.startswith("parameterization ") and "Repeat" in line


def test_another_planner_does_not_inherit_the_cards_settings(load_card):
    card = load_card(planner={"name": "cem", "settings": {"num_samples": 64, "momentum": 0.5}})
    setup = wished_setup(card, ONE, Wishes(planner="random_shooting"))
    assert setup.planner.num_samples != 64


def test_a_shorter_horizon_executes_no_more_than_it_has(load_card):
    assert wished_setup(load_card(), ONE, Wishes(horizon=1)).execute == 1
    with pytest.raises(ValueError, match="--execute must be from 1 to the horizon 4, got 9"):
        wished_setup(load_card(), ONE, Wishes(execute=9))


def test_limits_of_the_card_hold_for_any_planner_and_are_told(load_card):
    limits = {"dx": [-0.5, 0.25]}
    card = load_card(planner={"name": "random_shooting", "limits": limits})
    for wishes in (Wishes(), Wishes(planner="cem")):
        setup = wished_setup(card, ONE, wishes)
        assert setup.limits.bounds == {"dx": (-0.5, 0.25)}
        assert setup.described()["limits"] == limits
    assert card_setup(load_card(), ONE).described()["limits"] == {}
