import subprocess
import sys

import pytest

from jepa.command_line import OneLineParser, describe, is_expected, one_line, run


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


def test_a_missing_module_of_ours_is_our_fault_and_one_of_others_is_not():
    assert not is_expected(ModuleNotFoundError("x", name="jepa.nothing"))
    assert is_expected(ModuleNotFoundError("x", name="gym_pusht"))


def test_errors_of_lightning_are_known_without_importing_it():
    kind = type("MisconfigurationException", (Exception,), {})
    assert is_expected(kind("no such accelerator"))


def test_a_message_of_many_lines_becomes_one():
    assert one_line(ValueError("first\n\n   second\n")) == "first second"


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
