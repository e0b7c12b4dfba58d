import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.head_training import Sweep, predict, swept_probe, train_heads
from jepa.evaluation.probe_result import Splits

DIM, TOKENS = 6, 3


def classes_of_tokens(seed, *, samples=24, views=1, clips=1, noise=1.0):
    """Three classes; each has its own direction in the mean token."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(samples) % 3)
    table = np.stack(np.meshgrid(*map(np.arange, (samples, views, clips)), indexing="ij"), -1)
    groups, view_ids, clip_ids = table.reshape(-1, 3).T
    features = noise * generator.normal(size=(len(groups), 1, TOKENS, DIM))
    features += 2 * np.eye(DIM)[labels[groups]][:, None, None]
    return FeatureSet(
        features.astype(np.float32),
        [f"video-{index}" for index in range(samples)],
        groups,
        clip_ids,
        view_ids,
        labels,
        classes=["a", "b", "c"],
    )


def numbers_of_tokens(seed, *, samples=60):
    """Two numbers of very different size that the mean token holds."""
    data = classes_of_tokens(seed, samples=samples, noise=1.0)
    numbers = np.asarray(data.features).mean((1, 2))[:, :2] * [1.0, 1000.0] + [5.0, -300.0]
    return FeatureSet(
        data.features, data.keys, data.groups, data.clips, data.views, numbers, None, ("x", "y")
    )


class MeanHead(nn.Module):
    def __init__(self, num_outputs=3):
        super().__init__()
        self.linear = nn.Linear(DIM, num_outputs)

    def forward(self, tokens):
        return self.linear(tokens.mean(1))


def weights_of(head):
    return torch.cat([value.flatten() for value in head.state_dict().values()])


def plain_loop(data, *, learning_rate, weight_decay, epochs, batch_size, seed):
    """A training loop as anybody would write it."""
    torch.manual_seed(seed)
    head = MeanHead()
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = epochs * -(-data.num_samples // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(epochs):
        order = np.random.default_rng((seed, epoch)).permutation(data.num_samples)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            tokens = torch.tensor(data.features[batch]).flatten(1, 2)
            loss = F.cross_entropy(head(tokens), torch.tensor(data.labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head


def test_a_sweep_of_one_is_a_plain_training_loop():
    data = classes_of_tokens(0)
    sweep = Sweep([1e-2], [0.1], epochs=3, batch_size=10, seed=4)
    (head,) = train_heads(MeanHead, data, sweep)
    plain = plain_loop(data, learning_rate=1e-2, weight_decay=0.1, epochs=3, batch_size=10, seed=4)
    assert (weights_of(head) - weights_of(plain)).abs().max() < 1e-6
    assert (weights_of(head) - weights_of(MeanHead())).abs().max() > 0.1


def test_twenty_heads_in_one_pass_equal_twenty_runs():
    data, other = classes_of_tokens(0), classes_of_tokens(1)
    whole = Sweep(epochs=2, batch_size=8)
    together = train_heads(MeanHead, data, whole)
    answers = predict(together, other, whole, train=data)
    assert len(together) == len(whole.settings) == 20
    for setting, head, answer in zip(whole.settings, together, answers, strict=True):
        alone = Sweep([setting["learning_rate"]], [setting["weight_decay"]], 2, 8)
        (lonely,) = train_heads(MeanHead, data, alone)
        assert (weights_of(head) - weights_of(lonely)).abs().max() < 1e-5
        assert np.allclose(answer, predict([lonely], other, alone, train=data)[0], atol=1e-5)
    ends = torch.stack([weights_of(head) for head in together])
    assert torch.cdist(ends, ends).fill_diagonal_(1.0).min() > 1e-6  # and no two are the same


def test_validation_chooses_and_the_test_split_has_no_say():
    splits = Splits(*(classes_of_tokens(seed, samples=45) for seed in range(3)))
    sweep = Sweep([1e-6, 3e-2], [0.01, 0.1], epochs=10, batch_size=16)
    result = swept_probe(MeanHead, splits, sweep)
    scores = [row["validation_score"] for row in result.tried]
    assert result.chosen["learning_rate"] == 3e-2
    assert result.validation_score == max(scores) > min(scores)
    hits = result.predicted.argmax(1) == splits.test.labels
    assert hits.mean() > 0.8
    shuffled = splits._replace(test=classes_of_tokens(9, samples=45))
    assert swept_probe(MeanHead, shuffled, sweep).tried == result.tried


def test_probabilities_are_averaged_over_views_and_not_logits():
    data = classes_of_tokens(0, views=3)
    (head,) = train_heads(MeanHead, data, Sweep([1e-2], [0.0], epochs=1))
    answer = predict([head], data, Sweep(batch_size=7), train=data)[0]
    rows = np.asarray(data.features)[data.table[:, :, 0]]  # (samples, views, 1, tokens, dim)
    logits = head(torch.tensor(rows).flatten(0, 2)).unflatten(0, (-1, 3))
    assert np.allclose(answer, logits.softmax(-1).mean(1).detach(), atol=1e-6)
    assert not np.allclose(answer, logits.mean(1).softmax(-1).detach(), atol=1e-3)


def test_clips_are_attended_together_in_their_order():
    data, seen = classes_of_tokens(0, clips=2), []

    class Spy(MeanHead):
        def forward(self, tokens):
            seen.append(tokens)
            return super().forward(tokens)

    predict([Spy()], data, Sweep(batch_size=100), train=data)
    rows = np.asarray(data.features)[data.table[:, 0]]  # (samples, clips, 1, tokens, dim)
    assert np.array_equal(seen[0], rows.reshape(24, 2 * TOKENS, DIM))


def test_training_draws_one_of_the_views_each_time():
    data, seen = classes_of_tokens(0, views=2), []

    class Spy(MeanHead):
        def forward(self, tokens):
            if self.training:
                seen.append(tokens[:, 0].detach().clone())
            return super().forward(tokens)

    train_heads(Spy, data, Sweep([1e-3], [0.0], epochs=8, batch_size=24))
    rows = np.asarray(data.features)[data.table[:, :, 0], 0, 0]  # (samples, views, dim)
    times = np.array([[(row == tokens.numpy()).all(1).any() for row in rows.reshape(-1, DIM)]
                      for tokens in seen])  # fmt: skip
    assert times.sum(1).tolist() == [24] * 8  # each sample once a pass
    assert 0.3 < times.reshape(8, 24, 2)[:, :, 0].mean() < 0.7  # with either view


def test_numbers_of_any_size_are_read_off():
    splits = Splits(*(numbers_of_tokens(seed) for seed in range(3)))
    result = swept_probe(
        lambda: MeanHead(2), splits, Sweep([3e-2], [0.0], epochs=60, batch_size=30)
    )
    assert result.validation_score > 0.98
    assert np.abs(result.predicted - splits.test.labels).max(0)[1] < 300
    assert np.std(splits.test.labels[:, 1]) > 300


def test_a_head_that_diverges_is_not_chosen():
    splits = Splits(*(numbers_of_tokens(seed) for seed in range(3)))
    result = swept_probe(lambda: MeanHead(2), splits, Sweep([1e30, 1e-2], [0.0], epochs=2))
    assert result.chosen["learning_rate"] == 1e-2
    assert result.tried[0]["validation_score"] == -np.inf


def test_the_same_seed_gives_the_same_answers_and_another_one_others():
    splits = Splits(*(classes_of_tokens(seed) for seed in range(3)))

    def answers(seed):
        torch.rand(seed + 3)  # the state of the generator outside does not matter
        return swept_probe(MeanHead, splits, Sweep([1e-2], [0.1], 2, 8, seed=seed)).predicted

    first, state = answers(0), torch.random.get_rng_state()
    assert np.array_equal(first, answers(0))
    assert not np.array_equal(first, answers(1))
    swept_probe(MeanHead, splits, Sweep([1e-2], [0.1], 1))
    torch.random.set_rng_state(state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rates": []}, "at least one learning rate and one weight decay"),
        ({"learning_rates": [0.0]}, r"learning rates must be above 0 .* got \[0.0\]"),
        ({"weight_decays": [-0.1]}, r"weight decays at least 0, got .* and \[-0.1\]"),
        ({"epochs": 0}, "epochs and batch_size must be at least 1, got 0 and 128"),
    ],
)
def test_sweeps_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Sweep(**options)
