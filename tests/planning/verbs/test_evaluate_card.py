"""`jepa plan evaluate --card` through the real command line, on a tiny world model."""

import hashlib
import json

import pytest
import yaml

from jepa.__main__ import main
from jepa.models.world_model import ActionColumns
from planning.benchmarking.protocol_card import PROTOCOLS
from planning.environments.two_rooms import TwoRooms

CARD = {
    "format": 1,
    "name": "few",
    "version": 1,
    "source": "nobody",
    "environment": {"name": "two_rooms"},
    "goal": {"described": "anywhere"},
    "budget_steps": 4,
    "horizon_steps": 4,
    "execute_steps": 2,
    "success": {"within": 4, "unit": "pixel"},
    "state": "robot",
    "action_space": {
        "names": ["dx", "dy"],
        "units": ["pixel/step", "pixel/step"],
        "low": [-5, -5],
        "high": [5, 5],
    },
    "planner": {"name": "random_shooting", "settings": {"num_samples": 6}},
}


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


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint):
    """One that says what its actions mean."""
    return make_checkpoint(actions=ROOMS)


@pytest.fixture
def card(tmp_path, capsys):
    """A card with three tasks."""
    tasks = tmp_path / "few.json"
    assert main(["plan", "freeze", "--tasks", "3", "--seed", str(2**31), str(tasks)]) == 0
    printed = capsys.readouterr().out
    sha256 = hashlib.sha256(tasks.read_bytes()).hexdigest()
    assert f"sha256: {sha256}" in printed
    frozen = {"file": "few.json", "sha256": sha256, "split": "a test"}
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump({**CARD, "tasks": frozen}))
    return path


@pytest.fixture
def evaluated(checkpoint, card, tmp_path, capsys):
    def run(*options, out="out", controls="none"):
        folder = tmp_path / (out or "nowhere")
        words = ["--checkpoint", checkpoint, "--card", card, "--threads", 1]
        words += ["--out", folder] if out else []
        words += ["--controls", controls] if controls else []
        code = main(["plan", "evaluate", *map(str, [*words, *options])])
        printed, errors = capsys.readouterr()
        file = folder / "summary.json"
        return code, printed, errors, json.loads(file.read_text()) if file.exists() else None

    return run


def episodes_of(folder, policy="planner", timed=False):
    rows = json.loads((folder / "episodes" / f"{policy}.json").read_text())
    if not timed:
        for row in rows:
            del row["seconds_per_plan"], row["rollouts_per_second"]
    return rows


def test_a_run_leaves_its_episodes_its_films_and_a_summary_of_where_it_is_from(
    evaluated, card, tmp_path
):
    code, printed, _, summary = evaluated("--training-minutes", 3.5)
    assert code == 0
    assert summary["card"]["sha256"] == hashlib.sha256(card.read_bytes()).hexdigest()
    assert (summary["card"]["name"], summary["card"]["version"]) == ("few", 1)
    assert summary["deviations"] == [] and "deviates" not in printed
    assert len(summary["checkpoint"]["sha256"]) == 64
    assert summary["training_minutes"] == 3.5
    assert summary["versions"]["torch"] and summary["hardware"]["device"] == "cpu"
    assert summary["command"].startswith("jepa plan evaluate --checkpoint ")
    assert summary["planner"]["settings"]["num_samples"] == 6
    for rule in ("worst", "median", "best"):
        assert (tmp_path / "out" / f"{rule}.gif").stat().st_size > 0
        assert summary["films"][rule]["file"] == f"{rule}.gif"
    rows = episodes_of(tmp_path / "out", timed=True)
    assert [row["task"] for row in rows] == [0, 1, 2]
    assert all(row["num_steps"] == 4 and row["num_plans"] == 2 for row in rows)
    assert all(row["seconds_per_plan"] > 0 and row["rollouts_per_second"] > 0 for row in rows)
    assert "planner" in printed and "success [95 %]" in printed


