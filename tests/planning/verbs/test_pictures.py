"""Pictures: read back, and looked at where their meaning can be computed."""

import io

import numpy as np
import pytest
from PIL import Image

from planning.landscape import Landscape
from planning.verbs.pictures import Curve, episode_gif, landscape_png

FRAME = np.zeros((16, 16, 3), np.uint8)


def landscape(costs, truth=None):
    axis = np.linspace(-1, 1, len(costs))
    return Landscape(
        np.asarray(costs, float), axis, axis, ("dx", "dy"), ("m", "m"), 4, 1.0, 0.1, truth,
        FRAME, FRAME,
    )  # fmt: skip


def opened(content):
    return Image.open(io.BytesIO(content))


def test_the_true_landscape_is_drawn_beside_where_it_is_known():
    costs = np.arange(25.0).reshape(5, 5)
    alone, both = (
        opened(landscape_png(landscape(costs))),
        opened(landscape_png(landscape(costs, costs.T))),
    )
    assert alone.format == both.format == "PNG"
    assert both.width > 1.3 * alone.width


@pytest.mark.parametrize(
    "costs", [np.ones((5, 5)), np.where(np.eye(5) > 0, np.inf, 1.0), np.full((5, 5), 1e-30)]
)
def test_flat_landscapes_and_ruled_out_cells_can_be_drawn(costs):
    assert opened(landscape_png(landscape(costs))).format == "PNG"


def film(num_frames=3, *, is_success=True, plans=()):
    frames = [np.full((16, 16, 3), 40 * index, np.uint8) for index in range(num_frames)]
    goal = np.full((16, 16, 3), (255, 0, 255), np.uint8)
    steps = np.arange(num_frames)
    return opened(
        episode_gif(
            frames, [goal], [0] * num_frames, seen=Curve(steps, 1.0 / (1 + steps)), plans=plans,
            reached_distance=0.1, verdict="goal reached", is_success=is_success,
        )
    )  # fmt: skip


def pixels(gif, index):
    gif.seek(index)
    return np.asarray(gif.convert("RGB")).astype(int)


def test_camera_and_goal_are_shown_side_by_side_in_every_picture():
    gif = film()
    assert gif.n_frames == 3
    for index in range(3):
        picture = pixels(gif, index)
        height, width = picture.shape[:2]
        camera = picture[height // 2, int(0.155 * width)]
        goal = picture[height // 2, int(0.455 * width)]
        assert np.abs(camera - 40 * index).max() <= 12
        assert np.abs(goal - [255, 0, 255]).max() <= 12


def test_the_last_picture_stays_longer():
    gif = film()
    durations = []
    for index in range(3):
        gif.seek(index)
        durations.append(gif.info["duration"])
    assert durations[0] == durations[1] < durations[2]


def test_a_plan_is_drawn_from_the_step_it_was_made_at_and_fades_when_the_next_one_is_there():
    plans = [
        Curve(np.array([0, 1, 2]), np.array([0.9, 0.8, 0.9])),
        Curve(np.array([2, 3]), np.array([0.3, 0.5])),
    ]
    gif, vermilion = film(plans=plans), np.array([213, 94, 0])

    def amount(index):
        area = pixels(gif, index)[:, 560:]
        return int((np.abs(area - vermilion).max(-1) < 30).sum())

    assert amount(0) > 50  # the newest plan
    assert amount(2) != amount(1)  # the second one is the newest now


def test_a_flat_landscape_does_not_fill_the_scale_of_colours():
    bowl = np.add.outer(np.linspace(-1, 1, 9) ** 2, np.linspace(-1, 1, 9) ** 2)

    def num_colours(costs):
        picture = np.asarray(opened(landscape_png(landscape(costs))).convert("RGB"))
        height, width = picture.shape[:2]
        middle = picture[height // 5 : height // 2, width // 2 : 3 * width // 4]
        return len(np.unique(middle.reshape(-1, 3) // 16, axis=0))

    assert landscape(1 + 0.001 * bowl).is_flat and not landscape(1 + bowl).is_flat
    assert num_colours(1 + 0.001 * bowl) < num_colours(1 + bowl) / 2
