"""A trained `jepa` world model as a `WorldModel`: the only file of planning that imports `jepa`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from jepa.checkpoints.native import load_world_model, untrained_world_model
from jepa.checkpoints.shipped import resolve_checkpoint
from jepa.models.dynamics.base import Memory, map_memory
from jepa.models.world_model import LatentWorldModel
from planning.actions.space import ActionSteps
from planning.costs.imagined_states import StateUnits
from planning.rollout_memory import RolloutMemory, SampleBytes
from planning.safety.safe_stop import NotFiniteStop
from planning.search.screening import Screening
from planning.types import Cost, Latent

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "screened"]
MAX_CONDITIONS = 3  # tokens of a frame beside its latents: action, state, camera


class LatentWorld:
    """Encodes camera frames and imagines action sequences.

    Args:
        model: the trained world model.
        device: where to run; None keeps it where it is.
        max_samples_per_chunk: at most so many sequences are imagined at a time; None: as many as
            fit in memory and, on a CPU, leave its caches to the network.
        max_bytes: of memory that imagined sequences may need; None: half of what is free. If even
            that is not there, half as many are imagined at a time, and a warning says so.
        precision: "bf16" imagines with a copy of the dynamics whose products are in bfloat16; it
            does not follow later changes of the model. Latents are float32 all the same.
            "screened" imagines in float32, and lets planners screen: they imagine all candidates
            with such a copy, and those that can be among the best in float32 as well, see
            `planning.search.screening`. It pays where a search has many samples and few elites.
        is_compiled: compile the dynamics for chunks of one size, with CUDA graphs on a GPU; the
            first rollout of every size takes minutes. If that fails, a warning says so.

    Attributes:
        num_encoded_frames: how many frames have been encoded so far.

    Raises:
        ValueError: if a limit is below 1, if there is no such precision, or if an ensemble should
            be screened: its disagreement is part of the plan.
    """

    def __init__(
        self,
        model: LatentWorldModel,
        *,
        device: torch.device | str | None = None,
        max_samples_per_chunk: int | None = None,
        max_bytes: int | None = None,
        precision: Precision = "fp32",
        is_compiled: bool = False,
    ) -> None:
        if precision not in get_args(Precision):
            allowed = " or ".join(get_args(Precision))
            raise ValueError(f"precision must be {allowed}, got {precision!r}")
        if precision == "screened" and model.dynamics.num_members > 1:
            raise ValueError(
                f"precision 'screened' is not for an ensemble (of {model.dynamics.num_members}): "
                "a plan tells the disagreement of its members; take fp32 or bf16"
            )
        self.memory = RolloutMemory(max_bytes, max_samples_per_chunk)
        self.model = model.eval() if device is None else model.eval().to(device)
        self.precision: Precision = precision
        self.num_encoded_frames = 0
        is_fast = precision == "bf16"
        self._dynamics = _in_bfloat16(model.dynamics) if is_fast else model.dynamics
        self._widths = _Widths.of(self._dynamics)
        self._rollout: Callable[..., Any] = self._dynamics.rollout
        self._rough: LatentWorld | None = None
        if precision == "screened":  # few and ever other numbers are exact: nothing to compile for
            self._rough = LatentWorld(
                model,
                max_samples_per_chunk=max_samples_per_chunk,
                max_bytes=max_bytes,
                precision="bf16",
                is_compiled=is_compiled,
            )
        self._is_compiled = is_compiled and self._rough is None
        if self._is_compiled:
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            self._rollout = torch.compile(self._dynamics.rollout, dynamic=False, mode=mode)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: torch.device | str | None = None,
        precision: Precision = "fp32",
        is_compiled: bool = False,
    ) -> LatentWorld:
        """Reads a world model folder, or a run folder that holds `world_model/`."""
        model = load_world_model(folder).requires_grad_(False)  # gradients are of actions only
        return cls(model, device=device, precision=precision, is_compiled=is_compiled)

    def untrained(self, *, seed: int = 0) -> LatentWorld:
        """Returns the same world model with fresh weights, where and as exact as this one."""
        model = untrained_world_model(self.model, seed=seed).requires_grad_(False)
        return LatentWorld(model, device=self.device, precision=self.precision)

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
    def context_frames(self) -> int:
        """Frames that rollouts were trained to start from: the latest, and those before it."""
        return self.model.context_frames

    @property
    def is_compiled(self) -> bool:
        """Whether the dynamics are compiled, as far as is known."""
        return self._is_compiled if self._rough is None else self._rough.is_compiled

    @property
    def num_members(self) -> int:
        """Networks that imagine beside one another; 1 unless it is an ensemble."""
        return self.model.dynamics.num_members

    @property
    def state_units(self) -> StateUnits | None:
        """How imagined states become states of the robot; None if the model uses no state."""
        if not self.model.dynamics.state_dim:
            return None
        return StateUnits(self.model.state_mean, self.model.state_std)

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

    @torch.no_grad()
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
            NotFiniteStop: if the encoder returns a value that is not finite.
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
            raise NotFiniteStop("the encoder returned NaN or infinite latents for this frame")
        return Latent(tokens, start)

    def remember(self, past: Latent, actions: Tensor) -> Memory:
        """Returns what the dynamics know of frames before the one that rollouts start from.

        Computed once for any number of rollouts and samples.

        Args:
            past: frames that were encoded with their states: tokens (past, tokens, dim) and
                normalised states (past, state_dim), with an axis of environments before if there
                are several.
            actions: (past, action_dim) or (environments, past, action_dim), raw units: what was
                done in each of these frames.

        Raises:
            ValueError: if the shapes do not fit each other or the model.
        """
        if actions.ndim == 2:
            past, actions = past.map(lambda part: part[None]), actions[None]
        state = self._state_of(past)
        with self._precision():
            normalized = self.model.normalize_actions(actions.to(self.device))
            return self._dynamics.remember(past.tokens, state, normalized)

    def rollout(self, start: Latent, actions: Tensor, *, memory: Memory = None) -> Latent:
        """Imagines action sequences from one start, or from several.

        Args:
            start: tokens (tokens, dim) and state; of several, (environments, tokens, dim).
            actions: (samples, horizon, action_dim), raw units; of several starts (environments,
                samples, horizon, action_dim).
            memory: of frames before the start, from `remember`; None: there are none.

        Returns:
            Latents after each action: tokens (samples, horizon, tokens, dim), states normalised;
            after an axis of environments if there are several.

        Raises:
            ValueError: if the model uses state and `start` has none, or the actions do not fit.
            MemoryError: if there is not even memory for one sequence.
        """
        self._refuse_misfit(start, actions)
        if is_single := actions.ndim == 3:
            start, actions = start.map(lambda part: part[None]), actions[None]
        starts = Latent(start.tokens, self._state_of(start))
        actions = actions.to(self.device)
        if self.precision == "bf16":  # it may be remembered in float32
            memory = map_memory(memory, lambda x: x.to(torch.bfloat16))
        num_starts, num_samples, horizon = actions.shape[:3]
        size = self.memory.chunk_size(
            self._sample_bytes(horizon, memory),
            self.device,
            num_starts=num_starts,
            num_samples=num_samples,
        )
        flat = actions.flatten(0, 1)

        def imagine(first: int, count: int) -> Latent:
            part = slice(first // num_samples, (first + count - 1) // num_samples + 1)
            chosen = starts.map(lambda x: _repeated(x[part], count))
            known = map_memory(memory, lambda x: _of_starts(x, part, num_samples))
            return self._imagine(chosen, flat[first : first + count], known, size=size)

        imagined = self.memory.run(
            imagine, num_starts=num_starts, num_samples=num_samples, size=size
        )
        if is_single:
            return imagined
        return imagined.map(lambda part: part.unflatten(0, (num_starts, num_samples)))

    def screening(self, cost: Cost) -> Screening | None:
        """Returns what scores candidates exactly where it matters; None unless "screened"."""
        return None if self._rough is None else Screening(self._rough, self, cost)

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

    def _refuse_misfit(self, start: Latent, actions: Tensor) -> None:
        num_axes = start.tokens.ndim + 1
        if actions.ndim != num_axes or actions.shape[-1] != self.action_dim:
            leading = "environments, samples" if num_axes == 4 else "samples"
            raise ValueError(
                f"actions must be ({leading}, horizon, {self.action_dim}), got "
                f"{tuple(actions.shape)}"
            )
        if num_axes == 4 and len(start.tokens) != len(actions):
            raise ValueError(f"there are {len(start.tokens)} starts and actions for {len(actions)}")

    def _state_of(self, latent: Latent) -> Tensor:
        """Returns the state of a latent; (..., 0) if the model uses none."""
        if not self.model.dynamics.state_dim:  # whatever somebody else may know of it
            return latent.tokens.new_empty(*latent.tokens.shape[:-2], 0)
        if latent.state is None:
            raise ValueError("a rollout needs the robot's state: call encode(frame, state)")
        return latent.state

    def _imagine(self, start: Latent, actions: Tensor, memory: Memory, *, size: int) -> Latent:
        """Imagines a chunk: start tokens (samples, tokens, dim), actions in raw units."""
        count = len(actions)
        if self._is_compiled and count < size:  # of one size, or the compiler begins again
            actions = _padded(actions, size)
            start = start.map(lambda x: _padded(x, size))
            memory = map_memory(memory, lambda x: x if len(x) == 1 else _padded(x, size))
        normalized = self.model.normalize_actions(actions)
        arguments = (start.tokens, start.state, normalized)
        with self._precision():
            prediction = self._run(*arguments, memory=memory)
        return Latent(
            prediction.tokens[:count].to(start.tokens.dtype),
            prediction.state[:count],
            None if prediction.disagreement is None else prediction.disagreement[:count],
        )

    def _run(self, *arguments: Tensor | None, memory: Memory) -> Any:  # noqa: ANN401
        """Calls the dynamics, compiled or not."""
        if not self._is_compiled:
            return self._rollout(*arguments, memory=memory)
        from torch._dynamo.exc import TorchDynamoException  # takes a second to import

        try:
            if self.device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()  # results of before may be overwritten
            return self._rollout(*arguments, memory=memory).map(torch.clone)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split("\n")[:2])
            logger.warning("the dynamics cannot be compiled here, and run as they are: %s", reason)
            self._is_compiled, self._rollout = False, self._dynamics.rollout
            return self._rollout(*arguments, memory=memory)

    def _precision(self) -> torch.autocast:
        """Returns what the dynamics run in."""
        is_fast = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_fast)

    def _sample_bytes(self, horizon: int, memory: Memory) -> SampleBytes:
        """Counts what a sequence needs, from the sizes of the dynamics' layers."""
        dynamics = self.model.dynamics
        num_tokens = dynamics.grid[0] * dynamics.grid[1]
        width_bytes = 2 if self.precision == "bf16" else 4
        positions = width_bytes * (num_tokens + MAX_CONDITIONS)
        past: list[int] = []  # of all blocks; what samples share is there once
        map_memory(memory, lambda x: past.append(x[:1].nbytes * (len(x) > 1)) or x)
        return SampleBytes(
            working=positions * (2 * self._widths.widest + horizon * self._widths.kept_by_one),
            kept=positions * (horizon - 1) * self._widths.kept + sum(past),
            result=4 * horizon * (num_tokens * dynamics.latent_dim + dynamics.state_dim),
        )


