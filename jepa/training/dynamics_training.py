"""What every training of dynamics shares: windows, teacher forcing, rollouts, the model it leaves.

A subclass says where latents come from: a frozen encoder (`world_model_training`), or one that
learns with the dynamics (`joint_training`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor

from data_pipelines.batch import TrajectoryBatch
from jepa.checkpoints.native import save_world_model
from jepa.masking import mask_generator
from jepa.models.dynamics import ActionConditionedPredictor, Dynamics, Ensemble, Prediction
from jepa.models.frame_encoder import FrameEncoder
from jepa.models.latents import LatentSpace
from jepa.models.settings import refuse_wrong_counts
from jepa.models.world_model import (
    ActionColumns,
    ColumnScaling,
    LatentWorldModel,
    Normaliser,
    chosen_dynamics,
)
from jepa.objectives import LossTerms, Objective
from jepa.training.bagging import drawn_rows, draws
from jepa.training.latent_windows import LatentBatch
from jepa.training.optimization import OptimizedModule
from jepa.training.schedules import Schedule, WarmupCosine
from jepa.training.starting_weights import flattened
from jepa.training.starting_world_models import read_world_model, take_world_model
from jepa.training.throughput import ThroughputMonitor

Windows = TrajectoryBatch | LatentBatch


class _Start(NamedTuple):
    """What a run starts from.

    Attributes:
        world: its weights and scaling.
        source: where it was read.
    """

    world: LatentWorldModel
    source: str


class DynamicsTraining(OptimizedModule):
    """Trains action-conditioned dynamics on windows of trajectories.

    At the end writes `world_model/` into the run folder.

    Args:
        latents: what the encoder's patch tokens become.
        objective: compares imagined with real latents.
        uses_state: give the dynamics the proprioceptive state; False leaves pixels alone.
        dynamics: architecture of what imagines; see `jepa.models.dynamics`. None:
            `ActionConditionedPredictor` of the next three settings, which are for it alone.
        dim: width of the dynamics. None: 1024.
        depth: blocks of the dynamics. None: 24.
        num_heads: attention heads of the dynamics. None: 16.
        teacher_forcing_weight: of the error of next frames, predicted from the true ones; 0 leaves
            them out.
        rollout_weight: of the error of imagined rollouts; 0 leaves them out.
        rollout_steps: length of the imagined rollouts; windows are cut into as many as fit.
        context_frames: true frames that a rollout starts from: the latest, and those before it,
            which are remembered. Planning remembers as many.
        truncate_rollout_after: steps of a rollout after which the gradient is cut (truncated
            backpropagation through time). None: it goes through all of them.
        action_noise_std: of noise that is added to actions in training, in units of their
            spread; 0: none.
        noise_seed: of the noise, and of the members' draws of trajectories.
        state_weight: weight of the error of predicted states in the loss; at 1 it crowds out the
            latents, whose scale is smaller (docs/log.md).
        normaliser: what states and actions are scaled by; see `ColumnScaling.of`. A run that starts
            from a world model keeps its scaling.
        learning_rate: peak of the schedule.
        weight_decay: of matrices.
        schedule: of the learning rate. None: `WarmupCosine` down to 1 %.
        optimization: see `jepa.training.optimization.OptimizedModule`.

    Raises:
        ValueError: if a weight or a number of steps is out of range.
    """

    def __init__(
        self,
        *,
        latents: LatentSpace,
        objective: Objective,
        uses_state: bool = True,
        dynamics: Dynamics | None = None,
        dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        teacher_forcing_weight: float = 1.0,
        rollout_weight: float = 1.0,
        rollout_steps: int = 2,
        context_frames: int = 1,
        truncate_rollout_after: int | None = None,
        action_noise_std: float = 0.0,
        noise_seed: int = 0,
        state_weight: float = 0.1,
        normaliser: Normaliser = "mean_std",
        learning_rate: float = 4.25e-4,
        weight_decay: float = 0.04,
        schedule: Schedule | None = None,
        **optimization: Any,  # noqa: ANN401 - those of OptimizedModule, which refuses all others
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            schedule=schedule or WarmupCosine(final_fraction=0.01),
            **optimization,
        )
        _refuse_wrong_rollouts(rollout_steps, truncate_rollout_after, action_noise_std)
        refuse_wrong_counts(context_frames=context_frames)
        weights = {"teacher_forcing": teacher_forcing_weight, "rollout": rollout_weight}
        if not (min(weights.values()) >= 0 and sum(weights.values()) > 0):
            raise ValueError(
                "teacher_forcing_weight and rollout_weight must be at least 0, and one of them "
                f"positive, got {teacher_forcing_weight} and {rollout_weight}"
            )
        self.prediction_weights = {name: weight for name, weight in weights.items() if weight}
        self.latents, self.objective = latents, objective
        self.uses_state, self.state_weight = uses_state, state_weight
        sizes = {"dim": dim, "depth": depth, "num_heads": num_heads}
        # In a tuple: it becomes a part of the world model, and should not be one twice.
        self._chosen = (chosen_dynamics(dynamics, sizes=sizes),)
        self.rollout_steps, self.context_frames = rollout_steps, context_frames
        self.truncate_rollout_after = truncate_rollout_after
        self.action_noise_std, self.noise_seed = action_noise_std, noise_seed
        self.normaliser: Normaliser = normaliser
        self.world: LatentWorldModel | None = None
        self._start: _Start | None = None

    def make_encoder(self) -> FrameEncoder:
        """Returns the encoder of the world model."""
        raise NotImplementedError

    @property
    def trains_encoder(self) -> bool:
        """True if the encoder learns with the dynamics."""
        return False

    def configure_model(self) -> None:
        """Builds the world model once the data's action and state spaces are known."""
        if self.world is not None:
            return
        if self.device_mesh is not None:
            raise ValueError("world models are trained by strategy ddp; fsdp2 is for pretraining")
        self.world = LatentWorldModel(
            self.make_encoder(),
            self.latents,
            scaling=self._scaling(),
            uses_state=self.uses_state,
            dynamics=self._chosen[0],
            context_frames=self.context_frames,
            actions=self._action_columns(),
            trains_encoder=self.trains_encoder,
        )
        if self._start is not None:
            take_world_model(
                self.world,
                self._start.world,
                source=self._start.source,
                trains_encoder=self.trains_encoder,
            )
            self._start = None  # its memory is needed
        super().configure_model()

    def encode(self, batch: Windows) -> Tensor:
        """Returns latents (batch, time, tokens, dim) of every frame of the windows."""
        raise NotImplementedError

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        """Encode, predict with teacher forcing, imagine a rollout, compare."""
        latents = self.encode(batch)  # (batch, time, tokens, dim)
        loss = self.loss(latents, batch)
        self.loss_watch.note(loss.total, batch.keys)
        self.log("loss/total", loss.total, prog_bar=True)
        for name, part in loss.parts.items():
            self.log(f"loss/{name}", part, prog_bar=name in self.prediction_weights)
        self.log("baseline/copy", self.copy_error(latents))
        return loss.total

    def validation_step(self, batch: Windows, batch_idx: int) -> None:
        """Logs the errors on other trajectories, beside that of predicting no change."""
        if isinstance(batch, TrajectoryBatch):
            batch = batch.only_valid()
        errors = dict.fromkeys(self.error_names, torch.zeros((), device=self.device))
        if batch.keys:  # else it is padding only: it weighs nothing
            errors = self.errors(self.encode(batch), batch)
        values: dict[str, Any] = {f"validation/{n}": errors[n] for n in self.error_names}
        self.log_dict(values, sync_dist=True, batch_size=len(batch.keys))

    def test_step(self, batch: Windows, batch_idx: int) -> None:
        """The same as validation."""
        self.validation_step(batch, batch_idx)

    def loss(self, latents: Tensor, batch: Windows) -> LossTerms:
        """Returns what is minimised: how wrong the dynamics are."""
        return self.prediction_loss(latents, batch)

    @property
    def error_names(self) -> tuple[str, ...]:
        """What a validation logs."""
        return (*self.prediction_weights, "copy")

    def errors(self, latents: Tensor, batch: Windows) -> dict[str, Tensor]:
        """Returns the errors that a validation logs, and maybe more."""
        parts = self.prediction_loss(latents, batch).parts
        return parts | {"copy": self.copy_error(latents)}

    def prediction_loss(self, latents: Tensor, batch: Windows) -> LossTerms:
        """Returns the weighted errors of what the dynamics predict, of latents and of states.

        Args:
            latents: (batch, time, tokens, dim).
            batch: the windows that they are of.

        Raises:
            ValueError: if the windows are too short for a rollout.
        """
        if self.training and self.action_noise_std:
            batch = self.with_noisy_actions(batch)
        ways = {"teacher_forcing": self.teacher_forcing, "rollout": self.rollout}
        total, states = latents.new_zeros(()), latents.new_zeros(())
        parts: dict[str, Tensor] = {}
        for name, weight in self.prediction_weights.items():
            parts[name], state = ways[name](latents, batch)
            total, states = total + weight * parts[name], states + weight * state
        parts["state"] = states
        return LossTerms(total + self.state_weight * states, parts)

    def teacher_forcing(self, latents: Tensor, batch: Windows) -> tuple[Tensor, Tensor]:
        """Loss of every next latent and next state, predicted from the true ones before."""
        world, dynamics = self._world, self._world.dynamics
        states = world.normalize_states(batch.states)
        known = latents[:, :-1], states[:, :-1], world.normalize_actions(batch.actions)
        predict = dynamics.forward_members if self.training else _alone(dynamics)
        return self._compared(predict(*known), latents[:, 1:], states[:, 1:], batch.keys)

    def rollout(self, latents: Tensor, batch: Windows) -> tuple[Tensor, Tensor]:
        """Loss of imagined latents and states, after 1 ... rollout_steps actions.

        A window of many frames is cut into rollouts that start one after the other; each begins
        with what is remembered of the true frames before, and lives on its own predictions then.
        """
        world, dynamics = self._world, self._world.dynamics
        steps, past = self.rollout_steps, self.context_frames - 1
        first = range(past, past + self._segments(latents.shape[1]) * steps, steps)
        states = world.normalize_states(batch.states)
        actions = world.normalize_actions(batch.actions)

        def cut(values: Tensor, begin: int, end: int) -> Tensor:
            """Joins values[begin:end], counted from the start of every rollout, over rollouts."""
            return torch.cat([values[:, s + begin : s + end] for s in first])

        memory = None
        if past:
            memory = dynamics.remember(*(cut(v, -past, 0) for v in (latents, states, actions)))
        imagine = dynamics.rollout_members if self.training else _alone(dynamics.rollout)
        imagined = imagine(
            cut(latents, 0, 1)[:, 0],  # (rollouts * batch, tokens, dim)
            cut(states, 0, 1)[:, 0],
            cut(actions, 0, steps),
            memory=memory,
            truncate_after=self.truncate_rollout_after,
        )
        real = cut(latents, 1, steps + 1), cut(states, 1, steps + 1)
        return self._compared(imagined, *real, batch.keys * len(first))

    def with_noisy_actions(self, batch: Windows) -> Windows:
        """Adds noise to the actions, another one for every batch and on every rank."""
        actions = batch.actions
        generator = mask_generator(
            self.noise_seed, self._batches_trained, self.global_rank, device=actions.device
        )
        noise = torch.randn(
            actions.shape, generator=generator, device=actions.device, dtype=actions.dtype
        )
        scale = self.action_noise_std * self._world.action_std
        return batch._replace(actions=actions + noise * scale)

    def _compared(
        self, members: Prediction, latents: Tensor, states: Tensor, keys: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Errors of what members predict, each on the windows that it learns from, and their mean.

        Args:
            members: tokens (members, windows, time, tokens, dim), states alike.
            latents: (windows, time, tokens, dim).
            states: (windows, time, state_dim), normalised.
            keys: of the trajectories, one a window.
        """
        num_members = len(members.tokens)
        rows: Sequence[Any] = [slice(None)] * num_members
        dynamics = self._world.dynamics
        if num_members > 1 and isinstance(dynamics, Ensemble) and dynamics.is_bootstrapped:
            rows = drawn_rows(draws(keys, num_members=num_members, seed=self.noise_seed))
            rows = [row.to(latents.device) for row in rows]
        errors, state_errors = [], []
        for member, row in enumerate(rows):
            errors.append(self.objective(members.tokens[member][row], latents[row]).total)
            state_errors.append(_mean_absolute(members.state[member][row] - states[row]))
        return torch.stack(errors).mean(), torch.stack(state_errors).mean()

    def copy_error(self, latents: Tensor) -> Tensor:
        """Loss of predicting that nothing changes."""
        return self.objective(latents[:, :-1], latents[:, 1:]).total

    def start_from(self, path: Path, *, with_optimizer: bool = False) -> None:
        """Takes weights and scaling of a world model, once the model is built.

        Args:
            path: see `jepa.training.starting_world_models.read_world_model`.
            with_optimizer: refused.

        Raises:
            ValueError: if it is no world model. Another architecture, other actions or another
                encoder are refused when the model is built.
        """
        self._start = _Start(read_world_model(path, with_optimizer=with_optimizer), str(path))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the scaling, which may be that of a world model that the run started from."""
        checkpoint["scaling"] = self._world.config["scaling"]
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with the checkpoint's scaling."""
        super().on_load_checkpoint(checkpoint)
        if "scaling" in checkpoint:
            self._world.config["scaling"] = checkpoint["scaling"]
            self._world.make_scaling()

    def configure_callbacks(self) -> list[L.Callback]:
        """Speed is always measured."""
        return [ThroughputMonitor()]

    def on_train_end(self) -> None:
        """Writes the world model."""
        if self._is_to_write:
            save_world_model(self._world, self._run_folder / "world_model")

    @property
    def architecture(self) -> dict[str, dict[str, Any]]:
        """The settings of latent space and dynamics."""
        latents: Any = self.latents
        (dynamics,) = self._chosen
        described: dict[str, Any] = {"uses_state": self.uses_state}
        if isinstance(dynamics, ActionConditionedPredictor):  # as checkpoints always said it
            names = ("dim", "depth", "num_heads")
            described |= {name: dynamics.config[name] for name in names}
        else:
            described |= {"name": type(dynamics).__name__, **flattened(dynamics.config)}
        return {
            "latents": {"name": type(latents).__name__, **latents.config},
            "dynamics": described,
        }

    @property
    def _world(self) -> LatentWorldModel:
        assert self.world is not None
        return self.world

    @property
    def _batches_trained(self) -> int:
        """Batches used so far, over all resumes; several a step where gradients accumulate."""
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        return progress.total.processed

    @property
    def _run_folder(self) -> Path:
        return Path(self.trainer.default_root_dir)

    @property
    def _is_to_write(self) -> bool:
        return self.trainer.is_global_zero and not self.trainer.fast_dev_run  # pyright: ignore

    @property
    def _datamodule(self) -> Any:  # noqa: ANN401 - a TrajectoryDataModule, which we may not import
        datamodule = getattr(self.trainer, "datamodule", None)
        if not hasattr(datamodule, "statistics"):
            raise ValueError(
                "world-model training needs data with actions and states: use "
                "data_pipelines.datamodules.TrajectoryDataModule"
            )
        return datamodule

    def _scaling(self) -> ColumnScaling:
        """Returns that of the data, or of the world model that the run starts from."""
        statistics = self._datamodule.statistics
        if self._start is None:
            return ColumnScaling.of(statistics, self.normaliser)
        theirs = ColumnScaling(**self._start.world.config["scaling"])
        for kind in ("state", "action"):
            found, wanted = (len(getattr(one, f"{kind}_mean")) for one in (theirs, statistics))
            if found != wanted:
                raise ValueError(
                    f"{self._start.source} has {found} {kind} columns, the data {wanted}: "
                    "it goes on with the columns that it was trained with"
                )
        return theirs

    def _action_columns(self) -> ActionColumns:
        """Returns what an action of the data's windows means."""
        specification = self._datamodule.specification
        windows = self._datamodule.action_windows
        return ActionColumns(
            names=specification.action_names,
            units=specification.action_units,
            low=specification.action_low,
            high=specification.action_high,
            frames_per_second=specification.frames_per_second,
            mode=windows.mode,
            reduction=windows.reduction,
            num_steps=windows.steps_per_action,
        )

    def _segments(self, num_frames: int) -> int:
        segments = (num_frames - self.context_frames) // self.rollout_steps
        if segments < 1:
            context = f" from context_frames={self.context_frames}" * (self.context_frames > 1)
            raise ValueError(
                f"rollout_steps={self.rollout_steps}{context} needs windows of at least "
                f"{self.context_frames + self.rollout_steps} frames, got {num_frames}; lower it, "
                "or raise the data's clip_length_frames (window_frames of LatentWindows)"
            )
        return segments


def _alone(predict: Callable[..., Prediction]) -> Callable[..., Prediction]:
    """Lets what is predicted stand for the only member: for an ensemble, the mean."""

    def as_one_member(*windows: Any, **options: Any) -> Prediction:  # noqa: ANN401
        return predict(*windows, **options).map(lambda part: part.unsqueeze(0))

    return as_one_member


def _refuse_wrong_rollouts(
    rollout_steps: int, truncate_after: int | None, action_noise_std: float
) -> None:
    if rollout_steps < 1:
        raise ValueError(f"rollout_steps must be at least 1, got {rollout_steps}")
    if truncate_after is not None and not 1 <= truncate_after < rollout_steps:
        raise ValueError(
            f"truncate_rollout_after must be at least 1 and less than rollout_steps="
            f"{rollout_steps}, where nothing is cut, got {truncate_after}; null cuts nowhere"
        )
    if not (action_noise_std >= 0 and math.isfinite(action_noise_std)):
        raise ValueError(f"action_noise_std must be finite and at least 0, got {action_noise_std}")


def _mean_absolute(difference: Tensor) -> Tensor:
    """The mean absolute value; zero where there is no state to compare."""
    return difference.abs().mean() if difference.numel() else difference.new_zeros(())
