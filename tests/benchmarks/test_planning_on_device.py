"""Planning at published sizes: all parts run small on a CPU, and what they say is by hand."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from planning.latent_world import LatentWorld

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def on_device(monkeypatch):
    """The part as a module, and the number of threads as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])
    threads = torch.get_num_threads()
    import planning_on_device

    monkeypatch.setattr(planning_on_device, "DEADLINES", (0.05,))
    yield planning_on_device
    torch.set_num_threads(threads)


def figures(monkeypatch, folder, *arguments):
    import planning_comparison

    command = ["planning.py", "--quick", "--parts", "scale", "--out", str(folder), *arguments]
    monkeypatch.setattr(sys, "argv", command)
    planning_comparison.main()
    return json.loads((folder / "planning.json").read_text())


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_all_figures_of_both_sizes_are_written(on_device, monkeypatch, tmp_path):
    found = figures(monkeypatch, tmp_path, "--no-graphs")
    assert set(found) == {"machine", "scale vit_g", "scale lewm", "scale, printed"}
    for size in (found["scale vit_g"], found["scale lewm"]):
        flops = size["gflop_per_plan"] / size["peak_gflops_bf16"]
        assert size["limit_ms"] == pytest.approx(1e3 * flops)
        assert set(size["ways"]) == {"CEM bfloat16", "CEM screened", "hybrid"}
        for way in size["ways"].values():
            assert 0 < way["ms_p50"] <= way["ms_p95"] <= way["ms_p99"]
            assert way["of_limit"] == pytest.approx(size["limit_ms"] / way["ms_p50"])
            assert 0 <= way["success"] <= 1
        at_50 = size["deadlines"]["eager"]["50 ms"]
        assert (at_50["encoder_calls"], at_50["images"]) == (11, 11)
    assert found["scale lewm"]["latent_tokens"] == 1
    assert any("ms an action" in line for line in found["scale, printed"])


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_what_is_compiled_finds_the_same(on_device, monkeypatch, tmp_path):
    found = figures(monkeypatch, tmp_path)
    for size in (found["scale vit_g"], found["scale lewm"]):
        ways = size["ways"]
        assert ways["CEM bfloat16, graphs"]["is_compiled"]
        energies = (ways[name]["energies"] for name in ("CEM bfloat16", "CEM bfloat16, graphs"))
        assert next(energies) == pytest.approx(next(energies), abs=0.02)
        assert size["deadlines"]["graphs"]["50 ms"]["is_compiled"]


def test_percentiles_are_values_that_were_measured(on_device):
    from planning_measures import summary

    found = summary([0.001 * number for number in range(1, 101)])
    assert [round(found[f"ms_{name}"]) for name in ("p50", "p95", "p99")] == [51, 96, 100]
    assert found["hz"] == pytest.approx(1 / 0.0505)


@pytest.fixture
def quick(on_device):
    """Size, world model, and a task of it."""

    def made(name):
        size = on_device.QUICK_SIZES[name]
        model = size.make(size.case)
        is_one_vector = model.dynamics.num_tokens == 1
        world = on_device.ArmWorld(size.case, "turned", is_one_vector=is_one_vector)
        return size, model, world.tasks(1, size.case.horizon, seed=0)[0][0]

    return made


@pytest.mark.parametrize("name", ["vit_g", "lewm"])
def test_the_hybrid_falls_back_where_gradients_are_not_good_enough(on_device, quick, name):
    size, model, task = quick(name)
    exact, rough = LatentWorld(model), LatentWorld(model, precision="bf16")
    fallback = on_device.ours(size.case, exact)
    hybrid = on_device.Hybrid(size.case, rough, exact, fallback)
    hybrid.plan(task, seed=1)
    assert not hybrid.fell_back
    hybrid.target = -1.0  # energies are positive
    assert torch.equal(hybrid.plan(task, seed=1), fallback.plan(task, seed=1).actions)
    assert hybrid.fell_back


def test_the_flops_of_a_vector_are_twice_the_weights_that_it_meets(on_device, quick):
    """One frame, seen alone: attention is not known to the counter on a CPU."""
    _, model, _ = quick("lewm")
    layers = [m for m in model.dynamics.modules() if isinstance(m, torch.nn.Linear)]
    assert on_device.plan_flops(model, 1) == 2 * sum(layer.weight.numel() for layer in layers)


def test_a_vector_is_seen_of_all_patches(on_device, quick):
    size, _, task = quick("lewm")
    assert task.start.tokens.shape == (1, size.case.latent_dim)
    assert (task.start.tokens - task.goal.tokens).abs().max() > 1e-3


def test_a_folder_keeps_the_figures_of_other_parts(on_device, tmp_path):
    on_device.write(tmp_path, "first", {"a": 1})
    on_device.write(tmp_path, "second", [2])
    on_device.write(tmp_path, "first", {"a": 3})
    assert json.loads((tmp_path / "planning.json").read_text()) == {
        "first": {"a": 3},
        "second": [2],
    }
