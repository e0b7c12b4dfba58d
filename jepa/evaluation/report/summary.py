"""The beginning and the end of a report: what it is of, what was found, what was not measured."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from html import escape

from jepa.evaluation.report.clips import HeldOutClips
from jepa.evaluation.report.pieces import table, tag
from jepa.evaluation.report.section import Finding
from jepa.evaluation.report.subject import Subject
from jepa.version import __version__

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn")


def summary_html(
    subject: Subject, clips: HeldOutClips, findings: Sequence[Finding], *, command: str
) -> str:
    """Returns verdicts first, then what was looked at and with what."""
    return (
        f"{findings_html(findings)}{_facts(subject, clips)}"
        f"<h3>Do it again</h3>\n<pre><code>{escape(command)}</code></pre>\n"
        f"<details><summary>Architecture (config.json)</summary><pre><code>"
        f"{escape(json.dumps(subject.config, indent=2, default=str))}</code></pre></details>\n"
    )


def findings_html(findings: Sequence[Finding]) -> str:
    """Returns one line each, with a word beside it where there is something to judge."""
    if not findings:
        return "<p>Nothing could be judged; the last section says why.</p>\n"
    words = {True: ("good", "success"), False: ("not good", "failure"), None: ("", "")}
    rows = []
    for finding in findings:
        word, outcome = words[finding.is_good]
        told = f"{tag(word, outcome)} " if word else ""
        rows.append(f'<li class="{outcome}">{told}{escape(finding.text)}</li>')
    return f'<ul class="measures">{"".join(rows)}</ul>\n'


def unmeasured_html(reasons: Mapping[str, str]) -> str:
    """Returns what could not be measured, by the title of its section, and why."""
    if not reasons:
        return "<p>Everything that this report knows of was measured.</p>\n"
    rows = [[escape(title), escape(reason)] for title, reason in reasons.items()]
    return table(["Section", "why it could not be made"], rows)


def versions() -> dict[str, str]:
    """Returns the versions of what the numbers depend on."""
    found = {"jepa": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def facts(subject: Subject, clips: HeldOutClips) -> dict[str, str | int]:
    """Returns what was looked at, as plain values."""
    parameters = sum(value.numel() for value in subject.model.parameters())
    return {
        "checkpoint": subject.name,
        "kind": subject.kind,
        "source": subject.model.source,
        "parameters": parameters,
        "weights_fingerprint": subject.fingerprint,
        "data": clips.shards,
        "data_fingerprint": clips.fingerprint,
        "videos": clips.num_samples,
        "videos_read": len(clips.keys),
        "clip_length_frames": int(clips.video.shape[2]),
        "image_size": subject.image_size,
    }


def _facts(subject: Subject, clips: HeldOutClips) -> str:
    rows = [
        [
            escape(name.replace("_", " ")),
            f"{value:,}" if isinstance(value, int) else escape(value),
        ]
        for name, value in facts(subject, clips).items()
        if value != ""
    ]
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    rows.append(["versions", escape(told)])
    return table(["What was looked at", ""], rows)


def size_line(num_bytes: int, seconds: float) -> str:
    """Returns how large the page is and how long it took, one line."""
    size = f"{num_bytes / 1e6:.2f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.0f} kB"
    return f"{size}, {seconds:.0f} s"
