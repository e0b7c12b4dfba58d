import pytest

from planning.benchmarking.results_table import card_facts, results_page
from planning.benchmarking.run_folder import RunFolder

PUBLISHED = [{"model": "Their-WM", "success": 0.75, "episodes": 50, "citation": "arXiv:1, Tab. 2"}]


def policy(name, kind="control", rate=0.5, seconds=None, note=""):
    interval = {
        "rate": rate,
        "low": rate - 0.1,
        "high": rate + 0.1,
        "successes": 1,
        "episodes": 200,
    }
    return {
        "policy": name, "kind": kind, "note": note, "success": interval,
        "success_at_any_step": interval,
        "success_at_last_step": {**interval, "rate": rate / 2}, "seconds_per_plan": seconds,
        "final_distance": {"median": 2.5},
    }  # fmt: skip


@pytest.fixture
def run_of(load_card, tmp_path):
    def make(*, deviations=(), title=None, **changes):
        card = card_facts(load_card(**changes))
        summary = {
            "card": card if title is None else {**card, "name": title},
            "deviations": list(deviations),
            "command": "jepa plan evaluate --card few",
            "planner": {"name": "cem", "settings": {"horizon": 4}, "execute": 2, "cost": "last"},
            "oracle_planner": {"name": "icem", "settings": {}, "execute": 2, "cost": "last"},
            "checkpoint": {"name": "our_model", "sha256": "0123456789abcdef", "state": "robot"},
            "planner_seeds": "3 + the task's index",
            "training_data": {
                "vary": None,
                "index_sha256": "f" * 64,
                "environment": "two_rooms",
                "training_seed": 5,
            },
            "cloning_data": None,
            "simulator": {"pymunk": "6.1"},
            "training_minutes": 12.5,
            "versions": {"jepa-planning": "0.1", "torch": "2.9"},
            "hardware": {"cpu": "a processor", "threads": 2},
            "not_run": {"cloning": "no data"},
            "policies": [
                policy("planner", "planner", 0.9, 0.25, "cem"),
                policy("oracle", rate=0.6, note="a weaker planner"),
            ],
        }
        return RunFolder(tmp_path, summary)

    return make


def test_the_page_holds_rates_with_intervals_times_commands_and_hardware(run_of):
    page = results_page([run_of()])
    assert "## few v1" in page and "Source: nobody, Sec. 0" in page
    row = (
        "| **our_model** [1] | cem | robot | 90% [80%, 100%] | 90% | 45% | 2.5 pixel | 0.25 | 200 |"
    )
    assert row in page
    assert "| oracle [1] | icem, other settings | all | 60% [50%, 70%]" in page
    assert (
        "  - oracle: a weaker planner." in page and "A world model may see the state: robot" in page
    )
    assert "| cloning [1] | | | not run |" in page and "  - cloning not run: no data." in page
    assert "- [1] `jepa plan evaluate --card few`; weights 0123456789ab; trained in 12.5" in page
    assert "seed 5, on recordings ffffffffffff of two_rooms, factors varied there: unknown" in page
    assert "planned with seed 3 + the task's index; a processor, 2 threads" in page
    assert "jepa-planning 0.1, torch 2.9, pymunk 6.1." in page
    columns = {line.count("|") for line in page.splitlines() if line.startswith("|")}
    assert columns == {10}


@pytest.mark.parametrize(
    ("vary", "said"),
    [(None, "unknown"), ([], "none"), (["colour.agent", "camera.yaw"], "colour.agent, camera.yaw")],
)
def test_what_varied_in_training_is_said_or_said_to_be_unknown(run_of, vary, said):
    run = run_of()
    run.summary["training_data"]["vary"] = vary
    assert f"factors varied there: {said};" in results_page([run])


def test_what_nobody_knows_of_the_training_is_said_to_be_unknown(run_of):
    run = run_of()
    run.summary["training_data"] = dict.fromkeys(run.summary["training_data"])
    run.summary["training_minutes"] = None
    page = results_page([run])
    assert "trained in an unknown time, seed unknown, on recordings unknown of unknown" in page


def test_the_data_of_the_cloning_control_are_named(run_of):
    run = run_of()
    run.summary["cloning_data"] = {"shards": "x", "index_sha256": "e" * 64}
    assert "cloning on recordings eeeeeeeeeeee" in results_page([run])


def test_published_numbers_stand_beside_ours_only_where_the_protocol_is_the_same(run_of):
    same = {"is_comparable": True, "published": PUBLISHED, "differences": ["other starts"]}
    row = "| Their-WM (published) |  | | 75%, arXiv:1, Tab. 2 |"
    assert row in results_page([run_of(**same)])
    assert "differs from the published protocol in: other starts." in results_page([run_of(**same)])
    assert "Their-WM" not in results_page([run_of(**{**same, "is_comparable": False})])
    deviating = results_page([run_of(deviations=["num_samples 8 (card: 300)"], **same)])
    assert "Their-WM" not in deviating
    assert "**deviates from the card**: num_samples 8 (card: 300)" in deviating


def test_each_card_has_a_section_of_its_own_in_the_order_of_names(run_of):
    page = results_page([run_of(title="walls"), run_of(title="doors"), run_of(title="walls")])
    sections = [line for line in page.splitlines() if line.startswith("## ")]
    assert sections == ["## doors v1", "## walls v1"]
    assert page.count("**our_model** [2]") == 1


@pytest.mark.parametrize("key", ["sha256", "tasks_sha256"])
def test_runs_of_one_name_and_other_files_are_not_mixed(run_of, key):
    one, other = run_of(), run_of()
    other.summary["card"][key] = "0" * 64
    with pytest.raises(ValueError, match=r"few v1 of .* and of .* are different"):
        results_page([one, other])


def test_there_must_be_a_run_to_write_about():
    with pytest.raises(ValueError, match="there are no runs to write about"):
        results_page([])


def test_failures_of_the_environment_stand_below_the_table(run_of):
    run = run_of()
    assert "failed" not in results_page([run])
    run.summary["policies"][1]["num_failures"] = 2
    assert "  - oracle: the environment failed in 2 episodes, which are no successes." in (
        results_page([run])
    )
