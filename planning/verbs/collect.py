"""`jepa data collect --env NAME`: our own environments into trajectory shards.

It is a verb of `jepa data`, whose package may not know environments; `jepa.__main__` sends here
what names one of them, and Gymnasium's to `data_pipelines.collecting`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from planning.verbs.number_options import seed
from planning.verbs.options import (
    CEM_DEFAULTS,
    EXECUTE_STEPS,
    OneLineParser,
)

DESCRIPTION = """Records episodes of one of our environments into trajectory shards.

random keeps a random action for a while; expert is the environment's own; noisy-expert disturbs it,
in each episode by another amount; planner plans with a world model (--checkpoint). The same seed
gives the same shards, with any number of workers. A collection that was stopped goes on when it is
started again. What the episodes cover is printed, and written to OUT/coverage.json."""


def main(argv: list[str]) -> int:
    """Runs `collect` with the words that follow it; returns the exit code.

    Raises:
        ValueError: what the user can mend, as OSError and ImportError do.
    """
    from planning.collection import Collection, collect_episodes

    arguments = _parser().parse_args(argv[1:] if argv[:1] == ["collect"] else argv)
    collection = Collection(
        environment=arguments.env,
        policy=_policy(arguments),
        num_episodes=arguments.episodes,
        num_steps=arguments.steps,
        seed=arguments.seed,
        options=options_of(arguments.set),
        vary=tuple(arguments.vary),
    )
    result = collect_episodes(
        collection,
        arguments.out,
        num_workers=arguments.workers,
        samples_per_shard=arguments.samples_per_shard,
        overwrite=arguments.overwrite,
    )
    done = "already there:" if result.was_there else "collected"
    print(
        f"{done} {result.index.num_samples} episodes of {collection.environment} "
        f"({result.index.duration_seconds:.1f} s) in {result.folder}, shards: "
        f"{len(result.index.shards)}"
    )
    print("\n".join(result.coverage.lines()))
    return 0


def options_of(pairs: list[str]) -> dict[str, Any]:
    """Returns `["image_size=64", ...]` as values: numbers, true and false where they read so.

    Raises:
        ValueError: if a pair is not NAME=VALUE.
    """
    from planning.search.settings import parse_settings

    return {name: _value(text) for name, text in parse_settings(pairs).items()}


def _value(text: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _policy(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - a DataPolicy
    from planning.data_policies import DataPolicy
    from planning.search.settings import make_planner

    planner = None
    if arguments.policy == "planner":
        settings: dict[str, Any] = dict(CEM_DEFAULTS) if arguments.planner == "cem" else {}
        if arguments.horizon is not None:
            settings["horizon"] = arguments.horizon
        planner = make_planner(arguments.planner, settings)
    return DataPolicy(
        arguments.policy,
        max_noise=arguments.noise,
        checkpoint=arguments.checkpoint,
        planner=planner,
        execute_steps=min(EXECUTE_STEPS, planner.horizon) if planner is not None else EXECUTE_STEPS,
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="jepa data collect", description=DESCRIPTION)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("out", type=Path, help="where the shards go")
    parser.add_argument("--env", required=True, help="a name in planning/environments")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="an option of the environment, such as image_size=64",
    )  # fmt: skip
    parser.add_argument(
        "--vary", action="append", default=[], metavar="FACTOR",
        help="a factor that every episode draws anew; all: every one that there is",
    )  # fmt: skip
    parser.add_argument("--policy", default="random", help="random, expert, noisy-expert, planner")
    parser.add_argument(
        "--noise", type=float, default=0.3,
        help="of noisy-expert, at most; in half ranges of the actions (0.3)",
    )  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, help="of planner: folder of a world model")
    parser.add_argument("--planner", default="cem", help="of planner: a file in planning/planners")
    parser.add_argument("--horizon", type=int, help="of planner: actions in a plan")
    parser.add_argument("--episodes", type=int, default=16, help="how many (16)")
    parser.add_argument("--steps", type=int, default=100, help="actions per episode (100)")
    parser.add_argument("--seed", type=seed, default=0, help="same seed, same shards")
    parser.add_argument("--workers", type=int, default=1, help="processes, each a shard (1)")
    parser.add_argument("--samples-per-shard", type=int, default=64, help="episodes in one (64)")
    parser.add_argument("--overwrite", action="store_true", help="replace the shards in OUT")
    return parser
