"""The whole path, for real and in a minute: what a newcomer runs first."""

import json

import pytest


@pytest.fixture(scope="module")
def summary(quick_demo):
    return json.loads((quick_demo.folder / "summary.json").read_text())


def test_the_quick_demo_ends_well(quick_demo):
    assert quick_demo.returncode == 0, quick_demo.output[-6000:]


def test_the_videos_that_were_trained_on_are_real_mp4s_in_shards(quick_demo):
    index = json.loads((quick_demo.folder / "shards" / "index.json").read_text())
    tar = (quick_demo.folder / "shards" / "shard-000000.tar").read_bytes()
    assert index["shards"][0]["num_bytes"] == len(tar)
    assert tar.count(b"ftypisom") == 64


def test_every_number_has_its_baseline_beside_it(summary):
    success = summary["success"]
    assert {"planner", "random_actions", "sticky_random", "do_nothing", "straight_line",
            "oracle"} <= set(success)  # fmt: skip
    for rates in success.values():
        assert 0 <= rates["low"] <= rates["rate"] <= rates["high"] <= 1
        assert rates["rate"] == pytest.approx(rates["successes"] / rates["episodes"])
    assert success["oracle"]["rate"] == 1.0 and success["do_nothing"]["rate"] == 0.0
    assert {"trained", "untrained", "chance"} == set(summary["probe"])
    assert summary["world_model"]["copy_baseline"] > 0
    assert {"record", "pretrain", "probe", "world_model", "plan", "report", "total"} == set(
        summary["seconds"]
    )


def test_planning_beats_random_actions_on_the_same_starts(summary):
    success = summary["success"]
    assert success["planner"]["rate"] > success["random_actions"]["rate"]


def test_training_learned_and_did_not_collapse(summary):
    assert summary["pretraining"]["last"] < summary["pretraining"]["first"]
    assert summary["collapse"]["effective_rank"] > 3


def test_latent_distance_follows_the_way_and_token_distance_does_not(summary):
    geometry = summary["geometry"]
    assert geometry["latent_rank_correlation"] > 0.9
    assert geometry["token_rank_correlation"] < 0.5


def test_report_and_episodes_are_there(quick_demo, summary):
    out = quick_demo.folder
    html = (out / "report.html").read_text()
    assert html.count("data:image/gif;base64,") == 5
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert len(json.loads((out / "episodes.json").read_text())[0]["episodes"]) == 12
    assert (out / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_threshold_is_a_failed_command(monkeypatch):
    from jepa.demo import __main__ as demo_main

    def run(self):
        self.summary = {"thresholds": [{"passed": True}, {"passed": False}]}

    monkeypatch.setattr(demo_main.Demo, "run", run)
    assert demo_main.main([]) == 1


def test_thresholds_compare_in_the_right_direction(tmp_path):
    from jepa.demo.__main__ import FULL, Demo

    demo = Demo(tmp_path, FULL, 0)
    demo.summary = {
        "success": {"planner": {"rate": 0.8}, "random_actions": {"rate": 0.21}},
        "probe": {"trained": {"r2": 0.9}, "untrained": {"r2": 0.7}},
        "collapse": {"effective_rank": 2.9},
        "world_model": {"teacher_forcing": 0.5, "copy_baseline": 1.0},
    }
    demo.check_thresholds()
    assert [row["passed"] for row in demo.summary["thresholds"]] == [
        True, False, True, False, True,
    ]  # fmt: skip
