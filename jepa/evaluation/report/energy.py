"""The energy over an action: what is imagined one step ahead, against the frame that came."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepa.evaluation.report.charts import (
    HALO,
    LIGHT,
    NEAR_TO_FAR,
    ON_HEAT,
    Theme,
    chart_png,
    empty_chart,
    paint_colour_bar,
    paint_legend,
)
from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.pieces import grid, number, table, themed
from jepa.evaluation.report.section import Finding, NotMeasured, Section
from jepa.evaluation.report.subject import Subject
from jepa.evaluation.scores import Interval, bootstrap_interval

PLANNING = "planning"  # by name: `jepa` does not import it
NUM_SITUATIONS, NUM_SHOWN = 24, 3
NUM_CELLS = 17


class RecordedSituation:
    """A moment of a recording as an environment whose goal is the frame that came next.

    It shows and can be asked; it cannot act.

    Args:
        specification: of the recording.
        frame: (height, width, 3), uint8, that came next.
        state: (state_dim,), then.
    """

    name = "recording"

    def __init__(self, specification: Any, frame: np.ndarray, state: np.ndarray) -> None:  # noqa: ANN401
        spec = importlib.import_module(f"{PLANNING}.actions.space").ActionSpec
        self.frames_per_second = specification.frames_per_second
        self.action_spec = spec(
            tuple(specification.action_names),
            tuple(specification.action_units),
            tuple(specification.action_low),
            tuple(specification.action_high),
        )
        self.goal = importlib.import_module(f"{PLANNING}.types").Goal(frame, state)


@dataclass(frozen=True)
class Situation:
    """A landscape and what was really done there.

    Attributes:
        landscape: a `planning.landscape.Landscape`.
        action: (2,), what was done, in the units of the landscape's axes.
    """

    landscape: Any
    action: np.ndarray

    @property
    def share_below(self) -> float:
        """Share of the grid whose cost is below that of the action that was done; 0.5 by chance.

        Where costs are equal, half of them count: a flat landscape gives 0.5.
        """
        land = self.landscape
        row, column = _nearest_cell(land, self.action)
        costs, at = land.costs, land.costs[row, column]
        others = costs.size - 1
        return float(((costs < at).sum() + ((costs == at).sum() - 1) / 2) / others)

    @property
    def angle_degrees(self) -> float | None:
        """Between the cheapest action and the one that was done, 0 to 180; 90 by chance."""
        middle = np.array([np.mean(axis[[0, -1]]) for axis in self._axes])
        half = np.array([np.ptp(axis) / 2 for axis in self._axes])
        best, done = (
            (action - middle) / half for action in (self.landscape.best_action, self.action)
        )
        scale = float(np.linalg.norm(best) * np.linalg.norm(done))
        if scale == 0:
            return None
        return float(np.degrees(np.arccos(np.clip(best @ done / scale, -1, 1))))

    @property
    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        return self.landscape.first, self.landscape.second


def energy_section(subject: Subject, clips: HeldOutClips) -> Section:
    """Returns landscapes at moments of the recording, and how low the actions done lie in them."""
    situations = recorded_situations(subject, clips)
    share = bootstrap_interval(np.array([s.share_below for s in situations]))
    angles = [angle for s in situations if (angle := s.angle_degrees) is not None]
    angle = bootstrap_interval(np.array(angles)) if angles else None
    numbers = {
        "situations": len(situations),
        "share_below_true_action": list(share),
        "angle_degrees": None if angle is None else list(angle),
    }
    chosen = np.unique(np.linspace(0, len(situations) - 1, NUM_SHOWN).round().astype(int))
    panels = [_panel(situations[index], place) for place, index in enumerate(chosen, start=1)]
    html = _INTRODUCTION + _score_table(share, angle, len(situations)) + grid(panels, _CAPTION)
    return Section(html, numbers, (_finding(share),))


def recorded_situations(subject: Subject, clips: HeldOutClips) -> list[Situation]:
    """Returns landscapes over the first two dimensions of an action, one each of some videos.

    Raises:
        NotMeasured: if there is no world model, no recorded action, or none with two dimensions
            and bounds.
    """
    model, windows = subject.world_model(), clips.of_world_model()
    specification = clips.specification
    _refuse_without_plane(specification)
    world = importlib.import_module(f"{PLANNING}.latent_world").LatentWorld(model)
    landscape_of = importlib.import_module(f"{PLANNING}.landscape").energy_landscape
    now_of = importlib.import_module(f"{PLANNING}.types").TimeStep
    frames = windows.frames.permute(0, 2, 3, 4, 1).numpy()
    raw_states = _raw_states(model, windows.states)
    situations, now = [], windows.num_past
    for clip in range(min(NUM_SITUATIONS, len(frames))):
        seen = now_of(frames[clip, now], raw_states[clip, now], False, False)
        environment = RecordedSituation(
            specification, frames[clip, now + 1], raw_states[clip, now + 1]
        )
        landscape = landscape_of(world, environment, seen, num_steps=1, num_cells=NUM_CELLS)
        done = world.action_steps.split(windows.actions[clip, now : now + 1].cpu())
        situations.append(Situation(landscape, done.double().mean(0).numpy()[:2]))
    return situations


def energy_chart(situation: Situation, *, theme: Theme, title: str = "") -> bytes:
    """Draws a landscape with the action that was done and the cheapest one, as PNG."""
    figure, axes = empty_chart(340, 380, theme)
    land = situation.landscape
    if np.ptp(land.costs) > 0:
        plane = (land.first, land.second, land.costs)
        filled = axes.contourf(*plane, levels=12, cmap=NEAR_TO_FAR)
        axes.contour(*plane, levels=12, colors=HALO, linewidths=0.4, alpha=0.6)
        bar = figure.colorbar(filled, ax=axes, location="bottom", aspect=34, pad=0.03)
        paint_colour_bar(bar, theme=theme, name="cost: latent distance to what came")
    marks = (("lowest cost", land.best_action, "o", HALO, 11),
             ("what was done", situation.action, "*", LIGHT.contrast, 16))  # fmt: skip
    for name, action, marker, colour, size in marks:
        axes.plot(
            *action, marker, color=colour, markersize=size, markeredgecolor=ON_HEAT,
            markeredgewidth=1.2, linestyle="none", label=name, clip_on=False, zorder=5,
        )  # fmt: skip
    axes.set_xlabel(f"{land.names[0]} ({land.units[0]})")
    axes.set_ylabel(f"{land.names[1]} ({land.units[1]})")
    axes.grid(False)
    legend = figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    paint_legend(legend, theme)
    return chart_png(figure)


def _refuse_without_plane(specification: Any) -> None:  # noqa: ANN401
    if len(specification.action_names) < 2:
        raise NotMeasured(
            f"an action has one dimension ({specification.action_names[0]}): there is no plane"
        )
    bounds = [*specification.action_low[:2], *specification.action_high[:2]]
    if not np.isfinite(bounds).all():
        raise NotMeasured("the recording says no bounds of its actions: the plane has no edges")


def _raw_states(model: Any, states: Any) -> np.ndarray:  # noqa: ANN401
    """Undoes `normalize_states`: (..., state_dim) in the units of the recording."""
    if not model.dynamics.state_dim:
        return states.cpu().numpy()
    return (states * model.state_std + model.state_mean).cpu().numpy()


def _nearest_cell(landscape: Any, action: np.ndarray) -> tuple[int, int]:  # noqa: ANN401
    column = int(np.abs(landscape.first - action[0]).argmin())
    row = int(np.abs(landscape.second - action[1]).argmin())
    return row, column


def _panel(situation: Situation, place: int) -> str:
    return themed(
        lambda theme: energy_chart(situation, theme=theme),
        f"Energy over the first two action dimensions, situation {place}",
    )


def _score_table(share: Interval, angle: Interval | None, count: int) -> str:
    rows = [["Share of actions that seem better than the one that was done",
             f"{number(share.value)} <small>{number(share.low)} to {number(share.high)}</small>",
             "0.5"]]  # fmt: skip
    if angle is not None:
        told = f"{number(angle.value)} <small>{number(angle.low)} to {number(angle.high)}</small>"
        rows.append(["Angle between the cheapest action and the one done (degrees)", told, "90"])
    return table(
        [f"{count} moments", "this checkpoint", "by chance"],
        rows,
        caption="Means with 95 % bootstrap intervals over videos.",
    )


def _finding(share: Interval) -> Finding:
    text = (
        f"Of all actions, {100 * share.value:.0f} % [{100 * share.low:.0f}, "
        f"{100 * share.high:.0f}] seem better to the model than the one that was done (50 % by "
        "chance)"
    )
    return Finding(text, share.high < 0.5)


_INTRODUCTION = (
    "<p>One action is imagined from a recorded frame, for every action of a plane, and compared "
    "with the frame that really came next. The cost should be lowest where the action is that was "
    "really done.</p>\n"
)
_CAPTION = (
    "The first two dimensions of an action; further ones are held at 0. Good is one smooth basin "
    "around the star. It would be bad if the basin lay elsewhere, or if there were none."
)
