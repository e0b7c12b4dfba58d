"""Episodes of a Gymnasium environment become trajectory shards.

The only file of this package that imports gymnasium. Recordings that others made with Gymnasium
have no layout of their own to import; this runs the environment and packs what it shows.

A frame is what the environment renders ("rgb_array") before each action and after the last. Actions
of a Box are kept as they are, flattened; those of a Discrete space become one-hot columns. A vector
that the environment observes becomes the state; an environment that observes anything else, such
as pictures, gets no state columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.frames import one_line
from data_pipelines.importers.base import refuse_bad_image_size, resized
from data_pipelines.trajectories import Episode, TrajectorySpecification

if TYPE_CHECKING:
    import gymnasium

    from data_pipelines.shards import PackResult

# A policy: (observation, generator) -> action, in the environment's own terms.
Act = Callable[[Any, np.random.Generator], Any]


def collect_episodes(
    environment_id: str,
    out: str | Path,
    *,
    act: Act | None = None,
    num_episodes: int,
    num_steps: int,
    seed: int = 0,
    state_key: str | None = None,
    frames_per_second: float | None = None,
    image_size: int | None = None,
    overwrite: bool = False,
) -> PackResult:
    """Records episodes of a Gymnasium environment.

    Args:
        environment_id: such as "Pendulum-v1", or "module:Name-v0" to import a module first.
        out: folder of the shards.
        act: (observation, generator) -> action; None: random actions.
        num_episodes: how many.
        num_steps: actions per episode; fewer where the environment ends it.
        seed: of resets, random actions and the policy's generator; same seed, same shards.
        state_key: which part of a Dict observation is the state; None: no states for a Dict.
        frames_per_second: of the steps; None: the environment's own `render_fps`.
        image_size: height and width of the frames in pixels; None: as rendered.
        overwrite: replace shards that are there.

    Returns:
        Where the shards are, and their index.

    Raises:
        ValueError: if there is no such environment, or one whose actions, frames or rate cannot be
            recorded; if the policy's action is not one of the environment's.
        ImportError: if gymnasium, or what the environment needs, is not installed.
        data_pipelines.tar_headers.ShardError: if `out` holds shards and overwrite is False.
    """
    from data_pipelines.shards import pack_trajectories

    refuse_bad_image_size(image_size)
    if num_episodes < 1 or num_steps < 1:
        raise ValueError(f"episodes={num_episodes} and steps={num_steps} must be at least 1")
    environment = _made(environment_id)
    with closing(environment), _missing_library_said(environment_id):
        recorder = _Recorder(
            environment=environment,
            name=re.sub(r"[^A-Za-z0-9_-]+", "_", environment_id.rpartition(":")[2]),
            rate=_rate(environment, frames_per_second),
            columns=_ActionColumns.of_space(environment.action_space),
            state_dim=_state_dim(environment.observation_space, state_key),
            state_key=state_key,
            image_size=image_size,
        )
        episodes = (recorder.episode(act, num_steps, seed, index) for index in range(num_episodes))
        return pack_trajectories(
            episodes, out, specification=recorder.specification, overwrite=overwrite
        )


@dataclass(frozen=True)
class _ActionColumns:
    """How an environment's actions become columns of numbers.

    Attributes:
        low: of each column.
        high: of each column.
        first_choice: of a Discrete space; None for a Box.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    first_choice: int | None = None

    @classmethod
    def of_space(cls, space: gymnasium.Space) -> _ActionColumns:
        from gymnasium import spaces

        if isinstance(space, spaces.Discrete):
            return cls((0.0,) * int(space.n), (1.0,) * int(space.n), int(space.start))
        if not isinstance(space, spaces.Box):
            raise ValueError(f"actions must be a Box or Discrete, the environment has {space}")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ValueError(f"actions must have finite bounds, the environment has {space}")
        return cls(tuple(space.low.ravel().tolist()), tuple(space.high.ravel().tolist()))

    def row(self, action: Any) -> np.ndarray:  # noqa: ANN401
        """Returns an action as numbers: (action_dim,), float32."""
        if self.first_choice is None:
            return np.asarray(action, dtype=np.float32).ravel()
        return np.eye(len(self.low), dtype=np.float32)[int(action) - self.first_choice]


