"""What is special to ensembles; what all dynamics share is in test_base.py."""

import pytest
import torch

from jepa.models.dynamics import GRU, ActionConditionedPredictor, AdaLN, Ensemble
from jepa.models.dynamics.base import Prediction
from jepa.models.dynamics.ensemble import StackedMLP, StackedPrior, summarized
from tests.jepa.models.dynamics.test_base import close, make_windows

TRUNKS = {
    "ac": lambda: ActionConditionedPredictor(dim=24, depth=1, num_heads=2),
    "adaln": lambda: AdaLN(
        dim=24, depth=1, num_heads=2, head_dim=12, mlp_dim=32, dropout=0, context_frames=3
    ),
    "gru": lambda: GRU(dim=24),
}


def make(trunk="gru", *, members=3, output="residual", state_dim=4, grid=(2, 3), **options):
    torch.manual_seed(0)
    ensemble = Ensemble(TRUNKS[trunk](), num_members=members, hidden_dim=16, **options)
    ensemble.build(latent_dim=10, action_dim=2, state_dim=state_dim, grid=grid, output=output)
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return ensemble.eval()


def test_disagreement_is_the_deviation_over_members_averaged_over_the_latent():
    tokens = torch.tensor([[[[1.0, 0.0]]], [[[3.0, 0.0]]]])  # (members, batch, tokens, dim)
    found = summarized(Prediction(tokens, torch.zeros(2, 1, 3)))
    assert found.tokens.tolist() == [[[2.0, 0.0]]]
    assert found.disagreement.tolist() == [pytest.approx(0.5)]


def test_members_that_agree_have_a_gradient_of_zero():
    tokens = torch.ones(3, 2, 1, 4, requires_grad=True)
    summarized(Prediction(tokens, torch.zeros(3, 2, 0))).disagreement.sum().backward()
    assert torch.equal(tokens.grad, torch.zeros_like(tokens))


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("output", ["normed", "residual"])
@pytest.mark.parametrize("past", [0, 2])
def test_every_member_lives_on_its_own_prediction(trunk, output, past):
    """Each member's rollout, one after the other and without a memory."""
    ensemble, (tokens, states, actions) = make(trunk, output=output), make_windows()
    memory = None
    if past:
        memory = ensemble.remember(tokens[:, :past], states[:, :past], actions[:, :past])
    arguments = tokens[:, past], states[:, past], actions[:, past:]
    found = ensemble.rollout_members(*arguments, memory=memory)
    for member in range(3):
        seen, felt = tokens[:, : past + 1], states[:, : past + 1]
        for time in range(past, 7):
            said = ensemble.forward_members(seen, felt, actions[:, : time + 1])
            seen = torch.cat((seen, said.tokens[member][:, -1:]), 1)
            felt = torch.cat((felt, said.state[member][:, -1:]), 1)
        alone = seen[:, past + 1 :], felt[:, past + 1 :]
        close((found.tokens[member], found.state[member]), alone)
    close(ensemble.rollout(*arguments, memory=memory), summarized(found))


def test_the_trunk_runs_once_for_all_members_while_they_see_the_same():
    ensemble, (tokens, states, actions) = make("adaln"), make_windows()
    rows = []
    ensemble.trunk.embed.register_forward_hook(lambda *io: rows.append(len(io[2])))
    ensemble.rollout(tokens[:, 0], states[:, 0], actions[:, :3])
    assert rows == [3, 9, 9]
    rows.clear()
    ensemble(tokens, states, actions)
    assert rows == [3]


def test_stacked_networks_are_networks_one_by_one():
    stacked, x = StackedMLP(3, 5, 8, 2), torch.randn(3, 4, 6, 5)
    found = stacked(x)
    for member in range(3):
        hidden = torch.nn.functional.gelu(x[member] @ stacked.weight[member] + stacked.bias[member])
        expected = hidden @ stacked.out_weight[member] + stacked.out_bias[member]
        torch.testing.assert_close(found[member], expected, atol=1e-5, rtol=1e-4)
    shared = stacked(x[:1])
    torch.testing.assert_close(shared[0], found[0], atol=1e-5, rtol=1e-4)


def test_priors_have_a_size_of_one_and_do_not_learn():
    prior = StackedPrior(100, 6, 128, 3)
    values = prior(torch.randn(1, 500, 6))
    assert values.std().item() == pytest.approx(1.0, abs=0.15)
    assert list(prior.parameters()) == [] and len(prior.state_dict()) == 3
    far = prior(100 * torch.randn(1, 500, 6))  # however far away, they do not agree
    assert far.std(0).mean() > 0.5


def test_the_trunk_has_no_head_of_its_own_that_would_not_learn():
    ensemble = make("ac")
    names = [name for name, _ in ensemble.named_parameters()]
    assert not [name for name in names if name.startswith(("trunk.proj", "trunk.state_proj"))]
    assert ensemble.state_head is not None and make(state_dim=0).state_head is None


def learned(*, prior_scale, steps=250):
    """An ensemble that has seen a world of two numbers where the first is negative."""
    torch.manual_seed(0)
    ensemble = Ensemble(GRU(dim=48), num_members=5, hidden_dim=32, prior_scale=prior_scale)
    ensemble.build(latent_dim=2, action_dim=2, state_dim=0, grid=(1, 1), output="residual")
    optimizer = torch.optim.AdamW(ensemble.parameters(), lr=4e-3)
    for _ in range(steps):
        place, action, after = half(side=-1)
        members = ensemble.forward_members(place, place.new_zeros(64, 1, 0), action).tokens
        optimizer.zero_grad()
        (members - after).abs().mean().backward()
        optimizer.step()
    return ensemble.eval()


def half(*, side, rows=64):
    """Places and actions of one half of a world in which a step is shorter on the left."""
    place = torch.rand(rows, 1, 1, 2) * 2 - 1
    place[..., 0] = side * place[..., 0].abs()
    action = torch.rand(rows, 1, 2) * 2 - 1
    step = 0.3 * action[:, :, None] * torch.sigmoid(4 * place[..., :1] + 2)
    return place, action, place + step


@pytest.mark.parametrize("prior_scale", [0.0, 0.1])
def test_members_disagree_more_where_there_were_no_data(prior_scale):
    """Measured: 5.7 times as much without priors, 4.1 times (of twice as much) with."""
    ensemble = learned(prior_scale=prior_scale)
    found = {}
    with torch.no_grad():
        for side in (-1, 1):
            place, action, after = half(side=side, rows=400)
            predicted = ensemble(place, place.new_zeros(400, 1, 0), action)
            error = (predicted.tokens - after).abs().mean().item()
            found[side] = error, predicted.disagreement.mean().item()
        copying = (place - after).abs().mean().item()
        (seen_error, seen), (other_error, other) = found[-1], found[1]
        assert seen_error < 0.15 * copying
        assert other_error > 3 * seen_error
        assert other > 2 * seen
        # Along an imagined path into the unknown it grows.
        start, right = torch.full((1, 1, 2), -0.5), torch.tensor([1.0, 0.0]).expand(1, 12, 2)
        path = ensemble.rollout(start, torch.zeros(1, 0), right).disagreement[0]
        assert path[-1] > 5 * path[0]
