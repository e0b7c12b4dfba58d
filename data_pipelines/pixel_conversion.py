"""How PyAV turns pixels of one format into another: in the calling thread.

Since version 17, PyAV shares each frame among as many threads as there are cores. In our loaders
and packers every core has its own work already, and small frames take two to three times as long.
"""

from __future__ import annotations

from importlib.metadata import version


def one_thread() -> dict[str, int]:
    """Returns the arguments of `reformat` and `to_ndarray` that keep one frame to one thread."""
    return {"threads": 1} if int(version("av").split(".")[0]) >= 17 else {}
