"""The shootout of planners: one small untrained world, every planner, both budgets."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jepa.checkpoints.native import save_world_model
from jepa.models.encoder import VideoEncoder
from jepa.models.latents import PatchTokens
from jepa.models.world_model import ColumnScaling, LatentWorldModel

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def shootout(monkeypatch):
    """The script as a module; the search path and the number of threads as they were."""
    path, threads = list(sys.path), torch.get_num_threads()
    monkeypatch.syspath_prepend(str(FOLDER))
    import planner_shootout

    yield planner_shootout
    torch.set_num_threads(threads)
    sys.path[:] = path


@pytest.fixture
def world(tmp_path):
    """The folder of an untrained world model of two rooms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"image_size": 64, "clip_length_frames": 2, "patch_size": 32}
        model = LatentWorldModel(
            VideoEncoder(**size, dim=24, depth=1, num_heads=2),
            PatchTokens(),
            uses_state=True,
            scaling=ColumnScaling((32.0, 32.0), (16.0, 16.0), (0.0, 0.0), (1.5, 1.5)),
            dim=24,
            depth=1,
            num_heads=2,
        )
    return save_world_model(model, tmp_path / "world")


@pytest.mark.parametrize("rollouts", [48, 192, 1000])
def test_settings_for_equal_rollouts_spend_about_as_many(shootout, rollouts):
    """Within a third, of what is counted: a differentiated rollout as three."""
    for name, contender in shootout.CONTENDERS.items():
        planner = contender.of(rollouts, **shootout.TUNED.get(name, {}))
        assert planner.horizon == shootout.HORIZON
        descent = 3 * getattr(planner, "num_starts", 0) * getattr(planner, "num_steps", 0)
        spent = {
            "RandomShooting": lambda p: p.num_samples,
            "CEM": lambda p: p.num_samples * p.num_iterations,
            "MPPI": lambda p: p.num_samples * p.num_iterations,
            "ICEM": lambda p: sum(p.num_drawn(i) for i in range(p.num_iterations)),
            "Gradient": lambda p: 3 * p.num_starts * p.num_iterations,
            "CEMGradient": lambda p, d=descent: p.num_iterations * (p.num_samples + d),
            "CMAES": lambda p: (p.num_samples + 1) * p.num_iterations,
        }[type(planner).__name__](planner)  # fmt: skip
        assert 0.66 * rollouts <= spent <= 1.34 * rollouts, name


def test_the_tables_name_every_planner_at_both_budgets_and_the_baselines(shootout, world, capsys):
    shootout.main(["--quick", "--world", str(world), "--milliseconds", "5"])
    printed = capsys.readouterr().out
    rollouts, _, rest = printed.partition("equal time: 5 ms")
    time, _, others = rest.partition("without a plan")
    for table in (rollouts, time):
        for name in shootout.CONTENDERS:
            (line,) = [row for row in table.splitlines() if row.startswith(f"{name:<17}")]
            assert "[" in line
    assert "equal rollouts: about 48" in rollouts
    assert "2 tasks of two_rooms" in rollouts
    assert "oracle" in others
    assert "random actions" in others


def test_settings_are_tuned_on_other_tasks_than_the_frozen_ones(shootout):
    from planning.evaluation import TaskSet, freeze_tasks

    frozen = TaskSet.load(shootout.find_tasks("two_rooms"))
    assert shootout.TUNING_SEED != frozen.seed
    tuning = freeze_tasks(
        frozen.make_environment(), name="tuning", num_tasks=12, seed=shootout.TUNING_SEED
    )
    starts = {tuple(task.start) for task in frozen.tasks}
    assert all(tuple(task.start) not in starts for task in tuning.tasks)


def test_energies_are_told_above_the_lowest_that_was_found(shootout, capsys):
    result = SimpleNamespace(success="50%", mean_steps_of_successes=12.0, milliseconds_per_plan=3.0)
    rows = [
        shootout.Row("one", result, 10, np.array([1.0, 4.0])),
        shootout.Row("two", result, 10, np.array([2.0, 2.0])),
    ]
    shootout.print_table("a title", rows)
    one, two = capsys.readouterr().out.splitlines()[-2:]
    assert "+50.0%" in one  # 0 and 100 % above the lowest
    assert "+50.0%" in two
