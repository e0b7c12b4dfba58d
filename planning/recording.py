"""Records episodes of a policy into trajectory shards: real mp4s with states and actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.shards import PackResult, pack_trajectories
from data_pipelines.trajectories import Episode, TrajectorySpecification
from planning.capabilities import HasConfiguration, SaysMeanings, SetsGoals
from planning.control.mpc import Policy
from planning.types import Environment, TimeStep

MOVED = 1e-3  # an object moved if one of its columns changed by more, in its own unit
RECORDING_SEEDS_BELOW = 2**31  # episodes of other seeds are what evaluations are made of
OBJECT_PREFIXES = ("block_", "cube_", "object_", "puck_")
MAX_STARTS = 100  # drawn in a row that are over at once


class NoStartError(ValueError):
    """An environment drew a start or a goal that it cannot take; the next may do."""


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
        environment: records its frames, states and actions. See `record_episode` for what happens
            at its goals.
        make_policy: makes a policy for each episode.
        out: folder of the shards.
        num_episodes: how many.
        num_steps: actions per episode, unless it ends early; there is one frame more.
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
    refuse_reserved_seed(seed)
    specification = specification_of(environment)
    episodes = _episodes(environment, make_policy, num_episodes, num_steps, seed)
    return pack_trajectories(episodes, Path(out), specification=specification, overwrite=overwrite)


def refuse_reserved_seed(seed: int) -> None:
    """Raises ValueError if a recording with this seed could hold an episode of an evaluation."""
    if not 0 <= seed < RECORDING_SEEDS_BELOW:
        raise ValueError(
            f"seed must be from 0 to {RECORDING_SEEDS_BELOW - 1}, got {seed}; those above are kept "
            "for evaluations (docs/protocols.md)"
        )


def specification_of(environment: Environment) -> TrajectorySpecification:
    """Returns what an environment says of its states and actions."""
    spec = environment.action_spec
    meanings = environment.meanings if isinstance(environment, SaysMeanings) else {}
    return TrajectorySpecification(
        state_names=environment.state_names,
        state_units=environment.state_units,
        action_names=spec.names,
        action_units=spec.units,
        action_low=spec.low,
        action_high=spec.high,
        frames_per_second=environment.frames_per_second,
        **meanings,
    )


def record_episode(
    environment: Environment,
    policy: Policy,
    generator: np.random.Generator,
    *,
    num_steps: int,
    key: str,
    about: Mapping[str, Any] | None = None,
) -> Episode:
    """Records one episode from a random start.

    Where the goal is reached or the steps of the environment are used up, the simulation goes on as
    it is, with a new goal (`planning.capabilities.SetsGoals`): every recorded action leads from the
    frame before it to the frame after it. Where that cannot be (an environment that sets no goals,
    that has ended by itself, or that has no goal to offer from there), the episode ends and is
    shorter; nothing that was recorded is lost.

    Args:
        environment: records its frames, states and actions.
        policy: acts.
        generator: of the start, the goals and the policy.
        num_steps: actions, unless it ends early; there is one frame more.
        key: of the episode, and its group.
        about: more to be known of it. Added are "start", the configuration it began with,
            "goals_reached", by actions, "moving_steps", the share of the steps in which an object
            moved, if there are objects, and "ended_early", why, if it has fewer than `num_steps`.

    Raises:
        NoStartError: if the environment cannot draw a start and a goal that is not yet reached.
        ValueError: if the policy's action is not finite.
    """
    time_step = _begun(environment, generator)
    frames, states, actions = [time_step.frame], [time_step.state], []
    configurations, goals_reached, ended_early = [configuration_of(environment, time_step)], 0, ""
    while len(actions) < num_steps and not ended_early:
        action = environment.action_spec.validate(policy(environment, time_step, generator))
        time_step = environment.step(action)
        frames.append(time_step.frame)
        states.append(time_step.state)
        actions.append(action)
        configurations.append(configuration_of(environment, time_step))
        goals_reached += bool(time_step.is_success)
        if time_step.is_last and len(actions) < num_steps:
            time_step, ended_early = _going_on(environment, time_step, generator)
    told: dict[str, Any] = {"start": configurations[0].tolist(), "goals_reached": goals_reached}
    if ended_early:
        told["ended_early"] = ended_early
    if columns := object_columns(environment):
        changes = np.abs(np.diff(np.stack(configurations)[:, columns], axis=0)).max(1)
        told["moving_steps"] = float((changes > MOVED).mean())
    return Episode(
        frames=np.stack(frames),
        states=np.stack(states),
        actions=np.stack(actions),
        key=key,
        frames_per_second=environment.frames_per_second,
        group=key,
        about={**(about or {}), **told},
    )


def _begun(environment: Environment, generator: np.random.Generator) -> TimeStep:
    """Starts an episode that has not succeeded."""
    for _ in range(MAX_STARTS):
        try:
            time_step = environment.reset(generator, start=None, goal=None)
            if time_step.is_last and isinstance(environment, SetsGoals):
                time_step = environment.new_goal(generator)
        except ValueError as error:
            raise NoStartError(f"{environment.name} cannot begin: {error}") from error
        if not time_step.is_last:
            return time_step
    raise NoStartError(
        f"{environment.name} cannot begin: {MAX_STARTS} episodes were over at their first step"
    )


def _going_on(
    environment: Environment, time_step: TimeStep, generator: np.random.Generator
) -> tuple[TimeStep, str]:
    """Gives a new goal; returns what is shown now, and why the episode is over if it is."""
    if not isinstance(environment, SetsGoals):
        how = "goal reached" if time_step.is_success else "the environment ended it"
        return time_step, f"{how}; {environment.name} sets no goal in mid-episode"
    try:
        time_step = environment.new_goal(generator)
    except ValueError as error:
        return time_step, str(error)
    return time_step, f"{environment.name} has no goal ahead" if time_step.is_last else ""


def configuration_of(environment: Environment, time_step: TimeStep) -> np.ndarray:
    """Returns where everything is: what `reset` takes as a start."""
    if isinstance(environment, HasConfiguration):
        return np.array(environment.configuration, dtype=np.float64)
    return np.asarray(time_step.state, dtype=np.float64)


def object_columns(environment: Environment) -> list[int]:
    """Returns which columns of a configuration are of objects, not of the robot: names tell."""
    names = environment.state_names
    if isinstance(environment, HasConfiguration):
        names = environment.configuration_names
    return [index for index, name in enumerate(names) if name.startswith(OBJECT_PREFIXES)]


def _episodes(
    environment: Environment,
    make_policy: Callable[[], Policy],
    num_episodes: int,
    num_steps: int,
    seed: int,
) -> Iterator[Episode]:
    for index in range(num_episodes):
        yield record_episode(
            environment,
            make_policy(),
            np.random.default_rng((seed, index)),
            num_steps=num_steps,
            key=f"{environment.name}-{index:06d}",
        )
