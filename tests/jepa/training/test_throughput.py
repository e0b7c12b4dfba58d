from types import SimpleNamespace

import pytest
import torch

from data_pipelines.datamodules import ClipDataModule
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.training import throughput
from jepa.training.pretraining import Pretraining
from jepa.training.throughput import ThroughputMonitor

BATCH = SimpleNamespace(keys=("a", "b", "c", "d"))


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock.seconds)
    return clock


@pytest.fixture
def run(clock):
    """Runs a step after some seconds of waiting; returns what was logged."""
    monitor, trainer = ThroughputMonitor(), SimpleNamespace(world_size=2)

    def step(*, wait, work):
        logged = {}
        module = SimpleNamespace(log_dict=lambda values, **_: logged.update(values))
        clock.seconds += wait
        monitor.on_train_batch_start(trainer, module, BATCH, 0)
        clock.seconds += work
        monitor.on_train_batch_end(trainer, module, None, BATCH, 0)
        return logged

    step.monitor = monitor
    return step


def test_a_steady_run_has_the_rate_and_the_share_worked_out_by_hand(run):
    assert run(wait=9.0, work=1.0) == {}  # the first step has no step before it
    for _ in range(3):
        logged = run(wait=0.5, work=1.5)  # 4 clips on each of 2 ranks in 2 seconds
        assert logged["data/clips_per_second"] == pytest.approx(4.0)
        assert logged["data/wait_share"] == pytest.approx(0.25)


def test_a_slow_step_is_smoothed(run):
    run(wait=0.0, work=1.0)
    run(wait=0.0, work=1.0)
    logged = run(wait=1.0, work=1.0)
    assert logged["data/clips_per_second"] == pytest.approx(8 / (0.9 * 1.0 + 0.1 * 2.0))
    assert logged["data/wait_share"] == pytest.approx(0.1 * 0.5)


@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_validation_end"])
def test_what_happens_between_epochs_is_not_waiting_for_data(hook, run):
    run(wait=0.0, work=1.0)
    getattr(run.monitor, hook)(None, None)
    assert run(wait=60.0, work=1.0) == {}
    assert run(wait=0.0, work=1.0)["data/wait_share"] == 0.0


def test_the_utilization_is_the_steps_operations_over_the_measured_rate(run, monkeypatch):
    monkeypatch.setattr(throughput, "measured_matmul_rate", lambda device, dtype: 4e9)
    monkeypatch.setattr(throughput, "step_flops", lambda *a, **k: SimpleNamespace(total=2e9))
    strategy = SimpleNamespace(root_device="cpu")
    trainer = SimpleNamespace(precision="bf16-mixed", strategy=strategy)
    run.monitor.on_train_start(trainer, SimpleNamespace(target_network=None))
    monkeypatch.setattr(BATCH, "video", torch.empty(4, 3, 2, 8, 8), raising=False)
    run(wait=0.0, work=1.0)
    logged = run(wait=0.5, work=1.5)  # 2 x 10^9 operations in 2 seconds
    assert logged["speed/teraflops_per_second"] == pytest.approx(1e-3)
    assert logged["speed/utilization"] == pytest.approx(0.25)


def test_a_pretraining_run_logs_its_utilization(clip_shards, make_trainer):
    torch.manual_seed(0)
    model = Pretraining(
        VideoEncoder(
            image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=2, num_heads=4
        ),
        MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2),
    )
    trainer = make_trainer(4)
    data = ClipDataModule(clip_shards, 4, image_size=32, batch_size=8, steps_per_epoch=4)
    trainer.fit(model, data)
    assert 0 < trainer.callback_metrics["speed/utilization"] < 1.5
    assert trainer.callback_metrics["speed/teraflops_per_second"] > 0
