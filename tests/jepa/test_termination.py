import os
import signal
from datetime import timedelta

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer

from data_pipelines.datamodules import ClipDataModule
from jepa.termination import SaveWhenTerminated, WholeUpdateCheckpoint
from tests.jepa.training.rank_fits import latent_l1

TOGETHER = 3  # batches an update
LAST_OF_SECOND_UPDATE = 2 * TOGETHER


class HappensInTheMiddle(L.Callback):
    """A signal, or the end of a time, in the first of the three batches of the second update."""

    def __init__(self, way):
        self.way = way

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx != TOGETHER:
            return
        if self.way == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        for callback in trainer.callbacks:  # an hour passes
            if self.way == "max_time" and isinstance(callback, Timer):
                callback._offset = 3600
            if self.way == "interval" and isinstance(callback, ModelCheckpoint):
                callback._last_time_checked -= 3600


def accumulated_fit(make_trainer, shards, folder, *callbacks, ckpt_path=None):
    """Four updates of three batches; returns the trainer, and how the fit ended."""
    saving = WholeUpdateCheckpoint(folder, save_last=True, save_top_k=0)
    trainer = make_trainer(
        4,
        callbacks=[SaveWhenTerminated(), *callbacks, saving],
        accumulate_grad_batches=TOGETHER,
        max_time="00:00:30:00",
    )
    data = ClipDataModule(
        shards, 4, image_size=32, batch_size=4, steps_per_epoch=4 * TOGETHER, seed=3
    )
    ended_by = ""
    try:
        trainer.fit(latent_l1(), data, ckpt_path=ckpt_path)
    except BaseException as error:
        ended_by = type(error).__name__
    return trainer, ended_by


def batches_in(checkpoint):
    """How many batches the run of a checkpoint had seen."""
    return checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]


@pytest.mark.parametrize(("way", "how"), [("SIGTERM", "SIGTERMException"), ("max_time", "")])
def test_a_run_that_has_to_end_within_an_update_ends_after_it_and_resumes_bit_for_bit(
    way, how, make_trainer, clip_shards, tmp_path
):
    whole, _ = accumulated_fit(make_trainer, clip_shards, tmp_path / "whole")
    _, ended_by = accumulated_fit(
        make_trainer, clip_shards, tmp_path / "cut", HappensInTheMiddle(way)
    )
    last = tmp_path / "cut" / "last.ckpt"
    cut = torch.load(last, weights_only=True)
    assert ended_by == how
    assert (cut["global_step"], batches_in(cut)) == (2, LAST_OF_SECOND_UPDATE)
    for callback in cut["callbacks"].values():
        for stage in callback.get("time_elapsed", {}):
            callback["time_elapsed"][stage] = 0.0  # or no time is left
    torch.save(cut, last)
    resumed, ended_by = accumulated_fit(
        make_trainer, clip_shards, tmp_path / "resumed", ckpt_path=last
    )
    assert (ended_by, resumed.global_step) == ("", 4)
    assert resumed.losses == whole.losses[LAST_OF_SECOND_UPDATE:]
    expected, found = (t.lightning_module.state_dict() for t in (whole, resumed))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_checkpoint_by_the_clock_waits_for_the_update(make_trainer, clip_shards, tmp_path):
    half_hourly = WholeUpdateCheckpoint(
        tmp_path / "some", "{step}", train_time_interval=timedelta(minutes=30), save_top_k=-1
    )
    happening = HappensInTheMiddle("interval")
    accumulated_fit(make_trainer, clip_shards, tmp_path / "last", half_hourly, happening)
    saved = [torch.load(path, weights_only=True) for path in (tmp_path / "some").iterdir()]
    assert [(c["global_step"], batches_in(c)) for c in saved] == [(2, LAST_OF_SECOND_UPDATE)]


def test_a_checkpoint_of_lightnings_own_callback_resumes_with_ours():
    options = {"monitor": "loss/total", "every_n_train_steps": 2}
    assert WholeUpdateCheckpoint(**options).state_key == ModelCheckpoint(**options).state_key


@pytest.mark.slow
def test_sigterm_to_one_rank_ends_both_after_the_same_step_with_a_checkpoint(two_ranks):
    """With Lightning's own handler both would wait for ever."""
    for found in two_ranks("terminated"):
        assert found == {"ended_by": "SIGTERMException", "steps": 3}
    saved = torch.load(two_ranks.folder / "terminated" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 3
