import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jepa.command_line import (
    OneLineParser,
    describe,
    ended_at_once_by_interrupt,
    is_expected,
    one_line,
    run,
)


def raising(error):
    def command(_):
        raise error

    return command


@pytest.mark.parametrize(
    "error", [ValueError("a"), FileNotFoundError("b"), ImportError("c"), KeyboardInterrupt()]
)
def test_a_fault_of_the_user_shows_no_traceback(error, capsys):
    code = run(raising(error), [])
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [AssertionError("x"), KeyError("k"), IndexError("i")])
def test_a_fault_of_ours_says_so_in_one_line(error, capsys):
    assert run(raising(error), []) == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith(f"error: internal error: {type(error).__name__}: ")


def test_a_fault_of_ours_has_another_exit_code_where_1_is_a_result(capsys):
    assert run(raising(KeyError("k")), [], fault_code=3) == 3
    assert run(raising(ValueError("v")), [], fault_code=3) == 2
    assert run(lambda _: 1, [], fault_code=3) == 1


def test_a_missing_module_of_ours_is_our_fault_and_one_of_others_is_not():
    assert not is_expected(ModuleNotFoundError("x", name="jepa.nothing"))
    assert is_expected(ModuleNotFoundError("x", name="gym_pusht"))


def test_errors_of_lightning_are_known_without_importing_it():
    kind = type("MisconfigurationException", (Exception,), {})
    assert is_expected(kind("no such accelerator"))


def test_a_message_of_many_lines_becomes_one():
    assert one_line(ValueError("first\n\n   second\n")) == "first second"


@pytest.mark.parametrize("error", [SystemExit("a\nb"), ValueError("a\u2028b"), KeyError("a\nb")])
def test_whatever_ends_a_command_is_written_on_one_line(error, capsys):
    """Seen to fail without `_flattened` in `_write_error`: the text of SystemExit was two lines."""
    assert run(raising(error), []) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "not enough memory; ask"),
        (MemoryError("Unable to allocate 142. PiB"), "not enough memory: Unable to allocate 142"),
        (MemoryError("there is not enough memory to imagine"), "there is not enough memory to im"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 640000000000 bytes. Error code 12"
            ),
            "not enough memory: you tried to allocate 640000000000 bytes",
        ),
    ],
)
def test_full_memory_is_something_to_mend(error, told, capsys):
    """Seen to fail without MemoryError and `_FULL_MEMORY` in is_expected: an internal error, 1."""
    assert run(raising(error), []) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_the_error_of_a_data_worker_is_the_one_it_had_there():
    error = ValueError(
        "Caught ValueError in DataLoader worker process 0.\n"
        "Original Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n'
        "ValueError: shard-000007.tar: cut short\n"
    )
    assert one_line(error) == "shard-000007.tar: cut short"


def test_a_state_that_does_not_fit_is_summed_up():
    error = RuntimeError(
        "Error(s) in loading state_dict for Encoder:\n"
        '\tMissing key(s) in state_dict: "blocks.0.weight", "blocks.1.weight". \n'
        "\tsize mismatch for head.weight: copying a param with shape (2, 3).\n"
    )
    assert is_expected(error)
    assert describe(error) == (
        "the checkpoint does not fit the configured Encoder: missing 2 (first: blocks.0.weight); "
        "size mismatch for head.weight: copying a param with shape (2, 3) "
        "(--debug shows the traceback)"
    )


def test_a_process_that_reads_no_further_is_no_error():
    program = (
        "import sys\n"
        "from jepa.command_line import run\n"
        "sys.exit(run(lambda _: print('x' * 100_000) or 0, []))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_another_rank_tells_its_own_number(capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("jepa.command_line.MAIN_FAILS_FIRST_SECONDS", 0.0)
    assert run(raising(ValueError("bad shard")), []) == 2
    assert capsys.readouterr().err.startswith("error: [rank 1] bad shard")


def test_a_wrong_option_is_one_line_that_names_the_program(capsys):
    parser = OneLineParser(prog="jepa convert")
    parser.add_argument("--format", choices=("a", "b"))
    assert run(lambda argv: bool(parser.parse_args(argv)), ["--format", "c"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: argument --format: invalid choice: 'c'")
    assert line.endswith(" (jepa convert --help)\n") and line.count("\n") == 1


def test_an_interrupt_may_say_how_to_go_on_and_only_one_rank_says_it(capsys, monkeypatch):
    assert run(raising(KeyboardInterrupt("do it again")), []) == 130
    assert capsys.readouterr().err == "interrupted; do it again\n"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run(raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == ""


SWALLOWING = """
import time
print("importing", flush=True)
for _ in range(60):
    try:
        time.sleep(1)
    except BaseException:  # as some libraries do around what is optional
        pass
"""


def test_an_interrupt_ends_an_import_that_would_swallow_it(tmp_path):
    (tmp_path / "swallowing.py").write_text(SWALLOWING)
    program = (
        "from jepa.command_line import ended_at_once_by_interrupt\n"
        "with ended_at_once_by_interrupt(): import swallowing"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{tmp_path}"},
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == "interrupted\n" and process.returncode == 130


def test_after_an_import_ctrl_c_does_what_it_did_before():
    before = signal.getsignal(signal.SIGINT)
    with ended_at_once_by_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
