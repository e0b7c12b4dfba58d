import pytest

from jepa.evaluation.health.verdict import RULES, Bound, judge, judge_one

TWIN = {
    "input_rank": 20.0,
    "effective_rank": 20.0,
    "clip_rank": 10.0,
    "lidar": 10.0,
    "relative_std": 0.9,
    "clip_variance": 0.5,
    "place_variance": 0.5,
    "dead_dimensions": 0.0,
    "attention_entropy": 1.0,
}
HEALTHY = {**TWIN, "effective_rank": 10.0, "attention_entropy": 0.6}


def test_every_measure_has_one_rule_and_every_rule_a_source():
    assert len({rule.measure for rule in RULES}) == len(RULES)
    assert all(rule.source and rule.advice for rule in RULES)


def test_no_limit_of_collapse_is_stricter_than_that_of_suspicion():
    for rule in RULES:
        if rule.collapsed is None or rule.suspicious is None:
            continue
        for twin in (None, 0.0, 0.3, 1.0, 50.0):
            collapsed, suspicious = (b.limit(twin) for b in (rule.collapsed, rule.suspicious))
            is_ordered = collapsed <= suspicious if rule.is_bad == "below" else (
                collapsed >= suspicious
            )  # fmt: skip
            assert is_ordered, (rule.measure, twin)


def test_a_limit_is_the_larger_of_a_number_and_a_share_of_the_twins():
    bound = Bound(1.5, 0.15)
    assert bound.limit(20.0) == pytest.approx(3.0)
    assert bound.limit(2.0) == 1.5
    assert bound.limit(None) == 1.5


def test_a_model_unlike_its_twin_and_within_all_limits_is_healthy():
    judgement = judge(HEALTHY, TWIN)
    assert judgement.line == "healthy"
    assert judgement.reasons == []


@pytest.mark.parametrize(
    ("measure", "value"),
    [("effective_rank", 2.9), ("clip_rank", 1.4), ("lidar", 1.9), ("relative_std", 0.005),
     ("clip_variance", 0.001), ("place_variance", 0.001), ("dead_dimensions", 0.95)],
)  # fmt: skip
def test_one_measure_past_its_limit_is_a_collapse_and_named(measure, value):
    judgement = judge({**HEALTHY, measure: value}, TWIN)
    assert judgement.verdict == "collapsed"
    assert judgement.line.startswith(f"collapsed ({measure} {value:g} is ")


def test_a_reason_says_value_limit_and_what_the_limit_comes_from():
    (reason,) = judge({**HEALTHY, "effective_rank": 2.9}, TWIN).reasons
    assert reason == "effective_rank 2.9 is below 3, 0.15 of the untrained twin's 20"
    (reason,) = judge({**HEALTHY, "relative_std": 0.001}, TWIN, twin_name="the start's").reasons
    assert reason == "relative_std 0.001 is below 0.01"  # not a share of anything


def test_data_of_little_variety_lower_the_limit_with_the_twin():
    poor = {**TWIN, "effective_rank": 4.0}
    assert judge({**HEALTHY, "effective_rank": 2.9}, poor).verdict == "healthy"


def test_clips_that_all_look_the_same_are_the_datas_fault():
    judgement = judge({**HEALTHY, "input_rank": 1.0, "effective_rank": 1.0}, TWIN)
    assert judgement.verdict == "suspicious"
    assert judgement.line == (
        "suspicious (all clips look the same (input_rank 1): give other data)"
    )


def test_a_model_like_its_twin_is_untrained_and_not_healthy():
    assert judge({**TWIN, "effective_rank": 21.0}, TWIN).verdict == "untrained"
    collapsed = {**TWIN, "relative_std": 0.0}
    assert judge(collapsed, collapsed).verdict == "collapsed"  # from its first day


def test_a_predictor_that_is_no_better_than_the_mean_is_suspicious():
    judgement = judge({**HEALTHY, "prediction_gain": -0.2}, TWIN)
    assert judgement.line == "suspicious (prediction_gain -0.2 is below 0)"


def test_a_planning_cost_that_cannot_tell_actions_apart_is_suspicious():
    values = {**HEALTHY, "planning_signal": 0.1, "planning_signal_low": -0.1}
    assert judge(values, TWIN).verdict == "suspicious"
    assert judge({**values, "planning_signal_low": 0.05}, TWIN).verdict == "healthy"


def test_a_measure_without_limits_is_told_and_not_judged():
    rule = next(rule for rule in RULES if rule.measure == "alpha_req")
    assert judge_one(rule, 99.0, 1.0).verdict == ""
