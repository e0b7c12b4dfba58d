import subprocess
import sys

import pytest

from jepa import __version__, command_line
from jepa.__main__ import VERBS, main, unknown_verb

TORCH_FREE = """
import sys
from jepa.__main__ import main
code = main(sys.argv[1:])
print([name for name in ("torch", "lightning", "numpy") if name in sys.modules], code)
"""


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["fitt"], ["doctor"]])
def test_the_first_commands_import_no_torch(arguments):
    run = subprocess.run(
        [sys.executable, "-c", TORCH_FREE, *arguments], capture_output=True, text=True
    )
    assert run.stdout.splitlines()[-1].startswith("[] "), run.stdout + run.stderr


def test_without_arguments_every_verb_is_listed(capsys):
    assert main([]) == 0
    page = capsys.readouterr().out
    assert all(f"  {verb} " in page for verb in VERBS)


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jepa {__version__}\n"


def test_a_misspelt_verb_gets_a_suggestion(capsys):
    assert main(["fitt"]) == 2
    assert "did you mean 'fit'?" in capsys.readouterr().err


def test_a_verb_unlike_all_others_gets_the_list():
    assert "there are demo, doctor, data" in unknown_verb("zzzz")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_debug_anywhere_shows_the_traceback(position, capsys, monkeypatch):
    monkeypatch.setattr("jepa.doctor.main", lambda argv: int(argv[0]))
    arguments = ["doctor", "four"]
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    arguments.insert(position, "--debug")
    assert main(arguments) == 2
    assert "Traceback" in capsys.readouterr().err


def test_verbs_of_one_module_are_told_which_they_are(monkeypatch):
    seen = []
    monkeypatch.setattr("jepa.lightning_cli.main", lambda argv: seen.append(argv) or 0)
    assert main(["validate", "--config", "x.yaml"]) == 0
    assert seen == [["validate", "--config", "x.yaml"]]


def test_a_verb_that_stands_alone_learns_its_name_and_reads_debug_itself(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "data_pipelines.__main__.main", lambda argv, program: seen.append((argv, program)) or 0
    )
    assert main(["data", "--debug", "info"]) == 0
    assert seen == [(["info", "--debug"], "jepa data")]


@pytest.mark.parametrize(
    ("words", "is_ours"),
    [
        (["--env", "two_rooms", "out"], True),
        (["--env=two_rooms", "out"], True),
        (["out", "--env", "two_room"], True),  # misspelt: who knows ours should say so
        (["--env", "Pendulum-v1", "out"], False),
        (["--env", "mine:Task", "out"], False),
        (["--help"], False),
    ],
)
def test_collecting_goes_to_who_knows_the_environment(words, is_ours, monkeypatch):
    seen = []
    monkeypatch.setattr("planning.verbs.collect.main", lambda argv: seen.append("ours") or 0)
    monkeypatch.setattr("data_pipelines.__main__.main", lambda argv, program: seen.append("") or 0)
    assert main(["data", "collect", *words]) == 0
    assert seen == ["ours" if is_ours else ""]


def test_an_exit_code_is_handed_on():
    def stop(_):
        raise SystemExit(3)

    assert command_line.run(stop, []) == 3
