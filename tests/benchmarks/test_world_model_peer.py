"""The comparison with the peer's package: figures by hand, equal batches, actions in real units."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_pipelines.batch import TrajectoryBatch
from planning.evaluation import TaskSet
from planning.recording import record_episodes

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module, and the number of threads as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])  # last: planning.py lies there too
    threads = torch.get_num_threads()
    import world_model_peer

    yield world_model_peer
    torch.set_num_threads(threads)


@pytest.fixture
def peer(benchmark):
    """What is needed of stable-worldmodel, where it is installed."""
    try:
        return benchmark.peer_modules()
    except SystemExit as error:
        pytest.skip(str(error))


@pytest.fixture
def sizes(benchmark):
    return benchmark.Sizes(
        patch_size=32, dim=16, depth=1, num_heads=2, embedding_dim=4, predictor_depth=1,
        projector_dim=8, window_frames=4, steps_per_action=5,
    )  # fmt: skip


def arguments_of(benchmark, *words):
    return benchmark._parser().parse_args(["--shards", "shards", "--out", "out", *words])


def windows_of(num_windows, *, action_dim=10):
    generator = torch.Generator().manual_seed(0)
    return TrajectoryBatch(
        torch.randint(256, (num_windows, 3, 4, 64, 64), generator=generator).to(torch.uint8),
        torch.zeros(num_windows, 4, 2),
        torch.randn(num_windows, 3, action_dim, generator=generator),
        ("a",) * num_windows,
    )


# Without the peer.


def test_a_missing_peer_says_in_one_line_how_to_install_it(benchmark, monkeypatch):
    def import_module(name):
        raise ImportError(f"no {name}")

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(SystemExit, match=r"pip install stable-worldmodel==0\.1\.1") as error:
        benchmark.peer_modules()
    assert "\n" not in str(error.value)


def test_a_ratio_is_of_pairs(benchmark):
    assert benchmark.ratio_text([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == "3.00 (2.00-4.00)"


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([True] * 10, [False] * 10, "only ours 10, only the peer 0.*ours is better"),
        ([False] * 10, [True] * 10, "only ours 0, only the peer 10.*ours is worse"),
        ([True, False] * 5, [False, True] * 5, "p = 1: no difference is shown"),
    ],
)
def test_the_verdict_by_hand(benchmark, ours, theirs, verdict):
    line = benchmark.comparison_line(ours, theirs)
    assert re.search(verdict, line)


def test_the_scale_of_joined_actions_is_that_of_single_ones(benchmark):
    actions = np.random.default_rng(0).normal(3.0, 2.0, (50, 5, 2)) * [1.0, 7.0]
    joined = actions.reshape(50, 10)
    statistics = SimpleNamespace(action_mean=joined.mean(0), action_std=joined.std(0))
    scale = benchmark.ActionScale.of(statistics, 5)
    single = actions.reshape(-1, 2)
    np.testing.assert_allclose(scale.mean, single.mean(0))
    np.testing.assert_allclose(scale.std, single.std(0))
    standard = scale.transform(joined).reshape(-1, 2)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(standard.std(0), 1, rtol=1e-6)
    np.testing.assert_allclose(scale.inverse_transform(scale.transform(joined)), joined, rtol=1e-4)


def test_options_are_the_sizes_and_the_search(benchmark):
    assert tuple(benchmark._SIZES) == benchmark.Sizes._fields
    assert tuple(benchmark._SEARCH) == benchmark.Search._fields


def test_the_frozen_tasks_are_played_unless_others_are_asked_for(benchmark):
    frozen = TaskSet.load(benchmark.find_tasks("two_rooms"))
    tasks = benchmark.tasks_of(arguments_of(benchmark, "--episodes", "7"))
    assert [t.start.tolist() for t in tasks.tasks] == [t.start.tolist() for t in frozen.tasks[:7]]
    assert (tasks.max_steps, tasks.make_environment().image_size) == (50, 64)
    others = benchmark.tasks_of(arguments_of(benchmark, "--episodes", "7", "--task-seed", "11"))
    starts = {tuple(task.start) for task in frozen.tasks}
    assert not any(tuple(task.start) in starts for task in others.tasks)


def test_tasks_of_another_kind_are_refused_for_pusht(benchmark):
    asked = arguments_of(benchmark, "--env", "pusht", "--task-seed", "1")
    with pytest.raises(SystemExit, match=r"--task-seed is for two_rooms.*--tasks FILE"):
        benchmark.tasks_of(asked)


def test_the_peer_is_given_the_batch_that_ours_had_and_its_time_is_its_own(benchmark, monkeypatch):
    clock = iter([1.0, 3.0, 8.0])  # ours begins, ours ends, the peer ends
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(clock))
    given = []
    turns = benchmark.Turns(SimpleNamespace(step=lambda batch: given.append(batch) or 0.5))
    batch = windows_of(2)
    turns.on_train_batch_start()
    turns.on_train_batch_end(None, None, {"loss": torch.tensor(0.25)}, batch, 0)
    assert given == [batch] and given[0] is batch
    assert (turns.ours, turns.theirs, turns.losses) == ([2.0], [5.0], [(0.25, 0.5)])


# With the peer.


def test_the_peers_loss_is_the_next_embeddings_error_and_sigreg(benchmark, peer, sizes):
    torch.manual_seed(0)
    model = benchmark.make_peer(peer, sizes, action_dim=10)
    scale = benchmark.ActionScale(np.zeros(2), np.ones(2))
    training = benchmark.PeerTraining(peer, model, scale, learning_rate=1e-3, total_steps=2)
    for block in model.predictor.transformer.layers:  # zero at first: no action would matter
        torch.nn.init.normal_(block.adaLN_modulation[-1].weight, std=0.1)
    model.eval()  # no dropout, and norms that do not depend on the batch
    training._sigreg = lambda embeddings: torch.tensor(float(embeddings.shape[1]))
    batch = windows_of(6)
    with torch.no_grad():
        pixels = benchmark.normalize_pixels(batch.frames)
        frames = [model.encode({"pixels": pixels[:, :, t][:, None]})["emb"][:, 0] for t in range(4)]
        conditions = model.action_encoder(batch.actions)
        errors = []
        for t in range(3):  # each next one, from all before
            seen = torch.stack(frames[: t + 1], 1)
            errors.append(model.predict(seen, conditions[:, : t + 1])[:, -1] - frames[t + 1])
        expected = torch.stack(errors).square().mean() + 0.09 * 6
        assert training.loss(batch).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_peer_learns_and_both_networks_have_the_same_parts(benchmark, peer, sizes):
    torch.manual_seed(0)
    model = benchmark.make_peer(peer, sizes, action_dim=10)
    scale = benchmark.ActionScale(np.zeros(2), np.ones(2))
    training = benchmark.PeerTraining(peer, model, scale, learning_rate=3e-3, total_steps=30)
    batch = windows_of(16)
    losses = [training.step(batch) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    ours = benchmark.make_ours(sizes, arguments_of(benchmark))
    assert ours.encoder.config["depth"] == model.encoder.config.num_hidden_layers == sizes.depth
    assert ours.encoder.config["dim"] == model.encoder.config.hidden_size == sizes.dim
    assert ours.latents.dim == model.predictor.input_dim == sizes.embedding_dim
    (dynamics,) = ours._chosen
    assert dynamics.depth == model.predictor.depth and dynamics.num_heads == model.predictor.heads
    assert dynamics.context_frames == model.predictor.num_frames == 3


def test_the_peers_plan_is_executed_in_the_environments_units_and_kept(
    benchmark, peer, sizes, monkeypatch
):
    plans = []

    class Recorded(peer.CEMSolver):
        def solve(self, *arguments, **options):
            plans.append(super().solve(*arguments, **options))
            return plans[-1]

    monkeypatch.setattr(peer, "CEMSolver", Recorded)
    tasks = benchmark.tasks_of(arguments_of(benchmark, "--episodes", "1"))
    environment, generator = tasks.make_environment(), np.random.default_rng(0)
    time_step = environment.reset(generator, start=tasks.tasks[0].start, goal=tasks.tasks[0].goal)
    model = benchmark.make_peer(peer, sizes, action_dim=10)
    scale = benchmark.ActionScale(np.array([0.5, -0.5]), np.array([2.0, 3.0]))
    search = benchmark.Search(samples=8, elites=4, rounds=2, horizon=3, execute=1)
    policy = benchmark.PeerPolicy(peer, model, scale, search, steps_per_action=5, seed=0)
    actions = [policy(environment, time_step, generator) for _ in range(6)]
    assert len(plans) == 2  # five steps of the first plan, one of the second
    planned = plans[0]["actions"][0, 0].view(5, 2).numpy() * scale.std + scale.mean
    np.testing.assert_allclose(actions[:5], planned.clip(-5, 5), rtol=1e-5)


def test_the_quick_run_compares_both_on_the_same_tasks(
    benchmark, peer, monkeypatch, tmp_path, capsys
):
    from planning.baselines import StickyRandom
    from planning.environments import make_environment

    shards = tmp_path / "shards"
    record_episodes(
        make_environment("two_rooms"), StickyRandom, shards, num_episodes=10, num_steps=63, seed=0
    )
    words = ["--shards", str(shards), "--out", str(tmp_path / "out"), "--quick"]
    monkeypatch.setattr(sys, "argv", ["world_model_peer.py", *words, "--patch-size", "32"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert "a training step takes the peer" in printed and "a plan takes the peer" in printed
    assert "McNemar exact p" in printed and "solve time" not in printed
    told = json.loads((tmp_path / "out" / "world_model_peer.json").read_text())
    (run,) = told["runs"]
    assert set(run["evaluations"]) == {"ours", "ours untrained", "peer", "peer untrained"}
    groups = [[e["group"] for e in each["episodes"]] for each in run["evaluations"].values()]
    assert all(group == groups[0] and len(group) == 2 for group in groups)
    assert [len(run["step_seconds"][who]) for who in ("ours", "peer")] == [3, 3]
