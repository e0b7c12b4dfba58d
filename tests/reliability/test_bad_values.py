"""Values that no reader of YAML or JSON takes, wherever they are given: rows 3, 20, 67 and 92."""

import json

import pytest

from tests.reliability.bad_inputs import ROOT, Inputs, Row, check, params
from tests.reliability.test_bad_configs import plan, with_config, with_options

WORLD = ROOT / "checkpoints/two_rooms"
DEEP_JSON, DEEP_YAML = "[" * 100_000, "[" * 3_000
EVALUATE = ("plan", "evaluate", "--checkpoint", WORLD, "--out", "out")


def evaluated(option: str, content: str | bytes):
    """A row's arguments: an evaluation whose tasks or card is this content."""
    return lambda inputs: [*EVALUATE, option, inputs.write("given.yaml", content)]


def compared(summary: str | bytes):
    def arguments(inputs: Inputs) -> list:
        return ["plan", "compare", *[inputs.write("a/summary.json", summary).parent] * 2]

    return arguments


def configured(text: str):
    return lambda inputs: [
        "plan",
        "run",
        "--checkpoint",
        WORLD,
        "--config",
        inputs.write("p", text),
    ]


def landscape(*options: object):
    return lambda _: [
        *("plan", "landscape", "--checkpoint", WORLD, "--start", "12,50", "--goal-state", "52,20"),
        *("--out", "out", *options),
    ]


SEEDS = "argument --seed: must be from 0 to 9223372036854775807, got "
TASKS = {"format": 1, "name": "x", "environment": "two_rooms", "max_steps": 1, "seed": 0}

ROWS = [
    Row(
        20,
        "an option of half a list",
        plan("--env-option", "layout=[a"),
        "--env-option layout is no YAML: while parsing",
    ),
    Row(
        20,
        "an option with a tag",
        plan("--env-option", "image_size=!!python/name:os.system"),
        "--env-option image_size is no YAML: could not determine a constructor",
    ),
    Row(
        20,
        "an option with a tag that does not fit",
        plan("--env-option", "image_size=!!bool x"),
        "--env-option image_size is no YAML",
    ),
    Row(
        20,
        "an option that is nested deeply",
        plan("--env-option", "layout=" + DEEP_YAML),
        "--env-option layout is nested too deeply",
    ),
    Row(
        20,
        "masks that are nested deeply",
        with_options("--model.masks", DEEP_YAML),
        "--model.masks: its value is nested too deeply",
    ),
    Row(3, "a config of a plan, nested deeply", configured(DEEP_YAML), "p is nested too deeply"),
    Row(3, "a config of a fit, nested deeply", with_config(DEEP_YAML), "x.yaml is nested too deep"),
    Row(
        3,
        "a config of a fit, nested deeply and closed",
        with_config("data: " + "[" * 300 + "]" * 300),
        "x.yaml|data",
    ),
    Row(3, "a card, nested deeply", evaluated("--card", DEEP_YAML), "given.yaml"),
    Row(92, "tasks, nested deeply", evaluated("--tasks", DEEP_JSON), "given.yaml is not a task"),
    Row(92, "tasks, binary", evaluated("--tasks", bytes(range(256))), "given.yaml is not a task"),
    Row(
        92,
        "tasks that are lists",
        evaluated("--tasks", json.dumps({**TASKS, "success_distance": 1, "tasks": [[]]})),
        "given.yaml is not a task file",
    ),
    Row(92, "a summary, nested deeply", compared(DEEP_JSON), r"a/summary\.json is not JSON"),
    Row(92, "a summary, binary", compared(bytes(range(256))), r"a/summary\.json is not JSON"),
    Row(20, "a seed of 25 digits", plan("--seed", "1" * 25), SEEDS + "'1{25}'"),
    Row(20, "a seed of 5000 digits", plan("--seed", "1" * 5000), "--seed: must be a whole number"),
    Row(20, "a seed below zero", plan("--seed", "-1"), SEEDS + "'-1'"),
    Row(20, "a seed of words", plan("--seed", "x"), "--seed: must be a whole number, got 'x'"),
    Row(20, "a landscape's seed", landscape("--seed", "-1"), SEEDS),
    Row(20, "tasks' seed", lambda _: ["plan", "freeze", "--seed", "-1", "t.json"], SEEDS),
    Row(
        20,
        "a recording's seed",
        lambda _: ["plan", "record", "--seed", "-1", "--episodes", 1, "shards"],
        SEEDS,
    ),
    Row(
        20,
        "a collection's seed",
        lambda _: ["data", "collect", "--env", "two_rooms", "--seed", "-1", "shards"],
        SEEDS,
    ),
    Row(
        18,
        "samples without end",
        plan("--samples", 10**10),
        "--samples: must be at most 1,000,000, got '10000000000'",
    ),
    Row(
        18,
        "samples that memory does not hold",
        plan("--set", f"num_samples={10**15}"),
        "not enough memory: you tried to allocate",
    ),
    Row(
        18,
        "a horizon that memory does not hold",
        plan("--horizon", 10**12),
        "not enough memory",
    ),
    Row(20, "cells without end", landscape("--cells", 10**8), "--cells: must be at most 201"),
    Row(20, "cells of a run without end", plan("--cells", 10**8), "--cells: must be at most 201"),
    Row(
        20,
        "a NUL in a path",
        lambda i: ["plan", "run", "--checkpoint", WORLD, "--config", i.write("p", r'out: "a\0b"')],
        r"--out holds a NUL character: 'a\\x00b'",
    ),
    Row(
        20,
        "a NUL in the path of a checkpoint",
        lambda i: ["plan", "run", "--checkpoint", "a\0b", "--goal-state", "52,20"],
        "--checkpoint holds a NUL character",
    ),
    Row(92, "a summary of nothing", compared('{"format": 2}'), r"a/summary\.json cannot be read"),
]
QUICK = (92,)


@pytest.mark.parametrize("row", params(ROWS, quick=QUICK))
def test_a_value_that_cannot_be_read_is_one_clear_line(row, inputs, capfd):
    """Seen to fail without the RecursionErrors and `_NOT_READ`: internal errors, 3 or 1."""
    check(row, inputs, capfd)
