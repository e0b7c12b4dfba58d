from dataclasses import replace

import numpy as np
import pytest

from planning.actions.space import ActionSteps
from planning.benchmarking.protocol_card import ProtocolCard, Variation, card_names, find_card
from planning.benchmarking.provenance import SIMULATORS
from planning.capabilities import Factor
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import TaskSet, freeze_tasks


@pytest.fixture(params=card_names())
def committed(request):
    return ProtocolCard.load(request.param)


def test_a_card_is_read_with_its_hash_and_its_tasks(load_card):
    card = load_card()
    assert (card.title, card.success.judged_at, card.planner.name) == (
        "few v1", "any_step", "random_shooting",
    )  # fmt: skip
    assert len(card.sha256) == 64
    tasks = card.load_tasks()
    assert (len(tasks.tasks), tasks.max_steps, tasks.success_distance) == (4, 6, 4.0)


def test_two_cards_that_differ_have_different_hashes(load_card):
    assert load_card().sha256 != load_card(name="other", budget_steps=7).sha256
    assert load_card(name="same").sha256 == load_card(name="also_the_same").sha256


def test_a_task_file_that_has_changed_is_noticed(write_card, tmp_path):
    path = write_card()
    tasks = tmp_path / "few.json"
    tasks.write_text(tasks.read_text().replace("same_room", "some_room"))
    with pytest.raises(ValueError, match=r"few.yaml: few.json has sha256 .*restore it, or make"):
        ProtocolCard.load(path)
    tasks.unlink()
    with pytest.raises(FileNotFoundError, match=r"few.yaml: its task file few.json is missing"):
        ProtocolCard.load(path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"buget_steps": 3}, "few.yaml: unknown key 'buget_steps'; did you mean 'budget_steps'"),
        ({"budget_steps": "many"}, "budget_steps must be a whole number, got 'many'"),
        ({"budget_steps": 0}, "budget_steps must be at least 1, got 0"),
        ({"execute_steps": 5}, "execute_steps 5 exceeds horizon_steps 4"),
        ({"success": {"within": 0, "unit": "m"}}, "within must be above 0"),
        ({"success": {"within": 1, "unit": "m", "judged_at": "noon"}}, "must be 'any_step' or"),
        ({"planner": {"name": "cem", "settings": {"horizon": 3}}}, "is the card's horizon_steps"),
        ({"planner": {"name": "cem", "limits": {"dx": [1]}}}, r"dx must be \[low, high\], got"),
        ({"planner": {"name": "cem", "limits": {"dx": [1, -1]}}}, "'dx' must be low < high"),
        ({"is_comparable": True}, "is_comparable, but nothing is published"),
        ({"published": [{"model": "x", "success": 96, "episodes": 50, "citation": "y"}]},
         r"published\[0\]: success must be a share, 0 to 1, got 96"),
        ({"environment": {"name": "pusht"}}, "its tasks are of two_rooms, not of pusht"),
        ({"format": 2}, "is no protocol card"),
        ({"state": "some"}, "state must be 'none' or 'robot' or 'all', got 'some'"),
        ({"version": 2}, "changes must say what each version from 2 on changed: version 2 needs 1"),
        ({"environment": {"name": "two_rooms", "options": {"image_size": 32}}},
         "its tasks were frozen with image_size=64, its environment has image_size=32"),
    ],
)  # fmt: skip
def test_a_card_that_is_wrong_is_refused_in_one_line(load_card, changes, expected):
    with pytest.raises(ValueError, match=expected) as error:
        load_card(**changes)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_yaml_and_a_name_that_is_no_card_are_named(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(ValueError, match=r"bad.yaml is no YAML"):
        ProtocolCard.load(path)
    with pytest.raises(FileNotFoundError, match=r"no protocol card 'tow_rooms'; there are: .*two"):
        ProtocolCard.load("tow_rooms")


def test_an_environment_whose_actions_have_changed_is_refused(load_card, card_values):
    space = {**card_values["action_space"], "high": [5, 6]}
    with pytest.raises(ValueError, match=r"action high of two_rooms are \(5.0, 5.0\), the card"):
        load_card(action_space=space).make_environment()


@pytest.mark.parametrize("role", ["planner", "oracle_planner"])
@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"dz": [-1, 1]}, "no action dimension 'dz'"), ({"dx": [-9, 1]}, "wider than")],
)
def test_limits_of_a_planner_that_the_environment_cannot_keep_are_refused(
    load_card, role, limits, expected
):
    card = load_card(**{role: {"name": "cem", "limits": limits}})
    with pytest.raises(ValueError, match=f"few v1: limits of planner: .*{expected}"):
        card.make_environment()


