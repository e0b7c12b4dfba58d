import json
from dataclasses import dataclass

import numpy as np
import pytest

from jepa.evaluation.scores import Interval
from jepa.evaluation.world_model_card.card import CardSettings, measure_card, plain


@pytest.fixture
def card(toys):
    shifted = {"heavy": toys.windows(noise=0.2, push=((0.5, 0.0), (0.0, 0.5)), seed=2)}
    return measure_card(
        toys.world(), toys.windows(noise=0.2), shifted, settings=CardSettings(repeats=2)
    )


def test_a_card_has_a_verdict_on_every_property(card):
    outcomes = {name: verdict.outcome for name, verdict in card.verdicts.items()}
    del outcomes["responsiveness"]  # of this machine
    assert outcomes == {
        "causality": "pass",
        "controllability": "pass",
        "persistence: drift": "pass",
        "persistence: occlusion": "fail",  # it has no memory
        "persistence: there and back": "pass",
        "generalisation": "fail",
    }


def test_a_card_is_plain_data(card):
    told = json.loads(json.dumps(card.to_json()))
    assert told["controllability"]["shuffled_ratio"].keys() == {"value", "low", "high"}
    assert np.array(told["controllability"]["response"]["matrix"]).shape == (2, 1, 2)
    assert told["generalisation"]["shifts"][0]["name"] == "heavy"
    assert told["causality"]["verdict"]["outcome"] == "pass"
    assert told["horizon"] == 6


def test_what_could_not_be_measured_is_on_the_card_with_its_reason(toys):
    card = measure_card(
        toys.world(), toys.windows(num_episodes=1), {}, settings=CardSettings(repeats=1)
    )
    outcomes = [verdict.outcome for verdict in card.verdicts.values()]
    assert outcomes.count("not measurable") == 6
    assert card.to_json()["drift"]["verdict"]["reason"] == "needs two episodes for an interval"


def test_plain_values_hold_no_infinity():
    @dataclass(frozen=True)
    class Part:
        interval: Interval
        rows: tuple[float, ...]
        matrix: np.ndarray

    part = Part(Interval(1.0, float("-inf"), 2.0), (float("nan"), 3.0), np.eye(2))
    assert plain(part) == {
        "interval": {"value": 1.0, "low": None, "high": 2.0},
        "rows": [None, 3.0],
        "matrix": [[1.0, 0.0], [0.0, 1.0]],
    }


def test_no_frame_to_hide_is_refused():
    with pytest.raises(ValueError, match="num_hidden and round_trip_steps must be at least 1"):
        CardSettings(num_hidden=0)
