"""The frame of our HTML pages: one file that needs nothing but itself.

A browser is forbidden to fetch anything for it or to run any script but ours, so a label from
outside that slipped through unescaped could do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from jepa.evaluation.report.script import SCRIPT
from jepa.evaluation.report.style import STYLE

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<p class='eyebrow'>{eyebrow}</p>
<h1>{heading}</h1>
{lead}<nav>{links}</nav>
</header>
{sections}
{footer}
</main>
{data}{script}</body>
</html>
"""


class Part(NamedTuple):
    """One section of a page.

    Attributes:
        name: its anchor: letters, digits and dashes.
        title: its heading.
        html: what is in it.
    """

    name: str
    title: str
    html: str


def page_html(
    parts: Sequence[Part],
    *,
    title: str,
    eyebrow: str,
    heading: str,
    lead: str = "",
    footer: str = "",
    numbers: Mapping[str, Any] | None = None,
    has_script: bool = False,
) -> str:
    """Returns a whole page.

    Args:
        parts: the sections, in order.
        title: of the browser's tab.
        eyebrow: a few words over the heading.
        heading: of the page.
        lead: HTML between heading and contents.
        footer: a line at the end; none if empty.
        numbers: are part of the page as JSON, for programs; None: none are.
        has_script: whether the page has sliders.
    """
    return TEMPLATE.format(
        policy=_policy(SCRIPT if has_script else ""),
        title=escape(title),
        style=STYLE,
        eyebrow=escape(eyebrow),
        heading=escape(heading),
        lead=lead,
        links=" ".join(
            f'<a href="#{escape(part.name)}">{escape(part.title)}</a>' for part in parts
        ),
        sections="\n".join(
            f'<section id="{escape(part.name)}"><h2>{escape(part.title)}</h2>\n{part.html}'
            "</section>"
            for part in parts
        ),
        footer=f"<footer>{escape(footer)}</footer>" if footer else "",
        data="" if numbers is None else _as_data(numbers),
        script=f"<script>{SCRIPT}</script>\n" if has_script else "",
    )


def _policy(script: str) -> str:
    """What a browser may do with the page: show its own pictures and style, run its own script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    allowed = f"'sha256-{digest}'" if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


def _as_data(numbers: Mapping[str, Any]) -> str:
    """JSON that no browser takes for HTML, whatever the names in it are."""
    text = json.dumps(numbers, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="numbers">{text}</script>\n'
