"""What a training run leaves behind, and where.

    runs/<name>/
        config.yaml                 the whole configuration: `jepa fit -c` it to run again
        metrics.csv                 every logged number
        checkpoints/last.ckpt       `jepa fit … --ckpt_path last` goes on from it
        checkpoints/last.ckpt.previous  the one before it, should it be damaged
        validate/ test/ predict/    the same for those verbs
        wandb/                      with --wandb
        earlier_runs/1/             what a fresh run of the same name found here

The name is `--name`, or that of the first config as it stands in configs/ (`pretrain/tiny`).
`--trainer.default_root_dir` sets the whole path instead.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

RUNS = Path("runs")
FILES_OF_A_RUN = (
    "checkpoints",
    "metrics.csv",
    "config.yaml",
    "predictions",
    "encoder",
    "world_model",
)


def name_after_config(config_paths: Sequence[Path]) -> str | None:
    """A run's name by its first config: its place in configs/, or else its stem.

    >>> name_after_config([Path("/home/me/jepa/configs/pretrain/tiny.yaml"), Path("mine.yaml")])
    'pretrain/tiny'
    """
    if not config_paths:
        return None
    path = config_paths[0].with_suffix("")
    for depth, parent in enumerate(path.parents):
        if parent.name == "configs":
            return "/".join(path.parts[-1 - depth :])
    return path.name


def folder_named(name: str) -> Path:
    """runs/<name>.

    Raises:
        ValueError: the name would leave runs/.
    """
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(
            f"--name must be a relative path without .., got {name!r}; "
            "--trainer.default_root_dir takes any folder"
        )
    return RUNS / name


def make_writable(folder: Path) -> None:
    """Makes the folder, and makes sure that files can be written there, before hours of work.

    Raises:
        OSError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
            probe.flush()
    except OSError as error:
        raise OSError(
            f"cannot write in the run folder {folder} ({error.strerror}); "
            "choose another with --name or --trainer.default_root_dir"
        ) from error


def set_aside_earlier_run(folder: Path) -> Path | None:
    """Moves what an earlier run left in the folder to earlier_runs/<number>/: nothing is lost.

    Returns:
        Where it is now; None if there was nothing.
    """
    left = [folder / name for name in FILES_OF_A_RUN if (folder / name).exists()]
    if not left:
        return None
    shelf = folder / "earlier_runs"
    taken = [int(path.name) for path in shelf.glob("*") if path.name.isdigit()]
    place = shelf / str(max(taken, default=0) + 1)
    place.mkdir(parents=True)
    for path in left:
        shutil.move(path, place / path.name)
    return place


def last_checkpoints(checkpoints: Path) -> list[Path]:
    """What `--ckpt_path last` means: the newest last*.ckpt in a run's checkpoints/, or else others.

    Returns:
        The newest first. Further ones are for when it is damaged: the one before it, and others.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [*checkpoints.glob("last*.ckpt"), *checkpoints.glob("last*.ckpt.previous")]
    if not found:
        raise FileNotFoundError(
            f"--ckpt_path last: there is no {checkpoints / 'last.ckpt'}; leave --ckpt_path out to "
            "start afresh, or name the run with --name or the file with --ckpt_path"
        )
    others = set(checkpoints.glob("*.ckpt")) - set(found)
    return [*_newest_first(found), *_newest_first(others)]


def last_checkpoint(checkpoints: Path) -> Path:
    """Returns the newest of `last_checkpoints`."""
    return last_checkpoints(checkpoints)[0]


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    """Sorts files by the time of writing; of the same time by name."""
    return sorted(paths, key=lambda path: (-path.stat().st_mtime_ns, path.name))


def drop_metrics_from(metrics: Path, *, step: int) -> None:
    """Drops the rows that a resumed run will log again, so that no step is in the file twice.

    Args:
        metrics: a metrics.csv; may be missing.
        step: the first step that comes again.
    """
    if not metrics.is_file():
        return
    with metrics.open(newline="") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        kept = [row for row in reader if row["step"] and int(row["step"]) < step]
    with metrics.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=header)
        writer.writeheader()
        writer.writerows(kept)
