import json

import pytest
import torch

from jepa.checkpoints.native import load_world_model
from jepa.evaluation.health.__main__ import read_batches
from jepa.evaluation.health.measuring import measure
from jepa.evaluation.health.summary import health_summary, health_table, untrained_twin
from jepa.evaluation.health.verdict import RULES
from jepa.models import JepaModel, MaskedLatentPredictor
from tests.jepa.evaluation.health.collapsed_encoders import few_directions, fresh
from tests.jepa.evaluation.health.test_measuring import BATCH


def test_the_twin_has_the_same_architecture_and_other_weights():
    predictor = MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2)
    model = JepaModel(fresh(1), predictor=predictor)
    twin = untrained_twin(model, seed=4)
    assert twin.encoder.config == model.encoder.config
    assert twin.predictor.config == predictor.config
    weight = "encoder.patch_embed.weight"
    assert not torch.equal(twin.state_dict()[weight], model.state_dict()[weight])
    again = untrained_twin(model, seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in twin.state_dict().items())


def test_a_summary_is_json_and_says_what_was_measured_beside_the_twin():
    model = JepaModel(few_directions(1))
    summary = health_summary(model, [BATCH], seed=2)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["verdict"] == "collapsed"
    assert summary["line"] == f"collapsed ({'; '.join(summary['reasons'])})"
    rows = {row["name"]: row for row in summary["measures"]}
    assert list(rows) == [rule.measure for rule in RULES if rule.measure in rows]
    ours = measure(model, [BATCH], seed=2).values
    theirs = measure(untrained_twin(model, seed=2), [BATCH], seed=2).values
    assert rows["effective_rank"]["value"] == ours["effective_rank"]
    assert rows["effective_rank"]["untrained"] == theirs["effective_rank"]
    assert rows["effective_rank"]["verdict"] == "collapsed"
    assert sum(summary["curves"]["spectrum_untrained"]) == pytest.approx(1.0, abs=1e-3)
    assert len(summary["curves"]["attention_entropy"]) == 2


def test_the_table_has_one_line_a_measure_and_ends_with_the_verdict():
    summary = health_summary(JepaModel(few_directions(1)), [BATCH])
    lines = health_table(summary).splitlines()
    assert lines[0].split() == ["measure", "value", "untrained", "should", "be", "verdict"]
    assert lines[1].split()[0] == "effective_rank"
    assert lines[1].split()[-1] == "collapsed"
    assert len(lines) == len(summary["measures"]) + 3
    assert lines[-1] == f"verdict: {summary['line']}"


def test_a_shipped_world_model_is_healthy_also_where_it_was_not_trained(trajectory_shards):
    model = load_world_model("two_rooms")
    batches = read_batches(model, trajectory_shards, num_clips=8)
    summary = health_summary(model, batches)
    rows = {row["name"]: row for row in summary["measures"]}
    assert {"latent_rank", "prediction_gain_over_copy", "planning_signal", "state_correlation"} <= {
        *rows
    }
    assert summary["verdict"] in ("healthy", "suspicious")  # shapes, not rooms: it may be lost
    assert not [name for name, row in rows.items() if row["verdict"] == "collapsed"]
