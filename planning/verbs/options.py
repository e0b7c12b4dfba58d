"""Options that several verbs of `jepa plan` share, and what they become."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from planning.verbs.number_options import MAX_SAMPLES, at_most, seed

if TYPE_CHECKING:
    from planning.actions.parameterization import Parameterization
    from planning.latent_world import LatentWorld
    from planning.search.rounds import SearchPlanner
    from planning.types import Environment

# What `jepa plan` uses of CEM where nothing else is said: the demo's settings.
CEM_DEFAULTS = {"num_samples": 128, "num_elites": 16, "num_iterations": 3, "smoothness": 0.3}
EXECUTE_STEPS = 4
MAX_THREADS = 1024  # some thread libraries crash the process at a hundred thousand
SHORT_OPTIONS = {
    "horizon": "horizon",
    "samples": "num_samples",
    "elites": "num_elites",
    "iterations": "num_iterations",
    "smoothness": "smoothness",
}


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        raise SystemExit(f"{message} ({self.prog} --help)")


def add_config_option(verb: argparse.ArgumentParser) -> None:
    """Adds --config: a YAML file of the verb's options."""
    verb.add_argument(
        "--config",
        help="a YAML file of these options, or its name in configs/; what is said here wins",
    )


def add_world_options(verb: argparse.ArgumentParser) -> None:
    """Adds the world model and where it runs."""
    verb.add_argument(
        "--checkpoint", "--world", type=Path, required=True, help="folder of a world model's run"
    )
    verb.add_argument("--seed", type=seed, default=0, help="of the planner's samples")
    verb.add_argument(
        "--threads", type=int, help=f"of torch, 1 to {MAX_THREADS}; default: all cores"
    )
    verb.add_argument("--device", default="cpu", help="of the world model, for example cuda")


def add_precision_options(verb: argparse.ArgumentParser) -> None:
    """Adds how the world model imagines; `load_world` listens to it."""
    verb.add_argument(
        "--precision", choices=("fp32", "bf16", "screened"), default="fp32",
        help="of the dynamics' products; bf16 is faster where the machine has it, and less exact; "
        "screened: bf16, but what may be best of a round is imagined in fp32 too",
    )  # fmt: skip
    verb.add_argument(
        "--compile", action="store_true", help="compile the dynamics: the first plan takes minutes"
    )


def load_world(arguments: argparse.Namespace) -> LatentWorld:
    """Returns the world model, where and as the options want it.

    Raises:
        ValueError: if the device cannot be used, or if there is no world model.
    """
    return world_loader_of(arguments)()


def world_loader_of(arguments: argparse.Namespace) -> Callable[[], LatentWorld]:
    """Returns what loads it, in this process or in another one.

    Raises:
        ValueError: if the device cannot be used.
    """
    from planning.latent_world import LatentWorld

    return partial(
        LatentWorld.load,
        arguments.checkpoint,
        device=device_of(arguments),
        precision=arguments.precision,
        is_compiled=arguments.compile,
    )


def threads_of(arguments: argparse.Namespace) -> int:
    """Returns how many threads torch is to use.

    Raises:
        ValueError: if that is below 1 or above `MAX_THREADS`.
    """
    import torch

    if arguments.threads is None:
        return torch.get_num_threads()
    if not 1 <= arguments.threads <= MAX_THREADS:
        raise ValueError(
            f"--threads must be from 1 to {MAX_THREADS}, got {arguments.threads}; without it "
            "torch chooses"
        )
    return arguments.threads


def device_of(arguments: argparse.Namespace) -> str:
    """Returns the device of the world model, after a number has been there and back.

    Raises:
        ValueError: if there is no such device, or this machine or this torch cannot use it.
    """
    import torch

    try:
        torch.zeros(1, device=torch.device(arguments.device)).item()
    except (RuntimeError, AssertionError) as error:  # the latter: torch was built without it
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"--device {arguments.device!r} cannot be used here: {reason}; use cpu, or see what "
            "`jepa doctor` finds"
        ) from error
    return arguments.device


