"""`jepa plan compare`: two runs on the same card, task by task."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "compare", help="paired comparison of two runs on the same card (McNemar)"
    )
    verb.add_argument("run_a", type=Path, help="a folder of evaluate --card")
    verb.add_argument("run_b", type=Path, help="another one; or the same, for two of its policies")
    verb.add_argument("--policy-a", default="planner", help="default: planner")
    verb.add_argument("--policy-b", default="planner", help="default: planner")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from planning.benchmarking.paired_comparison import compare_runs, comparison_text
    from planning.benchmarking.run_folder import RunFolder

    a, b = RunFolder.load(arguments.run_a), RunFolder.load(arguments.run_b)
    comparison = compare_runs(a, b, policy_a=arguments.policy_a, policy_b=arguments.policy_b)
    print(a.title)
    print(
        comparison_text(
            comparison,
            name_a=f"{arguments.run_a} {arguments.policy_a}",
            name_b=f"{arguments.run_b} {arguments.policy_b}",
        )
    )
    for name, run_folder in (("A", a), ("B", b)):
        for line in run_folder.summary["deviations"]:
            print(f"{name} deviates: {line}")
    return 0
