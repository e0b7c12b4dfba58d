"""Environments, found by the names of their files: `two_rooms` is in `two_rooms.py`.

Importing this package imports no simulator. A new file is found without being listed anywhere.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planning.types import Environment

__all__ = ["environment_names", "make_environment"]


def environment_names() -> tuple[str, ...]:
    """Returns the names of all environments, sorted; some may need an extra to be made."""
    modules = pkgutil.iter_modules(__path__)
    return tuple(sorted(module.name for module in modules if not module.name.startswith("_")))


def make_environment(name: str, **options: Any) -> Environment:  # noqa: ANN401
    """Makes the environment called `name`.

    Args:
        name: the name of a file of this folder, without `.py`.
        options: of its class, by name; those that are not given have their defaults.

    Returns:
        The environment, before its first reset.

    Raises:
        ValueError: if no environment has that name, it has no such option, or a value is refused.
        ImportError: if the simulator behind it is not installed; the message says how.
    """
    kind = _class_named(_known_name(name))
    allowed = inspect.signature(kind).parameters
    for option, value in options.items():
        if option not in allowed:
            raise ValueError(
                f"{name} has no option {option!r}; {_hint(option, tuple(allowed))}there are: "
                f"{', '.join(allowed)}"
            )
        _refuse_other_type(f"{option} of {name}", value, allowed[option].default)
    return kind(**options)


def _refuse_other_type(what: str, value: Any, default: Any) -> None:  # noqa: ANN401
    """Raises ValueError if a plain default has a value of another kind: a size that is a word."""
    wanted: type | tuple[type, ...] = type(default)
    if wanted not in (bool, int, float, str):
        return
    if wanted is float:
        wanted = (float, int)
    if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool):
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise ValueError(
            f"{what} must be {kind[type(default)]}, such as {default!r}, got {value!r}"
        )


def _known_name(name: str) -> str:
    names = environment_names()
    if name not in names:
        raise ValueError(
            f"no environment {name!r}; {_hint(name, names)}there are: {', '.join(names)}"
        )
    return name


def _hint(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def _class_named(name: str) -> type[Environment]:
    """Returns the class of the module `name` whose attribute `name` is `name`."""
    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        is_its_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_its_own and getattr(value, "name", None) == name:
            return value
    raise TypeError(f"{module.__name__} has no class whose `name` is {name!r}; give one that name")
