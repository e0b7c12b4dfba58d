"""Collecting data: episodes of an environment and a policy, recorded by many processes.

An episode is a function of (seed, its number) alone, so the shards do not depend on who records
which one; the machinery is that of an import (`data_pipelines.episode_packing`): finished shards
are kept when a collection is killed, and it goes on where it was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.episode_packing import (
    ImportSettings,
    TooManySkippedError,
    import_episodes,
)
from data_pipelines.importers.base import Importer, ListedEpisode
from data_pipelines.shard_writing import write_whole
from data_pipelines.shards import ShardIndex, ShardReader
from data_pipelines.trajectories import Episode, TrajectorySpecification
from planning.benchmarking.provenance import simulator_packages
from planning.capabilities import Varies
from planning.control.mpc import Policy
from planning.coverage import Coverage, coverage_of
from planning.data_policies import DataPolicy
from planning.environments import make_environment
from planning.recording import (
    NoStartError,
    record_episode,
    refuse_reserved_seed,
    specification_of,
)
from planning.types import Environment

COVERAGE_NAME = "coverage.json"
MAX_REDRAWN = 20  # starts in a row that an environment draws and cannot take


@dataclass(frozen=True)
class Collection:
    """What is recorded.

    Args:
        environment: its name.
        policy: acts.
        num_episodes: how many.
        num_steps: actions per episode, unless it ends early (see `planning.recording`); there is
            one frame more.
        seed: of starts, goals, factors and policies.
        options: of the environment's constructor.
        vary: names of factors that every episode draws anew, or ("all",); those that are not named
            keep their defaults.

    Raises:
        ValueError: if there is nothing to record, or the seed is one of evaluations.
    """

    environment: str
    policy: DataPolicy
    num_episodes: int
    num_steps: int = 100
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    vary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_episodes < 1 or self.num_steps < 1:
            raise ValueError(
                "num_episodes and num_steps must be at least 1, got "
                f"{self.num_episodes} and {self.num_steps}"
            )
        refuse_reserved_seed(self.seed)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values that tell this collection from others.

        Raises:
            FileNotFoundError: if the world model of its policy is not there.
        """
        return {
            "environment": self.environment,
            "options": dict(self.options),
            "policy": self.policy.to_json(),
            "episodes": self.num_episodes,
            "steps": self.num_steps,
            "seed": self.seed,
            "vary": list(self.vary),
            "packages": self._packages(),
        }

    def _packages(self) -> dict[str, str]:
        """Returns the versions of what decides what is recorded."""
        used = simulator_packages(self.environment)
        others = ("numpy", "torch") if self.policy.name == "planner" else ("numpy",)
        return used | {name: metadata.version(name) for name in others}


@dataclass(frozen=True)
class CollectionResult:
    """What was recorded.

    Attributes:
        folder: where the shards are.
        index: as written to `index.json`.
        coverage: as written to `coverage.json`.
        was_there: the set was finished before, and nothing was done.
    """

    folder: Path
    index: ShardIndex
    coverage: Coverage
    was_there: bool


def collect_episodes(
    collection: Collection,
    out: str | Path,
    *,
    num_workers: int = 1,
    samples_per_shard: int = 64,
    overwrite: bool = False,
) -> CollectionResult:
    """Records episodes into trajectory shards, and writes what they cover beside them.

    A start or a goal that the environment draws and cannot take costs itself only: the episode is
    drawn anew, and `coverage.json` says so. A collection goes on where it was stopped if nothing
    that decides what is recorded has changed: also the world model and the simulator are the same.

    Args:
        collection: what is recorded.
        out: folder of the shards.
        num_workers: processes that simulate and encode, each with a shard of its own.
        samples_per_shard: episodes in a shard; what a killed collection does again is at most one
            shard for each worker.
        overwrite: replace the shards that are in `out`, or an unfinished collection of something
            else.

    Raises:
        ValueError: if an option is no good, an episode cannot be recorded, or `MAX_REDRAWN` starts
            in a row cannot be taken.
        ImportError: if the simulator is not installed.
        data_pipelines.tar_headers.ShardError: if `out` holds something else and overwrite is False.
    """
    source = _EpisodeSource(collection)
    source.check()
    settings = ImportSettings(
        samples_per_shard,
        max_skipped_fraction=0.0,
        asked={"source": f"{collection.environment} as collected", **collection.to_json()},
    )
    if overwrite:  # what it says is of the set that will be replaced
        (Path(out) / COVERAGE_NAME).unlink(missing_ok=True)
    try:
        result = import_episodes(
            source, out, settings, num_workers=num_workers, overwrite=overwrite
        )
    except TooManySkippedError as error:
        what = str(error).partition(": ")[2].partition(". Finished shards")[0]
        raise ValueError(
            f"cannot record {what}; finished shards are kept, collect again to go on"
        ) from error
    coverage = coverage_of_shards(result.index)
    text = json.dumps({**collection.to_json(), **coverage.to_json()}, indent=1)
    write_whole(result.folder / COVERAGE_NAME, (text + "\n").encode())
    return CollectionResult(result.folder, result.index, coverage, result.was_there)


