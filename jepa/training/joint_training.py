"""Encoder and dynamics trained together from pixels and actions, without a teacher.

Every frame is encoded with gradient, so encoder and dynamics meet half way in the prediction, and
regularizers alone keep all frames from having the same latent: SIGReg (LeWM, arXiv:2603.19312), or
VICReg with temporal similarity and inverse dynamics (PLDM, arXiv:2502.14819; eb_jepa).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from jepa.checkpoints.native import find_model, holds_world_model, load_encoder, save_encoder
from jepa.models import VideoEncoder
from jepa.models.conv_encoder import ConvEncoder
from jepa.models.latents import LatentSpace, PooledTokens
from jepa.objectives import ActionHead, LatentMSE, LossTerms, Objective, Regularizer, SIGReg
from jepa.training.collapse import CollapseMonitor, CollapsePolicy
from jepa.training.dynamics_training import DynamicsTraining, Windows
from jepa.training.latent_windows import LatentBatch
from jepa.training.starting_weights import refuse_another_architecture, refuse_other_weights


class JointTraining(DynamicsTraining):
    """Trains an encoder of frames and the dynamics of its latents, end to end.

    At the end writes `world_model/`, which planning reads, and `encoder/` into the run folder.
    Regularizers and action head see one embedding a frame, the mean of its latent tokens; the
    regularizers take their statistics over the batch, at each time.

    Args:
        encoder: sees every frame on its own; of a `VideoEncoder`, a tubelet of one frame wastes
            nothing.
        latents: what its patch tokens become, learned with it. None: `PooledTokens`.
        objective: compares imagined with real latents. None: `LatentMSE`, with gradient into both.
        regularizers: each adds its loss; their weights are their own. None: `SIGReg`. Of an empty
            list the representation collapses, which is there to be seen.
        action_head: is asked which action lies between two frames. None: nobody is.
        uses_state: give the dynamics the proprioceptive state; what is in it, the encoder need not
            see. False leaves pixels alone.
        monitor_every_n_steps: how often collapse is measured, on the latents.
        collapse_policy: what counts as collapse, and what happens then. None: `CollapsePolicy`.
        options: see `jepa.training.dynamics_training.DynamicsTraining`.

    Raises:
        ValueError: if an option is out of range, or an encoder or latents cannot be trained so.
    """

    def __init__(
        self,
        encoder: VideoEncoder | ConvEncoder,
        *,
        latents: LatentSpace | None = None,
        objective: Objective | None = None,
        regularizers: list[Regularizer] | None = None,
        action_head: ActionHead | None = None,
        uses_state: bool = False,
        monitor_every_n_steps: int = 50,
        collapse_policy: CollapsePolicy | None = None,
        **options: Any,  # noqa: ANN401 - those of DynamicsTraining, which refuses all others
    ) -> None:
        super().__init__(
            latents=latents or PooledTokens(),
            objective=objective or LatentMSE(stop_gradient=False),
            uses_state=uses_state,
            **options,
        )
        parts = ("encoder", "latents", "objective", "regularizers", "action_head", "dynamics")
        self.save_hyperparameters(ignore=parts)
        _refuse_what_cannot_be_trained(encoder, self.latents)
        self.encoder = encoder
        self.regularizers = nn.ModuleList([SIGReg()] if regularizers is None else regularizers)
        self.action_head = action_head
        self.collapse = CollapseMonitor(collapse_policy, every_n_steps=monitor_every_n_steps)
        self._measured_at_step = -1

    def make_encoder(self) -> VideoEncoder | ConvEncoder:
        """The encoder that learns."""
        return self.encoder

    @property
    def trains_encoder(self) -> bool:
        """True."""
        return True

    def configure_model(self) -> None:
        """Builds the world model, and the action head, once the data's actions are known."""
        super().configure_model()
        if self.action_head is not None:
            self.action_head.build(self.latents.dim, self._world.dynamics.action_dim)

    def encode(self, batch: Windows) -> Tensor:
        """Encodes every frame, with gradient.

        Raises:
            ValueError: if the frames were encoded before, by an encoder that does not learn.
        """
        if isinstance(batch, LatentBatch):
            raise ValueError(
                "an encoder that learns needs frames: use "
                "data_pipelines.datamodules.TrajectoryDataModule itself, or LatentWindows with "
                "encoder: null"
            )
        return self._world.latents(self.encoder.encode_frames(batch.frames))

    def loss(self, latents: Tensor, batch: Windows) -> LossTerms:
        """Errors of the prediction, how ill spread the embeddings are, and how far off actions."""
        step = self.global_step
        if self.collapse.is_due(step) and step != self._measured_at_step:
            self._measured_at_step = step  # once a step, also where it has several batches
            self._log_health(latents)
        embeddings = self.embed(latents)  # (batch, time, dim)
        terms = [self.prediction_loss(latents, batch)]
        for regularizer in self.regularizers:  # they see (time, batch, dim)
            terms.append(regularizer(embeddings.transpose(0, 1), step=self.global_step))
        if self.action_head is not None:
            terms.append(self.action_terms(embeddings, batch, self.action_head))
        return _summed(terms)

    def embed(self, latents: Tensor) -> Tensor:
        """Maps latents (batch, time, tokens, dim) to one embedding a frame (batch, time, dim)."""
        return latents.mean(2)

    def action_terms(self, embeddings: Tensor, batch: Windows, head: ActionHead) -> LossTerms:
        """Asks embeddings (batch, time, dim) for the action between each frame and the next."""
        actions = self._world.normalize_actions(batch.actions)  # (batch, time - 1, action_dim)
        return head(embeddings[:, :-1], embeddings[:, 1:], actions)

    @property
    def error_names(self) -> tuple[str, ...]:
        """What a validation logs; "actions" is the action head's part of the loss."""
        return (*super().error_names, *(["actions"] if self.action_head is not None else []))

    def errors(self, latents: Tensor, batch: Windows) -> dict[str, Tensor]:
        """Returns the errors that a validation logs, and maybe more."""
        errors = super().errors(latents, batch)
        if self.action_head is not None:
            embeddings = self.embed(latents)
            errors["actions"] = self.action_terms(embeddings, batch, self.action_head).total
        return errors

    def trained_modules(self) -> list[nn.Module]:
        """Encoder, latent space, dynamics, what the regularizers learn, and the action head."""
        parts = [self.encoder, self.latents, self._world.dynamics, self.regularizers]
        return [*parts, *([] if self.action_head is None else [self.action_head])]

    @property
    def watches(self) -> dict[str, Any]:
        """What remembers earlier steps: the measures of collapse too."""
        return {**super().watches, "collapse_monitor": self.collapse}

    @property
    def architecture(self) -> dict[str, dict[str, Any]]:
        """The settings of encoder, latent space and dynamics."""
        return {"encoder": self.encoder.config, **super().architecture}

    def start_from(self, path: Path, *, with_optimizer: bool = False) -> None:
        """Takes the weights of a world model, or of a pretrained encoder, and all else anew.

        Raises:
            ValueError: if it is another encoder, or something else than a folder or a name.
        """
        if with_optimizer or path.suffix == ".ckpt":
            raise ValueError(
                f"--from takes the folder of a world model or an encoder here, got {path}; a run "
                "of this recipe goes on by --ckpt_path"
            )
        if holds_world_model(path):
            super().start_from(path)
            return
        theirs = load_encoder(find_model(path))
        refuse_another_architecture(
            {"encoder": theirs.config},
            {"encoder": self.encoder.config},
            source=str(path),
            may_differ=True,
        )
        refuse_other_weights(theirs.state_dict(), self.encoder.state_dict(), source=str(path))
        self.encoder.load_state_dict(theirs.state_dict())

    def on_train_end(self) -> None:
        """Writes the world model, and its encoder by itself."""
        super().on_train_end()
        if self._is_to_write and isinstance(self.encoder, VideoEncoder):  # others: in world_model
            save_encoder(self.encoder, self._run_folder / "encoder")

    def _log_health(self, latents: Tensor) -> None:
        """Measures latents (batch, time, tokens, dim): a window is a clip of time * tokens."""
        report = self.collapse.measure(latents.flatten(1, 2))
        rank = report.pop("collapse/effective_rank")
        self.log("collapse/effective_rank", rank, prog_bar=True)
        self.log_dict(report)


def _summed(terms: Sequence[LossTerms]) -> LossTerms:
    parts = {name: part for term in terms for name, part in term.parts.items()}
    total = terms[0].total
    for term in terms[1:]:
        total = total + term.total
    return LossTerms(total, parts)


def _refuse_what_cannot_be_trained(
    encoder: VideoEncoder | ConvEncoder, latents: LatentSpace
) -> None:
    is_video_encoder = isinstance(encoder, VideoEncoder)
    if is_video_encoder and (encoder.image_embed is not None or encoder.level_norms):
        raise ValueError(
            "the encoder has parts that no frame goes through (levels, an image tokenizer), which "
            "learn nothing here: set levels to null and has_image_tokenizer to false"
        )
    if not latents.is_fitted:
        raise ValueError(
            f"{type(latents).__name__} are fitted to a frozen encoder, and this one learns: take "
            "PooledTokens or PatchTokens, or WorldModelTraining"
        )
