"""Any Gymnasium environment that renders pictures, with goals that were reached before.

A Gymnasium environment can in general not be put into a state, so a configuration here is a recipe:
reset with `reset_seed`, then `num_steps` random actions drawn with `action_seed`, each held for a
while. A start is a reset and nothing more; a goal is what `goal_steps` such actions led to from the
same reset. So it can be reached, by the same actions, if the environment depends on nothing but its
seed and the actions. The same replay keeps and restores a simulation, slowly: its whole past.

What the contract asks for and a Gymnasium environment cannot give: after other actions than a
recipe's, `configuration` is not a number, for where it is cannot be said (as a start, that means to
go on from where it is, as recordings do); doing nothing may not mean standing still; and a picture
may show more than a configuration says, as Gymnasium's Pendulum draws the last torque. An episode
also ends, without success, where the environment says so.

    make_environment("gymnasium_pixels", env_id="Acrobot-v1", success="frame")

Install with: pip install 'jepa-planning[sim]' and what the environment itself needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from planning.actions.space import ActionSpec
from planning.goal_simulation import GoalSimulation
from planning.types import TimeStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    import gymnasium

Success = Literal["observation", "frame", "info", "reward"]
SUCCESS_DISTANCES = {"observation": 0.3, "frame": 5.0, "info": 0.5, "reward": 0.5}
SUCCESS_KEYS = ("is_success", "success")
MAX_SEED = 2**31
CHANGE_PROBABILITY = 0.15  # of the random actions that lead to a goal: sticky, to get somewhere
DEFAULT_FRAMES_PER_SECOND = 10.0


@dataclass
class GymnasiumPixels(GoalSimulation):
    """The environment.

    Args:
        env_id: of the Gymnasium registry, such as "Pendulum-v1"; "module:Name-v0" imports the
            module first.
        image_size: height and width of a frame in pixels; pictures are scaled to that square.
        success: what counts. "observation": the Euclidean distance of the observed vectors;
            "frame": the root mean square of the pixels' differences, in [0, 255]; "info": what the
            environment itself calls `is_success` or `success`; "reward": a reward of at least
            `reward_threshold` in one step. The last two ask the environment, not the goal: their
            distance is 0 where it is so, and 1 elsewhere.
        success_distance: below it a goal is reached; None: 0.3 of observations, 5 of pixels.
        reward_threshold: for `success="reward"`.
        goal_steps: random actions that lead to a goal.
        state_key: which part of a Dict observation is the state.
        max_steps: steps until an episode ends without success.
        env_options: for `gymnasium.make`.
    """

    env_id: str = "Pendulum-v1"
    image_size: int = 64
    success: Success = "observation"
    success_distance: float | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    reward_threshold: float | None = None
    goal_steps: int = 25
    state_key: str | None = None
    max_steps: int = 100
    env_options: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(default="gymnasium_pixels", init=False)
    frames_per_second: float = field(init=False)
    state_names: tuple[str, ...] = field(init=False)
    state_units: tuple[str, ...] = field(init=False)
    configuration_names: tuple[str, ...] = field(
        default=("reset_seed", "action_seed", "num_steps"), init=False
    )

    def __post_init__(self) -> None:
        self._refuse_bad_options()
        if self.success_distance is None:
            self.success_distance = SUCCESS_DISTANCES[self.success]
        self._environment = _made(self.env_id, self.env_options)
        rate = self._environment.metadata.get("render_fps") or DEFAULT_FRAMES_PER_SECOND
        self.frames_per_second = float(rate)
        self._action_spec = _action_spec(self._environment.action_space, self.env_id)
        self._recipe = np.zeros(3)
        self._actions: list[np.ndarray] = []
        self._goal_reached_by_itself = False
        self._has_ended = False
        self._pictures: dict[tuple[float, ...], tuple[np.ndarray, np.ndarray]] = {}
        with _missing_library_said(self.env_id):
            self._replay(self._recipe)
            self._frame()
        self._state_dim = _vector(self._observation, self.state_key, self.env_id).size
        if self.success == "observation" and not self._state_dim:
            raise ValueError(
                f"{self.env_id} observes no vector, so success='observation' has no meaning; "
                "choose success='frame', 'info' or 'reward', or name a vector with state_key"
            )
        self.state_names = tuple(f"observation_{i}" for i in range(self._state_dim))
        self.state_units = ("1",) * self._state_dim

    @property
    def action_spec(self) -> ActionSpec:
        """The environment's own: its box, or one choice among its actions."""
        return self._action_spec

    @property
    def configuration(self) -> np.ndarray:
        """(reset_seed, action_seed, num_steps); NaN after actions that are of no recipe."""
        return np.full(3, np.nan) if self._actions else self._recipe.copy()

    def distance_to_goal(self) -> float:
        """As `success` says: of observations, of pixels, or 0 and 1."""
        goal = self.goal
        if self.success in ("info", "reward"):
            return 0.0 if self._goal_reached_by_itself else 1.0
        return self._distance_to(goal.frame, goal.state)

    def _distance_to(self, frame: np.ndarray, state: np.ndarray) -> float:
        if self.success == "observation":
            return float(np.linalg.norm(self._state_now().astype(np.float32) - state))
        difference = self._frame().astype(np.float64) - frame
        return float(np.sqrt((difference**2).mean()))

    # ------------------------------------------------------------------ recipes

    def sample_configuration(self, generator: np.random.Generator) -> np.ndarray:
        """Draws a start: a reset and no action."""
        return np.array([float(generator.integers(MAX_SEED)), 0.0, 0.0])

    def draw_task(
        self, generator: np.random.Generator, index: int
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Draws a start, and a goal that `goal_steps` random actions lead to from there."""
        start = self.sample_configuration(generator)
        return start, self._goal_from(start, generator), "any"

    def reset(
        self,
        generator: np.random.Generator,
        *,
        start: np.ndarray | None = None,
        goal: np.ndarray | None = None,
    ) -> TimeStep:
        """Starts an episode; a goal that is not given is reached from the start."""
        if start is None:
            start = self.sample_configuration(generator)
        if goal is None:
            goal = self._goal_from(self.checked_configuration(start, "start"), generator)
        return super().reset(generator, start=start, goal=goal)

    def new_goal(self, generator: np.random.Generator) -> TimeStep:
        """Draws a goal that random actions lead to, and begins the budget of steps anew.

        The past is played again, as pictures of goals take the only simulator that there is.

        Raises:
            ValueError: if every goal is reached already, the environment has ended by itself, or
                it did not come back to where it was, as one with randomness of its own.
            RuntimeError: before the first reset.
        """
        if self._has_ended:
            raise ValueError(f"{self.env_id} has ended the episode itself")
        state, frame = self._state_now(), self._frame()
        super().new_goal(generator)
        if not (np.array_equal(state, self._state_now()) and np.array_equal(frame, self._frame())):
            raise ValueError(f"{self.env_id} is not the same when its past is played again")
        self._goal_reached_by_itself = False
        return self._time_step()

    def _drawn_goal(self, here: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self._goal_from(here, generator)

    def checked_configuration(self, configuration: np.ndarray, what: str) -> np.ndarray:
        """Returns a recipe, or as a start not a number, where it is and can go on.

        Raises:
            ValueError: if it is none.
        """
        recipe = np.array(configuration, dtype=np.float64)
        can_go_on = what == "start" and bool(self._actions) and not self._has_ended
        if can_go_on and recipe.shape == (3,) and np.isnan(recipe).all():
            return recipe
        is_sound = recipe.shape == (3,) and bool(np.isfinite(recipe).all())
        if not is_sound or (recipe != recipe.round()).any() or (recipe < 0).any():
            raise ValueError(
                f"{what} must be a recipe (reset_seed, action_seed, num_steps) of whole numbers of "
                "at least 0: a Gymnasium environment cannot be put anywhere else, got "
                f"{recipe.tolist()}"
            )
        return recipe

    def _goal_from(self, start: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        seed = self._recipe[0] if np.isnan(start).any() else start[0]
        return np.array([seed, float(generator.integers(MAX_SEED)), float(self.goal_steps)])

    # ------------------------------------------------------------------ pictures and states

    def render(self, configuration: np.ndarray) -> np.ndarray:
        """Draws what a recipe leads to; NaN stands for where the environment is now."""
        if np.isnan(configuration).any():
            return self._frame()
        return self._outcome(configuration)[0].copy()

    def _state_at(self, configuration: np.ndarray) -> np.ndarray:
        return self._outcome(configuration)[1].copy()

    def _outcome(self, recipe: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns frame and state after a recipe, and comes back; the last few are remembered."""
        key = tuple(recipe.tolist())
        if key not in self._pictures:
            saved = self._saved()
            self._replay(recipe)
            self._pictures = dict(list(self._pictures.items())[-3:])
            self._pictures[key] = self._frame(), self._state_now()
            self._load(saved)
        return self._pictures[key]

    def _state_now(self) -> np.ndarray:
        return _vector(self._observation, self.state_key, self.env_id)

    def _distance_between(self, configuration: np.ndarray, goal: np.ndarray) -> float:
        if self.success in ("info", "reward"):
            return 1.0  # it takes an action
        frame, state = self._outcome(goal)  # recipes themselves cannot be compared
        return self._distance_to(frame, state.astype(np.float32))

    def _frame(self) -> np.ndarray:
        from PIL import Image

        picture = self._environment.render()
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.dtype != np.uint8:
            raise ValueError(
                f"{self.env_id} must render pictures (height, width, 3) uint8 with "
                f"render_mode='rgb_array', it rendered {type(picture).__name__}"
            )
        size = (self.image_size, self.image_size)
        return np.array(Image.fromarray(picture[..., :3]).resize(size, Image.Resampling.BOX))

    # ------------------------------------------------------------------ the simulation

    def _act(self, action: np.ndarray) -> None:
        self._actions.append(np.array(action, dtype=np.float32))
        self._send(action)

    def _send(self, action: np.ndarray) -> None:
        """Acts in the environment, if it goes on at all."""
        if self._has_ended:
            return
        space: Any = self._environment.action_space
        if self._action_spec.kind == "one_hot":
            sent: Any = int(space.start) + int(np.argmax(action))
        else:
            sent = np.asarray(action, dtype=space.dtype).reshape(space.shape)
        self._observation, reward, terminated, truncated, info = self._environment.step(sent)
        self._has_ended = bool(terminated or truncated)
        if self.success == "info":
            self._goal_reached_by_itself = self._says_success(info)
        elif self.success == "reward":
            assert self.reward_threshold is not None
            self._goal_reached_by_itself = float(reward) >= self.reward_threshold

    def _says_success(self, info: Mapping[str, Any]) -> bool:
        key = next((key for key in SUCCESS_KEYS if key in info), None)
        if key is None:
            raise ValueError(
                f"{self.env_id} says neither {' nor '.join(SUCCESS_KEYS)} in its info; choose "
                "success='observation', 'frame' or 'reward'"
            )
        return bool(info[key])

    def _is_last(self) -> bool:
        return self._has_ended or super()._is_last()

    def _begin_at(self, configuration: np.ndarray, generator: np.random.Generator) -> None:
        if not np.isnan(configuration).any():
            self._replay(configuration)
        self._goal_reached_by_itself = False

    def _replay(self, recipe: np.ndarray) -> None:
        """Resets, and repeats the random actions of a recipe."""
        self._recipe, self._actions = recipe.copy(), []
        self._has_ended = self._goal_reached_by_itself = False
        self._observation, _ = self._environment.reset(seed=int(recipe[0]))
        generator = np.random.default_rng(int(recipe[1]))
        action = self._action_spec.sample(generator)
        for _ in range(int(recipe[2])):
            if generator.random() < CHANGE_PROBABILITY:
                action = self._action_spec.sample(generator)
            self._send(action)

    def _saved(self) -> np.ndarray:
        """Returns the recipe and the actions since."""
        return np.concatenate([self._recipe, *self._actions])

    def _load(self, saved: np.ndarray) -> None:
        actions = saved[3:].reshape(-1, self._action_spec.dim)
        self._replay(saved[:3])
        for action in actions:
            self._act(action.astype(np.float32))

    def _refuse_bad_options(self) -> None:
        if not 16 <= self.image_size <= 512:
            raise ValueError(f"image_size must be in [16, 512], got {self.image_size}")
        for name in ("success_distance", "reward_threshold"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and math.isfinite(value)
            if value is not None and not is_number:
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        if self.success_distance is not None and self.success_distance <= 0:
            raise ValueError(f"success_distance must be above 0, got {self.success_distance}")
        if not isinstance(self.env_options, Mapping):
            raise ValueError(f"env_options must be names and values, got {self.env_options!r}")
        if self.goal_steps < 1:
            raise ValueError(f"goal_steps must be at least 1, got {self.goal_steps}")
        if self.success not in get_args(Success):
            raise ValueError(
                f"success must be one of {', '.join(get_args(Success))}, got {self.success!r}"
            )
        if (self.success == "reward") != (self.reward_threshold is not None):
            raise ValueError(
                f"success={self.success!r} with reward_threshold={self.reward_threshold}; the "
                "threshold belongs to success='reward', and to nothing else"
            )


def _made(env_id: str, options: Mapping[str, Any]) -> gymnasium.Env:
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(
            f"Gymnasium needs the simulator extra: pip install 'jepa-planning[sim]' ({error})"
        ) from error
    try:
        with _missing_library_said(env_id):
            environment = gymnasium.make(env_id, render_mode="rgb_array", **options)
    except (gymnasium.error.Error, TypeError) as error:
        raise ValueError(f"cannot make {env_id!r}: {' '.join(str(error).split())}") from error
    if environment.render_mode != "rgb_array":
        environment.close()
        raise ValueError(f"{env_id} cannot render pictures (render_mode='rgb_array')")
    return environment


@contextmanager
def _missing_library_said(env_id: str) -> Iterator[None]:
    """Turns Gymnasium's own error into ImportError; some environments raise it when they draw."""
    from gymnasium.error import DependencyNotInstalled

    try:
        yield
    except DependencyNotInstalled as error:
        raise ImportError(f"{env_id}: {' '.join(str(error).split())}") from error


def _action_spec(space: Any, env_id: str) -> ActionSpec:  # noqa: ANN401
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        names = tuple(f"choice_{i}" for i in range(int(space.n)))
        low, high = (0.0,) * len(names), (1.0,) * len(names)
        return ActionSpec(names, ("1",) * len(names), low, high, kind="one_hot")
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        raise ValueError(
            f"{env_id} has actions {space}; only a Box with finite bounds and Discrete can be "
            "planned with"
        )
    low, high = (tuple(map(float, bound.ravel())) for bound in (space.low, space.high))
    names = tuple(f"action_{i}" for i in range(len(low)))
    return ActionSpec(names, ("1",) * len(names), low, high)


def _vector(observation: Any, state_key: str | None, env_id: str) -> np.ndarray:  # noqa: ANN401
    """Returns the observed vector (state_dim,), float64; empty where none is observed."""
    if state_key is not None:
        if not isinstance(observation, Mapping) or state_key not in observation:
            there = ", ".join(observation) if isinstance(observation, Mapping) else "no names"
            raise ValueError(f"{env_id} observes no {state_key!r}; it observes {there}")
        observation = observation[state_key]
    is_vector = isinstance(observation, np.ndarray) and observation.ndim == 1
    return observation.astype(np.float64) if is_vector else np.zeros(0)
