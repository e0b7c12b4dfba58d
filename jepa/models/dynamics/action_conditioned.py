"""The action-conditioned predictor: what the next frame's tokens will be if I act like this.

Layout of V-JEPA 2-AC (arXiv:2506.09985, Sec. 3.1): every frame is [action, state, patch tokens],
attention is causal over frames and full within one, patches carry 3-D rotary positions, action and
state rotate with time only, and the output at frame t is the absolute latent of frame t + 1.
Three deviations, each a setting: the state token predicts the next state as well, so imagined
futures need no kinematics; every place of a frame has a learned embedding; and latents that are not
layer-normed (`jepa.models.latents.SlowFeatures`) are predicted as a change of the latest one.
The released 2-AC weights have none of them, and tiled rotary tables.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.poses import next_pose
from jepa.models.positions import Positions, PositionStyle
from jepa.models.rope import grid_coordinates
from jepa.models.transformer import Transformer

Cache = list[tuple[Tensor, Tensor]]
Output = Literal["normed", "absolute", "residual"]
NextState = Literal["learned", "end_effector_pose"]
POSE_DIM = 7


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
        output: "normed" writes an absolute, layer-normed latent, "absolute" the same before the
            norm (what the released module returns), "residual" a change.
        dim: width of the predictor.
        depth: number of blocks.
        num_heads: attention heads; dim / num_heads must be even and at least 12.
        mlp_ratio: hidden width of the MLP over dim.
        positions: rotary style.
        next_state: "learned" reads the next state off the state token; "end_effector_pose" adds the
            action to the pose, see `jepa.models.poses`; states and actions are then in raw units.
        extrinsics_dim: numbers that describe the camera; 0: it takes none. Where it takes them, a
            call may leave them out, as the released weights were trained.
        has_place_embedding: add a learned embedding of the place in the frame to every token.

    Raises:
        ValueError: if there is no action to condition on, or the settings do not fit one another.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        action_dim: int,
        state_dim: int,
        grid: tuple[int, int],
        output: Output = "normed",
        dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        positions: PositionStyle = "rope_interleaved",
        next_state: NextState = "learned",
        extrinsics_dim: int = 0,
        has_place_embedding: bool = True,
    ) -> None:
        super().__init__()
        _refuse_misfit_settings(action_dim, state_dim, positions, next_state)
        self.dim, self.num_heads, self.grid = dim, num_heads, (grid[0], grid[1])
        self.action_dim, self.state_dim, self.output = action_dim, state_dim, output
        self.extrinsics_dim = extrinsics_dim
        self.embed = nn.Linear(latent_dim, dim)
        self.action_embed = nn.Linear(action_dim, dim)
        self.state_embed = nn.Linear(state_dim, dim) if state_dim else None
        self.extrinsics_embed = nn.Linear(extrinsics_dim, dim) if extrinsics_dim else None
        self.positions = Positions(positions, dim=dim, num_heads=num_heads, grid=None)
        self.transformer = Transformer(dim, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)
        self.proj = nn.Linear(dim, latent_dim)
        learns_state = bool(state_dim) and next_state == "learned"
        self.state_proj = nn.Linear(dim, state_dim) if learns_state else None
        self.place_embed = None
        if has_place_embedding:
            num_places = self.tokens_per_frame(has_extrinsics=extrinsics_dim > 0)
            self.place_embed = nn.Parameter(torch.zeros(num_places, dim))
            nn.init.trunc_normal_(self.place_embed, std=0.2)
        for head in (self.proj, self.state_proj):
            if head is not None:
                nn.init.trunc_normal_(head.weight, std=0.02)
                nn.init.zeros_(head.bias)

    def tokens_per_frame(self, *, has_extrinsics: bool = False) -> int:
        """Action, state (if the model has one), extrinsics (if they are given) and latents."""
        return self._num_conditions(has_extrinsics) + self.grid[0] * self.grid[1]

    def forward(
        self,
        tokens: Tensor,
        states: Tensor,
        actions: Tensor,
        *,
        extrinsics: Tensor | None = None,
    ) -> Prediction:
        """Predicts every next frame from the true frames up to it (teacher forcing).

        Args:
            tokens: (batch, time, tokens, latent_dim).
            states: (batch, time, state_dim), normalised.
            actions: (batch, time, action_dim), normalised; actions[:, t] follows frame t.
            extrinsics: (batch, time, extrinsics_dim), the camera of each frame; None: no such
                token.

        Returns:
            Prediction with tokens (batch, time, tokens, latent_dim) of frames 1 ... time.

        Raises:
            ValueError: if the shapes do not fit each other or the model.
        """
        x = self._embed(tokens, states, actions, extrinsics)  # (batch, time, tokens + ..., dim)
        num_frames, per_frame = x.shape[1:3]
        table = self._rotation(0, num_frames, extrinsics is not None, x.device)
        frame = torch.arange(num_frames, device=x.device).repeat_interleave(per_frame)
        is_visible = frame[:, None] >= frame[None, :]
        x = self.transformer(x.flatten(1, 2), table, is_visible=is_visible)
        return self._read_out(x.unflatten(1, (num_frames, -1)), tokens, states, actions)

    def step(
        self,
        tokens: Tensor,
        state: Tensor,
        action: Tensor,
        *,
        extrinsics: Tensor | None = None,
        cache: Cache | None = None,
    ) -> tuple[Prediction, Cache]:
        """Predicts one frame ahead, computing the new frame only: earlier ones are in the cache.

        Equal to `forward` on the whole sequence, without its repeated work.

        Args:
            tokens: (batch, tokens, latent_dim), the latest frame.
            state: (batch, state_dim), normalised.
            action: (batch, action_dim), normalised.
            extrinsics: (batch, extrinsics_dim), or None: in all steps, or in none.
            cache: keys and values of the frames before, from the previous call.

        Returns:
            Prediction of the next frame, and the cache for the next call.
        """
        camera = None if extrinsics is None else extrinsics[:, None]
        x = self._embed(tokens[:, None], state[:, None], action[:, None], camera).flatten(1, 2)
        time = cache[0][0].shape[2] // x.shape[1] if cache else 0
        table = self._rotation(time, 1, extrinsics is not None, x.device)
        new_cache: Cache = []
        for index, block in enumerate(self.transformer.blocks):
            x, keys_values = block(x, table, past=cache[index] if cache else None)
            new_cache.append(keys_values)
        x = self.transformer.norm(x)
        return self._read_out(x, tokens, state, action), new_cache

    def rollout(
        self, tokens: Tensor, state: Tensor, actions: Tensor, *, extrinsics: Tensor | None = None
    ) -> Prediction:
        """Imagines a whole sequence, feeding predictions back in.

        Args:
            tokens: (batch, tokens, latent_dim), the first frame.
            state: (batch, state_dim), normalised.
            actions: (batch, horizon, action_dim), normalised.
            extrinsics: (batch, extrinsics_dim), of a camera that stays where it is; or None.

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
            prediction, cache = self.step(tokens, state, action, extrinsics=extrinsics, cache=cache)
            tokens, state = prediction
            predictions.append(prediction)
        return Prediction(*(torch.stack(part, 1) for part in zip(*predictions, strict=True)))

    def _num_conditions(self, has_extrinsics: bool) -> int:
        """Tokens before the latents."""
        return 1 + (self.state_dim > 0) + has_extrinsics

    def _embed(
        self, tokens: Tensor, states: Tensor, actions: Tensor, extrinsics: Tensor | None
    ) -> Tensor:
        """Returns (batch, time, tokens per frame, dim): action, state, extrinsics, latents."""
        self._refuse_misfit(tokens, states, actions, extrinsics)
        conditions = [self.action_embed(actions).unsqueeze(2)]
        if self.state_embed is not None:
            conditions.append(self.state_embed(states).unsqueeze(2))
        if self.extrinsics_embed is not None and extrinsics is not None:
            conditions.append(self.extrinsics_embed(extrinsics).unsqueeze(2))
        x = torch.cat((*conditions, self.embed(tokens)), dim=2)
        if self.place_embed is None:
            return x
        first, num_latents = len(conditions), tokens.shape[2]
        return x + torch.cat((self.place_embed[:first], self.place_embed[-num_latents:]))

    def _refuse_misfit(
        self, tokens: Tensor, states: Tensor, actions: Tensor, extrinsics: Tensor | None
    ) -> None:
        leading = tuple(tokens.shape[:2])
        expected = {
            "tokens": (tokens, (*leading, self.grid[0] * self.grid[1], self.embed.in_features)),
            "states": (states, (*leading, self.state_dim)),
            "actions": (actions, (*leading, self.action_dim)),
        }
        if extrinsics is not None:
            if not self.extrinsics_dim:
                raise ValueError("this model takes no extrinsics: its extrinsics_dim is 0")
            expected["extrinsics"] = (extrinsics, (*leading, self.extrinsics_dim))
        for name, (value, shape) in expected.items():
            if tuple(value.shape) != shape:
                raise ValueError(f"{name} must be {shape}, got {tuple(value.shape)}")

    def _rotation(
        self, first: int, num_frames: int, has_extrinsics: bool, device: torch.device
    ) -> Tensor:
        patches = grid_coordinates((1, *self.grid), device)
        # Conditions rotate with time only.
        still = patches.new_zeros(self._num_conditions(has_extrinsics), 3)
        places = torch.cat((still, patches)).repeat(num_frames, 1, 1)
        time = torch.arange(first, first + num_frames, device=device, dtype=patches.dtype)
        places[..., 0] = time[:, None]
        return self.positions.rotation(places.flatten(0, 1))

    def _read_out(self, x: Tensor, tokens: Tensor, states: Tensor, actions: Tensor) -> Prediction:
        """Reads the next latents and state off x (..., tokens per frame, dim)."""
        latents = self.proj(x[..., -tokens.shape[-2] :, :])
        if self.output == "residual":
            latents = tokens + latents
        elif self.output == "normed":
            latents = F.layer_norm(latents, latents.shape[-1:])
        if self.state_proj is not None:
            states = states + self.state_proj(x[..., 1, :])
        elif self.state_dim:
            states = next_pose(states, actions)
        return Prediction(latents, states)


def _refuse_misfit_settings(
    action_dim: int, state_dim: int, positions: PositionStyle, next_state: NextState
) -> None:
    if action_dim < 1 or state_dim < 0:
        raise ValueError(
            f"action_dim must be at least 1 and state_dim at least 0, got {action_dim} and "
            f"{state_dim}"
        )
    if not positions.startswith("rope"):
        raise ValueError(f"the dynamics need rotary positions, got {positions}")
    if next_state == "end_effector_pose" and (action_dim, state_dim) != (POSE_DIM, POSE_DIM):
        raise ValueError(
            f"next_state=end_effector_pose needs states and actions of {POSE_DIM} numbers, got "
            f"{state_dim} and {action_dim}"
        )
