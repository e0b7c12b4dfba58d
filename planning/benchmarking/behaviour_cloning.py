"""Goal-conditioned behaviour cloning: what the recorded data give away without any planning.

A small network looks at a frame and at a later frame of the same recording, its goal in hindsight
(as GCBC in OGBench, arXiv:2410.20092, Sec. 5.1), and says which action was taken. It imagines
nothing: where it is as good as a planner, the world model has not earned its cost.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_pipelines.datamodules import TrajectoryDataModule
from planning.types import Environment, TimeStep

logger = logging.getLogger(__name__)

FRAME_NOISE = 8.0  # of 255: what compression does to pixels that never change
SHARPNESS = 5.0  # of the places at first: a flat softmax has hardly a gradient
FRAMES_FOR_STATISTICS = 2000


@dataclass(frozen=True)
class CloningRecipe:
    """How the network is trained.

    Args:
        num_steps: of the optimizer.
        batch_size: frames with goals per step.
        learning_rate: of AdamW, falling to 0 along a cosine.
        max_ahead: a goal is up to so many actions ahead.
        max_bytes: of frames that are kept in memory; of more recordings, only a part is used.
        seed: of weights, of what is used, and of goals.

    Raises:
        ValueError: if a number is not positive.
    """

    num_steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 1e-3
    max_ahead: int = 50
    max_bytes: int = 1 << 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "learning_rate", "max_ahead", "max_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


class Recordings(NamedTuple):
    """Parts of trajectories, in memory.

    Attributes:
        frames: (trajectories, time, 3, height, width), uint8.
        actions: (trajectories, time - 1, action_dim), float32.
        used: share of all trajectories.
    """

    frames: Tensor
    actions: Tensor
    used: float = 1.0


class CloningNetwork(nn.Module):
    """Frame and goal frame to an action.

    Pictures are seen as differences from the mean picture: what never changes is none of them.
    Without that, some hundred steps teach it nothing but the mean action.

    Args:
        recordings: what it will imitate, for their means and standard deviations.
    """

    frame_mean: Tensor
    frame_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(self, recordings: Recordings) -> None:
        super().__init__()
        num_actions = recordings.actions.shape[-1]
        self.features = nn.Sequential(
            nn.Conv2d(6, 32, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 64, 3, padding=1),
        )
        self.head = nn.Sequential(
            nn.Linear(3 * 64, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(),
            nn.Linear(256, num_actions),
        )  # fmt: skip
        frames = recordings.frames.flatten(0, 1)
        frames = frames[:: 1 + len(frames) // FRAMES_FOR_STATISTICS]
        frame_std, frame_mean = torch.std_mean(frames.float(), dim=0, correction=0)
        action_std, action_mean = torch.std_mean(
            recordings.actions.flatten(0, 1), dim=0, correction=0
        )
        self.register_buffer("frame_mean", frame_mean)
        self.register_buffer("frame_std", frame_std + FRAME_NOISE)
        self.register_buffer("action_mean", action_mean)
        self.register_buffer("action_std", action_std)

    def forward(self, frames: Tensor, goals: Tensor) -> Tensor:
        """Returns actions (batch, action_dim) in raw units.

        Args:
            frames: (batch, 3, height, width), uint8.
            goals: likewise.
        """
        seen = [(part.float() - self.frame_mean) / self.frame_std for part in (frames, goals)]
        features = self.features(torch.cat(seen, dim=1))  # (batch, channels, rows, columns)
        places = torch.cat((where_it_is(SHARPNESS * features), features.mean((-2, -1))), dim=1)
        return self.action_mean + self.action_std * self.head(places)


def where_it_is(features: Tensor) -> Tensor:
    """Returns the mean place of each channel, by the softmax of its values.

    As in Levine et al. (arXiv:1504.00702, Sec. 5.1): what matters of a picture is where things are.

    Args:
        features: (batch, channels, rows, columns).

    Returns:
        (batch, 2 * channels): places along rows, then along columns, each in [-1, 1].
    """
    weights = features.flatten(2).softmax(-1).unflatten(-1, features.shape[-2:])
    rows, columns = (
        torch.linspace(-1, 1, size, device=features.device) for size in features.shape[-2:]
    )
    along_rows = (weights.sum(-1) * rows).sum(-1)
    along_columns = (weights.sum(-2) * columns).sum(-1)
    return torch.cat((along_rows, along_columns), dim=1)


class CloningPolicy:
    """Asks the network at every step; remembers nothing.

    Args:
        network: trained.
        device: where it runs.
    """

    def __init__(self, network: CloningNetwork, *, device: str = "cpu") -> None:
        self._network, self._device = network.eval().to(device), device

    @torch.no_grad()
    def __call__(
        self, environment: Environment, time_step: TimeStep, generator: np.random.Generator
    ) -> np.ndarray:
        """Returns the action for this frame and the goal's frame."""
        shown = np.stack((time_step.frame, environment.goal.frame))
        frame, goal = torch.from_numpy(shown).to(self._device).permute(0, 3, 1, 2).split(1)
        return self._network(frame, goal)[0].cpu().numpy()


