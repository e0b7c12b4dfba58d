import os
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module, and the number of threads as it was."""
    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    import pretraining_step

    yield pretraining_step
    torch.set_num_threads(threads)


@pytest.fixture
def contenders(benchmark):
    import pretraining_contenders

    return pretraining_contenders


def run(benchmark, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pretraining_step.py", *arguments])
    benchmark.main()


@pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
def test_the_quick_run_compares_after_the_numbers_are_equal(benchmark, monkeypatch, capsys):
    run(benchmark, monkeypatch, "--quick")
    printed = capsys.readouterr().out
    assert "opponent: plain (no --official) step" in printed
    gate, _, table = printed.partition("1 threads;")
    assert gate.count("ours float32") == 2  # two masks
    for name in ("plain float32", "plain + autocast", "ours float32", "ours bfloat16"):
        assert f"\n{name}" in table
    assert "by phase: " in table
    assert "by kind of operator" in table


def test_other_numbers_are_refused_before_a_ratio_is_printed(
    benchmark, contenders, monkeypatch, capsys
):
    monkeypatch.setattr(contenders, "plain_rotation", lambda x, places: x)
    with pytest.raises(SystemExit, match="ours float32 computes other numbers"):
        run(benchmark, monkeypatch, "--quick")
    assert "threads;" not in capsys.readouterr().out


def test_a_folder_that_is_no_checkout_is_refused(benchmark, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="is no checkout of facebookresearch/vjepa2"):
        run(benchmark, monkeypatch, "--quick", "--official", str(tmp_path))


def test_the_necessary_flops_are_those_of_our_step(benchmark, contenders):
    """All but attention, which the counter of torch counts in another way in the backward pass."""
    case = benchmark.CASES["quick"]
    module = contenders.make_pretraining(case)
    work = benchmark.make_work(case, module, 0)
    step = contenders.OurStep(module)
    with FlopCounterMode(display=False) as counter:
        for phase in step.phases(work):
            if phase == "backward":
                break
    by_operator = counter.get_flop_counts()["Global"]
    counted = sum(
        value for operator, value in by_operator.items() if "attention" not in str(operator)
    )
    time, height, width = case.grid
    lengths = [(time * height * width, case.size, 1)]
    for mask in work.masks:
        context, targets = mask.context_ids.shape[1], mask.target_ids.shape[1]
        lengths += [(context, case.size, 3), (context + targets, case.predictor, 3)]
    attention = sum(
        passes * size.depth * 4 * tokens**2 * size.dim for tokens, size, passes in lengths
    )
    necessary = benchmark.necessary_flops(case, work)
    assert counted == pytest.approx(necessary - case.batch * attention, rel=1e-4)


def test_a_ratio_is_the_median_of_paired_ratios(benchmark):
    assert benchmark.paired([4.0, 9.0, 2.0], [2.0, 3.0, 2.0]) == "2.00 (1.00-3.00)"


def test_gradients_that_one_side_only_has_are_refused(benchmark):
    with pytest.raises(SystemExit, match="on one side only"):
        benchmark.distance({"a": torch.ones(1)}, {"b": torch.ones(1)})


def test_distances_are_relative(benchmark):
    expected = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    found = {"a": torch.tensor([3.0]), "b": torch.tensor([4.5])}
    assert benchmark.distance(found, expected) == pytest.approx(0.1)
