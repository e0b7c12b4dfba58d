"""A small world that counts its steps: the frame's grey and the state tell the count."""

import numpy as np
import pytest

from data_pipelines.__main__ import main
from data_pipelines.collecting import policy_named
from data_pipelines.decoders import decoder_class
from data_pipelines.gymnasium_episodes import collect_episodes
from data_pipelines.shards import ShardError, ShardIndex, ShardReader

gymnasium = pytest.importorskip("gymnasium")
from gymnasium import spaces  # noqa: E402

ACTIONS = {
    "box": spaces.Box(-2.0, np.array([2.0, 0.5], np.float32), (2,), np.float32),
    "discrete": spaces.Discrete(3, start=5),
    "unbounded": spaces.Box(-np.inf, np.inf, (1,), np.float32),
    "several": spaces.MultiDiscrete([2, 2]),
}
VECTOR = spaces.Box(-np.inf, np.inf, (2,), np.float64)
PICTURE = spaces.Box(0, 255, (8, 8, 3), np.uint8)
OBSERVATIONS = {
    "vector": VECTOR,
    "picture": PICTURE,
    "dict": spaces.Dict({"pixels": PICTURE, "position": VECTOR}),
}


class Counter(gymnasium.Env):
    """Observes (steps taken, a number drawn at the reset); ends after `length` steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012

    def __init__(
        self,
        render_mode=None,
        actions="box",
        observations="vector",
        length=1000,
        shape=(48, 64, 3),
        dtype=np.uint8,
        rate=12,
    ):
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": rate}
        self.action_space, self.observation_space = ACTIONS[actions], OBSERVATIONS[observations]
        self.observations, self.length, self.shape, self.dtype = observations, length, shape, dtype

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.drawn, self.taken = 0, self.np_random.uniform(), []
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        return self._observe(), 0.0, self.steps == self.length, False, {}

    def render(self):
        return np.full(self.shape, 8 + 4 * self.steps, self.dtype)

    def _observe(self):
        vector, picture = np.array([self.steps, self.drawn]), np.zeros((8, 8, 3), np.uint8)
        both = {"pixels": picture, "position": vector}
        return {"vector": vector, "picture": picture, "dict": both}[self.observations]


@pytest.fixture(autouse=True)
def counter():
    """Registers the world, with variants: Counter-v0, Counter-discrete-v0, ..."""
    variants = {
        "Counter": {},
        "Counter-discrete": {"actions": "discrete"},
        "Counter-unbounded": {"actions": "unbounded"},
        "Counter-several": {"actions": "several"},
        "Counter-picture": {"observations": "picture"},
        "Counter-dict": {"observations": "dict"},
        "Counter-short": {"length": 5},
        "Counter-odd": {"shape": (47, 64, 3)},
        "Counter-grey": {"shape": (48, 64)},
        "Counter-float": {"dtype": np.float32},
        "Counter-timeless": {"rate": None},
    }
    for name, kwargs in variants.items():
        gymnasium.register(f"{name}-v0", Counter, kwargs=kwargs, disable_env_checker=True)
    yield
    for name in variants:
        del gymnasium.registry[f"{name}-v0"]


def read(folder):
    """Returns (frames, states, actions) for each episode."""
    reader, episodes = ShardReader(), []
    for sample in ShardIndex.load([str(folder)]).samples:
        with decoder_class("pyav")(reader.read(sample, "mp4"), sample.key) as video:
            frames = video.frames_at(range(sample.metadata.num_frames)).pixels
        episodes.append((frames, *(reader.read_array(sample, f"{n}.npy") for n in COLUMNS)))
    reader.close()
    return episodes


COLUMNS = ("states", "actions")


def collect(folder, name="Counter-v0", **options):
    collect_episodes(name, folder, **{"num_episodes": 1, "num_steps": 6, **options})
    return read(folder)


def test_a_frame_is_seen_before_each_action_and_after_the_last(tmp_path, index_of):
    ((frames, states, actions),) = collect(tmp_path)
    np.testing.assert_array_equal(index_of(frames, (1, 2, 3)), range(7))
    np.testing.assert_array_equal(states[:, 0], range(7))
    assert actions.shape == (6, 2)


def test_recorded_actions_are_those_of_the_policy(tmp_path):
    def act(observation, generator):
        return np.array([observation[0] / 10, -1.0])

    ((_, _, actions),) = collect(tmp_path, act=act)
    expected = np.stack([np.arange(6) / 10, np.full(6, -1)], axis=1)
    np.testing.assert_allclose(actions, expected, atol=1e-6)


def test_a_choice_becomes_a_one_hot_column(tmp_path):
    choices = iter([5, 7, 6])
    ((_, _, actions),) = collect(
        tmp_path, "Counter-discrete-v0", act=lambda *_: next(choices), num_steps=3
    )
    np.testing.assert_array_equal(actions, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    specification = ShardIndex.load([str(tmp_path)]).specification
    assert specification.action_names == ("choice_0", "choice_1", "choice_2")
    assert specification.action_kind == "one-hot choice"


def test_the_specification_is_what_the_environment_says(tmp_path):
    collect(tmp_path)
    specification = ShardIndex.load([str(tmp_path)]).specification
    assert specification.frames_per_second == 12
    assert (specification.action_low, specification.action_high) == ((-2, -2), (2, 0.5))
    assert specification.state_names == ("observation_0", "observation_1")


def test_the_same_seed_gives_the_same_shards_and_episodes_differ(tmp_path):
    shards = [
        (collect(tmp_path / name, num_episodes=2, seed=seed), tmp_path / name)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, same, other = ((folder / "shard-000000.tar").read_bytes() for _, folder in shards)
    assert first == same != other
    (_, states, actions), (_, other_states, other_actions) = shards[0][0]
    assert states[0, 1] != other_states[0, 1]
    assert (actions != other_actions).any()


def test_an_episode_ends_where_the_environment_ends_it(tmp_path, index_of):
    episodes = collect(tmp_path, "Counter-short-v0", num_episodes=2, num_steps=50)
    for frames, states, actions in episodes:
        np.testing.assert_array_equal(index_of(frames, (1, 2, 3)), range(6))
        assert (len(states), len(actions)) == (6, 5)


def test_pictures_are_no_state(tmp_path):
    ((_, states, _),) = collect(tmp_path, "Counter-picture-v0")
    assert states.shape == (7, 0)


def test_a_part_of_a_dict_is_the_state_if_asked_for(tmp_path):
    ((_, none, _),) = collect(tmp_path / "a", "Counter-dict-v0")
    assert none.shape == (7, 0)
    ((_, states, _),) = collect(tmp_path / "b", "Counter-dict-v0", state_key="position")
    np.testing.assert_array_equal(states[:, 0], range(7))
    with pytest.raises(ValueError, match=r"no vector 'pixels'.*vectors with a key: position"):
        collect(tmp_path / "c", "Counter-dict-v0", state_key="pixels")
    with pytest.raises(ValueError, match=r"no vector 'position'.*with a key: none"):
        collect(tmp_path / "c", "Counter-v0", state_key="position")


def test_frames_can_be_made_smaller_which_also_makes_them_even(tmp_path, index_of):
    ((frames, _, _),) = collect(tmp_path, "Counter-odd-v0", image_size=32)
    assert frames.shape == (7, 32, 32, 3)
    np.testing.assert_array_equal(index_of(frames, (1, 2, 3)), range(7))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Counter-odd-v0", r"even height and width, it rendered 47 x 64; .*--image-size"),
        ("Counter-grey-v0", r"\(height, width, 3\) uint8, it rendered \(48, 64\) uint8"),
        ("Counter-float-v0", r"it rendered \(48, 64, 3\) float32"),
        ("Counter-unbounded-v0", "actions must have finite bounds"),
        ("Counter-several-v0", "actions must be a Box or Discrete, the environment has Multi"),
        ("Counter-timeless-v0", r"the environment says None; say it \(--fps\)"),
        ("NoSuchThing-v0", "cannot make 'NoSuchThing-v0': .*doesn't exist"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        collect(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_is_said_counts(tmp_path):
    collect(tmp_path, "Counter-timeless-v0", frames_per_second=7.0)
    assert ShardIndex.load([str(tmp_path)]).specification.frames_per_second == 7
    with pytest.raises(ValueError, match=r"must be in \(0, 1000\], the environment says 0"):
        collect(tmp_path / "b", frames_per_second=0)


@pytest.mark.parametrize("action", [[3.0, 0.0], [0.0], [np.nan, 0.0]])
def test_an_action_outside_the_space_is_refused(tmp_path, action):
    with pytest.raises(ValueError, match=r"the policy's action .* is not in the environment's Box"):
        collect(tmp_path, act=lambda *_: np.array(action))


def test_a_policy_is_found_by_name_also_in_the_present_folder(tmp_path, monkeypatch):
    (tmp_path / "my_policy.py").write_text("def act(observation, generator):\n    return 6\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert policy_named("my_policy:act")(None, None) == 6
    assert policy_named("random") is None
    with pytest.raises(ValueError, match="module my_policy has no function missing"):
        policy_named("my_policy:missing")
    with pytest.raises(ImportError, match="no_such_module"):
        policy_named("no_such_module:act")
    with pytest.raises(ValueError, match="must be 'random' or 'module:function', got 'greedy'"):
        policy_named("greedy")


def test_the_verb_collects_and_says_what(tmp_path, capsys):
    words = ["collect", "--env", "Counter-v0", "--episodes", "3", "--steps", "4", str(tmp_path)]
    assert main(words) == 0
    assert "collected 3 episodes" in capsys.readouterr().out
    assert [len(actions) for _, _, actions in read(tmp_path)] == [4, 4, 4]
    assert main(words) == 2
    assert "already holds shards" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_shards_that_are_there_are_kept(tmp_path):
    collect(tmp_path)
    with pytest.raises(ShardError, match="already holds shards"):
        collect(tmp_path)


def test_without_gymnasium_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"pip install 'jepa-planning\[sim\]'"):
        collect(tmp_path)


def test_a_library_that_is_missed_while_drawing_is_named(tmp_path, monkeypatch):
    def render(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(Counter, "render", render)
    with pytest.raises(ImportError, match="Counter-v0: pygame is not installed"):
        collect(tmp_path)
