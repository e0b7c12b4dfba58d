import numpy as np
import pytest

from data_pipelines.__main__ import main as pack
from data_pipelines.synthetic import write_moving_shapes
from jepa.checkpoints.native import save_encoder
from jepa.evaluation.encoders import load_probe_encoder
from jepa.evaluation.head_training import Sweep
from jepa.evaluation.probing import KINDS, Probe, ProbeData, probe_table
from jepa.evaluation.scores import seed_interval
from jepa.models import VideoEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probing")
    for name, seed in (("train", 0), ("test", 1)):
        videos = folder / f"{name}_videos"
        write_moving_shapes(videos, num_videos=24, num_frames=6, size=32, seed=seed)
        assert pack(["pack", str(videos), str(folder / name)]) == 0
    encoder = VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=16, dim=24, depth=1, num_heads=2
    )
    save_encoder(encoder, folder / "encoder")
    return folder


@pytest.fixture
def data(folder):
    return ProbeData(train=str(folder / "train"), test=str(folder / "test"))


def test_the_splits_share_no_recording_and_validation_comes_from_the_training_set(folder, data):
    encoder = load_probe_encoder(str(folder / "encoder"))
    parts = data.read(encoder)
    assert list(parts) == ["train", "validation", "test"]
    assert [len(part) for part in parts.values()] == [18, 6, 24]
    train, validation, _ = (set(part.recordings) for part in parts.values())
    assert not train & validation
    few = ProbeData(**{**vars(data), "max_rows": 5, "max_test_rows": 3}).read(encoder)
    assert [len(part) for part in few.values()] == [5, 3, 3]


def test_baselines_see_the_same_clips_and_chance_comes_last(folder, data):
    rows = probe_table(
        str(folder / "encoder"), data, Probe("knn"), baselines=["pixels"], num_resamples=50,
        cache=folder / "cache",
    )  # fmt: skip
    assert [row.name for row in rows] == [str(folder / "encoder"), "pixels", "chance"]
    assert rows[0].gain is None
    first = rows[0].scores["top-1"].value
    for row in rows[1:]:
        assert row.gain is not None
        assert row.gain.value == pytest.approx(first - row.scores["top-1"].value)


def test_seeds_draw_the_probe_anew_and_a_probe_without_chance_once(folder, data):
    def over_seeds(kind, **options):
        sweep = Sweep([1e-2], [0.1], epochs=2, batch_size=8)
        probe = Probe(kind, sweep=sweep, depth=1)
        rows = probe_table(
            str(folder / "encoder"), data, probe, num_resamples=20, cache=folder / "cache",
            baselines=(), **options,
        )  # fmt: skip
        return rows[0]

    assert over_seeds("knn", seeds=(0, 1)).over_seeds is None  # the same answers twice
    singles = [over_seeds("attentive", seeds=(seed,)).scores["top-1"].value for seed in (0, 1, 2)]
    together = over_seeds("attentive", seeds=(0, 1, 2)).over_seeds
    assert len(set(singles)) > 1
    assert together == pytest.approx(seed_interval(singles))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_row(folder, data, kind):
    probe = Probe(kind, sweep=Sweep([1e-3], [0.1], epochs=1), depth=1)
    one, other = (
        probe_table(
            str(folder / "encoder"), data, probe, num_resamples=20, cache=folder / "cache",
            baselines=(),
        )[0].to_json()
        for _ in range(2)
    )  # fmt: skip
    assert one == other
    assert np.isfinite(one["scores"]["top-1"]["value"])


def test_samples_must_be_named_once():
    for options in ({}, {"train": "a"}, {"data": "a", "train": "b", "test": "c"}):
        with pytest.raises(ValueError, match="by --data, which is split, or by --train and --test"):
            ProbeData(**options)
