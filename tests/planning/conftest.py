"""Worlds whose answers can be worked out by hand, and a tiny trained-like world model."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from planning.actions.space import ActionSpec
from planning.costs import GoalDistance
from planning.types import Latent, Plan


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


class SumWorld:
    """The latent is one token: where it starts, plus the sum of the actions."""

    def __init__(self, action_dim):
        self.action_dim = action_dim
        self.imagined = []  # every batch of actions that was asked for

    def encode(self, frame, state=None):
        raise AssertionError("a planner never sees a frame")

    def rollout(self, start, actions):
        self.imagined.append(actions.detach().clone())
        tokens = start.tokens[..., None, None, :, :]  # before samples and steps
        return Latent(tokens + actions.cumsum(-2).unsqueeze(-2))


@dataclass(frozen=True)
class Problem:
    """A world, a start, a goal and bounds: what `plan` needs besides the planner."""

    world: SumWorld
    start: Latent
    cost: GoalDistance
    action_spec: ActionSpec

    def solved_by(self, planner, *, seed=0, cost=None, **options):
        return planner.plan(
            self.world,
            self.start,
            cost=cost or self.cost,
            action_spec=self.action_spec,
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    def cost_of(self, actions):
        actions = torch.as_tensor(actions, dtype=torch.float32)[None]
        return float(self.cost(self.world.rollout(self.start, actions), actions))


def _squared_distance(latents, goal):
    return (latents - goal).square().sum((-2, -1))


@pytest.fixture(scope="session")
def make_problem():
    """Minimise the squared distance of the sum of the actions to `goal`."""

    def make(goal, *, low=None, high=None, start=None, reduction="last"):
        dim = len(goal)
        spec = ActionSpec(
            tuple(f"a{axis}" for axis in range(dim)),
            ("1",) * dim,
            tuple(low or (-1.0,) * dim),
            tuple(high or (1.0,) * dim),
        )
        cost = GoalDistance(Latent(torch.tensor([goal])), _squared_distance, reduction)
        start = torch.tensor([start or (0.0,) * dim])
        return Problem(SumWorld(dim), Latent(start), cost, spec)

    return make


@pytest.fixture(scope="session")
def make_plan():
    """A plan with these actions (horizon, action_dim); the rest is of no account."""

    def make(actions):
        actions = torch.as_tensor(actions, dtype=torch.float32)
        spread = torch.full_like(actions, 0.1)
        return Plan(actions, 0.0, 1, [0.0], [0.0], spread, actions, 1, 0.0)

    return make


@pytest.fixture(scope="session")
def rooms():
    """Makes two rooms of 32 pixels: a step is at most 2.5 pixels, success within 2."""
    from planning.environments.two_rooms import TwoRooms

    def make(max_steps=50):
        return TwoRooms(image_size=32, max_steps=max_steps)

    return make


@pytest.fixture(scope="session")
def disc_position():
    """Reads (x, y) off a frame of two rooms: the centre of what is not background."""
    from planning.environments.two_rooms import TwoRooms

    def read(frame):
        size = frame.shape[0]
        background = TwoRooms(image_size=size).render(np.array([-100.0, -100.0])).astype(float)
        weight = np.abs(frame - background).sum(-1)
        weight = np.where(weight > 40, weight, 0)
        y, x = np.mgrid[:size, :size] + 0.5
        return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()

    return read


@pytest.fixture
def make_model(rooms):
    """Makes an untrained world model of two rooms; slow features are fitted to a random walk."""
    from jepa.models.encoder import VideoEncoder
    from jepa.models.latents import FrameMoments, PatchTokens, SlowFeatures
    from jepa.models.world_model import ColumnScaling, LatentWorldModel

    def walk(num_frames):
        room, generator = rooms(), np.random.default_rng(0)
        position, frames = room.sample_position(generator), []
        for _ in range(num_frames):
            position = room.move(position, room.action_spec.sample(generator))
            frames.append(room.render(position))
        return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None]

    def make(*, latents="slow", uses_state=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            space = (
                SlowFeatures(num_features=4, num_components=16, pool_grid=(2, 2))
                if latents == "slow"
                else PatchTokens()
            )
            model = LatentWorldModel(
                VideoEncoder(
                    image_size=32,
                    clip_length_frames=2,
                    patch_size=8,
                    dim=48,
                    depth=1,
                    num_heads=2,
                ),
                space,
                scaling=ColumnScaling((16.0, 15.0), (8.0, 7.0), (0.1, -0.2), (1.4, 1.5)),
                uses_state=uses_state,
                dim=48,
                depth=2,
                num_heads=2,
            )
        if latents == "slow":
            tokens = space.flatten(model.encode_patches(walk(60)))
            moments = FrameMoments(tokens.shape[-1])
            moments.add(tokens)
            space.fit(moments)
        return model

    return make


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory):
    """Writes a tiny untrained world model of two rooms as a run folder; returns the folder."""
    from jepa.checkpoints.native import save_world_model
    from jepa.models.encoder import VideoEncoder
    from jepa.models.latents import PooledTokens
    from jepa.models.world_model import ColumnScaling, LatentWorldModel

    def make(*, image_size=64, action_dim=2, change=None, dynamics=None, **options):
        sizes = {"dim": 24, "depth": 1, "num_heads": 2} if dynamics is None else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = LatentWorldModel(
                VideoEncoder(
                    image_size=image_size,
                    clip_length_frames=2,
                    patch_size=16,
                    dim=24,
                    depth=1,
                    num_heads=2,
                ),
                PooledTokens(),
                scaling=ColumnScaling(
                    (32.0, 32.0), (18.0, 19.0), (0.0,) * action_dim, (2.9,) * action_dim
                ),
                dynamics=dynamics,
                **{"uses_state": True, **sizes, **options},
            )
        if change is not None:
            with torch.no_grad():
                change(model)
        folder = tmp_path_factory.mktemp("run")
        save_world_model(model, folder / "world_model")
        return folder

    return make


@pytest.fixture(scope="session")
def checkpoint(make_checkpoint):
    """An untrained world model of two rooms of 64 pixels."""
    return make_checkpoint()
