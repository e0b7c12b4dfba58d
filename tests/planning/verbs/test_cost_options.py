"""Words of the command line about costs: what they mean, and which ones are refused."""

import argparse
from pathlib import Path

import pytest

from planning.costs import Box, Disc, Discounted
from planning.costs.distances import NAMES
from planning.verbs.cost_options import (
    DISTANCES,
    AskedCosts,
    add_cost_options,
    asked_costs_of,
    region_of,
)


@pytest.fixture
def asked():
    parser = argparse.ArgumentParser()
    add_cost_options(parser)
    parser.add_argument("--cost", default="mean")
    parser.add_argument("--goal", action="append")
    parser.add_argument("--goal-state")
    return lambda *words: asked_costs_of(parser.parse_args(words))


def test_nothing_asked_is_the_distance_to_the_goal_alone(asked):
    assert asked() == AskedCosts("own", False, "mean", {"goal": 1.0})


def test_every_distance_has_its_name_here():
    assert DISTANCES == NAMES


def test_terms_may_be_written_with_dashes_and_the_goal_may_weigh_something_else(asked):
    weights = asked("--cost-term", "action-size=0.5", "--cost-term", "goal=2").weights
    assert weights == {"goal": 2.0, "action_size": 0.5}


def test_a_discount_is_a_mean_over_the_steps(asked):
    assert asked("--discount", "0.9").reduction == Discounted(0.9)
    assert asked("--cost", "last").reduction == "last"


def test_a_region_is_a_box_or_a_disc_in_columns_of_the_state():
    names = ("x", "y", "angle")
    region, columns = region_of("angle=0:1,x=10:", names, option="--keep-out")
    assert (region, columns) == (Box((0.0, 10.0), (1.0, float("inf"))), (2, 0))
    region, columns = region_of("x=1,y=2,radius=5", names, option="--keep-out")
    assert (region, columns) == (Disc((1.0, 2.0), 5.0), (0, 1))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("z=1:2", r"--keep-out must name columns of the state \(x, y\), got 'z=1:2'"),
        ("radius=3", "must name columns of the state"),
        ("x", "--keep-out needs x=LOW:HIGH,y=LOW:HIGH or x=AT,y=AT,radius=SIZE, got 'x'"),
        ("x=1:2,x=3:4", "given twice for 'x': 1:2 and 3:4"),
        ("x=5:1", "--keep-out 'x=5:1': a box needs low < high"),
        ("x=1", "--keep-out needs LOW:HIGH, for example -1:2 or :2, got '1'"),
        ("x=1:2,radius=3", "--keep-out needs finite numbers, got '1:2'"),
        ("x=1,radius=-3", "a disc needs a finite center and a positive, finite radius"),
        ("x=nan:1", "--keep-out needs finite numbers, got 'nan'"),
    ],
)
def test_a_region_that_is_none_is_refused(text, match):
    with pytest.raises(ValueError, match=match):
        region_of(text, ("x", "y"), option="--keep-out")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--cost-term", "acton_size=1"], "no --cost-term acton_size; did you mean 'action_size'"),
        (["--cost-term", "action_size"], "--cost-term needs NAME=WEIGHT, got 'action_size'"),
        (["--cost-term", "action_size=-1"], "--cost-term action_size must be at least 0, got -1"),
        (["--cost-term", "action_size=inf"], "needs finite numbers, got 'inf'"),
        (["--cost-term", "goal=0"], "all weights of --cost-term are 0"),
        (["--cost-term", "goal=1", "--cost-term", "goal=2"], "given twice for 'goal': 1 and 2"),
        (["--cost-term", "keep_out=1"], "--cost-term keep_out needs --keep-out, the region"),
        (["--cost-term", "workspace=1"], "--cost-term workspace needs --workspace"),
        (["--margin", "1"], "--margin is kept from --keep-out and --workspace; give one of them"),
        (["--keep-out", "x=1:2", "--margin", "-1"], "--margin must be at least 0 and finite"),
        (["--discount", "0"], r"--discount must be in \(0, 1\], got 0"),
        (["--discount", "0.5", "--cost", "last"], "--discount weighs all steps, --cost last"),
        (["--pooled"], "--pooled needs --distance: the world model's own cannot be pooled"),
        (["--cost-term", "out_of_distribution=1"], "out_of_distribution needs --known-data"),
        (["--known-data", "."], "--known-data would decide nothing; add --cost-term"),
        (["--known-frames", "9"], "--known-frames is of trajectory shards in --known-data"),
        (
            ["--known-data", "a.safetensors", "--cost-term", "disagreement=1"],
            "a bank of latents, which says nothing of disagreement; give the trajectory shards",
        ),
        (["--cost-term", "state_distance=1"], "state_distance needs --goal-state"),
        (
            ["--cost-term", "state_distance=1", "--goal-state", "1", "--goal", "a", "--goal", "b"],
            "needs --goal-state, and at most one --goal",
        ),
    ],
)
def test_what_cannot_be_is_refused(asked, words, match, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=match):
        asked(*words)


def test_known_data_that_are_not_there_are_named(asked, tmp_path):
    term = ("--cost-term", "out_of_distribution=1")
    with pytest.raises(FileNotFoundError, match=r"--known-data: there is no .*nowhere"):
        asked(*term, "--known-data", str(tmp_path / "nowhere"))
