"""`jepa plan results`: the page of benchmarks, written from run folders."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_to(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb."""
    verb = verbs.add_parser("results", help="write a table of runs under protocol cards")
    verb.add_argument(
        "runs", type=Path, nargs="+",
        help="folders of evaluate --card, or folders that hold such ones",
    )  # fmt: skip
    verb.add_argument("--write", type=Path, help="a Markdown file; default: print it")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs it; returns the exit code."""
    from planning.benchmarking.results_table import results_page
    from planning.benchmarking.run_folder import RunFolder, runs_in
    from planning.verbs.options import prepare_results

    runs = [RunFolder.load(run) for folder in arguments.runs for run in runs_in(folder)]
    page = results_page(runs)
    if arguments.write is None:
        print(page, end="")
        return 0
    prepare_results(arguments.write.parent, arguments.write.name)
    arguments.write.write_text(page, encoding="utf-8")
    print(f"wrote {len(runs)} runs: {arguments.write}")
    return 0