def checkpoint_folder(name: str | Path) -> Path:
    """Returns the folder that `LatentWorld.load` reads: a path, or a checkpoint by its name."""
    return resolve_checkpoint(name)


class _Widths(NamedTuple):
    """How many numbers a network has of one token.

    Attributes:
        widest: in one layer at most, what goes in and what comes out.
        kept: keys and values of all blocks, where layers called qkv make them.
        kept_by_one: those of one block, of which all steps are joined while it computes.
    """

    widest: int
    kept: int
    kept_by_one: int

    @classmethod
    def of(cls, dynamics: nn.Module) -> _Widths:
        """Reads the sizes of the layers."""
        layers = {name: m for name, m in dynamics.named_modules() if isinstance(m, nn.Linear)}
        widest = max(layer.in_features + layer.out_features for layer in layers.values())
        kept = [2 * m.out_features // 3 for name, m in layers.items() if name.endswith("qkv")]
        return cls(widest, sum(kept), max(kept, default=0))


def _in_bfloat16(dynamics: nn.Module) -> Any:  # noqa: ANN401
    """Returns a copy whose products need no cast of weights, under autocast; norms stay as is."""
    fast = copy.deepcopy(dynamics).requires_grad_(False)
    for layer in fast.modules():
        if isinstance(layer, nn.Linear):
            layer.to(torch.bfloat16)
    return fast


def _repeated(x: Tensor, count: int) -> Tensor:
    """Repeats each row of x (rows, ...) so that there are `count`; of one row, without a copy."""
    if len(x) == 1:
        return x.expand(count, *x.shape[1:])
    return x.repeat_interleave(count // len(x), dim=0)


def _padded(x: Tensor, count: int) -> Tensor:
    """Repeats the last row of x (rows, ...) so that there are `count`; one row stays one."""
    if x.stride(0) == 0:
        return x[:1].expand(count, *x.shape[1:])
    return torch.cat((x, x[-1:].expand(count - len(x), *x.shape[1:])))


def _of_starts(x: Tensor, part: slice, num_samples: int) -> Tensor:
    """Returns the memory of some starts for their samples; of one start it serves them all."""
    chosen = x if len(x) == 1 else x[part]
    return chosen if len(chosen) == 1 else chosen.repeat_interleave(num_samples, dim=0)
