"""A recurrent network: all that it knows of the past is one vector, however long the past was.

As in eb_jepa and PLDM (arXiv:2502.14819), for latents of few numbers. There the vector is the
latent itself; here it is a memory beside it, so that what a single frame does not show (a speed)
has a place. Tokens of a frame are laid side by side: it is made for one or a few of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.dynamics.adaln import refuse_wrong_dropout
from jepa.models.dynamics.base import Dynamics, Features, Memory
from jepa.models.settings import refuse_wrong_counts

MAX_NUMBERS = 65_536  # in a frame's latent: what reads them all has this many times dim weights


class GRU(Dynamics):
    """Gated recurrent units (Cho et al., arXiv:1406.1078) on latent, state and action of a frame.

    Args:
        dim: width of the memory.
        depth: layers, each on top of the other.
        dropout: share of what the last layer puts out that is dropped in training, in [0, 1).

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(self, *, dim: int = 256, depth: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        refuse_wrong_counts(dim=dim, depth=depth)
        refuse_wrong_dropout(dropout)
        self.config = {"dim": dim, "depth": depth, "dropout": dropout}
        self.dim, self.depth, self.dropout = dim, depth, dropout

    def make_trunk(self) -> int:
        """See `Dynamics.make_trunk`.

        Raises:
            ValueError: if a frame has too many numbers to be read at once.
        """
        numbers, dim = self.num_tokens * self.latent_dim, self.dim
        if numbers > MAX_NUMBERS:
            raise ValueError(
                f"a GRU reads the {self.num_tokens} tokens of {self.latent_dim} of a frame at "
                f"once, {numbers} numbers, at most {MAX_NUMBERS} are possible: take latents of "
                "fewer tokens (SlowFeatures, PooledTokens), or AdaLN"
            )
        self.embed = nn.Linear(numbers, dim)
        self.state_embed = nn.Linear(self.state_dim, dim) if self.state_dim else None
        self.action_embed = nn.Linear(self.action_dim, dim)
        self.layers = nn.ModuleList(GRULayer(dim) for _ in range(self.depth))
        self.drop = nn.Dropout(self.dropout)
        # Several tokens are told apart by what they read of the memory.
        self.spread = nn.Linear(dim, self.num_tokens * dim) if self.num_tokens > 1 else None
        return dim

    def features(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Features:
        """See `Dynamics.features`."""
        features, _ = self._run(tokens, states, actions, None)
        return features

    def step_features(
        self, tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory = None
    ) -> tuple[Features, Memory]:
        """See `Dynamics.step_features`; the memory is (batch, depth, dim)."""
        features, memory = self._run(tokens[:, None], state[:, None], action[:, None], memory)
        return Features(*(part[:, 0] for part in features)), memory

    def remember(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Memory:
        """See `Dynamics.remember`."""
        return self._run(tokens, states, actions, None)[1]

    def _run(
        self, tokens: Tensor, states: Tensor, actions: Tensor, memory: Tensor | None
    ) -> tuple[Features, Tensor]:
        """Returns the features of frames (batch, time, ...), and the memory after the last."""
        self.refuse_misfit(tokens, states, actions)
        x = self.embed(tokens.flatten(2)) + self.action_embed(actions)  # (batch, time, dim)
        if self.state_embed is not None:
            x = x + self.state_embed(states)
        x, after = F.gelu(x), []
        for index, layer in enumerate(self.layers):
            x, last = layer(x, None if memory is None else memory[:, index])
            after.append(last)
        memory = torch.stack(after, 1)
        x = self.drop(x)
        if self.spread is None:
            return Features(x.unsqueeze(2), x), memory
        tokens = F.gelu(self.spread(x)).unflatten(-1, (self.num_tokens, self.dim))
        return Features(tokens, x), memory


class GRULayer(nn.Module):
    """One layer, in plain operations: torch.compile does not take torch's own.

    Args:
        dim: width of what goes in, and of the memory.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gates = nn.Linear(dim, 3 * dim)  # reset, update, new: of what goes in
        self.recurrent = nn.Linear(dim, 3 * dim)  # the same of the memory

    def forward(self, x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps x (batch, time, dim) and the memory (1 or batch, dim) to all memories and the last.

        Args:
            x: (batch, time, dim).
            memory: None: zeros.
        """
        if memory is None:
            memory = x.new_zeros(1, x.shape[-1])
        memories = []
        for gates in self.gates(x).unbind(1):
            reset, update, new = gates.chunk(3, -1)
            old_reset, old_update, old_new = self.recurrent(memory).chunk(3, -1)
            update = torch.sigmoid(update + old_update)
            new = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
            memory = torch.lerp(new, memory.to(new.dtype), update)
            memories.append(memory)
        return torch.stack(memories, 1), memory
