"""Several heads on one trunk: where they disagree, the data did not say what happens.

Each head is a small network of its own, begins elsewhere, sees its own draw of the trajectories
(bagging), and adds a fixed random function of its own to what it learns (randomised priors, Osband
et al., arXiv:1806.03335): on the data learning takes the prior away again, elsewhere it stays. The
trunk is shared, so a member costs a head and not a network.

In a rollout every member lives on its own prediction from the first frame to the last (the TS-inf
of PETS, arXiv:1805.12114, with one particle each). So disagreement adds up along an imagined path,
as errors do, and a member stays one consistent world; feeding the mean back instead would make all
members meet again at every step, and tell of the last step only. The price: from the second step on
the trunk runs once for each member.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.dynamics.base import (
    Dynamics,
    Features,
    Memory,
    Prediction,
    imagine,
    map_memory,
)
from jepa.models.settings import refuse_wrong_counts


class Said(NamedTuple):
    """What all heads say, before it is completed.

    Attributes:
        latents: (members, rows, tokens, latent_dim).
        state_change: (members, rows, state_dim); None if no state is learned.
    """

    latents: Tensor
    state_change: Tensor | None


class Ensemble(Dynamics):
    """An ensemble of heads on the features of another architecture.

    Predictions are means over members, with their disagreement.

    Args:
        trunk: the architecture; its own heads are taken away.
        num_members: heads, at least 2.
        hidden_dim: hidden width of a head.
        prior_scale: size of the fixed random functions, in units of the latent; 0: none. In a toy
            world seen on one half, members disagreed 3 to 6 times as much on the other half, with
            or without; .1 made the disagreement there 1.5 to 3 times as large at about the same
            error, 1 made the error at least twice as large.
        is_bootstrapped: each member learns from its own draw of the trajectories, see
            `jepa.training.bagging`; False: all from all. (In that toy world the draws made members
            differ a little more on the data too.)

    Raises:
        ValueError: if a setting is out of range, or the trunk is an ensemble or built already.
    """

    def __init__(
        self,
        trunk: Dynamics,
        *,
        num_members: int = 5,
        hidden_dim: int = 128,
        prior_scale: float = 0.1,
        is_bootstrapped: bool = True,
    ) -> None:
        super().__init__()
        refuse_wrong_counts(hidden_dim=hidden_dim)
        refuse_wrong_counts(least=2, num_members=num_members)
        if not (0 <= prior_scale and math.isfinite(prior_scale)):
            raise ValueError(f"prior_scale must be finite and at least 0, got {prior_scale}")
        if trunk.num_members > 1 or trunk.latent_dim:
            what = "an ensemble itself" if trunk.num_members > 1 else "built already"
            raise ValueError(f"the trunk, {type(trunk).__name__}, is {what}; give another one")
        self.config = {
            "trunk": {"name": type(trunk).__name__, **trunk.config},
            "num_members": num_members,
            "hidden_dim": hidden_dim,
            "prior_scale": prior_scale,
            "is_bootstrapped": is_bootstrapped,
        }
        self.trunk, self.num_members, self.hidden_dim = trunk, num_members, hidden_dim
        self.prior_scale, self.is_bootstrapped = float(prior_scale), is_bootstrapped

    @property
    def needs_raw_units(self) -> bool:
        """As the trunk does."""
        return self.trunk.needs_raw_units

    @property
    def max_context_frames(self) -> int | None:
        """As many as the trunk sees."""
        return self.trunk.max_context_frames

    def make_trunk(self) -> int:
        """Builds the trunk, and takes its heads away."""
        self.trunk.build(
            latent_dim=self.latent_dim,
            action_dim=self.action_dim,
            state_dim=self.state_dim,
            grid=self.grid,
            output=self.output,
        )
        self.learns_state = self.trunk.learns_state
        self.trunk.take_heads()
        return self.trunk.width

    def make_heads(self) -> None:
        """Makes the members' heads and priors."""
        self.take_heads()
        members, width, hidden = self.num_members, self.width, self.hidden_dim
        seen = self.latent_dim + self.state_dim + self.action_dim
        self.head = StackedMLP(members, width, hidden, self.latent_dim)
        self.prior = StackedPrior(members, seen, hidden, self.latent_dim)
        self.state_head = self.state_prior = None
        if self.learns_state:
            self.state_head = StackedMLP(members, width, hidden, self.state_dim)
            self.state_prior = StackedPrior(members, seen, hidden, self.state_dim)

    def features(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Features:
        """Those of the trunk."""
        return self.trunk.features(tokens, states, actions)

    def step_features(
        self, tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory = None
    ) -> tuple[Features, Memory]:
        """Those of the trunk."""
        return self.trunk.step_features(tokens, state, action, memory=memory)

    def remember(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Memory:
        """As the trunk does."""
        return self.trunk.remember(tokens, states, actions)

    def read_out(
        self, features: Features, tokens: Tensor, states: Tensor, actions: Tensor
    ) -> Prediction:
        """Returns the mean over members, of frames that all of them see alike."""
        return summarized(self._members(features, tokens, states, actions))

    def rollout(
        self,
        tokens: Tensor,
        state: Tensor,
        actions: Tensor,
        *,
        memory: Memory = None,
        truncate_after: int | None = None,
    ) -> Prediction:
        """See `Dynamics.rollout`; every member lives on its own prediction."""
        return summarized(
            self.rollout_members(
                tokens, state, actions, memory=memory, truncate_after=truncate_after
            )
        )

    def forward_members(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Prediction:
        """See `Dynamics.forward_members`."""
        features = self.features(tokens, states, actions)
        return self._members(features, tokens, states, actions)

    def rollout_members(
        self,
        tokens: Tensor,
        state: Tensor,
        actions: Tensor,
        *,
        memory: Memory = None,
        truncate_after: int | None = None,
    ) -> Prediction:
        """See `Dynamics.rollout_members`."""
        batch = len(tokens)

        def step(
            tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory
        ) -> tuple[Prediction, Memory]:
            """One step of (batch, ...) that all members share, or of (members * batch, ...)."""
            if len(tokens) == batch:  # the first step
                features, memory = self.trunk.step_features(tokens, state, action, memory=memory)
                memory = map_memory(memory, lambda x: x if len(x) == 1 else self._for_members(x))
                said = self._members(features, tokens, state, action)
                return said.map(lambda part: part.flatten(0, 1)), memory
            action = self._for_members(action)
            features, memory = self.trunk.step_features(tokens, state, action, memory=memory)
            said = self._own_members(features, tokens, state, action)
            return said, memory

        imagined = imagine(
            step, tokens, state, actions, memory=memory, truncate_after=truncate_after
        )
        return imagined.map(lambda part: part.unflatten(0, (self.num_members, batch)))

    def _for_members(self, values: Tensor) -> Tensor:
        """Repeats (batch, ...) for every member: (members * batch, ...)."""
        return values.repeat(self.num_members, *[1] * (values.ndim - 1))

    def _members(
        self, features: Features, tokens: Tensor, states: Tensor, actions: Tensor
    ) -> Prediction:
        """Completes what every member says of the same frames: (members, ...)."""
        leading = states.shape[:-1]
        shared = Features(*(part.flatten(0, len(leading) - 1)[None] for part in features))
        parts = (tokens, states, actions)
        said = self._said(shared, *(part.flatten(0, len(leading) - 1)[None] for part in parts))
        said = Said(*(None if p is None else p.unflatten(1, leading) for p in said))  # pyright: ignore
        tokens, states, actions = (part.expand(self.num_members, *part.shape) for part in parts)
        return self.trunk.complete(*said, tokens, states, actions)

    def _own_members(
        self, features: Features, tokens: Tensor, states: Tensor, actions: Tensor
    ) -> Prediction:
        """Completes what every member says of its own rows of (members * batch, ...)."""
        own = [part.unflatten(0, (self.num_members, -1)) for part in (tokens, states, actions)]
        features = Features(*(part.unflatten(0, (self.num_members, -1)) for part in features))
        said = self._said(features, *own)
        predicted = self.trunk.complete(*said, *own)
        return predicted.map(lambda part: part.flatten(0, 1))

    def _said(self, features: Features, tokens: Tensor, states: Tensor, actions: Tensor) -> Said:
        """Returns what heads and priors say; everything is (members or 1, rows, ...)."""
        condition = torch.cat((states, actions), -1)  # (members or 1, rows, state + action)
        seen = torch.cat(
            (tokens, condition.unsqueeze(2).expand(*tokens.shape[:3], condition.shape[-1])), -1
        )
        latents = self.head(features.tokens) + self.prior_scale * self.prior(seen)
        if self.state_head is None or self.state_prior is None:
            return Said(latents, None)
        change = self.state_head(features.state)
        return Said(latents, change + self.prior_scale * self.state_prior(seen.mean(2)))


class StackedMLP(nn.Module):
    """As many small networks as there are members, multiplied at once.

    Args:
        num_members: networks.
        in_dim: width of what goes in.
        hidden_dim: hidden width.
        out_dim: width of what comes out, which begins near zero.
    """

    def __init__(self, num_members: int, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_members, in_dim, hidden_dim))
        self.bias = nn.Parameter(torch.zeros(num_members, 1, hidden_dim))
        self.out_weight = nn.Parameter(torch.empty(num_members, hidden_dim, out_dim))
        self.out_bias = nn.Parameter(torch.zeros(num_members, 1, out_dim))
        nn.init.normal_(self.weight, std=in_dim**-0.5)
        nn.init.trunc_normal_(self.out_weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (members or 1, ..., in_dim) to (members, ..., out_dim)."""
        return _stacked(x, F.gelu, self.weight, self.bias, self.out_weight, self.out_bias)


class StackedPrior(nn.Module):
    """Fixed random functions, one a member; what comes out has a size of about 1.

    Waves (cosines) of random directions: unlike a network of saturating units they go on to differ
    however far away from the data they are asked.

    Args:
        num_members: functions.
        in_dim: width of what goes in, in units of its spread.
        hidden_dim: waves of each.
        out_dim: width of what comes out.
    """

    weight: Tensor
    phase: Tensor
    out_weight: Tensor

    def __init__(self, num_members: int, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        weight = torch.randn(num_members, in_dim, hidden_dim) / in_dim**0.5
        phase = 2 * math.pi * torch.rand(num_members, 1, hidden_dim)
        out_weight = torch.randn(num_members, hidden_dim, out_dim) * (2 / hidden_dim) ** 0.5
        self.register_buffer("weight", weight)
        self.register_buffer("phase", phase)
        self.register_buffer("out_weight", out_weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (members or 1, ..., in_dim) to (members, ..., out_dim)."""
        return _stacked(x, torch.cos, self.weight, self.phase, self.out_weight, None)


def summarized(members: Prediction) -> Prediction:
    """Returns mean and disagreement of what members (members, ..., tokens, latent_dim) predict."""
    variance = members.tokens.var(0, correction=0)
    # Where members agree to the last bit the gradient is zero, not infinite.
    spread = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt().mean((-2, -1))
    return Prediction(members.tokens.mean(0), members.state.mean(0), spread)


def _stacked(
    x: Tensor,
    activation: Callable[[Tensor], Tensor],
    weight: Tensor,
    bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor | None,
) -> Tensor:
    """Maps x (members or 1, ..., in_dim) by two layers of every member."""
    members, shape = len(weight), x.shape[1:-1]
    rows = x.flatten(1, -2).expand(members, -1, -1)  # (members, rows, in_dim)
    rows = activation(torch.bmm(rows, weight) + bias)
    rows = torch.bmm(rows, out_weight)
    rows = rows if out_bias is None else rows + out_bias
    return rows.view(members, *shape, -1)
