from dataclasses import dataclass
from typing import Literal

import pytest

from planning.planners.cem import CEM
from planning.planners.random_shooting import RandomShooting
from planning.search import settings as planner_settings
from planning.search.rounds import SearchPlanner
from planning.search.settings import (
    make_planner,
    parse_settings,
    planner_class,
    planner_names,
    settings_of,
)


@pytest.mark.parametrize("name", planner_names())
def test_every_planner_is_found_by_the_name_of_its_file(name):
    kind = planner_class(name)
    assert issubclass(kind, SearchPlanner)
    assert kind.__module__ == f"planning.planners.{name}"
    assert "horizon" in settings_of(make_planner(name, {"horizon": "3"}))


def test_settings_are_read_as_what_they_are():
    planner = make_planner("cem", {"horizon": "5", "num_samples": 32, "momentum": "0.25"})
    assert planner == CEM(horizon=5, num_samples=32, momentum=0.25)
    assert make_planner("random-shooting", {}) == RandomShooting()


@dataclass(frozen=True)
class Choosy(SearchPlanner):
    """A planner with every kind of setting."""

    mode: Literal["fast", "slow"] = "fast"
    limit: float | None = 1.0
    is_bold: bool = False
    parts: tuple[int, ...] = ()

    def search(self, space, warm, generator):
        raise NotImplementedError


def test_words_truth_and_nothing_can_be_set_and_what_text_cannot_say_is_left_out(monkeypatch):
    monkeypatch.setattr(planner_settings, "planner_class", lambda name: Choosy)
    made = make_planner("choosy", {"mode": "slow", "limit": "none", "is_bold": "True"})
    assert made == Choosy(mode="slow", limit=None, is_bold=True)
    with pytest.raises(ValueError, match="choosy: mode must be 'fast' or 'slow', got 'fats'"):
        make_planner("choosy", {"mode": "fats"})
    with pytest.raises(ValueError, match="choosy: limit must be a number or none, got 'x'"):
        make_planner("choosy", {"limit": "x"})
    with pytest.raises(ValueError, match="choosy has no setting 'parts'"):
        make_planner("choosy", {"parts": "1"})


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("cems", {}, "no planner 'cems'; did you mean 'cem'"),
        ("cem", {"num_sampels": "3"}, "has no setting 'num_sampels'; did you mean 'num_samples'"),
        ("cem", {"horizon": "2.5"}, "cem: horizon must be a whole number, got '2.5'"),
        ("cem", {"horizon": "0"}, "horizon must be at least 1, got 0"),
    ],
)
def test_what_is_not_known_is_told_with_what_was_probably_meant(name, settings, match):
    with pytest.raises(ValueError, match=match):
        make_planner(name, settings)


def test_pairs_become_settings_and_the_last_one_counts():
    assert parse_settings(["a=1", "num-samples = 3", "a=2"]) == {"a": "2", "num_samples": "3"}
    assert parse_settings(["note=a=b"]) == {"note": "a=b"}


@pytest.mark.parametrize("pair", ["horizon", "=3", "horizon=", ""])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(ValueError, match="--set needs KEY=VALUE"):
        parse_settings([pair])
