"""What of a command line allows a config to name classes."""

import pytest

from jepa.allowed_classes import take_allowed, typed_packages


def test_the_option_is_taken_off_wherever_it_stands():
    arguments = ["fit", "--allow-class", "mine", "--name", "x", "--allow-class=other.module.Class"]
    assert take_allowed(arguments) == (["fit", "--name", "x"], ["mine", "other.module.Class"])


@pytest.mark.parametrize("name", ["", "*", "a-b", "a..b", "--name"])
def test_what_is_no_dotted_name_is_refused(name):
    with pytest.raises(ValueError, match="--allow-class takes the dotted name of a package"):
        take_allowed(["fit", "--allow-class", name])


@pytest.mark.parametrize(
    "argument",
    [
        "--trainer.callbacks+=mine.Callback",
        "mine.Callback",
        "[mine.Callback]",
        "{class_path: mine.Callback, init_args: {a: 1}}",
        "--model.parts=[{class_path: mine.Callback}]",
    ],
)
def test_a_class_that_is_typed_is_meant(argument):
    assert typed_packages(["fit", argument]) == ["mine"]


@pytest.mark.parametrize("argument", ["os.system", "builtins.eval", "1.5", "a/b.c", "[", "--a.b=1"])
def test_modules_of_python_numbers_and_paths_are_no_classes(argument):
    assert typed_packages(["fit", argument]) == []


def test_a_file_that_is_there_is_no_class(tmp_path, monkeypatch):
    """Else an archive and a module of one name, from one stranger, would allow each other."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos.tar").touch()
    assert typed_packages(["fit", "--data.shards", "videos.tar"]) == []
    assert typed_packages(["fit", "--config=theirs.Model", "-c", "theirs.Model"]) == []