def prepare_results(folder: Path, *names: str) -> None:
    """Makes a folder, and makes sure before the work that these files can be written there.

    Files that are there keep their content.

    Raises:
        ValueError: if that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror or str(error)
        raise ValueError(
            f"--out: no file can be written in {folder}: {reason}; give another place"
        ) from error
    for path in (folder / name for name in names):
        if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
            kind = "a folder" if path.is_dir() else "read-only"
            raise ValueError(f"--out: {path} cannot be written, it is {kind}; give another place")


def add_environment_options(verb: argparse.ArgumentParser) -> None:
    """Adds the environment, and where in it to start and to go."""
    verb.add_argument("--env", "--environment", default="two_rooms", help="where to act")
    verb.add_argument(
        "--env-option", action="append", default=[], metavar="KEY=VALUE",
        help="an option of the environment, such as layout=medium",
    )  # fmt: skip
    verb.add_argument("--start", help="state to start at, for example 12,40; drawn if not given")
    verb.add_argument(
        "--goal", type=Path, action="append", help="goal image; several are pursued in order"
    )
    verb.add_argument(
        "--goal-state", help="state of the goal: it is drawn, and the simulator judges success"
    )
    verb.add_argument(
        "--resize-goal", action="store_true", help="scale and crop goal images of another size"
    )


def add_planner_options(verb: argparse.ArgumentParser) -> None:
    """Adds the planner and its settings."""
    verb.add_argument("--planner", default="cem", help="name of a file in planning/planners")
    verb.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the planner"
    )
    verb.add_argument("--horizon", type=int, help="actions in a plan (default: 8)")
    verb.add_argument("--samples", type=at_most(MAX_SAMPLES), help="sequences per iteration")
    verb.add_argument("--elites", type=int, help="best sequences of an iteration")
    verb.add_argument("--iterations", type=int)
    verb.add_argument("--smoothness", type=float, help="of the noise, in [0, 1)")
    verb.add_argument(
        "--knots", type=int, help="choose so many actions of a plan; a spline makes the others"
    )
    verb.add_argument(
        "--spline", choices=("linear", "cubic", "monotone"),
        help="with --knots: which (default: cubic; its swings over the bounds are clipped)",
    )  # fmt: skip
    verb.add_argument("--repeat", type=int, help="hold each chosen action for so many steps")
    verb.add_argument(
        "--execute", type=int, help="actions executed of each plan (default: 4, or the horizon)"
    )
    verb.add_argument("--cost", choices=("mean", "last"), default="mean", help="over the steps")
    verb.add_argument("--deadline-ms", type=float, help="for each plan; default: none")


def planner_of(arguments: argparse.Namespace) -> SearchPlanner:
    """Returns the planner that the options describe.

    Raises:
        ValueError: if there is none of that name, or a setting is unknown, out of range or of no
            account.
    """
    from planning.search.settings import make_planner, parse_settings

    settings: dict[str, Any] = dict(CEM_DEFAULTS) if arguments.planner == "cem" else {}
    options = vars(arguments)
    short = {field: options[name] for name, field in SHORT_OPTIONS.items()}
    settings |= {field: value for field, value in short.items() if value is not None}
    settings |= parse_settings(arguments.set)
    planner = make_planner(arguments.planner, settings)
    parameterization = parameterization_of(arguments)
    if parameterization is None:
        return planner
    return dataclasses.replace(planner, parameterization=parameterization)


def parameterization_of(arguments: argparse.Namespace) -> Parameterization | None:
    """Returns what the planner is to choose of a plan; None: every action.

    Raises:
        ValueError: if a number is out of range, or options exclude each other.
    """
    from planning.actions.parameterization import Repeat, SplineKnots

    knots, repeat = arguments.knots, arguments.repeat
    if knots is not None and repeat is not None:
        raise ValueError("--knots and --repeat are two ways to choose few actions; leave one out")
    if arguments.spline is not None and knots is None:
        raise ValueError("--spline is of --knots only; add --knots, or leave it out")
    for option, number in (("--knots", knots), ("--repeat", repeat)):
        if number is not None and number < 1:
            raise ValueError(f"{option} must be at least 1, got {number}")
    if repeat is not None:
        return Repeat(repeat)
    return None if knots is None else SplineKnots(knots, arguments.spline or "cubic")


def execute_steps_of(arguments: argparse.Namespace, planner: SearchPlanner) -> int:
    """Returns how many actions of each plan are executed.

    Raises:
        ValueError: if it is below 1, or above the horizon.
    """
    if arguments.execute is None:
        return min(EXECUTE_STEPS, planner.horizon)
    if not 1 <= arguments.execute <= planner.horizon:
        raise ValueError(
            f"--execute must be from 1 to the horizon {planner.horizon}, got {arguments.execute}"
        )
    return arguments.execute


def deadline_of(arguments: argparse.Namespace) -> float | None:
    """Returns the deadline of a plan in seconds.

    Raises:
        ValueError: if it is not positive.
    """
    milliseconds = arguments.deadline_ms
    if milliseconds is None:
        return None
    if not milliseconds > 0:
        raise ValueError(
            f"--deadline-ms must be above 0, got {milliseconds:g}; without it there is none"
        )
    return milliseconds / 1e3


def state_of(text: str | None, environment: Environment, *, option: str) -> np.ndarray | None:
    """Returns a place to start at or go to, written as `12,40`.

    That is a state, or a configuration where the environment has those.

    Raises:
        ValueError: if it is not as many finite numbers as that has.
    """
    if text is None:
        return None
    names = start_names_of(environment)
    try:
        state = np.array([float(part) for part in text.split(",")])
    except ValueError:
        state = np.empty(0)
    if state.shape != (len(names),) or not np.isfinite(state).all():
        raise ValueError(
            f"{option} must be {len(names)} numbers ({','.join(names)} of {environment.name}), "
            f"got {text!r}"
        )
    return state


def start_names_of(environment: Environment) -> tuple[str, ...]:
    """Returns the names of the numbers that say where an episode starts or ends."""
    return getattr(environment, "configuration_names", None) or environment.state_names


def options_of_config(name: str, *, verb: argparse.ArgumentParser) -> list[str]:
    """Returns the options that a YAML file holds, as words of a command line.

    Args:
        name: a path, or a path below `configs/`.
        verb: whose options they are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no mapping, or has a key that is no option or is there twice.
    """
    from planning.benchmarking.strict_reading import read_yaml

    path = _find_config(name)
    content = read_yaml(path.read_bytes(), where=str(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold options, one `name: value` a line")
    known = {string[2:]: action for action in verb._actions for string in action.option_strings}
    words = []
    for key, value in content.items():
        option = str(key).replace("_", "-")
        if option not in known or option in ("config", "help", "h"):
            close = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"{verb.prog} --help lists them"
            raise ValueError(f"{path}: there is no option {key!r}; {hint}")
        try:
            words += _words(option, value, is_flag=known[option].nargs == 0)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return words


def _words(option: str, value: Any, *, is_flag: bool) -> list[str]:  # noqa: ANN401
    """Returns `--option value`, as often as it takes.

    Raises:
        ValueError: if there is nothing to take: who writes `max-change: off` would get no limit.
    """
    if is_flag is not isinstance(value, bool) or value in (None, [], {}):
        wanted = "true or false" if is_flag else "a value; without one, leave the line out"
        raise ValueError(f"{option} must have {wanted}, got {value!r}")
    if isinstance(value, dict):
        return [word for k, v in value.items() for word in (f"--{option}", f"{k}={v}")]
    if isinstance(value, list):
        return [word for part in value for word in (f"--{option}", str(part))]
    if isinstance(value, bool):
        return [f"--{option}"] if value else []
    return [f"--{option}", str(value)]


def _find_config(name: str) -> Path:
    root = Path(__file__).resolve().parents[2]
    folders = (Path(), Path("configs"), root / "configs", root / "jepa" / "configs")
    for path in (folder / spelled for folder in folders for spelled in (name, f"{name}.yaml")):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no config {name!r}, neither here nor in configs/")
