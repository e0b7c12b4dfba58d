"""From plain values (of YAML or JSON) to frozen dataclasses, with no key or type let pass."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

T = TypeVar("T")
_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_PLAIN = (int, float, str, bool, type(None))
# The latter four: what PyYAML makes of `2020-13-01`, `!!bool x`, `!!int ''` and `!!timestamp x`.
_NOT_READ = (yaml.YAMLError, ValueError, KeyError, IndexError, AttributeError)


class _NoKeyTwice(yaml.SafeLoader):
    """YAML lets the last of two equal keys win, so that a number may not be the one one reads."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raises yaml.constructor.ConstructorError if a key is there twice."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(content: bytes | str, *, where: str) -> Any:  # noqa: ANN401
    """Returns the plain values of a YAML file in which no key is there twice.

    Raises:
        ValueError: if it is no YAML, is nested too deeply, or a key is there twice; one line.
    """
    try:
        # It is a safe loader: it makes plain values only.
        return yaml.load(content, Loader=_NoKeyTwice)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply to be read") from error
    except _NOT_READ as error:
        raise ValueError(f"{where} is no YAML: {' '.join(str(error).split())}") from error


def read_as(kind: type[T], values: object, *, where: str) -> T:
    """Returns the dataclass `kind` of a mapping of its fields.

    Fields may be numbers, text, Literals, tuples, mappings of plain values, other dataclasses and
    unions of these with None.

    Args:
        kind: a dataclass; its fields without a default are required.
        values: what was read.
        where: names the values in errors, such as "card.yaml".

    Raises:
        ValueError: for an unknown or missing key, or a value of another type; one line.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping of keys, got {_shown(values)}")
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # pyright: ignore
    for key in values:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"{where}: unknown key {key!r}; {hint}known are {', '.join(fields)}")
    missing = [name for name, f in fields.items() if name not in values and _is_required(f)]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    hints = get_type_hints(kind)
    read = {key: _value(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return kind(**read)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _is_required(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _value(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """Returns `value` as the type `hint`. Raises ValueError if it is another."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _of_union(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return read_as(hint, value, where=where)  # pyright: ignore
    if origin is tuple and isinstance(value, (list, tuple)):
        kind = get_args(hint)[0]
        return tuple(_value(kind, part, f"{where}[{i}]") for i, part in enumerate(value))
    if origin is not None and origin is not Literal and isinstance(value, Mapping):
        return _plain_mapping(value, where)
    if origin is Literal and value in get_args(hint):
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint in _NAMES and type(value) is hint:
        return value
    raise ValueError(f"{where} must be {_called(hint)}, got {_shown(value)}")


def _of_union(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if value is None and type(None) in get_args(hint):
        return None
    (kind,) = (part for part in get_args(hint) if part is not type(None))
    return _value(kind, value, where)


def _plain_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    for key, part in value.items():
        parts = part if isinstance(part, (list, tuple)) else [part]
        if not isinstance(key, str) or not all(isinstance(one, _PLAIN) for one in parts):
            raise ValueError(f"{where} must hold names and plain values, got {_shown(part)}")
    return dict(value)


def _called(hint: Any) -> str:  # noqa: ANN401
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list"
    return _NAMES.get(hint, "a mapping")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
