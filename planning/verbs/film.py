"""The film of a run, from what its episode remembers."""

from __future__ import annotations

import numpy as np

from planning.control.mpc import PlanRecord
from planning.control.running import Outcome
from planning.verbs.pictures import Curve, episode_gif


def film(outcome: Outcome) -> bytes:
    """Returns the GIF of a run."""
    episode = outcome.episode
    ended = "goal reached" if outcome.is_success else "goal not reached"
    return episode_gif(
        episode.frames,
        outcome.goals,
        goal_indices(outcome),
        seen=seen_distances(outcome),
        plans=[imagined_curve(record, outcome) for record in episode.plans],
        reached_distance=outcome.reached_distance,
        verdict=f"{ended} after {episode.num_steps} steps, judged by the {outcome.judge}",
        is_success=outcome.is_success,
    )


def goal_indices(outcome: Outcome) -> list[int]:
    """Returns which goal was pursued at each frame."""
    indices = [0] * len(outcome.episode.frames)
    for record in outcome.episode.plans:
        start = record.step if record.begins_at_step is None else record.begins_at_step
        indices[start:] = [record.goal_index] * len(indices[start:])
    return indices


def seen_distances(outcome: Outcome) -> Curve:
    """Returns the latent distances of the frames that were encoded, with NaN between two goals."""
    episode = outcome.episode
    values = np.array(episode.latent_distances, dtype=float)
    steps, indices = np.arange(len(values)), goal_indices(outcome)
    if len(values) != len(episode.frames):  # only frames that were planned from were encoded
        values = np.array([record.latent_distance for record in episode.plans])
        steps = np.array([record.step for record in episode.plans])
        indices = [record.goal_index for record in episode.plans]
    breaks = np.flatnonzero(np.diff(indices)) + 1
    return Curve(np.insert(steps, breaks, steps[breaks]), np.insert(values, breaks, np.nan))


def imagined_curve(record: PlanRecord, outcome: Outcome) -> Curve:
    """Returns the distances that a plan imagined, from the frame that it was made from."""
    begins = record.step if record.begins_at_step is None else record.begins_at_step
    num_actions = len(record.imagined_distances)
    per_action = outcome.steps_per_action
    steps = begins + per_action * np.arange(1, num_actions + 1)
    return Curve(
        np.concatenate([[record.step], steps]),
        np.concatenate([[record.latent_distance], record.imagined_distances]),
    )
