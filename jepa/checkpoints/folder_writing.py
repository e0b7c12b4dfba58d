"""Writing a model's folder: all of its files or none, whatever was there before.

An old config beside new weights of the same shapes would be a wrong model that loads. So all files
are first written under temporary names; then the old config goes, and the new one comes last: a
folder whose writing was cut short has no config, and is refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_folder(folder: Path, weights: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Writes model.safetensors and texts; files of other names stay.

    Args:
        folder: made if need be.
        weights: on any device; tensors that share memory are written once each.
        texts: by the names of their files, config.json among them.

    Raises:
        OSError: if it cannot be written; then there is what was there before, or no config.json.
    """
    written = {name: folder / f"{name}.tmp" for name in (WEIGHTS, *texts)}
    with made_folder(folder), _without_leftovers(written.values()):
        for name, text in texts.items():
            written[name].write_text(text)
        save_file(_storable(weights), written[WEIGHTS], metadata={"format": "pt"})
        # safetensors writes for the user alone; the texts have the mode that the umask gives.
        shutil.copymode(written[CONFIG], written[WEIGHTS])
        (folder / CONFIG).unlink(missing_ok=True)
        for name in sorted(written, key=lambda name: name == CONFIG):  # the config last
            os.replace(written[name], folder / name)


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Makes a folder; after an error, those that it made and that are empty are removed."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:  # also Ctrl-C; it is raised again
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


@contextmanager
def _without_leftovers(temporaries: Iterable[Path]) -> Iterator[None]:
    """Removes temporary files that are still there at the end."""
    try:
        yield
    finally:
        for path in temporaries:
            path.unlink(missing_ok=True)


def _storable(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns contiguous weights on the CPU, of which no two overlap: safetensors refuses those."""
    ready = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    end = 0  # of the memory of all tensors so far, in the order of their addresses
    for name, value in sorted(ready.items(), key=lambda item: item[1].data_ptr()):
        start = value.data_ptr()
        if start < end:
            ready[name] = value.clone()
        end = max(end, start + value.nbytes)
    return ready
