"""The comparison of dynamics: what is trained how, and what its figures mean."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from jepa.checkpoints.native import save_encoder
from jepa.models import VideoEncoder
from jepa.models.dynamics import GRU, ActionConditionedPredictor
from jepa.models.latents import PatchTokens
from jepa.models.world_model import ColumnScaling, LatentWorldModel
from planning.__main__ import main as plan
from planning.evaluation import TaskSet
from planning.latent_world import LatentWorld
from planning.types import Latent

ROOT = Path(__file__).resolve().parents[2]
SIZE = {"image_size": 64, "clip_length_frames": 2, "patch_size": 32}


@pytest.fixture(scope="module")
def benchmark():
    """The script as a module; the search path and the number of threads as they were."""
    path, threads = list(sys.path), torch.get_num_threads()
    sys.path.append(str(ROOT / "benchmarks"))
    import architectures

    yield architectures
    torch.set_num_threads(threads)
    sys.path[:] = path


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What the demo leaves, small: an encoder that has learned nothing, and short recordings."""
    folder = tmp_path_factory.mktemp("demo")
    for name in ("shards", "held_out"):
        assert plan(["record", "--episodes", "6", "--steps", "63", str(folder / name)]) == 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_encoder(VideoEncoder(**SIZE, dim=24, depth=1, num_heads=2), folder / "pretrain")
    return folder