def test_the_environment_has_the_cards_options_budget_and_success_distance(load_card, card_values):
    space = {**card_values["action_space"], "low": [-2.5, -2.5], "high": [2.5, 2.5]}
    card = load_card(
        tasks=freeze_tasks(TwoRooms(image_size=32), name="few", num_tasks=4, seed=5),
        environment={"name": "two_rooms", "options": {"image_size": 32}},
        action_space=space,
        success={"within": 1.5, "unit": "pixel"},
    )
    environment = card.make_environment()
    assert environment.image_size == 32
    assert (environment.max_steps, environment.success_distance) == (6, 1.5)


# Distances after the reset and after each of six steps; the plan is executed two steps at a time.
@pytest.mark.parametrize(
    ("distances", "judged"),
    [
        ([9, 9, 9, 9, 9, 9, 9], {}),
        ([1, 9, 9, 9, 9, 9, 9], {}),  # being there before any action is no success
        ([9, 1, 9, 9, 9, 9, 9], {"any_step"}),
        ([9, 9, 1, 9, 9, 9, 9], {"any_step", "ends_of_plans"}),
        ([9, 9, 9, 9, 9, 9, 1], {"any_step", "ends_of_plans", "last_step"}),
        ([9, 4, 4, 4, 4, 4, 4], {}),  # within means below
    ],
)
def test_success_is_judged_when_the_card_says(load_card, distances, judged):
    for when in ("any_step", "last_step", "ends_of_plans"):
        card = load_card(success={"within": 4, "unit": "pixel", "judged_at": when})
        assert card.is_success(distances) == (when in judged)


def test_the_end_of_a_last_plan_that_the_budget_cuts_short_is_judged_too(load_card):
    success = {"within": 4, "unit": "pixel", "judged_at": "ends_of_plans"}
    card = load_card(success=success, budget_steps=3)
    assert card.is_success([9, 9, 9, 1]) and not card.is_success([9, 1, 9, 9])


def test_options_that_the_card_leaves_out_are_compared_with_their_defaults(load_card):
    tasks = freeze_tasks(TwoRooms(door_center=0.5), name="few", num_tasks=4, seed=5)
    card = load_card(tasks=tasks)
    with pytest.raises(ValueError, match=r"door_center=0.5, its environment has .*0.34"):
        card.make_environment()
    options = {"name": "two_rooms", "options": {"door_center": 0.5}}
    assert load_card(environment=options).make_environment().name == "two_rooms"


def test_tasks_of_other_packages_than_the_card_says_are_refused(load_card):
    tasks = freeze_tasks(TwoRooms(), name="few", num_tasks=4, seed=5)
    tasks = replace(tasks, packages={"pymunk": "6.1"})
    with pytest.raises(ValueError, match=r"were made with pymunk 6.1, the card says nothing"):
        load_card(tasks=tasks)
    said = {"name": "two_rooms", "packages": {"pymunk": "6.1"}}
    assert load_card(environment=said).environment.packages == {"pymunk": "6.1"}


def test_a_simulator_of_another_version_is_told(load_card, monkeypatch):
    card = load_card(
        environment={"name": "two_rooms", "packages": {"pymunk": "6.1", "mujoco": "3"}}
    )
    found = {"pymunk": "6.2"}
    monkeypatch.setattr("planning.benchmarking.protocol_card.simulator_packages", lambda _: found)
    assert card.package_differences() == [
        "pymunk 6.2 (card: 6.1)", "mujoco is not installed (card: 3)",
    ]  # fmt: skip
    found.update(pymunk="6.1", mujoco="3")
    assert card.package_differences() == []


def test_a_key_that_is_there_twice_is_refused(write_card):
    path = write_card()
    path.write_text(path.read_text() + "budget_steps: 7\n")
    with pytest.raises(ValueError, match=r"few.yaml is no YAML: the key 'budget_steps' is the"):
        ProtocolCard.load(path)


def test_a_norm_of_actions_is_part_of_the_action_space(load_card, card_values):
    limit = {"names": ["dx", "dy"], "max_norm": 5}
    space = {**card_values["action_space"], "norm_limits": [limit]}
    with pytest.raises(ValueError, match="action norm_limits of two_rooms are"):
        load_card(action_space=space).make_environment()


