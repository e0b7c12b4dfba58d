"""What a section of the report is, and how one says that it could not be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class NotMeasured(ValueError):
    """Says in one line why a section cannot be made for this checkpoint and these data."""


class Finding(NamedTuple):
    """One line of the summary.

    Attributes:
        text: the line, not HTML.
        is_good: None where there is nothing to judge.
    """

    text: str
    is_good: bool | None = None


@dataclass(frozen=True)
class Section:
    """A section that was made.

    Attributes:
        html: what is in it.
        numbers: every number in it, as JSON can hold it.
        findings: its lines in the summary.
    """

    html: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
