"""The report card: all properties of one world model, measured, and as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from jepa.evaluation.world_model_card.causality import Causality, measure_causality
from jepa.evaluation.world_model_card.controllability import (
    Controllability,
    measure_controllability,
)
from jepa.evaluation.world_model_card.drift import Drift, measure_drift
from jepa.evaluation.world_model_card.generalisation import (
    Generalisation,
    measure_generalisation,
)
from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.occlusion import Cover, Occlusion, measure_occlusion
from jepa.evaluation.world_model_card.responsiveness import (
    Responsiveness,
    measure_responsiveness,
)
from jepa.evaluation.world_model_card.round_trip import Inverse, RoundTrip, measure_round_trip
from jepa.evaluation.world_model_card.verdict import NotMeasured, Verdict
from jepa.models.world_model import LatentWorldModel


@dataclass(frozen=True)
class CardSettings:
    """What is measured, beside the horizon that the windows have.

    Args:
        num_hidden: frames under the cover of the occlusion.
        cover: what is under it, see `measure_occlusion`.
        round_trip_steps: actions there, and as many back.
        inverse: what undoes an action, see `measure_round_trip`.
        num_samples: plans that are imagined beside one another.
        deadline_hz: control steps a second.
        repeats: of each kind of work that is timed.
        seed: of shuffles and intervals.
    """

    num_hidden: int = 2
    cover: Cover = "blank"
    round_trip_steps: int = 3
    inverse: Inverse = "auto"
    num_samples: int = 64
    deadline_hz: float = 10.0
    repeats: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_hidden < 1 or self.round_trip_steps < 1:
            raise ValueError(
                "num_hidden and round_trip_steps must be at least 1, got "
                f"{self.num_hidden} and {self.round_trip_steps}"
            )


@dataclass(frozen=True)
class WorldModelCard:
    """Five properties that a useful world model needs; persistence has three parts.

    Attributes:
        model: its name.
        data: the held-out recordings.
        num_episodes: of these.
        num_windows: of these.
        horizon: imagined actions.
        causality: does the future change the past?
        controllability: do actions matter?
        drift: how long is imagining better than copying?
        occlusion: is what was hidden still known?
        round_trip: do inverse actions lead back?
        responsiveness: how long does it take?
        generalisation: what of other worlds?
    """

    model: str
    data: str
    num_episodes: int
    num_windows: int
    horizon: int
    causality: Causality | NotMeasured
    controllability: Controllability | NotMeasured
    drift: Drift | NotMeasured
    occlusion: Occlusion | NotMeasured
    round_trip: RoundTrip | NotMeasured
    responsiveness: Responsiveness | NotMeasured
    generalisation: Generalisation | NotMeasured

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What each part comes to, by its name."""
        return {
            "causality": self.causality.verdict,
            "controllability": self.controllability.verdict,
            "persistence: drift": self.drift.verdict,
            "persistence: occlusion": self.occlusion.verdict,
            "persistence: there and back": self.round_trip.verdict,
            "responsiveness": self.responsiveness.verdict,
            "generalisation": self.generalisation.verdict,
        }

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain values; what is no finite number is None."""
        return plain(self)


def measure_card(
    model: LatentWorldModel,
    windows: HeldOutWindows,
    shifted: Mapping[str, HeldOutWindows],
    *,
    settings: CardSettings | None = None,
    model_name: str = "model",
    data_name: str = "data",
) -> WorldModelCard:
    """Measures everything.

    Args:
        model: in evaluation mode.
        windows: held out.
        shifted: windows of other worlds, by what differs; may be empty.
        settings: None: the defaults.
        model_name: for the reader.
        data_name: for the reader.
    """
    chosen = settings or CardSettings()
    seed = chosen.seed
    return WorldModelCard(
        model=model_name,
        data=data_name,
        num_episodes=windows.num_episodes,
        num_windows=len(windows.episodes),
        horizon=windows.horizon,
        causality=measure_causality(model, windows, seed=seed),
        controllability=measure_controllability(model, windows, seed=seed),
        drift=measure_drift(model, windows, seed=seed),
        occlusion=measure_occlusion(
            model, windows, num_hidden=chosen.num_hidden, cover=chosen.cover, seed=seed
        ),
        round_trip=measure_round_trip(
            model,
            windows,
            num_steps=chosen.round_trip_steps,
            inverse=chosen.inverse,
            seed=seed,
        ),
        responsiveness=measure_responsiveness(
            model,
            windows,
            deadline_hz=chosen.deadline_hz,
            num_samples=chosen.num_samples,
            repeats=chosen.repeats,
        ),
        generalisation=measure_generalisation(model, windows, shifted, seed=seed),
    )


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a card holds
    """Returns dataclasses, tuples and arrays as JSON can hold them."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}  # pyright: ignore
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
