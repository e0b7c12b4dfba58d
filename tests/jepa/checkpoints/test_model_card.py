import pytest

from jepa.models.jepa_model import JepaModel
from jepa.models.pooler import AttentiveProbe


@pytest.fixture
def card_of(make_encoder, tmp_path):
    """Returns the card of a model with a probe of these classes, or with none."""

    def card_of(num_classes, class_names=None):
        settings = {"dim": 48, "num_heads": 4, "depth": 1}
        probe = num_classes and AttentiveProbe(
            num_classes=num_classes, class_names=class_names, **settings
        )
        JepaModel(make_encoder(), probe=probe).save_pretrained(tmp_path)
        return (tmp_path / "README.md").read_text()

    return card_of


def test_the_card_counts_the_weights_of_every_part(card_of, make_encoder):
    count = sum(parameter.numel() for parameter in make_encoder().parameters())
    assert f"| encoder | {count:,} |" in card_of(None)


def test_the_card_says_how_many_classes_have_names(card_of):
    classes = {"verb": 2, "noun": 3}
    card = card_of(classes, {"verb": ["cut", "wash"], "noun": ["pan", "knife", "cup"]})
    line = "The probe names its classes, see `model.top_classes(video)`: verb (2), noun (3)."
    assert f"|\n\n{line}\n\nEvery switch" in card  # paragraphs, not a row of the table


@pytest.mark.parametrize("num_classes", [None, {"label": 3}])
def test_a_card_without_names_speaks_of_none(num_classes, card_of):
    card = card_of(num_classes)
    assert "top_classes" not in card
    assert "|\n\nEvery switch" in card
