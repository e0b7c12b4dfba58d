"""What every concept owes: pairs that begin alike, and frames that tell nothing one by one."""

from collections import Counter

import numpy as np
import pytest

from data_pipelines.physics_videos.matched_sets import render_pairs
from data_pipelines.physics_videos.writing import _concept, concept_names

NUM_FRAMES = 32


@pytest.fixture(scope="module", params=concept_names())
def sets(request):
    """A set of each variant, with its pictures."""
    module, found = _concept(request.param), {}
    for seed in range(60):
        matched = module.matched_set(np.random.default_rng(seed), num_frames=NUM_FRAMES)
        found.setdefault(matched.variant, matched)
        if len(found) == len(module.VARIANTS):
            break
    assert set(found) == set(module.VARIANTS)
    return [(matched, render_pairs(matched, size=32)) for matched in found.values()]


def test_pairs_are_the_same_before_the_violation_and_differ_after(sets):
    for matched, pairs in sets:
        for pair in pairs:
            moment = pair.violation_frame
            np.testing.assert_array_equal(pair.possible[:moment], pair.impossible[:moment])
            differs = (pair.possible != pair.impossible).any((1, 2, 3))
            assert differs[moment]
            assert differs.sum() >= 4, f"{matched.variant}: hardly anything is seen of it"
            assert matched.cut <= moment <= matched.cut + 6


def test_possible_and_impossible_videos_of_a_set_show_the_same_frames_equally_often(sets):
    """So nothing that looks at one frame can tell them apart; `hovers` alone is not so."""
    for matched, pairs in sets:
        possible, impossible = (
            Counter(frame.tobytes() for pair in pairs for frame in pair[kind]) for kind in (0, 1)
        )
        assert matched.is_balanced == (matched.variant != "hovers")
        if matched.is_balanced:
            assert possible == impossible
        else:
            assert set(impossible) <= set(possible)  # each frame could be a possible one
            assert possible != impossible


def test_something_is_seen_before_the_violation(sets):
    """A thing is in the picture before it, or comes out of nowhere: then the partner shows one."""
    for _, pairs in sets:
        for pair in pairs:
            frames = np.concatenate((pair.possible, pair.impossible))
            assert (frames != frames[0]).any()


def test_the_same_seed_makes_the_same_set():
    for name in concept_names():
        first, second = (
            _concept(name).matched_set(np.random.default_rng(7), num_frames=20) for _ in range(2)
        )
        assert first.scene == second.scene
        np.testing.assert_array_equal(first.possible[0], second.possible[0])
