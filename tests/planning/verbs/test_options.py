import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from planning.__main__ import main
from planning.actions.parameterization import PerStep, Repeat, SplineKnots
from planning.actions.splines import SplineOrder
from planning.environments.point_mass import PointMass
from planning.environments.two_rooms import TwoRooms
from planning.verbs import run
from planning.verbs.action_options import add_action_options, limits_of
from planning.verbs.cost_options import asked_costs_of
from planning.verbs.options import (
    add_config_option,
    add_environment_options,
    add_planner_options,
    add_precision_options,
    add_world_options,
    deadline_of,
    device_of,
    execute_steps_of,
    load_world,
    options_of_config,
    planner_of,
    prepare_results,
    state_of,
    threads_of,
)
from planning.verbs.situation import environment_of

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "planning"


@pytest.fixture
def verb():
    parser = argparse.ArgumentParser()
    add_config_option(parser)
    add_planner_options(parser)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--goal", action="append")
    return parser


def test_without_options_the_planner_is_that_of_the_demo(verb):
    from planning.planners.cem import CEM

    assert planner_of(verb.parse_args([])) == CEM(
        horizon=8, num_samples=128, num_elites=16, num_iterations=3, smoothness=0.3
    )


def test_short_options_and_settings_say_the_same_and_settings_win(verb):
    planner = planner_of(
        verb.parse_args(["--samples", "64", "--horizon", "5", "--set", "horizon=6"])
    )
    assert (planner.num_samples, planner.horizon) == (64, 6)
    other = planner_of(verb.parse_args(["--planner", "random_shooting", "--samples", "9"]))
    assert other.num_samples == 9


def test_an_option_that_the_planner_lacks_is_refused(verb):
    with pytest.raises(ValueError, match="random_shooting has no setting 'num_elites'"):
        planner_of(verb.parse_args(["--planner", "random_shooting", "--elites", "3"]))


def test_four_actions_are_executed_or_as_many_as_a_plan_has(verb):
    def executed(*words):
        arguments = verb.parse_args(words)
        return execute_steps_of(arguments, planner_of(arguments))

    assert executed() == 4
    assert executed("--horizon", "3") == 3
    assert executed("--execute", "8") == 8
    with pytest.raises(ValueError, match="--execute must be from 1 to the horizon 8, got 0"):
        executed("--execute", "0")


def test_few_actions_may_be_chosen_and_a_spline_or_holding_makes_the_others(verb):
    def chosen(*words):
        return planner_of(verb.parse_args(words)).parameterization

    assert chosen() == PerStep()
    assert chosen("--knots", "3") == SplineKnots(3, "cubic")
    assert chosen("--knots", "3", "--spline", "monotone") == SplineKnots(3, "monotone")
    assert chosen("--planner", "icem", "--repeat", "2") == Repeat(2)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--knots", "0"], "--knots must be at least 1, got 0"),
        (["--repeat", "0"], "--repeat must be at least 1, got 0"),
        (["--knots", "2", "--repeat", "2"], "--knots and --repeat are two ways"),
        (["--spline", "linear"], "--spline is of --knots only; add --knots, or leave it out"),
    ],
)
def test_choices_of_few_actions_that_exclude_each_other_are_refused(verb, words, match):
    with pytest.raises(ValueError, match=match):
        planner_of(verb.parse_args(words))


def test_every_spline_has_its_name_here(verb):
    (option,) = (action for action in verb._actions if action.dest == "spline")
    assert tuple(option.choices) == get_args(SplineOrder)


def test_a_world_is_loaded_in_the_precision_that_is_asked_for(checkpoint):
    parser = argparse.ArgumentParser()
    add_world_options(parser)
    add_precision_options(parser)

    def load(*words):
        return load_world(parser.parse_args(["--checkpoint", str(checkpoint), *words]))

    plain, fast = load(), load("--precision", "bf16")
    assert (plain.precision, plain.is_compiled) == ("fp32", False)
    assert (fast.precision, fast.is_compiled) == ("bf16", False)
    assert load("--precision", "screened").precision == "screened"
    assert load("--compile").is_compiled  # nothing is compiled before the first rollout
    with pytest.raises(ValueError, match="--device 'foo' cannot be used here"):
        load("--device", "foo")


def test_a_deadline_is_in_milliseconds(verb):
    assert deadline_of(verb.parse_args(["--deadline-ms", "250"])) == 0.25
    assert deadline_of(verb.parse_args([])) is None


