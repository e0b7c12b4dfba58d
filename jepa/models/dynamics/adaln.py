"""A transformer over a few frames that the action conditions through its norms (adaptive LN).

Predictor of LeWM (arXiv:2603.19312) on one vector a frame, and of DINO-WM's kind on patch tokens:
every frame is [state, latent tokens]; attention is causal over frames and full within one; the
action of a frame shifts, scales and gates what its tokens do in every block (AdaLN-zero of DiT,
arXiv:2212.09748). It sees `context_frames` frames: a window that slides, in which the oldest frame
is at place 0. Frames therefore change places as the window slides, so keys and values of the past
are good only until it is full; what an action does to the norms is good for ever.

Deviations from LeWM: the state is a token (LeWM sees none) and the next one is predicted too; its
projector has a batch norm, whose statistics in training are not those of planning, ours has none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jepa.models.attention import attend, join_heads, rotary_attention, split_heads
from jepa.models.dynamics.base import (
    Dynamics,
    Features,
    Memory,
    Prediction,
    imagine,
    refuse_no_action,
)
from jepa.models.linear import MLP, Linear
from jepa.models.settings import refuse_wrong_counts
from jepa.models.transformer import NORM_EPS, KeysValues


class Window(NamedTuple):
    """What is remembered of the latest frames, at most `context_frames`, the oldest first.

    Attributes:
        frames: (batch, frames, tokens per frame, dim), embedded, without their place in time.
        modulations: (batch, frames, depth, 6 * dim), what their actions do to the norms.
        keys_values: of every block, (batch, heads, frames * tokens per frame, head_dim) at their
            places 0 ...; empty where they are to be computed again, as the window slides.
    """

    frames: Tensor
    modulations: Tensor
    keys_values: list[KeysValues]


class AdaLN(Dynamics):
    """Frame-causal transformer on [state, latent tokens], conditioned on actions by its norms.

    Args:
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads.
        head_dim: width of a head; num_heads * head_dim need not be dim.
        mlp_dim: hidden width of the MLPs.
        context_frames: frames that it sees; earlier ones are forgotten.
        dropout: share of what a block adds that is dropped in training, in [0, 1). In LeWM, success
            in PushT falls from 96 % to 78 % without its .1.
        projector_dim: hidden width of an MLP between the last block and the heads (LeWM: 2048); 0:
            there is none.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(
        self,
        *,
        dim: int = 192,
        depth: int = 6,
        num_heads: int = 16,
        head_dim: int = 64,
        mlp_dim: int = 2048,
        context_frames: int = 3,
        dropout: float = 0.1,
        projector_dim: int = 0,
    ) -> None:
        super().__init__()
        self.config = {
            "dim": dim,
            "depth": depth,
            "num_heads": num_heads,
            "head_dim": head_dim,
            "mlp_dim": mlp_dim,
            "context_frames": context_frames,
        }
        refuse_wrong_counts(**self.config)
        refuse_wrong_dropout(dropout)
        refuse_wrong_counts(least=0, projector_dim=projector_dim)
        self.config |= {"dropout": dropout, "projector_dim": projector_dim}
        self.dim, self.depth, self.num_heads, self.head_dim = dim, depth, num_heads, head_dim
        self.mlp_dim, self.context_frames, self.dropout = mlp_dim, context_frames, dropout
        self.projector_dim = projector_dim

    @property
    def max_context_frames(self) -> int:
        """Its window."""
        return self.context_frames

    def make_trunk(self) -> int:
        """See `Dynamics.make_trunk`."""
        dim = self.dim
        self.embed = nn.Linear(self.latent_dim, dim)
        self.state_embed = nn.Linear(self.state_dim, dim) if self.state_dim else None
        self.action_embed = nn.Sequential(
            nn.Linear(self.action_dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, dim), nn.SiLU()
        )
        self.place_embed = nn.Parameter(torch.empty(self.tokens_per_frame, dim))
        self.frame_embed = nn.Parameter(torch.empty(self.context_frames, 1, dim))
        for embedding in (self.place_embed, self.frame_embed):
            nn.init.trunc_normal_(embedding, std=0.2)
        blocks = [
            AdaLNBlock(dim, self.num_heads, self.head_dim, self.mlp_dim, self.dropout)
            for _ in range(self.depth)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.projector = MLP(dim, self.projector_dim) if self.projector_dim else nn.Identity()
        return dim

    @property
    def tokens_per_frame(self) -> int:
        """State, if the model has one, and latents."""
        return int(self.state_dim > 0) + self.num_tokens

    def features(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Features:
        """See `Dynamics.features`; frames that do not fit into one window get one each."""
        self.refuse_misfit(tokens, states, actions)
        frames, modulations = self._embed(tokens, states), self._modulations(actions)
        first = self.context_frames
        x = self._run(frames[:, :first], modulations[:, :first])  # (batch, time, tokens, dim)
        num_later = frames.shape[1] - first
        if num_later > 0:
            windows = (_windows(part, first).flatten(0, 1) for part in (frames, modulations))
            later = self._run(*windows)[:, -1].unflatten(0, (-1, num_later))
            x = torch.cat((x, later), dim=1)
        return self._features(x)

    def remember(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Memory:
        """Returns the frames that the next one will see, with keys and values at their places."""
        self.refuse_misfit(tokens, states, actions)
        frames, modulations = self._embed(tokens, states), self._modulations(actions)
        first = max(frames.shape[1] - (self.context_frames - 1), 0)
        if first == frames.shape[1]:  # the next frame will see itself alone
            return None
        return self._with_keys_values(frames[:, first:], modulations[:, first:])

    def step_features(
        self, tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory = None
    ) -> tuple[Features, Memory]:
        """See `Dynamics.step_features`."""
        self.refuse_misfit(tokens[:, None], state[:, None], action[:, None])
        return self._step_features(tokens, state, self._modulations(action[:, None]), memory)

    def rollout(
        self,
        tokens: Tensor,
        state: Tensor,
        actions: Tensor,
        *,
        memory: Memory = None,
        truncate_after: int | None = None,
    ) -> Prediction:
        """See `Dynamics.rollout`; what all actions do to the norms is computed at once, before."""
        refuse_no_action(actions)
        self.refuse_misfit(tokens.unsqueeze(1), state.unsqueeze(1), actions[:, :1])
        modulations = iter(self._modulations(actions).split(1, dim=1))

        def step(
            tokens: Tensor, state: Tensor, action: Tensor, *, memory: Memory
        ) -> tuple[Prediction, Memory]:
            features, memory = self._step_features(tokens, state, next(modulations), memory)
            return self.read_out(features, tokens, state, action), memory

        return imagine(step, tokens, state, actions, memory=memory, truncate_after=truncate_after)

    def _step_features(
        self, tokens: Tensor, state: Tensor, modulation: Tensor, memory: Window | None
    ) -> tuple[Features, Window]:
        """Returns the features of a frame whose modulation (batch, 1, depth, 6 * dim) is known."""
        frame = self._embed(tokens[:, None], state[:, None])  # (batch, 1, tokens, dim)
        past = self._past(memory)
        place = 0 if past is None else past.frames.shape[1]
        x, keys_values = frame + self.frame_embed[place], []
        for index, block in enumerate(self.blocks):
            known = None if past is None else past.keys_values[index]
            x, new = block(x, modulation[:, :, index], past=known)
            keys_values.append(new)
        if past is not None:
            frame = torch.cat((_expanded(past.frames, frame), frame), dim=1)
            modulation = torch.cat((_expanded(past.modulations, modulation), modulation), dim=1)
        if place + 1 == self.context_frames:  # the next frame will move them all
            keys_values = []
        return self._features(x[:, 0]), Window(frame, modulation, keys_values)

    def _past(self, memory: Window | None) -> Window | None:
        """Returns what a new frame sees: at most all but one of the window's frames, in place."""
        if memory is None:
            return None
        if memory.frames.shape[1] == self.context_frames:
            memory = Window(memory.frames[:, 1:], memory.modulations[:, 1:], [])
        if not memory.frames.shape[1]:
            return None
        if not memory.keys_values:
            return self._with_keys_values(memory.frames, memory.modulations)
        return memory

    def _with_keys_values(self, frames: Tensor, modulations: Tensor) -> Window:
        """Computes the keys and values of frames (batch, frames, tokens, dim) at places 0 ..."""
        num_frames = frames.shape[1]
        x, keys_values = frames + self.frame_embed[:num_frames], []
        is_visible = self._is_visible(num_frames, x.device)
        for index, block in enumerate(self.blocks):
            x, known = block(x, modulations[:, :, index], is_visible=is_visible)
            keys_values.append(known)
        return Window(frames, modulations, keys_values)

    def _run(self, frames: Tensor, modulations: Tensor) -> Tensor:
        """Maps frames (batch, frames, tokens, dim) of one window to the same after all blocks."""
        num_frames = frames.shape[1]
        x = frames + self.frame_embed[:num_frames]
        is_visible = self._is_visible(num_frames, x.device)
        for index, block in enumerate(self.blocks):
            x, _ = block(x, modulations[:, :, index], is_visible=is_visible, needs_cache=False)
        return x

    def _embed(self, tokens: Tensor, states: Tensor) -> Tensor:
        """Returns (batch, time, tokens per frame, dim): state, latents."""
        x = self.embed(tokens)
        if self.state_embed is not None:
            x = torch.cat((self.state_embed(states).unsqueeze(2), x), dim=2)
        return x + self.place_embed

    def _modulations(self, actions: Tensor) -> Tensor:
        """Maps actions (batch, time, action_dim) to (batch, time, depth, 6 * dim)."""
        condition = self.action_embed(actions)  # (batch, time, dim)
        modulations = []
        for block in self.blocks:
            assert isinstance(block, AdaLNBlock)
            modulations.append(block.modulation(condition))
        return torch.stack(modulations, dim=2)

    def _is_visible(self, num_frames: int, device: torch.device) -> Tensor | None:
        """Returns (tokens, tokens) bool: a frame sees itself and those before; None: all."""
        if num_frames == 1:
            return None
        frame = torch.arange(num_frames, device=device).repeat_interleave(self.tokens_per_frame)
        return frame[:, None] >= frame[None, :]

    def _features(self, x: Tensor) -> Features:
        """Norms x (..., tokens per frame, dim), and cuts it into latents and state."""
        x = self.projector(self.norm(x))
        return Features(x[..., -self.num_tokens :, :], x[..., 0, :])


class AdaLNBlock(nn.Module):
    """x + gate * attention(norm(x)), then x + gate * mlp(norm(x)), as the frame's action says.

    Gates begin at zero: so does what a block does.
    """

    def __init__(
        self, dim: int, num_heads: int, head_dim: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS, elementwise_affine=False)
        self.qkv = Linear(dim, 3 * num_heads * head_dim)
        self.proj = Linear(num_heads * head_dim, dim)
        self.mlp = MLP(dim, mlp_dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.qkv, self.proj, self.mlp[0], self.mlp[2]):
            assert isinstance(linear, nn.Linear)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.modulation = Linear(dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        *,
        is_visible: Tensor | None = None,
        past: KeysValues | None = None,
        needs_cache: bool = True,
    ) -> tuple[Tensor, KeysValues | None]:
        """Maps tokens to tokens.

        Args:
            x: (batch, frames, tokens, dim).
            modulation: (batch, frames, 6 * dim): shift, scale and gate of attention and of the MLP.
            is_visible: (frames * tokens, frames * tokens) bool; None: all see all.
            past: keys and values of frames before, (1 or batch, heads, past tokens, head_dim).
            needs_cache: return keys and values.

        Returns:
            (batch, frames, tokens, dim), and keys and values including the past ones.
        """
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.unsqueeze(2).chunk(6, -1)
        attended, keys_values = self._attend(
            self.norm(x) * (1 + scale) + shift, is_visible, past, needs_cache
        )
        x = x + gate * self.dropout(attended)
        hidden = self.mlp(self.norm(x) * (1 + mlp_scale) + mlp_shift)
        return x + mlp_gate * self.dropout(hidden), keys_values

    def _attend(
        self, x: Tensor, is_visible: Tensor | None, past: KeysValues | None, needs_cache: bool
    ) -> tuple[Tensor, KeysValues | None]:
        frames = x.shape[1:3]
        qkv = self.qkv(x.flatten(1, 2))
        if not needs_cache:
            x = rotary_attention(qkv, None, num_heads=self.num_heads, is_visible=is_visible)
            return self.proj(x).unflatten(1, frames), None
        queries, keys, values = split_heads(qkv, self.num_heads)
        if past is not None:
            keys = torch.cat((_expanded(past[0], keys), keys), dim=2)
            values = torch.cat((_expanded(past[1], values), values), dim=2)
        x = join_heads(attend(queries, keys, values, is_visible=is_visible))
        return self.proj(x).unflatten(1, frames), (keys, values)


def refuse_wrong_dropout(dropout: float) -> None:
    """Raises unless a share of values can be dropped.

    Raises:
        ValueError: if it is not in [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def _expanded(past: Tensor, like: Tensor) -> Tensor:
    """Lets a past that all samples share (batch 1) serve as many as there are."""
    return past.expand(like.shape[0], *past.shape[1:])


def _windows(x: Tensor, length: int) -> Tensor:
    """Cuts (batch, time, ...) into its windows but the first: (batch, windows, length, ...)."""
    later = torch.arange(1, x.shape[1] - length + 1, device=x.device)
    return x[:, later[:, None] + torch.arange(length, device=x.device)]
