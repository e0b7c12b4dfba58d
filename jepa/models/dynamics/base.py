"""What every dynamics owes the others: from a frame and an action to the next frame, and on.

An architecture is a file of its own. It says what it makes of frames and actions (features), and
what it keeps of the past (memory); how features become a prediction, and how predictions are fed
back in, is said here, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.settings import refuse_wrong_counts

Output = Literal["normed", "absolute", "residual"]
# None, a tensor (batch, ...), or a tuple or list of memories; a batch of 1 serves any number.
Memory = Any


class Prediction(NamedTuple):
    """What follows.

    Attributes:
        tokens: (..., tokens, latent_dim).
        state: (..., state_dim), normalised; state_dim is 0 for a world without proprioception.
        disagreement: (...), at least 0: how far the members of an ensemble are apart, the standard
            deviation over members, averaged over the latent; tokens and state are then their means.
            None where there is no ensemble.
    """

    tokens: Tensor
    state: Tensor
    disagreement: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Prediction:
        """Applies a function to every part that there is."""
        return Prediction(*(None if part is None else function(part) for part in self))  # pyright: ignore

    @classmethod
    def joined(
        cls, predictions: Sequence[Prediction], join: Callable[[list[Tensor]], Tensor]
    ) -> Prediction:
        """Joins predictions part by part, as by `torch.cat`."""
        columns = (list(column) for column in zip(*predictions, strict=True))
        return cls(*(None if column[0] is None else join(column) for column in columns))  # pyright: ignore


class Features(NamedTuple):
    """What an architecture makes of frames and actions, before a head reads it.

    Attributes:
        tokens: (..., tokens, width), of which the next latents are read.
        state: (..., width), of which the next state is read.
    """

    tokens: Tensor
    state: Tensor


class Dynamics(nn.Module, ABC):
    """Imagines the next frame. Settings are given when it is made, sizes when it is built.

    Attributes:
        config: the settings, from which an equal one is made.
        latent_dim: width of a latent token; 0 until it is built.
        action_dim: number of action dimensions.
        state_dim: number of proprioceptive dimensions; 0 for a world without.
        grid: (height, width) of one frame in latent tokens.
        output: "normed" writes an absolute, layer-normed latent, "absolute" the same before the
            norm, "residual" a change.
        num_members: networks that predict beside one another; 1 unless it is an ensemble.
        width: of the features that the heads read.
        learns_state: True if a head reads the next state off the features.
        proj: the head of latents; None if it was taken away.
        state_proj: the head of states; None if no state is learned, or if it was taken away.
    """

    config: dict[str, Any]
    latent_dim: int = 0
    action_dim: int
    state_dim: int
    grid: tuple[int, int]
    output: Output
    num_members: int = 1
    width: int
    learns_state: bool
    proj: nn.Linear | None
    state_proj: nn.Linear | None

    # What an architecture says.

    @abstractmethod
    def make_trunk(self) -> int:
        """Makes the parameters before the heads, for the sizes that are known now.

        Returns:
            The width of the features.
        """

    @abstractmethod
    def features(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Features:
        """Returns the features of every frame, which sees itself and earlier ones."""

    @abstractmethod
    def step_features(
        self, tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory = None
    ) -> tuple[Features, Memory]:
        """Returns the features of one new frame, and what is known after it; see `step`."""

    @abstractmethod
    def remember(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Memory:
        """Returns what is to be known of past frames, computed once.

        Args:
            tokens: (batch, past, tokens, latent_dim), the frames before the latest one; the batch
                may be 1, and serves any number of samples then.
            states: (batch, past, state_dim), normalised.
            actions: (batch, past, action_dim), normalised: what was done in each of them.

        Raises:
            ValueError: if the shapes do not fit each other or the model.
        """

    # What all have.

    @property
    def needs_raw_units(self) -> bool:
        """True if states and actions must come in their units, because they are added up."""
        return False

    @property
    def max_context_frames(self) -> int | None:
        """Frames that it sees, the latest included; None: all that it is shown."""
        return None

    def build(
        self,
        *,
        latent_dim: int,
        action_dim: int,
        state_dim: int,
        grid: tuple[int, int],
        output: Output,
    ) -> None:
        """Makes the parameters.

        Args:
            latent_dim: see `Dynamics`, as the others.
            action_dim: there must be an action to condition on.
            state_dim: 0 for a world of pixels alone.
            grid: see `Dynamics`.
            output: see `Dynamics`.

        Raises:
            ValueError: if a size is out of range or does not fit the settings, or if it is built
                already.
        """
        if self.latent_dim:
            raise ValueError(
                f"{type(self).__name__} is built already, for latents of {self.latent_dim}; make "
                "another one for another world"
            )
        if action_dim < 1 or state_dim < 0:
            raise ValueError(
                f"action_dim must be at least 1 and state_dim at least 0, got {action_dim} and "
                f"{state_dim}"
            )
        refuse_wrong_counts(latent_dim=latent_dim, height=grid[0], width=grid[1])
        self.latent_dim, self.action_dim, self.state_dim = latent_dim, action_dim, state_dim
        self.grid, self.output = (grid[0], grid[1]), output
        self.learns_state = state_dim > 0
        self.width = self.make_trunk()
        self.make_heads()

    def make_heads(self) -> None:
        """Makes what reads latents and states off the features; they begin by saying little."""
        self.proj = nn.Linear(self.width, self.latent_dim)
        self.state_proj = nn.Linear(self.width, self.state_dim) if self.learns_state else None
        initialize_heads(self.proj, self.state_proj)

    def take_heads(self) -> None:
        """Removes the heads, as others will read the features."""
        self.proj = self.state_proj = None

    @property
    def num_tokens(self) -> int:
        """Latent tokens of a frame."""
        return self.grid[0] * self.grid[1]

    def forward(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Prediction:
        """Predicts every next frame from the true frames up to it (teacher forcing).

        Args:
            tokens: (batch, time, tokens, latent_dim).
            states: (batch, time, state_dim), normalised.
            actions: (batch, time, action_dim), normalised; actions[:, t] follows frame t.

        Returns:
            Prediction with tokens (batch, time, tokens, latent_dim) of frames 1 ... time.

        Raises:
            ValueError: if the shapes do not fit each other or the model.
        """
        return self.read_out(self.features(tokens, states, actions), tokens, states, actions)

    def step(
        self, tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory = None
    ) -> tuple[Prediction, Memory]:
        """Predicts one frame ahead, computing the new frame only: earlier ones are remembered.

        Equal to `forward` on the whole sequence, without its repeated work.

        Args:
            tokens: (batch, tokens, latent_dim), the latest frame.
            state: (batch, state_dim), normalised.
            action: (batch, action_dim), normalised.
            memory: of the frames before, from the previous call or from `remember`.

        Returns:
            Prediction of the next frame, and the memory for the next call.

        Raises:
            ValueError: if the shapes do not fit each other or the model.
        """
        features, memory = self.step_features(tokens, state, action, memory=memory)
        return self.read_out(features, tokens, state, action), memory

    def rollout(
        self,
        tokens: Tensor,
        state: Tensor,
        actions: Tensor,
        *,
        memory: Memory = None,
        truncate_after: int | None = None,
    ) -> Prediction:
        """Imagines a whole sequence, feeding predictions back in.

        Args:
            tokens: (batch, tokens, latent_dim), the latest frame.
            state: (batch, state_dim), normalised.
            actions: (batch, horizon, action_dim), normalised.
            memory: of the frames before it, from `remember`.
            truncate_after: steps after which the gradient is cut; None: nowhere.

        Returns:
            Prediction with tokens (batch, horizon, tokens, latent_dim), after each action.

        Raises:
            ValueError: if there is no action, or the shapes do not fit.
        """
        return imagine(
            self.step, tokens, state, actions, memory=memory, truncate_after=truncate_after
        )

    def forward_members(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Prediction:
        """As `forward`, of every member by itself: (members, batch, time, ...)."""
        return self(tokens, states, actions).map(lambda part: part.unsqueeze(0))

    def rollout_members(
        self,
        tokens: Tensor,
        state: Tensor,
        actions: Tensor,
        *,
        memory: Memory = None,
        truncate_after: int | None = None,
    ) -> Prediction:
        """As `rollout`, of every member by itself: (members, batch, horizon, ...)."""
        imagined = self.rollout(
            tokens, state, actions, memory=memory, truncate_after=truncate_after
        )
        return imagined.map(lambda part: part.unsqueeze(0))

    def read_out(
        self, features: Features, tokens: Tensor, states: Tensor, actions: Tensor
    ) -> Prediction:
        """Reads the prediction off the features of frames (..., tokens, latent_dim)."""
        assert self.proj is not None, "the heads were taken away"
        latents = self.proj(features.tokens)
        change = None if self.state_proj is None else self.state_proj(features.state)
        return self.complete(latents, change, tokens, states, actions)

    def complete(
        self,
        latents: Tensor,
        state_change: Tensor | None,
        tokens: Tensor,
        states: Tensor,
        actions: Tensor,
    ) -> Prediction:
        """Returns the prediction that heads mean, as `output` says.

        Args:
            latents: (..., tokens, latent_dim), what the head of latents says.
            state_change: (..., state_dim), what that of states says; None: there is none.
            tokens: (..., tokens, latent_dim), of the latest frame.
            states: (..., state_dim), of the latest frame.
            actions: (..., action_dim), which follow it.
        """
        if self.output == "residual":
            latents = tokens + latents
        elif self.output == "normed":
            latents = F.layer_norm(latents, latents.shape[-1:])
        if state_change is not None:
            states = states + state_change
        return Prediction(latents, states)

    def refuse_misfit(self, tokens: Tensor, states: Tensor, actions: Tensor) -> None:
        """Raises unless frames (batch, time, ...) fit each other and the model.

        Raises:
            ValueError: naming the first that does not.
        """
        leading = tuple(tokens.shape[:2])
        refuse_other_shapes(
            tokens=(tokens, (*leading, self.num_tokens, self.latent_dim)),
            states=(states, (*leading, self.state_dim)),
            actions=(actions, (*leading, self.action_dim)),
        )


def initialize_heads(*heads: nn.Linear | None) -> None:
    """Lets heads begin near zero: a "residual" begins as a copy of the latest frame."""
    for head in heads:
        if head is not None:
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)


def map_memory(memory: Memory, function: Callable[[Tensor], Tensor]) -> Memory:
    """Applies a function to every tensor of a memory."""
    if isinstance(memory, Tensor):
        return function(memory)
    if isinstance(memory, tuple | list):
        parts = [map_memory(part, function) for part in memory]
        if isinstance(memory, tuple) and hasattr(memory, "_fields"):
            return type(memory)(*parts)
        return type(memory)(parts)
    return memory


def imagine(
    step: Callable[..., tuple[Prediction, Memory]],
    tokens: Tensor,
    state: Tensor,
    actions: Tensor,
    *,
    memory: Memory,
    truncate_after: int | None,
) -> Prediction:
    """Feeds predictions back in, one action after the other; see `Dynamics.rollout`.

    The gradient goes back through every step, to the first frame and through all that is
    remembered, unless it is cut.
    """
    refuse_no_action(actions)
    predictions = []
    for time, action in enumerate(actions.unbind(1)):
        if truncate_after is not None and time and time % truncate_after == 0:
            tokens, state = tokens.detach(), state.detach()
            memory = map_memory(memory, Tensor.detach)
        prediction, memory = step(tokens, state, action, memory=memory)
        tokens, state = prediction.tokens, prediction.state
        predictions.append(prediction)
    if len(predictions) == 1:
        return predictions[0].map(lambda part: part.unsqueeze(1))
    return Prediction.joined(predictions, lambda parts: torch.stack(parts, 1))


def refuse_no_action(actions: Tensor) -> None:
    """Raises unless actions are (batch, horizon, action_dim), and there is one.

    Raises:
        ValueError: naming the shape.
    """
    if actions.ndim != 3 or actions.shape[1] < 1:
        raise ValueError(
            "actions must be (batch, horizon, action_dim) with at least one action, got "
            f"{tuple(actions.shape)}"
        )


def refuse_other_shapes(**expected: tuple[Tensor, tuple[int, ...]]) -> None:
    """Raises unless every tensor has the shape that is given with it.

    Raises:
        ValueError: naming the first that has not.
    """
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {tuple(value.shape)}")
