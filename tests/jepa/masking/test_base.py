import pytest
import torch

from jepa.masking import Mask, mask_generator
from jepa.masking.base import count_of, draw_places, ids_where, is_lowest, through_time

CPU = torch.device("cpu")


def numbers(*place, count=4):
    return torch.rand(count, generator=mask_generator(*place, device=CPU))


def test_a_mask_names_its_parts():
    mask = Mask(context_ids=torch.tensor([[0]]), target_ids=torch.tensor([[1]]))
    context, targets = mask
    assert context is mask.context_ids
    assert targets is mask.target_ids


# The generator of a step.


def test_the_generator_is_a_function_of_seed_step_and_rank():
    assert torch.equal(numbers(0, 7, 1), numbers(0, 7, 1))
    assert mask_generator(0, 7, 1, device=CPU).initial_seed() < 2**63


def test_neighbouring_seeds_steps_and_ranks_never_share_a_generator():
    places = [
        (seed, step, rank)
        for seed in (-1, 0, 1, 2**40 + 7)
        for step in (-1, *range(30), 65_535, 65_536, 1_000_003)
        for rank in (*range(8), 65_536, 65_537, 200_000)
    ]
    seeds = [mask_generator(*place, device=CPU).initial_seed() for place in places]
    assert len(set(seeds)) == len(places)
    assert len({seed % 2**32 for seed in seeds}) == len(places)  # all that a CPU looks at


@pytest.mark.parametrize(
    ("one", "other"),
    [  # equal, were the seed (1,000,003 seed + step) * 65,537 + rank, as it once was
        ((0, 0, 0), (0, 65_535, 1)),  # its low 32 bits
        ((0, 1, 0), (0, 0, 65_537)),
        ((1, 0, 0), (0, 1_000_003, 0)),
    ],
)
def test_sums_of_multiples_do_not_meet(one, other):
    assert not torch.equal(numbers(*one), numbers(*other))


def test_the_numbers_of_neighbours_are_uncorrelated():
    places = [(seed, step, rank) for seed in range(4) for step in range(8) for rank in range(8)]
    drawn = torch.stack([numbers(*place, count=3000) for place in places])
    correlation = torch.corrcoef(drawn).fill_diagonal_(0)
    sigma = 3000**-0.5  # of independent rows; 256 * 255 / 2 of them reach 4.3 of it
    assert correlation.abs().max() < 5.5 * sigma
    assert correlation.std().item() == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_first_numbers_along_seeds_steps_and_ranks_are_uncorrelated_and_uniform(axis):
    places = [tuple(index * (axis == along) for along in range(3)) for index in range(4000)]
    first = torch.stack([numbers(*place, count=1)[0] for place in places])
    sigma = 4000**-0.5
    for lag in (1, 2, 8):
        pair = torch.stack((first[:-lag], first[lag:]))
        assert torch.corrcoef(pair)[0, 1].abs() < 4 * sigma
    largest_gap = (first.sort().values - torch.linspace(0, 1, 4000)).abs().max()
    assert largest_gap < 2 * sigma  # Kolmogorov and Smirnov: 1.95 sigma in one case of 1000


# The parts of samplers.


@pytest.mark.parametrize(
    ("fraction", "num_places", "count"),
    [(0.75, 48, 36), (0.9, 48, 43), (0.001, 48, 1), (0.999, 48, 47), (0.9, 2, 1)],
)
def test_a_share_is_rounded_and_leaves_something_on_both_sides(fraction, num_places, count):
    assert count_of(fraction, num_places) == count


def test_the_first_ids_of_each_row_by_hand():
    is_member = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()
    ids = ids_where(is_member, 2)
    assert ids.tolist() == [[1, 2], [0, 1], [3, 4]]
    assert ids.is_contiguous()


@pytest.mark.parametrize("count", [1, 7, 20])
def test_the_first_ids_equal_those_of_a_loop(count):
    is_member = torch.rand(6, 60, generator=torch.Generator().manual_seed(0)) < 0.6
    expected = [row.nonzero().flatten().tolist()[:count] for row in is_member]
    assert ids_where(is_member, count).tolist() == expected


def test_the_lowest_values_are_as_many_as_asked_for_also_among_equal_ones():
    assert is_lowest(torch.tensor([[3.0, 1.0, 2.0]]), 2).tolist() == [[False, True, True]]
    assert is_lowest(torch.ones(3, 9), 4).sum(1).tolist() == [4, 4, 4]


def test_drawn_places_are_those_of_the_lowest_numbers_and_the_rest_is_shown():
    generator = torch.Generator()
    shown, hidden = draw_places(3, 10, 0.3, generator=generator.manual_seed(5))
    numbers = torch.rand((3, 10), generator=generator.manual_seed(5))
    assert torch.equal(hidden, numbers.argsort(dim=1)[:, :3].sort(dim=1).values)
    assert torch.equal(torch.cat((shown, hidden), 1).sort(1).values, torch.arange(10).expand(3, -1))


def test_places_go_through_time():
    ids = through_time(torch.tensor([[0, 3], [1, 5]]), (3, 2, 3))
    assert ids.tolist() == [[0, 3, 6, 9, 12, 15], [1, 5, 7, 11, 13, 17]]
