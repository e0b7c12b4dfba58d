"""Adam against torch's, and what a descent does at bounds, on plateaus and where it must not go."""

import pytest
import torch

from planning.actions.space import ActionSpec
from planning.search.gradient_descent import Descent, Moments, adam_direction, cosine_scale
from planning.search.rounds import Scores
from planning.search.space import SearchSpace


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def space_of(low, high, *, steps=1):
    spec = ActionSpec(("a",), ("1",), (low,), (high,))
    return SearchSpace.of(spec, steps, like=torch.zeros(1))


def descent_at(*starts, low=-1.0, high=1.0, step_size=0.1):
    sequences = torch.tensor(starts).view(len(starts), 1, 1)
    return Descent.at(space_of(low, high), sequences, step_size=step_size, betas=(0.9, 0.999))


def scores_of(costs, gradients):
    return Scores(torch.tensor(costs), torch.tensor(gradients).view(-1, 1, 1))


def test_many_steps_are_those_of_torchs_adam():
    torch.manual_seed(0)
    target = torch.randn(3, 4, 2)
    ours, theirs = torch.zeros(3, 4, 2), torch.zeros(3, 4, 2, requires_grad=True)
    optimizer = torch.optim.Adam([theirs], lr=0.07, betas=(0.8, 0.95))
    moments = Moments.none(ours)
    for _ in range(40):
        direction, moments = adam_direction(moments, 4 * (ours - target) ** 3, betas=(0.8, 0.95))
        ours = ours - 0.07 * direction
        optimizer.zero_grad()
        (theirs - target).pow(4).sum().backward()
        optimizer.step()
        torch.testing.assert_close(ours, theirs.detach(), atol=1e-5, rtol=0)


def test_a_start_that_was_reset_counts_its_steps_anew():
    gradients = torch.tensor([[[2.0]], [[2.0]]])
    direction, moments = adam_direction(Moments.none(gradients), gradients, betas=(0.9, 0.999))
    assert direction.flatten().tolist() == pytest.approx([1, 1])
    moments = moments.reset(torch.tensor([True, False]))
    assert moments.count.tolist() == [0, 1]
    direction, _ = adam_direction(moments, -gradients, betas=(0.9, 0.999))
    assert direction[0].item() == pytest.approx(-1)  # as if it were the first
    assert abs(direction[1].item()) < 0.1  # 2 and then -2: their mean is near 0


@pytest.mark.parametrize("half_range", [1.0, 50.0])
def test_a_first_step_is_a_share_of_the_half_range_whatever_the_units(half_range):
    descent = descent_at(0.0, low=-half_range, high=half_range, step_size=0.1)
    descent.advance(scores_of([1.0], [-3.0 / half_range]), scale=0.5, generator=generator())
    assert descent.sequences.item() == pytest.approx(0.05 * half_range, rel=1e-5)


def test_a_step_over_a_bound_ends_at_the_bound():
    descent = descent_at(0.95)
    descent.advance(scores_of([1.0], [-3.0]), scale=1.0, generator=generator())
    assert descent.sequences.item() == 1.0


def test_the_best_of_each_start_is_kept():
    descent = descent_at(0.0, 0.5)
    descent.advance(scores_of([2.0, 1.0], [1.0, 1.0]), scale=1.0, generator=generator())
    second = descent.sequences.clone()
    descent.advance(scores_of([1.5, 3.0], [1.0, 1.0]), scale=1.0, generator=generator())
    assert descent.best_costs.tolist() == [1.5, 1.0]
    assert descent.best.flatten().tolist() == [second[0].item(), 0.5]
    assert descent.best_sequence.item() == 0.5


