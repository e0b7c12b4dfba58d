"""Any Gymnasium environment: goals by replay, and what each of its kinds of success means."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from planning.environments.gymnasium_pixels import GymnasiumPixels  # noqa: E402


class Track(gymnasium.Env):
    """A runner on a track of 100, seen from above; the end of the track is the task."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, render_mode=None, kind="box", says=("is_success",), drift=0.0):
        self.render_mode, self.kind, self.says, self.drift = render_mode, kind, says, drift
        vector = gymnasium.spaces.Box(0, 100, (1,), np.float64)
        picture = gymnasium.spaces.Box(0, 255, (50, 100, 3), np.uint8)
        both = gymnasium.spaces.Dict({"place": vector, "picture": picture})
        self.observation_space = {"dictionary": both, "picture": picture}.get(kind, vector)
        if kind == "discrete":
            self.action_space = gymnasium.spaces.Discrete(3, start=-1)
        elif kind == "unbounded":
            self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        else:
            self.action_space = gymnasium.spaces.Box(-10, 10, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.integers(30, 60))
        return self._observation(), {}

    def step(self, action):
        action = float(np.asarray(action).reshape(-1)[0]) * (10 if self.kind == "discrete" else 1)
        self.place = float(np.clip(self.place + action + self.drift, 0, 100))
        is_there = self.place >= 100
        info = dict.fromkeys(self.says, is_there)
        return self._observation(), self.place / 100, self.place <= 0, False, info

    def render(self):
        frame = np.full((50, 100, 3), 200, dtype=np.uint8)
        frame[:, max(0, int(self.place) - 5) : int(self.place) + 5] = (200, 0, 0)
        return frame

    def _observation(self):
        vector = np.array([self.place])
        if self.kind == "dictionary":
            return {"place": vector, "picture": self.render()}
        return self.render() if self.kind == "picture" else vector


class Slippery(Track):
    """Goes as it likes, whatever the seed."""

    def step(self, action):
        self.drift = float(np.random.default_rng().uniform(0.5, 1.0))
        return super().step(action)


