"""A trained `jepa` world model as a `WorldModel`: the only file of planning that imports `jepa`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jepa.checkpoints.native import load_world_model
from jepa.models.world_model import LatentWorldModel
from planning.action_space import ActionSteps
from planning.types import Latent


class LatentWorld:
    """Encodes camera frames and imagines action sequences.

    Args:
        model: the trained world model.
        device: where to run; None keeps it where it is.
        max_samples_per_chunk: rollouts are imagined in chunks of this many, to bound memory.

    Attributes:
        num_encoded_frames: how many frames have been encoded so far.
    """

    def __init__(
        self,
        model: LatentWorldModel,
        *,
        device: torch.device | str | None = None,
        max_samples_per_chunk: int = 4096,
    ) -> None:
        if max_samples_per_chunk < 1:
            raise ValueError(
                f"max_samples_per_chunk must be at least 1, got {max_samples_per_chunk}"
            )
        self.model = model.eval() if device is None else model.eval().to(device)
        self.max_samples_per_chunk = max_samples_per_chunk
        self.num_encoded_frames = 0

    @classmethod
    def load(cls, folder: str | Path, *, device: torch.device | str | None = None) -> LatentWorld:
        """Reads a world model folder, or a run folder that holds `world_model/`."""
        return cls(load_world_model(folder), device=device)

    @property
    def action_dim(self) -> int:
        """Number of action dimensions the model was trained with."""
        return self.model.dynamics.action_dim

    @property
    def action_steps(self) -> ActionSteps:
        """How an action of the model becomes actions of an environment."""
        actions = self.model.actions
        if actions is None or actions.num_steps == 1:
            return ActionSteps()
        if actions.mode == "concatenate":
            return ActionSteps(actions.num_steps, "one_after_the_other")
        is_sum = actions.reduction == "sum"
        return ActionSteps(actions.num_steps, "in_equal_parts" if is_sum else "repeated")

    @property
    def seconds_per_step(self) -> float | None:
        """How long a step of an environment must last; None if any will do.

        Poses that differ by so much do so in a certain time, so this is of pose differences only.
        """
        actions = self.model.actions
        if actions is None or actions.mode != "pose_difference":
            return None
        return 1 / actions.frames_per_second

    @property
    def image_size(self) -> int:
        """Height and width of the frames the encoder was made for, in pixels."""
        return self.model.encoder.grid[1] * self.model.encoder.tubelet[1]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.action_mean.device

    @torch.inference_mode()
    def encode(self, frame: np.ndarray, state: np.ndarray | None = None) -> Latent:
        """Encodes one frame.

        Args:
            frame: (height, width, 3), uint8, RGB, of the size the encoder was made for.
            state: (state_dim,), raw units; needed to start a rollout if the model uses state, not
                for a goal. A model that uses none does not look at it.

        Returns:
            One latent: tokens (tokens, dim), and the normalised state or None.

        Raises:
            ValueError: if the frame has another shape or type, or the state another length or a
                value that is not finite.
            FloatingPointError: if the encoder returns a value that is not finite.
        """
        size = self.image_size
        if frame.shape != (size, size, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"frame must be ({size}, {size}, 3) uint8, got {frame.shape} {frame.dtype}"
            )
        start = None if state is None else self._normalize_state(state)
        self.num_encoded_frames += 1
        video = torch.from_numpy(frame.copy()).to(self.device)  # the frame may be read-only
        tokens = self.model.encode(video.permute(2, 0, 1)[None, :, None])[0, 0]
        if not tokens.isfinite().all():
            raise FloatingPointError("the encoder returned NaN or infinite latents for this frame")
        return Latent(tokens, start)

    def rollout(self, start: Latent, actions: Tensor) -> Latent:
        """Imagines `actions` (samples, horizon, action_dim), raw units, from one start.

        Returns:
            Latents after each action: tokens (samples, horizon, tokens, dim), states normalised.

        Raises:
            ValueError: if the model uses state and `start` has none, or the actions do not fit.
        """
        if actions.ndim != 3 or actions.shape[-1] != self.action_dim:
            raise ValueError(
                f"actions must be (samples, horizon, {self.action_dim}), got {tuple(actions.shape)}"
            )
        start_state = start.state
        if start_state is None:
            if self.model.dynamics.state_dim:
                raise ValueError("a rollout needs the robot's state: call encode(frame, state)")
            start_state = start.tokens.new_empty(0)
        chunks = []
        for part in actions.to(self.device).split(self.max_samples_per_chunk):
            tokens = start.tokens.expand(len(part), *start.tokens.shape)
            state = start_state.expand(len(part), -1)
            chunks.append(self.model.rollout(tokens, state, part))
        return Latent(*(torch.cat(column) for column in zip(*chunks, strict=True)))

    def distance(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Distance of latents (..., tokens, dim) to a goal (tokens, dim): (...)."""
        return self.model.latents.distance(latents, goal)

    def _normalize_state(self, state: np.ndarray) -> Tensor:
        if not self.model.dynamics.state_dim:
            return self.model.state_mean[:0]
        state = np.asarray(state, dtype=np.float32)
        expected = self.model.state_mean.shape
        if state.shape != tuple(expected) or not np.isfinite(state).all():
            raise ValueError(
                f"state must be {tuple(expected)} finite numbers, got {state.tolist()}"
            )
        return self.model.normalize_states(torch.from_numpy(state).to(self.device))
