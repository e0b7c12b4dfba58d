"""Makes all sections of a report, and the page of them: what cannot be made says why."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.energy import energy_section
from jepa.evaluation.report.feature_maps import feature_map_section
from jepa.evaluation.report.health import health_section
from jepa.evaluation.report.imagination import Imagination, imagine
from jepa.evaluation.report.page import Part, page_html
from jepa.evaluation.report.pixel_decoding import pixel_section
from jepa.evaluation.report.predicted_neighbours import neighbour_section
from jepa.evaluation.report.probes import probe_section
from jepa.evaluation.report.section import NotMeasured, Section
from jepa.evaluation.report.subject import Subject
from jepa.evaluation.report.summary import facts, summary_html, unmeasured_html, versions
from jepa.evaluation.report.surprise import surprise_section
from jepa.evaluation.report.world_model import world_model_section
from jepa.version import __version__

logger = logging.getLogger(__name__)

# What a section may meet that is no fault of ours: data that do not fit, packages that are missing.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)
FORMAT = 1


@dataclass(frozen=True)
class Inputs:
    """All that a report is made from.

    Attributes:
        subject: the checkpoint.
        clips: held-out data.
        decoder_steps: optimizer steps of the pixel decoder; 0: none is trained.
        physics: folder of pairs of possible and impossible videos; None: there are none.
        seed: of all that is drawn.
        command: that makes the same report again.
    """

    subject: Subject
    clips: HeldOutClips
    decoder_steps: int = 400
    physics: Path | None = None
    seed: int = 0
    command: str = ""

    @cached_property
    def imagination(self) -> Imagination:
        """Predicted latents, computed once for all sections."""
        return imagine(self.subject, self.clips)


@dataclass(frozen=True)
class Report:
    """A report that was made.

    Attributes:
        html: the page.
        numbers: everything that was measured, as JSON can hold it.
        unmeasured: title of a section to why it could not be made.
        lines: what was found, one line each.
        seconds: by the name of the section.
    """

    html: str
    numbers: dict[str, Any]
    unmeasured: dict[str, str]
    lines: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)


SECTIONS: Mapping[str, tuple[str, Callable[[Inputs], Section]]] = {
    "health": (
        "Is it healthy?",
        lambda inputs: health_section(inputs.subject, inputs.clips, seed=inputs.seed),
    ),
    "probes": (
        "What can be read off",
        lambda inputs: probe_section(inputs.subject, inputs.clips, seed=inputs.seed),
    ),
    "feature-maps": (
        "What the encoder sees",
        lambda inputs: feature_map_section(inputs.subject, inputs.clips),
    ),
    "predicted-neighbours": (
        "What the model thinks comes next",
        lambda inputs: neighbour_section(inputs.imagination),
    ),
    "energy": (
        "Energy over an action",
        lambda inputs: energy_section(inputs.subject, inputs.clips),
    ),
    "pixels": (
        "Imagined frames, drawn",
        lambda inputs: pixel_section(
            inputs.imagination, num_steps=inputs.decoder_steps, seed=inputs.seed
        ),
    ),
    "surprise": (
        "Is the impossible surprising?",
        lambda inputs: surprise_section(inputs.subject, inputs.physics, seed=inputs.seed),
    ),
    "world-model": (
        "Report card of the world model",
        lambda inputs: world_model_section(inputs.subject, inputs.clips, seed=inputs.seed),
    ),
}


def make_report(
    inputs: Inputs, *, sections: Mapping[str, tuple[str, Callable[[Inputs], Section]]] = SECTIONS
) -> Report:
    """Makes every section that can be made.

    Args:
        inputs: what it is made from.
        sections: name to title and maker, in order.
    """
    made, unmeasured, seconds = {}, {}, {}
    for name, (title, make) in sections.items():
        began = time.perf_counter()
        outcome = _made(make, inputs)
        seconds[name] = time.perf_counter() - began
        if isinstance(outcome, Section):
            made[name] = outcome
        else:
            unmeasured[title] = outcome
        logger.info("%s: %.1f s", title, seconds[name])
    findings = [finding for section in made.values() for finding in section.findings]
    first = summary_html(inputs.subject, inputs.clips, findings, command=inputs.command)
    parts = [Part("summary", "Summary", first)]
    for name, (title, _) in sections.items():
        html = made[name].html if name in made else _said(unmeasured[title])
        parts.append(Part(name, title, html))
    parts.append(Part("unmeasured", "What could not be measured", unmeasured_html(unmeasured)))
    numbers = _numbers(inputs, made, unmeasured)
    html = page_html(
        parts,
        title=f"jepa report: {inputs.subject.name}",
        eyebrow="jepa report",
        heading=f"Report on {inputs.subject.name}",
        lead=f'<p class="verdict">A {escape(inputs.subject.kind)}, looked at on '
        f"{len(inputs.clips.keys)} held-out videos.</p>\n",
        footer=f"Written by jepa {__version__}.",
        numbers=numbers,
        has_script=True,
    )
    lines = tuple(finding.text for finding in findings)
    return Report(html, numbers, unmeasured, lines, seconds)


def _made(make: Callable[[Inputs], Section], inputs: Inputs) -> Section | str:
    """Returns the section, or why there is none."""
    try:
        return make(inputs)
    except EXPECTED as error:
        if not isinstance(error, NotMeasured):
            logger.warning("%s", error)
        return " ".join(str(error).split()) or type(error).__name__


def _said(reason: str) -> str:
    return f'<p class="missing">Not measured: {escape(reason)}.</p>\n'


def _numbers(
    inputs: Inputs, made: Mapping[str, Section], unmeasured: Mapping[str, str]
) -> dict[str, Any]:
    sections = {name: dict(section.numbers) for name, section in made.items()}
    told = {
        "format": FORMAT,
        "facts": facts(inputs.subject, inputs.clips),
        "versions": versions(),
        "command": inputs.command,
        "seed": inputs.seed,
        "sections": sections,
        "findings": [
            {"text": finding.text, "is_good": finding.is_good}
            for section in made.values()
            for finding in section.findings
        ],
        "unmeasured": dict(unmeasured),
    }
    return _finite_or_none(told)


def _finite_or_none(value: Any) -> Any:  # noqa: ANN401
    """JSON knows no NaN: what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _finite_or_none(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(inner) for inner in value]
    return None if isinstance(value, float) and value - value != 0 else value


def write_report(report: Report, path: Path, *, numbers: Path | None = None) -> None:
    """Writes the page, and the numbers as JSON beside it if a path for them is given."""
    for target, text in ((path, report.html), (numbers, json.dumps(report.numbers, indent=1))):
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
