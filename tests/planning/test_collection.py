"""Collected episodes: the same from any number of workers, kept when killed, told in full."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.episode_packing import ImportSettings, make_import_plan
from data_pipelines.pack_staging import Staging
from data_pipelines.shards import ShardIndex, ShardReader, pack_trajectories
from data_pipelines.tar_headers import ShardError
from planning.collection import (
    COVERAGE_NAME,
    Collection,
    _EpisodeSource,
    collect_episodes,
    coverage_of_shards,
)
from planning.data_policies import DataPolicy
from planning.environments import make_environment
from planning.environments.two_rooms import TwoRooms
from planning.planners.cem import CEM
from planning.recording import specification_of

ROOT = Path(__file__).resolve().parents[2]


def rooms_collection(policy="noisy-expert", **changes):
    settings = {"num_episodes": 5, "num_steps": 12, "seed": 3, "options": {"image_size": 32}}
    return Collection("two_rooms", DataPolicy(policy), **{**settings, **changes})


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob("shard-*.tar"))}  # fmt: skip


def episodes_of(folder):
    """(states, actions, what is said about it) of every episode."""
    reader = ShardReader()
    for sample in ShardIndex.load(folder).samples:
        about = json.loads(reader.read(sample, "json"))
        yield (reader.read_array(sample, "states.npy"), reader.read_array(sample, "actions.npy"),
               about)  # fmt: skip


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("collected") / "shards"
    return collect_episodes(rooms_collection(), out, samples_per_shard=2)


def test_every_episode_is_a_source_of_its_own_with_exactly_so_many_steps(collected):
    samples = collected.index.samples
    assert len({sample.group for sample in samples}) == len(samples) == 5
    for states, actions, _ in episodes_of(collected.folder):
        assert (states.shape, actions.shape) == ((13, 2), (12, 2))


def test_two_workers_write_the_same_shards_as_one(collected, tmp_path):
    collect_episodes(rooms_collection(), tmp_path, samples_per_shard=2, num_workers=2)
    assert hashes(tmp_path) == hashes(collected.folder)
    assert len(hashes(tmp_path)) == 3


def test_another_seed_gives_other_episodes(collected, tmp_path):
    other = collect_episodes(rooms_collection(seed=4), tmp_path, samples_per_shard=2)
    assert not set(hashes(tmp_path).values()) & set(hashes(collected.folder).values())
    assert other.coverage.state_ranges != collected.coverage.state_ranges


def test_an_episode_can_be_simulated_again_from_what_is_said_of_it(collected):
    room = make_environment("two_rooms", image_size=32)
    for states, actions, said in episodes_of(collected.folder):
        position = np.array(said["about"]["start"])
        for action, state in zip(actions, states[1:], strict=True):
            position = room.move(position, action)
            np.testing.assert_allclose(position, state, atol=1e-3)


def test_the_coverage_is_that_of_the_shards_and_lies_beside_them(collected):
    written = json.loads((collected.folder / COVERAGE_NAME).read_text())
    states = np.concatenate([states for states, _, _ in episodes_of(collected.folder)])
    assert written["state_ranges"]["x"] == [states[:, 0].min(), states[:, 0].max()]
    assert (written["num_episodes"], written["num_steps"]) == (5, 60)
    assert written["policy"] == {"name": "noisy-expert", "max_noise": 0.3}
    assert written["moving_steps"] is None  # two rooms have no objects
    reached = sum(said["about"]["goals_reached"] for *_, said in episodes_of(collected.folder))
    assert written["goals_reached"] == reached > 0


def test_factors_are_drawn_anew_for_every_episode_and_said(tmp_path):
    collect_episodes(rooms_collection(vary=("light.brightness",)), tmp_path)
    drawn = [said["about"]["factors"]["light.brightness"][0] for *_, said in episodes_of(tmp_path)]
    factor = make_environment("two_rooms", image_size=32).factors["light.brightness"]
    assert len(set(drawn)) == 5
    assert all(factor.low[0] <= value <= factor.high[0] for value in drawn)


def test_a_finished_collection_is_left_alone_and_another_is_not_overwritten(collected):
    before = hashes(collected.folder)
    again = collect_episodes(rooms_collection(), collected.folder, samples_per_shard=2)
    assert again.was_there and not collected.was_there
    assert again.coverage == collected.coverage
    with pytest.raises(ShardError):
        collect_episodes(rooms_collection(seed=5), collected.folder, samples_per_shard=2)
    assert hashes(collected.folder) == before


def test_a_killed_collection_goes_on_where_it_was(tmp_path):
    out, whole = tmp_path / "killed", tmp_path / "whole"
    words = [sys.executable, "-m", "jepa", "data", "collect", "--env", "two_rooms", "--set",
             "image_size=32", "--policy", "noisy-expert", "--episodes", "24", "--steps", "40",
             "--samples-per-shard", "2", "--seed", "9"]  # fmt: skip
    process = subprocess.Popen([*words, str(out)], cwd=ROOT, start_new_session=True)
    finished = out / ".packing" / "shard-000002.tar.json"
    deadline = time.monotonic() + 60
    while not finished.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in (out / ".packing").glob("*.tar")}
    assert kept and not (out / "index.json").exists()
    assert subprocess.run([*words, str(out)], cwd=ROOT, check=False).returncode == 0
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert kept.items() <= times.items()  # what was finished was not made again
    assert subprocess.run([*words, str(whole)], cwd=ROOT, check=False).returncode == 0
    assert hashes(out) == hashes(whole)
    assert (out / COVERAGE_NAME).read_bytes() == (whole / COVERAGE_NAME).read_bytes()


def test_nothing_of_an_earlier_and_longer_collection_is_left(tmp_path):
    collect_episodes(rooms_collection(num_episodes=3), tmp_path, samples_per_shard=1)
    assert len(hashes(tmp_path)) == 3
    result = collect_episodes(rooms_collection(num_episodes=2), tmp_path, overwrite=True)
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"shard-000000.tar", "index.json", COVERAGE_NAME}
    assert result.index.num_samples == result.coverage.num_episodes == 2
    assert json.loads((tmp_path / COVERAGE_NAME).read_text())["episodes"] == 2


def begun(collection, out):
    """What a collection leaves that was killed before its first shard."""
    source = _EpisodeSource(collection)
    settings = ImportSettings(64, max_skipped_fraction=0.0, asked=collection.to_json())
    staging = Staging(out)
    staging.begin(make_import_plan(source, settings), overwrite=False)
    with staging:
        return out


def test_it_goes_on_with_the_same_simulator_only(tmp_path, monkeypatch):
    monkeypatch.setattr("planning.collection.simulator_packages", lambda name: {"mujoco": "3.3.0"})
    out = begun(rooms_collection(), tmp_path)
    monkeypatch.setattr("planning.collection.simulator_packages", lambda name: {"mujoco": "3.2.7"})
    with pytest.raises(
        ShardError, match=r"packages\.mujoco was 3\.3\.0 and is 3\.2\.7; .*anew with"
    ):
        collect_episodes(rooms_collection(), out)
    monkeypatch.undo()
    assert "mujoco" not in rooms_collection().to_json()["packages"]  # two rooms need none


def test_it_goes_on_with_the_same_world_model_only_wherever_that_lies(tmp_path, make_checkpoint):
    def collection(folder):
        planner = CEM(horizon=2, num_samples=4, num_elites=2, num_iterations=1)
        policy = DataPolicy("planner", checkpoint=folder, planner=planner, execute_steps=2)
        return Collection("two_rooms", policy, 1, num_steps=2)

    one, other = make_checkpoint(), make_checkpoint(change=lambda model: next(
        model.parameters()).add_(1.0))  # fmt: skip
    out = begun(collection(one), tmp_path / "shards")
    with pytest.raises(ShardError, match=r"policy\.checkpoint_sha256 was [0-9a-f]{64} and is "):
        collect_episodes(collection(other), out)
    moved = shutil.copytree(one, tmp_path / "moved")
    assert collect_episodes(collection(moved), out).index.num_samples == 1


def source_with(environment, **changes):
    source = _EpisodeSource(rooms_collection("random", **changes))
    source.__dict__["_environment"] = environment
    return source


class Slippery(TwoRooms):
    """Refuses its first starts, as an arm that does not reach where it should begin."""

    num_refused, num_resets = 2, 0

    def reset(self, generator, *, start=None, goal=None):
        time_step = super().reset(generator, start=start, goal=goal)
        self.num_resets += 1
        if self.num_resets <= self.num_refused:
            raise ValueError(f"the arm does not reach {self.num_resets}")
        return time_step


def test_a_start_that_cannot_be_taken_is_drawn_again_and_named():
    source = source_with(Slippery(image_size=32))
    episode = source.episode(4)
    said = [f"two_rooms cannot begin: the arm does not reach {number}" for number in (1, 2)]
    assert episode.about["redrawn"] == said
    assert len(episode.actions) == 12
    assert "redrawn" not in source.episode(3).about
    again = source_with(Slippery(image_size=32)).episode(4)
    assert np.array_equal(again.states, episode.states)  # of the seed and the number alone


def test_what_was_redrawn_and_what_ended_early_is_counted(tmp_path):
    room = Slippery(image_size=32)
    whole, cut = (source_with(room).episode(number) for number in (0, 1))
    reason = "goal reached; there is no other"
    cut = replace(cut, states=cut.states[:4], actions=cut.actions[:3], frames=cut.frames[:4],
                  about={**cut.about, "ended_early": reason})  # fmt: skip
    packed = pack_trajectories([whole, cut], tmp_path, specification=specification_of(room))
    coverage = coverage_of_shards(packed.index)
    assert coverage.redrawn_starts == {whole.key: whole.about["redrawn"]}
    assert coverage.early_ends == {reason: 1}
    assert coverage.num_steps == 12 + 3
    lines = coverage.lines()
    assert f"shorter    1 of 2 episodes: {reason}" in lines
    assert lines[-1].startswith(
        f"redrawn    2 starts, such as one of {whole.key}: two_rooms cannot"
    )


def test_many_starts_in_a_row_that_cannot_be_taken_stop_the_collection():
    class NeverThere(Slippery):
        num_refused = 10**9

    with pytest.raises(
        ValueError, match=r"^20 starts in a row cannot be taken, the last: two_room"
    ):
        source_with(NeverThere(image_size=32)).episode(0)


def test_an_episode_that_fails_stops_the_collection_and_says_why(tmp_path, checkpoint):
    """The world model sees 64 pixels, and these rooms have 32: known when it is asked to plan."""
    planner = CEM(horizon=3, num_samples=8, num_elites=2, num_iterations=1)
    policy = DataPolicy("planner", checkpoint=checkpoint, planner=planner, execute_steps=2)
    collection = Collection("two_rooms", policy, 5, options={"image_size": 32})
    with pytest.raises(ValueError, match=r"cannot record episode 0: .*\(64, 64, 3\)"):
        collect_episodes(collection, tmp_path)


def test_options_and_factors_that_do_not_exist_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="image_siz"):
        collect_episodes(rooms_collection(options={"image_siz": 32}), tmp_path / "a")
    with pytest.raises(ValueError, match=r"cannot vary colour\.moon"):
        collect_episodes(rooms_collection(vary=("colour.moon",)), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="num_episodes and num_steps must be at least 1, got 0"):
        rooms_collection(num_episodes=0)
    with pytest.raises(ValueError, match="num_workers=0 must be at least 1"):
        collect_episodes(rooms_collection(), tmp_path / "c", num_workers=0)
    with pytest.raises(ValueError, match=r"max_noise must be in \[0, 2\] .* got nan"):
        DataPolicy("noisy-expert", max_noise=float("nan"))
