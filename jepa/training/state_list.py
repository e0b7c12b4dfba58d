"""The closed list of what a checkpoint holds: a run is resumed from all of it, or not at all.

Lightning skips what it does not find: without moments, counts or the state of the data a resumed
run goes on, as another run. So a checkpoint says what it holds, and what is gone or new is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATE_LIST = "state_list"
NOTED_BY_LIGHTNING = "legacy_pytorch-lightning_version"  # when it reads one of an older version
SHOWN = 3


def note_entries(checkpoint: dict[str, Any]) -> None:
    """Writes into a checkpoint which entries it has; to be called when it has them all."""
    checkpoint[STATE_LIST] = sorted(entries(checkpoint))


def refuse_other_entries(checkpoint: Mapping[str, Any]) -> None:
    """Raises if a checkpoint has lost an entry, or gained one, since it was made.

    Raises:
        ValueError: naming the first ones.
    """
    if STATE_LIST not in checkpoint:
        raise ValueError(
            f"the checkpoint has no {STATE_LIST}, so it is of an older version or not of `jepa "
            "fit`; --from starts a new run from its weights"
        )
    wanted, found = set(checkpoint[STATE_LIST]), entries(checkpoint)
    troubles = {"lacks": wanted - found, "has, and should not have,": found - wanted}
    for verb, names in troubles.items():
        if names:
            shown = ", ".join(sorted(names)[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise ValueError(
                f"the checkpoint {verb} {shown}{more}: a run is not resumed from a part of its "
                "state; take another checkpoint, or start a new run from these weights with --from"
            )


def entries(checkpoint: Mapping[str, Any]) -> set[str]:
    """Returns every value's way through the dictionaries and lists: optimizer_states.0.state..."""
    found: set[str] = set()
    for name, value in checkpoint.items():
        if name not in (STATE_LIST, NOTED_BY_LIGHTNING):
            _add(found, str(name), value)
    return found


def _add(found: set[str], way: str, value: object) -> None:
    if isinstance(value, Mapping):
        children = list(value.items())
    elif isinstance(value, list | tuple):
        children = list(enumerate(value))
    else:
        children = []
    for name, child in children:
        _add(found, f"{way}.{name}", child)
    if not children:
        found.add(way)
