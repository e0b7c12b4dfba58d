"""Screening: the best are exact and the same as without it, whatever the rough costs look like."""

import pytest
import torch

from planning.actions.space import ActionSpec
from planning.costs import GoalDistance
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.search.screening import ScreenedCost, Screening
from planning.types import Latent

START = Latent(torch.zeros(1, 1))
NUM_SAMPLES, NUM_BEST = 200, 10


class KnownWorld:
    """Sequence i, whose action is the number i, becomes its cost."""

    action_dim = 1

    def __init__(self, costs):
        self.costs, self.imagined = costs, []

    def rollout(self, start, actions):
        numbers = actions[:, 0, 0].long()
        self.imagined += numbers.tolist()
        return Latent(self.costs[numbers][:, None, None, None])


def first_number(imagined, actions):
    return imagined.tokens[:, 0, 0, 0]


def screened(rough, exact, *, num_best=NUM_BEST, **options):
    worlds = KnownWorld(rough), KnownWorld(exact)
    screening = Screening(*worlds, first_number, **options)
    costs = screening(START, torch.arange(len(exact)).float()[:, None, None], num_best)
    assert screening.num_rough == len(exact)
    assert screening.num_exact == len(worlds[1].imagined) == len(set(worlds[1].imagined))
    return costs, worlds[1].imagined


def draws(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    exact = torch.rand(NUM_SAMPLES, generator=generator)
    return exact, exact + 0.3 + scale * torch.randn(NUM_SAMPLES, generator=generator)


def same_best(costs, exact, num_best=NUM_BEST):
    found, expected = (x.topk(num_best, largest=False) for x in (costs, exact))
    return torch.equal(found.indices, expected.indices) and torch.equal(
        found.values, expected.values
    )


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-2, 0.1])
def test_the_best_are_those_of_the_exact_costs(scale):
    for seed in range(20):
        exact, rough = draws(seed, scale)
        costs, _ = screened(rough, exact)
        assert same_best(costs, exact)


def test_small_errors_leave_most_sequences_rough_and_large_ones_none():
    exact, rough = draws(0, 1e-3)
    assert len(screened(rough, exact)[1]) < 0.2 * NUM_SAMPLES
    exact, rough = draws(0, 3.0)
    assert len(screened(rough, exact)[1]) == NUM_SAMPLES


def test_rough_costs_are_freed_of_their_mean_error():
    exact, rough = draws(0, 0.0)
    costs, _ = screened(rough, exact)
    torch.testing.assert_close(costs, exact)


def test_what_cannot_be_scored_roughly_is_scored_exactly():
    exact, rough = draws(0, 1e-3)
    best = exact.argmin()
    rough[best], rough[3] = torch.nan, torch.inf
    costs, imagined = screened(rough, exact)
    assert {int(best), 3} <= set(imagined)
    assert same_best(costs, exact)


def test_a_sequence_whose_exact_cost_is_nan_stays_nan_and_is_none_of_the_best():
    exact, rough = draws(0, 1e-3)
    broken = int(exact.argmin())
    exact[broken] = torch.nan
    costs, _ = screened(rough, exact)
    assert costs[broken].isnan()
    assert same_best(costs.nan_to_num(torch.inf), exact.nan_to_num(torch.inf))


@pytest.mark.parametrize("num_best", [1, 5, 6])
def test_few_sequences_are_all_exact(num_best):
    exact = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    costs, imagined = screened(-exact, exact, num_best=num_best)
    assert torch.equal(costs, exact)
    assert sorted(imagined) == list(range(5))


def test_screening_that_does_not_pay_is_given_up():
    exact, rough = draws(0, 3.0)
    worlds = KnownWorld(rough), KnownWorld(exact)
    screening = Screening(*worlds, first_number)
    actions = torch.arange(NUM_SAMPLES).float()[:, None, None]
    for _ in range(3):
        assert torch.equal(screening(START, actions, NUM_BEST), exact)
    assert not screening.pays
    assert (screening.num_rough, screening.num_exact) == (NUM_SAMPLES, 3 * NUM_SAMPLES)


def test_numbers_out_of_range_are_refused():
    world = KnownWorld(torch.zeros(1))
    with pytest.raises(ValueError, match="num_stds must be positive and finite, got 0"):
        Screening(world, world, first_number, num_stds=0)
    with pytest.raises(ValueError, match="max_exact_share must be positive and finite, got -1"):
        Screening(world, world, first_number, max_exact_share=-1)
    with pytest.raises(ValueError, match="num_controls must be at least 1, got 0"):
        Screening(world, world, first_number, num_controls=0)
    with pytest.raises(ValueError, match="num_best must be at least 1, got 0"):
        Screening(world, world, first_number)(START, torch.zeros(3, 1, 1), 0)


def test_bfloat16_and_float32_of_one_model_choose_as_float32_alone(make_model):
    model = make_model(latents="patches")
    exact, rough = LatentWorld(model), LatentWorld(model, precision="bf16")
    generator = torch.Generator().manual_seed(0)
    start, goal = torch.randn(2, 16, 48, generator=generator)
    start = Latent(start, torch.zeros(2))
    actions = 2.5 * (2 * torch.rand(128, 2, 2, generator=generator) - 1)
    cost = GoalDistance(Latent(goal), exact.distance, "last")
    with torch.no_grad():
        expected = cost(exact.rollout(start, actions), actions)
        off = cost(rough.rollout(start, actions), actions)
    costs = Screening(rough, exact, cost)(start, actions, NUM_BEST)
    assert not torch.equal(off, expected)
    found = costs.topk(NUM_BEST, largest=False)
    best = expected.topk(NUM_BEST, largest=False)
    assert torch.equal(found.indices, best.indices)
    torch.testing.assert_close(found.values, best.values, rtol=0, atol=1e-6)


def test_a_plan_in_the_rough_world_is_the_plan_in_the_exact_one(make_model):
    model = make_model(latents="patches")
    exact, rough = LatentWorld(model), LatentWorld(model, precision="bf16")
    start, goal = torch.randn(2, 16, 48, generator=torch.Generator().manual_seed(0))
    start = Latent(start, torch.zeros(2))
    cost = GoalDistance(Latent(goal), exact.distance, "last")
    screening = Screening(rough, exact, cost)
    plans = [
        CEM(horizon=2, num_samples=64, num_elites=6, num_iterations=3).plan(
            world,
            start,
            cost=scores,
            action_spec=ActionSpec(("dx", "dy"), ("1", "1"), (-2.5, -2.5), (2.5, 2.5)),
            generator=torch.Generator().manual_seed(0),
        )
        for world, scores in (
            (exact, cost),
            (rough, ScreenedCost(screening, start, num_best=6)),
        )
    ]
    torch.testing.assert_close(plans[1].actions, plans[0].actions, rtol=0, atol=1e-5)
    assert plans[1].cost == pytest.approx(plans[0].cost, abs=1e-5)
    assert screening.num_rough == 3 * 64


def test_costs_that_gradients_are_wanted_of_stay_rough():
    exact, rough = draws(0, 0.1)
    screening = Screening(KnownWorld(rough), KnownWorld(exact), first_number)
    imagined = Latent(rough[:, None, None, None].clone().requires_grad_())
    costs = ScreenedCost(screening, START, num_best=3)(imagined, torch.zeros(NUM_SAMPLES, 1, 1))
    assert torch.equal(costs, rough)
    assert costs.requires_grad
    assert screening.num_exact == 0
