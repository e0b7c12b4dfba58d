"""A config of a stranger names code: none of it is run, nor imported, wherever it is named."""

import os
import sys

import pytest
import torch

from jepa.__main__ import main
from tests.reliability.bad_inputs import LONG, fit
from tests.reliability.poisoned_files import Watch

EVIL = "open({flag!r}, 'w').close()\n\n\ndef run(*_, **__):\n    pass\n\n\nclass Model:\n    pass\n"
# Named as a class, each with what it would be called with; FLAG is a file that must not be made.
NAMED = {
    "os.system": "{command: touch FLAG}",
    "posix.system": "{command: touch FLAG}",
    "subprocess.Popen": "{args: [touch, FLAG]}",
    "builtins.eval": "{source: \"open('FLAG', 'w')\"}",
    "builtins.exec": "{source: \"open('FLAG', 'w')\"}",
    "builtins.open": "{file: FLAG, mode: w}",
    "importlib.import_module": "{name: evil_module}",
    "runpy.run_module": "{mod_name: evil_module}",
    "pickle.load": "{file: FLAG}",
    "webbrowser.open": "{url: FLAG}",
    "shutil.rmtree": "{path: precious}",
    "torch.load": "{f: bad.ckpt, weights_only: false}",
    "torch.hub.load": "{repo_or_dir: 'a/b', model: c}",
    "evil_module.run": "{}",
    "evil_module.Model": "{}",
    "evil_module.Nothing": "{}",
    "jepa.run_folder.shutil.rmtree": "{path: precious}",
    "jepa.checkpoint_saving.os.system": "{command: touch FLAG}",
    "lightning.pytorch.trainer.trainer.os.system": "{command: touch FLAG}",
    "jepa.training.pretraining.Pretraining.load_from_checkpoint": (
        "{checkpoint_path: bad.ckpt, weights_only: false}"
    ),
}
# Where a config takes a class; CLASS is replaced by one of the above.
PLACES = {
    "model": "model: CLASS",
    "data": "data: CLASS",
    "a part of a model": "model: {init_args: {encoder: CLASS}}",
    "a list of parts": "model: {init_args: {masks: [CLASS]}}",
    "a part of the data": "data: {init_args: {transform: CLASS}}",
    "callbacks": "trainer: {callbacks: [CLASS]}",
    "a logger": "trainer: {logger: CLASS}",
    "plugins": "trainer: {plugins: [CLASS]}",
    "a strategy": "trainer: {strategy: CLASS}",
    "a profiler": "trainer: {profiler: CLASS}",
    "settings of the trainer": "trainer: {callbacks: CLASS}",
    "a setting": "checkpoint: {monitor: CLASS}",
}
QUICK = {("os.system", "model"), ("evil_module.run", "callbacks")}
PAIRS = [
    pytest.param(named, place, marks=() if (named, place) in QUICK else LONG)
    for named in NAMED
    for place in PLACES
]


@pytest.fixture(scope="session")
def watch():
    """An audit hook stays until the end of the process: one, for all tests."""
    return Watch()


@pytest.fixture
def poisoned(inputs, monkeypatch):
    """A folder with a module of the stranger that can be found, and a file to lose."""
    monkeypatch.syspath_prepend(inputs.here)
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    monkeypatch.setenv("BROWSER", f"touch {inputs.here / 'code_was_run'} %s")
    inputs.write("evil_module.py", EVIL.format(flag=str(inputs.here / "code_was_run")))
    inputs.write("precious/file", "stays")
    torch.save({"state_dict": Runs(), "hyper_parameters": {}}, inputs.here / "bad.ckpt")
    return inputs


class Runs:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return (os.mkdir, ("code_was_run",))


def said_of(arguments, watch, capfd):
    """Runs `jepa` and returns exit code and line of error; the watch is on."""
    watch.seen.clear()
    watch.is_on = True
    try:
        code = main([str(argument) for argument in arguments])
    finally:
        watch.is_on = False
    errors = capfd.readouterr().err
    return code, [line for line in errors.splitlines() if line.startswith("error: ")]


def ran(inputs, watch):
    """What of the stranger was run."""
    bad = [one for one in watch.seen if "evil" in one or one.startswith(("os.", "subp", "shutil"))]
    made = [inputs.here / "code_was_run"] if (inputs.here / "code_was_run").exists() else []
    return bad + made + ([] if (inputs.here / "precious/file").exists() else ["rmtree"])


MINE = """
from pathlib import Path
from lightning.pytorch import Callback


class MyCallback(Callback):
    def on_train_start(self, trainer, pl_module):
        Path("started").touch()
"""


@pytest.mark.parametrize(("named", "place"), PAIRS)
def test_no_code_that_a_config_names_is_run(poisoned, watch, capfd, named, place):
    """Seen to fail without only_allowed_classes: evil_module was run from 10 of the 12 places.

    The others were not, as no argument takes what they return; which is luck, not a guard.
    """
    given = NAMED[named].replace("FLAG", str(poisoned.here / "code_was_run"))
    described = f"{{class_path: {named}, init_args: {given}}}"
    config = poisoned.write("theirs.yaml", PLACES[place].replace("CLASS", described))
    arguments = fit("--data.shards", poisoned.shards, "--config", config)
    code, errors = said_of(arguments, watch, capfd)
    assert ran(poisoned, watch) == []
    assert (code, len(errors)) == (2, 1), errors
    assert len(errors[0]) < 1200


@pytest.mark.parametrize(
    "options",
    [
        ("--trainer.callbacks+=my_parts.MyCallback",),
        pytest.param(("--config", "mine.yaml", "--allow-class", "my_parts"), marks=LONG),
    ],
)
def test_parts_of_ones_own_are_named_by_typing_them_or_their_package(inputs, monkeypatch, options):
    monkeypatch.syspath_prepend(inputs.here)
    inputs.write("my_parts.py", MINE)
    inputs.write("mine.yaml", "trainer: {callbacks: [my_parts.MyCallback]}")
    assert main([str(one) for one in fit("--data.shards", inputs.shards, *options)]) == 0
    assert (inputs.here / "started").exists()


def test_what_is_refused_is_one_line_that_says_what_allows_it(poisoned, watch, capfd):
    config = poisoned.write("theirs.yaml", "trainer: {callbacks: [evil_module.Model]}")
    arguments = ["estimate", "--config", "pretrain/tiny.yaml", "--config", config]
    code, errors = said_of(arguments, watch, capfd)
    assert (code, ran(poisoned, watch)) == (2, [])
    assert len(errors) == 1 and "a config may name classes of jepa, planning" in errors[0]
    assert "not 'evil_module.Model'" in errors[0] and "--allow-class evil_module" in errors[0]