def test_the_same_checkpoint_twice_gives_identical_episodes(evaluated, tmp_path):
    _, _, _, once = evaluated(out="a")
    _, _, _, twice = evaluated(out="b")
    assert episodes_of(tmp_path / "a") == episodes_of(tmp_path / "b")
    hashes = [summary["policies"][0]["outcomes_sha256"] for summary in (once, twice)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--samples", "9"), ["num_samples 9 (card: 6)"]),
        (("--set", "num_samples=9"), ["num_samples 9 (card: 6)"]),
        (("--set", "horizon=2"), ["horizon 2 steps (card: 4)"]),
        (("--planner", "random_shooting", "--cost", "mean"), []),
        (("--planner", "cem", "--samples", "9", "--elites", "3", "--iterations", "1"),
         ["planner cem (card: random_shooting)"]),
        (("--execute", "4"), ["execute 4 steps (card: 2)"]),
        (("--precision", "bf16"), ["precision bf16 (card: fp32)"]),
        (("--cost", "last"), ["cost last (card: mean)"]),
        (("--episodes", "2"), ["the first 2 of 3 tasks"]),
        (("--batch", "3"), []),
    ],
)  # fmt: skip
def test_deviations_from_the_card_are_told_in_the_output_and_in_the_summary(
    evaluated, options, expected
):
    code, printed, _, summary = evaluated(*options)
    assert code == 0 and summary["deviations"] == expected
    lines = [line for line in printed.splitlines() if line.startswith("deviates: ")]
    assert lines == [f"deviates: {line}" for line in expected]


def test_without_a_word_all_controls_stand_beside_and_those_missing_are_named(evaluated, tmp_path):
    code, printed, _, summary = evaluated("--episodes", 2, controls=None)
    assert code == 0
    assert [policy["policy"] for policy in summary["policies"]] == [
        "planner", "do_nothing", "random", "expert", "untrained", "oracle",
    ]  # fmt: skip
    assert summary["not_run"].keys() == {"replay", "cloning"}
    assert "cloning: not run: it is trained on recorded data: give them with --data" in printed
    assert len(episodes_of(tmp_path / "out", "oracle")) == 2


def test_what_has_been_played_is_there_if_the_rest_fails(evaluated, tmp_path, monkeypatch):
    def fails(environment, time_step, generator):
        raise KeyError("x")

    monkeypatch.setattr("planning.benchmarking.controls.random_actions", fails)
    code, _, _, summary = evaluated(controls="do-nothing,random")
    assert code == 3
    assert [policy["policy"] for policy in summary["policies"]] == ["planner", "do_nothing"]
    assert summary["not_run"] == {"random": "the run was not finished"}
    assert len(episodes_of(tmp_path / "out", "do_nothing")) == 3


def test_cloning_is_trained_on_the_recordings_given(evaluated, tmp_path, capsys):
    shards = tmp_path / "shards"
    words = ["plan", "record", "--episodes", "6", "--steps", "8", str(shards)]
    assert main(words) == 0
    _, _, _, summary = evaluated("--data", shards, "--cloning-steps", 2, controls="cloning")
    assert summary["policies"][1]["policy"] == "cloning"
    note = summary["policies"][1]["note"]
    assert note == "sees frames only, no state; trained for 2 steps on 100% of the recordings"
    sha256 = hashlib.sha256((shards / "index.json").read_bytes()).hexdigest()
    assert summary["cloning_data"] == {"shards": str(shards), "index_sha256": sha256}


def test_a_summary_says_what_is_known_of_the_run_and_that_the_rest_is_not(evaluated):
    _, _, _, summary = evaluated("--seed", 7)
    assert (summary["seed"], summary["planner_seeds"]) == (7, "7 + the task's index")
    assert summary["checkpoint"]["is_compiled"] is False
    assert summary["checkpoint"]["state"] == "robot" and summary["simulator"] == {}
    assert set(summary["training_data"].values()) == {None}
    assert summary["cloning_data"] is None


