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

from typing import Literal

import torch
from torch import Tensor, nn

from jepa.models.dynamics.base import (
    Dynamics,
    Features,
    Memory,
    Output,
    Prediction,
    imagine,
    initialize_heads,
    refuse_no_action,
    refuse_other_shapes,
)
from jepa.models.eager_cpu import is_watched
from jepa.models.linear import Linear
from jepa.models.poses import next_pose
from jepa.models.positions import Positions, PositionStyle
from jepa.models.rope import grid_coordinates
from jepa.models.settings import refuse_wrong_counts, refuse_wrong_ratios
from jepa.models.transformer import Block, KeysValues, Transformer

Cache = list[tuple[KeysValues, ...]]  # of every block, those of the frames one after the other
NextState = Literal["learned", "end_effector_pose"]
POSE_DIM = 7


class ActionConditionedPredictor(Dynamics):
    """Frame-causal transformer on [action, state, patch tokens].

    Args:
        latent_dim: see `jepa.models.dynamics.base.Dynamics`. Given here, with the other sizes, it
            is built at once; None: `build` is called later.
        action_dim: a size, as the next ones.
        state_dim: 0 leaves the state token out.
        grid: (height, width) of one frame in latent tokens.
        output: "absolute" is what the released module returns.
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
        latent_dim: int | None = None,
        action_dim: int = 0,
        state_dim: int = 0,
        grid: tuple[int, int] = (1, 1),
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
        refuse_wrong_counts(dim=dim, depth=depth, num_heads=num_heads)
        refuse_wrong_counts(least=0, extrinsics_dim=extrinsics_dim)
        refuse_wrong_ratios(mlp_ratio=mlp_ratio)
        if not positions.startswith("rope"):
            raise ValueError(f"the dynamics need rotary positions, got {positions}")
        self.config = {
            "dim": dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "positions": positions,
            "next_state": next_state,
            "extrinsics_dim": extrinsics_dim,
            "has_place_embedding": has_place_embedding,
        }
        self.dim, self.depth, self.num_heads, self.mlp_ratio = dim, depth, num_heads, mlp_ratio
        self.position_style: PositionStyle = positions
        self.next_state: NextState = next_state
        self.extrinsics_dim, self.has_place_embedding = extrinsics_dim, has_place_embedding
        if latent_dim is not None:
            self.build(
                latent_dim=latent_dim,
                action_dim=action_dim,
                state_dim=state_dim,
                grid=grid,
                output=output,
            )

    @property
    def needs_raw_units(self) -> bool:
        """True if actions are added to poses."""
        return self.next_state == "end_effector_pose"

    def make_trunk(self) -> int:
        """See `Dynamics.make_trunk`.

        Raises:
            ValueError: if poses should be added up that are none.
        """
        dim, states = self.dim, self.state_dim
        _refuse_no_poses(self.action_dim, states, self.next_state)
        self.learns_state = bool(states) and self.next_state == "learned"
        self._tables: dict[tuple[int, int, bool, torch.device], Tensor] = {}
        self.embed = Linear(self.latent_dim, dim)
        self.action_embed = nn.Linear(self.action_dim, dim)
        self.state_embed = nn.Linear(states, dim) if states else None
        camera = self.extrinsics_dim
        self.extrinsics_embed = nn.Linear(camera, dim) if camera else None
        self.positions = Positions(
            self.position_style, dim=dim, num_heads=self.num_heads, grid=None
        )
        self.transformer = Transformer(
            dim, depth=self.depth, num_heads=self.num_heads, mlp_ratio=self.mlp_ratio
        )
        return dim

    def make_heads(self) -> None:
        """Makes the heads, and the embedding of places, in the order that seeds were used in."""
        self.proj = Linear(self.dim, self.latent_dim)
        self.state_proj = nn.Linear(self.dim, self.state_dim) if self.learns_state else None
        self.place_embed = None
        if self.has_place_embedding:
            num_places = self.tokens_per_frame(has_extrinsics=self.extrinsics_dim > 0)
            self.place_embed = nn.Parameter(torch.zeros(num_places, self.dim))
            nn.init.trunc_normal_(self.place_embed, std=0.2)
        initialize_heads(self.proj, self.state_proj)

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
        features = self.features(tokens, states, actions, extrinsics=extrinsics)
        return self.read_out(features, tokens, states, actions)

    def features(
        self,
        tokens: Tensor,
        states: Tensor,
        actions: Tensor,
        *,
        extrinsics: Tensor | None = None,
    ) -> Features:
        """See `Dynamics.features`, and `forward`."""
        x = self._embed(tokens, states, actions, extrinsics)  # (batch, time, tokens + ..., dim)
        num_frames, per_frame = x.shape[1:3]
        table = self._rotation(0, num_frames, extrinsics is not None, x.device)
        is_visible = _sees_its_past(num_frames, per_frame, x.device)
        x = self.transformer(x.flatten(1, 2), table, is_visible=is_visible)
        return self._features(x.unflatten(1, (num_frames, -1)))

    def remember(
        self,
        tokens: Tensor,
        states: Tensor,
        actions: Tensor,
        *,
        extrinsics: Tensor | None = None,
    ) -> Memory:
        """Returns keys and values of past frames; see `Dynamics.remember`."""
        x = self._embed(tokens, states, actions, extrinsics)
        num_frames, per_frame = x.shape[1:3]
        table = self._rotation(0, num_frames, extrinsics is not None, x.device)
        is_visible = _sees_its_past(num_frames, per_frame, x.device)
        x, memory = x.flatten(1, 2), []
        for block in self.transformer.blocks:
            x, keys_values = block(x, table, is_visible=is_visible)
            memory.append((keys_values,))
        return memory

    def step(
        self,
        tokens: Tensor,
        state: Tensor,
        action: Tensor,
        *,
        extrinsics: Tensor | None = None,
        memory: Memory = None,
    ) -> tuple[Prediction, Memory]:
        """Predicts one frame ahead, computing the new frame only: earlier ones are remembered.

        Equal to `forward` on the whole sequence, without its repeated work.

        Args:
            tokens: (batch, tokens, latent_dim), the latest frame.
            state: (batch, state_dim), normalised.
            action: (batch, action_dim), normalised.
            extrinsics: (batch, extrinsics_dim), or None: in all steps, or in none.
            memory: keys and values of the frames before, from the previous call.

        Returns:
            Prediction of the next frame, and the memory for the next call.
        """
        features, memory = self.step_features(
            tokens, state, action, extrinsics=extrinsics, memory=memory
        )
        return self.read_out(features, tokens, state, action), memory

    def step_features(
        self,
        tokens: Tensor,
        state: Tensor,
        action: Tensor,
        *,
        extrinsics: Tensor | None = None,
        memory: Memory = None,
        last_frame: int | None = None,
    ) -> tuple[Features, Memory]:
        """See `Dynamics.step_features`, and `step`.

        Args:
            tokens: as for `step`, like the others.
            state: as for `step`.
            action: as for `step`.
            extrinsics: as for `step`.
            memory: as for `step`.
            last_frame: number of the frame after which none comes, so that nothing is kept of it.
        """
        has_extrinsics = extrinsics is not None
        per_frame = self.tokens_per_frame(has_extrinsics=has_extrinsics)
        time = self._num_frames(memory, has_extrinsics)
        table = self._rotation(time, 1, has_extrinsics, tokens.device)
        # Of the last block only what is read: latents, and the token that tells of the state.
        first_read = 1 if self.learns_state else per_frame - self.num_tokens
        x, memory = self._through_blocks(
            self._embedded_frame(tokens, state, action, extrinsics),  # held by nobody else
            table,
            memory,
            first_read=first_read,
            is_last=time == last_frame,
        )
        return Features(x[..., -self.num_tokens :, :], x[..., 0, :]), memory

    def rollout(
        self,
        tokens: Tensor,
        state: Tensor,
        actions: Tensor,
        *,
        extrinsics: Tensor | None = None,
        memory: Memory = None,
        truncate_after: int | None = None,
    ) -> Prediction:
        """Imagines a whole sequence; see `Dynamics.rollout`.

        Args:
            tokens: (batch, tokens, latent_dim), the latest frame.
            state: (batch, state_dim), normalised.
            actions: (batch, horizon, action_dim), normalised.
            extrinsics: (batch, extrinsics_dim), of a camera that stays where it is; or None.
            memory: of the frames before it, from `remember`.
            truncate_after: steps after which the gradient is cut; None: nowhere.

        Returns:
            Prediction with tokens (batch, horizon, tokens, latent_dim), after each action.

        Raises:
            ValueError: if there is no action, or the shapes do not fit.
        """
        refuse_no_action(actions)
        last = self._num_frames(memory, extrinsics is not None) + actions.shape[1] - 1

        def step(
            tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory
        ) -> tuple[Prediction, Memory]:
            features, memory = self.step_features(
                tokens, state, action, extrinsics=extrinsics, memory=memory, last_frame=last
            )
            return self.read_out(features, tokens, state, action), memory

        return imagine(step, tokens, state, actions, memory=memory, truncate_after=truncate_after)

    def complete(
        self,
        latents: Tensor,
        state_change: Tensor | None,
        tokens: Tensor,
        states: Tensor,
        actions: Tensor,
    ) -> Prediction:
        """See `Dynamics.complete`; a pose follows from the action."""
        prediction = super().complete(latents, state_change, tokens, states, actions)
        if not self.needs_raw_units or not self.state_dim:
            return prediction
        return prediction._replace(state=next_pose(states, actions))

    def _through_blocks(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        table: Tensor,
        memory: Memory,
        *,
        first_read: int,
        is_last: bool,
    ) -> tuple[Tensor, Cache]:
        """Maps the tokens of a new frame, from `_embedded_frame`, to the same after all blocks.

        Args:
            x: of the frame.
            table: rotation of its tokens.
            memory: keys and values of the frames before.
            first_read: token from which on the output is read.
            is_last: nothing is to be kept of this frame.

        Returns:
            (batch, tokens that are read, dim), normed, and the memory with this frame.
        """
        new_memory: Cache = []
        for index, block in enumerate(self.transformer.blocks):
            past = memory[index] if memory else ()
            options = {
                "past": past,
                "needs_cache": not is_last,
                "first_output": first_read if index == self.depth - 1 else 0,
            }
            assert isinstance(block, Block)
            if isinstance(x, tuple):
                x, keys_values = block.forward_shared(*x, table, **options)
            else:
                x, keys_values = block(x, table, **options)
            if keys_values is not None:
                new_memory.append((*past, keys_values))
        return self.transformer.norm(x), new_memory

    def _embedded_frame(
        self, tokens: Tensor, state: Tensor, action: Tensor, extrinsics: Tensor | None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the tokens of one frame, (batch, tokens per frame, dim).

        If all samples start from one frame, an expanded view of it, then the token of each one's
        action, (batch, 1, dim), and all others, (1, tokens per frame - 1, dim).
        """
        frame = tokens[:, None], state[:, None], action[:, None]
        is_shared = (
            extrinsics is None
            and not is_watched()  # a graph must do for any batch
            and all(_is_one_for_all(x) for x in (tokens, state))
        )
        if not is_shared:
            camera = None if extrinsics is None else extrinsics[:, None]
            return self._embed(*frame, camera).flatten(1, 2)
        self._refuse_misfit(*frame, None)
        shared = self._embed(tokens[:1, None], state[:1, None], action[:1, None], None)
        shared = shared.flatten(1, 2)[:, 1:]  # without the action, which is each sample's own
        own = self.action_embed(action).unsqueeze(1)
        return (own if self.place_embed is None else own + self.place_embed[:1]), shared

    def _num_frames(self, memory: Memory, has_extrinsics: bool) -> int:
        """Returns how many frames are remembered."""
        per_frame = self.tokens_per_frame(has_extrinsics=has_extrinsics)
        return sum(keys.shape[2] for keys, _ in memory[0]) // per_frame if memory else 0

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
        self.refuse_misfit(tokens, states, actions)
        if extrinsics is None:
            return
        if not self.extrinsics_dim:
            raise ValueError("this model takes no extrinsics: its extrinsics_dim is 0")
        shape = (*tokens.shape[:2], self.extrinsics_dim)
        refuse_other_shapes(extrinsics=(extrinsics, shape))

    def _rotation(
        self, first: int, num_frames: int, has_extrinsics: bool, device: torch.device
    ) -> Tensor:
        """Returns the rotary table of frames in a row, made once for every time they are asked."""
        wish = (first, num_frames, has_extrinsics, device)
        if is_watched():
            return self._made_rotation(*wish)
        if wish not in self._tables:
            with torch.inference_mode(False):  # whoever learns may use it too
                self._tables[wish] = self._made_rotation(*wish)
        return self._tables[wish]

    def _made_rotation(
        self, first: int, num_frames: int, has_extrinsics: bool, device: torch.device
    ) -> Tensor:
        patches = grid_coordinates((1, *self.grid), device)
        # Conditions rotate with time only.
        still = patches.new_zeros(self._num_conditions(has_extrinsics), 3)
        places = torch.cat((still, patches)).repeat(num_frames, 1, 1)
        time = torch.arange(first, first + num_frames, device=device, dtype=patches.dtype)
        places[..., 0] = time[:, None]
        return self.positions.rotation(places.flatten(0, 1))

    def _features(self, x: Tensor) -> Features:
        """Cuts x (..., tokens per frame, dim) into latents and what tells of the state."""
        return Features(x[..., -self.num_tokens :, :], x[..., int(self.state_dim > 0), :])


def _is_one_for_all(x: Tensor) -> bool:
    """True if x (batch, ...) is one row, seen as many."""
    return len(x) > 1 and (x.stride(0) == 0 or not x.shape[-1])


def _sees_its_past(num_frames: int, per_frame: int, device: torch.device) -> Tensor:
    """Returns (tokens, tokens) bool: a frame sees itself and those before."""
    frame = torch.arange(num_frames, device=device).repeat_interleave(per_frame)
    return frame[:, None] >= frame[None, :]


def _refuse_no_poses(action_dim: int, state_dim: int, next_state: NextState) -> None:
    if next_state == "end_effector_pose" and (action_dim, state_dim) != (POSE_DIM, POSE_DIM):
        raise ValueError(
            f"next_state=end_effector_pose needs states and actions of {POSE_DIM} numbers, got "
            f"{state_dim} and {action_dim}"
        )
