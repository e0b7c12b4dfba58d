"""Whether Weights & Biases can be reached with a key, found out without importing it."""

from __future__ import annotations

import os
from pathlib import Path


def has_wandb_key() -> bool:
    """True if a key is in the environment or `wandb login` has left one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return "wandb" in netrc.read_text()
    except OSError:
        return False