def test_compiled_dynamics_are_a_deviation(evaluated, monkeypatch):
    monkeypatch.setattr("torch.compile", lambda function, **options: function)  # takes minutes
    _, printed, _, summary = evaluated("--compile")
    assert summary["deviations"] == ["compiled dynamics (card: as they are)"]
    assert summary["checkpoint"]["is_compiled"] and "deviates: compiled dynamics" in printed


def test_episodes_of_an_earlier_run_in_the_same_folder_go(evaluated, tmp_path):
    evaluated(controls="do-nothing,random")
    evaluated(controls="random")
    names = sorted(file.name for file in (tmp_path / "out" / "episodes").iterdir())
    assert names == ["planner.json", "random.json"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--controls", "orcale"), "no control 'orcale'; there are: do_nothing"),
        (("--tasks", "two_rooms"), "--tasks with --card: the card names its tasks"),
        (("--batch", "0"), "--batch must be at least 1 episode, got 0"),
        (("--batch", "2", "--deadline-ms", "9"), "--batch 2 with --deadline-ms: plans of a batch"),
        (("--episodes", "4"), "few has 3 tasks, cannot take 4 of them"),
        (("--set", "num_smaples=3"), "has no setting 'num_smaples'; did you mean 'num_samples'"),
        (("--card", "three_rooms"), "no protocol card 'three_rooms'; there are: "),
        (("--execute", "9"), "--execute must be from 1 to the horizon 4, got 9"),
        (("--cloning-steps", "0"), "--cloning-steps must be at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_played(
    evaluated, monkeypatch, options, expected
):
    def step(self, action):
        raise AssertionError("nothing may be executed")

    monkeypatch.setattr(TwoRooms, "step", step)
    code, _, errors, _ = evaluated(*options)
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: ") and expected in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image_size": 32}, "few v1 has frames of 64 pixels, the world model was made for 32"),
        ({"action_dim": 3}, "the world model imagines actions of 3 dimensions, two_rooms has 2"),
        ({"actions": ROOMS._replace(units=("pixel", "pixel"))},
         "the world model was trained with actions (dx [pixel], dy [pixel]), few v1 has (dx"),
    ],
)  # fmt: skip
def test_a_world_model_of_another_environment_is_refused_before_anything_is_played(
    evaluated, make_checkpoint, change, expected
):
    code, printed, errors, _ = evaluated("--checkpoint", make_checkpoint(**change))
    assert code == 2 and expected in errors and printed == ""


def test_where_a_card_allows_it_frames_have_the_size_that_the_world_model_sees(
    evaluated, make_checkpoint, tmp_path
):
    content = yaml.safe_load((PROTOCOLS / "wall_jepawms.yaml").read_text())
    content["environment"]["options"]["image_size"] = 128
    (tmp_path / "wall_jepawms.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "wall.json").write_bytes((PROTOCOLS / "wall.json").read_bytes())
    small = ("--samples", 4, "--elites", 2, "--iterations", 1)
    options = ("--card", tmp_path / "wall_jepawms.yaml", "--episodes", 1, *small)
    code, printed, _, summary = evaluated(*options)
    assert code == 0 and "deviates: frames of 64 pixels (card: 128)" in printed
    assert "frames of 64 pixels (card: 128)" in summary["deviations"]
    content["drawn_at_any_size"] = False
    (tmp_path / "wall_jepawms.yaml").write_text(yaml.safe_dump(content))
    code, _, errors, _ = evaluated(*options, out="other")
    assert code == 2 and "tasks were frozen with image_size=64, its environment has" in errors


def test_a_card_needs_a_folder_for_its_results(evaluated):
    code, _, errors, _ = evaluated(out=None)
    assert code == 2 and "--card needs --out FOLDER" in errors


@pytest.mark.parametrize("options", [("--controls", "all"), ("--training-minutes", "3")])
def test_options_of_cards_are_refused_without_one(checkpoint, capsys, options):
    code = main(["plan", "evaluate", "--checkpoint", str(checkpoint), *options])
    assert code == 2
    assert f"{options[0]} is for --card; give one, or leave it out" in capsys.readouterr().err
