"""Many small records in few large arrays: what an index of a million samples is held in.

As objects, a record of names and numbers takes 2 kB, and each forked process that looks at it gets
a copy of its own, since looking changes the count of its references. In columns it takes what its
bytes take, and looking at one makes a new record that is soon gone.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar, overload

ItemT = TypeVar("ItemT")
_NO_CRC32 = -1
_NO_TEXT = -1
_NAN = float("nan")


class Place(NamedTuple):
    """Where one file of a record lies in its tar."""

    extension: str
    offset: int
    size: int
    crc32: int | None


class Record(NamedTuple):
    """One record.

    Attributes:
        texts: as many in every record.
        places: in their order.
        numbers: as many in every record; None if they are not known.
    """

    texts: tuple[str | None, ...]
    places: tuple[Place, ...]
    numbers: tuple[float, ...] | None


class RecordColumns:
    """Records, read-only; a text that comes more than once is held once.

    Args:
        records: to hold.
        num_texts: of each.
        num_numbers: of each.

    Raises:
        TypeError, ValueError, OverflowError, AttributeError: if a value is of another kind, or no
            64-bit integer.
    """

    def __init__(self, records: Iterable[Record], *, num_texts: int, num_numbers: int) -> None:
        self.num_texts, self.num_numbers = num_texts, num_numbers
        pool: dict[str, int] = {}  # text -> which one
        layouts: dict[tuple[str, ...], int] = {}  # extensions in their order -> which one
        self._texts = array("i")
        self._layout = array("i")
        self._ends = array("q")  # of each record, in the places
        self._places = array("q")  # offset, size and CRC-32
        self._numbers = array("d")
        for texts, places, numbers in records:
            self._texts.extend(
                _NO_TEXT if text is None else pool.setdefault(text, len(pool)) for text in texts
            )
            extensions = tuple(place.extension for place in places)
            self._layout.append(layouts.setdefault(extensions, len(layouts)))
            for _, offset, size, crc32 in places:
                self._places.extend((offset, size, _NO_CRC32 if crc32 is None else crc32))
            self._ends.append(len(self._places))
            self._numbers.extend((_NAN,) * num_numbers if numbers is None else numbers)
        self.layouts = tuple(layouts)
        encoded = [text.encode("utf-8", "surrogatepass") for text in pool]
        self._blob = b"".join(encoded)
        self._text_ends = array("q", [0, *accumulate(map(len, encoded))])

    def __len__(self) -> int:
        return len(self._layout)

    def __getitem__(self, number: int) -> Record:
        first, stop = number * self.num_numbers, (number + 1) * self.num_numbers
        numbers = tuple(self._numbers[first:stop])
        return Record(
            tuple(self.text(number, column) for column in range(self.num_texts)),
            self.places(number),
            None if numbers and numbers[0] != numbers[0] else numbers,
        )

    def text(self, number: int, column: int) -> str | None:
        """Returns one text of a record."""
        which = self._texts[number * self.num_texts + column]
        if which == _NO_TEXT:
            return None
        start, end = self._text_ends[which : which + 2]
        return self._blob[start:end].decode("utf-8", "surrogatepass")

    def places(self, number: int) -> tuple[Place, ...]:
        """Returns the places of a record."""
        at = self._ends[number - 1] if number else 0
        values = self._places[at : self._ends[number]]
        return tuple(
            Place(name, values[n], values[n + 1], None if values[n + 2] < 0 else values[n + 2])
            for n, name in zip(range(0, len(values), 3), self.extensions(number), strict=True)
        )

    def extensions(self, number: int) -> tuple[str, ...]:
        """Returns the extensions of a record's places, in their order."""
        return self.layouts[self._layout[number]]

    def known(self, column: int, extensions: Iterable[tuple[str, ...]]) -> Iterator[float]:
        """Yields one number of all records with certain extensions that have numbers."""
        wanted = {which for which, names in enumerate(self.layouts) if names in set(extensions)}
        for layout, number in zip(
            self._layout, self._numbers[column :: self.num_numbers], strict=True
        ):
            if layout in wanted and number == number:
                yield number

    def count(self, extensions: Iterable[tuple[str, ...]]) -> int:
        """Returns how many records have certain extensions."""
        wanted = set(extensions)
        return sum(
            self._layout.count(which) for which, names in enumerate(self.layouts) if names in wanted
        )


class Chained(Sequence[ItemT]):
    """Several sequences as one; none is copied."""

    def __init__(self, parts: Iterable[Sequence[ItemT]]) -> None:
        self.parts = tuple(parts)
        self._ends = array("q", accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> ItemT: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[ItemT, ...]: ...
    def __getitem__(self, number: int | slice) -> ItemT | tuple[ItemT, ...]:
        if isinstance(number, slice):
            return tuple(self[one] for one in range(len(self))[number])
        number = range(len(self))[number]  # counts from the end, or raises IndexError
        part = bisect.bisect_right(self._ends, number)
        return self.parts[part][number - (self._ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[ItemT]:
        for part in self.parts:
            yield from part

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)
