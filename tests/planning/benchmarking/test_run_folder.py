import json

import pytest

from planning.benchmarking.card_run import play_planner
from planning.benchmarking.episode_outcome import fingerprint
from planning.benchmarking.run_folder import RunFolder, runs_in, write_run


@pytest.fixture
def run(make_bench, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    outcome = play_planner(make_bench(), batch_size=2)
    facts = {"card": {"name": "few", "version": 1}, "deviations": []}
    return write_run(folder, [outcome], facts), outcome


def test_what_was_written_is_read_back(run):
    folder, outcome = run
    again = RunFolder.load(folder.path)
    assert (again.title, again.policies) == ("few v1", ["planner"])
    assert again.episodes("planner") == [episode.to_json() for episode in outcome.episodes]
    assert again.policy("planner")["success"]["episodes"] == 4


def test_episodes_that_were_changed_afterwards_are_noticed(run):
    folder, _ = run
    file = folder.path / "episodes" / "planner.json"
    rows = json.loads(file.read_text())
    rows[0]["is_success"] = not rows[0]["is_success"]
    file.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"the episodes of planner are not those of summary.json"):
        folder.episodes("planner")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "success",
            {"successes": 4, "episodes": 4, "rate": 1.0, "low": 0.5, "high": 1.0},
            "success",
        ),
        ("final_distance", {"median": 0.0, "mean": 0.0}, "final_distance"),
        ("seconds_per_plan", 1e-9, "seconds_per_plan"),
        ("success_at_last_step", None, "success_at_last_step None"),
    ],
)
def test_a_summary_that_was_changed_afterwards_is_refused(run, key, value, said):
    folder, _ = run
    file = folder.path / "summary.json"
    summary = json.loads(file.read_text())
    summary["policies"][0][key] = value
    file.write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=f"summary.json says {said} .*of planner, its epi"):
        RunFolder.load(folder.path)


def test_outcomes_that_were_changed_in_both_files_do_not_add_up(run):
    folder, _ = run
    rows = json.loads((folder.path / "episodes" / "planner.json").read_text())
    rows[0]["is_success"] = not rows[0]["is_success"]
    (folder.path / "episodes" / "planner.json").write_text(json.dumps(rows))
    summary = json.loads((folder.path / "summary.json").read_text())
    summary["policies"][0]["outcomes_sha256"] = fingerprint(rows)
    (folder.path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=r"summary.json says success .* of planner, its epi"):
        RunFolder.load(folder.path)


def test_missing_episodes_are_named(run):
    folder, _ = run
    (folder.path / "episodes" / "planner.json").unlink()
    with pytest.raises(ValueError, match=r"planner.json cannot be read .*; evaluate again"):
        RunFolder.load(folder.path)


def test_runs_are_found_in_a_folder_of_them(run, tmp_path):
    path = run[0].path
    assert runs_in(path) == [path]
    assert runs_in(tmp_path) == [path]
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "summary.json").write_text("{}")  # of something else
    assert runs_in(tmp_path) == [path]
    assert runs_in(tmp_path / "nowhere") == [tmp_path / "nowhere"]


def test_a_policy_that_was_not_played_is_named(run):
    with pytest.raises(ValueError, match="no policy 'oracle'; there are: planner"):
        run[0].episodes("oracle")


def test_a_folder_without_a_summary_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no summary.json; give a folder that"):
        RunFolder.load(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary.json is not JSON"):
        RunFolder.load(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="is not the summary of a run"):
        RunFolder.load(tmp_path)
