"""The benchmark of planning: it compares equals, refuses others, and counts by hand."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from planning.latent_world import LatentWorld

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The comparison as a module, and the number of threads as it was.

    Its folder comes last: a file in it has the name of the package `planning`.
    """
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    threads = torch.get_num_threads()
    import planning_comparison

    yield planning_comparison
    torch.set_num_threads(threads)


@pytest.fixture
def contenders(benchmark):
    import planning_contenders

    return planning_contenders


@pytest.fixture
def worlds(benchmark):
    import planning_worlds

    return planning_worlds


def run(benchmark, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["planning.py", *arguments])
    benchmark.main()


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_the_quick_run_compares_after_the_answers_are_equal(benchmark, monkeypatch, capsys):
    run(benchmark, monkeypatch, "--quick", "--parts", "same", "trained", "goal", "peer")
    printed = capsys.readouterr().out
    assert "opponent: plain (no --official) planner" in printed
    gate, _, table = printed.partition("1 threads;")
    for name in ("ours float32", "ours screened"):
        assert f"  {name:<22} energies" in gate
        assert f"\n  {name:<22}" in table
    assert "MiB at most" in gate
    assert "same energy (+ 2%) reached in 1" in table
    assert "== peer" in table


def test_a_deadline_is_kept_and_every_image_is_encoded_once(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "DEADLINES", (0.05,))
    run(benchmark, monkeypatch, "--quick", "--parts", "latency")
    assert "11 encoder calls for 11 images" in capsys.readouterr().out


def test_other_energies_are_refused_before_a_ratio_is_printed(
    benchmark, contenders, monkeypatch, capsys
):
    monkeypatch.setattr(
        LatentWorld, "distance", lambda self, x, goal: (x - goal).abs().sum((-2, -1))
    )
    with pytest.raises(SystemExit, match="ours float32 finds other actions"):
        run(benchmark, monkeypatch, "--quick", "--parts", "same")
    assert "threads;" not in capsys.readouterr().out


def test_a_folder_that_is_no_checkout_is_refused(benchmark, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="is no checkout of facebookresearch/vjepa2"):
        run(benchmark, monkeypatch, "--quick", "--parts", "same", "--official", str(tmp_path))


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_necessary_flops_are_those_of_a_rollout(benchmark, contenders, horizon):
    """All but embedding seven numbers, and attention, which the counter does not know on a CPU."""
    case = benchmark.QUICK._replace(horizon=horizon)
    model = contenders.make_model(case)
    task, samples = contenders.make_task(case, torch.device("cpu")), 3
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tokens = task.start.tokens.repeat(samples, 1, 1)
        state = task.start.state.repeat(samples, 1)
        model.rollout(tokens, state, torch.zeros(samples, horizon, 7))
    conditions = horizon * 2 * 2 * 7 * case.dim
    # The last block leaves out what is not read: two tokens' queries, projection and MLP.
    left_out = horizon * 2 * (2 + 4 * 4) * case.dim**2
    seen = sum(case.tokens_per_frame * (step + 1) for step in range(horizon))
    attention = 4 * case.dim * case.depth * case.tokens_per_frame * seen
    necessary = benchmark.rollout_flops(model, horizon)
    expected = necessary - attention + conditions - left_out
    assert counter.get_total_flops() == pytest.approx(samples * expected, rel=1e-6)


def test_memory_is_that_of_the_tensors_held_at_a_time(benchmark):
    class Holds:
        def plan(self, task, *, seed):
            first = torch.zeros(2**18)  # a megabyte
            del first
            torch.ones(2**19)

    assert benchmark.held(Holds(), None, torch.device("cpu")) == 2 * 2**20


@pytest.mark.parametrize("horizon", [1, 2])
def test_ours_holds_less_than_what_computing_the_prefix_again_holds(benchmark, contenders, horizon):
    case = benchmark.TOY._replace(samples=400, iterations=1, horizon=horizon)  # two chunks
    model, cpu = contenders.make_model(case), torch.device("cpu")
    task = contenders.make_task(case, cpu)
    planners = (contenders.ours(case, LatentWorld(model)), contenders.plain(case, model))
    mine, theirs = (benchmark.held(planner, task, cpu) for planner in planners)
    assert mine < 0.6 * theirs


@pytest.mark.parametrize("motion", ["straight", "sluggish", "turned"])
def test_arms_move_as_their_worlds_say(benchmark, worlds, motion):
    world = worlds.ArmWorld(benchmark.QUICK, motion)
    pose = torch.tensor([0.4, 0.1, 0.3, 3.1, 0.0, 0.1, 0.5])  # y is at its end: 1 in [0, 1]
    action = torch.tensor([0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2])
    moved = world.move(pose, action) - pose
    expected = {
        "straight": (0.03, 0.0),
        "sluggish": (0.03 * (1 / 3 + 0.5), 0.0),
        "turned": (0.015, 0.0),  # by 60 degrees to where y ends
    }[motion]
    torch.testing.assert_close(moved[:2], torch.tensor(expected), atol=1e-6, rtol=0)
    assert moved[6] == pytest.approx(0.2)


def test_goals_are_where_the_tasks_actions_lead(benchmark, worlds):
    world = worlds.ArmWorld(benchmark.QUICK, "turned")
    task, goal = world.tasks(1, 2, seed=0)[0]
    _, actions = world.walk(1, 2, torch.Generator().manual_seed(0))
    assert world.distance(task, actions[0], goal) == 0
    assert world.distance(task, torch.zeros(2, 7), goal) > 0.01
    torch.testing.assert_close(world.render(goal), task.goal.tokens)


def test_a_trained_model_is_kept_for_the_next_time(benchmark, worlds, tmp_path, capsys):
    case = benchmark.QUICK
    _, first = worlds.trained_model(case, "straight", steps=2, folder=tmp_path)
    _, again = worlds.trained_model(case, "straight", steps=2, folder=tmp_path)
    assert capsys.readouterr().out.count("trained for 2 steps") == 1
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
