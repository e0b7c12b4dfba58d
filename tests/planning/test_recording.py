"""Recorded episodes, read back through the data pipelines."""

from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.datamodules import TrajectoryDataModule
from data_pipelines.tar_headers import ShardError
from planning.actions.space import ActionSpec
from planning.baselines import StickyRandom
from planning.environments import environment_names, make_environment
from planning.recording import NoStartError, object_columns, record_episode, record_episodes
from planning.types import TimeStep


def record(environment, out, *, num_episodes=4, num_steps=20, seed=0, **options):
    return record_episodes(
        environment,
        options.pop("policy", StickyRandom),
        out,
        num_episodes=num_episodes,
        num_steps=num_steps,
        seed=seed,
        **options,
    )


def read(folder, *, num_episodes=4, num_steps=20):
    """All episodes as (frames, states, actions) by key, frames (time, height, width, 3)."""
    data = TrajectoryDataModule(
        str(folder), clip_length_frames=num_steps + 1, image_size=32, batch_size=num_episodes
    )
    (batch,) = data.train_dataloader()
    frames = batch.frames.permute(0, 2, 3, 4, 1).numpy()
    columns = zip(frames, batch.states.numpy(), batch.actions.numpy(), strict=True)
    return dict(sorted(zip(batch.keys, columns, strict=True))), data


