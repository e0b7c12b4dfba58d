"""Distances of latents by hand, their limits and their gradients."""

import pytest
import torch

from planning.costs import L1, L2, Cosine, distance_named
from planning.costs.distances import NAMES

GOAL = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # two tokens of two
ALL = [
    kind(is_pooled=is_pooled, **options)
    for kind, options in ((L1, {}), (L2, {}), (L2, {"is_squared": True}), (Cosine, {}))
    for is_pooled in (False, True)
]
SWAPPED = GOAL.flip(0)  # the same tokens at other places


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (L1(), 3 / 4),  # differences 2, 0, 0, 1
        (L2(), (5 / 4) ** 0.5),
        (L2(is_squared=True), 5 / 4),
        (Cosine(), 0.5 * (0 + 1)),  # the same direction, and a token without one
        (L1(is_pooled=True), (1 + 0.5) / 2),  # mean tokens (1.5, 0) and (0.5, 0.5)
        (L2(is_pooled=True), ((1 + 0.25) / 2) ** 0.5),
        (L2(is_pooled=True, is_squared=True), (1 + 0.25) / 2),
        (Cosine(is_pooled=True), 1 - 0.5**0.5),
    ],
)
def test_distances_by_hand(distance, expected):
    latents = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    assert distance(latents, GOAL).item() == pytest.approx(expected)


@pytest.mark.parametrize("distance", ALL, ids=str)
def test_a_distance_is_of_each_latent_by_itself_and_zero_at_the_goal(distance):
    latents = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    latents[1, 2] = GOAL
    distances = distance(latents, GOAL)
    assert distances.shape == (3, 4)
    assert distances[1, 2].item() == pytest.approx(0, abs=1e-6)
    assert (distances >= -1e-6).all()
    assert torch.allclose(distances[2, 3], distance(latents[2, 3], GOAL))


@pytest.mark.parametrize("kind", [L1, L2, Cosine])
def test_pooled_distances_do_not_see_where_a_token_is(kind):
    assert kind(is_pooled=True)(SWAPPED, GOAL).item() == pytest.approx(0, abs=1e-6)
    assert kind()(SWAPPED, GOAL) > 0.9


def test_a_cosine_does_not_see_length_and_is_two_the_other_way():
    assert Cosine()(7 * GOAL, GOAL).item() == pytest.approx(0, abs=1e-6)
    assert Cosine()(-GOAL, GOAL).item() == pytest.approx(2)


@pytest.mark.parametrize("distance", ALL, ids=str)
def test_gradients_are_those_of_finite_differences(
    distance, assert_gradient_is_that_of_finite_differences
):
    goal = GOAL.double()
    assert_gradient_is_that_of_finite_differences(
        lambda latents: distance(latents, goal), 2, 3, 2, 2
    )


@pytest.mark.parametrize("distance", ALL, ids=str)
def test_gradients_are_finite_at_the_goal_and_at_nothing(distance):
    for place in (GOAL, torch.zeros(2, 2)):
        latents = place.clone().requires_grad_()
        distance(latents, GOAL).backward()
        assert latents.grad.isfinite().all()


def test_distances_by_name():
    def own(latents, goal):
        return latents.sum((-2, -1))

    assert distance_named("own", own=own) is own
    made = [distance_named(name, own=own, is_pooled=True) for name in NAMES if name != "own"]
    assert made == [L1(True), L2(True), L2(True, is_squared=True), Cosine(True)]


def test_names_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="one of own, l1, l2, squared_l2, cosine, got 'euclid'"):
        distance_named("euclid", own=L1())
    with pytest.raises(ValueError, match="own distance cannot be pooled"):
        distance_named("own", own=L1(), is_pooled=True)
