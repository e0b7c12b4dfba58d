"""What a world model needs to be useful: the report card of `jepa world-model`."""

from __future__ import annotations

from html import escape

from jepa.evaluation.report.charts import DARK, LIGHT
from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.pieces import grid, picture_pair, table, tag
from jepa.evaluation.report.section import Finding, Section
from jepa.evaluation.report.subject import Subject
from jepa.evaluation.world_model_card.card import CardSettings, WorldModelCard, measure_card
from jepa.evaluation.world_model_card.figures import card_figures
from jepa.evaluation.world_model_card.table import rows

OUTCOMES = {"pass": True, "fail": False}
TIMED_REPEATS = 20
ALT_TEXTS = {
    "drift": "Error of imagined latents by the number of steps, beside a copy of the start",
    "response": "How far each action dimension moves the next latent",
    "latency": "Histograms of the time of each kind of work",
    "shifts": "Error in shifted worlds over the nominal error",
}


def world_model_section(subject: Subject, clips: HeldOutClips, *, seed: int = 0) -> Section:
    """Returns the card of the held-out windows.

    Raises:
        NotMeasured: if the checkpoint is no world model, or the data hold no actions.
    """
    model, windows = subject.world_model(), clips.of_world_model()
    card = measure_card(
        model,
        windows,
        {},
        settings=CardSettings(repeats=TIMED_REPEATS, seed=seed),
        model_name=subject.name,
        data_name=clips.shards,
    )
    return shown_card(card)


def shown_card(card: WorldModelCard) -> Section:
    """Returns verdicts, numbers and charts of a card."""
    findings = tuple(
        Finding(f"World model, {name}: {verdict.reason}", OUTCOMES[verdict.outcome])
        for name, verdict in card.verdicts.items()
        if verdict.outcome in OUTCOMES
    )
    html = f"{_verdict_table(card)}{_number_table(card)}{_charts(card)}"
    return Section(html, card.to_json(), findings)


def _verdict_table(card: WorldModelCard) -> str:
    shown = []
    for name, verdict in card.verdicts.items():
        outcome = {"pass": "success", "fail": "failure"}.get(verdict.outcome, "")
        told = tag(escape(verdict.outcome), outcome)
        shown.append([escape(name), told, escape(verdict.reason)])
    return table(["Property", "", "rule and what was seen"], shown)


def _number_table(card: WorldModelCard) -> str:
    shown = [[escape(str(cell)) for cell in row[1:]] for row in rows(card)]
    inner = table(["Measure", "value [95 % over episodes]", "beside"], shown)
    return f"<details><summary>Every number of the card</summary>{inner}</details>\n"


def _charts(card: WorldModelCard) -> str:
    light, dark = (card_figures(card, theme=theme) for theme in (LIGHT, DARK))
    panels = [picture_pair(light[name], dark[name], ALT_TEXTS.get(name, name)) for name in light]
    return (
        grid(
            panels,
            "Of the held-out recordings. Timings are of this machine, and of what else it did.",
        )
        if panels
        else ""
    )
