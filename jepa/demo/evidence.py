"""What the report shows beyond its numbers, computed from the trained models and the episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jepa.demo.report import (
    DistanceGeometry,
    DistanceMap,
    EnergyLandscape,
    EpisodePicture,
    FeatureMaps,
    ImaginedDistance,
    Strip,
)
from jepa.models.frame_encoder import FrameEncoder
from jepa.models.latents import PatchTokens
from planning.control.mpc import EpisodeRecord
from planning.costs import GoalDistance
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import Evaluation
from planning.latent_world import LatentWorld

MAP_CELLS = 44
GRID_ACTIONS = 21
STRIP_FRAMES = 8


@torch.inference_mode()
def patch_tokens(encoder: FrameEncoder, frames: Sequence[np.ndarray]) -> Tensor:
    """Encodes frames (height, width, 3) uint8: (frames, patches, dim), in small batches."""
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).unsqueeze(2)
    parts = [encoder.encode_frames(part)[:, 0] for part in video.split(128)]
    return torch.cat(parts)


def feature_maps(
    trained: FrameEncoder, untrained: FrameEncoder, episode: EpisodeRecord
) -> FeatureMaps:
    """Patch features of frames spread over an episode."""
    picks = np.linspace(0, episode.num_steps, STRIP_FRAMES).round().astype(int)
    frames = [episode.frames[pick] for pick in picks]
    height, width = trained.grid[1:]
    trained_map, untrained_map = (
        patch_tokens(model, frames).unflatten(1, (height, width)).numpy()
        for model in (trained, untrained)
    )
    return FeatureMaps(np.stack(frames), trained_map, untrained_map)


@torch.inference_mode()
def geometry(world: LatentWorld, rooms: TwoRooms, *, num_pairs: int, seed: int) -> DistanceGeometry:
    """Path length against token and latent distance, for random pairs of positions."""
    generator = np.random.default_rng(seed)
    starts, goals = ([rooms.sample_position(generator) for _ in range(num_pairs)] for _ in range(2))
    a, b = (
        patch_tokens(world.model.encoder, [rooms.render(position) for position in positions])
        for positions in (starts, goals)
    )
    raw = PatchTokens()
    return DistanceGeometry(
        path_length=np.array(
            [rooms.shortest_path_length(p, q) for p, q in zip(starts, goals, strict=True)]
        ),
        token_distance=raw.distance(raw(a), raw(b)).numpy(),
        latent_distance=world.distance(world.model.latents(a), world.model.latents(b)).numpy(),
    )


@torch.inference_mode()
def distance_map(world: LatentWorld, rooms: TwoRooms, goal: np.ndarray) -> DistanceMap:
    """Latent and token distance from every free position of a grid to one goal."""
    cells = (np.arange(MAP_CELLS) + 0.5) * rooms.image_size / MAP_CELLS
    positions = [np.array([x, y]) for y in cells for x in cells]
    is_free = np.array([rooms.is_free(position) for position in positions])
    free = [rooms.render(position) for position in np.array(positions)[is_free]]
    tokens = patch_tokens(world.model.encoder, free)
    goal_tokens = patch_tokens(world.model.encoder, [rooms.render(goal)])[0]
    raw, latents = PatchTokens(), world.model.latents
    values, token_values = (np.full(len(positions), np.nan) for _ in range(2))
    values[is_free] = world.distance(latents(tokens), latents(goal_tokens)).numpy()
    token_values[is_free] = raw.distance(raw(tokens), raw(goal_tokens)).numpy()
    size = float(rooms.image_size)
    return DistanceMap(
        values=values.reshape(MAP_CELLS, MAP_CELLS),
        token_values=token_values.reshape(MAP_CELLS, MAP_CELLS),
        extent=(0.0, size, 0.0, size),
        goal=goal,
        background=rooms.background,
    )


@torch.inference_mode()
def energy_landscape(
    world: LatentWorld, rooms: TwoRooms, episode: EpisodeRecord, *, repeats: int
) -> EnergyLandscape:
    """The cost of doing one action `repeats` times from the start of an episode."""
    axis = np.linspace(-rooms.max_move, rooms.max_move, GRID_ACTIONS, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 1, 2)  # row dy, column dx
    actions = torch.from_numpy(grid).expand(-1, repeats, -1)
    start = world.encode(episode.frames[0], episode.states[0])
    cost = GoalDistance(world.encode(episode.goal.frame), world.distance, "last")
    costs = cost(world.rollout(start, actions), actions)
    return EnergyLandscape(
        costs=costs.numpy().reshape(GRID_ACTIONS, GRID_ACTIONS),
        dx=axis,
        dy=axis,
        planned_action=episode.plans[0].plan.actions[:repeats].mean(0).numpy(),
        oracle_action=rooms.shortest_path_action(
            episode.states[0].astype(np.float64), episode.goal.state.astype(np.float64)
        ),
        start_frame=episode.frames[0],
        goal_frame=episode.goal.frame,
    )


def imagined_distance(episode: EpisodeRecord) -> ImaginedDistance:
    """Latent distance to the goal along one episode, as imagined at each plan and as it was."""
    return ImaginedDistance(
        imagined=[record.imagined_distances for record in episode.plans],
        real=np.array(episode.latent_distances),
        plan_starts=[record.step for record in episode.plans],
    )


@torch.inference_mode()
def rollout_strip(world: LatentWorld, rooms: TwoRooms, episode: EpisodeRecord) -> Strip:
    """The first plan's frames as they would really be, over the frames nearest to the imagined.

    "Nearest" is among renderings of a fine grid of positions, by latent distance.
    """
    plan = episode.plans[0].plan
    start = world.encode(episode.frames[0], episode.states[0])
    imagined = world.rollout(start, plan.actions[None]).tokens[0]  # (horizon, tokens, dim)
    cells = np.arange(0.75, rooms.image_size, 1.5)
    positions = [np.array([x, y]) for y in cells for x in cells if rooms.is_free(np.array([x, y]))]
    bank = [rooms.render(position) for position in positions]
    latents = world.model.latents(patch_tokens(world.model.encoder, bank))
    nearest = [int(world.distance(latents, latent).argmin()) for latent in imagined]
    real, position = [], episode.states[0].astype(np.float64)
    for action in plan.actions.numpy():
        position = rooms.move(position, action)
        real.append(rooms.render(position))
    return Strip(real=np.stack(real), imagined=np.stack([bank[index] for index in nearest]))


def chosen_episodes(evaluation: Evaluation) -> list[EpisodePicture]:
    """Five episodes, good and bad ones, chosen by rule and never twice the same."""
    pairs = list(zip(evaluation.episodes, evaluation.tasks.tasks, strict=True))
    episodes = [episode for episode, _ in pairs]
    crossing = [episode for episode, task in pairs if task.group == "different_rooms"]
    solved = sorted((e for e in episodes if e.is_success), key=lambda e: e.num_steps)
    solved_crossing = sorted((e for e in crossing if e.is_success), key=lambda e: e.num_steps)
    failed = sorted((e for e in episodes if not e.is_success), key=lambda e: e.final_distance)
    worst = "worst failure" if failed else "slowest success: nothing failed"
    wanted = [
        (worst, failed[::-1] or solved[::-1]),
        ("most steps to a goal behind the door", solved_crossing[::-1]),
        ("median success through the door", solved_crossing[len(solved_crossing) // 2 :]),
        ("fastest success", solved),
        ("first task of the list", episodes),
    ]
    pictures, shown = [], set()
    for rule, candidates in wanted:
        episode = next((e for e in candidates if id(e) not in shown), None)
        if episode is not None:
            shown.add(id(episode))
            pictures.append(_picture(episode, rule))
    return pictures


def show_episode(evaluation: Evaluation) -> EpisodeRecord:
    """The episode of the single-episode pictures: the longest solved way through the door.

    Where none was solved, the longest episode.
    """
    pairs = zip(evaluation.episodes, evaluation.tasks.tasks, strict=True)
    solved = [e for e, task in pairs if e.is_success and task.group == "different_rooms"]
    return max(solved or evaluation.episodes, key=lambda episode: episode.num_steps)


def _picture(episode: EpisodeRecord, rule: str) -> EpisodePicture:
    outcome = "reached" if episode.is_success else "missed"
    caption = (
        f"goal {outcome} after {episode.num_steps} steps, {episode.final_distance:.1f} pixels away"
    )
    return EpisodePicture(
        np.stack(episode.frames), episode.goal.frame, episode.is_success, caption, rule
    )