def test_a_variation_gives_every_task_a_scene_of_its_own_and_the_same_every_time(load_card):
    variation = {"factors": ["colour.agent", "light.brightness"], "seed": 3}
    card = load_card(variation=variation)
    environment, task = card.make_environment(), card.load_tasks().tasks[0]

    def frame(index):
        card.prepare(environment, index)
        return environment.reset(np.random.default_rng(0), start=task.start, goal=task.goal).frame

    first, second, plain = frame(0), frame(1), load_card().make_environment()
    assert not np.array_equal(first, second)
    assert np.array_equal(first, frame(0))
    step = plain.reset(np.random.default_rng(0), start=task.start, goal=task.goal)
    assert not np.array_equal(first, step.frame)


def test_a_share_of_the_variation_stays_so_near_to_the_default():
    factor = Factor((0.0, -1.0), (1.0, 1.0), (0.2, 0.0))
    values = np.array(
        [Variation(("a",), 0, share=0.1).values({"a": factor}, index)["a"] for index in range(300)]
    )
    low, high = values.min(0), values.max(0)
    assert (low >= [0.18, -0.1]).all() and (high <= [0.28, 0.1]).all()
    assert (low <= [0.185, -0.09]).all() and (high >= [0.275, 0.09]).all()
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 0"):
        Variation(("a",), 0, share=0)


def test_a_factor_that_there_is_not_is_refused(load_card):
    card = load_card(variation={"factors": ["colour.sky"], "seed": 3})
    with pytest.raises(ValueError, match=r"two_rooms has no factor 'colour.sky'; it has colour"):
        card.make_environment()


def test_a_world_model_that_is_not_the_cards_is_told(load_card):
    block = {"steps": 5, "joined": "one_after_the_other"}
    card = load_card(action_block=block, context_frames=1)
    five = ActionSteps(5, "one_after_the_other")
    assert card.model_differences(five, 1) == []
    assert card.model_differences(ActionSteps(5, "repeated"), 3) == [
        "action block 5 repeated (card: 5 one_after_the_other)",
        "context frames 3 (card: 1)",
    ]
    assert load_card().model_differences(ActionSteps(5, "repeated"), 3) == []


# The cards of planning/protocols.


def test_every_committed_card_has_at_least_200_frozen_tasks_that_nobody_recorded(committed):
    tasks = TaskSet.load(committed.tasks_file)
    assert len(tasks.tasks) >= 200
    assert committed.name == committed.file.stem
    assert "seed" in committed.tasks.split
    starts = np.stack([task.start for task in tasks.tasks])
    assert len(np.unique(starts, axis=0)) == len(starts)
    sources = [task.source for task in tasks.tasks]
    if committed.goal.steps_ahead is not None:
        assert len(set(sources)) == len(sources)
        assert all(len(task.actions) == committed.goal.steps_ahead for task in tasks.tasks)


def test_every_committed_card_names_the_packages_and_options_of_its_tasks(committed):
    tasks = TaskSet.load(committed.tasks_file)
    assert tasks.options and committed.environment.packages == tasks.packages
    assert bool(tasks.packages) == (committed.environment.name in SIMULATORS)
    assert committed.tasks.how.split()[-1] == committed.tasks.file


def test_no_two_task_files_share_an_episode():
    files = {ProtocolCard.load(name).tasks_file for name in card_names()}
    sources = [task.source for file in files for task in TaskSet.load(file).tasks if task.source]
    assert len(sources) > 1000 and len(set(sources)) == len(sources)


def test_every_committed_card_can_be_played(committed):
    try:
        environment = committed.make_environment()
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))
    assert environment.max_steps == committed.budget_steps
    tasks, generator = committed.load_tasks(), np.random.default_rng(0)
    for task in tasks.tasks[:: len(tasks.tasks) // 3]:
        environment.reset(generator, start=task.start, goal=task.goal)
        assert environment.distances[0] >= committed.success.within


def test_the_planner_of_every_committed_card_exists(committed):
    from planning.benchmarking.planning_setup import card_setup

    block = committed.action_block
    steps = ActionSteps() if block is None else ActionSteps(block.steps, block.joined)
    setup = card_setup(committed, steps)
    assert setup.planner.horizon * steps.num_steps == committed.horizon_steps
    if committed.oracle_planner is not None:
        card_setup(committed, steps, committed.oracle_planner)


def test_a_card_is_found_by_name_or_path():
    assert find_card("two_rooms").name == "two_rooms.yaml"
    assert find_card(str(find_card("two_rooms"))) == find_card("two_rooms")
    assert "two_rooms" in card_names()
