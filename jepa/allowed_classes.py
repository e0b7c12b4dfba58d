"""Which classes a config may name: naming one imports its module and calls it.

    jepa fit --config theirs.yaml --allow-class my_package     # a config that names classes of mine
    jepa fit --config ours.yaml --trainer.callbacks+=my_package.MyCallback    # typed, so meant

The check itself is jsonargparse's: every name that it would import passes one place there. What is
typed on the command line is the user's own word; what a file says is not.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_parsing_settings

ALLOWED = (
    *("jepa", "planning", "data_pipelines"),
    *("torch.optim", "torch.nn", "torchvision.transforms"),
    *("lightning", "pytorch_lightning"),
)
OPTION = "--allow-class"
# Reads a pickle, from anywhere: a checkpoint is named by --ckpt_path or --from.
_NEVER = [
    f"{package}.core.module.LightningModule.load_from_checkpoint"
    for package in ("lightning.pytorch", "pytorch_lightning")
] + [
    f"{package}.core.datamodule.LightningDataModule.load_from_checkpoint"
    for package in ("lightning.pytorch", "pytorch_lightning")
]


@contextmanager
def only_allowed_classes(named: Sequence[str]) -> Iterator[None]:
    """Within it, a config may name classes of `ALLOWED` and of `named`, and no others.

    Args:
        named: packages, modules or classes by their dotted names, from the user.
    """
    mine = sorted(set(named) - set(ALLOWED))
    set_parsing_settings(
        import_path_denylist=["*", *_NEVER],
        import_path_allowlist=[*ALLOWED, *mine],
        instantiate_subclass_spec_in_any=False,  # a class where only a value is expected
    )
    try:
        yield
    finally:
        set_parsing_settings(import_path_denylist=mine)


def take_allowed(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes `--allow-class NAME` (also =NAME, also several times) off the command line.

    Args:
        arguments: those of `jepa fit`.

    Returns:
        The other arguments; and what was allowed, with the packages of the classes typed there.

    Raises:
        ValueError: if the option has no name, or one that is none.
    """
    rest: list[str] = []
    allowed: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument != OPTION and not argument.startswith(f"{OPTION}="):
            rest.append(argument)
            continue
        name = argument.partition("=")[2] or next(left, "")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(
                f"{OPTION} takes the dotted name of a package, module or class, got {name!r}"
            )
        allowed.append(name)
    return rest, allowed + typed_packages(rest)


def typed_packages(arguments: Sequence[str]) -> list[str]:
    """Returns the packages of the dotted names that are typed as values, in order.

    Paths of files that exist are none, and neither are the modules of Python itself: there, every
    name that could be meant does something else than making a part of a training.

    Raises:
        ValueError: if a value is nested too deeply to be read.
    """
    found: list[str] = []
    follows_config = False
    for before, argument in itertools.pairwise(["", *arguments]):
        option, equals, value = argument.partition("=")
        names_config = option in ("-c", "--config")
        if not follows_config and not (names_config and equals):
            is_whole = option.startswith("-") and equals
            try:
                found += _dotted(value if is_whole else argument)
            except RecursionError as error:
                named = option if is_whole else before
                raise ValueError(f"{named}: its value is nested too deeply to be read") from error
        follows_config = names_config and not equals
    return [name for name in dict.fromkeys(found) if name not in sys.stdlib_module_names]


def _dotted(text: str) -> list[str]:
    """Returns the first parts of all dotted names in a value, as YAML reads it."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return []
    return [
        name.partition(".")[0]
        for name in _strings(value)
        if "." in name
        and all(part.isidentifier() for part in name.split("."))
        and not Path(name).exists()
    ]


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 - whatever YAML holds
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
