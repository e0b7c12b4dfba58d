import io

import numpy as np
from PIL import Image

from planning.benchmarking.episode_film import film


def test_a_film_shows_every_frame_beside_the_goal():
    frames = [np.full((32, 32, 3), 60 * step, np.uint8) for step in range(4)]
    goal = np.full((32, 32, 3), 255, np.uint8)
    content = film(frames, goal, verdict="worst: 3 pixels from the goal", is_success=False)
    with Image.open(io.BytesIO(content)) as gif:
        assert gif.n_frames == 4
        for step in range(4):
            gif.seek(step)
            picture = np.asarray(gif.convert("RGB")).astype(int)
            middle = picture.shape[0] // 2
            left, right = picture[middle, 96], picture[middle, -96]
            assert np.abs(left - 60 * step).max() < 12
            assert np.abs(right - 255).max() < 12
