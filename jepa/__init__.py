"""Representations: JEPA encoders, predictors, objectives and their training.

    model = jepa.from_pretrained("path/or/hub-name")
    tokens = model.encoder(video)  # uint8 (batch, 3, time, height, width)

Importing this package imports neither torch nor Lightning, so the command line stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import data_pipelines  # noqa: F401  (first: lets torchvision live with a CPU-only torch)
from jepa.version import __version__

if TYPE_CHECKING:
    from jepa.checkpoints.pretrained import from_pretrained

__all__ = ["__version__", "from_pretrained"]


def __getattr__(name: str) -> object:
    """Imports `from_pretrained`, and torch with it, when it is asked for."""
    if name == "from_pretrained":
        from jepa.checkpoints.pretrained import from_pretrained

        return from_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
