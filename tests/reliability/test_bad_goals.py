"""Bad actions, goals and environments: rows 81 to 102 of the list of bad inputs.

Those that need a robot or an environment that goes wrong as it runs are in tests/planning/safety,
test_robot_guard.py and tests/planning/benchmarking/test_card_run.py.
"""

import json

import numpy as np
import pytest
from PIL import Image

from tests.reliability.bad_inputs import ROOT, Inputs, Row, check, params

WORLD = ROOT / "checkpoints/two_rooms"


def plan(*options: object):
    return lambda inputs: [
        *("plan", "run", "--checkpoint", WORLD, "--env", "two_rooms", "--max-steps", 2),
        *("--no-pictures", "--out", "out", *options),
    ]


def goal(picture):
    """A row's arguments: a plan to a goal image, which is bytes or an array."""

    def arguments(inputs: Inputs) -> list:
        path = inputs.here / "goal.png"
        if isinstance(picture, bytes):
            path.write_bytes(picture)
        else:
            Image.fromarray(picture).save(path)
        return plan("--start", "12,50", "--goal", path)(inputs)

    return arguments


def tasks(text: str):
    return lambda inputs: [
        *("plan", "evaluate", "--checkpoint", WORLD, "--tasks", inputs.write("tasks.json", text)),
        *("--out", "out"),
    ]


BLACK = np.zeros((64, 64, 3), np.uint8)
GOAL = ("--start", "12,50", "--goal-state", "52,20")

ROWS = [
    Row(
        81,
        "a start of three numbers",
        plan("--start", "1,2,3", "--goal-state", "52,20"),
        "--start must be 2 numbers",
    ),
    Row(
        81,
        "a start of words",
        plan("--start", "a,b", "--goal-state", "52,20"),
        "--start must be 2 numbers",
    ),
    Row(
        81,
        "a start that is nan",
        plan("--start", "nan,2", "--goal-state", "52,20"),
        "--start must be 2 numbers",
    ),
    Row(81, "a start in a wall", plan("--start=-500,2", "--goal-state", "52,20"), "-500"),
    Row(
        84, "a limit that is nan", plan(*GOAL, "--limit", "x=nan:1"), "--limit needs finite numbers"
    ),
    Row(
        84,
        "a limit the wrong way round",
        plan(*GOAL, "--limit", "x=1:-1"),
        "must be low < high, got 1:-1",
    ),
    Row(
        84,
        "a limit of an action that is not there",
        plan(*GOAL, "--limit", "z=-1:1"),
        "no action dimension .z. to limit",
    ),
    Row(
        84,
        "a limit of infinity",
        plan(*GOAL, "--limit", "x=-inf:inf"),
        "--limit needs finite numbers",
    ),
    Row(85, "a change of nothing", plan(*GOAL, "--max-change", "x=0"), "must be above 0, got 0"),
    Row(
        85,
        "a change that is negative",
        plan(*GOAL, "--max-change", "x=-1"),
        "must be above 0, got -1",
    ),
    Row(
        87,
        "a goal of another size",
        goal(np.zeros((32, 48, 3), np.uint8)),
        "is 48 x 32 pixels, the world model sees 64 x 64.*--resize-goal",
    ),
    Row(87, "a goal that is no picture", goal(b"hello"), "goal.png: not an image"),
    Row(87, "a goal that is empty", goal(b""), "goal.png: not an image"),
    Row(
        87,
        "a goal that is not there",
        plan("--start", "12,50", "--goal", "nowhere.png"),
        "nowhere.png",
    ),
    Row(
        87,
        "a goal of a huge picture",
        goal(
            b"\x89PNG\r\n\x1a\n"
            + b"\0\0\0\rIHDR"
            + b"\xff\xff\xff\x7f" * 2
            + b"\x08\x02\0\0\0"
            + bytes(4)
        ),
        "goal.png: not an image",
    ),
    Row(89, "no goal", plan("--start", "12,50"), "goal"),
    Row(
        89,
        "a goal state that is nan",
        plan("--start", "12,50", "--goal-state", "nan,1"),
        "--goal-state must be 2 numbers",
    ),
    Row(
        91,
        "a goal that is reached already",
        plan("--start", "12,50", "--goal-state", "12,50"),
        "reached",
        0,
    ),
    Row(92, "tasks that are no JSON", tasks("{"), "tasks.json"),
    Row(92, "tasks that are a list", tasks("[]"), "tasks.json"),
    Row(92, "tasks without a goal", tasks(json.dumps({"tasks": [{}]})), "tasks.json"),
    Row(
        92,
        "an environment that is not there",
        plan(*GOAL, "--env", "two_romms"),
        "did you mean .two_rooms.",
    ),
    Row(
        92,
        "an option of no environment",
        plan(*GOAL, "--env-option", "walls=9"),
        "has no option .walls.; there are",
    ),
    Row(18, "a planner that is not there", plan(*GOAL, "--planner", "cemm"), "did you mean .cem."),
    Row(
        18, "a setting of no planner", plan(*GOAL, "--set", "elitez=3"), "did you mean .num_elites."
    ),
    Row(18, "a horizon of nothing", plan(*GOAL, "--horizon", 0), "horizon must be at least 1"),
    Row(
        20,
        "a deadline of nothing",
        plan(*GOAL, "--deadline-ms", 0),
        "--deadline-ms must be above 0",
    ),
    Row(
        20,
        "a deadline that is nan",
        plan(*GOAL, "--deadline-ms", "nan"),
        "--deadline-ms must be above 0, got nan",
    ),
    Row(20, "a device that is not there", plan(*GOAL, "--device", "tpu"), "tpu"),
]
QUICK = (18, 84, 85)


@pytest.mark.parametrize("row", params(ROWS, quick=QUICK))
def test_a_bad_goal_is_one_clear_line(row, inputs, capfd):
    check(row, inputs, capfd)


def test_the_tables_hold_more_than_a_hundred_bad_inputs():
    from tests.reliability import (
        test_bad_checkpoints,
        test_bad_configs,
        test_bad_shards,
        test_bad_videos,
    )

    others = (test_bad_checkpoints, test_bad_configs, test_bad_shards, test_bad_videos)
    rows = [*ROWS, *(row for table in others for row in table.ROWS)]
    assert len([row for row in rows if row.code]) > 125
    assert len({row.number for row in rows}) > 60
