import numpy as np
import pytest
import torch

from planning.benchmarking.card_run import play_control, play_planner
from planning.benchmarking.controls import (
    CONTROLS,
    NotOfferedError,
    Replay,
    controls_named,
    make_control,
)
from planning.benchmarking.tasks_ahead import TasksAhead, freeze_ahead
from planning.data_policies import DataPolicy
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import TaskSet, freeze_tasks


@pytest.fixture
def tasks_ahead():
    rooms = TwoRooms()
    make = DataPolicy("noisy-expert").maker(rooms)
    return freeze_ahead(rooms, make, TasksAhead(5, 12), name="few", num_tasks=4, seed=1)


def rate(bench, name):
    return play_control(bench, make_control(name, bench), batch_size=1).success.rate


def test_doing_nothing_keeps_the_distance_and_an_expert_solves_everything(make_bench, load_card):
    bench = make_bench(card=load_card(budget_steps=40, horizon_steps=4))
    still = play_control(bench, make_control("do_nothing", bench), batch_size=1)
    for episode, task in zip(still.episodes, bench.tasks.tasks, strict=True):
        assert episode.final_distance == pytest.approx(np.linalg.norm(task.goal - task.start))
    assert still.success.rate == 0
    assert rate(bench, "expert") == 1


def test_random_actions_are_the_same_every_time_and_differ_from_task_to_task(make_bench):
    bench = make_bench()
    once, twice = (
        play_control(bench, make_control("random", bench), batch_size=1).episodes for _ in range(2)
    )
    assert once == twice
    firsts = [tuple(episode.actions[0]) for episode in once]
    assert len(set(firsts)) == len(firsts)


def test_replaying_recorded_actions_ends_where_the_goal_is(make_bench, load_card, tasks_ahead):
    bench = make_bench(card=load_card(tasks=tasks_ahead))
    outcome = play_control(bench, make_control("replay", bench), batch_size=1)
    assert outcome.success.rate == 1
    assert [e.least_distance for e in outcome.episodes] == pytest.approx([0] * 4, abs=1e-4)


def test_a_replay_that_is_over_does_nothing(make_bench):
    replay, environment = Replay(np.ones((1, 2), np.float32)), make_bench().environment
    actions = [replay(environment, None, None).tolist() for _ in range(2)]
    assert actions == [[1.0, 1.0], [0.0, 0.0]]


def test_goals_that_were_drawn_offer_no_replay_and_say_so(make_bench):
    with pytest.raises(NotOfferedError, match="goals are drawn, not recorded"):
        make_control("replay", make_bench())


def test_cloning_wants_data_and_says_so(make_bench):
    with pytest.raises(NotOfferedError, match="give them with --data SHARDS"):
        make_control("cloning", make_bench())


def test_an_environment_without_expert_or_simulation_says_so(make_bench):
    class Robot:
        name = "robot"

    bench = make_bench()
    object.__setattr__(bench, "environment", Robot())
    for name, reason in (
        ("expert", "robot has no expert"),
        ("oracle", "robot cannot be simulated"),
    ):
        with pytest.raises(NotOfferedError, match=reason):
            make_control(name, bench)


def test_the_untrained_world_model_has_other_weights_and_the_same_statistics(make_bench):
    bench = make_bench()
    fresh, same, model = bench.world.untrained(), bench.world.untrained(), bench.world.model
    for (name, weights), other, again in zip(
        model.named_parameters(), fresh.model.parameters(), same.model.parameters(), strict=True
    ):
        assert torch.equal(other, again)
        assert weights.shape == other.shape
        if "weight" in name and weights.ndim > 1 and weights.std() > 0:
            assert not torch.equal(weights, bench.world.untrained(seed=1).model.state_dict()[name])
    assert torch.equal(model.action_std, fresh.model.action_std)
    assert torch.equal(model.state_mean, fresh.model.state_mean)


def test_the_untrained_world_model_plans_as_the_planner_does(make_bench):
    bench = make_bench()
    control = make_control("untrained", bench)
    policy = control.make_policy(0)
    assert policy.planner == bench.setup.planner and control.plans_together
    assert policy.world is not bench.world


def test_the_oracle_reaches_goals_that_chance_does_not(make_bench, load_card):
    rooms = TwoRooms()
    tasks = freeze_tasks(rooms, name="few", num_tasks=4, seed=5, group="same_room")
    planner = {"name": "cem", "settings": {"num_samples": 16, "num_elites": 4, "num_iterations": 3}}
    card = load_card(tasks=tasks, budget_steps=16, oracle_planner=planner)
    bench = make_bench(card=card)
    control = make_control("oracle", bench)
    assert control.note == (
        "cem in the true simulator, 48 rollouts a plan where the planner under test has 8"
    )
    assert play_control(bench, control, batch_size=1).success.rate == 1
    assert rate(bench, "random") < 1


def test_an_oracle_whose_planner_is_weaker_is_called_that(make_bench, load_card):
    bench = make_bench()
    assert make_control("oracle", bench).note == "the same planner in the true simulator"
    planner = {"name": "random_shooting", "settings": {"num_samples": 5}}
    bench = make_bench(card=load_card(oracle_planner=planner))
    assert make_control("oracle", bench).note == (
        "a weaker planner than the one under test, in the true simulator: random_shooting, 5 "
        "rollouts a plan where the planner under test has 8; where it fails, more search may "
        "succeed"
    )


def test_planner_untrained_and_oracle_keep_the_limits_of_the_card(make_bench, load_card):
    limited = {"name": "random_shooting", "settings": {"num_samples": 8}, "limits": {"dx": [0, 1]}}
    bench = make_bench(card=load_card(planner=limited))
    episodes = list(play_planner(bench, batch_size=2).episodes)
    for control in ("untrained", "oracle"):
        episodes += play_control(bench, make_control(control, bench), batch_size=1).episodes
    actions = np.concatenate([episode.actions for episode in episodes])
    assert actions[:, 0].min() >= 0 and actions[:, 0].max() <= 1
    assert actions[:, 1].min() < -1  # and no other dimension is limited


def test_names_of_controls_are_read_and_others_refused():
    assert controls_named("all") == CONTROLS
    assert controls_named("none") == ()
    assert controls_named("random, do-nothing") == ("random", "do_nothing")
    with pytest.raises(ValueError, match="no control 'orcale'; there are: do_nothing, random"):
        controls_named("random,orcale")


def test_recordings_of_another_environment_are_refused(make_bench, tmp_path):
    from data_pipelines.shards import pack_trajectories
    from data_pipelines.trajectories import Episode, TrajectorySpecification

    episode = Episode(
        np.zeros((4, 64, 64, 3), np.uint8), np.zeros((4, 1), np.float32),
        np.zeros((3, 1), np.float32), "a", 10.0,
    )  # fmt: skip
    specification = TrajectorySpecification(("x",), ("1",), ("a",), ("1",), (-1.0,), (1.0,), 10.0)
    pack_trajectories([episode], tmp_path / "shards", specification=specification)
    with pytest.raises(ValueError, match="has actions of 1 columns, two_rooms has 2"):
        make_control("cloning", make_bench(shards=tmp_path / "shards"))


def test_frozen_tasks_are_those_of_the_card(make_bench):
    assert isinstance(make_bench().tasks, TaskSet)