def coverage_of_shards(index: ShardIndex) -> Coverage:
    """Reads states and actions of all episodes, and counts what they cover.

    Raises:
        ValueError: if they are no trajectories.
    """
    specification = index.specification
    if specification is None:
        raise ValueError("these shards hold no states and actions: there is nothing to cover")
    states, actions, moving, reached = [], [], [], 0
    early_ends, redrawn = Counter[str](), {}
    reader = ShardReader()
    for sample in index.samples:
        states.append(reader.read_array(sample, "states.npy"))
        actions.append(reader.read_array(sample, "actions.npy"))
        about = json.loads(reader.read(sample, "json")).get("about", {})
        reached += about.get("goals_reached", 0)
        if (share := about.get("moving_steps")) is not None:
            moving.append(share)
        if reason := about.get("ended_early"):
            early_ends[reason] += 1
        if reasons := about.get("redrawn"):
            redrawn[sample.key] = reasons
    reader.close()
    return coverage_of(
        states,
        actions,
        state_names=specification.state_names,
        action_names=specification.action_names,
        action_low=specification.action_low,
        action_high=specification.action_high,
        moving_shares=moving,
        goals_reached=reached,
        early_ends=early_ends,
        redrawn_starts=redrawn,
    )


@dataclass(frozen=True)
class _EpisodeSource(Importer):
    """Episodes that are simulated when they are asked for."""

    collection: Collection

    def check(self) -> None:
        """Makes the environment and the policy once, before the work.

        Raises:
            ValueError, ImportError: if one cannot be made.
        """
        _ = self._policies
        _chosen_factors(self._environment, self.collection.vary)

    @property
    def specification(self) -> TrajectorySpecification:
        """What the environment says of its numbers."""
        return specification_of(self._environment)

    @cached_property
    def listed(self) -> Sequence[ListedEpisode]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One a number; there is no file that could change."""
        name = self.collection.environment
        numbers = range(self.collection.num_episodes)
        return [ListedEpisode(f"episode {n}", f"{name}-{n:06d}", ()) for n in numbers]

    def episode(self, number: int) -> Episode:
        """Records an episode; it depends on the seed and the number only."""
        generator = np.random.default_rng((self.collection.seed, number))
        refused: list[str] = []
        while len(refused) < MAX_REDRAWN:
            try:
                return self._recorded(number, generator, refused)
            except NoStartError as error:
                refused.append(str(error))
        raise ValueError(f"{MAX_REDRAWN} starts in a row cannot be taken, the last: {refused[-1]}")

    def _recorded(self, number: int, generator: np.random.Generator, refused: list[str]) -> Episode:
        """Records an episode after the starts that were refused."""
        environment = self._environment
        about: dict[str, Any] = {"redrawn": list(refused)} if refused else {}
        if factors := _chosen_factors(environment, self.collection.vary):
            assert isinstance(environment, Varies)
            about["factors"] = {
                name: list(environment.factors[name].sample(generator)) for name in factors
            }
            environment.vary(about["factors"])
        return record_episode(
            environment,
            self._policies(),
            generator,
            num_steps=self.collection.num_steps,
            key=self.listed[number].key,
            about=about,
        )

    @cached_property
    def _environment(self) -> Environment:
        environment = make_environment(self.collection.environment, **self.collection.options)
        environment.max_steps = max(environment.max_steps, self.collection.num_steps)
        return environment

    @cached_property
    def _policies(self) -> Callable[[], Policy]:
        return self.collection.policy.maker(self._environment)

    def __reduce__(self) -> tuple[type[_EpisodeSource], tuple[Collection]]:
        """Another process makes its own simulator and world model."""
        return _EpisodeSource, (self.collection,)


def _chosen_factors(environment: Environment, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of the factors that vary.

    Raises:
        ValueError: if the environment has no such factor.
    """
    if not names:
        return ()
    known = tuple(environment.factors) if isinstance(environment, Varies) else ()
    chosen = known if names == ("all",) else names
    unknown = [name for name in chosen if name not in known]
    if unknown or not known:
        there = ", ".join(known) or "none"
        raise ValueError(
            f"{environment.name} cannot vary {', '.join(unknown) or 'anything'}; its factors: "
            f"{there}"
        )
    return tuple(sorted(chosen))
