import pytest

from jepa.evaluation.report.section import NotMeasured
from jepa.evaluation.report.world_model import world_model_section
from jepa.evaluation.world_model_card.card import WorldModelCard


def test_the_card_is_shown_with_its_verdicts_and_numbers(world_subject, world_clips):
    section = world_model_section(world_subject, world_clips)
    assert "causality" in section.html and "controllability" in section.html
    assert section.numbers["num_windows"] == 10
    assert {finding.is_good for finding in section.findings} <= {True, False}
    assert section.html.count("<picture>") >= 2 and "Every number" in section.html
    assert WorldModelCard.__dataclass_fields__.keys() <= section.numbers.keys()


def test_an_encoder_has_no_card(predictor_subject, world_clips):
    with pytest.raises(NotMeasured, match="imagines no actions"):
        world_model_section(predictor_subject, world_clips)
