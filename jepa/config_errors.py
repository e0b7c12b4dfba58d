"""jsonargparse's messages, said in one line, with the name that was probably meant."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Collection, Iterator
from typing import Any, get_args, get_type_hints

from jepa.allowed_classes import ALLOWED, OPTION

_CLASS_PATH = re.compile(r"Problem with given class_path '([^']+)'")
_OPTION = re.compile(r"[Oo]ption '([^']+)' is not accepted")
_GROUP_OPTION = re.compile(r"(?:Subcommand|Group) '[^']+' does not accept option '([^']+)'")
_UNRECOGNIZED = re.compile(r"unrecognized arguments: (--\S+)")
_NO_ATTRIBUTE = re.compile(r"module '([^']+)' has no attribute '([^']+)'")
_NO_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")
_NO_MODULE = re.compile(r"No module named '([^']+)'")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_KEY = re.compile(r'Parser key "([^"]+)"')
_MOST_NAMES = 12  # of classes, in a line that can still be read
_TRIED = ("Does not validate", "Expected a ")  # what else the parser tried
_BOILERPLATE = (
    "Does not validate against any of the Union subtypes",
    "Subtypes:",
    "Errors:",
    "- Expected a <class 'NoneType'>",
    "Given value type:",
)


class ConfigError(ValueError):
    """A config or an override that says something we do not understand."""


def explain(message: str, option_names: Collection[str]) -> str:
    """One line for a message of the parser.

    Args:
        message: as jsonargparse wrote it, often on ten lines.
        option_names: every option of the parser, without leading dashes: "trainer.max_steps".

    Returns:
        What is wrong, where, and the name that was probably meant.
    """
    key = _last(_KEY, message)
    where = f"{key}: " if key else ""
    class_path = _last(_CLASS_PATH, message)
    if denied := _last(_DENIED, message):
        return (
            f"{where}a config may name classes of {', '.join(ALLOWED)}, not {denied!r}: naming it "
            f"runs its code; if you know and mean it: {OPTION} {denied.partition('.')[0]}"
        )
    if (option := _last(_OPTION, message)) and class_path:
        return (
            f"{where}{class_path} has no option {option!r}{_suggest_argument(class_path, option)}"
        )
    if option := _last(_GROUP_OPTION, message):
        return f"there is no option {option!r}{_suggest(option, option_names)}"
    if option := _last(_UNRECOGNIZED, message):
        name = option.lstrip("-").partition("=")[0]
        return f"there is no option {option!r}{_suggest(name, option_names, prefix='--')}"
    if found := _NO_ATTRIBUTE.search(message):
        names = vars(sys.modules.get(found[1], object))
        return f"{where}{found[1]} has no class {found[2]!r}{_suggest(found[2], names)}"
    if name := _last(_NO_CLASS, message):
        return f"{where}there is no class {name!r}{_suggest_class(class_path, key, name)}"
    if found := _NO_MODULE.search(message):
        return f"{where}no module {found[1]!r}; is the class_path spelt right?"
    if "arguments are required" in message:
        return f"{message}; a config brings them: --config pretrain/tiny.yaml"
    lines = [line.strip(" -") for line in message.splitlines() if _says_something(line)]
    return _KEY.sub(r"\1", re.sub(r"a <class '([^']+)'>", r"\1", " ".join(lines)))


def explain_refusal(message: str) -> str:
    """What a class said against its arguments, out of the parser's page around it."""
    if not message.startswith(_BOILERPLATE[0]):
        return message
    said = [line.strip() for line in message.splitlines() if line.strip().startswith("- ")]
    said = [line.removeprefix("- ") for line in said]
    return "; ".join(line for line in said if not line.startswith(_TRIED)) or message


def accepted_arguments(class_path: str) -> list[str]:
    """The names that a class takes in its config; none if its module is not imported."""
    module, _, name = class_path.rpartition(".")
    try:
        named = getattr(sys.modules[module], name)
        classes = inspect.getmro(named) if isinstance(named, type) else (named,)
        names: list[str] = []
        for one in classes:  # a class that takes **options hands them to its parent
            parts = inspect.signature(one).parameters.values()
            names += [part.name for part in parts if part.kind not in _VARIADIC]
            if not any(part.kind is inspect.Parameter.VAR_KEYWORD for part in parts):
                break
    except (KeyError, AttributeError, ValueError, TypeError):
        return []
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def accepted_classes(class_path: str, argument: str) -> list[str]:
    """The names of the classes that are known and that an argument of a class takes, sorted."""
    module, _, name = class_path.rpartition(".")
    try:
        owner = getattr(sys.modules[module], name)
        hints = [get_type_hints(one.__init__) for one in inspect.getmro(owner)]
    except (KeyError, AttributeError, ValueError, TypeError, NameError):
        return []
    wanted = next((hint[argument] for hint in hints if argument in hint), None)
    found = {one for base in _classes_in(wanted) for one in _with_subclasses(base)}
    return sorted(one.__name__ for one in found if not inspect.isabstract(one))


def _classes_in(hint: Any) -> Iterator[type]:  # noqa: ANN401 - an annotation
    """Yields the classes that have parts of their own: not None, numbers or texts."""
    for part in get_args(hint):
        yield from _classes_in(part)
    if isinstance(hint, type) and hint.__module__ != "builtins":
        yield hint


def _with_subclasses(base: type) -> Iterator[type]:
    """Yields a class and the public ones under it that come with its package."""
    if not base.__name__.startswith("_"):
        yield base
    for child in base.__subclasses__():
        if child.__module__.partition(".")[0] == base.__module__.partition(".")[0]:
            yield from _with_subclasses(child)


def _suggest_class(class_path: str | None, argument: str | None, name: str) -> str:
    names = accepted_classes(class_path or "", argument or "")
    close = _suggest(name, names)
    if names and len(names) <= _MOST_NAMES:
        takes = f"it takes {', '.join(names)}"
        return f"{close} ({takes})" if close else f"; {takes}"
    return close or "; write where it is: its module, a dot and its name"


def _suggest_argument(class_path: str, option: str) -> str:
    names = accepted_arguments(class_path)
    return _suggest(option, names) or f"; it takes {', '.join(names) or 'none'}"


def _suggest(name: str, names: Collection[str], *, prefix: str = "") -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if not close:  # a section misspelt: modle.class_path
        section, dot, rest = name.partition(".")
        sections = {known.partition(".")[0] for known in names}
        near = difflib.get_close_matches(section, sections, n=1)
        close = [f"{near[0]}{dot}{rest}"] if dot and near and near[0] != section else []
    return f"; did you mean '{prefix}{close[0]}'?" if close else ""


def _last(pattern: re.Pattern[str], message: str) -> str | None:
    """The innermost of nested problems is the one to mend, and it is written last."""
    found = pattern.findall(message)
    return found[-1] if found else None


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not any(text in line for text in _BOILERPLATE)
