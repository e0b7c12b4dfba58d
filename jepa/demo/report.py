"""The report of `jepa demo`: one HTML file that needs nothing but itself.

The sections follow the questions of a reader: did it work, what was learned, what does the
learned distance know, can the world model imagine, where does the planner's cost lead, what do
episodes look like, what are all the numbers, how long did it take, how is it done again. What a
run did not record is said to be missing; a check that failed is said first.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jepa.demo import figures
from jepa.demo.figures import POLICY_NOTES, policy_name, policy_order
from jepa.evaluation.report.charts import image_png, pca_colours
from jepa.evaluation.report.page import Part, page_html
from jepa.evaluation.report.pieces import (
    grid,
    image,
    is_number,
    missing,
    number,
    percent,
    strip_row,
    table,
    tag,
    themed,
    value_text,
)

Curve = tuple[np.ndarray, np.ndarray]


# ------------------------------------------------------------------ what the report is made of


@dataclass(frozen=True)
class FeatureMaps:
    """Patch features of a few frames by two encoders.

    Attributes:
        frames: (time, height, width, 3) uint8.
        trained: (time, patch rows, patch columns, dim).
        untrained: the same by an encoder of the same architecture with other, random weights.
    """

    frames: np.ndarray
    trained: np.ndarray
    untrained: np.ndarray


@dataclass(frozen=True)
class DistanceGeometry:
    """Three distances between the same pairs of positions.

    Attributes:
        path_length: (pairs,), the way on foot in pixels, through the door where it must.
        token_distance: (pairs,), mean absolute difference of the encoder's tokens.
        latent_distance: (pairs,), between slow features: the distance that the planner uses.
    """

    path_length: np.ndarray
    token_distance: np.ndarray
    latent_distance: np.ndarray


@dataclass(frozen=True)
class DistanceMap:
    """Distances from every free position to one goal.

    Attributes:
        values: (n, n), latent distance, NaN where not free; first axis is y, second x.
        token_values: (n, n), the same with the raw token distance.
        extent: left, right, top, bottom of the map in pixels of the frame.
        goal: (2,), x and y in pixels. Take the goal of an episode that goes through the door,
            and the picture of the README can draw its way over this map.
        background: (height, width, 3) uint8, the room.
    """

    values: np.ndarray
    token_values: np.ndarray
    extent: tuple[float, float, float, float]
    goal: np.ndarray
    background: np.ndarray


@dataclass(frozen=True)
class EnergyLandscape:
    """The imagined distance to the goal after repeating one action, dx by dy.

    Attributes:
        costs: (n, n), the cost of each action; row is dy, column is dx.
        dx: (n,), ascending, pixels per step.
        dy: (n,), ascending, pixels per step, down is positive.
        planned_action: (2,), what the planner chose here.
        oracle_action: (2,), what the shortest way would do here.
        start_frame: (height, width, 3) uint8.
        goal_frame: (height, width, 3) uint8.
    """

    costs: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    planned_action: np.ndarray
    oracle_action: np.ndarray
    start_frame: np.ndarray
    goal_frame: np.ndarray


@dataclass(frozen=True)
class ImaginedDistance:
    """The distance to the goal in one episode, as imagined and as it was.

    Attributes:
        imagined: for each plan (horizon,), the latent cost after each imagined action.
        real: (steps + 1,), the latent cost before the first step and after each.
        plan_starts: the environment step at which each plan was made.
    """

    imagined: Sequence[np.ndarray]
    real: np.ndarray
    plan_starts: Sequence[int]


@dataclass(frozen=True)
class EpisodePicture:
    """One episode to look at.

    Attributes:
        frames: (steps + 1, height, width, 3) uint8.
        goal: (height, width, 3) uint8.
        is_success: whether it ended at the goal.
        caption: what is to be seen.
        rule: why this episode is shown, such as "worst failure".
    """

    frames: np.ndarray
    goal: np.ndarray
    is_success: bool
    caption: str
    rule: str


@dataclass(frozen=True)
class Strip:
    """One rollout: what came, and the frames nearest to what was imagined.

    Attributes:
        real: (k, height, width, 3) uint8.
        imagined: (k, height, width, 3) uint8.
    """

    real: np.ndarray
    imagined: np.ndarray


@dataclass(frozen=True)
class ReportInputs:
    """All that the report shows; what is None is said to be missing.

    Attributes:
        summary: the content of summary.json.
        pretraining_metrics: metrics.csv of the encoder's training.
        world_model_metrics: metrics.csv of the world model's training.
        feature_maps: what the encoders see.
        geometry: distances against the length of the way.
        landscape: the cost over one action.
        imagined: imagined and real distance to the goal.
        distance_map: distances to one goal over the room.
        episodes: the episodes to look at, in order.
        rollout_strip: one imagined rollout in pictures.
    """

    summary: Mapping[str, Any]
    pretraining_metrics: Path | None = None
    world_model_metrics: Path | None = None
    feature_maps: FeatureMaps | None = None
    geometry: DistanceGeometry | None = None
    landscape: EnergyLandscape | None = None
    imagined: ImaginedDistance | None = None
    distance_map: DistanceMap | None = None
    episodes: Sequence[EpisodePicture] = ()
    rollout_strip: Strip | None = None


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Writes the report as one self-contained HTML file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_html(inputs), encoding="utf-8")


def report_html(inputs: ReportInputs) -> str:
    """The whole page."""
    verdict_html = f'<p class="verdict" id="verdict">{verdict(inputs.summary)}</p>\n'
    version = inputs.summary.get("version")
    return page_html(
        [Part(name, title, write(inputs)) for name, (title, write) in SECTIONS.items()],
        title=f"jepa demo: {_title_numbers(inputs.summary)}",
        eyebrow="jepa demo",
        heading="From video to goals reached",
        lead=_failed_checks(inputs.summary) + verdict_html,
        footer=f"Written by jepa {version}." if version else "",
    )


# ------------------------------------------------------------------ did it work

AS_DEEDS = {
    "straight_line": "walking straight to the goal",
    "sticky_random": "random actions that repeat",
    "random": "random actions",
    "do_nothing": "doing nothing",
}


def verdict(summary: Mapping[str, Any]) -> str:
    """One sentence (HTML) that the success rates support, and no more."""
    success = summary.get("success", {})
    planner = success.get("planner")
    if planner is None:
        return "This run has no planning result."
    reached = f"Given only an image of the goal, the planner reached {_counted(planner)}"
    baselines = {n: e for n, e in success.items() if n not in ("planner", "oracle")}
    if not baselines:
        return f"{reached}; no baseline was run."
    best = max(baselines, key=lambda name: baselines[name]["rate"])
    named = f"{AS_DEEDS.get(best, policy_name(best))}, reached {_counted(baselines[best])}"
    if planner["low"] > baselines[best]["high"]:
        return f"{reached}; the best baseline, {named}, and the intervals do not overlap."
    if planner["rate"] > baselines[best]["rate"]:
        return f"{reached}; the best baseline, {named}, so the intervals overlap."
    return f"{reached}, which is no better than the best baseline: {named}."


def _failed_checks(summary: Mapping[str, Any]) -> str:
    thresholds = summary.get("thresholds", [])
    failed = [entry for entry in thresholds if not entry["passed"]]
    if not failed:
        return ""
    rows = "".join(
        f"<li><b>{escape(str(entry['name']))}</b> is {number(entry['value'])}, {_limit(entry)}</li>"
        for entry in failed
    )
    return (
        f'<div class="failed" role="alert"><p><strong>{len(failed)} of {len(thresholds)} checks '
        f"failed.</strong> Read what follows with that in mind.</p><ul>{rows}</ul></div>\n"
    )


def _limit(entry: Mapping[str, Any]) -> str:
    """The limit, and its side where value and outcome tell it."""
    value, limit = entry["value"], entry["limit"]
    if not (is_number(value) and is_number(limit)) or value == limit:
        return f"limit {number(limit)}"
    side = "at least" if (value > limit) == bool(entry["passed"]) else "at most"
    return f"{side} {number(limit)}"


def _success_section(inputs: ReportInputs) -> str:
    success = inputs.summary.get("success", {})
    if not success:
        return missing("success rates")
    names = policy_order(success)
    bars = "".join(_success_bar(name, success[name]) for name in names)
    ticks = "".join(f"<span>{tick}</span>" for tick in ("0", "25", "50", "75", "100 %"))
    return (
        f'<figure><div class="bars rates">{bars}'
        f'<div class="bar axis"><span></span><span class="ticks">{ticks}</span><span></span></div>'
        "</div><figcaption>Share of the goals reached, with 95 % Wilson intervals (the thin "
        "lines). All policies get the same starts and goals. The oracle is an upper bound and the "
        "straight line knows both positions. Of the goal the planner sees the image only; of the "
        "agent, the image and its position, as a robot knows its own arm. It would be bad if "
        "the planner's interval touched that of a random policy, or if it reached goals "
        "in the same room only.</figcaption></figure>\n"
        f"{_rooms_table(success, names)}"
    )


def _success_bar(name: str, entry: Mapping[str, Any]) -> str:
    low, high = 100 * entry["low"], 100 * entry["high"]
    marker = " ours" if name == "planner" else ""
    return (
        f'<div class="bar{marker}" data-policy="{escape(name)}">'
        f'<span class="name">{escape(policy_name(name))} '
        f"<small>{escape(POLICY_NOTES.get(name, ''))}</small></span>"
        f'<span class="track"><span class="fill" style="width:{100 * entry["rate"]:.2f}%"></span>'
        f'<span class="whisker" style="left:{low:.2f}%;width:{high - low:.2f}%"></span></span>'
        f'<span class="value"><b>{percent(entry["rate"])}</b> {_of(entry)}</span></div>'
    )


def _rooms_table(success: Mapping[str, Any], names: Sequence[str]) -> str:
    columns = ("same_room", "different_rooms")
    if not any(column in success[name] for name in names for column in columns):
        return ""
    rows = [
        [escape(policy_name(name)), *(_share(success[name].get(column)) for column in columns)]
        for name in names
    ]
    return table(["Goals reached", "goal in the same room", "goal behind the door"], rows)


# ------------------------------------------------------------------ what was learned


def _learned_section(inputs: ReportInputs) -> str:
    return (
        "<p>A video encoder was trained to predict the features of hidden parts of a clip from "
        "the visible ones. It never saw a position, a goal or a reward.</p>\n"
        f"<h3>Training of the encoder</h3>\n{_pretraining_charts(inputs)}"
        f"<h3>What the features show</h3>\n{_feature_pictures(inputs.feature_maps)}"
        f"<h3>Can the position be read off?</h3>\n{_probe_table(inputs.summary)}"
        f"<h3>Training of the world model</h3>\n{_world_model_charts(inputs)}"
    )


def _pretraining_charts(inputs: ReportInputs) -> str:
    curves = read_metrics(inputs.pretraining_metrics)
    dim = inputs.summary.get("collapse", {}).get("dim")
    limit = ("dimensions", float(dim)) if is_number(dim) else None
    charts = [
        _curve_chart(_distinct(_chosen(curves, "loss/")), "Loss", log=True),
        _curve_chart(_chosen(curves, "collapse/effective_rank"), "Effective rank", limit=limit),
        _curve_chart(_chosen(curves, "collapse/feature_std"), "Spread of the features (std)"),
        _curve_chart(
            _chosen(curves, "collapse/target_online_distance"), "Target to online encoder"
        ),
        _curve_chart(_chosen(curves, "optim/learning_rate"), "Learning rate"),
        _curve_chart(_chosen(curves, "data/wait_share"), "Share of time waiting for data"),
    ]
    return grid(
        charts,
        "The loss alone proves nothing: features that are all alike predict each other perfectly. "
        "Healthy is a falling loss with an effective rank and a spread well above zero. It would "
        "be bad if rank or spread fell to the floor while the loss vanished (collapse), or if "
        "target and online encoder never differed (then there is no target).",
        absent="pretraining curves",
    )


def _world_model_charts(inputs: ReportInputs) -> str:
    curves = read_metrics(inputs.world_model_metrics)
    shown = {**_chosen(curves, "loss/"), **_chosen(curves, "baseline/")}
    charts = [
        _curve_chart(_distinct(shown), "Prediction error of the world model", log=True),
        _curve_chart(_chosen(curves, "optim/learning_rate"), "Learning rate"),
    ]
    return grid(
        charts,
        "The encoder is frozen; a second network learns what an action does to its features, one "
        "step from real features (teacher forcing) and several steps from its own (rollout). The "
        "dashed line is the error of predicting no change, for one step. It would be bad if the "
        "curves stayed near that line: then actions mean nothing to the model.",
        absent="world model curves",
    )


def _feature_pictures(maps: FeatureMaps | None) -> str:
    if maps is None:
        return missing("feature maps")
    chosen = np.linspace(0, len(maps.frames) - 1, min(8, len(maps.frames))).round().astype(int)
    trained, trained_share = pca_colours(maps.trained)
    untrained, untrained_share = pca_colours(maps.untrained)
    rows = [
        ("Frames", maps.frames),
        (f"Trained encoder (colours hold {100 * trained_share:.0f} % of the variance)", trained),
        (f"Untrained encoder (colours hold {100 * untrained_share:.0f} %)", untrained),
    ]
    strips = "".join(strip_row(name, images[chosen]) for name, images in rows)
    return (
        f'<figure class="strips">{strips}<figcaption>The features of each patch, coloured by '
        "their first three principal components; one basis per encoder, so a colour means the "
        "same in every frame. Look for the disc: after training its patches should have a colour "
        "of their own that travels with it, and rooms and wall should be apart. It would be bad "
        "if the trained row were noise, one flat colour, or the same in every frame."
        "</figcaption></figure>\n"
    )


def _encoder_title(name: str) -> str:
    return "Chance" if name == "chance" else f"{name.replace('_', ' ').capitalize()} encoder"


def _probe_table(summary: Mapping[str, Any]) -> str:
    probe = summary.get("probe", {})
    if not probe:
        return missing("probes")
    measures = list(dict.fromkeys(m for entry in probe.values() for m in entry))
    rows = [
        [
            escape(_encoder_title(encoder)),
            *(value_text(entry.get(measure)) for measure in measures),
        ]
        for encoder, entry in probe.items()
    ]
    head = ["Position of the disc", *map(_measure, measures)]
    return table(
        head,
        rows,
        caption="A linear read-out of the disc's position from frozen features, on frames it was "
        "not fitted on. 1 is perfect, 0 is no better than always saying the middle. It would be "
        "bad if the trained encoder were not above the untrained one.",
    )


def _measure(name: str) -> str:
    """How the report calls a measure, as HTML."""
    named = {"r2": "R²", "r2_all_tokens": "R², all tokens"}
    return escape(named.get(name, name.replace("_", " ")))


# ------------------------------------------------------------------ distance, imagination, energy


def _distance_section(inputs: ReportInputs) -> str:
    return (
        "<p>A planner needs a distance that falls along the way. Raw features of two positions a "
        "few pixels apart already differ as much as those of two rooms; so the planner works in "
        "<em>slow features</em>, the linear combinations of frozen features that change least "
        "from frame to frame of the random recording. Places that take long to wander between "
        "should be far apart there. The pictures below test both claims.</p>\n"
        f"{_heat_figures(inputs.distance_map)}{_scatter_figures(inputs.geometry)}"
    )


def _heat_figures(distance_map: DistanceMap | None) -> str:
    if distance_map is None:
        return missing("distance maps")
    goal, extent = distance_map.goal, distance_map.extent
    panels, arriving = [], []
    for name, values in (
        ("Slow features (the planner's distance)", distance_map.values),
        ("Raw tokens", distance_map.token_values),
    ):
        paths = figures.descent_paths(values, extent, goal)
        share = figures.share_that_arrives(paths, goal)
        arriving.append("an unknown share" if share is None else percent(share))
        panels.append(
            themed(
                lambda theme, values=values, name=name: figures.distance_heat(
                    values, distance_map, theme=theme, name=name
                ),
                f"Heat map of the distance to one goal over the two rooms: {name}",
            )
        )
    return grid(
        panels,
        "Distance to one goal (the star) from every place where the disc can stand; pale is "
        "near, lines join equal distances. Thin dark lines are walks that always go to the "
        "nearest place (by this distance) within one action's reach; a red cross marks one that "
        "is stuck. From all places, "
        f"{arriving[0]} of the walks arrive by slow features, {arriving[1]} by raw tokens. Good "
        "is a distance that flows around the wall and through the door; it would be bad if it "
        "crossed the wall as if there were none, or were flat away from the goal.",
        size="wide",
    )


def _scatter_figures(geometry: DistanceGeometry | None) -> str:
    if geometry is None:
        return missing("pairs of distances")
    path_length = geometry.path_length
    panels = [
        themed(
            lambda theme, distance=distance, name=name: figures.distance_scatter(
                path_length, distance, theme=theme, name=name
            ),
            f"Distance by {name} against the length of the way",
        )
        for name, distance in (
            ("Slow features", geometry.latent_distance),
            ("Raw tokens", geometry.token_distance),
        )
    ]
    return grid(
        panels,
        "Each pair of places: the length of the way between them (through the door where it "
        "must), and the learned distance. Stronger blue holds more pairs; the line is the median, "
        "dashed the quartiles. A useful distance rises along the whole axis in a narrow band; a "
        "line that is flat after a few pixels tells a planner nothing about where to go.",
        size="wide",
    )


def _imagination_section(inputs: ReportInputs) -> str:
    return f"{_imagined_figure(inputs.imagined)}{_rollout_figure(inputs.rollout_strip)}"


def _imagined_figure(imagined: ImaginedDistance | None) -> str:
    if imagined is None:
        return missing("imagined distances")
    chart = themed(
        lambda theme: figures.imagined_distance(
            imagined.real, imagined.imagined, imagined.plan_starts, theme=theme
        ),
        "Real latent distance to the goal over one episode, with the imagined one of each plan",
    )
    return grid(
        [chart],
        "One episode. Each orange branch starts where a plan was made and shows the distance to "
        "the goal that the plan expects after each of its actions; the thick line is what came. "
        "Only the first actions of a plan are carried out. Branches that leave along the thick "
        "line are good; it would be bad if they promised a fall that never comes, again and "
        "again.",
        size="full",
    )


def _rollout_figure(strip: Strip | None) -> str:
    if strip is None:
        return missing("rollout in pictures")
    nearest = "Imagined: frames with the nearest latent"
    rows = [("Real frames", strip.real), (nearest, strip.imagined)]
    strips = "".join(strip_row(name, images) for name, images in rows)
    return (
        f'<figure class="strips">{strips}<figcaption>The same actions carried out (above) and '
        "imagined (below). Nothing is drawn by the model: for each imagined latent the "
        "rendered frame with the nearest latent is shown. The disc should be at the same place in "
        "both rows; it would be bad if the lower row stood still or jumped about."
        "</figcaption></figure>\n"
    )


def _energy_section(inputs: ReportInputs) -> str:
    landscape = inputs.landscape
    if landscape is None:
        return missing("energy landscape")
    chart = themed(
        lambda theme: figures.energy_contour(landscape, theme=theme),
        "Contour map of the imagined distance over the action, with minimum, plan and oracle",
    )
    pair = "".join(
        f'<figure class="frame">{image(image_png(frame, scale=3), name, pixelated=True)}'
        f"<figcaption>{name}</figcaption></figure>"
        for name, frame in (("Start", landscape.start_frame), ("Goal", landscape.goal_frame))
    )
    return (
        f'<div class="beside"><div class="pair">{pair}</div><figure>{chart}<figcaption>The '
        "imagined distance to the goal after doing one action dx, dy four times from the start. "
        "(The planner weighs the mean over its whole horizon; its mark is the mean of its first "
        "four actions.) "
        f"{_angle_sentence(landscape)}Good is one smooth basin whose lowest point lies towards "
        "the oracle's action; a flat or bumpy map, or a basin that points into the wall, is what "
        "a planner fails on.</figcaption></figure></div>\n"
    )


def _angle_sentence(landscape: EnergyLandscape) -> str:
    angle = figures.angle_between_degrees(landscape.planned_action, landscape.oracle_action)
    if angle is None:
        return ""
    return f"The planned action points {angle:.0f}° away from the oracle's. "


# ------------------------------------------------------------------ episodes


def _episodes_section(inputs: ReportInputs) -> str:
    if not inputs.episodes:
        return missing("episodes")
    cards = "".join(_episode_card(episode) for episode in inputs.episodes)
    return (
        f'<div class="episodes">{cards}</div><p class="caption">Chosen by rule, not by taste. In '
        "each: the camera on the left, the goal image on the right, time below. A green border "
        "at the end is a success, a red one a failure.</p>\n"
    )


def _episode_card(episode: EpisodePicture) -> str:
    gif = figures.episode_gif(episode.frames, episode.goal, is_success=episode.is_success)
    outcome = "success" if episode.is_success else "failure"
    picture = image(gif, f"{episode.rule}: {outcome}", kind="gif", pixelated=True)
    return (
        f"<figure>{picture}<figcaption><b>{escape(episode.rule.capitalize())}</b> "
        f'<span class="tag {outcome}">{outcome}, {len(episode.frames) - 1} steps</span><br>'
        f"{escape(episode.caption)}</figcaption></figure>"
    )


# ------------------------------------------------------------------ numbers, time, again


def _numbers_section(inputs: ReportInputs) -> str:
    summary = inputs.summary
    rows = [row for rows in (_success_rows, _probe_rows, _rank_rows) for row in rows(summary)]
    rows += _world_model_rows(inputs) + _correlation_rows(inputs.geometry)
    compared = table(["Measure", "this run", "baseline", "what the baseline is"], rows)
    every = "".join(
        f'<tr data-key="{escape(key)}"><th>{escape(key)}</th><td>{value_text(value)}</td></tr>'
        for key, value in flatten(summary)
    )
    return (
        f"{compared if rows else missing('results')}{_checks_table(summary)}"
        f"<details><summary>Every number of summary.json</summary><div class='scroll'>"
        f'<table id="every-number"><tbody>{every}</tbody></table></div></details>\n'
    )


def _success_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    success = summary.get("success", {})
    if "planner" not in success:
        return []
    rates = percent(success["planner"]["rate"])
    return [
        ["Goals reached", rates, percent(success[name]["rate"]), escape(_baseline_name(name))]
        for name in policy_order(success)
        if name != "planner"
    ]


def _baseline_name(name: str) -> str:
    return "Oracle (upper bound)" if name == "oracle" else policy_name(name)


def _probe_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    probe = summary.get("probe", {})
    trained, untrained = probe.get("trained", {}), probe.get("untrained", {})
    return [
        [
            f"Probe of the position, {_measure(name)}",
            value_text(trained[name]),
            value_text(value),
            "untrained encoder",
        ]
        for name, value in untrained.items()
        if name in trained
    ]


def _rank_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    collapse = summary.get("collapse", {})
    if "effective_rank" not in collapse:
        return []
    rank, dim = value_text(collapse["effective_rank"]), value_text(collapse.get("dim"))
    return [["Effective rank of the features", rank, "1", f"collapse; {dim} is the most there is"]]


def _world_model_rows(inputs: ReportInputs) -> list[list[str]]:
    """The last logged errors of the world model beside that of predicting no change."""
    curves = read_metrics(inputs.world_model_metrics)
    copy = curves.get("baseline/copy")
    return [
        [
            f"World model, last {escape(name)}",
            value_text(float(values[-1])),
            value_text(None if copy is None else float(copy[1][-1])),
            "predicting no change",
        ]
        for name, (_, values) in _chosen(curves, "loss/teacher_forcing").items()
    ]


def _correlation_rows(geometry: DistanceGeometry | None) -> list[list[str]]:
    if geometry is None:
        return []
    latent = figures.spearman(geometry.path_length, geometry.latent_distance)
    token = figures.spearman(geometry.path_length, geometry.token_distance)
    name = "Distance and length of the way, Spearman"
    return [[name, value_text(latent), value_text(token), "raw tokens"]]


def _checks_table(summary: Mapping[str, Any]) -> str:
    thresholds = summary.get("thresholds", [])
    if not thresholds:
        return ""
    rows = [
        [
            escape(str(entry["name"])),
            value_text(entry["value"]),
            _limit(entry),
            tag("passed", "success") if entry["passed"] else tag("failed", "failure"),
        ]
        for entry in thresholds
    ]
    passed = sum(bool(entry["passed"]) for entry in thresholds)
    caption = f"{passed} of {len(rows)} checks passed. The command fails when one of them does."
    return f"<h3>Checks</h3>\n{table(['Check', 'value', 'limit', ''], rows, caption=caption)}"


def _time_section(inputs: ReportInputs) -> str:
    seconds = inputs.summary.get("seconds", {})
    stages = {name: value for name, value in seconds.items() if name != "total"}
    if not stages:
        return missing("times")
    total = seconds.get("total", sum(stages.values()))
    longest = max(*stages.values(), 1e-9)
    bars = "".join(
        f'<div class="bar"><span class="name">{escape(name.replace("_", " "))}</span>'
        f'<span class="track"><span class="fill" style="width:{100 * value / longest:.2f}%">'
        f'</span></span><span class="value"><b>{number(value)} s</b></span></div>'
        for name, value in stages.items()
    )
    return (
        f'<figure><div class="bars plain">{bars}</div><figcaption>Wall-clock seconds of each '
        f"stage; {number(total)} s in total. {_machine_sentence(inputs.summary)}</figcaption>"
        "</figure>\n"
    )


def _machine_sentence(summary: Mapping[str, Any]) -> str:
    machine = summary.get("machine", {})
    parts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items())
    return f"Machine: {escape(parts)}." if parts else ""


def _reproduce_section(inputs: ReportInputs) -> str:
    commands = inputs.summary.get("commands", [])
    if not commands:
        return missing("commands")
    lines = "\n".join(escape(command) for command in commands)
    settings = escape(json.dumps(inputs.summary.get("settings", {}), indent=2, default=str))
    return (
        "<p>Apart from this report the demo is nothing but these commands; each can be run alone, "
        f"with other data or settings.</p>\n<pre><code>{lines}</code></pre>\n"
        f"<details><summary>Settings of this run</summary><pre><code>{settings}</code></pre>"
        "</details>\n"
    )


# ------------------------------------------------------------------ reading


def read_metrics(path: Path | None) -> dict[str, Curve]:
    """Reads a metrics.csv: name to steps and values, both (rows,); blanks are left out.

    A column without a finite number, or a file that is not there, gives nothing.
    """
    if path is None or not path.is_file():
        return {}
    points: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = _finite_or_none(row.get("step"))
            for name, cell in row.items():
                value = _finite_or_none(cell)
                if step is not None and value is not None and name not in ("step", "epoch"):
                    points.setdefault(name, []).append((step, value))
    columns = {name: np.array(sorted(rows)) for name, rows in points.items()}
    return {name: (rows[:, 0], rows[:, 1]) for name, rows in columns.items()}


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yields the leaves of nested mappings and lists as (dotted key, value).

    >>> list(flatten({"a": {"b": 1}, "c": [2, 3]}))
    [('a.b', 1), ('c.0', 2), ('c.1', 3)]
    """
    if isinstance(value, Mapping):
        items: Iterator[tuple[Any, Any]] = iter(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = iter(enumerate(value))
    else:
        yield prefix, value
        return
    for key, inner in items:
        yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))


