"""What the command line owes its user: one clear line for a fault of theirs, never a traceback.

Exit codes: 0 done, 2 something the user can mend, 1 a fault of ours (of `jepa plan` 3: there 1 is a
result, such as a goal that was not reached), 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

MAIN_FAILS_FIRST_SECONDS = 3.0
LAUNCHER = "JEPA_LAUNCHER_PID"  # tells the ranks that Lightning starts which process did
OUR_PACKAGES = ("jepa", "planning", "data_pipelines")

# Classes that are named, not imported: importing lightning, torch or wandb takes seconds.
_EXPECTED_CLASS_NAMES = {
    "AuthenticationError",  # wandb
    "CommError",  # wandb
    "DecodeError",  # data_pipelines
    "MisconfigurationException",  # lightning
    "OutOfMemoryError",  # torch
    "UsageError",  # wandb
}
_OTHER_RANK_ENDED = ("Connection closed by peer", "Connection reset by peer")  # gloo
_FULL_MEMORY = "can't allocate memory"  # torch's words, of a CPU
_STATE_DICT_MISMATCH = "Error(s) in loading state_dict for "


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where the options are told, without a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Ends the program; see `run`."""
        raise SystemExit(f"{message} ({self.prog} --help)")


def run(
    command: Callable[[list[str]], int],
    arguments: list[str],
    *,
    debug: bool = False,
    fault_code: int = 1,
) -> int:
    """Runs a command and turns whatever it raises into one line and an exit code.

    Args:
        command: takes the arguments, returns the exit code.
        arguments: handed to the command.
        debug: let the traceback through instead.
        fault_code: the exit code of a fault of ours.

    Returns:
        The exit code.
    """
    try:
        code = command(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        return _interrupted(str(stop))
    except SystemExit as stop:
        if is_interrupt(stop):
            return _interrupted()
        if type(stop).__name__ == "SIGTERMException":  # Lightning would exit with 0
            return 143
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        _write_error(str(stop.code))
        return 2
    except BrokenPipeError as error:
        if _standard_output_is_read():
            return _report(error, debug=debug, fault_code=fault_code)
        return 141
    except Exception as error:  # the outermost place: a user's fault is one line, with a code
        return _report(error, debug=debug, fault_code=fault_code)


@contextmanager
def ended_at_once_by_interrupt() -> Iterator[None]:
    """While libraries are imported, Ctrl-C ends the program: some of them would swallow it."""
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()  # only there may one say so
    if not is_main or before is not signal.default_int_handler:  # ignored, as under nohup
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(_interrupted()))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def is_interrupt(stop: BaseException) -> bool:
    """True if a program was stopped by Ctrl-C, which Lightning turns into exit(1)."""
    return isinstance(stop, KeyboardInterrupt) or (
        isinstance(stop, SystemExit) and isinstance(stop.__context__, KeyboardInterrupt)
    )


def is_expected(error: BaseException) -> bool:
    """True if the error tells of something that the user can mend."""
    if isinstance(error, ModuleNotFoundError):
        return (error.name or "").partition(".")[0] not in OUR_PACKAGES
    if isinstance(error, (ValueError, OSError, ImportError, MemoryError)):
        return True
    if any(kind.__name__ in _EXPECTED_CLASS_NAMES for kind in type(error).__mro__):
        return True
    told = (_FULL_MEMORY, _STATE_DICT_MISMATCH, *_OTHER_RANK_ENDED)
    return isinstance(error, RuntimeError) and any(text in str(error) for text in told)


def describe(error: BaseException) -> str:
    """The error as one line, with what shows more."""
    message = one_line(error)
    if is_expected(error):
        return f"{message} (--debug shows the traceback)"
    return (
        f"internal error: {type(error).__name__}: {message} "
        "(--debug shows the traceback; please report it)"
    )


def one_line(error: BaseException) -> str:
    """The message of an error, however many lines it had, on one."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error}; `pip install -e '.[sim,dev]'` brings every optional package"
    if isinstance(error, KeyError):
        return f"key {error} is missing"
    message = str(error)
    if "Original Traceback (most recent call last)" in message:  # torch's data loader workers
        message = message.strip().splitlines()[-1].partition(": ")[2]
    if any(text in message for text in _OTHER_RANK_ENDED):
        return "another process of this run ended early; its own line says why"
    if isinstance(error, MemoryError) or _FULL_MEMORY in message:
        return _full_memory(message)
    if _STATE_DICT_MISMATCH in message:
        return _state_dict_mismatch(message)
    return _flattened(message) or type(error).__name__


def _flattened(message: str) -> str:
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def _full_memory(message: str) -> str:
    """What was asked for, if anybody said it: numpy does, torch after some words of its own."""
    told = _flattened(message.rpartition(f"{_FULL_MEMORY}: ")[2])
    if "not enough memory" in told:
        return told
    return f"not enough memory{': ' if told else ''}{told}; ask for less at a time, or free some"


def _state_dict_mismatch(message: str) -> str:
    """`Missing key(s) in state_dict: "a", "b"` and the like, counted, with the first of each."""
    parts = []
    for line in message.splitlines()[1:]:
        kind, _, rest = line.strip().partition(": ")
        keys = [key.strip(' ".') for key in rest.split('", "') if key.strip(' ".')]
        if kind.startswith(("Missing key", "Unexpected key")) and keys:
            parts.append(f"{kind.split()[0].lower()} {len(keys)} (first: {keys[0]})")
        elif kind.startswith("size mismatch"):
            parts.append(line.strip().rstrip("."))
    model = message.partition(_STATE_DICT_MISMATCH)[2].partition(":")[0]
    shown = "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")
    return f"the checkpoint does not fit the configured {model}: {shown}"


def _report(error: Exception, *, debug: bool, fault_code: int) -> int:
    if debug:
        traceback.print_exc()
    else:
        _write_error(describe(error))
    return 2 if is_expected(error) else fault_code


def _write_error(message: str) -> None:
    """The one place where errors are written: on one line, whatever was typed or read."""
    message = _flattened(message)
    rank = os.environ.get("LOCAL_RANK", "0")
    if rank == "0":
        print(f"error: {message}", file=sys.stderr)
    elif not _main_process_ended():
        print(f"error: [rank {rank}] {message}", file=sys.stderr)


def _main_process_ended() -> bool:
    """True if the process that launched this rank ends soon: then it has told the same story."""
    parent = int(os.environ.get(LAUNCHER, os.getppid()))
    deadline = time.monotonic() + MAIN_FAILS_FIRST_SECONDS
    while time.monotonic() < deadline:
        if os.getppid() != parent:
            return True
        time.sleep(0.1)
    return False


def _interrupted(how_to_go_on: str = "") -> int:
    """Says it in one line, in which a KeyboardInterrupt may have told how to go on."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        end_of_bar = "\n" if sys.stderr.isatty() else ""
        said = f"interrupted; {how_to_go_on}" if how_to_go_on else "interrupted"
        print(f"{end_of_bar}{said}", file=sys.stderr, flush=True)
    return 130


def _standard_output_is_read() -> bool:
    """False once the reader (`| head`) has left; then the flush at exit is made harmless."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    if not poll.poll(0):
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return False
