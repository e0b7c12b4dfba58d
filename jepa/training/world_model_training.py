"""Trains action-conditioned dynamics on a frozen encoder (V-JEPA 2, arXiv:2506.09985, Sec. 3.1).

Two losses: teacher forcing (every next frame from the true ones) and a rollout of several steps in
which the model lives on its own predictions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jepa.checkpoints.frame_encoders import load_frame_encoder, resolve_frame_encoder
from jepa.models.frame_encoder import FrameEncoder
from jepa.models.latents import FrameMoments, LatentSpace, PatchTokens, SlowFeatures
from jepa.objectives import Objective, RolloutL1
from jepa.training.dynamics_training import DynamicsTraining, Windows
from jepa.training.latent_windows import LatentBatch


class WorldModelTraining(DynamicsTraining):
    """Trains dynamics in the latent space of a frozen encoder.

    At the end writes `world_model/` into the run folder.

    Args:
        encoder: folder of a pretrained encoder, or of the run that made it; or a model of timm,
            timm:NAME@SIZE: see `jepa.checkpoints.frame_encoders`.
        latents: what the encoder's patch tokens become. None: `PatchTokens`.
        objective: compares imagined with real latents. None: `RolloutL1`.
        fit_batches: batches of the training data that `SlowFeatures` are fitted to.
        fits_every_frame: fit them to every recorded frame, not to those that training takes, every
            so many. What is slow is smooth only where neighbours are near: in PointMaze, fitted to
            frames .25 s apart, all features but three were about equally fast (docs/log.md).
        options: see `jepa.training.dynamics_training.DynamicsTraining`.

    Raises:
        ValueError: if an option is out of range, or the latents are to be learned.
    """

    def __init__(
        self,
        encoder: str,
        *,
        latents: LatentSpace | None = None,
        objective: Objective | None = None,
        fit_batches: int = 32,
        fits_every_frame: bool = False,
        **options: Any,  # noqa: ANN401 - those of DynamicsTraining, which refuses all others
    ) -> None:
        super().__init__(
            latents=latents or PatchTokens(), objective=objective or RolloutL1(), **options
        )
        self.save_hyperparameters(ignore=["latents", "objective", "dynamics"])
        if fit_batches < 1:
            raise ValueError(f"fit_batches must be at least 1, got {fit_batches}")
        if self.latents.is_learned:
            raise ValueError(
                f"{type(self.latents).__name__} are learned together with the encoder, which is "
                "frozen here: take PatchTokens or SlowFeatures, or JointTraining"
            )
        if fits_every_frame and not isinstance(self.latents, SlowFeatures):
            raise ValueError(
                f"fits_every_frame is of SlowFeatures; {type(self.latents).__name__} are fitted to "
                "nothing: leave it out"
            )
        self.encoder_folder, self.fit_batches = encoder, fit_batches
        self.fits_every_frame = fits_every_frame

    def make_encoder(self) -> FrameEncoder:
        """Loads the frozen encoder."""
        self._refuse_another_encoder()
        return load_frame_encoder(self.encoder_folder)

    def on_fit_start(self) -> None:
        """Fits the latent space to the encoder's features, unless a checkpoint brought it along."""
        super().on_fit_start()
        if isinstance(self.latents, SlowFeatures) and not self.latents.is_fitted:
            self.fit_slow_features(self.latents)

    def encode(self, batch: Windows) -> Tensor:
        """Latents of the frozen encoder: no gradient."""
        return self._world.latents(self.patches(batch))

    def patches(self, batch: Windows) -> Tensor:
        """The encoder's patch tokens (batch, time, patches, encoder_dim), encoded now or before."""
        if isinstance(batch, LatentBatch):
            return batch.tokens
        return self._world.encode_patches(batch.frames)

    @torch.no_grad()
    def fit_slow_features(self, latents: SlowFeatures) -> None:
        """Fits slow features to the first batches of the training data, on all ranks alike."""
        moments: FrameMoments | None = None
        loader = self._frames_to_fit().train_dataloader()
        for _, batch in zip(range(self.fit_batches), loader, strict=False):
            batch = self.trainer.strategy.batch_to_device(batch)
            features = latents.flatten(self.patches(batch))
            moments = moments or FrameMoments(features.shape[-1])
            moments.add(features)
        if moments is None:
            raise ValueError("there is no training data to fit the slow features to")
        latents.fit(moments)
        for name in ("mean", "projection", "speed"):  # rank 0 decides
            value = getattr(latents, name)
            value.copy_(self.trainer.strategy.broadcast(value.cpu()))

    def _frames_to_fit(self) -> Any:  # noqa: ANN401 - a datamodule, see `_datamodule`
        if not self.fits_every_frame:
            return self._datamodule
        if not hasattr(self._datamodule, "every_frame"):
            raise ValueError(
                "every recorded frame can be had of a TrajectoryDataModule, not of a "
                f"{type(self._datamodule).__name__}; leave fits_every_frame out"
            )
        finer = self._datamodule.every_frame()
        finer.trainer = self.trainer  # says which part of them is this rank's
        finer.setup("fit")
        return finer

    def trained_modules(self) -> list[nn.Module]:
        """What the optimizer changes: the dynamics."""
        return [self._world.dynamics]

    def on_train_epoch_start(self) -> None:
        """Keeps the frozen parts in evaluation mode."""
        self._world.encoder.eval()

    def _refuse_another_encoder(self) -> None:
        """Raises if the data were encoded by an encoder that is not the model's."""
        theirs, ours = getattr(self._datamodule, "encoder_folder", None), self.encoder_folder
        if theirs is not None and resolve_frame_encoder(theirs) != resolve_frame_encoder(ours):
            raise ValueError(
                f"the data are encoded by {theirs}, the world model is to see through "
                f"{ours}: give both the same encoder"
            )
