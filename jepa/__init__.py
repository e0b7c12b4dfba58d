"""Representations: JEPA encoders, predictors, objectives and their training.

Importing this package imports neither torch nor Lightning, so the command line stays fast.
"""

import data_pipelines  # noqa: F401  (first: lets torchvision live with a CPU-only torch)
from jepa.version import __version__

__all__ = ["__version__"]
