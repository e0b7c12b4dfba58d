"""Windows of recorded episodes that the world model was not trained on, encoded once."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jepa.models.world_model import ActionColumns, LatentWorldModel

DATAMODULES = "data_pipelines.datamodules"  # by name: `jepa` does not import the pipelines
WINDOWS_AT_ONCE = 16  # through the encoder and the dynamics
SAME_RATE = 1e-3  # relatively
POSES_PER_SECOND = 4.0  # V-JEPA 2-AC (arXiv:2506.09985, Sec. 3.1), where a checkpoint says nothing


@dataclass(frozen=True)
class HeldOutWindows:
    """Windows of episodes, several of each.

    Attributes:
        frames: (windows, 3, time, height, width), uint8.
        latents: (windows, time, tokens, dim), of every frame on its own.
        states: (windows, time, state_dim), normalised; state_dim is 0 if the model uses none.
        recorded_states: (windows, time, recorded state_dim), raw units, used or not.
        actions: (windows, time - 1, action_dim), raw units.
        episodes: (windows,), int: which episode a window is of, from 0.
        action_names: one per action dimension.
        action_units: likewise.
        state_names: one per recorded state column.
        num_past: frames before the one that rollouts start from.
    """

    frames: Tensor
    latents: Tensor
    states: Tensor
    recorded_states: Tensor
    actions: Tensor
    episodes: np.ndarray
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    state_names: tuple[str, ...]
    num_past: int = 0

    @property
    def horizon(self) -> int:
        """Actions from the frame that rollouts start from to the last frame."""
        return self.actions.shape[1] - self.num_past

    @property
    def num_episodes(self) -> int:
        """How many episodes there are."""
        return len(np.unique(self.episodes))

    @property
    def start_latents(self) -> Tensor:
        """(windows, tokens, dim), of the frame that rollouts start from."""
        return self.latents[:, self.num_past]

    @property
    def future_latents(self) -> Tensor:
        """(windows, horizon, tokens, dim), of the frames after it: what comes true."""
        return self.latents[:, self.num_past + 1 :]

    @property
    def future_actions(self) -> Tensor:
        """(windows, horizon, action_dim), raw units: what is done from there on."""
        return self.actions[:, self.num_past :]

    def per_episode(self, values: np.ndarray) -> np.ndarray:
        """Returns means over the windows of each episode: (windows, ...) to (episodes, ...)."""
        _, which, counts = np.unique(self.episodes, return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), *values.shape[1:]))
        np.add.at(sums, which, values)
        return sums / counts.reshape(-1, *[1] * (values.ndim - 1))

    def some(self, count: int) -> HeldOutWindows:
        """Returns at most so many of the windows, evenly spaced: of as many episodes as can be."""
        last = len(self.episodes) - 1
        return self.chosen(np.unique(np.linspace(0, last, count).round().astype(np.int64)))

    def chosen(self, indices: np.ndarray) -> HeldOutWindows:
        """Returns some of the windows (chosen,), by their number."""
        index = torch.from_numpy(indices)
        names = ("frames", "latents", "states", "recorded_states", "actions")
        parts = {name: getattr(self, name) for name in names}
        parts = {name: values[index.to(values.device)] for name, values in parts.items()}
        return replace(self, **parts, episodes=self.episodes[indices])

    def donors(self, generator: np.random.Generator) -> np.ndarray:
        """Draws for every window one of another episode: (windows,) indices.

        Raises:
            ValueError: if there is one episode only.
        """
        if self.num_episodes < 2:
            raise ValueError("there is no other episode to take a window from: one is all there is")
        others = [np.flatnonzero(self.episodes != episode) for episode in self.episodes]
        return np.array([generator.choice(indices) for indices in others])


def load_windows(
    model: LatentWorldModel,
    shards: str,
    *,
    horizon: int,
    windows_per_episode: int = 4,
    max_episodes: int = 64,
    seed: int = 0,
) -> HeldOutWindows:
    """Reads windows of trajectory shards, as long and as wide as the model wants them.

    Args:
        model: says the size of frames, what an action is, and how many frames it starts from.
        shards: folder of trajectory shards that were not trained on.
        horizon: actions that are imagined in a window.
        windows_per_episode: from random moments of each.
        max_episodes: at most so many, drawn at random.
        seed: of episodes and moments.

    Raises:
        ValueError: if a number is out of range, or actions or states are others than the model's.
    """
    if min(horizon, windows_per_episode, max_episodes) < 1:
        raise ValueError(
            "horizon, windows_per_episode and max_episodes must be at least 1, got "
            f"{horizon}, {windows_per_episode} and {max_episodes}"
        )
    num_past = model.context_frames - 1
    data = importlib.import_module(DATAMODULES).TrajectoryDataModule(
        shards,
        num_past + 1 + horizon,
        image_size=model.encoder.grid[1] * model.encoder.tubelet[1],
        batch_size=windows_per_episode,
        windows_per_trajectory=windows_per_episode,
        seed=seed,
        **_action_options(model),
    )
    specification = data.specification
    _refuse_other_actions(model.actions, specification, shards)
    batches = [
        batch for _, batch in zip(range(max_episodes), data.train_dataloader(), strict=False)
    ]
    return _encoded(model, batches, specification, num_past)


@torch.inference_mode()
def encode_frames(model: LatentWorldModel, frames: Tensor) -> Tensor:
    """Encodes frames (windows, 3, time, height, width) in parts: (windows, time, tokens, dim)."""
    device = model.action_mean.device
    return torch.cat([model.encode(part.to(device)) for part in frames.split(WINDOWS_AT_ONCE)])


def _encoded(
    model: LatentWorldModel,
    batches: list[Any],
    specification: Any,  # noqa: ANN401 - TrajectorySpecification, which we may not import
    num_past: int,
) -> HeldOutWindows:
    device = model.action_mean.device
    frames = torch.cat([batch.frames for batch in batches])
    keys = [key for batch in batches for key in batch.keys]
    states = torch.cat([batch.states for batch in batches]).to(device)
    return HeldOutWindows(
        frames=frames,
        latents=encode_frames(model, frames),
        states=model.normalize_states(states),
        recorded_states=states,
        actions=torch.cat([batch.actions for batch in batches]).to(device),
        episodes=np.unique(keys, return_inverse=True)[1],
        action_names=tuple(specification.action_names),
        action_units=tuple(specification.action_units),
        state_names=tuple(specification.state_names),
        num_past=num_past,
    )


def _action_options(model: LatentWorldModel) -> dict[str, Any]:
    """Returns how the data module makes the model's actions of the recorded ones."""
    actions = model.actions
    if actions is None and model.dynamics.needs_raw_units:  # it adds actions to poses
        return {"actions": "pose_difference", "frames_per_second": POSES_PER_SECOND}
    if actions is None or actions.mode == "recorded":
        return {}
    if actions.mode == "pose_difference":
        return {"actions": actions.mode, "frames_per_second": actions.frames_per_second}
    return {
        "actions": actions.mode,
        "action_reduction": actions.reduction,
        "frame_stride": actions.num_steps,
    }


def _refuse_other_actions(actions: ActionColumns | None, specification: Any, shards: str) -> None:  # noqa: ANN401
    """Raises unless the shards' actions are those that the model knows."""
    if actions is None:
        return
    names, rate = tuple(specification.action_names), specification.frames_per_second
    if names != tuple(actions.names):
        raise ValueError(
            f"{shards} has the actions {', '.join(names)}, the model was trained on "
            f"{', '.join(actions.names)}: give shards of the world that it knows"
        )
    if abs(rate / actions.frames_per_second - 1) > SAME_RATE:
        raise ValueError(
            f"{shards} gives {rate:g} actions per second, the model was trained on "
            f"{actions.frames_per_second:g}: the same numbers mean other movements"
        )
