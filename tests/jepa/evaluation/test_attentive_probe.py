import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jepa.evaluation.attentive_probe import (
    Classifier,
    attentive_probe,
    default_heads,
    load_probe,
    save_probe,
)
from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.head_training import Sweep
from jepa.evaluation.linear_probe import linear_probe
from jepa.evaluation.probe_result import Splits, main_score


def pairs_of_tokens(seed, *, samples=240, dim=16, tokens=4, clips=1):
    """Is a marked pair of tokens alike or opposite? No mean over tokens can tell."""
    generator = np.random.default_rng(seed)
    features = 0.3 * generator.normal(size=(samples * clips, 1, tokens, dim))
    labels = generator.integers(0, 2, samples)
    sign = generator.choice((-1.0, 1.0), samples)
    for sample in range(samples):
        places = generator.permutation(tokens * clips)[:2]
        pair = sign[sample], sign[sample] * (1 - 2 * labels[sample])
        for place, value in zip(places, pair, strict=True):
            row, token = sample * clips + place // tokens, place % tokens
            features[row, 0, token, 0] += 3 * value
    return FeatureSet(
        features.astype(np.float32),
        [str(index) for index in range(samples)],
        np.repeat(np.arange(samples), clips),
        np.tile(np.arange(clips), samples),
        np.zeros(samples * clips, np.int64),
        labels,
        classes=["alike", "opposite"],
    )


@pytest.fixture
def splits():
    return Splits(*(pairs_of_tokens(seed) for seed in range(3)))


def plain_probe(data, *, learning_rate, weight_decay, epochs, batch_size):
    torch.manual_seed(0)
    probe = Classifier(16, 2, depth=2, num_heads=1)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps, step = epochs * -(-data.num_samples // batch_size), 0
    for epoch in range(epochs):
        order = np.random.default_rng((0, epoch)).permutation(data.num_samples)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * 0.5 * (1 + np.cos(np.pi * step / steps))
            tokens = torch.tensor(data.features[batch, 0])
            loss = F.cross_entropy(probe(tokens), torch.tensor(data.labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return probe


def test_one_head_is_a_plain_training_loop(splits):
    sweep = Sweep([1e-3], [0.1], epochs=2, batch_size=100)
    result = attentive_probe(splits, sweep=sweep, depth=2)
    plain = plain_probe(
        splits.train, learning_rate=1e-3, weight_decay=0.1, epochs=2, batch_size=100
    )
    with torch.no_grad():
        expected = plain(torch.tensor(splits.test.features[:, 0])).softmax(-1).numpy()
    assert np.abs(result.predicted - expected).max() < 1e-5


def test_the_sweep_equals_separate_runs(splits):
    rates, decays = (3e-3, 3e-4), (0.01, 0.4)
    small = Splits(*(pairs_of_tokens(seed, samples=30) for seed in range(3)))
    whole = attentive_probe(small, sweep=Sweep(rates, decays, epochs=2, batch_size=16), depth=2)
    alone = [
        attentive_probe(small, sweep=Sweep([rate], [decay], epochs=2, batch_size=16), depth=2)
        for rate in rates
        for decay in decays
    ]
    tried = [row["validation_score"] for row in whole.tried]
    assert tried == [result.validation_score for result in alone]
    best = alone[int(np.argmax(tried))]
    assert np.abs(whole.predicted - best.predicted).max() < 1e-5


def test_it_learns_what_tokens_say_together_and_the_mean_token_does_not(splits):
    sweep = Sweep([3e-3], [0.01], epochs=30, batch_size=60)
    result = attentive_probe(splits, sweep=sweep, depth=2)
    assert main_score(result.predicted, splits.test) > 0.9
    assert main_score(linear_probe(splits).predicted, splits.test) < 0.65


def test_tokens_of_two_clips_are_attended_jointly():
    # The pair may lie in different clips: the mean of two clips' answers could not tell.
    splits = Splits(*(pairs_of_tokens(seed, tokens=2, clips=2) for seed in range(3)))
    result = attentive_probe(splits, sweep=Sweep([3e-3], [0.01], 30, 60), depth=2)
    assert main_score(result.predicted, splits.test) > 0.9


def test_a_saved_probe_answers_as_before(splits, tmp_path):
    result = attentive_probe(splits, sweep=Sweep([1e-3], [0.1], epochs=1), depth=2)
    folder = save_probe(result.probe, tmp_path / "probe", train=splits.train, encoder="abc")
    probe, config = load_probe(folder)
    tokens = torch.tensor(splits.test.features[:, 0])
    assert torch.equal(probe(tokens), result.probe(tokens))
    assert (config["classes"], config["encoder"]) == (["alike", "opposite"], "abc")


def test_files_that_hold_no_probe_are_refused(splits, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no probe at .*: it has no config.json"):
        load_probe(tmp_path)
    result = attentive_probe(splits, sweep=Sweep([1e-3], [0.1], epochs=1), depth=1)
    folder = save_probe(result.probe, tmp_path / "probe", train=splits.train, encoder="abc")
    config = json.loads((folder / "config.json").read_text())
    config["probe"]["dim"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"not the file that sha256\.json beside it names"):
        load_probe(folder)
    (folder / "sha256.json").unlink()
    with pytest.raises(ValueError, match="holds no probe of this version"):
        load_probe(folder)


@pytest.mark.parametrize(
    ("dim", "heads"), [(1024, 16), (384, 16), (192, 12), (96, 6), (48, 3), (24, 1), (13, 1)]
)
def test_small_encoders_get_fewer_heads_of_at_least_sixteen(dim, heads):
    assert default_heads(dim) == heads


def test_the_default_probe_is_that_of_v_jepa_2():
    probe = Classifier(1024, 174).probe
    assert probe.config == {
        "dim": 1024,
        "num_classes": {"label": 174},
        "num_heads": 16,
        "depth": 4,
        "mlp_ratio": 4.0,
        "norm_eps": 1e-5,
    }
    assert len(Sweep().settings) == 20 and Sweep().epochs == 20
