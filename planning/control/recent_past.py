"""What a world model that was trained on several frames is to be told of the last ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from planning.actions.model_actions import model_actions
from planning.latent_world import LatentWorld
from planning.types import Latent

SeenT = TypeVar("SeenT")  # a frame, or its latent


class Past(NamedTuple, Generic[SeenT]):
    """What was seen before now, and what was done there; empty where nothing is to be remembered.

    Attributes:
        seen: oldest first, as many steps apart as an action of the world model spans, counted back
            from now.
        actions: (steps, action_dim): what the environment executed from the first of them until
            now, that many steps for each.
    """

    seen: Sequence[SeenT] = ()
    actions: np.ndarray = np.empty((0, 0), np.float32)


class RecentPast(Generic[SeenT]):
    """The last frames of an episode, and what was done in each.

    Args:
        world: says how many frames it was trained to see; with one there is nothing to remember.
    """

    def __init__(self, world: LatentWorld) -> None:
        self._num_steps_each = world.action_steps.num_steps
        num_steps = num_past_frames(world) * self._num_steps_each
        self._steps: deque[tuple[SeenT, np.ndarray]] = deque(maxlen=num_steps)

    def add(self, seen: SeenT, action: np.ndarray) -> None:
        """Notes one step of the environment: what was seen, and the action (dim,) done there."""
        if self._steps.maxlen:
            self._steps.append((seen, np.array(action)))

    def past(self) -> Past[SeenT]:
        """Returns what there is to remember now."""
        each = self._num_steps_each
        if not (num_steps := len(self._steps) // each * each):
            return Past()
        steps = list(self._steps)[-num_steps:]
        return Past([seen for seen, _ in steps[::each]], np.stack([action for _, action in steps]))


def num_past_frames(world: LatentWorld) -> int:
    """Returns how many frames before the latest one the world model was trained to see."""
    return getattr(world, "context_frames", 1) - 1


def memory_of(world: LatentWorld, past: Past[Latent]) -> object:
    """Returns what to tell the world model of the past; None if there is nothing."""
    if not past.seen:
        return None
    frames, actions = past.seen, torch.from_numpy(past.actions).to(past.seen[0].tokens)
    return remembered(world, frames, model_actions(world.action_steps, actions))


def remembered(world: LatentWorld, frames: Sequence[Latent], actions: Tensor) -> object:
    """Returns what to tell the world model of frames, seen or imagined, and what was done in each.

    Args:
        world: remembers.
        frames: at least one, each tokens (tokens, dim) and state.
        actions: (frames, action_dim), of the world model.
    """
    states = [frame.state for frame in frames if frame.state is not None]
    past = Latent(
        torch.stack([frame.tokens for frame in frames]), torch.stack(states) if states else None
    )
    with torch.no_grad():
        return world.remember(past, actions)
