"""Small worlds of an arm that a world model learns in a minute, for `planning.py`.

A pose is rendered to latents without an encoder: every patch sees bumps around the hand, of three
widths, scaled by its height and by the gripper, in random directions of the latent on a random
background. How an action moves the hand differs from world to world; in all but the first the
kinematics that the planners assume are wrong, and only the learned dynamics know.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from planning_contenders import MAX_GRIPPER, MAX_STEP_METRES, PlanCase, Task, make_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from jepa.models.world_model import LatentWorldModel
from planning.types import Latent

LOW = torch.tensor([0.3, -0.1, 0.2, 3.1, 0.0, 0.1, 0.0])
HIGH = torch.tensor([0.5, 0.1, 0.4, 3.1, 0.0, 0.1, 1.0])
WIDTHS = torch.tensor([0.15, 0.3, 0.6])
Motion = Callable[[Tensor, Tensor], Tensor]  # where in [0, 1] (..., 3), action -> metres (..., 3)


def straight(place: Tensor, action: Tensor) -> Tensor:
    """Moves as it is told."""
    return action[..., :3]


def sluggish(place: Tensor, action: Tensor) -> Tensor:
    """Moves by between a third and 4/3 of what it is told, more to the right."""
    return action[..., :3] * (1 / 3 + place[..., :1])


def turned(place: Tensor, action: Tensor) -> Tensor:
    """Moves in a direction that turns by up to 60 degrees with the place."""
    angle = (place[..., 1] - 0.5) * (2 * math.pi / 3)
    x, y, z = action[..., :3].unbind(-1)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack((cosine * x - sine * y, sine * x + cosine * y, z), -1)


MOTIONS: dict[str, Motion] = {"straight": straight, "sluggish": sluggish, "turned": turned}


class ArmWorld:
    """A hand in a box, seen as latents.

    Args:
        case: sizes of the latents.
        motion: name of how it moves, of `MOTIONS`.
        is_one_vector: all patches are seen as one latent.
    """

    def __init__(self, case: PlanCase, motion: str, *, is_one_vector: bool = False) -> None:
        self.case, self.motion, self.is_one_vector = case, MOTIONS[motion], is_one_vector
        generator = torch.Generator().manual_seed(0)
        num_seen, num_latents = 4 * len(WIDTHS), case.side**2
        if is_one_vector:
            num_seen, num_latents = num_seen * num_latents, 1
        self._mixing = torch.randn(num_seen, case.latent_dim, generator=generator)
        self._background = 0.5 * torch.randn(num_latents, case.latent_dim, generator=generator)
        axis = (torch.arange(case.side) + 0.5) / case.side
        self._patches = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)

    def render(self, pose: Tensor) -> Tensor:
        """Returns latents (..., patches or 1, latent_dim) of poses (..., 7)."""
        place = self._place(pose).unsqueeze(-2)  # (..., 1, 3)
        apart = (place[..., :2] - self._patches).square().sum(-1, keepdim=True)  # (..., patches, 1)
        bumps = (-apart / (2 * WIDTHS.square())).exp()
        height, gripper = place[..., 2:], pose[..., None, 6:]
        seen = torch.cat((bumps, bumps * height, bumps * height.square(), bumps * gripper), -1)
        if self.is_one_vector:
            seen = seen.flatten(-2).unsqueeze(-2) / self.case.side  # as large as that of a patch
        latents = seen @ self._mixing + self._background
        return F.layer_norm(latents, latents.shape[-1:])

    def move(self, pose: Tensor, action: Tensor) -> Tensor:
        """Returns the pose (..., 7) after an action (..., 7), inside the box."""
        moved = pose.clone()
        moved[..., :3] += self.motion(self._place(pose), action)
        moved[..., 6] += action[..., 6]
        return torch.minimum(torch.maximum(moved, LOW), HIGH)

    def walk(self, count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns poses (count, steps + 1, 7) and the random actions (count, steps, 7) between."""
        poses = [LOW + (HIGH - LOW) * torch.rand(count, 7, generator=generator)]
        actions = torch.zeros(count, steps, 7)
        drawn = 2 * torch.rand(count, steps, 4, generator=generator) - 1
        actions[..., :3], actions[..., 6] = (
            MAX_STEP_METRES * drawn[..., :3],
            (MAX_GRIPPER * drawn[..., 3]),
        )
        for step in range(steps):
            poses.append(self.move(poses[-1], actions[:, step]))
        return torch.stack(poses, 1), actions

    def tasks(self, count: int, horizon: int, *, seed: int) -> list[tuple[Task, Tensor]]:
        """Returns tasks whose goals can be reached, and the poses of the goals."""
        poses, _ = self.walk(count, horizon, torch.Generator().manual_seed(seed))
        latents = self.render(poses)
        return [
            (Task(Latent(seen[0], pose[0]), Latent(seen[-1])), pose[-1])
            for seen, pose in zip(latents, poses, strict=True)
        ]

    def distance(self, task: Task, actions: Tensor, goal: Tensor) -> float:
        """Returns metres between the goal and where actions (horizon, 7) truly lead."""
        assert task.start.state is not None
        pose = task.start.state.cpu()
        for action in actions.cpu():
            pose = self.move(pose, action)
        return (pose - goal)[:3].norm().item()

    def _place(self, pose: Tensor) -> Tensor:
        """Returns x, y and z in [0, 1]."""
        return (pose[..., :3] - LOW[:3]) / (HIGH - LOW)[:3]


