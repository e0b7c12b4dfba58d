import io
import math

import numpy as np
import pytest
from PIL import Image, ImageSequence

from jepa.demo import figures, report
from jepa.evaluation.report.charts import DARK, LIGHT
from planning.environments.two_rooms import TwoRooms

EXTENT = (0.0, 64.0, 0.0, 64.0)


def opened(content):
    return Image.open(io.BytesIO(content))


def gif_frames(content):
    return [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(opened(content))]


def walk(*positions):
    room = TwoRooms()
    return np.stack([room.render(np.array(position, float)) for position in positions])


def room_map(distance, *, n=32):
    """A (n, n) map of distance(x, y), NaN where the disc cannot stand."""
    room = TwoRooms()
    centers = (np.arange(n) + 0.5) * 64 / n
    return np.array(
        [[distance(x, y) if room.is_free((x, y)) else np.nan for x in centers] for y in centers]
    )


def way_to(goal):
    """The exact length of the way from (x, y) to a goal in the right room."""
    left, right = (26.5, 21.76), (37.5, 21.76)  # where the middle of the disc enters the door

    def length(x, y):
        if x >= right[0]:
            return math.dist((x, y), goal)
        if x >= left[0]:
            return math.dist((x, y), right) + math.dist(right, goal)
        return math.dist((x, y), left) + math.dist(left, right) + math.dist(right, goal)

    return length


def distance_map(goal=(52.0, 50.0)):
    values = room_map(way_to(goal))
    background = TwoRooms().render(np.array([-20.0, -20.0]))
    return report.DistanceMap(values, values, EXTENT, np.array(goal), background)


def episode(is_success=True, start=(12, 50), goal=(52, 50)):
    frames = walk(start, (20, 30), (32, 22), (45, 35), goal)
    return report.EpisodePicture(frames, walk(goal)[0], is_success, "caption", "rule")


# Arithmetic.


def test_spearman_sees_order_only():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert figures.spearman(x, np.exp(x)) == pytest.approx(1)
    assert figures.spearman(x, -x) == pytest.approx(-1)


def test_spearman_of_ties_is_the_known_value():
    # Ranks 0 1.5 1.5 3 and 0 1 2 3: covariance 4.5, variances 4.5 and 5.
    value = figures.spearman(np.array([1, 2, 2, 3]), np.array([1, 2, 3, 4]))
    assert value == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_spearman_leaves_out_what_is_not_finite_and_is_none_without_order():
    x = np.array([1.0, 2.0, np.nan, 3.0, 4.0])
    y = np.array([1.0, 2.0, -9.0, 3.0, np.inf])
    assert figures.spearman(x, y) == pytest.approx(1)
    assert figures.spearman(np.ones(5), np.arange(5)) is None
    assert figures.spearman(np.array([]), np.array([])) is None


def test_binned_quartiles_of_known_values():
    x, y = np.repeat([0.0, 1.0], 5), np.tile(np.arange(5.0), 2) + np.repeat([0, 10], 5)
    rows = figures.binned_quartiles(x, y, num_bins=2)
    assert np.allclose(rows, [[0.25, 1, 2, 3], [0.75, 11, 12, 13]])


def test_walks_on_the_length_of_the_way_all_go_through_the_door_and_arrive():
    chart = distance_map(goal=(52.0, 20.0))
    paths = figures.descent_paths(chart.values, EXTENT, chart.goal)
    assert len(paths) == np.isfinite(chart.values).sum()
    assert figures.share_that_arrives(paths, chart.goal) == 1
    lengths = [np.linalg.norm(np.diff(path, axis=0), axis=1) for path in paths]
    assert max(steps.max(initial=0) for steps in lengths) <= figures.REACH_PIXELS
    crossing = [path for path in paths if path[0][0] < 26]
    assert all(any(26 < x < 38 for x in path[:, 0]) for path in crossing)


def test_walks_on_the_straight_distance_are_stuck_at_the_wall():
    goal = np.array([52.0, 52.0])
    values = room_map(lambda x, y: np.hypot(x - goal[0], y - goal[1]))
    paths = figures.descent_paths(values, EXTENT, goal)
    low_left = [path for path in paths if path[0][0] < 26 and path[0][1] > 40]
    assert low_left and figures.share_that_arrives(low_left, goal) == 0


def test_walks_on_a_flat_map_stay_where_they_are():
    goal = np.array([52.0, 52.0])
    paths = figures.descent_paths(room_map(lambda x, y: 1.0), EXTENT, goal)
    assert all(len(path) == 1 for path in paths)
    assert figures.share_that_arrives([], goal) is None


def test_the_disc_is_found_to_a_fraction_of_a_pixel():
    positions = [(12.3, 50.8), (32.0, 21.5), (55.0, 9.0)]
    assert np.abs(figures.disc_positions(walk(*positions)) - positions).max() < 0.2
    assert np.isnan(figures.disc_positions(walk((-20, -20)))).all()


def test_the_angle_between_actions():
    right, down = np.array([2.0, 0.0]), np.array([0.0, 5.0])
    assert figures.angle_between_degrees(right, down) == pytest.approx(90)
    assert figures.angle_between_degrees(right, -right) == pytest.approx(180)
    assert figures.angle_between_degrees(right, np.zeros(2)) is None


def test_the_lowest_cost_is_read_with_rows_as_dy_and_columns_as_dx():
    costs = np.ones((3, 4))
    costs[2, 1], costs[0, 0] = 0.5, np.nan
    frame = walk((12, 12))[0]
    landscape = report.EnergyLandscape(
        costs, np.arange(4.0), np.arange(10.0, 13.0), np.zeros(2), np.zeros(2), frame, frame
    )
    assert figures.lowest_cost_action(landscape).tolist() == [1, 12]
    assert opened(figures.energy_contour(landscape, theme=LIGHT)).size == (1040, 1200)


