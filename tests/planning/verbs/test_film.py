"""The film of a run that never planned; films of runs are tested in test_running.py."""

import io

import numpy as np
from PIL import Image

from planning.control.mpc import EpisodeRecord
from planning.control.running import Outcome
from planning.types import Goal
from planning.verbs.film import film, seen_distances


def test_a_run_that_began_at_its_goal_has_a_film_of_one_picture():
    frame = np.zeros((32, 32, 3), np.uint8)
    goal = Goal(frame, np.zeros(2, np.float32))
    episode = EpisodeRecord([frame], [np.zeros(2)], [], goal, True, 0.0)
    outcome = Outcome(episode, [frame], "simulator")
    assert len(seen_distances(outcome).values) == 0
    with Image.open(io.BytesIO(film(outcome))) as gif:
        assert gif.n_frames == 1
