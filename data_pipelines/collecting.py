"""`jepa data collect`: episodes of a Gymnasium environment become trajectory shards."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipelines.gymnasium_episodes import Act


def add_verbs(verbs: Any, parents: Sequence[argparse.ArgumentParser]) -> None:  # noqa: ANN401
    """Adds `collect` to a parser's verbs; imports no simulator.

    Args:
        verbs: what `add_subparsers` returned.
        parents: parsers of the options that all verbs have.
    """
    verb = verbs.add_parser(
        "collect",
        parents=parents,
        help="record an environment, Gymnasium's or ours, into shards",
        description="Records a Gymnasium environment into trajectory shards. Of our own, such as "
        "two_rooms: `jepa data collect --env two_rooms --help`.",
    )
    verb.add_argument("out", help="where the shards go")
    verb.add_argument("--env", required=True, help="such as Pendulum-v1, or module:Name-v0")
    verb.add_argument(
        "--policy",
        default="random",
        help="random, or module:function, called with the observation and a numpy generator",
    )
    verb.add_argument("--episodes", type=int, default=16, help="how many")
    verb.add_argument("--steps", type=int, default=100, help="actions per episode, at most")
    verb.add_argument("--seed", type=int, default=0, help="same seed, same shards")
    verb.add_argument("--state-key", help="which part of a Dict observation is the state")
    verb.add_argument("--fps", type=float, help="if the environment does not say it (render_fps)")
    verb.add_argument("--image-size", type=int, help="height and width in pixels, even")
    verb.add_argument("--overwrite", action="store_true", help="replace the shards in OUT")
    verb.set_defaults(run=collect)


def collect(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from data_pipelines.gymnasium_episodes import collect_episodes

    result = collect_episodes(
        arguments.env,
        arguments.out,
        act=policy_named(arguments.policy),
        num_episodes=arguments.episodes,
        num_steps=arguments.steps,
        seed=arguments.seed,
        state_key=arguments.state_key,
        frames_per_second=arguments.fps,
        image_size=arguments.image_size,
        overwrite=arguments.overwrite,
    )
    specification = result.index.specification
    states = specification.state_dim if specification else 0
    print(
        f"collected {result.num_samples} episodes ({result.index.duration_seconds:.1f} s, state "
        f"columns: {states}) into {result.folder}, shards: {len(result.index.shards)}"
    )
    return 0


def policy_named(name: str) -> Act | None:
    """Returns the function "module:function"; None for "random". Modules may lie in this folder.

    Raises:
        ValueError: if the name has another form, or the module no such function.
        ImportError: if there is no such module.
    """
    if name == "random":
        return None
    module_name, found, function_name = name.partition(":")
    if not (module_name and found and function_name):
        raise ValueError(f"policy must be 'random' or 'module:function', got '{name}'")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it; a console script does not
    function = getattr(importlib.import_module(module_name), function_name, None)
    if not callable(function):
        raise ValueError(f"policy '{name}': module {module_name} has no function {function_name}")
    return function
