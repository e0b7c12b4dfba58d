"""Worlds whose every number is known: latents of two numbers that actions push about."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from data_pipelines.shards import ShardIndex  # noqa: F401  (the hook of the package)
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.models.conv_encoder import ConvEncoder
from jepa.models.dynamics import Dynamics, Prediction
from jepa.models.latents import PooledTokens
from jepa.models.world_model import ActionColumns, ColumnScaling, LatentWorldModel
from planning.baselines import random_actions
from planning.environments.two_rooms import TwoRooms
from planning.recording import record_episodes

NAMES = ("dx", "dy")


class Linear(Dynamics):
    """The next latent is decay * latent + action @ push, whatever the past."""

    def __init__(self, decay=1.0, push=((1.0, 0.0), (0.0, 1.0))):
        super().__init__()
        self.config = {}
        self.decay, self.push = decay, torch.tensor(push)

    def make_trunk(self):
        return 1

    def features(self, tokens, states, actions):
        raise NotImplementedError

    def step_features(self, tokens, state, action, *, memory=None):
        raise NotImplementedError

    def remember(self, tokens, states, actions):
        return None

    def forward(self, tokens, states, actions):
        return Prediction(self.decay * tokens + (actions @ self.push).unsqueeze(-2), states)

    def step(self, tokens, state, action, *, memory=None):
        return self.forward(tokens, state, action), None


class PeeksWhenTaught(Linear):
    """Looks at the last of the true frames that it is shown."""

    def forward(self, tokens, states, actions):
        prediction = super().forward(tokens, states, actions)
        if tokens.ndim == 4:
            prediction = prediction._replace(tokens=prediction.tokens + 0.1 * tokens[:, -1:])
        return prediction


class PeeksWhenImagining(Linear):
    """Looks at the last action of a whole sequence."""

    def rollout(self, tokens, state, actions, *, memory=None, truncate_after=None):
        prediction = super().rollout(tokens, state, actions)
        return prediction._replace(tokens=prediction.tokens + 0.1 * actions[:, -1:, None])


class Keeper(Linear):
    """Adds all actions to the first frame and looks at no other: nothing can be hidden from it."""

    def forward(self, tokens, states, actions):
        if tokens.ndim == 3:
            return super().forward(tokens, states, actions)
        return Prediction(tokens[:, :1] + (actions @ self.push).cumsum(1).unsqueeze(-2), states)


class HalfKeeper(Keeper):
    """The same, with a large error."""

    def forward(self, tokens, states, actions):
        prediction = super().forward(tokens, states, actions)
        return prediction._replace(tokens=prediction.tokens + 3.0)


class Shortsighted(Linear):
    """Says that it sees one frame at a time."""

    @property
    def max_context_frames(self):
        return 1


KINDS = {
    "linear": Linear,
    "peeks when taught": PeeksWhenTaught,
    "peeks when imagining": PeeksWhenImagining,
    "keeper": Keeper,
    "half keeper": HalfKeeper,
    "shortsighted": Shortsighted,
}


def make_world(kind="linear", *, names=NAMES, num_steps=1, **options):
    """A world model of the given dynamics on latents of two numbers; nothing is scaled."""
    dim = len(names)
    actions = ActionColumns(
        names=names,
        units=("1",) * dim,
        low=(-9.0,) * dim,
        high=(9.0,) * dim,
        frames_per_second=10.0,
        mode="recorded" if num_steps == 1 else "concatenate",
        reduction="equal",
        num_steps=num_steps,
    )
    model = LatentWorldModel(
        ConvEncoder(image_size=16, widths=(8,)),
        PooledTokens(dim=2, is_standardized=False),
        scaling=ColumnScaling((), (), (0.0,) * dim, (1.0,) * dim),
        uses_state=False,
        dynamics=KINDS[kind](**options),
        actions=actions,
    )
    return model.eval().requires_grad_(False)


def make_windows(
    *,
    decay=1.0,
    push=((1.0, 0.0), (0.0, 1.0)),
    noise=0.0,
    num_episodes=20,
    per_episode=4,
    horizon=6,
    names=NAMES,
    states=None,
    seed=0,
):
    """Windows of the linear world itself: normal actions, noise at every step."""
    generator = torch.Generator().manual_seed(seed)
    count = num_episodes * per_episode
    actions = torch.randn(count, horizon, len(names), generator=generator)
    latents = [torch.randn(count, 1, 2, generator=generator)]
    for action in actions.unbind(1):
        shaken = noise * torch.randn(count, 1, 2, generator=generator)
        latents.append(decay * latents[-1] + (action @ torch.tensor(push)).unsqueeze(1) + shaken)
    latents = torch.stack(latents, 1)  # (windows, time, 1, 2)
    frames = torch.randint(256, (count, 3, horizon + 1, 16, 16), generator=generator)
    return HeldOutWindows(
        frames=frames.to(torch.uint8),
        latents=latents,
        states=torch.zeros(count, horizon + 1, 0),
        recorded_states=torch.zeros(count, horizon + 1, 0) if states is None else states,
        actions=actions,
        episodes=np.arange(count) // per_episode,
        action_names=names,
        action_units=("1",) * len(names),
        state_names=() if states is None else ("x", "y"),
    )


@pytest.fixture(scope="session")
def toys():
    """Makers of worlds and of what happens in them."""
    return SimpleNamespace(world=make_world, windows=make_windows)


@pytest.fixture(scope="session")
def two_rooms_shards(tmp_path_factory):
    """Twelve episodes of two_rooms that no checkpoint was trained on."""
    folder = tmp_path_factory.mktemp("two_rooms") / "shards"
    record_episodes(
        TwoRooms(), lambda: random_actions, folder, num_episodes=12, num_steps=14, seed=12345
    )
    return str(folder)


@pytest.fixture(scope="session")
def blue_shards(tmp_path_factory):
    """The same with a blue disc."""
    folder, rooms = tmp_path_factory.mktemp("two_rooms_blue") / "shards", TwoRooms()
    rooms.vary({"colour.agent": (0.1, 0.2, 0.9)})
    record_episodes(rooms, lambda: random_actions, folder, num_episodes=6, num_steps=14, seed=12346)
    return str(folder)


class MixesTime(nn.Module):
    """An encoder that blends every frame with the last one."""

    dim, grid, tubelet, config = 2, (1, 1, 1), (1, 16, 16), {}

    def encode_frames(self, frames):
        colours = frames.float().mean((3, 4)).transpose(1, 2)[:, :, None, :2] / 255
        return colours + 0.1 * colours[:, -1:]


@pytest.fixture
def mixes_time():
    """An encoder that is not causal."""
    return MixesTime()
