import fractions  # noqa: F401  (what is not imported is not looked at)

import pytest

import jepa.training.distillation  # noqa: F401
from jepa.config_errors import (
    accepted_arguments,
    accepted_classes,
    explain,
    explain_refusal,
)

OPTIONS = ["trainer.max_steps", "trainer.max_epochs", "model", "data", "ckpt_path"]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "unrecognized arguments: --trainer.max_stepss 2",
            "there is no option '--trainer.max_stepss'; did you mean '--trainer.max_steps'?",
        ),
        (
            "Subcommand 'fit' does not accept option 'trainer.max_stpes'",
            "there is no option 'trainer.max_stpes'; did you mean 'trainer.max_steps'?",
        ),
        (
            "Subcommand 'fit' does not accept option 'modle.class_path'",
            "there is no option 'modle.class_path'; did you mean 'model.class_path'?",
        ),
        (
            "Parser key \"trainer.max_steps\":\n  Expected a <class 'int'>. Got value: abc",
            "trainer.max_steps: Expected int. Got value: abc",
        ),
    ],
)
def test_a_message_becomes_one_line_with_a_suggestion(message, line):
    assert explain(message, OPTIONS) == line


def nested(class_path, option):
    return (
        'Parser key "model":\n'
        "  Does not validate against any of the Union subtypes\n"
        "  Errors:\n"
        f"    - Problem with given class_path '{class_path}':\n"
        f"        Option '{option}' is not accepted\n"
        "    - Expected a <class 'NoneType'>\n"
        "  Given value type: <class 'dict'>\n"
    )


def test_a_misspelt_argument_of_a_class_gets_a_suggestion():
    line = explain(nested("fractions.Fraction", "numerater"), OPTIONS)
    assert line == (
        "model: fractions.Fraction has no option 'numerater'; did you mean 'numerator'?"
    )


def test_an_argument_unlike_all_others_gets_the_list():
    line = explain(nested("fractions.Fraction", "zzz"), OPTIONS)
    assert line.endswith("it takes numerator, denominator")


def test_a_misspelt_class_gets_a_suggestion():
    message = "Parser key \"data\":\n  module 'fractions' has no attribute 'Fractoin'"
    assert explain(message, OPTIONS).endswith("has no class 'Fractoin'; did you mean 'Fraction'?")


DENIED = (
    "Problem with given class_path '{0}':\n Importing '{0}' is not allowed, denied by the '*' "
    "entry of the import path denylist. Add the import path to import_path_allowlist in "
    "set_parsing_settings to allow it."
)


def test_a_class_that_no_config_may_name_comes_with_what_allows_it():
    line = explain('Parser key "model":\n ' + DENIED.format("their_package.Model"), OPTIONS)
    assert line == (
        "model: a config may name classes of jepa, planning, data_pipelines, torch.optim, "
        "torch.nn, torchvision.transforms, lightning, pytorch_lightning, not "
        "'their_package.Model': naming it runs its code; if you know and mean it: "
        "--allow-class their_package"
    )


def test_an_explanation_imports_nothing(tmp_path, monkeypatch):
    """A config's own text is a part of the message; seen to fail with import_module."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "module_of_a_message.py").write_text("open('was_imported', 'w').close()")
    monkeypatch.chdir(tmp_path)
    explain(nested("module_of_a_message.Model", "x"), OPTIONS)
    explain("module 'module_of_a_message' has no attribute 'Model'", OPTIONS)
    explain(unknown_class("module_of_a_message.Model", "x", "y"), OPTIONS)
    assert not (tmp_path / "was_imported").exists()


def unknown_class(class_path, argument, name):
    return (
        'Parser key "model":\n'
        "  Does not validate against any of the Union subtypes\n"
        "  Errors:\n"
        f"    - Problem with given class_path '{class_path}':\n"
        f'        Parser key "{argument}":\n'
        f"          - Expected a path but {name} either not accessible or invalid\n"
        f"            - Expected a dot import path string: {name}\n"
        f"          Given value: {name}\n"
    )


PRETRAINING = "jepa.training.pretraining.Pretraining"


def test_an_unknown_name_without_a_module_gets_the_classes_that_fit_there():
    line = explain(unknown_class(PRETRAINING, "objective", "LatentL3"), OPTIONS)
    assert line == (
        "objective: there is no class 'LatentL3'; did you mean 'LatentL1'? (it takes "
        "ContrastivePrediction, DenseL1, LatentL1, LatentMSE, LatentSmoothL1, RolloutL1)"
    )
    line = explain(unknown_class(PRETRAINING, "masks", "Zzz"), OPTIONS)
    assert (
        "did you mean" not in line and "'Zzz'; it takes Future, ImageMultiBlock, MultiBlock" in line
    )


def test_where_no_class_is_known_the_module_is_asked_for():
    message = 'Parser key "model":\n    - Expected a dot import path string: Zzz\n'
    assert explain(message, OPTIONS) == (
        "model: there is no class 'Zzz'; write where it is: its module, a dot and its name"
    )


def test_of_an_argument_only_concrete_public_classes_are_known():
    assert accepted_classes(PRETRAINING, "encoder") == ["VideoEncoder"]
    assert "Schedule" not in accepted_classes(PRETRAINING, "schedule")  # of OptimizedModule
    assert accepted_classes(PRETRAINING, "nothing") == accepted_classes("no.Class", "x") == []


def test_a_message_of_an_unknown_kind_is_kept_whole():
    assert explain("something\n  new happened", OPTIONS) == "something new happened"


REFUSED = """Does not validate against any of the Union subtypes
Subtypes: [<class 'LightningModule'>, <class 'NoneType'>]
Errors:
  - Does not validate against any of the Union subtypes
    Errors:
      - target_fraction must be in (0, 1), got 1.0
      - Expected a <class 'NoneType'>
    Given value: [Namespace(target_fraction=1.0)]
  - Expected a <class 'NoneType'>
Given value: Namespace(class_path='x')"""


def test_of_what_a_class_refuses_only_its_own_words_are_left():
    assert explain_refusal(REFUSED) == "target_fraction must be in (0, 1), got 1.0"
    assert explain_refusal("learning_rate must be positive") == "learning_rate must be positive"


def test_a_class_that_hands_options_on_takes_those_of_its_parent():
    names = accepted_arguments("jepa.training.distillation.Distillation")
    assert {"teacher", "masks", "learning_rate", "schedule"} <= set(names)
    assert "options" not in names
