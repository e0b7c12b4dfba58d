"""Where the YAML files of `configs/` are, for a clone and for an installed package."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from jepa.config_text import check_config_text

PACKAGE = Path(__file__).resolve().parent
CANDIDATES = (PACKAGE.parent / "configs", PACKAGE / "configs")  # a clone, a wheel


def configs_folder() -> Path:
    """The folder that holds pretrain/, world_model/, evaluation/ and planning/.

    Raises:
        FileNotFoundError: the package was installed without its configs.
    """
    for folder in CANDIDATES:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"the configs are not beside the package (looked for {CANDIDATES[0]}): it was installed "
        "without them; work in a clone (`pip install -e .`), or pass the path of a YAML file"
    )


def find_config(name: str) -> Path:
    """The path of a config.

    Args:
        name: a path, or a path relative to configs/, with or without .yaml: "pretrain/tiny".

    Returns:
        A path that exists; relative if `name` was one that exists from here.

    Raises:
        FileNotFoundError: there is no such file; names the closest ones.
    """
    here = Path(name)
    if here.is_file():
        return here
    folder = configs_folder()
    for candidate in (folder / name, folder / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"configs/ has {', '.join(known)}"
    raise FileNotFoundError(f"no config {name!r}, neither here nor in configs/; {hint}")


def with_found_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments with every `--config NAME` (also -c, --config=NAME) as a path that exists.

    Raises:
        FileNotFoundError: there is no such file; names the closest ones.
        ValueError: a file is no config; see `check_config_text`.
    """
    found = list(arguments)
    for index, argument in enumerate(arguments):
        follows_flag = index > 0 and arguments[index - 1] in ("-c", "--config")
        if follows_flag and not argument.startswith("-"):
            found[index] = _checked(find_config(argument))
        elif argument.startswith("--config="):
            found[index] = f"--config={_checked(find_config(argument.partition('=')[2]))}"
    return found


def _checked(path: Path) -> str:
    check_config_text(path)
    return str(path)
