import pytest

from jepa.config_errors import accepted_arguments, explain, explain_refusal

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