def trained_model(
    case: PlanCase,
    motion: str,
    *,
    steps: int,
    folder: Path | None = None,
    make: Callable[..., LatentWorldModel] = make_model,
    device: torch.device | str = "cpu",
) -> tuple[ArmWorld, LatentWorldModel]:
    """Returns a world and a model that was trained on random walks in it.

    Three quarters of the steps look one action ahead, the last quarter two.

    Args:
        case: sizes.
        motion: name of how it moves.
        steps: of training.
        folder: where trained weights are kept for the next time; None: nowhere.
        make: makes the model.
        device: where the model learns, and stays.
    """
    model = make(case, weight_scale=1).to(device)
    world = ArmWorld(case, motion, is_one_vector=model.dynamics.num_tokens == 1)
    kind = "" if make is make_model else f"{type(model.dynamics).__name__}-"
    name = f"{kind}{motion}-{case.side}-{case.dim}x{case.depth}-{steps}.safetensors"
    if folder is not None and (folder / name).is_file():
        model.dynamics.load_state_dict(load_file(folder / name))
        return world, model
    _train(world, model, steps)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(model.dynamics.state_dict(), folder / name)
    return world, model


def _train(world: ArmWorld, model: LatentWorldModel, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    dynamics = model.dynamics.train().requires_grad_(True)
    rate = 3e-3 * min(1.0, 96 / world.case.dim)  # wide ones learn with smaller steps
    optimizer = torch.optim.AdamW(dynamics.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(steps, 2))
    for number in range(steps):
        ahead = 1 if number < 0.75 * steps else 2
        latents, states, actions = _seen(world, model, 32, ahead, generator)
        with torch.autocast(latents.device.type, torch.bfloat16):
            imagined = model.rollout(latents[:, 0], states[:, 0], actions)
        loss = (imagined.tokens.float() - latents[:, 1:]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval().requires_grad_(False)
    latents, states, actions = _seen(world, model, 256, 2, generator)
    with torch.no_grad():
        imagined = model.rollout(latents[:, 0], states[:, 0], actions)
    wrong = (imagined.tokens - latents[:, 1:]).abs().mean()
    still = (latents[:, :1] - latents[:, 1:]).abs().mean()
    print(
        f"  {world.motion.__name__}: trained for {steps} steps; two actions ahead the latents are "
        f"off by {wrong:.4f}, copies of the first by {still:.4f}"
    )


def _seen(
    world: ArmWorld, model: LatentWorldModel, count: int, steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns latents, normalised states and actions of random walks, where the model is."""
    poses, actions = world.walk(count, steps, generator)
    latents, poses, actions = (
        part.to(model.action_mean.device) for part in (world.render(poses), poses, actions)
    )
    return latents, model.normalize_states(poses), actions
