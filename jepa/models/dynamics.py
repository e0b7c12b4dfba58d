"""The action-conditioned predictor: what the next frame's tokens will be if I act like this.

Layout of V-JEPA 2-AC (arXiv:2506.09985, Sec. 3.1): every frame is [action, state, patch tokens],
attention is causal over frames and full within one, patches carry 3-D rotary positions, action and
state rotate with time only, and the output at frame t is the absolute latent of frame t + 1.
Three deviations: the state token predicts the next state as well, so imagined futures need no
kinematics; every place of a frame has a learned embedding; and latents that are not layer-normed
(`jepa.models.latents.SlowFeatures`) are predicted as a change of the latest one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.rope import grid_coordinates, rope_angles, rotation
from jepa.models.transformer import Transformer

Cache = list[tuple[Tensor, Tensor]]


class Prediction(NamedTuple):
    """What follows.

    Attributes:
        tokens: (..., tokens, latent_dim).
        state: (..., state_dim), normalised; state_dim is 0 for a world without proprioception.
    """

    tokens: Tensor
    state: Tensor


class ActionConditionedPredictor(nn.Module):
    """Frame-causal transformer on [action, state, patch tokens].

    Args:
        latent_dim: width of a latent token.
        action_dim: number of action dimensions.
        state_dim: number of proprioceptive dimensions; 0 leaves the state token out.
        grid: (height, width) of one frame in latent tokens.
        output: "normed" writes an absolute, layer-normed latent, "residual" a change.
        dim: width of the predictor.
        depth: number of blocks.
        num_heads: attention heads; dim / num_heads must be even and at least 12.
        mlp_ratio: hidden width of the MLP over dim.

    Raises:
        ValueError: if there is no action to condition on, or the heads do not divide dim.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        action_dim: int,
        state_dim: int,
        grid: tuple[int, int],
        output: Literal["normed", "residual"] = "normed",
        dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        if action_dim < 1 or state_dim < 0:
            raise ValueError(
                f"action_dim must be at least 1 and state_dim at least 0, got {action_dim} and "
                f"{state_dim}"
            )
        self.dim, self.num_heads, self.grid = dim, num_heads, grid
        self.action_dim, self.state_dim, self.output = action_dim, state_dim, output
        self.embed = nn.Linear(latent_dim, dim)
        self.action_embed = nn.Linear(action_dim, dim)
        self.state_embed = nn.Linear(state_dim, dim) if state_dim else None
        self.transformer = Transformer(dim, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
        self.place_embed = nn.Parameter(torch.zeros(self.tokens_per_frame, dim))
        self.proj = nn.Linear(dim, latent_dim)
        self.state_proj = nn.Linear(dim, state_dim) if state_dim else None
        nn.init.trunc_normal_(self.place_embed, std=0.2)
        for head in (self.proj, self.state_proj):
            if head is not None:
                nn.init.trunc_normal_(head.weight, std=0.02)
                nn.init.zeros_(head.bias)

    @property
    def tokens_per_frame(self) -> int:
        """Action, state (if there is one) and latents."""
        return self.num_conditions + self.grid[0] * self.grid[1]

    @property
    def num_conditions(self) -> int:
        """Tokens before the latents: the action's, and the state's if there is one."""
        return 2 if self.state_dim else 1

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
        num_frames = tokens.shape[1]
        x = self._embed(tokens, states, actions).flatten(1, 2)
        table = self._rotation(0, num_frames, x.device)
        frame = torch.arange(num_frames, device=x.device).repeat_interleave(self.tokens_per_frame)
        x = self.transformer(x, table, is_visible=frame[:, None] >= frame[None, :])
        return self._read_out(x.unflatten(1, (num_frames, -1)), tokens, states)

    def step(
        self, tokens: Tensor, state: Tensor, action: Tensor, *, cache: Cache | None = None
    ) -> tuple[Prediction, Cache]:
        """Predicts one frame ahead, computing the new frame only: earlier ones are in the cache.

        Equal to `forward` on the whole sequence, without its repeated work.

        Args:
            tokens: (batch, tokens, latent_dim), the latest frame.
            state: (batch, state_dim), normalised.
            action: (batch, action_dim), normalised.
            cache: keys and values of the frames before, from the previous call.

        Returns:
            Prediction of the next frame, and the cache for the next call.
        """
        x = self._embed(tokens[:, None], state[:, None], action[:, None]).flatten(1, 2)
        time = cache[0][0].shape[2] // self.tokens_per_frame if cache else 0
        table = self._rotation(time, 1, x.device)
        new_cache: Cache = []
        for index, block in enumerate(self.transformer.blocks):
            x, keys_values = block(x, table, past=cache[index] if cache else None)
            new_cache.append(keys_values)
        x = self.transformer.norm(x)
        return self._read_out(x, tokens, state), new_cache

    def rollout(self, tokens: Tensor, state: Tensor, actions: Tensor) -> Prediction:
        """Imagines a whole sequence, feeding predictions back in.

        Args:
            tokens: (batch, tokens, latent_dim), the first frame.
            state: (batch, state_dim), normalised.
            actions: (batch, horizon, action_dim), normalised.

        Returns:
            Prediction with tokens (batch, horizon, tokens, latent_dim), after each action.

        Raises:
            ValueError: if there is no action, or the shapes do not fit.
        """
        if actions.ndim != 3 or actions.shape[1] < 1:
            raise ValueError(
                f"actions must be (batch, horizon, {self.action_dim}) with at least one action, "
                f"got {tuple(actions.shape)}"
            )
        cache: Cache | None = None
        predictions = []
        for action in actions.unbind(1):
            prediction, cache = self.step(tokens, state, action, cache=cache)
            tokens, state = prediction
            predictions.append(prediction)
        return Prediction(*(torch.stack(part, 1) for part in zip(*predictions, strict=True)))

    def _embed(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Tensor:
        """Returns (batch, time, tokens_per_frame, dim): action, state, latents."""
        self._refuse_misfit(tokens, states, actions)
        conditions = [self.action_embed(actions).unsqueeze(2)]
        if self.state_embed is not None:
            conditions.append(self.state_embed(states).unsqueeze(2))
        return torch.cat((*conditions, self.embed(tokens)), dim=2) + self.place_embed

    def _refuse_misfit(self, tokens: Tensor, states: Tensor, actions: Tensor) -> None:
        leading = tuple(tokens.shape[:2])
        expected = {
            "tokens": (tokens, (*leading, self.grid[0] * self.grid[1], self.embed.in_features)),
            "states": (states, (*leading, self.state_dim)),
            "actions": (actions, (*leading, self.action_dim)),
        }
        for name, (value, shape) in expected.items():
            if tuple(value.shape) != shape:
                raise ValueError(f"{name} must be {shape}, got {tuple(value.shape)}")

    def _rotation(self, first: int, num_frames: int, device: torch.device) -> Tensor:
        patches = grid_coordinates((1, *self.grid), device)
        still = patches.new_zeros(self.num_conditions, 3)  # these rotate with time only
        positions = torch.cat((still, patches)).repeat(num_frames, 1, 1)
        time = torch.arange(first, first + num_frames, device=device, dtype=patches.dtype)
        positions[..., 0] = time[:, None]
        return rotation(rope_angles(positions.flatten(0, 1), head_dim=self.dim // self.num_heads))

    def _read_out(self, x: Tensor, tokens: Tensor, states: Tensor) -> Prediction:
        """Reads the next latents and state off x (..., tokens_per_frame, dim)."""
        latents = self.proj(x[..., self.num_conditions :, :])
        if self.output == "residual":
            latents = tokens + latents
        else:
            latents = F.layer_norm(latents, latents.shape[-1:])
        if self.state_proj is not None:
            states = states + self.state_proj(x[..., 1, :])
        return Prediction(latents, states)