def clone_behaviour(
    recordings: Recordings, *, recipe: CloningRecipe = CloningRecipe(), device: str = "cpu"
) -> CloningNetwork:
    """Trains the network; equal seeds give equal weights on one machine.

    Args:
        recordings: what to imitate, from `read_recordings`.
        recipe: how.
        device: where.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = CloningNetwork(recordings).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.num_steps)
    generator = torch.Generator().manual_seed(recipe.seed)
    scale = network.action_std.clamp_min(1e-6)
    for step in range(recipe.num_steps):
        frames, goals, wanted = hindsight_pairs(
            recordings, recipe.batch_size, max_ahead=recipe.max_ahead, generator=generator
        )
        predicted = network(frames.to(device), goals.to(device))
        loss = F.l1_loss(predicted / scale, wanted.to(device) / scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == recipe.num_steps - 1:
            logger.info("behaviour cloning: step %d, loss %.3f stds", step, loss.item())
    return network.eval()


def hindsight_pairs(
    recordings: Recordings, num_pairs: int, *, max_ahead: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws frames, later frames of the same recording as goals, and the actions taken.

    Args:
        recordings: to draw from.
        num_pairs: how many.
        max_ahead: a goal is at most so many actions ahead.
        generator: randomness.

    Returns:
        Frames and goals (pairs, 3, height, width), actions (pairs, action_dim).
    """
    frames, actions, _ = recordings
    which = torch.randint(len(frames), (num_pairs,), generator=generator)
    now = torch.randint(actions.shape[1], (num_pairs,), generator=generator)
    most = (actions.shape[1] - now).clamp_max(max_ahead)
    later = now + 1 + (torch.rand(num_pairs, generator=generator) * most).long()
    return frames[which, now], frames[which, later], actions[which, now]


def read_recordings(
    shards: str | Path, *, image_size: int, recipe: CloningRecipe = CloningRecipe()
) -> Recordings:
    """Reads recorded trajectories into memory: each one from a random start, all of one length.

    That length is the 5 % quantile of all lengths; shorter ones are left out.

    Args:
        shards: folder of trajectory shards.
        image_size: height and width of the environment's frames.
        recipe: says how much, and seeds the choice.

    Raises:
        FileNotFoundError, data_pipelines.tar_headers.ShardError: if there are no such shards.
    """
    index = TrajectoryDataModule(str(shards), 2, image_size=image_size).index
    lengths = [s.metadata.num_frames for s in index.samples if s.metadata is not None]
    length = max(2, int(np.quantile(lengths, 0.05, method="lower")))
    most = max(1, recipe.max_bytes // (3 * length * image_size**2))
    count = min(index.num_samples, most)
    data = TrajectoryDataModule(
        str(shards),
        length,
        image_size=image_size,
        batch_size=1,
        steps_per_epoch=count,
        max_skipped_fraction=0.1,
        seed=recipe.seed,
    )
    with torch.random.fork_rng(devices=[]):  # loaders draw a seed that is not used here
        batches = [batch.only_valid() for batch in data.train_dataloader()]
    return Recordings(
        torch.cat([batch.frames for batch in batches]).transpose(1, 2).contiguous(),
        torch.cat([batch.actions for batch in batches]),
        count / index.num_samples,
    )
