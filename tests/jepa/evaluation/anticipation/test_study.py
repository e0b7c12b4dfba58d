import numpy as np
import pytest
import torch

from data_pipelines.synthetic_actions import write_synthetic_actions
from jepa.evaluation.anticipation.data import ClipOptions, read_data
from jepa.evaluation.anticipation.future_tokens import Anticipator
from jepa.evaluation.anticipation.study import Study
from jepa.evaluation.head_training import Sweep
from jepa.models import JepaModel, VideoEncoder

SWEEP = Sweep((1e-2, 1e-4), (0.0,), epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    return write_synthetic_actions(
        folder, num_videos=(4, 2, 3), actions_per_video=2, size=32, frames_per_second=8.0
    )


def make_study(gates, **settings):
    tables = {part: gates / f"{part}.csv" for part in ("train", "validation", "test")}
    data = read_data(
        gates / "videos", tables, ClipOptions(draws_per_action=1), clip_length_frames=16,
        image_size=16,
    )  # fmt: skip
    return Study(data, SWEEP, depth=1, num_resamples=50, say=lambda line: None, **settings)


def make_anticipator():
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=16, clip_length_frames=16, patch_size=8, tubelet_size=4, dim=24, depth=1,
        num_heads=2,
    )  # fmt: skip
    return Anticipator(JepaModel(encoder), frames_per_second=8.0).eval()


def test_the_oracle_is_perfect_and_chance_is_not(gates):
    study = make_study(gates)
    oracle, chance = study.oracle_row(gates / "tracks.npz"), study.chance_row()
    assert [score.recall_at_1.value for score in oracle.scores.values()] == [1.0] * 3
    labels = study.data.labels
    verbs = labels["test"][:, 0]
    most_frequent = np.bincount(labels["train"][:, 0]).argmax()
    expected = float(most_frequent in verbs) / len(set(verbs))
    assert chance.scores["verb"].recall_at_1.value == pytest.approx(expected)


def test_the_probe_is_chosen_on_validation_and_scored_on_test(gates):
    (row,) = make_study(gates).rows("trained", make_anticipator(), ["encoder"])
    details = row.details
    assert row.name == "trained, encoder"
    recalls = details["validation_recall_of_actions"]
    assert details["validation_recall"]["action"] == pytest.approx(max(recalls), abs=1e-4)
    assert details["official_maximum_of_each_on_validation"]["action"] == pytest.approx(
        max(recalls), abs=1e-4
    )
    assert details["learning_rate"] in SWEEP.learning_rates
    assert len(details["last_losses"]) == 2
    assert row.scores["action"].num_classes == len({*make_study(gates).data.labels["test"][:, 2]})


def test_what_cannot_be_decoded_is_in_no_row(gates, tmp_path):
    study = make_study(gates)
    broken = gates / "videos/test/test_0001.mp4"
    kept = broken.read_bytes()
    broken.write_bytes(b"gone")
    try:
        study.rows("trained", make_anticipator(), ["encoder"])
    finally:
        broken.write_bytes(kept)
    left_out = [name for name, _ in study.data.all_skipped("test")]
    assert left_out == ["test_0001_0", "test_0001_1"]
    oracle = study.oracle_row(gates / "tracks.npz")
    assert oracle.scores["action"].recall_at_1.value == 1.0
    labels = study.data.labels["test"][[0, 1, 4, 5], 2]
    assert oracle.scores["action"].num_classes == len(set(labels))
