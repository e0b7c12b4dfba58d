"""A world model in one piece: encoder, latent space, dynamics, and their statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from jepa.models.dynamics import (
    ActionConditionedPredictor,
    Dynamics,
    Memory,
    NextState,
    Prediction,
)
from jepa.models.frame_encoder import FrameEncoder
from jepa.models.latents import LatentSpace
from jepa.models.positions import PositionStyle
from jepa.models.settings import refuse_wrong_counts

Normaliser = Literal["mean_std", "quantiles"]


class ColumnScaling(NamedTuple):
    """What states and actions are moved and divided by, in their units.

    Attributes:
        state_mean: (state_dim,), what becomes 0: the mean over the training data, or the middle of
            their range.
        state_std: (state_dim,), what becomes 1: the standard deviation, or half the range; a column
            that never changes is only centred.
        action_mean: (action_dim,), likewise.
        action_std: (action_dim,), likewise.
    """

    state_mean: Sequence[float]
    state_std: Sequence[float]
    action_mean: Sequence[float]
    action_std: Sequence[float]

    @classmethod
    def of(
        cls,
        statistics: Any,  # noqa: ANN401 - ColumnStatistics, which we may not import
        normaliser: Normaliser = "mean_std",
    ) -> ColumnScaling:
        """Returns the scaling that statistics of the training data ask for.

        Args:
            statistics: a `data_pipelines.trajectories.ColumnStatistics`.
            normaliser: "mean_std": mean 0 and standard deviation 1. "quantiles": the values that
                1 % and 99 % of the data lie below become -1 and 1, whatever lies further out;
                nothing is cut off.

        Raises:
            ValueError: if quantiles are asked for and not known, or of another word.
        """
        if normaliser == "mean_std":
            return cls(*(getattr(statistics, name) for name in cls._fields))
        if normaliser != "quantiles":
            raise ValueError(f"normaliser must be mean_std or quantiles, got '{normaliser}'")
        rows = []
        for prefix in ("state", "action"):
            low = getattr(statistics, f"{prefix}_quantile_01")
            high = getattr(statistics, f"{prefix}_quantile_99")
            if not low and getattr(statistics, f"{prefix}_mean"):
                raise ValueError(
                    f"normaliser='quantiles': nobody noted the quantiles of the {prefix} columns "
                    "when these data were packed; pack them anew, or take normaliser='mean_std'"
                )
            rows.append([(a + b) / 2 for a, b in zip(low, high, strict=True)])
            rows.append([(b - a) / 2 for a, b in zip(low, high, strict=True)])
        return cls(*rows)


class ActionColumns(NamedTuple):
    """What an action of the model means, as the training data say it.

    Attributes:
        names: (action_dim,).
        units: (action_dim,).
        low: (action_dim,), the least value.
        high: (action_dim,), the greatest value.
        frames_per_second: of the frames that the model saw: an action lasts one over this.
        mode: "recorded"; "concatenate": num_steps recorded actions one after the other; "repeat":
            one that stands for num_steps; "pose_difference": between the poses of the hand.
        reduction: how one action stands for several: "equal", "mean", "sum" or "first".
        num_steps: recorded actions in one of the model's.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    frames_per_second: float
    mode: str
    reduction: str
    num_steps: int

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> ActionColumns:
        """Builds the columns that a config.json holds."""
        arguments: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**arguments)


