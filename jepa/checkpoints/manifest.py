"""sha256.json in a model's folder: what each file must be, looked at before it is used.

safetensors has no check sums: a flipped bit in a weight loads. A folder without the file, as others
write them, is taken as it is; remove the file after changing a config by hand.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MANIFEST = "sha256.json"
FORMAT = 1
CHUNK_BYTES = 1 << 20


def manifest_text(files: list[Path]) -> str:
    """Returns the content of sha256.json for files of one folder."""
    digests = {path.name: sha256_of(path) for path in files}
    return _text(digests)


def refuse_damage(path: Path) -> None:
    """Compares a file with the sha256.json beside it, if there is one.

    Raises:
        ValueError: the file is not the one that was written, or sha256.json is not whole.
    """
    manifest = path.with_name(MANIFEST)
    if not manifest.exists() or not path.exists():
        return
    digests = _read(manifest)
    if gone := [name for name in digests if not (manifest.parent / name).exists()]:
        raise ValueError(f"{manifest} names {gone[0]!r}, which is not there: take the folder again")
    wanted = digests.get(path.name)
    if not isinstance(wanted, str):
        raise ValueError(f"{manifest} is damaged: it does not name {path.name}")
    if sha256_of(path) != wanted:
        raise ValueError(
            f"{path} is not the file that {MANIFEST} beside it names: cut short or changed; take "
            f"the folder again, or remove {MANIFEST} if you changed it yourself"
        )


def sha256_of(path: Path) -> str:
    """Returns the hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _text(digests: dict[str, str]) -> str:
    return json.dumps({"format": FORMAT, "sha256": digests}, indent=1) + "\n"


def _read(manifest: Path) -> dict[str, object]:
    try:
        text = manifest.read_bytes().decode()  # read_text would not tell \r\n from \n
        content = json.loads(text)
        number, digests = content["format"], content["sha256"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise ValueError(f"{manifest} is damaged: it names no hashes") from error
    if number != FORMAT:
        raise ValueError(f"{manifest} has format {number!r}, this version reads {FORMAT}; upgrade")
    if not isinstance(digests, dict) or _text(digests) != text:  # not a byte that we do not write
        raise ValueError(f"{manifest} is damaged: it names no hashes")
    return digests
