"""LeWM's predictor as stable-worldmodel plans with it, and the same weights as we would.

The peer's module and its search are imported, not written here. Ours reads the weights off that
module. What differs: what an action does to the norms is computed once for each rollout and not
once for each window it is in; keys and values are kept until the window is full (then it slides,
all frames change places and the kept ones are wrong); of the last block only the newest frame is
computed; and products go where they are fastest.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.attention import attend
from jepa.models.linear import MLP, Linear

DIM, DEPTH, HEADS, HEAD_DIM, MLP_DIM, WINDOW, ACTION_DIM = 192, 6, 16, 64, 2048, 3, 10
NUM_ELITES = 30


class PeerCase(NamedTuple):
    """A budget: sequences, actions of each, iterations."""

    samples: int = 300
    horizon: int = 5
    iterations: int = 3


def peer_modules() -> types.SimpleNamespace | None:
    """Imports the predictor and the planner of stable-worldmodel, or returns None if there is none.

    Its package imports simulators, which neither needs: only their own files are run.
    """
    spec = importlib.util.find_spec("stable_worldmodel")
    if spec is None or spec.submodule_search_locations is None:
        return None
    root, before = Path(next(iter(spec.submodule_search_locations))), set(sys.modules)
    for name in ("stable_worldmodel", "stable_worldmodel.wm", "stable_worldmodel.solver"):
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules.setdefault(name, package)
    found: Any = types.SimpleNamespace()
    for module, names in {
        "stable_worldmodel.wm.lewm": ["LeWM"],
        "stable_worldmodel.wm.lewm.module": ["Predictor", "Embedder"],
        "stable_worldmodel.solver.cem": ["CEMSolver"],
    }.items():
        for name in names:
            setattr(found, name, getattr(importlib.import_module(module), name))
    for name in set(sys.modules) - before:  # packages without their contents are nobody else's
        if name.partition(".")[0] == "stable_worldmodel":
            del sys.modules[name]
    return found


def make_peer(modules: types.SimpleNamespace) -> nn.Module:
    """Returns a LeWM of the size for PushT with random weights, in which actions matter."""
    torch.manual_seed(0)
    predictor = modules.Predictor(
        num_frames=WINDOW, depth=DEPTH, heads=HEADS, mlp_dim=MLP_DIM, input_dim=DIM,
        hidden_dim=DIM, dim_head=HEAD_DIM,
    )  # fmt: skip
    embedder = modules.Embedder(ACTION_DIM, ACTION_DIM, DIM)
    model = modules.LeWM(nn.Identity(), predictor, embedder)
    for block in predictor.transformer.layers:  # zero at first: no action would do anything
        nn.init.normal_(block.adaLN_modulation[-1].weight, std=0.1)
        nn.init.normal_(block.adaLN_modulation[-1].bias, std=0.1)
    return model.eval().requires_grad_(False)


class PeerPlanner:
    """The peer's search on its module."""

    def __init__(self, modules: types.SimpleNamespace, model: nn.Module, case: PeerCase) -> None:
        self._solver, self._model, self._case = modules.CEMSolver, model, case

    def plan(self, start: Tensor, goal: Tensor, *, seed: int) -> Tensor:
        """Plans between embeddings (dim,): returns (horizon, action_dim), the last mean."""
        solver = self._solver(
            self._model, num_samples=self._case.samples, n_steps=self._case.iterations,
            topk=NUM_ELITES, seed=seed,
        )  # fmt: skip
        config = types.SimpleNamespace(horizon=self._case.horizon, action_block=1)
        space = _boxes(ACTION_DIM)
        solver.configure(action_space=space, n_envs=1, config=config)
        known = {  # encoded already, as the peer's cache has it from the second iteration on
            "pixels": torch.zeros(1, 1, 3, 1, 1),
            "goal": torch.zeros(1, 1, 3, 1, 1),
            "emb": start[None, None],
            "goal_emb": goal[None, None],
        }
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its time
            return solver.solve(known)["actions"][0]

    @torch.inference_mode()
    def costs(self, start: Tensor, goal: Tensor, actions: Tensor) -> Tensor:
        """Returns the peer's costs (samples,) of actions (samples, horizon, action_dim)."""
        count = len(actions)
        known = {
            "pixels": torch.zeros(1, count, 1, 3, 1, 1),
            "goal": torch.zeros(1),
            "emb": start.expand(1, count, 1, -1),
            "goal_emb": goal.expand(1, count, 1, -1),
        }
        return self._model.get_cost(known, actions[None])[0]  # pyright: ignore[reportCallIssue]


def _boxes(action_dim: int) -> Any:
    from gymnasium.spaces import Box  # the peer's search asks for one

    return Box(-np.inf, np.inf, (1, action_dim), np.float32)