def make_world(dynamics, *, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = VideoEncoder(**SIZE, dim=24, depth=1, num_heads=2)
        scaling = ColumnScaling((32.0, 32.0), (16.0, 16.0), (0.0, 0.0), (1.5, 1.5))
        model = LatentWorldModel(
            encoder, PatchTokens(), scaling=scaling, uses_state=True, dynamics=dynamics
        )
    return LatentWorld(model)


def small_transformer():
    return ActionConditionedPredictor(dim=24, depth=1, num_heads=2)


# Training.


def test_all_architectures_have_the_same_data_latents_and_optimization(benchmark):
    """Their configs differ in the dynamics, and in the learning rate at most."""
    written = {
        name: yaml.safe_load((ROOT / "configs" / path).read_text())
        for name, path in benchmark.CONFIGS.items()
    }
    for config in written.values():
        settings = config["model"]["init_args"]
        for name in ("dynamics", "dim", "depth", "num_heads", "learning_rate"):
            settings.pop(name, None)
        config.pop("trainer")
    reference = written.pop(benchmark.REFERENCE)
    for name, config in written.items():
        assert config["model"] == reference["model"], name
        assert config["data"] == reference["data"], name


def test_the_ensemble_stands_on_the_reference_transformer(benchmark):
    ensemble, reference = (
        yaml.safe_load((ROOT / "configs" / benchmark.CONFIGS[name]).read_text())["model"][
            "init_args"
        ]
        for name in ("ensemble", benchmark.REFERENCE)
    )
    trunk = ensemble["dynamics"]["init_args"]["trunk"]["init_args"]
    assert trunk == {name: reference[name] for name in ("dim", "depth", "num_heads")}


def test_the_command_is_what_a_user_would_type(benchmark):
    words = benchmark.fit_command("GRU", Path("out"), Path("runs/demo"), steps=9, seed=3)
    assert words[:3] == ["fit", "--config", "world_model/two_rooms_gru.yaml"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--model.encoder"] == options["--data.encoder"] == "runs/demo/pretrain"
    assert options["--trainer.max_steps"] == options["--data.steps_per_epoch"] == "9"
    assert options["--seed_everything"] == options["--data.seed"] == "3"


def test_a_demo_that_is_not_there_is_asked_for(benchmark, tmp_path):
    with pytest.raises(FileNotFoundError, match="run `jepa demo --out"):
        benchmark.main(["--demo", str(tmp_path)])


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_a_fit_that_fails_names_its_log(benchmark, demo, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "CONFIGS", {"AC transformer": "nothing.yaml"})
    arguments = SimpleNamespace(reuse=False, demo=demo, steps=1)
    with pytest.raises(RuntimeError, match=r"was not trained: see .*fit\.log"):
        benchmark.train("AC transformer", tmp_path, arguments, seed=0)
    assert "nothing.yaml" in (tmp_path / "ac_transformer" / "fit.log").read_text()


def test_untrained_dynamics_are_of_the_same_kind_and_see_the_same_latents(benchmark):
    trained = make_world(small_transformer())
    with torch.no_grad():
        for parameter in trained.model.dynamics.parameters():
            parameter.add_(1.0)
    fresh = benchmark.untrained(trained, seed=0)
    assert fresh.model.dynamics.config == trained.model.dynamics.config
    assert not torch.equal(fresh.model.dynamics.proj.weight, trained.model.dynamics.proj.weight)
    frame = np.zeros((64, 64, 3), np.uint8)
    assert torch.equal(fresh.encode(frame).tokens, trained.encode(frame).tokens)


def test_models_that_see_other_latents_are_not_compared(benchmark):
    worlds = {"AC transformer": make_world(small_transformer()), "GRU": make_world(GRU(dim=8))}
    for world in worlds.values():
        world.model.latents.register_buffer("mean", torch.zeros(3))
    benchmark.refuse_other_latents(worlds)
    worlds["GRU"].model.latents.mean[1] = 0.5
    with pytest.raises(ValueError, match="the latents of GRU differ from those of AC transformer"):
        benchmark.refuse_other_latents(worlds)


# Figures.


class Shifted:
    """A world of one number: a frame is its latent, and actions are off by a share."""

    def __init__(self, share):
        self.share = share
        self.model = SimpleNamespace(latents=lambda tokens: tokens, normalize_states=lambda s: s)

    def rollout(self, start, actions):
        way = actions.cumsum(2) * self.share  # (windows, 1, horizon, 1)
        return Latent(start.tokens[:, None, None] + way.unsqueeze(-1))

    def distance(self, latents, goal):
        return (latents - goal).abs().flatten(-2).sum(-1)


@pytest.mark.parametrize(("share", "error"), [(1.0, 0.0), (0.0, 1.0), (0.75, 0.25)])
def test_the_error_is_the_share_of_the_way_that_the_model_is_off_by(benchmark, share, error):
    steps = torch.ones(5, 8, 1)
    places = torch.cat((torch.zeros(5, 1, 1), steps.cumsum(1)), dim=1)
    windows = benchmark.Windows(places.unsqueeze(-1), places, steps)
    assert benchmark.rollout_errors(Shifted(share), windows) == pytest.approx([error] * 8)


def test_held_out_windows_follow_one_recording_each(benchmark, demo):
    windows = benchmark.held_out_windows(demo, num_windows=20)
    assert windows.tokens.shape[:2] == (20, 9)
    moved = windows.states.diff(dim=1).abs()
    assert (moved <= windows.actions.abs() + 1e-3).all()  # walls take away, nothing adds


def test_times_are_paired_with_the_reference_round_by_round(benchmark, monkeypatch):
    worlds = {"AC transformer": "slow", "GRU": "fast"}
    clock, cost = [0.0], {"slow": 3.0, "fast": 1.0}

    def plan_together(planner, world, problems):
        clock[0] += cost[world]
        cost[world] *= 1.5  # the machine gets busier from round to round

    monkeypatch.setattr(benchmark, "first_problems", lambda world, tasks: iter([None]))
    monkeypatch.setattr(benchmark, "plan_together", plan_together)
    monkeypatch.setattr(benchmark.time, "process_time", lambda: clock[0])
    ratios = benchmark.time_ratios(worlds, TaskSet.load(benchmark.find_tasks("two_rooms")))
    assert ratios["AC transformer"] == [1.0] * benchmark.ROUNDS
    assert ratios["GRU"] == pytest.approx([1 / 3] * benchmark.ROUNDS)


def test_a_line_counts_all_seeds_and_pairs_them_with_the_reference(benchmark, capsys):
    reference = [benchmark.Outcome([True, False], [True, False], [6, 50])] * 2
    own = [benchmark.Outcome([True, True], [False, True], [6, 8])] * 2
    benchmark.print_outcome("GRU", own, reference)
    benchmark.print_outcome("AC transformer", reference, reference)
    line, first = capsys.readouterr().out.splitlines()
    assert line.split()[:5] == ["GRU", "100%", "[51%,", "100%]", "50%"]
    assert line.endswith("  7.0  +2 -0 p=0.5; +2 -2 p=1")
    assert first.rstrip().endswith(" 6.0")


@pytest.mark.slow
@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_every_architecture_is_trained_by_jepa_fit_and_has_its_rows(
    benchmark, demo, tmp_path, capsys
):
    options = ["--quick", "--demo", str(demo), "--out", str(tmp_path)]
    benchmark.main(options)
    printed = capsys.readouterr().out
    assert printed.count("$ jepa fit --config") == 4
    for title in ("parameters", "CEM, 384 rollouts", "CEM, 48 rollouts"):
        rows = [line.partition("  ")[0] for line in printed.partition(title)[2].splitlines()]
        assert {*benchmark.CONFIGS, "untrained"} <= set(rows)
    assert (tmp_path / "seed_0" / "outcomes.json").is_file()
    benchmark.main([*options, "--seeds", "0", "0", "--reuse", "--only", "GRU"])
    again = capsys.readouterr().out
    assert "all seeds, 48 rollouts" in again
    assert "$ jepa fit" not in again and "AdaLN" not in again
