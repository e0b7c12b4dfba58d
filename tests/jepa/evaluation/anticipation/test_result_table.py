from types import SimpleNamespace

from jepa.evaluation.anticipation.recall import TaskScore
from jepa.evaluation.anticipation.result_table import as_json, describe_skipped, table
from jepa.evaluation.anticipation.study import Row
from jepa.evaluation.scores import Interval


def make_row(name, recall, **details):
    score = TaskScore(Interval(recall, 0.1, 0.9), Interval(0.2, 0.1, 0.3), 0.25, 5, 7)
    return Row(name, {"verb": score, "noun": score, "action": score}, details)


def make_data(skipped=()):
    return SimpleNamespace(
        num_classes={"verb": 4},
        segments={"test": [None] * 9},
        all_skipped=lambda part: list(skipped),
    )


def test_a_row_has_recalls_with_their_intervals():
    lines = table([make_row("trained, both", 0.5), make_row("chance", 0.125)]).splitlines()
    assert lines[1].split() == ["verb@5", "noun@5", "action@5", "action@1"]
    assert lines[2].startswith("trained, both  0.500 [0.100, 0.900]")
    assert lines[2].endswith("0.200 [0.100, 0.300]") and lines[3].startswith("chance  ")
    assert "official" not in table([make_row("a", 0.5)])


def test_the_official_way_of_reporting_is_named_so():
    maxima = {"verb": 0.7, "noun": 0.6, "action": 0.55}
    rows = [
        make_row("probed", 0.5, official_maximum_of_each_on_validation=maxima),
        make_row("b", 0),
    ]
    lines = table(rows, official=True).splitlines()
    assert lines[4].startswith("official reporting: maximum over probes on validation")
    assert lines[5].split() == ["probed", "0.700", "0.600", "0.550"] and len(lines) == 6


def test_what_was_left_out_is_counted_and_named():
    assert describe_skipped("test", make_data()) == "test: 9 actions, 0 left out"
    skipped = [(f"s{index}", "too near") for index in range(4)]
    assert describe_skipped("test", make_data(skipped)) == (
        "test: 9 actions, 4 left out (s0: too near; s1: too near; s2: too near; ...)"
    )


def test_json_holds_every_number_and_every_name():
    report = as_json([make_row("a", 0.5, learning_rate=1e-3)], make_data([("s", "why")]), {"x": 1})
    assert report["x"] == 1 and report["actions"] == {"test": 9}
    assert report["left_out"]["test"] == [{"name": "s", "reason": "why"}]
    (row,) = report["rows"]
    assert row["scores"]["verb"]["recall"] == {"value": 0.5, "low": 0.1, "high": 0.9}
    assert row["scores"]["verb"]["top"] == 5 and row["details"] == {"learning_rate": 1e-3}
