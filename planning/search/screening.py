"""Costs from a fast, rough world model, and exact ones where they can matter.

A planner needs exact costs only of its best sequences. So all are imagined roughly (in bfloat16),
and the best of them again exactly (in float32). What a rough cost is off by is then known for some
pairs; the rest is taken to be off by no more than their mean and a few standard deviations. Any
sequence that could be among the best within that bound is imagined exactly too, and the bound is
estimated again: in the worst case, until all are exact. The bound is an estimate from pairs, not a
proof: errors with heavier tails than it allows for can hide a sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planning.search.rounds import refuse_counts_below_one, refuse_not_positive
from planning.types import Cost, Latent, WorldModel

MIN_SPREAD = 1e-7  # relative: float32 itself is off by so much


class Screening:
    """Scores sequences: exactly those that are, or could be, among the best.

    Args:
        rough: imagines fast.
        exact: imagines the same, exactly.
        cost: scores what either imagines.
        num_stds: standard deviations of the error that the bound allows for.
        num_controls: sequences of all ranks that are imagined exactly too, at first, because the
            error of those that look best is not the error of all.
        max_exact_share: once more than this share of a call's sequences had to be imagined exactly,
            all of later calls are, and none roughly: as a search narrows, its sequences differ by
            less than rough costs can tell, and screening only adds to the work.

    Attributes:
        num_rough: sequences imagined roughly so far.
        num_exact: sequences imagined exactly so far.
        pays: False once screening was given up.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        rough: WorldModel,
        exact: WorldModel,
        cost: Cost,
        *,
        num_stds: float = 4.0,
        num_controls: int = 8,
        max_exact_share: float = 0.4,
    ) -> None:
        refuse_not_positive(num_stds=num_stds, max_exact_share=max_exact_share)
        refuse_counts_below_one(num_controls=num_controls)
        self.rough, self.exact, self.cost = rough, exact, cost
        self.num_stds, self.num_controls = num_stds, num_controls
        self.max_exact_share, self.pays = max_exact_share, True
        self.num_rough = self.num_exact = 0

    @torch.no_grad()
    def __call__(
        self,
        start: Latent,
        actions: Tensor,
        num_best: int,
        *,
        memory: object = None,
    ) -> Tensor:
        """Scores actions (samples, horizon, action_dim) from one start.

        Args:
            start: as for `WorldModel.rollout`.
            actions: in raw units.
            num_best: how many of the best costs must be exact; more than there are means all.
            memory: of frames before the start, that of the exact world; both are given it.

        Returns:
            (samples,) costs. The `num_best` lowest are exact, and the lowest there are within the
            bound; the others may be rough costs without their mean error. A sequence that cannot
            be scored is not finite.
        """
        refuse_counts_below_one(num_best=num_best)
        if not self.pays:
            self.num_exact += len(actions)
            return self._costs(self.exact, start, actions, memory)
        rough, before = self._costs(self.rough, start, actions, memory), self.num_exact
        costs = self.refined(rough, start, actions, num_best, memory=memory)
        self.pays = self.num_exact - before <= self.max_exact_share * len(actions)
        return costs

    @torch.no_grad()
    def refined(
        self,
        rough: Tensor,
        start: Latent,
        actions: Tensor,
        num_best: int,
        *,
        memory: object = None,
    ) -> Tensor:
        """Returns the costs of `__call__`, given the rough ones (samples,)."""
        refuse_counts_below_one(num_best=num_best)
        self.num_rough += len(actions)
        order = torch.where(rough.isfinite(), rough, -torch.inf).argsort()  # unknown: looked at
        costs = torch.full_like(rough, torch.nan)
        is_exact = torch.zeros_like(rough, dtype=torch.bool)
        wanted = self._first(order, num_best, num_unknown=int((~rough.isfinite()).sum()))
        while len(wanted):
            found = self._costs(self.exact, start, actions[wanted], memory)
            costs[wanted] = found.to(costs.dtype)
            is_exact[wanted] = True
            self.num_exact += len(wanted)
            lowest = self._lowest_possible(rough, costs, is_exact)
            wanted = self._undecided(lowest, costs, is_exact, num_best)
        shift = _errors(rough, costs, is_exact).mean()
        return torch.where(is_exact, costs, rough + shift.nan_to_num())

    def _costs(self, world: WorldModel, start: Latent, actions: Tensor, memory: object) -> Tensor:
        if memory is None:  # not every world takes one
            return self.cost(world.rollout(start, actions), actions)
        return self.cost(world.rollout(start, actions, memory=memory), actions)

    def _first(self, order: Tensor, num_best: int, *, num_unknown: int) -> Tensor:
        """Returns the sequences that look best, half as many again, and some of all other ranks."""
        count = min(num_unknown + num_best + num_best // 2, len(order))
        rest = order[count:]
        spread = torch.linspace(0, len(rest) - 1, min(self.num_controls, len(rest)))
        return torch.cat((order[:count], rest[spread.round().long().to(rest.device)]))

    def _lowest_possible(self, rough: Tensor, costs: Tensor, is_exact: Tensor) -> Tensor:
        """Returns the cost that each sequence could have at the least."""
        errors = _errors(rough, costs, is_exact)
        if len(errors) < 2:
            return torch.full_like(rough, -torch.inf)
        noise = MIN_SPREAD * rough[rough.isfinite()].abs().amax()
        spread = torch.maximum(errors.std(), noise)
        return rough + errors.mean() - self.num_stds * spread

    def _undecided(self, lowest: Tensor, costs: Tensor, is_exact: Tensor, num_best: int) -> Tensor:
        """Returns the sequences that are rough, and could be among the best."""
        known = costs[is_exact & costs.isfinite()]
        is_open = ~is_exact
        if len(known) >= num_best:
            worst_of_best = known.kthvalue(num_best).values
            is_open &= lowest <= worst_of_best
        return is_open.nonzero().squeeze(-1)


class ScreenedCost:
    """A cost for planning in the rough world: exact for the best of each round.

    So any planner can screen: it plans in the rough world, with this cost. Costs that gradients are
    wanted of stay rough.

    Args:
        screening: its cost is what is minimised.
        start: where the plan starts from.
        num_best: how many of the best the planner uses, its elites.

    Raises:
        ValueError: if `num_best` is below 1.
    """

    def __init__(self, screening: Screening, start: Latent, *, num_best: int) -> None:
        refuse_counts_below_one(num_best=num_best)
        self.screening, self.start, self.num_best = screening, start, num_best

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        """Scores what the rough world imagined; see `planning.types.Cost`."""
        rough = self.screening.cost(imagined, actions)
        if rough.requires_grad:
            return rough
        return self.screening.refined(rough, self.start, actions, self.num_best)


def _errors(rough: Tensor, costs: Tensor, is_exact: Tensor) -> Tensor:
    """Returns (pairs,), by how much exact costs exceed rough ones."""
    pairs = is_exact & rough.isfinite() & costs.isfinite()
    return costs[pairs] - rough[pairs]
