import hashlib
import json

import pytest
import yaml

from planning.benchmarking.training_data import TrainingData, recordings_hash
from planning.collection import Collection, collect_episodes
from planning.data_policies import DataPolicy
from planning.environments.two_rooms import TwoRooms
from planning.recording import specification_of

UNKNOWN = TrainingData()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Recordings in which one factor varies."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    policy = DataPolicy("random")
    options, vary = {"image_size": 32}, ("colour.agent",)
    collect_episodes(
        Collection("two_rooms", policy, 2, num_steps=4, seed=11, options=options, vary=vary), folder
    )
    return folder


def write_config(run, data):
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"seed_everything": 5, "data": data}))


@pytest.mark.parametrize("inside", [".", "world_model"])
def test_the_runs_config_leads_to_what_was_recorded(shards, tmp_path, inside):
    nested = {
        "class_path": "x",
        "init_args": {"trajectories": {"init_args": {"shards": str(shards)}}},
    }
    write_config(tmp_path, nested)
    (tmp_path / "world_model").mkdir()
    data = TrainingData.of_checkpoint(tmp_path / inside)
    assert (data.environment, data.policy, data.seed) == ("two_rooms", "random", 11)
    assert (data.options, data.vary, data.training_seed) == (
        {"image_size": 32}, ("colour.agent",), 5,
    )  # fmt: skip
    assert data.shards == str(shards)
    assert (data.state_names, data.state_units) == (("x", "y"), ("pixel", "pixel"))
    index = (shards / "index.json").read_bytes()
    assert data.index_sha256 == hashlib.sha256(index).hexdigest() == recordings_hash(shards)
    told = data.to_json()
    assert told == json.loads(json.dumps(told)) and told["vary"] == ["colour.agent"]


def test_of_recordings_without_a_note_of_how_the_columns_are_known(shards, tmp_path):
    copy = tmp_path / "shards"
    copy.mkdir()
    (copy / "index.json").write_bytes((shards / "index.json").read_bytes())
    write_config(tmp_path / "run", {"shards": str(copy)})
    data = TrainingData.of_checkpoint(tmp_path / "run")
    assert data.state_names == ("x", "y") and data.index_sha256 == recordings_hash(shards)
    assert (data.environment, data.vary, data.seed) == (None, None, None)


def test_where_the_recordings_are_gone_only_the_run_is_known(tmp_path):
    write_config(tmp_path, {"shards": str(tmp_path / "gone")})
    data = TrainingData.of_checkpoint(tmp_path)
    assert (data.shards, data.training_seed) == (str(tmp_path / "gone"), 5)
    assert (data.index_sha256, data.environment, data.vary) == (None, None, None)


@pytest.mark.parametrize("content", [None, "a: [", "[1, 2]", "seed_everything: true", "data: 3"])
def test_what_cannot_be_read_is_unknown(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "data.json").write_text("{")
    assert TrainingData.of_checkpoint(tmp_path) == UNKNOWN


def test_a_shipped_checkpoint_says_what_its_columns_mean(tmp_path):
    rooms = specification_of(TwoRooms())
    (tmp_path / "data.json").write_text(json.dumps({"specification": rooms.to_json()}))
    data = TrainingData.of_checkpoint(tmp_path)
    assert (data.state_names, data.state_units) == (rooms.state_names, rooms.state_units)


def test_recordings_without_an_index_have_no_hash(tmp_path):
    assert recordings_hash(tmp_path) is None
