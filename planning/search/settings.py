"""Planners by the names of their files, with settings as text: `cem`, `num_samples=256`.

A planner is found by walking `planning/planners`; what can be set are the fields of its class.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from planning import planners
from planning.search.rounds import SearchPlanner

_TRUE_AND_FALSE = {"true": True, "false": False}


def planner_names() -> tuple[str, ...]:
    """Returns the names of all planners, sorted; some may need an extra to be made."""
    names = (module.name for module in pkgutil.iter_modules(planners.__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def make_planner(name: str, settings: Mapping[str, str | float | bool]) -> SearchPlanner:
    """Makes the planner called `name`.

    Args:
        name: of a file in `planning/planners`, without `.py`; dashes count as underscores.
        settings: values of the planner's fields, as text or already of the right type.

    Raises:
        ValueError: if there is no such planner or setting (the nearest name is told), or a value
            cannot be read or is out of range.
        ImportError: if the planner needs a package that is not installed.
    """
    kind = planner_class(name)
    fields = _settable(kind)
    values = {}
    for key, value in settings.items():
        if key not in fields:
            raise ValueError(f"{name} has no setting {key!r}; {_meant(key, fields)}")
        values[key] = _read(value, fields[key], where=f"{name}: {key}")
    return kind(**values)


def planner_class(name: str) -> type[SearchPlanner]:
    """Returns the class of a planner; see `make_planner`."""
    module_name, names = name.replace("-", "_"), planner_names()
    if module_name not in names:
        raise ValueError(f"no planner {name!r}; {_meant(module_name, names)}")
    module = importlib.import_module(f"{planners.__name__}.{module_name}")
    for value in vars(module).values():
        is_its_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_its_own and issubclass(value, SearchPlanner) and not _is_abstract(value):
            return value
    raise TypeError(f"{module.__name__} has no subclass of SearchPlanner; define one")


def parse_settings(pairs: Iterable[str]) -> dict[str, str]:
    """Returns `["horizon=8", ...]` as a mapping; of one key the last value counts.

    Raises:
        ValueError: if a pair is not KEY=VALUE.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise ValueError(f"--set needs KEY=VALUE, got {pair!r}; for example --set horizon=8")
        settings[key.strip().replace("-", "_")] = value.strip()
    return settings


def settings_of(planner: SearchPlanner) -> dict[str, Any]:
    """Returns every field of a planner as plain numbers and text, for a log."""
    return {
        field.name: value if isinstance(value, (int, float, str, type(None))) else repr(value)
        for field in dataclasses.fields(planner)
        for value in [getattr(planner, field.name)]
    }


def _is_abstract(kind: type) -> bool:
    return bool(getattr(kind, "__abstractmethods__", None))


def _settable(kind: type[SearchPlanner]) -> dict[str, Any]:
    """Returns the types of the fields that text can set."""
    hints = get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}
    return {name: hint for name, hint in fields.items() if _plain_types(hint)}


def _plain_types(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Returns int, float, bool, str, None or Literals of which a hint is a union; () if more."""
    is_union = get_origin(hint) in (Union, types.UnionType)
    parts = get_args(hint) if is_union else (hint,)
    plain = (int, float, bool, str, type(None))
    return parts if all(p in plain or get_origin(p) is Literal for p in parts) else ()


def _read(value: str | float | bool, hint: Any, *, where: str) -> Any:  # noqa: ANN401
    for kind in _plain_types(hint):
        try:
            return _as(str(value), kind)
        except ValueError:
            continue
    allowed = " or ".join(_called(kind) for kind in _plain_types(hint))
    raise ValueError(f"{where} must be {allowed}, got {value!r}")


def _as(text: str, kind: Any) -> Any:  # noqa: ANN401
    """Returns `text` as a value of `kind`. Raises ValueError if it is none."""
    if kind is type(None) and text.lower() in ("none", "null"):
        return None
    if kind is bool and text.lower() in _TRUE_AND_FALSE:
        return _TRUE_AND_FALSE[text.lower()]
    if get_origin(kind) is Literal and text in map(str, get_args(kind)):
        return next(choice for choice in get_args(kind) if str(choice) == text)
    if kind in (int, float, str):
        return kind(text)
    raise ValueError


def _called(kind: Any) -> str:  # noqa: ANN401
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "none")


def _meant(word: str, known: Iterable[str]) -> str:
    """Says which of the known words was probably meant."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}there are: {', '.join(names)}"