class Blind(gymnasium.Env):
    """Draws nothing."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = observation_space = gymnasium.spaces.Box(-1, 1, (1,))


gymnasium.register("Track-v0", entry_point=Track)
gymnasium.register("Slippery-v0", entry_point=Slippery)
gymnasium.register("Blind-v0", entry_point=Blind)


def track(success="observation", **options):
    names = ("kind", "says", "drift")
    env_options = {name: options.pop(name) for name in names if name in options}
    return GymnasiumPixels("Track-v0", success=success, env_options=env_options, **options)


def started(environment, seed=0):
    return environment.reset(np.random.default_rng(seed), start=None, goal=None)


# Goals that were reached before.


def test_a_goal_is_what_its_actions_lead_to_from_the_same_reset():
    environment = track(success_distance=0.01)
    started(environment)
    recipe = environment.goal_configuration
    assert recipe.tolist()[2] == 25
    # The same actions as the recipe's, as its generator gives them: held with probability 0.85.
    generator = np.random.default_rng(int(recipe[1]))
    action = environment.action_spec.sample(generator)
    for _ in range(25):
        if generator.random() < 0.15:
            action = environment.action_spec.sample(generator)
        step = environment.step(action)
        if step.is_last:
            break
    assert step.is_success
    assert environment.distance_to_goal() == 0
    assert np.array_equal(step.frame, environment.goal.frame)


def test_start_and_goal_begin_with_the_same_reset():
    environment = track()
    generator = np.random.default_rng(0)
    for index in range(5):
        start, goal, _ = environment.draw_task(generator, index)
        assert start[0] == goal[0]
        assert (start[2], goal[2]) == (0, 25)


def test_where_it_is_after_other_actions_is_no_recipe():
    environment = track()
    started(environment)
    assert np.isfinite(environment.configuration).all()
    environment.step(np.array([1.0]))
    assert np.isnan(environment.configuration).all()
    with pytest.raises(ValueError, match=r"goal must be a recipe .* put anywhere else, got \[nan"):
        environment.reset(np.random.default_rng(0), goal=environment.configuration)


def test_an_episode_can_begin_where_the_last_one_was():
    environment = track()
    started(environment)
    place = environment.step(np.array([7.0])).state
    here = environment.configuration
    step = environment.reset(np.random.default_rng(1), start=here, goal=None)
    assert np.array_equal(step.state, place)
    assert environment.save_state()[0] == 0  # no step of this episode
    environment.step(np.array([-1.0]))
    assert environment.goal_configuration[2] == 25


def test_an_episode_cannot_begin_where_the_environment_has_ended():
    environment = track("info")
    step = started(environment)
    while not step.is_last:
        step = environment.step(np.array([-10.0]))
    with pytest.raises(ValueError, match=r"start must be a recipe .* got \[nan"):
        environment.reset(np.random.default_rng(1), start=environment.configuration)


def test_the_past_is_kept_and_played_again():
    environment = track(drift=0.5)
    started(environment)
    for _ in range(3):
        environment.step(np.array([2.0]))
    saved = environment.save_state()
    assert saved.tolist()[2:] == [0, 0, 2, 2, 2]  # after the steps so far and the reset's seed
    place = environment.step(np.array([-5.0])).state
    environment.load_state(saved)
    assert np.array_equal(environment.step(np.array([-5.0])).state, place)


# Kinds of success.


def test_success_by_observation_is_a_distance_of_vectors():
    environment = track(success_distance=3.0)
    step = started(environment)
    away = float(step.state[0] - environment.goal.state[0])
    assert environment.distance_to_goal() == pytest.approx(abs(away))


def test_success_by_frame_is_the_root_mean_square_of_the_pixels():
    environment = track("frame", kind="picture")
    step = started(environment)
    assert (step.state.shape, environment.state_names) == ((0,), ())
    difference = step.frame.astype(float) - environment.goal.frame
    assert environment.distance_to_goal() == pytest.approx(np.sqrt((difference**2).mean()))


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_success_by_info_is_what_the_environment_says(key):
    environment = track("info", says=(key,))
    step = started(environment)
    while not step.is_last:
        assert environment.distance_to_goal() == 1.0
        step = environment.step(np.array([10.0]))
    assert step.is_success
    assert step.state.tolist() == [100]


def test_success_by_reward_is_a_reward_of_at_least_the_threshold():
    environment = track("reward", reward_threshold=0.8)
    step = started(environment)
    while not step.is_last:
        assert step.state[0] < 80
        step = environment.step(np.array([1.0]))
    assert step.is_success
    assert step.state[0] == 80


def test_an_environment_that_ends_by_itself_ends_the_episode_without_success():
    environment = track("info")
    step = started(environment)
    while not step.is_last:
        step = environment.step(np.array([-10.0]))
    assert not step.is_success
    assert step.state.tolist() == [0]
    with pytest.raises(RuntimeError, match="the episode is over"):
        environment.step(np.array([10.0]))


# Actions and observations of any kind.


def test_a_new_goal_comes_back_to_where_it_is_and_an_end_is_an_end():
    track = GymnasiumPixels(env_id="Track-v0", image_size=32, success_distance=1.0)
    track.reset(np.random.default_rng(0))
    shown = track.step(np.array([-7.25]))
    again = track.new_goal(np.random.default_rng(1))
    assert np.array_equal(again.state, shown.state) and np.array_equal(again.frame, shown.frame)
    assert track.distance_to_goal() >= 1.0
    while not track._has_ended:
        track._act(np.array([-10.0]))
    with pytest.raises(ValueError, match="Track-v0 has ended the episode itself"):
        track.new_goal(np.random.default_rng(1))


def test_a_success_of_the_environments_own_is_over_with_a_new_goal():
    track = GymnasiumPixels(env_id="Track-v0", success="reward", reward_threshold=0.1)
    track.reset(np.random.default_rng(0))
    assert track.step(np.zeros(1)).is_success
    shown = track.new_goal(np.random.default_rng(1))
    assert not shown.is_last
    assert track.step(np.zeros(1)).is_success


def test_an_environment_with_randomness_of_its_own_has_no_new_goal():
    """What was recorded before stays true; what came after would not be."""
    track = GymnasiumPixels(env_id="Slippery-v0", success_distance=1e-6)
    track.reset(np.random.default_rng(0))
    track.step(np.ones(1))
    with pytest.raises(ValueError, match="Slippery-v0 is not the same when its past is played aga"):
        track.new_goal(np.random.default_rng(1))


def test_choices_are_one_hot_and_reach_the_environment_as_its_own():
    environment = track(kind="discrete", success_distance=0.5)
    begin = started(environment).state[0]
    assert environment.action_spec.names == ("choice_0", "choice_1", "choice_2")
    assert environment.step(np.array([0, 0, 1.0])).state[0] == begin + 10  # the third is +1
    assert environment.step(np.array([0, 1.0, 0])).state[0] == begin + 10
    assert environment.step(np.array([1.0, 0, 0])).state[0] == begin
    with pytest.raises(ValueError, match="exactly one"):
        environment.step(np.zeros(3))


def test_the_state_is_a_named_part_of_what_is_observed():
    environment = track(kind="dictionary", state_key="place")
    assert started(environment).state.shape == (1,)
    with pytest.raises(ValueError, match="observes no 'plaice'; it observes place, picture"):
        track(kind="dictionary", state_key="plaice")


def test_pictures_are_scaled_to_a_square():
    step = started(track(image_size=64))
    assert step.frame.shape == (64, 64, 3)
    is_red = step.frame[..., 1] < 100
    assert is_red.mean() == pytest.approx(0.1, abs=0.03)  # 10 of 100 columns


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_id": "Trick-v0"}, "cannot make 'Trick-v0'"),
        ({"env_id": "Blind-v0"}, "Blind-v0.*rgb_array"),
        ({"env_id": "Track-v0", "env_options": {"kind": "unbounded"}}, "finite bounds"),
        ({"success_distance": "near"}, "success_distance must be a finite number, got 'near'"),
        ({"success_distance": -1.0}, r"success_distance must be above 0, got -1\.0"),
        ({"env_options": 5}, "env_options must be names and values, got 5"),
        ({"env_id": "Track-v0", "env_options": {"sort": "box"}}, "cannot make.*'sort'"),
        ({"env_id": "Track-v0", "env_options": {"kind": "picture"}}, "observes no vector"),
        ({"env_id": "Track-v0", "success": "luck"}, "one of observation, frame, info, reward"),
        ({"env_id": "Track-v0", "success": "reward"}, "reward_threshold=None; the threshold"),
        ({"env_id": "Track-v0", "reward_threshold": 1.0}, "the threshold belongs to"),
        ({"env_id": "Track-v0", "goal_steps": 0}, "goal_steps must be at least 1"),
        ({"env_id": "Track-v0", "image_size": 8}, r"image_size must be in \[16, 512\]"),
    ],
)
def test_what_cannot_be_planned_in_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        GymnasiumPixels(**options)
    assert "\n" not in str(refusal.value)


def test_an_environment_that_says_nothing_of_success_is_told_at_the_first_step():
    environment = track("info", says=())
    with pytest.raises(ValueError, match="says neither is_success nor success in its info"):
        started(environment)  # the goal is reached by steps
