"""What recorded trajectories say of a world model: known latents, and normal disagreement."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data_pipelines.datamodules import ActionMode, ActionReduction, TrajectoryDataModule
from planning.costs.latent_banks import LatentBank, Mahalanobis, NearestLatents
from planning.types import WorldModel

HELD_OUT = 5  # of so many trajectories, one calibrates
WINDOWS_EACH = 4  # of a trajectory that is opened


def bank_of_shards(
    world: WorldModel,
    shards: str | Path,
    *,
    image_size: int,
    kind: type[Mahalanobis] | type[NearestLatents] = Mahalanobis,
    num_frames: int = 2000,
    quantile: float = 0.99,
    is_pooled: bool = False,
    seed: int = 0,
) -> LatentBank:
    """Encodes frames of recorded trajectories, and makes a bank of them.

    One trajectory in five calibrates the threshold: other frames of a trajectory that the bank
    knows would look more familiar than new ones will.

    Args:
        world: encodes the frames.
        shards: folder of trajectory shards.
        image_size: height and width of the frames that the world model sees, in pixels.
        kind: `Mahalanobis` is small and smooth; `NearestLatents` follows any shape of the data.
        num_frames: frames to encode, about; the same number of each trajectory.
        quantile: share of held-out frames that are to count as known, in (0, 1).
        is_pooled: see `LatentBank`.
        seed: of the frames.

    Raises:
        ValueError: if there are too few trajectories, or an argument is out of range.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    trajectories = _latents_by_trajectory(
        world, str(shards), image_size=image_size, num_frames=num_frames, seed=seed
    )
    known, held_out = [], []
    for position, key in enumerate(sorted(trajectories)):
        (held_out if position % HELD_OUT == 0 else known).append(torch.stack(trajectories[key]))
    if not known:
        raise ValueError(f"{shards} holds one trajectory only: none is left to calibrate on")
    return kind.fit(torch.cat(known), torch.cat(held_out), quantile=quantile, is_pooled=is_pooled)


def disagreement_on_shards(
    world: WorldModel,
    shards: str | Path,
    *,
    horizon: int,
    image_size: int,
    num_windows: int = 256,
    frame_stride: int = 1,
    actions: ActionMode = "recorded",
    action_reduction: ActionReduction = "equal",
    seed: int = 0,
) -> Tensor:
    """Returns how far the members of an ensemble disagree along recorded actions.

    Args:
        world: encodes first frames, and imagines what was done from there.
        shards: folder of trajectory shards; such that it was not trained on, if there are any.
        horizon: actions in a window.
        image_size: height and width of the frames that the world model sees, in pixels.
        num_windows: at least so many, if the trajectories are long enough.
        frame_stride: recorded frames that an action of the model spans.
        actions: how it spans them, see `TrajectoryDataModule`.
        action_reduction: see `TrajectoryDataModule`.
        seed: of the windows.

    Returns:
        (windows, horizon), at least 0.

    Raises:
        ValueError: if the world model has one member, or no trajectory is long enough.
    """
    data = TrajectoryDataModule(
        str(shards),
        horizon + 1,
        image_size=image_size,
        batch_size=WINDOWS_EACH,
        windows_per_trajectory=WINDOWS_EACH,
        frame_stride=frame_stride,
        actions=actions,
        action_reduction=action_reduction,
        steps_per_epoch=max(1, round(num_windows / WINDOWS_EACH)),
        seed=seed,
    )
    found = []
    for batch in data.train_dataloader():
        frames = batch.frames[:, :, 0].permute(0, 2, 3, 1).numpy()
        starts = [
            world.encode(frame, state)
            for frame, state in zip(frames, batch.states[:, 0].numpy(), strict=True)
        ]
        for start, window in zip(starts, batch.actions, strict=True):
            with torch.inference_mode():
                imagined = world.rollout(start, window[None].to(start.tokens))
            if imagined.disagreement is None:
                raise ValueError("the world model has one member, so nothing disagrees")
            found.append(imagined.disagreement[0].clone())
    return torch.stack(found)


def _latents_by_trajectory(
    world: WorldModel, shards: str, *, image_size: int, num_frames: int, seed: int
) -> dict[str, list[Tensor]]:
    """Returns latents (tokens, dim) of frames drawn at random, by the key of their trajectory."""
    # Of the shortest windows, of two frames, the first frame is taken.
    num_trajectories = TrajectoryDataModule(shards, 2).index.num_samples
    frames_each = max(1, round(num_frames / num_trajectories))
    data = TrajectoryDataModule(
        shards,
        2,
        image_size=image_size,
        batch_size=frames_each,
        windows_per_trajectory=frames_each,
        seed=seed,
    )
    latents: dict[str, list[Tensor]] = {}
    for batch in data.train_dataloader():
        frames = batch.frames[:, :, 0].permute(0, 2, 3, 1).numpy()
        for key, frame, state in zip(batch.keys, frames, batch.states[:, 0].numpy(), strict=True):
            latents.setdefault(key, []).append(world.encode(frame, state).tokens)
    return latents
