"""Records episodes of a policy into trajectory shards: real mp4s with states and actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data_pipelines.shards import PackResult, pack_trajectories
from data_pipelines.trajectories import Episode, TrajectorySpecification
from planning.control.mpc import Policy
from planning.types import Environment


def record_episodes(
    environment: Environment,
    make_policy: Callable[[], Policy],
    out: str | Path,
    *,
    num_episodes: int,
    num_steps: int,
    seed: int,
    overwrite: bool = False,
) -> PackResult:
    """Records episodes from random starts.

    Args:
        environment: records its frames, states and actions. Its goal and its budget of steps are
            ignored: an episode that ends early goes on from where it is, with a new goal.
        make_policy: makes a policy for each episode.
        out: folder of the shards.
        num_episodes: how many.
        num_steps: actions per episode; there is one frame more.
        seed: of starts and policies; the same seed gives the same shards.
        overwrite: replace shards that are there.

    Returns:
        Where the shards are, and their index.

    Raises:
        ValueError: if there is nothing to record, or the policy's action is not finite.
        data_pipelines.tar_headers.ShardError: if `out` holds shards and overwrite is False.
    """
    if num_episodes < 1 or num_steps < 1:
        raise ValueError(
            f"num_episodes and num_steps must be at least 1, got {num_episodes} and {num_steps}"
        )
    spec = environment.action_spec
    specification = TrajectorySpecification(
        state_names=environment.state_names,
        state_units=environment.state_units,
        action_names=spec.names,
        action_units=spec.units,
        action_low=spec.low,
        action_high=spec.high,
        frames_per_second=environment.frames_per_second,
    )
    episodes = _episodes(environment, make_policy, num_episodes, num_steps, seed)
    return pack_trajectories(episodes, Path(out), specification=specification, overwrite=overwrite)


def _episodes(
    environment: Environment,
    make_policy: Callable[[], Policy],
    num_episodes: int,
    num_steps: int,
    seed: int,
) -> Iterator[Episode]:
    for index in range(num_episodes):
        generator = np.random.default_rng((seed, index))
        yield _episode(environment, make_policy(), generator, num_steps, index)


def _episode(
    environment: Environment,
    policy: Policy,
    generator: np.random.Generator,
    num_steps: int,
    index: int,
) -> Episode:
    time_step = environment.reset(generator, start=None, goal=None)
    frames, states, actions = [time_step.frame], [time_step.state], []
    while len(actions) < num_steps:
        if time_step.is_last:
            state = np.asarray(time_step.state, dtype=np.float64)
            time_step = environment.reset(generator, start=state, goal=None)
            continue
        action = environment.action_spec.validate(policy(environment, time_step, generator))
        time_step = environment.step(action)
        frames.append(time_step.frame)
        states.append(time_step.state)
        actions.append(action)
    return Episode(
        frames=np.stack(frames),
        states=np.stack(states),
        actions=np.stack(actions),
        key=f"{environment.name}-{index:06d}",
        frames_per_second=environment.frames_per_second,
        group=f"{environment.name}-{index:06d}",
    )
