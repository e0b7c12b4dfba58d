"""Writing a model's folder: at every moment it holds all of the old model or all of the new one.

An old config beside new weights of the same shapes would be a wrong model that loads. So all files
are first written to a folder inside, with their hashes; its renaming to `.written` is the moment
that counts. Then they are moved to their places, by whoever comes next if the writer is killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from jepa.checkpoints.manifest import MANIFEST, manifest_text
from jepa.partial_files import partial_of, sweep, sync_file

CONFIG, WEIGHTS = "config.json", "model.safetensors"
WRITTEN = ".written"


def write_folder(folder: Path, weights: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Writes model.safetensors, texts and sha256.json; files of other names stay.

    Args:
        folder: made if need be.
        weights: on any device; tensors that share memory are written once each.
        texts: by the names of their files, config.json among them.

    Raises:
        OSError: if it cannot be written; then there is what was there before.
    """
    with made_folder(folder):
        finish_writing(folder)
        sweep(folder)
        partial = partial_of(folder / WRITTEN)
        try:
            _write_all(partial, weights, texts)
            os.rename(partial, folder / WRITTEN)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync_file(folder)
        finish_writing(folder)


def finish_writing(folder: Path) -> None:
    """Moves the files of a model that is written to their places, if a killed process did not.

    Readers call it first. Until the last file has its place, there is no config, for those who do
    not.
    """
    written = folder / WRITTEN
    if not written.is_dir():
        return
    names = [path.name for path in written.iterdir()]
    if CONFIG in names:
        (folder / CONFIG).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == CONFIG):  # the config last
        with suppress(FileNotFoundError):  # another process does the same
            os.replace(written / name, folder / name)
    sync_file(folder)
    with suppress(FileNotFoundError):
        written.rmdir()


def _write_all(folder: Path, weights: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)
    save_file(_storable(weights), folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors writes for the user alone; the texts have the mode that the umask gives.
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)
    (folder / MANIFEST).write_text(manifest_text([folder / CONFIG, folder / WEIGHTS]))
    for path in (*folder.iterdir(), folder):
        sync_file(path)


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
