from jepa.evaluation.world_model_card.card import CardSettings, measure_card
from jepa.evaluation.world_model_card.table import card_table, rows


def made(toys, **options):
    shifted = {"heavy": toys.windows(push=((0.5, 0.0), (0.0, 0.5)), noise=0.1)}
    return measure_card(
        toys.world(**options), toys.windows(noise=0.2), shifted, settings=CardSettings(repeats=2)
    )


def test_every_line_names_a_measure_and_what_to_compare_it_with(toys):
    found = {(row.property, row.measure): row for row in rows(made(toys))}
    assert found["controllability", "shuffled / true"].baseline == "1: actions ignored"
    assert found["persistence", "better than a copy"].value == "6 of 6 steps"
    assert found["generalisation", "heavy: / nominal"].baseline == "1: no worse"
    assert {name for name, _ in found} == {
        "causality", "controllability", "persistence", "responsiveness", "generalisation",
    }  # fmt: skip


def test_a_dead_dimension_is_marked(toys):
    card = made(toys, push=((1.0, 0.0), (0.0, 0.0)))
    measures = [row.measure for row in rows(card)]
    assert "response to dx" in measures
    assert "response to dy (dead)" in measures


def test_the_table_tells_the_verdicts_with_reasons_and_fits_a_terminal(toys):
    text = card_table(made(toys))
    assert "PASS           causality: causal" in text
    assert "PASS           controllability: controllable" in text
    assert "FAIL           persistence: occlusion: not kept" in text
    verdicts = text.partition("\nPASS")[2].splitlines()
    assert max(map(len, verdicts)) <= 100


def test_what_was_not_measured_has_a_verdict_and_no_line(toys):
    card = measure_card(
        toys.world(), toys.windows(num_episodes=1), {}, settings=CardSettings(repeats=1)
    )
    assert {row.property for row in rows(card)} == {"responsiveness"}
    assert "NOT MEASURABLE controllability: needs two episodes" in card_table(card)