@pytest.fixture(scope="module")
def recorded(rooms, tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded")
    record(rooms(max_steps=100), out)
    return out


def resimulated(environment, state, actions):
    states = [state.astype(np.float64)]
    for action in actions:
        states.append(environment.move(states[-1], action))
    return np.stack(states)


def test_every_episode_has_exactly_so_many_actions_and_one_frame_more(recorded):
    episodes, data = read(recorded)
    assert len(episodes) == data.index.num_samples == 4
    for frames, states, actions in episodes.values():
        assert (frames.shape, states.shape, actions.shape) == ((21, 32, 32, 3), (21, 2), (20, 2))


def test_actions_lead_from_each_state_to_the_next(recorded, rooms):
    episodes, _ = read(recorded)
    for _, states, actions in episodes.values():
        np.testing.assert_allclose(resimulated(rooms(), states[0], actions), states, atol=1e-3)
        assert np.abs(np.diff(states, axis=0)).max() > 1  # it moves


def test_each_frame_shows_the_state_of_its_step_and_not_of_a_neighbour(recorded, rooms):
    episodes, _ = read(recorded)
    num_moves = 0
    for frames, states, _ in episodes.values():
        drawn = np.stack([rooms().render(state) for state in states]).astype(int)
        for step, other in [(t, t + 1) for t in range(20)] + [(t + 1, t) for t in range(20)]:
            if np.linalg.norm(states[step] - states[other]) > 1:
                right, wrong = (np.abs(frames[step] - drawn[t]).mean() for t in (step, other))
                assert right < wrong
                num_moves += 1
    assert num_moves > 100


def test_names_units_bounds_and_rate_are_those_of_the_environment(recorded, rooms):
    _, data = read(recorded)
    environment, found = rooms(), data.specification
    assert (found.state_names, found.state_units) == (("x", "y"), ("pixel", "pixel"))
    assert (found.action_names, found.action_units) == (("dx", "dy"), ("pixel/step",) * 2)
    assert (found.action_low, found.action_high) == ((-2.5, -2.5), (2.5, 2.5))
    assert found.frames_per_second == environment.frames_per_second


def test_statistics_are_those_of_all_recorded_numbers(recorded):
    episodes, data = read(recorded)
    states = np.concatenate([states for _, states, _ in episodes.values()])
    actions = np.concatenate([actions for *_, actions in episodes.values()])
    np.testing.assert_allclose(data.statistics.state_mean, states.mean(0), rtol=1e-5)
    np.testing.assert_allclose(data.statistics.state_std, states.std(0), rtol=1e-5)
    np.testing.assert_allclose(data.statistics.action_mean, actions.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(data.statistics.action_std, actions.std(0), rtol=1e-5)


def test_actions_stick_and_change_as_the_policy_says(recorded):
    episodes, _ = read(recorded)
    changes = [np.diff(actions, axis=0).any(-1) for *_, actions in episodes.values()]
    assert 0.05 < np.mean(changes) < 0.3


def test_each_episode_has_a_policy_and_a_start_of_its_own(recorded):
    episodes, _ = read(recorded)
    starts = {tuple(states[0]) for _, states, _ in episodes.values()}
    actions = {tuple(actions[0]) for *_, actions in episodes.values()}
    assert len(starts) == len(actions) == 4


# Episodes that end early.


def test_an_episode_that_ends_early_goes_on_from_where_it_is(rooms, tmp_path):
    record(rooms(max_steps=3), tmp_path)
    episodes, _ = read(tmp_path)
    for _, states, actions in episodes.values():
        np.testing.assert_allclose(resimulated(rooms(), states[0], actions), states, atol=1e-3)


def test_a_goal_reached_by_chance_ends_no_recording(rooms, tmp_path):
    environment = rooms()
    environment.success_distance = 12.0  # more than half of all goals are reached at once
    record(environment, tmp_path)
    episodes, _ = read(tmp_path)
    for _, states, actions in episodes.values():
        np.testing.assert_allclose(resimulated(rooms(), states[0], actions), states, atol=1e-3)


def made(name):
    try:
        return make_environment(name)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


def with_successes(environment, succeeds_at):
    """Calls these steps successes, whatever the goal; a goal is nowhere else near enough."""
    environment.success_distance, steps, step = 1e-12, [], environment.step

    def succeeding(action):
        steps.append(action)
        is_success = len(steps) in succeeds_at
        shown = step(action)
        return shown._replace(is_success=is_success, is_last=shown.is_last or is_success)

    environment.step = succeeding
    return step


@pytest.mark.parametrize("name", environment_names())
def test_every_action_leads_to_the_next_frame_also_across_goals_and_budgets(name):
    """Equal to the last bit: state put back and acted on, and all actions from the start on."""
    environment, policy, saved = made(name), StickyRandom(), []

    def keeping(environment, time_step, generator):
        saved.append(environment.save_state())
        return policy(environment, time_step, generator)

    environment.max_steps = 9  # used up 9 steps after the second goal
    step = with_successes(environment, (5, 12))
    generator = np.random.default_rng(6)
    episode = record_episode(environment, keeping, generator, num_steps=24, key="episode")
    assert episode.about["goals_reached"] == 2 and "ended_early" not in episode.about
    assert (episode.states[5] != episode.states[6]).any()  # it moves where a goal is reached
    environment.step, environment.max_steps = step, 1000
    for index, before in enumerate(saved):
        environment.load_state(before)
        assert_leads_to(environment, episode, index)
    environment.load_state(saved[0])
    for index in range(24):
        assert_leads_to(environment, episode, index)


def assert_leads_to(environment, episode, step):
    shown = environment.step(episode.actions[step])
    assert np.array_equal(shown.state, episode.states[step + 1]), step
    assert np.array_equal(shown.frame, episode.frames[step + 1]), step


# Seeds.


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def test_the_same_seed_gives_the_same_shards_to_the_last_byte(recorded, rooms, tmp_path):
    record(rooms(max_steps=100), tmp_path)
    assert shard_bytes(tmp_path) == shard_bytes(recorded) != {}


def test_another_seed_gives_other_episodes(recorded, rooms, tmp_path):
    record(rooms(max_steps=100), tmp_path, seed=1)
    (_, states, _), (_, other, _) = (
        next(iter(read(folder)[0].values())) for folder in (recorded, tmp_path)
    )
    assert not np.array_equal(states[0], other[0])


def test_the_first_episodes_do_not_depend_on_how_many_follow(recorded, rooms, tmp_path):
    record(rooms(max_steps=100), tmp_path, num_episodes=2)
    few, _ = read(tmp_path, num_episodes=2)
    many, _ = read(recorded)
    for key, (_, states, actions) in few.items():
        assert np.array_equal(states, many[key][1])
        assert np.array_equal(actions, many[key][2])


# What is refused.


def test_nothing_cannot_be_recorded(rooms, tmp_path):
    for numbers in ({"num_steps": 0}, {"num_episodes": 0}):
        with pytest.raises(ValueError, match="num_episodes and num_steps must be at least 1, got"):
            record(rooms(), tmp_path, **numbers)
    assert list(tmp_path.iterdir()) == []


def test_shards_that_are_there_are_kept_unless_told_otherwise(recorded, rooms):
    before = shard_bytes(recorded)
    with pytest.raises(ShardError):
        record(rooms(), recorded, seed=5)
    assert shard_bytes(recorded) == before


def test_a_policy_whose_action_is_not_finite_stops_the_recording(rooms, tmp_path):
    def broken():
        return lambda environment, time_step, generator: np.array([np.nan, 0.0])

    with pytest.raises(ValueError, match="action must be finite"):
        record(rooms(), tmp_path, policy=broken)


class PushedCart:
    """A robot at x pushes a cart that stands at 3; the joint is no object."""

    name = "pushed_cart"
    frames_per_second = 10.0
    state_names, state_units = ("x",), ("metre",)
    configuration_names = ("joint", "object_x")
    action_spec = ActionSpec(("dx",), ("metre",), (-1.0,), (1.0,))
    goal = None

    def reset(self, generator, *, start=None, goal=None):
        self.configuration = np.array([0.0, 3.0]) if start is None else start
        return self.step(np.zeros(1))

    def step(self, action):
        joint = self.configuration[0] + float(action[0])
        self.configuration = np.array([joint, max(joint, self.configuration[1])])
        frame = np.zeros((16, 16, 3), dtype=np.uint8)
        return TimeStep(frame, self.configuration[:1].astype(np.float32), False, False)


class GoalAtThree(PushedCart):
    """Its episodes end where the robot comes to 3; it can only be reset."""

    def step(self, action):
        shown = super().step(action)
        is_success = bool(shown.state[0] >= 3)
        return shown._replace(is_success=is_success, is_last=is_success)


def recorded_to_three(environment):
    return record_episode(
        environment, lambda *_: np.ones(1), np.random.default_rng(0), num_steps=9, key="cart"
    )


def test_an_episode_ends_with_its_goal_where_the_environment_sets_no_other():
    episode = recorded_to_three(GoalAtThree())
    assert episode.states[:, 0].tolist() == [0, 1, 2, 3]
    assert episode.frames.shape[0] == 4 and episode.actions.tolist() == [[1]] * 3
    assert episode.about["goals_reached"] == 1
    assert episode.about["ended_early"] == "goal reached; pushed_cart sets no goal in mid-episode"


def test_an_episode_ends_where_no_goal_can_be_drawn_and_keeps_what_was_recorded():
    class Cornered(GoalAtThree):
        def new_goal(self, generator):
            raise ValueError("there is no goal beyond the wall")

    episode = recorded_to_three(Cornered())
    assert episode.states[:, 0].tolist() == [0, 1, 2, 3]
    assert episode.about["ended_early"] == "there is no goal beyond the wall"


def test_an_environment_that_ends_by_itself_ends_the_episode():
    """A cart pole that is pushed to one side falls after about ten steps."""
    gymnasium = pytest.importorskip("gymnasium")
    try:
        environment = make_environment("gymnasium_pixels", env_id="CartPole-v1", image_size=32)
    except (ImportError, gymnasium.error.Error) as error:
        pytest.skip(str(error))
    push = np.array([0.0, 1.0], dtype=np.float32)
    episode = record_episode(
        environment, lambda *_: push, np.random.default_rng(0), num_steps=50, key="pole"
    )
    assert episode.about["ended_early"] == "CartPole-v1 has ended the episode itself"
    assert 5 < len(episode.actions) < 20 and len(episode.frames) == len(episode.actions) + 1
    assert (np.diff(episode.states[:, 1]) > 0).all()  # its speed grows to the last step


def test_an_environment_that_is_over_before_it_begins_is_refused():
    class Over(PushedCart):
        def step(self, action):
            return super().step(action)._replace(is_last=True)

    with pytest.raises(NoStartError, match="pushed_cart cannot begin: 100 episodes were over at"):
        recorded_to_three(Over())


def test_an_episode_says_where_it_began_and_how_often_an_object_moved():
    episode = record_episode(
        PushedCart(), lambda *_: np.ones(1), np.random.default_rng(0), num_steps=5, key="cart"
    )
    assert episode.about == {"start": [0.0, 3.0], "goals_reached": 0, "moving_steps": 0.4}
    assert episode.group == "cart"


@pytest.mark.parametrize(
    ("names", "columns"),
    [(("agent_x", "block_x", "block_angle"), [1, 2]), (("shoulder", "wrist"), []),
     (("joint1", "cube_x", "gripper_command"), [1])],
)  # fmt: skip
def test_objects_are_known_by_their_names(names, columns):
    assert object_columns(SimpleNamespace(state_names=names)) == columns
