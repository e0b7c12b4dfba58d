"""`jepa plan VERB`: act, look before acting, record a simulator, freeze tasks, evaluate on them.

jepa plan run       --checkpoint runs/demo/world_model --start 12,50 --goal-state 52,20 --out runs/a
jepa plan landscape --checkpoint runs/demo/world_model --start 12,50 --goal-state 52,20 --out runs/a
jepa plan evaluate  --checkpoint runs/demo/world_model --tasks two_rooms --planner icem
jepa plan record    --environment two_rooms --episodes 200 --steps 63 runs/shards
jepa plan freeze    --environment two_rooms --tasks 100 --seed 2147483700 tasks.json
jepa plan evaluate  --checkpoint runs/demo/world_model --card two_rooms --out runs/card
jepa plan compare   runs/card runs/other_card
jepa plan results   runs/card runs/other_card --write benchmarks.md
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from planning.safety.safe_stop import SafeStop
from planning.verbs import compare, evaluate, freeze, landscape, results, run
from planning.verbs.evaluate import PROTOCOLS, find_tasks
from planning.verbs.number_options import seed
from planning.verbs.options import OneLineParser, options_of_config

__all__ = ["PROTOCOLS", "find_tasks", "main"]


def main(argv: list[str] | None = None) -> int:
    """Runs one verb.

    Returns:
        The exit code: 0 done (of `run`: the goal was reached), 1 done, but (of `run`: it was not;
        of `landscape`: it is flat).

    Raises:
        ValueError: what the user can mend, as OSError and ImportError do.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _refuse_nul(words)
    parser, verbs = _parser()
    arguments = parser.parse_args(words)
    if name := getattr(arguments, "config", None):
        from_file = options_of_config(name, verb=verbs[words[0]])
        _refuse_nul(from_file)
        arguments = parser.parse_args([words[0], *from_file, *words[1:]])
    arguments.words = words  # as they were typed, for who notes how a result came about
    try:
        return arguments.run(arguments)
    except SafeStop as error:  # a broken checkpoint, camera or robot, not a fault of ours
        raise ValueError(str(error)) from error


def _refuse_nul(words: list[str]) -> None:
    """Raises ValueError for what YAML can hold, a shell cannot: there are no such file names."""
    for option, word in itertools.pairwise(words):
        if "\0" in word:
            raise ValueError(f"{option} holds a NUL character: {word!r}; leave it out")


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = OneLineParser(prog="jepa plan", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    run.add_to(verbs)
    landscape.add_to(verbs)
    evaluate.add_to(verbs)
    _add_record(verbs)
    freeze.add_to(verbs)
    compare.add_to(verbs)
    results.add_to(verbs)
    return parser, dict(verbs.choices)


def _add_record(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser("record", help="record a random policy into trajectory shards")
    verb.add_argument("out", type=Path, help="folder of the shards")
    verb.add_argument("--environment", default="two_rooms")
    verb.add_argument("--episodes", type=int, default=200)
    verb.add_argument("--steps", type=int, default=63, help="actions per episode")
    verb.add_argument("--seed", type=seed, default=0)
    verb.add_argument("--overwrite", action="store_true")
    verb.set_defaults(run=_record)


def _record(arguments: argparse.Namespace) -> int:
    from planning.baselines import StickyRandom
    from planning.environments import make_environment
    from planning.recording import record_episodes

    result = record_episodes(
        make_environment(arguments.environment),
        StickyRandom,
        arguments.out,
        num_episodes=arguments.episodes,
        num_steps=arguments.steps,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    print(f"recorded {result.num_samples} episodes of {arguments.steps} steps: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