def test_a_step_to_where_costs_are_infinite_is_taken_back_and_halved():
    descent = descent_at(0.0)
    descent.advance(scores_of([2.0], [-1.0]), scale=1.0, generator=generator())
    assert descent.sequences.item() == pytest.approx(0.1)
    descent.advance(scores_of([float("inf")], [0.0]), scale=1.0, generator=generator())
    assert descent.sequences.item() == 0.0
    descent.advance(scores_of([2.0], [-1.0]), scale=1.0, generator=generator())
    assert descent.sequences.item() == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("cost", "gradient", "start"),
    [(2.0, 0.0, 0.3), (2.0, -1.0, 1.0), (float("inf"), 0.0, 0.3)],
    ids=["on a plateau", "in a corner", "begins where it must not"],
)
def test_a_start_that_cannot_move_is_drawn_anew(cost, gradient, start):
    descent = descent_at(start, start)
    descent.advance(scores_of([cost] * 2, [gradient] * 2), scale=1.0, generator=generator())
    one, two = descent.sequences.flatten().tolist()
    assert len({one, two, start}) == 3
    assert -1 <= one <= 1
    assert descent.best[0].item() == pytest.approx(start)


def test_a_start_that_is_drawn_anew_or_replaced_takes_whole_steps_again():
    descent = descent_at(0.0, 0.0)
    for cost, gradient in ((2.0, -1.0), (float("inf"), 0.0)):  # taken back: steps are halved
        descent.advance(scores_of([cost] * 2, [gradient] * 2), scale=1.0, generator=generator())
    assert descent.shares.tolist() == [0.5, 0.5]
    descent.offer(torch.tensor([0.7]).view(1, 1, 1), torch.tensor([1.0]))
    assert sorted(descent.shares.tolist()) == [0.5, 1.0]
    descent.advance(scores_of([3.0] * 2, [0.0] * 2), scale=1.0, generator=generator())
    assert descent.shares.tolist() == [1.0, 1.0]


def test_small_steps_at_the_end_are_not_taken_for_standing_still():
    descent = descent_at(0.0, step_size=0.1)
    descent.advance(scores_of([1.0], [-1.0]), scale=5e-4, generator=generator())
    assert descent.sequences.item() == pytest.approx(0.1 * 5e-4)


def test_better_samples_take_the_place_of_the_worst_starts():
    descent = descent_at(0.1, 0.2, 0.3)
    descent.advance(scores_of([1.0, 5.0, 3.0], [1.0] * 3), scale=1.0, generator=generator())
    before = descent.sequences.clone()
    descent.offer(torch.tensor([0.7, 0.8, 0.9]).view(3, 1, 1), torch.tensor([2.0, 9.0, 0.5]))
    assert sorted(descent.best_costs.tolist()) == [0.5, 1.0, 2.0]
    assert descent.best_sequence.item() == pytest.approx(0.9)
    assert descent.sequences[0].item() == before[0].item()  # goes on where it was
    assert sorted(descent.sequences[1:].flatten().tolist()) == pytest.approx([0.7, 0.9])
    assert descent.moments.count.tolist() == [1, 0, 0]


def test_samples_that_are_worse_change_nothing():
    descent = descent_at(0.1, 0.2)
    descent.advance(scores_of([1.0, 2.0], [1.0] * 2), scale=1.0, generator=generator())
    before = (descent.sequences, descent.best, descent.best_costs)
    descent.offer(torch.tensor([0.7]).view(1, 1, 1), torch.tensor([float("inf")]))
    assert all(
        torch.equal(one, two)
        for one, two in zip(
            before, (descent.sequences, descent.best, descent.best_costs), strict=True
        )
    )


def test_many_starts_reach_the_minimum_of_a_valley():
    """Cost (x - 0.4)^2: every start ends there."""
    descent = descent_at(-1.0, -0.2, 0.9, step_size=0.2)
    draws = generator()
    for step in range(60):
        x = descent.sequences
        costs = (x - 0.4).square().flatten()
        descent.advance(Scores(costs, 2 * (x - 0.4)), scale=0.9**step, generator=draws)
    assert (descent.best - 0.4).abs().max() < 0.02


def test_the_step_falls_like_a_cosine():
    assert cosine_scale(0.0, 0.1) == pytest.approx(1)
    assert cosine_scale(0.5, 0.1) == pytest.approx(0.55)
    assert cosine_scale(1.0, 0.1) == pytest.approx(0.1)