class OurPeerPlanner:
    """The same search on the same weights, rolled out as we would.

    Args:
        model: a LeWM of the peer.
        case: budget.
        dtype: of products.
        samples_per_chunk: sequences imagined at a time.
    """

    def __init__(
        self,
        model: Any,
        case: PeerCase,
        *,
        dtype: torch.dtype = torch.float32,
        samples_per_chunk: int = 100,
    ) -> None:
        predictor = model.predictor
        self._case, self._dtype, self._chunk = case, dtype, samples_per_chunk
        self._embedder = model.action_encoder
        self._places = predictor.pos_embedding[0]
        self._blocks = [_Block(layer, dtype) for layer in predictor.transformer.layers]
        self._norm = predictor.transformer.norm

    @torch.inference_mode()
    def plan(self, start: Tensor, goal: Tensor, *, seed: int) -> Tensor:
        """See `PeerPlanner.plan`."""
        case, generator = self._case, torch.Generator().manual_seed(seed)
        mean = torch.zeros(case.horizon, ACTION_DIM)
        std = torch.ones_like(mean)
        for _ in range(case.iterations):
            noise = torch.randn(1, case.samples, *mean.shape, generator=generator)[0]
            actions = noise * std + mean
            actions[0] = mean
            costs = self.costs(start, goal, actions)
            elites = actions[costs.topk(NUM_ELITES, largest=False).indices]
            mean, std = elites.mean(0), elites.std(0)
        return mean

    @torch.inference_mode()
    def costs(self, start: Tensor, goal: Tensor, actions: Tensor) -> Tensor:
        """See `PeerPlanner.costs`."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            last = [self._last(start, part) for part in actions.split(self._chunk)]
        return (torch.cat(last).float() - goal).square().sum(-1)

    def _last(self, start: Tensor, actions: Tensor) -> Tensor:
        """Returns (samples, dim), after the last action."""
        condition = F.silu(self._embedder(actions))  # (samples, horizon, dim)
        changes = [block.changes(condition) for block in self._blocks]
        frames, cache = [start.expand(len(actions), -1)], []
        for step in range(actions.shape[1]):
            first = max(step + 1 - WINDOW, 0)
            if first:  # the window slides: all its frames change places
                cache, begin = [None] * len(self._blocks), first
            else:
                cache, begin = cache or [None] * len(self._blocks), step
            x = torch.stack(frames[begin:], 1) + self._places[begin - first : step + 1 - first]
            for index, block in enumerate(self._blocks):
                is_last = index == len(self._blocks) - 1
                change = changes[index][:, begin : step + 1]
                x, cache[index] = block(x, change, cache[index], only_newest=is_last)
            frames.append(self._norm(x[:, -1]).float())
        return frames[-1]


class _Block:
    """One block of the peer, with its weights where they are multiplied fast."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self._attn_norm, self._mlp_norm = layer.attn.norm, layer.mlp.net[0]
        self._qkv = _copied(layer.attn.to_qkv, dtype)
        self._proj = _copied(layer.attn.to_out[0], dtype)
        self._modulation = _copied(layer.adaLN_modulation[1], dtype)
        self._mlp = MLP(DIM, MLP_DIM)
        self._mlp[0], self._mlp[2] = (_copied(layer.mlp.net[i], dtype) for i in (1, 4))

    def changes(self, condition: Tensor) -> Tensor:
        """Returns (samples, horizon, 6 * dim) of conditions that have passed SiLU."""
        return self._modulation(condition)

    def __call__(
        self, x: Tensor, change: Tensor, past: Any, *, only_newest: bool
    ) -> tuple[Tensor, Any]:
        """Maps new frames (samples, frames, dim); see frames before in `past`."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = change.chunk(6, -1)
        normed = self._attn_norm(torch.addcmul(shift, F.layer_norm(x, (DIM,), eps=1e-6), 1 + scale))
        qkv = self._qkv(normed).unflatten(-1, (3, HEADS, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv
        if past is not None:
            keys, values = (torch.cat(pair, 2) for pair in zip(past, (keys, values), strict=True))
        if only_newest:
            queries, x = queries[:, :, -1:], x[:, -1:]
            gate, mlp_shift, mlp_scale, mlp_gate = (
                part[:, -1:] for part in (gate, mlp_shift, mlp_scale, mlp_gate)
            )
        count = queries.shape[2]
        is_visible = None
        if count > 1:
            is_visible = torch.ones(count, keys.shape[2], dtype=torch.bool).tril()
        attended = attend(queries, keys, values, is_visible=is_visible)
        x = x + gate * self._proj(attended.transpose(1, 2).flatten(2))
        normed = torch.addcmul(mlp_shift, F.layer_norm(x, (DIM,), eps=1e-6), 1 + mlp_scale)
        return x + mlp_gate * self._mlp(self._mlp_norm(normed)), (keys, values)


def _copied(layer: nn.Linear, dtype: torch.dtype) -> Linear:
    copy = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    copy.load_state_dict(layer.state_dict())
    return copy.to(dtype).requires_grad_(False)
