"""Starts `jepa` again and again without importing it again: a process that forks on demand.

    {"start": {"arguments": [...], "environment": {...}, "log": "file"}}  ->  the process's id
    {"poll": id}                                                          ->  its code, or null

One line of JSON each, on standard input and output. What is forked is a process of its own, in a
session of its own, that a test can kill; importing takes seconds, and twenty kills twenty times so.
"""

import data_pipelines.datamodules  # noqa: F401  (its hook must be there before lightning)

# isort: split
import json
import os
import sys
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only

import jepa.lightning_cli
import jepa.training.pretraining  # noqa: F401  (imported once, for all that are forked)
from jepa.__main__ import main


def serve():
    for line in sys.stdin:
        order = json.loads(line)
        answer = start(**order["start"]) if "start" in order else code_of(order["poll"])
        print(json.dumps(answer), flush=True)


def start(arguments, environment, log):
    process = os.fork()
    if process:
        return process
    os.setsid()
    os.environ.update(environment)
    sys.path.extend(environment["PYTHONPATH"].split(os.pathsep))
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", 0))  # Lightning asks when imported
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["jepa", *arguments]
    code = 1
    try:
        code = main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def code_of(process):
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    os.chdir(Path(sys.argv[1]))
    serve()
