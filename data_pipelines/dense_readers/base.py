"""The contract of a reader of dense labels, and how the one that fits a folder is found.

A new reader is a file `x.py` in this folder; its layout is then "x". It has

- `SUMMARY`, a plain string: one line for `--help`;
- `open_source(source: Path) -> DenseSource`, which raises `SourceError` if the layout is another.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.dense_labels import DenseClip
from data_pipelines.importers.base import SourceError


class DenseSource(ABC):
    """An opened data set: clips by number, each read when it is asked for."""

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Names of the clips, in a fixed order; no two are alike."""

    @abstractmethod
    def clip(self, number: int) -> DenseClip:
        """Reads a clip.

        Args:
            number: its place in `keys`.

        Raises:
            SourceError: if a file is missing, or not as the layout asks for.
            DecodeError: if a picture cannot be read.
        """

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[DenseClip]:
        return (self.clip(number) for number in range(len(self)))


def layouts() -> dict[str, str]:
    """Returns every layout by name, with what it is in one line; imports none of them."""
    folder = Path(__file__).parent
    names = sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
    found = {name: _summary(folder / f"{name}.py") for name in names}
    return {name: summary for name, summary in found.items() if summary is not None}


def open_dense(source: str | Path, *, layout: str | None = None) -> DenseSource:
    """Opens a data set with dense labels.

    Args:
        source: a folder or a file.
        layout: one of `layouts()`; None: the first that fits.

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        SourceError: if it is not of this layout, or of none.
        ValueError: if there is no such layout.
    """
    source, known = Path(source), layouts()
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}")
    if layout is not None and layout not in known:
        raise ValueError(f"layout must be one of {', '.join(known)}, got {layout!r}")
    reasons = []
    for name in known if layout is None else [layout]:
        module = importlib.import_module(f"data_pipelines.dense_readers.{name}")
        try:
            return module.open_source(source)
        except SourceError as error:
            reasons.append(str(error))
    if layout is not None:
        raise SourceError(reasons[0])
    raise SourceError(
        f"{source}: no data set with dense labels in a layout that is known: {', '.join(known)}; "
        "--layout NAME tells why it is not that one"
    )


def one_size(name: str, shapes: set[tuple[int, ...]]) -> None:
    """Raises SourceError if pictures of one clip differ in height or width."""
    if len(shapes) > 1:
        raise SourceError(f"{name}: its pictures differ in size: {sorted(shapes)}")


def _summary(path: Path) -> str | None:
    """Returns the SUMMARY of a module without running it; None if it has none."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUMMARY":
            return str(ast.literal_eval(node.value))
    return None