# Pictures of pixels.


@pytest.mark.parametrize("steps", [1, 2, 51])
def test_a_gif_has_a_frame_per_step_even_if_nothing_moves(steps):
    frames = np.repeat(walk((12, 12)), steps, axis=0)
    content = figures.episode_gif(frames, walk((50, 50))[0], is_success=False)
    assert len(gif_frames(content)) == steps


@pytest.mark.parametrize(
    ("is_success", "colour"), [(True, figures.GIF_SUCCESS), (False, figures.GIF_FAILURE)]
)
def test_the_border_tells_the_outcome_on_the_last_frames_only(is_success, colour):
    frames = walk(*[(12 + i, 12) for i in range(6)])
    corners = [
        f[0, 0].astype(int)
        for f in gif_frames(figures.episode_gif(frames, frames[0], is_success=is_success))
    ]
    told = [bool(np.abs(corner - colour).max() < 12) for corner in corners]
    assert told == [False] * 3 + [True] * 3


def test_a_gif_shows_the_frame_left_and_the_goal_right():
    frames, goal = walk((12, 12), (14, 12)), walk((50, 50))[0]
    first = gif_frames(figures.episode_gif(frames, goal, is_success=True))[0].astype(int)
    border, width = figures.GIF_BORDER, 64 * figures.GIF_SCALE
    assert first.shape == (width + 2 * border + 6, 2 * width + 3 * border, 3)
    left = first[border : border + width : 3, border : border + width : 3]
    right = first[border : border + width : 3, 2 * border + width : -border : 3]
    assert np.abs(left - frames[0]).mean() < 4 and np.abs(right - goal).mean() < 4
    assert np.abs(left - goal).max() > 60


# Charts.


def charts(theme):
    generator = np.random.default_rng(0)
    x, y = generator.uniform(0, 90, 300), generator.uniform(0, 1, 300)
    steps = np.arange(30.0)
    chart = distance_map()
    return {
        "curves": figures.training_curves(
            {"loss/total": (steps, 1 / (steps + 1)), "baseline/copy": (steps, steps * 0 + 0.3)},
            theme=theme, title="Loss", log=True, limit=("dim", 2.0),
        ),
        "scatter": figures.distance_scatter(x, y, theme=theme, name="tokens"),
        "heat": figures.distance_heat(chart.values, chart, theme=theme, name="tokens"),
        "imagined": figures.imagined_distance(
            np.linspace(1, 0, 7), [np.ones(4), np.zeros(4)], [0, 3], theme=theme
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", charts(LIGHT))
def test_charts_are_clear_and_differ_between_themes(name):
    light, dark = (np.asarray(opened(charts(theme)[name])) for theme in (LIGHT, DARK))
    assert light[0, 0, 3] == 0 and light[..., 3].max() == 255
    assert light.shape == dark.shape and (light != dark).any()


def test_a_chart_is_the_same_each_time():
    assert charts(LIGHT) == charts(LIGHT)


def test_charts_of_nothing_or_of_constants_are_drawn():
    chart = distance_map()
    nothing = np.full_like(chart.values, np.nan)
    flat = np.where(np.isfinite(chart.values), 1.0, np.nan)
    for values in (nothing, flat):
        assert opened(figures.distance_heat(values, chart, theme=LIGHT, name="x")).width == 1040
    empty = np.array([])
    assert opened(figures.distance_scatter(empty, empty, theme=LIGHT, name="x")).width == 1040
    one = (np.array([0.0]), np.array([0.0]))
    assert figures.training_curves({"loss/total": one}, theme=LIGHT, title="x", log=True)


# The picture of the README.


def inputs(**changes):
    rate = {"rate": 0.9, "low": 0.8, "high": 0.95, "successes": 9, "episodes": 10}
    summary = {"success": {"planner": rate, "random": {**rate, "rate": 0.2, "low": 0.1}}}
    fields = {"summary": summary, "distance_map": distance_map(), "episodes": [episode()]}
    return report.ReportInputs(**{**fields, **changes})


def test_the_hero_is_wide_and_opaque():
    image = opened(figures.hero_picture(inputs()))
    assert image.size == (1200, 420)
    assert np.asarray(image.convert("RGBA"))[..., 3].min() == 255


def test_the_hero_is_a_success_to_the_goal_of_the_map_by_the_longest_way():
    failure, elsewhere = episode(is_success=False), episode(goal=(52, 12))
    short, long = episode(start=(20, 40)), episode()
    chosen = figures.hero_episode(inputs(episodes=[failure, elsewhere, short, long]))
    assert chosen is long


def test_the_hero_draws_the_map_only_under_its_own_goal():
    def middle(content):
        return np.asarray(opened(content).convert("RGB")).astype(int)[80:400, 205:525]

    matching = middle(figures.hero_picture(inputs()))
    other = middle(figures.hero_picture(inputs(distance_map=distance_map(goal=(12.0, 12.0)))))
    none = middle(figures.hero_picture(inputs(distance_map=None)))
    assert (other == none).all() and np.abs(matching - none).mean() > 10


def test_the_hero_is_drawn_without_episodes_or_results():
    assert figures.hero_picture(inputs(distance_map=None, episodes=[]))
    assert figures.hero_picture(inputs(summary={}))


def test_the_policies_are_in_order_and_an_unknown_one_comes_last():
    assert figures.policy_order(["my_rule", "random", "planner"]) == [
        "planner",
        "random",
        "my_rule",
    ]
    assert figures.policy_name("my_rule") == "My rule"
