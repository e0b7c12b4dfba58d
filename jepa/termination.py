"""SIGTERM, with which a cluster takes a machine away: all ranks stop after the same step, and save.

Lightning's own handler broadcasts from inside the signal handler, so that a SIGTERM to one rank
only (a node that is drained) leaves both waiting for the other for ever.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException


class SaveWhenTerminated(Callback):
    """Writes last.ckpt after SIGTERM to any rank, at the end of the step; the run ends with 143.

    The exception is raised between two steps, so the state is whole; this is not so for Ctrl-C,
    after which the last regular checkpoint stands.
    """

    def __init__(self) -> None:
        self._is_told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signal over from Lightning, which restores the earlier handler at the end."""
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._note)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Asks all ranks; Lightning then raises on each of them, when the batch is done."""
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(
            self._is_told, all=False
        ):
            trainer._signal_connector.received_sigterm = True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Saves if the exception is the one of SIGTERM and training was on."""
        regular = trainer.checkpoint_callback
        if not isinstance(exception, SIGTERMException) or not trainer.training:
            return
        if isinstance(regular, ModelCheckpoint) and regular.dirpath:
            trainer.save_checkpoint(Path(regular.dirpath) / "last.ckpt")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_told = True
