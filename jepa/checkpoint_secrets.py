"""URLs in the settings that a checkpoint repeats, without what opens them.

A run's settings are in its config.yaml, the user's own text. Lightning copies them into every
checkpoint, which are what people share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SETTINGS = ("hyper_parameters", "datamodule_hyper_parameters")
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(://[^?#\s]*)[?#]\S*")


def without_secrets(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint whose settings hold no user, password or query of a URL."""
    cleaned = {name: _cleaned(checkpoint[name]) for name in SETTINGS if name in checkpoint}
    return checkpoint | cleaned


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - whatever a setting is
    if isinstance(value, str):
        return _QUERY.sub(r"\1", _USER.sub("", value))
    if isinstance(value, Mapping):
        return {name: _cleaned(child) for name, child in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_cleaned(child) for child in value)
    return value
