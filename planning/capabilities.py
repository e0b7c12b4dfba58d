"""What an environment may offer beyond the contract: all optional, asked for by `isinstance`.

An environment that offers one defines its methods; nothing is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from planning.rendered_labels import RenderedLabels
    from planning.types import Environment, TimeStep

Acts = Callable[["Environment", "TimeStep", np.random.Generator], np.ndarray]


@runtime_checkable
class HasConfiguration(Protocol):
    """Its state is not all that must be known to start there: also joint angles, other objects.

    `reset` takes configurations as start and goal then, and tasks are frozen as configurations.
    """

    configuration_names: tuple[str, ...]

    @property
    def configuration(self) -> np.ndarray:
        """(len(configuration_names),), float64: where everything is now, at rest."""
        ...


@runtime_checkable
class LabelsPictures(Protocol):
    """Knows of its pictures what is where: environments that are drawn with MuJoCo."""

    def labels_at(self, configuration: np.ndarray) -> RenderedLabels:
        """Returns what `render` would show there: bodies, depths, and where they are."""
        ...

    @property
    def body_names(self) -> tuple[str, ...]:
        """Names of the bodies, by their numbers in the labels; 0 is the world."""
        ...


@runtime_checkable
class SaysMeanings(Protocol):
    """Says in words what its states and actions are, beyond names and units: a robot's poses."""

    @property
    def meanings(self) -> Mapping[str, str]:
        """What a `TrajectorySpecification` may say, by name: frame, rotation, gripper, action_kind.

        Recordings carry them, so that training knows poses where there are some.
        """
        ...


@runtime_checkable
class Simulates(Protocol):
    """Its simulation can be kept, put back and run without pictures: what an oracle plans in."""

    def save_state(self) -> np.ndarray:
        """Returns (size,), float64: all that decides what happens next, also speeds."""
        ...

    def load_state(self, saved: np.ndarray) -> None:
        """Goes back to what `save_state` returned, within the same episode."""
        ...

    def simulate(self, actions: np.ndarray) -> np.ndarray:
        """Tries actions (horizon, action_dim) from where it is, draws nothing, and goes back.

        Returns:
            (horizon,): `distance_to_goal` after each action.
        """
        ...


@runtime_checkable
class SetsGoals(Protocol):
    """Can be given another goal while its simulation goes on: an episode outlives its goals.

    A reset cannot do that: it puts everything to rest.
    """

    def new_goal(self, generator: np.random.Generator) -> TimeStep:
        """Draws a goal that suits where everything is, and begins the budget of steps anew.

        The simulation is as it was before to the last bit, its speeds too; factors stay as they
        are. Success and the budget may have ended the episode before: it goes on.

        Returns:
            Frame and state are those of the last step; the new goal is not yet reached.

        Raises:
            ValueError: if no goal can be drawn from here, or the simulation itself has ended: the
                episode is over then.
            RuntimeError: before the first reset.
        """
        ...


def simulated_distances(
    environment: Simulates, actions: np.ndarray, act: Callable[[np.ndarray], None]
) -> np.ndarray:
    """Does what `Simulates.simulate` promises, for an environment that can keep its state.

    Args:
        environment: goes back to where it was, whatever happens.
        actions: (horizon, action_dim).
        act: simulates one action in it, without a picture.

    Returns:
        (horizon,): its `distance_to_goal` after each action.
    """
    distance_to_goal = cast("Environment", environment).distance_to_goal
    distances = np.empty(len(actions))
    saved = environment.save_state()
    try:
        for index, action in enumerate(actions):
            act(action)
            distances[index] = distance_to_goal()
    finally:
        environment.load_state(saved)
    return distances


@runtime_checkable
class HasExpert(Protocol):
    """Knows a way to the goal of the episode, from the true state."""

    def make_expert(self) -> Acts:
        """Returns a policy for one episode; it may remember what phase it is in."""
        ...


@dataclass(frozen=True)
class Factor:
    """Something that may vary without being the task: a colour, the camera, a mass.

    Attributes:
        low, high: bounds of its values, one per dimension.
        default: what it is when nobody asks.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    default: tuple[float, ...]

    def sample(self, generator: np.random.Generator) -> tuple[float, ...]:
        """Draws uniformly inside the bounds."""
        return tuple(generator.uniform(self.low, self.high).tolist())

    def check(self, name: str, value: Sequence[float]) -> tuple[float, ...]:
        """Returns the value; raises ValueError if it is not inside the bounds."""
        array = np.asarray(value, dtype=np.float64).reshape(-1)
        fits = array.shape == (len(self.low),) and bool(
            ((array >= self.low) & (array <= self.high)).all()
        )
        if not fits:
            raise ValueError(
                f"{name} must be {len(self.low)} numbers between {self.low} and {self.high}, "
                f"got {array.tolist()}"
            )
        return tuple(array.tolist())


@runtime_checkable
class Varies(Protocol):
    """Can look or behave otherwise: for tests of zero-shot shift."""

    @property
    def factors(self) -> Mapping[str, Factor]:
        """What can vary, by name: colour.agent, camera.yaw, light.brightness, size.block, mass."""
        ...

    def vary(self, values: Mapping[str, Sequence[float]]) -> None:
        """Sets factors from the next reset on; those that are not named get their defaults.

        Raises:
            ValueError: if there is no such factor, or the value is outside its bounds.
        """
        ...
