"""What was packed, read back with our own reader and decoder."""

import pytest

from data_pipelines.decoders import decoder_class
from data_pipelines.shards import ShardIndex, ShardReader


def _read_back(folder):
    reader, samples = ShardReader(), []
    for sample in ShardIndex.load([str(folder)]).samples:
        with decoder_class("pyav")(reader.read(sample, "mp4"), sample.key) as video:
            frames = video.frames_at(range(sample.metadata.num_frames)).pixels
        states, actions = (reader.read_array(sample, f"{n}.npy") for n in ("states", "actions"))
        samples.append((sample, frames, states, actions))
    reader.close()
    return samples


@pytest.fixture(scope="session")
def read_back():
    """Returns (sample, frames, states, actions) for each episode in a folder of shards."""
    return _read_back
