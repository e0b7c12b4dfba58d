"""Good inputs for the tables of bad ones; made once for all of them."""

import pytest

from data_pipelines.shards import pack_videos
from data_pipelines.synthetic import write_moving_shapes
from tests.reliability.bad_inputs import Inputs


@pytest.fixture(scope="session")
def good_inputs(tmp_path_factory):
    """A folder with videos and shards, which no test changes."""
    folder = tmp_path_factory.mktemp("good")
    write_moving_shapes(folder / "videos", num_videos=6, num_frames=16, size=64)
    pack_videos(folder / "videos", folder / "shards")
    return folder


@pytest.fixture
def inputs(good_inputs, tmp_path, monkeypatch):
    """The good inputs, seen from an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return Inputs(good_inputs / "videos", good_inputs / "shards", tmp_path)
