import pytest

from jepa.evaluation.anticipation.options import make_parser, make_set_parser

NEEDED = ["--encoder", "e", "--videos", "v", "--annotations", "a.csv"]


def test_defaults_are_those_of_the_paper():
    arguments = make_parser(None).parse_args(NEEDED)
    assert (arguments.fps, arguments.anticipation) == (8.0, 1.0)
    assert tuple(arguments.train_anticipation) == (0.25, 1.75)
    assert arguments.anchor == "start" and arguments.epochs == 20 and arguments.depth == 4
    assert len(arguments.learning_rates) * len(arguments.weight_decays) == 20
    assert not arguments.official_maximum


def test_a_wrong_word_is_one_line():
    with pytest.raises(SystemExit, match="invalid choice: 'end'"):
        make_parser(None).parse_args([*NEEDED, "--anchor", "end"])
    with pytest.raises(SystemExit, match="required: --encoder, --videos, --annotations"):
        make_parser(None).parse_args([])


def test_the_synthetic_set_needs_a_folder_only():
    arguments = make_set_parser().parse_args(["gates"])
    assert (arguments.train_videos, arguments.validation_videos, arguments.test_videos) == (
        128, 32, 64,
    )  # fmt: skip