class LatentWorldModel(nn.Module):
    """Encodes frames and imagines what actions do to them. Actions come in raw units.

    Args:
        encoder: `VideoEncoder` or `TimmEncoder`; gets frozen, unless trains_encoder.
        latents: what the encoder's patch tokens become.
        scaling: statistics of states and actions.
        uses_state: feed proprioception to the dynamics; without it only pixels count.
        actions: what an action means; None if nobody says.
        trains_encoder: leave the encoder's parameters to be trained with the rest. Not saved: what
            is loaded is frozen. `encode` is without gradient all the same.
        dynamics: imagine; get built here. None: `ActionConditionedPredictor` of the settings that
            follow, which are for it alone.
        dim: width of the dynamics. None: its own default, as for the next two.
        depth: blocks of the dynamics.
        num_heads: attention heads of the dynamics.
        mlp_ratio, positions, next_state, extrinsics_dim, has_place_embedding: see
            `jepa.models.dynamics.ActionConditionedPredictor`.
        context_frames: frames that imagined rollouts were trained to start from: the latest one,
            and those before it, which are remembered.

    Raises:
        ValueError: if poses should be added up in units that are not raw, or if the scaling and
            the meaning of actions differ in their columns.
    """

    predictor = None  # as `jepa.models.jepa_model.JepaModel` has, for masked latents
    probe = None
    source = ""
    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(
        self,
        encoder: FrameEncoder,
        latents: LatentSpace,
        *,
        scaling: ColumnScaling,
        uses_state: bool,
        dynamics: Dynamics | None = None,
        dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        positions: PositionStyle = "rope_interleaved",
        next_state: NextState = "learned",
        extrinsics_dim: int = 0,
        has_place_embedding: bool = True,
        context_frames: int = 1,
        actions: ActionColumns | None = None,
        trains_encoder: bool = False,
    ) -> None:
        super().__init__()
        refuse_wrong_counts(context_frames=context_frames)
        dynamics = chosen_dynamics(
            dynamics,
            sizes={"dim": dim, "depth": depth, "num_heads": num_heads},
            mlp_ratio=mlp_ratio,
            positions=positions,
            next_state=next_state,
            extrinsics_dim=extrinsics_dim,
            has_place_embedding=has_place_embedding,
        )
        if dynamics.needs_raw_units and not _is_identity(scaling):
            raise ValueError(
                "next_state=end_effector_pose adds raw actions to raw poses: the scaling must have "
                "means of 0 and standard deviations of 1"
            )
        sees = dynamics.max_context_frames
        if sees is not None and context_frames > sees:
            raise ValueError(
                f"context_frames={context_frames} exceeds the {sees} frames that "
                f"{type(dynamics).__name__} sees; lower it, or raise its own"
            )
        self.config = {
            "scaling": {name: list(map(float, row)) for name, row in scaling._asdict().items()},
            "uses_state": uses_state,
            **described_dynamics(dynamics),
        }
        if context_frames > 1:
            self.config["context_frames"] = context_frames
        if actions is not None:
            _refuse_other_meanings(actions, scaling)
            self.config["actions"] = actions._asdict()
        self.actions, self.context_frames = actions, context_frames
        self.encoder = encoder if trains_encoder else encoder.requires_grad_(False)
        latents.build(encoder.grid[1:], encoder.dim)
        self.latents = latents
        dynamics.build(
            latent_dim=latents.dim,
            action_dim=len(scaling.action_mean),
            state_dim=len(scaling.state_mean) if uses_state else 0,
            grid=latents.grid,
            output=latents.output,
        )
        self.dynamics = dynamics
        self.make_scaling()

    def make_scaling(self) -> None:
        """Makes the statistics, in type and place of the dynamics: they are no saved weights."""
        like = next(self.dynamics.parameters())
        scaling = _without_zero_stds(ColumnScaling(**self.config["scaling"]))
        for name, row in scaling._asdict().items():
            value = torch.tensor(row, dtype=like.dtype, device=like.device)
            self.register_buffer(name, value, persistent=False)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes config.json, model.safetensors and a model card; returns the folder."""
        from jepa.checkpoints.native import save_model

        return save_model(self, folder)

    @torch.no_grad()
    def encode_patches(self, frames: Tensor) -> Tensor:
        """Encodes frames (batch, 3, time, height, width) uint8: (batch, time, patches, dim)."""
        return self.encoder.encode_frames(frames)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Encodes frames (batch, 3, time, height, width) uint8: (batch, time, tokens, dim)."""
        return self.latents(self.encode_patches(frames))

    def normalize_states(self, states: Tensor) -> Tensor:
        """Raw units to zero mean and unit variance; (..., 0) if the model uses no state.

        Raises:
            ValueError: if there is another number of columns.
        """
        if not self.dynamics.state_dim:
            return states[..., :0]
        _refuse_other_columns("states", states, self.state_mean)
        return (states - self.state_mean) / self.state_std

    def normalize_actions(self, actions: Tensor) -> Tensor:
        """Raw units to zero mean and unit variance.

        Raises:
            ValueError: if there is another number of columns.
        """
        _refuse_other_columns("actions", actions, self.action_mean)
        return (actions - self.action_mean) / self.action_std

    def forward(self, latents: Tensor, states: Tensor, actions: Tensor) -> Prediction:
        """Predicts every next frame from the true ones: see `jepa.models.dynamics.base.Dynamics`.

        Args:
            latents: (batch, time, tokens, dim).
            states: (batch, time, state_dim), raw units.
            actions: (batch, time, action_dim), raw units.
        """
        return self.dynamics(
            latents, self.normalize_states(states), self.normalize_actions(actions)
        )

    def remember(self, latents: Tensor, states: Tensor, actions: Tensor) -> Memory:
        """Returns what is to be known of past frames, for a rollout from the one that follows them.

        Args:
            latents: (batch, past, tokens, dim).
            states: (batch, past, state_dim), normalised.
            actions: (batch, past, action_dim), raw units: what was done in each of these frames.
        """
        return self.dynamics.remember(latents, states, self.normalize_actions(actions))

    def rollout(
        self, latents: Tensor, states: Tensor, actions: Tensor, *, memory: Memory = None
    ) -> Prediction:
        """Imagines actions from one frame on.

        Args:
            latents: (batch, tokens, dim).
            states: (batch, state_dim), normalised.
            actions: (batch, horizon, action_dim), raw units.
            memory: of the frames before, from `remember`.

        Returns:
            Prediction with tokens (batch, horizon, tokens, dim) and normalised states.
        """
        return self.dynamics.rollout(
            latents, states, self.normalize_actions(actions), memory=memory
        )


