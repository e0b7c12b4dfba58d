import pickle

import pytest

from data_pipelines.sample_columns import Chained, Place, Record, RecordColumns

RECORDS = [
    Record(("a", None), (Place("mp4", 512, 7, 0), Place("json", 0, 2**40, None)), (1.5, 2.0)),
    Record(("", "a"), (Place("json", 1, 2, 2**32 - 1),), None),
    Record(("\u00e4\ud800", "\u4e2d"), (), (-1.0, 0.1 + 0.2)),
    Record((None, None), (Place("mp4", 3, 4, None), Place("json", 5, 6, 9)), (0.0, 1e300)),
]


def columns(records=RECORDS):
    return RecordColumns(records, num_texts=2, num_numbers=2)


def test_records_come_back_as_they_were_given():
    held = columns()
    assert [held[number] for number in range(len(held))] == RECORDS
    assert [pickle.loads(pickle.dumps(held))[number] for number in range(4)] == RECORDS


def test_records_are_counted_by_their_extensions_without_being_made():
    held = columns()
    assert set(held.layouts) == {("mp4", "json"), ("json",), ()}
    assert held.count([("mp4", "json")]) == 2 and held.count([("json", "mp4")]) == 0
    assert held.count(held.layouts) == len(held) == 4
    assert list(held.known(1, [("mp4", "json"), ("json",)])) == [2.0, 1e300]  # of "json" unknown


@pytest.mark.parametrize(
    "record",
    [
        Record(("a", 5), (), None),
        Record(("a", {}), (), None),
        Record(("a", "b"), (Place("mp4", 2**70, 1, 1),), None),
        Record(("a", "b"), (Place("mp4", 1.5, 1, 1),), None),
        Record(("a", "b"), (), ("1", 2.0)),
    ],
)
def test_values_of_another_kind_are_refused_not_rounded(record):
    with pytest.raises((TypeError, AttributeError, OverflowError)):
        columns([record])


def test_a_chain_is_its_parts_one_after_the_other():
    chain, flat = Chained([[1, 2], [], [3], (4, 5, 6)]), [1, 2, 3, 4, 5, 6]
    assert list(chain) == flat and len(chain) == 6 and chain == flat != Chained([[1]])
    assert [chain[n] for n in range(-6, 6)] == flat + flat
    assert chain[1:5:2] == (2, 4) and chain[4:] == (5, 6)
    for outside in (6, -7):
        with pytest.raises(IndexError):
            chain[outside]
    assert len(Chained([])) == 0 and list(Chained([])) == []
