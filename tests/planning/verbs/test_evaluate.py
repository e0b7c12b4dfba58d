"""`jepa plan evaluate` through the real command line."""

import json

import pytest

from jepa.__main__ import main
from planning.environments.two_rooms import TwoRooms

QUICK = ("--planner", "random_shooting", "--set", "num_samples=8", "--horizon", "4")


@pytest.fixture
def tasks(tmp_path):
    """Three tasks of four steps."""
    path = tmp_path / "few.json"
    assert main(["plan", "freeze", "--tasks", "3", "--seed", str(2**31), str(path)]) == 0
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "max_steps": 4}))
    return path


@pytest.fixture
def evaluated(checkpoint, tasks, tmp_path, capsys):
    def run(*options):
        out = tmp_path / "out.json"
        words = ["--world", checkpoint, "--tasks", tasks, "--threads", 1, "--out", out]
        code = main(["plan", "evaluate", *map(str, [*words, *options])])
        printed, errors = capsys.readouterr()
        return code, printed, errors, json.loads(out.read_text()) if out.exists() else None

    return run


def test_a_planner_by_name_stands_beside_the_baselines(evaluated):
    code, printed, _, results = evaluated(*QUICK)
    assert code == 0
    assert [result["policy"] for result in results][:2] == ["random_shooting", "random actions"]
    assert "random_shooting" in printed and "oracle" in printed
    assert results[0]["milliseconds_per_plan"] > 0


def test_a_deadline_goes_with_episodes_one_at_a_time(evaluated):
    code, *_, results = evaluated(*QUICK, "--deadline-ms", 1000, "--batch", 1)
    assert code == 0 and len(results[0]["episodes"]) == 3


def test_the_folder_of_the_results_is_made(evaluated, tmp_path):
    out = tmp_path / "none" / "yet" / "out.json"
    assert evaluated(*QUICK, "--out", out)[0] == 0
    assert json.loads(out.read_text())[0]["policy"] == "random_shooting"


@pytest.mark.parametrize("place", ["taken", "file/below.json"])
def test_a_place_where_nothing_can_be_written_is_found_before_the_episodes(
    evaluated, tmp_path, monkeypatch, place
):
    def step(self, action):
        raise AssertionError("nothing may be executed")

    monkeypatch.setattr(TwoRooms, "step", step)
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("of someone")
    code, _, errors, _ = evaluated(*QUICK, "--out", tmp_path / place)
    assert code == 2 and errors.startswith("error: --out: ") and errors.count("\n") == 1


def test_a_fault_of_ours_has_an_exit_code_of_its_own(evaluated, monkeypatch):
    def step(self, action):
        raise KeyError("x")

    monkeypatch.setattr(TwoRooms, "step", step)
    code, _, errors, _ = evaluated(*QUICK)
    assert code == 3 and errors.startswith("error: internal error: KeyError")


def test_a_batch_has_the_same_outcomes(evaluated):
    *_, alone = evaluated(*QUICK)
    *_, together = evaluated(*QUICK, "--batch", 3)
    for one, other in zip(alone[0]["episodes"], together[0]["episodes"], strict=True):
        assert one["is_success"] == other["is_success"]
        assert one["final_distance"] == pytest.approx(other["final_distance"], abs=1e-2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--batch", "0"), "the batch must be at least 1 episode, got 0"),
        (("--planner", "cems"), "no planner 'cems'; did you mean 'cem'"),
        (("--tasks", "nowhere"), "no task file 'nowhere'"),
        (("--deadline-ms", "0"), "--deadline-ms must be above 0"),
        (("--batch", "2", "--deadline-ms", "50"), "--batch 2 with --deadline-ms: plans of a batch"),
        (("--threads", "0"), "--threads must be from 1 to 1024, got 0"),
        (("--device", "foo"), "--device 'foo' cannot be used here"),
        (("--config", "planning/nothing.yaml"), "no config 'planning/nothing.yaml'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(evaluated, options, expected):
    code, _, errors, _ = evaluated(*QUICK, *options)
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: ") and expected in line