def chosen_dynamics(
    dynamics: Dynamics | None,
    *,
    sizes: Mapping[str, int | None],
    **options: Any,  # noqa: ANN401 - those of ActionConditionedPredictor, which refuses all others
) -> Dynamics:
    """Returns the dynamics that are given, or those that the sizes and options describe.

    Args:
        dynamics: None: `ActionConditionedPredictor`.
        sizes: its settings by name; None: left to its default.
        options: its other settings.

    Raises:
        ValueError: if both are given: nobody would know which sizes count.
    """
    given = {name: size for name, size in sizes.items() if size is not None}
    if dynamics is None:
        return ActionConditionedPredictor(**given, **options)
    if given:
        settings = ", ".join(f"{name}={size}" for name, size in given.items())
        raise ValueError(
            f"{settings} would be of the default dynamics, but {type(dynamics).__name__} is given: "
            "put its sizes into its own init_args"
        )
    return dynamics


def described_dynamics(dynamics: Dynamics) -> dict[str, Any]:
    """Returns the settings that a config.json holds; those of the default as they always were."""
    if isinstance(dynamics, ActionConditionedPredictor):
        return dynamics.config
    return {"dynamics": {"name": type(dynamics).__name__, **dynamics.config}}


def _is_identity(scaling: ColumnScaling) -> bool:
    means, stds = (
        (*scaling.state_mean, *scaling.action_mean),
        (*scaling.state_std, *scaling.action_std),
    )
    return not any(means) and all(std == 1 for std in stds)


def _without_zero_stds(scaling: ColumnScaling) -> ColumnScaling:
    """Returns std 1 for columns that vary by rounding only: dividing by their std is noise."""

    def positive(means: Sequence[float], stds: Sequence[float]) -> list[float]:
        pairs = zip(means, stds, strict=True)
        return [1.0 if std <= 1e-6 * abs(mean) else std for mean, std in pairs]

    return scaling._replace(
        state_std=positive(scaling.state_mean, scaling.state_std),
        action_std=positive(scaling.action_mean, scaling.action_std),
    )


def _refuse_other_meanings(actions: ActionColumns, scaling: ColumnScaling) -> None:
    widths = {name: len(getattr(actions, name)) for name in ("names", "units", "low", "high")}
    if set(widths.values()) != {len(scaling.action_mean)}:
        raise ValueError(
            f"actions have {widths}, the scaling has {len(scaling.action_mean)} columns of actions"
        )


def _refuse_other_columns(name: str, values: Tensor, mean: Tensor) -> None:
    if values.shape[-1] != len(mean):
        raise ValueError(
            f"{name} must have {len(mean)} columns, as in the data that the scaling comes from, "
            f"got {tuple(values.shape)}"
        )
