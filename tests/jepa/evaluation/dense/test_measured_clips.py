"""Tests of clips that are read when they are needed."""

from jepa.evaluation.dense.measured_clips import chosen_clips


def test_chosen_clips_are_read_when_their_turn_comes():
    asked = []

    class Source:
        def clip(self, number):
            asked.append(number)
            return number

    chosen = chosen_clips(Source(), [4, 2])
    assert len(chosen) == 2 and asked == []
    assert [list(chosen), list(chosen)] == [[4, 2], [4, 2]]
