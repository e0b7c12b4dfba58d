"""Environments, found by the names of their files: `two_rooms` is in `two_rooms.py`.

Importing this package imports no simulator. A new file is found without being listed anywhere.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planning.types import Environment

__all__ = ["environment_names", "make_environment"]


def environment_names() -> tuple[str, ...]:
    """Returns the names of all environments, sorted; some may need an extra to be made."""
    modules = pkgutil.iter_modules(__path__)
    return tuple(sorted(module.name for module in modules if not module.name.startswith("_")))


def make_environment(name: str) -> Environment:
    """Makes the environment called `name`, with its defaults.

    Args:
        name: the name of a file of this folder, without `.py`.

    Returns:
        The environment, before its first reset.

    Raises:
        ValueError: if no environment has that name.
        ImportError: if the simulator behind it is not installed; the message says how.
    """
    names = environment_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no environment {name!r}; {hint}there are: {', '.join(names)}")
    return _class_named(name)()


def _class_named(name: str) -> type[Environment]:
    """Returns the class of the module `name` whose attribute `name` is `name`."""
    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        is_its_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_its_own and getattr(value, "name", None) == name:
            return value
    raise TypeError(f"{module.__name__} has no class whose `name` is {name!r}; give one that name")
