import pytest
import torch

from jepa.objectives import InverseDynamics


def built(dim, action_dim, **options):
    head = InverseDynamics(**options)
    head.build(dim, action_dim)
    return head


def test_the_value_is_the_mean_squared_error_of_the_actions():
    head = built(4, 2, weight=3.0)
    before, after, actions = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 2)
    told = head.head(torch.cat([before, after], -1))
    terms = head(before, after, actions)
    expected = sum((told - actions).detach().flatten() ** 2) / 10
    assert terms.parts["inverse_dynamics"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms.total.item() == pytest.approx(3 * expected.item(), rel=1e-5)


def test_it_learns_the_action_that_moves_the_embedding():
    head = built(4, 2, hidden_dim=64)
    optimizer, mixing = torch.optim.Adam(head.parameters(), lr=3e-3), torch.randn(2, 4)

    def transitions():
        before, actions = torch.randn(256, 4), torch.rand(256, 2) * 2 - 1
        return before, before + actions @ mixing, actions

    untrained = head(*transitions()).total.item()
    for _ in range(300):
        optimizer.zero_grad()
        head(*transitions()).total.backward()
        optimizer.step()
    assert head(*transitions()).total.item() < 0.05 * untrained


def test_building_twice_keeps_what_was_learned_and_refuses_other_widths():
    head = built(4, 2)
    weights = head.head
    head.build(4, 2)
    assert head.head is weights
    with pytest.raises(ValueError, match=r"built for \(dim, action_dim\) \(4, 2\) already"):
        head.build(4, 3)


@pytest.mark.parametrize(("dim", "action_dim"), [(0, 2), (4, 0)])
def test_widths_below_one_are_refused(dim, action_dim):
    with pytest.raises(ValueError, match=f"at least 1, got {dim} and {action_dim}"):
        built(dim, action_dim)


def test_a_hidden_width_below_one_is_refused():
    with pytest.raises(ValueError, match="hidden_dim must be at least 1, got 0"):
        InverseDynamics(hidden_dim=0)
