"""World models that come with a clone: `checkpoints/NAME`, found by name, checked by their hashes.

`checkpoints/manifest.json` says of each which bytes it must have, so a file that was cut short by a
download, or changed, is not taken for the one that was measured.
"""

from __future__ import annotations

import json
from pathlib import Path

from jepa.checkpoints.folder_writing import CONFIG, WEIGHTS
from jepa.checkpoints.manifest import MANIFEST as FOLDER_MANIFEST
from jepa.checkpoints.manifest import manifest_text, sha256_of

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
MANIFEST = "manifest.json"


def shipped_names(root: Path = CHECKPOINTS) -> tuple[str, ...]:
    """Returns the names of all checkpoints that are shipped, sorted; () outside of a clone."""
    return tuple(sorted(_manifest(root)))


def resolve_checkpoint(name: str | Path, *, root: Path = CHECKPOINTS) -> Path:
    """Returns the folder that a user means: one that exists, or else a checkpoint by its name.

    Shipped checkpoints are checked, however they are named.

    Args:
        name: a path, or the name of a shipped checkpoint. A path that exists goes first.
        root: the folder of the shipped checkpoints.

    Returns:
        The folder; as given, if it is neither.

    Raises:
        ValueError: if files of a shipped checkpoint are not those that its manifest names.
    """
    path = Path(name)
    is_a_name = len(path.parts) == 1 and not path.exists()
    folder = root / path.name if is_a_name else path.resolve()
    if folder.parent != root or folder.name not in _manifest(root):
        return path
    for file, digest in _manifest(root)[folder.name].items():
        if not (folder / file).is_file() or sha256_of(folder / file) != digest:
            raise ValueError(
                f"{folder / file} is not the file that {root / MANIFEST} names (sha256 "
                f"{digest[:12]}...): it is missing, cut short or changed; take it from the "
                "repository again"
            )
    return folder if is_a_name else path


def write_manifest(root: Path = CHECKPOINTS) -> Path:
    """Writes the hashes of config and weights of every checkpoint in `root`; returns the file.

    Beside each checkpoint they are written again, for those who copy its folder.
    """
    folders = [folder for folder in sorted(root.iterdir()) if (folder / WEIGHTS).is_file()]
    content = {
        folder.name: {file: sha256_of(folder / file) for file in (CONFIG, WEIGHTS)}
        for folder in folders
    }
    for folder in folders:
        text = manifest_text([folder / CONFIG, folder / WEIGHTS])
        (folder / FOLDER_MANIFEST).write_text(text, encoding="utf-8")
    path = root / MANIFEST
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def _manifest(root: Path) -> dict[str, dict[str, str]]:
    path = root / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
