import json

import pytest

from planning.benchmarking.card_run import play_planner
from planning.benchmarking.run_folder import RunFolder, write_run


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
