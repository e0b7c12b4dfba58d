"""What a tar says of a member ahead of its header: PAX records and GNU's long names.

A header has room for 100 characters of ASCII and for whole seconds. What does not fit comes before
it, as a small file of another type: WebDataset writes one for every member (a time with a
fraction), `tar` one for a long name. Names, sizes and sparse files change what is read; times,
owners and the like do not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_EXTENSION_BYTES = 1 << 16  # a path has 4 KiB at most; the attributes of a file, 64 KiB
OF_ALL_MEMBERS = b"g"  # the type of a PAX header that holds to the end of the tar
_PAX, _LONG_NAME, _LONG_LINK = b"x", b"L", b"K"
EXTENSION_TYPES = (_PAX, OF_ALL_MEMBERS, _LONG_NAME, _LONG_LINK)

_MAX_DIGITS = 19  # of a number below 2**63


class ExtensionError(ValueError):
    """What is said ahead of a header, and cannot be understood."""


@dataclass(frozen=True)
class Extension:
    """What was said ahead of a header; None where the header itself counts.

    Attributes:
        name: of the member, as it was written.
        size: of the member, in bytes.
        is_sparse: True if the member's bytes are not those of the file, but its pieces.
    """

    name: bytes | None = None
    size: int | None = None
    is_sparse: bool = False


def extended(before: Extension, kind: bytes, data: bytes) -> Extension:
    """Returns an extension with what one more block of it says.

    Args:
        before: what was said so far.
        kind: the type of the block's header, one of `EXTENSION_TYPES`.
        data: the block's content.

    Raises:
        ExtensionError: if it cannot be understood, or says of all members what can be of one only.
    """
    if kind == _LONG_LINK:  # where a link leads; links are refused
        return before
    if kind == _LONG_NAME:
        return replace(before, name=data.split(b"\0")[0])
    records = pax_records(data)
    changes = [key for key in records if key in ("path", "size") or key.startswith("GNU.sparse.")]
    if kind == OF_ALL_MEMBERS:
        if changes:
            raise ExtensionError(f"a global PAX header gives all members one '{changes[0]}'")
        return before
    name, size = records.get("path"), records.get("size")
    return Extension(
        name=name or before.name,  # an empty record takes an earlier one back
        size=_number(size) if size else before.size,
        is_sparse=before.is_sparse or any(key.startswith("GNU.sparse.") for key in changes),
    )


def pax_records(data: bytes) -> dict[str, bytes]:
    r"""Returns the records of a PAX header: key -> value, of `b"20 mtime=1700000000\n"` the time.

    Raises:
        ExtensionError: if it is none.
    """
    records: dict[str, bytes] = {}
    place = 0
    while place < len(data):
        digits, _, _ = data[place : place + _MAX_DIGITS].partition(b" ")
        end = place + _number(digits)
        record = data[place + len(digits) + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(data) or not key or not equals or not record.endswith(b"\n"):
            raise ExtensionError(f"damaged: no PAX record at its byte {place}")
        records[key.decode("utf-8", "replace")] = value
        place = end
    return records


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise ExtensionError(f"damaged: {digits[:_MAX_DIGITS]!r} is no number")
    return int(digits)
