"""`jepa plan freeze`: draw starts and goals once, and write them to a file."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from planning.benchmarking.strict_reading import read_yaml
from planning.verbs.number_options import seed


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb."""
    verb = verbs.add_parser("freeze", help="draw starts and goals and write them to a file")
    verb.add_argument("out", type=Path, help="the JSON file")
    verb.add_argument("--environment", "--env", default="two_rooms")
    verb.add_argument(
        "--env-option", action="append", default=[], metavar="KEY=VALUE",
        help="an option of the environment, such as image_size=64",
    )  # fmt: skip
    verb.add_argument("--tasks", type=int, default=100)
    verb.add_argument("--seed", type=seed, required=True)
    verb.add_argument("--group", help="only tasks of this group, such as different_rooms")
    verb.add_argument(
        "--ahead", type=int, metavar="STEPS",
        help="goals so many steps ahead in an episode that --policy plays",
    )  # fmt: skip
    verb.add_argument("--policy", default="noisy-expert", help="with --ahead: who plays")
    verb.add_argument(
        "--max-noise", type=float, default=0.3, help="of noisy-expert, see jepa data collect"
    )
    verb.add_argument(
        "--episode-steps", type=int, help="with --ahead: of an episode (default: twice as far)"
    )
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from planning.benchmarking.provenance import simulator_packages
    from planning.benchmarking.tasks_ahead import TasksAhead, freeze_ahead
    from planning.data_policies import DataPolicy
    from planning.environments import make_environment
    from planning.evaluation import freeze_tasks

    environment = make_environment(arguments.environment, **options_of(arguments.env_option))
    if arguments.tasks < 1:
        raise ValueError(f"--tasks must be at least 1, got {arguments.tasks}")
    common: dict[str, Any] = {
        "name": arguments.out.stem, "num_tasks": arguments.tasks, "seed": arguments.seed
    }  # fmt: skip
    if arguments.ahead is None:
        _refuse_seed_of_recordings(arguments.seed)
        tasks = freeze_tasks(environment, **common, group=arguments.group)
    else:
        ahead = TasksAhead(arguments.ahead, arguments.episode_steps or 2 * arguments.ahead)
        policy = DataPolicy(arguments.policy, max_noise=arguments.max_noise)
        tasks = freeze_ahead(environment, policy.maker(environment), ahead, **common, tell=print)
    packages = simulator_packages(environment.name)
    path = replace(tasks, packages=packages).save(arguments.out)
    print(f"froze {len(tasks.tasks)} tasks: {path}")
    print(f"sha256: {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return 0


def _refuse_seed_of_recordings(seed: int) -> None:
    from planning.recording import RECORDING_SEEDS_BELOW

    if seed < RECORDING_SEEDS_BELOW:
        raise ValueError(
            f"--seed must be at least {RECORDING_SEEDS_BELOW} without --ahead, got {seed}: those "
            "below are of recordings, and a world model may have been trained on these starts"
        )


def options_of(pairs: list[str]) -> dict[str, Any]:
    """Returns `["image_size=64", ...]` as a mapping of plain values.

    Raises:
        ValueError: if a pair is not KEY=VALUE, or a value cannot be read.
    """
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise ValueError(f"--env-option needs KEY=VALUE, got {pair!r}")
        options[key.strip().replace("-", "_")] = read_yaml(
            value, where=f"--env-option {key.strip()}"
        )
    return options
