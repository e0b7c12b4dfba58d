import pytest

from jepa.models.world_model import ActionColumns
from planning.actions.space import ActionSteps
from planning.benchmarking.model_fit import fit_deviations, refuse_other_environment, state_use
from planning.benchmarking.training_data import TrainingData
from planning.environments.point_mass import PointMass
from planning.environments.two_rooms import TwoRooms
from planning.latent_world import LatentWorld

ROOMS = ActionColumns(
    names=("dx", "dy"),
    units=("pixel/step", "pixel/step"),
    low=(-5.0, -5.0),
    high=(5.0, 5.0),
    frames_per_second=10.0,
    mode="recorded",
    reduction="equal",
    num_steps=1,
)
NOBODY_SAYS = TrainingData()


@pytest.fixture
def world_of(make_checkpoint):
    def make(columns=ROOMS, **options):
        return LatentWorld.load(make_checkpoint(actions=columns, **options))

    return make


def joined(steps, **changes):
    """Actions of two rooms, several of them side by side."""
    names = tuple(f"{name}@{step}" for step in range(steps) for name in ("dx", "dy"))
    columns = ROOMS._replace(
        names=names, units=ROOMS.units * steps, low=ROOMS.low * steps, high=ROOMS.high * steps,
        frames_per_second=10.0 / steps, mode="concatenate", num_steps=steps,
    )  # fmt: skip
    return columns._replace(**changes)


def test_a_world_model_of_the_cards_environment_fits(load_card, world_of):
    card, world, rooms = load_card(), world_of(), TwoRooms()
    known = TrainingData(
        environment="two_rooms", state_names=rooms.state_names, state_units=rooms.state_units
    )
    refuse_other_environment(card, rooms, world, known)
    assert fit_deviations(card, rooms, world, known) == []


def test_actions_side_by_side_are_compared_with_those_of_as_many_steps(load_card, world_of):
    card, rooms = load_card(), TwoRooms()
    world = world_of(joined(2), action_dim=4)
    assert world.action_steps == ActionSteps(2, "one_after_the_other")
    refuse_other_environment(card, rooms, world, NOBODY_SAYS)
    assert fit_deviations(card, rooms, world, NOBODY_SAYS) == []
    narrow = world_of(joined(2, low=(-5.0, -5.0, -4.0, -5.0)), action_dim=4)
    assert fit_deviations(card, rooms, narrow, NOBODY_SAYS) == [
        "trained with action low (-5, -5, -4, -5) (card: (-5, -5, -5, -5))"
    ]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (ROOMS._replace(units=("pixel", "pixel")),
         r"trained with actions \(dx \[pixel\], dy \[pixel\]\), few v1 has \(dx \[pixel/step\]"),
        (ROOMS._replace(names=("x_force", "y_force")),
         r"trained with actions \(x_force \[pixel/step\], y_force .*; use one that was trained"),
        (ROOMS._replace(names=("dy", "dx")), r"trained with actions \(dy .*, dx "),
    ],
)  # fmt: skip
def test_as_many_actions_of_another_meaning_are_refused(load_card, world_of, columns, expected):
    with pytest.raises(ValueError, match=expected) as error:
        refuse_other_environment(load_card(), TwoRooms(), world_of(columns), NOBODY_SAYS)
    assert "\n" not in str(error.value)


def test_recordings_of_another_environment_are_refused_even_if_columns_are_the_same(
    load_card, world_of
):
    walls = TrainingData(environment="wall", shards="runs/walls")
    with pytest.raises(ValueError, match=r"few v1 is of two_rooms, the world model was trained on "
                                         r"recordings of wall \(runs/walls\)"):  # fmt: skip
        refuse_other_environment(load_card(), TwoRooms(), world_of(), walls)


def test_states_of_another_meaning_or_number_are_refused_if_the_world_model_sees_them(
    load_card, world_of
):
    card, rooms = load_card(), TwoRooms()
    known = TrainingData(state_names=rooms.state_names, state_units=("metre", "metre"))
    with pytest.raises(
        ValueError, match=r"states \(x \[metre\], y \[metre\]\), few v1 has \(x \[p"
    ):
        refuse_other_environment(card, rooms, world_of(), known)
    refuse_other_environment(card, rooms, world_of(uses_state=False), known)
    with pytest.raises(ValueError, match=r"states of 2 columns, point_mass has 4 \(x \[metre\]"):
        points = PointMass()
        spec = points.action_spec
        columns = ROOMS._replace(names=spec.names, units=spec.units)
        refuse_other_environment(card, points, world_of(columns), NOBODY_SAYS)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (ROOMS._replace(high=(2.5, 5.0)), ["trained with action high (2.5, 5) (card: (5, 5))"]),
        (ROOMS._replace(frames_per_second=4.0), ["trained at 4 steps a second (card: 10)"]),
        (None,
         ["the checkpoint does not say what its actions mean: only their number is compared"]),
    ],
)  # fmt: skip
def test_other_bounds_another_rate_and_silence_are_deviations(
    load_card, world_of, columns, expected
):
    world = world_of(columns)
    refuse_other_environment(load_card(), TwoRooms(), world, NOBODY_SAYS)
    assert fit_deviations(load_card(), TwoRooms(), world, NOBODY_SAYS) == expected


class WithABlock(TwoRooms):
    """Its state says where an object is, too."""

    def __init__(self):
        super().__init__()
        self.state_names = ("x", "block_x")


@pytest.mark.parametrize(
    ("allowed", "uses_state", "environment", "use"),
    [
        ("none", False, TwoRooms, "none"),
        ("none", True, TwoRooms, "robot"),
        ("robot", True, TwoRooms, "robot"),
        ("robot", True, WithABlock, "all"),
        ("all", True, WithABlock, "all"),
        ("none", False, WithABlock, "none"),
    ],
)
def test_a_world_model_that_sees_more_of_the_state_than_the_card_allows_deviates(
    load_card, world_of, allowed, uses_state, environment, use
):
    world = world_of(uses_state=uses_state)
    assert state_use(world, environment()) == use
    order = ["none", "robot", "all"]
    sees_more = order.index(use) > order.index(allowed)
    line = [f"the world model sees the state: {use} (card: {allowed})"] if sees_more else []
    assert fit_deviations(load_card(state=allowed), environment(), world, NOBODY_SAYS) == line


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        (None, []),
        ((), []),
        (("size.agent",), []),
        (("colour.agent", "size.agent"), ["trained on varied colour.agent, which the card varies"]),
        (("all",), ["trained on all factors varied, also those that the card varies"]),
    ],
)
def test_what_varied_in_training_and_varies_in_the_card_is_told(
    load_card, world_of, vary, expected
):
    variation = {"factors": ["colour.agent", "light.brightness"], "seed": 3}
    data = TrainingData(vary=vary)
    assert fit_deviations(load_card(variation=variation), TwoRooms(), world_of(), data) == expected
    assert fit_deviations(load_card(), TwoRooms(), world_of(), data) == []
