"""What a world model that was trained on several frames is to be told of the last ones."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from planning.actions.model_actions import model_actions
from planning.latent_world import LatentWorld
from planning.types import Latent


class RecentPast:
    """The last frames of an episode, and what was done in each.

    Args:
        world: says how many frames it was trained to see; with one there is nothing to remember.
    """

    def __init__(self, world: LatentWorld) -> None:
        self._world = world
        self._num_past = getattr(world, "context_frames", 1) - 1
        num_steps = self._num_past * world.action_steps.num_steps
        self._seen: deque[tuple[Latent, torch.Tensor]] = deque(maxlen=num_steps)

    def add(self, latent: Latent, action: np.ndarray) -> None:
        """Notes one step of the environment: what was seen, and the action (dim,) done there."""
        if self._num_past:
            self._seen.append((latent, torch.from_numpy(np.array(action)).to(latent.tokens)))

    def memory(self) -> object:
        """Returns what to tell the world model now; None if there is nothing yet.

        Frames lie as many steps apart as an action of the model spans, counted back from now.
        """
        steps = self._world.action_steps
        num_past = len(self._seen) // steps.num_steps
        if not num_past:
            return None
        seen = list(self._seen)[-num_past * steps.num_steps :]
        actions = model_actions(steps, torch.stack([action for _, action in seen]))
        frames = [latent for latent, _ in seen[:: steps.num_steps]]
        states = [frame.state for frame in frames if frame.state is not None]
        past = Latent(
            torch.stack([frame.tokens for frame in frames]), torch.stack(states) if states else None
        )
        return self._world.remember(past, actions)