def _finite_or_none(cell: str | list[str] | None) -> float | None:
    try:
        value = float(cell) if isinstance(cell, str) else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _chosen(curves: Mapping[str, Curve], prefix: str) -> dict[str, Curve]:
    return {name: curve for name, curve in curves.items() if name.startswith(prefix)}


def _distinct(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Leaves out loss/total where another curve has the same values."""
    total = curves.get("loss/total")
    others = {name: curve for name, curve in curves.items() if name != "loss/total"}
    if total is not None and not any(np.array_equal(total, curve) for curve in others.values()):
        return {"loss/total": total, **others}
    return others


# ------------------------------------------------------------------ pieces of HTML


def _curve_chart(
    curves: Mapping[str, Curve],
    title: str,
    *,
    log: bool = False,
    limit: tuple[str, float] | None = None,
) -> str:
    if not curves:
        return ""
    return themed(
        lambda theme: figures.training_curves(
            curves, theme=theme, title=title, log=log, limit=limit
        ),
        f"{title} over training steps: {', '.join(curves)}",
    )


def _counted(entry: Mapping[str, Any]) -> str:
    """62 of 64 goals (97 %, 95 % interval 89 to 99 %)."""
    interval = f"95&nbsp;% interval {percent(entry['low'])} to {percent(entry['high'])}"
    if "episodes" not in entry:
        return f"<b>{percent(entry['rate'])}</b> of the goals ({interval})"
    count = f"{number(entry['successes'])} of {number(entry['episodes'])} goals"
    return f"<b>{count}</b> ({percent(entry['rate'])}, {interval})"


def _of(entry: Mapping[str, Any]) -> str:
    if "episodes" not in entry:
        return ""
    return f"<small>{number(entry['successes'])} of {number(entry['episodes'])}</small>"


def _share(entry: Any) -> str:  # noqa: ANN401
    """A success rate, given as a number or as a mapping with its counts."""
    if isinstance(entry, Mapping):
        return f"{percent(entry['rate'])} {_of(entry)}"
    return percent(entry) if is_number(entry) else "none"


def _title_numbers(summary: Mapping[str, Any]) -> str:
    planner = summary.get("success", {}).get("planner", {})
    if "episodes" not in planner:
        return "report"
    return f"{planner['successes']} of {planner['episodes']} goals reached"


SECTIONS: dict[str, tuple[str, Callable[[ReportInputs], str]]] = {
    "success": ("Did it work?", _success_section),
    "learned": ("What was learned", _learned_section),
    "distance": ("How far is far?", _distance_section),
    "imagination": ("Imagination", _imagination_section),
    "energy": ("Energy landscape", _energy_section),
    "episodes": ("Episodes", _episodes_section),
    "numbers": ("Every number and its baseline", _numbers_section),
    "time": ("Where the time went", _time_section),
    "reproduce": ("Do it again", _reproduce_section),
}