def test_threads_are_torchs_own_or_what_is_asked_and_the_device_is_tried():
    parser = argparse.ArgumentParser()
    add_world_options(parser)
    plain = parser.parse_args(["--checkpoint", "a"])
    assert threads_of(plain) == torch.get_num_threads()
    assert device_of(plain) == "cpu"
    assert threads_of(parser.parse_args(["--checkpoint", "a", "--threads", "2"])) == 2


def test_results_that_are_there_keep_their_content_until_they_are_written(tmp_path):
    (tmp_path / "log.json").write_text("old")
    prepare_results(tmp_path, "log.json", "new.json")
    assert (tmp_path / "log.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["log.json"]  # and nothing is left behind


def test_a_state_is_numbers_with_commas():
    assert state_of("12, 40.5", TwoRooms(), option="--start").tolist() == [12.0, 40.5]
    assert state_of(None, TwoRooms(), option="--start") is None
    for text in ("12", "12,x", "inf,3", ""):
        with pytest.raises(ValueError, match=r"--start must be 2 numbers \(x,y of two_rooms\)"):
            state_of(text, TwoRooms(), option="--start")


def test_where_an_environment_has_configurations_a_place_is_one_of_those():
    assert len(PointMass().state_names) == 4
    assert state_of("0.1,0.2", PointMass(), option="--start").tolist() == [0.1, 0.2]
    with pytest.raises(ValueError, match=r"--start must be 2 numbers \(x,y of point_mass\)"):
        state_of("0.1,0.2,0,0", PointMass(), option="--start")


def test_options_of_the_environment_reach_it():
    verb = argparse.ArgumentParser()
    add_environment_options(verb)
    add_action_options(verb)
    words = ["--env", "point_mass", "--env-option", "max_steps=7", "--env-option", "image_size=32"]
    environment = environment_of(verb.parse_args(words), SimpleNamespace(image_size=32))
    assert (environment.name, environment.max_steps, environment.image_size) == (
        "point_mass",
        7,
        32,
    )
    with pytest.raises(ValueError, match="point_mass has no option 'image_seize'; did you mean"):
        environment_of(verb.parse_args([*words, "--env-option", "image_seize=3"]), None)


def test_a_config_becomes_words_of_the_command_line(verb, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "planner: icem\nset: {horizon: 3}\ngoal: [a.png, b.png]\nfast: true\ndeadline_ms: 5\n"
    )
    assert options_of_config(str(path), verb=verb) == [
        "--planner", "icem", "--set", "horizon=3", "--goal", "a.png", "--goal", "b.png",
        "--fast", "--deadline-ms", "5",
    ]  # fmt: skip
    path.write_text("fast: false\n")
    assert options_of_config(str(path), verb=verb) == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("planer: cem", "no option 'planer'; did you mean 'planner'"),
        ("config: other.yaml", "no option 'config'"),
        ("- a\n- b", "must hold options"),
        ("a: [", "is no YAML"),
        ("goal: off", "goal must have a value; without one, leave the line out, got False"),
        ("set: {}", "set must have a value; .*, got {}"),
        ("set: no", "set must have a value; .*, got False"),
        ("goal:", "goal must have a value; .*, got None"),
        ("fast: 3", "fast must have true or false, got 3"),
    ],
)
def test_a_config_that_is_none_is_refused(verb, tmp_path, text, match):
    """Seen to fail: what YAML reads as false took the option away, and a limit with it."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        options_of_config(str(path), verb=verb)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_planning_config_makes_its_planner(path):
    verbs = argparse.ArgumentParser().add_subparsers()
    run.add_to(verbs)
    words = options_of_config(f"planning/{path.name}", verb=verbs.choices["run"])
    arguments = verbs.choices["run"].parse_args(["--checkpoint", "a", *words])
    assert planner_of(arguments).horizon >= 1
    asked, limits = asked_costs_of(arguments), limits_of(arguments)
    if path.stem == "two_rooms_careful":
        assert limits.bounds == {"dx": (-3.0, 3.0), "dy": (-3.0, 3.0)}
        assert asked.keep_out == ("x=30:34,y=30:64",) and asked.margin == 3.5


def test_a_name_without_its_ending_is_found(verb):
    assert options_of_config("planning/two_rooms_icem", verb=verb)[:2] == ["--planner", "icem"]


def test_the_parser_says_one_line(capsys):
    with pytest.raises(SystemExit, match=r"argument VERB: invalid choice: 'runn'"):
        main(["runn"])
    assert capsys.readouterr().err == ""
