"""Stopping and saving between two updates, where the state of a run is whole.

SIGTERM is how a cluster takes a machine away: all ranks stop after the same update, and save.
Lightning's own handler broadcasts from inside the signal handler, so that a SIGTERM to one rank
only (a node that is drained) leaves both waiting for the other for ever.
"""

from __future__ import annotations

from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn


class SaveWhenTerminated(Callback):
    """Writes last.ckpt after SIGTERM to any rank, after the update; the run ends with 143.

    The exception is raised between two updates, when no gradient is half accumulated, so the state
    is whole; this is not so for Ctrl-C, after which the last regular checkpoint stands.
    """

    def __init__(self) -> None:
        self._is_told = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives Lightning our handler to install, so that there is no moment with its own."""
        self._is_told = False
        if stage == TrainerFn.FITTING:
            signals: Any = trainer._signal_connector
            signals._sigterm_notifier_fn = self.note

    @property
    def is_told(self) -> bool:
        """True if this process has got the signal."""
        return self._is_told

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Asks all ranks after an update, and saves; Lightning then raises, when the batch is done.

        Saved is where regular checkpoints are made: later, Lightning has counted the batch, and a
        run that goes on from there has counted it, or a whole epoch, twice.
        """
        if trainer.fit_loop._should_accumulate():
            return
        if not trainer.strategy.reduce_boolean_decision(self._is_told, all=False):
            return
        trainer._signal_connector.received_sigterm = True
        regular = trainer.checkpoint_callback
        if isinstance(regular, ModelCheckpoint) and regular.dirpath:
            trainer.save_checkpoint(Path(regular.dirpath) / "last.ckpt")

    def note(self, number: int, frame: FrameType | None) -> None:
        """Is the handler: notes the signal, and nothing else."""
        self._is_told = True


class WholeUpdateCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that waits for the update, as a checkpoint holds no accumulated gradient."""

    @property
    def state_key(self) -> str:
        """That of the parent, so that checkpoints of either resume with the other."""
        return ModelCheckpoint.__qualname__ + super().state_key.removeprefix(
            type(self).__qualname__
        )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's own
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Saves if it is time to, as the parent does, but only after an update."""
        if not trainer.fit_loop._should_accumulate():
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
