import numpy as np
import pytest

from jepa.__main__ import main
from planning.evaluation import TaskSet
from planning.verbs.freeze import options_of


@pytest.fixture
def frozen(tmp_path, capsys):
    def run(*options):
        out = tmp_path / "tasks.json"
        seed = 3 if "--ahead" in options else 2**31
        code = main(["plan", "freeze", "--seed", str(seed), *map(str, options), str(out)])
        return code, capsys.readouterr(), TaskSet.load(out) if out.exists() else None

    return run


def test_tasks_of_one_group_can_be_frozen(frozen):
    code, _, tasks = frozen("--tasks", 5, "--group", "different_rooms")
    assert code == 0 and len(tasks.tasks) == 5
    assert {task.group for task in tasks.tasks} == {"different_rooms"}


def test_goals_ahead_have_the_actions_that_lead_there(frozen):
    code, _, tasks = frozen("--tasks", 2, "--ahead", 4, "--policy", "expert")
    assert code == 0
    assert [task.actions.shape for task in tasks.tasks] == [(4, 2), (4, 2)]


def test_options_reach_the_environment(frozen):
    _, _, tasks = frozen("--tasks", 4, "--env-option", "image_size=32")
    assert tasks.success_distance == 2.0 and tasks.options["image_size"] == 32
    assert max(np.max(task.start) for task in tasks.tasks) < 32


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--group", "upstairs"), "two_rooms drew no task of the group 'upstairs'"),
        (("--ahead", 4, "--policy", "wizard"), "policy must be random, expert"),
        (("--ahead", 4, "--episode-steps", 3), "goals 4 steps ahead need episodes at least"),
        (("--env-option", "image_size"), "--env-option needs KEY=VALUE, got 'image_size'"),
        (("--env-option", "image_seize=3"), "no option 'image_seize'; did you mean 'image_size'"),
        (("--tasks", 0), "--tasks must be at least 1, got 0"),
        (
            ("--seed", 2**31 - 1),
            "--seed must be at least 2147483648 without --ahead, got 2147483647",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(frozen, options, expected):
    code, (_, errors), _ = frozen(*options)
    assert code == 2
    (line,) = errors.splitlines()
    assert expected in line


def test_options_are_plain_values():
    assert options_of(["image-size=64", "layout=umaze", "share=0.5", "is_fine=true"]) == {
        "image_size": 64, "layout": "umaze", "share": 0.5, "is_fine": True,
    }  # fmt: skip