@dataclass(frozen=True)
class _Recorder:
    """Records episodes of one environment; arguments as in `collect_episodes`."""

    environment: gymnasium.Env
    name: str
    rate: float
    columns: _ActionColumns
    state_dim: int
    state_key: str | None
    image_size: int | None

    @property
    def specification(self) -> TrajectorySpecification:
        """Returns what the environment says of its numbers; it knows no units."""
        num_states, num_actions = self.state_dim, len(self.columns.low)
        is_choice = self.columns.first_choice is not None
        return TrajectorySpecification(
            state_names=tuple(f"observation_{i}" for i in range(num_states)),
            state_units=("1",) * num_states,
            action_names=tuple(
                f"{'choice' if is_choice else 'action'}_{i}" for i in range(num_actions)
            ),
            action_units=("1",) * num_actions,
            action_low=self.columns.low,
            action_high=self.columns.high,
            frames_per_second=self.rate,
            action_kind="one-hot choice" if is_choice else "the environment's own",
        )

    def episode(self, act: Act | None, num_steps: int, seed: int, index: int) -> Episode:
        """Records one episode; its numbers depend on seed and index only."""
        generator = np.random.default_rng((seed, index))
        seeds = generator.integers(2**31, size=2).tolist()
        self.environment.action_space.seed(seeds[1])
        observation, _ = self.environment.reset(seed=seeds[0])
        frames, states, actions = [self._frame()], [self._state(observation)], []
        is_over = False
        while len(actions) < num_steps and not is_over:
            action = self._action(act, observation, generator)
            actions.append(self.columns.row(action))
            observation, _, terminated, truncated, _ = self.environment.step(action)
            frames.append(self._frame())
            states.append(self._state(observation))
            is_over = bool(terminated or truncated)
        return Episode(
            frames=np.stack(frames),
            states=np.stack(states),
            actions=np.stack(actions),
            key=f"{self.name}-{index:06d}",
            frames_per_second=self.rate,
            group=f"{self.name}-{index:06d}",
        )

    def _action(self, act: Act | None, observation: Any, generator: np.random.Generator) -> Any:  # noqa: ANN401
        space = self.environment.action_space
        if act is None:
            return space.sample()
        action = act(observation, generator)
        if self.columns.first_choice is None:
            action = np.asarray(action, dtype=space.dtype)
        if not space.contains(action):
            raise ValueError(f"the policy's action {action} is not in the environment's {space}")
        return action

    def _frame(self) -> np.ndarray:
        frame = self.environment.render()
        if not isinstance(frame, np.ndarray) or (frame.ndim, frame.shape[-1], frame.dtype) != (
            3,
            3,
            np.uint8,
        ):
            what = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else repr(frame)
            raise ValueError(
                f"{self.name}: frames must be (height, width, 3) uint8, it rendered {what}"
            )
        if self.image_size is None and (frame.shape[0] % 2 or frame.shape[1] % 2):
            raise ValueError(
                f"{self.name}: H.264 needs an even height and width, it rendered "
                f"{frame.shape[0]} x {frame.shape[1]}; choose an image size (--image-size)"
            )
        return resized(frame[None], self.image_size)[0].copy()

    def _state(self, observation: Any) -> np.ndarray:  # noqa: ANN401
        """Returns the state columns: (state_dim,), float32."""
        if self.state_dim == 0:
            return np.zeros(0, dtype=np.float32)
        values = observation if self.state_key is None else observation[self.state_key]
        return np.array(values, dtype=np.float32)


def _made(environment_id: str) -> gymnasium.Env:
    """Makes an environment that renders pictures.

    Raises:
        ImportError: if gymnasium, or what the environment needs, is not installed.
        ValueError: if there is none of that name, or it cannot render.
    """
    try:
        import gymnasium
    except ImportError:
        raise ImportError("collect needs gymnasium: pip install 'jepa-planning[sim]'") from None
    try:
        with _missing_library_said(environment_id):
            environment = gymnasium.make(environment_id, render_mode="rgb_array")
    except (gymnasium.error.Error, TypeError) as error:
        raise ValueError(f"cannot make '{environment_id}': {one_line(str(error))}") from None
    if environment.render_mode != "rgb_array":
        environment.close()
        raise ValueError(f"{environment_id} cannot render pictures (render_mode='rgb_array')")
    return environment


@contextmanager
def _missing_library_said(environment_id: str) -> Iterator[None]:
    """Turns Gymnasium's own error into ImportError; some environments raise it when they draw."""
    from gymnasium.error import DependencyNotInstalled

    try:
        yield
    except DependencyNotInstalled as error:
        raise ImportError(f"{environment_id}: {one_line(str(error))}") from None


def _rate(environment: gymnasium.Env, frames_per_second: float | None) -> float:
    rate = frames_per_second
    if rate is None:
        rate = environment.metadata.get("render_fps")
    if not isinstance(rate, (int, float)) or not 0 < rate <= 1000:
        raise ValueError(
            f"steps per second must be in (0, 1000], the environment says {rate}; say it (--fps)"
        )
    return float(rate)


def _state_dim(space: gymnasium.Space, state_key: str | None) -> int:
    """Returns the length of the observed vector; 0 if something else is observed.

    Raises:
        ValueError: if a state is asked for by a key that has no vector.
    """
    from gymnasium import spaces

    vectors = {None: space} if state_key is None else {}
    if isinstance(space, spaces.Dict):
        vectors = dict(space.spaces)
    dims = {
        key: part.shape[0]
        for key, part in vectors.items()
        if isinstance(part, spaces.Box) and len(part.shape) == 1
    }
    if state_key is None:
        return dims.get(None, 0)
    if state_key not in dims:
        there = ", ".join(map(str, dims)) or "none"
        raise ValueError(f"no vector '{state_key}' is observed; vectors with a key: {there}")
    return dims[state_key]
