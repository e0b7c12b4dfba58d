"""What is known of the recordings that a world model was trained on.

A checkpoint says what its actions mean, but not where they were recorded. Its run folder does:
`config.yaml` names the shards, `index.json` beside them what their columns mean, and
`coverage.json` how they were collected. Where these files are gone, nothing is known, and that is
what results say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from planning.collection import COVERAGE_NAME

RUN_CONFIG, SHIPPED_DATA, INDEX_NAME = "config.yaml", "data.json", "index.json"


@dataclass(frozen=True)
class TrainingData:
    """Where a world model is from; None: nobody says.

    Attributes:
        shards: folder of the recordings, as the run's config names it.
        index_sha256: of their index.json: which recordings they are.
        state_names: of the columns of the robot's state.
        state_units: likewise.
        environment: its name.
        options: of the environment's constructor, those that were given.
        vary: factors that differed from episode to episode.
        policy: who acted, by name.
        seed: of the recordings.
        training_seed: of the run that trained the world model.
    """

    shards: str | None = None
    index_sha256: str | None = None
    state_names: tuple[str, ...] | None = None
    state_units: tuple[str, ...] | None = None
    environment: str | None = None
    options: Mapping[str, Any] | None = None
    vary: tuple[str, ...] | None = None
    policy: str | None = None
    seed: int | None = None
    training_seed: int | None = None

    @classmethod
    def of_checkpoint(cls, folder: Path) -> TrainingData:
        """Reads what is there.

        Args:
            folder: of a world model, or the run folder that holds it; see `LatentWorld.load`.
        """
        config = _first(_yaml_mapping, (folder / RUN_CONFIG, folder.parent / RUN_CONFIG))
        told = _first(_json_mapping, (folder / SHIPPED_DATA,))
        shards, index_sha256 = _shards_of(config.get("data")), None
        if shards is not None:
            index_sha256 = recordings_hash(Path(shards))
            told = {**_json_mapping(Path(shards) / INDEX_NAME), **told}
            told |= _json_mapping(Path(shards) / COVERAGE_NAME)
        seed = config.get("seed_everything")
        policy, vary = told.get("policy"), told.get("vary")
        return cls(
            shards=shards,
            index_sha256=index_sha256,
            state_names=_words(told, "state_names"),
            state_units=_words(told, "state_units"),
            environment=told.get("environment"),
            options=told.get("options"),
            vary=None if vary is None else tuple(vary),
            policy=policy.get("name") if isinstance(policy, dict) else None,
            seed=told.get("seed"),
            training_seed=seed if type(seed) is int else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


def recordings_hash(shards: Path) -> str | None:
    """Returns the sha256 of the index of a set of shards; None if it has none."""
    index = shards / INDEX_NAME
    return hashlib.sha256(index.read_bytes()).hexdigest() if index.is_file() else None


def _first(read: Any, paths: tuple[Path, ...]) -> dict[str, Any]:  # noqa: ANN401
    return next((values for path in paths if (values := read(path))), {})


def _yaml_mapping(path: Path) -> dict[str, Any]:
    """Returns what a file holds; {} if it is not there or holds something else."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def _json_mapping(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _shards_of(data: object) -> str | None:
    """Returns the first `shards` in the data part of a run's config, however deep it is."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("shards"), str):
        return data["shards"]
    found = (_shards_of(part) for part in data.values())
    return next((shards for shards in found if shards is not None), None)


def _words(told: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """Returns a row of the specification of the recordings."""
    specification = told.get("specification")
    words = specification.get(name) if isinstance(specification, dict) else None
    return tuple(map(str, words)) if isinstance(words, list) else None
