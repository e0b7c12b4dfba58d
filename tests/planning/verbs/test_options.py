import argparse
from pathlib import Path

import pytest
import torch

from planning.__main__ import main
from planning.environments.two_rooms import TwoRooms
from planning.verbs.options import (
    add_config_option,
    add_planner_options,
    add_world_options,
    deadline_of,
    device_of,
    execute_steps_of,
    options_of_config,
    planner_of,
    prepare_results,
    state_of,
    threads_of,
)

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
    ],
)
def test_a_config_that_is_none_is_refused(verb, tmp_path, text, match):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        options_of_config(str(path), verb=verb)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_planning_config_makes_its_planner(verb, path):
    words = options_of_config(f"planning/{path.name}", verb=verb)
    assert planner_of(verb.parse_args(words)).horizon >= 1


def test_a_name_without_its_ending_is_found(verb):
    assert options_of_config("planning/two_rooms_icem", verb=verb)[:2] == ["--planner", "icem"]


def test_the_parser_says_one_line(capsys):
    with pytest.raises(SystemExit, match=r"argument VERB: invalid choice: 'runn'"):
        main(["runn"])
    assert capsys.readouterr().err == ""
