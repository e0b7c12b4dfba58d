"""Latent spaces for world models: what an encoder's patch tokens become before dynamics.

`PatchTokens` is the layout of V-JEPA 2-AC. `SlowFeatures` is a linear map of the patch tokens,
fitted in closed form to trajectories, whose distance follows the way and not the beeline.
`PooledTokens` is one vector a frame, learned together with the encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.models.standardization import Standardization

MAX_INPUTS = 8192  # the covariance of more does not fit: 8192 ** 2 doubles are half a gigabyte
MIN_VARIATION = 1e-9  # variance over mean square of features that still counts as varying


class LatentSpace(nn.Module, ABC):
    """Maps patch tokens to latents, and measures distance between latents.

    Attributes:
        output: how dynamics write their prediction: "normed" is an absolute, layer-normed latent,
            "residual" is added to the latest latent.
        is_learned: True if it has parameters, which are trained together with the encoder.
    """

    output: Literal["normed", "residual"]
    is_learned: bool = False

    @abstractmethod
    def build(self, grid: tuple[int, int], dim: int) -> None:
        """Makes what depends on the `grid` (height, width) and the `dim` of patch tokens."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """Latent tokens of one frame as (height, width)."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of a latent token."""

    @property
    def is_fitted(self) -> bool:
        """False while `fit` has to be called before use."""
        return True

    @torch.no_grad()
    def draw_anew(self) -> None:
        """Puts random numbers in the place of what was fitted to data; there is none by default."""

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (..., patches, encoder_dim) to latents (..., tokens, dim)."""

    @abstractmethod
    def distance(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Returns (...) distances of latents (..., tokens, dim) to a goal (tokens, dim)."""


class PatchTokens(LatentSpace):
    """The encoder's patch tokens, layer-normed (V-JEPA 2, arXiv:2506.09985, Sec. 3.1).

    Distance is the mean absolute difference, as in its energy. It is flat as soon as two objects
    share no patch: measured in two_rooms, its rank correlation with path length is about 0.1.
    """

    output = "normed"

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, object] = {}
        self._grid, self._dim = (0, 0), 0

    def build(self, grid: tuple[int, int], dim: int) -> None:
        """See `LatentSpace.build`."""
        self._grid, self._dim = grid, dim

    @property
    def grid(self) -> tuple[int, int]:
        """That of the encoder."""
        return self._grid

    @property
    def dim(self) -> int:
        """That of the encoder."""
        return self._dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Layer-norms without learned scale."""
        return F.layer_norm(tokens, tokens.shape[-1:])

    def distance(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Mean absolute difference."""
        return (latents - goal).abs().mean((-2, -1))


class SlowFeatures(LatentSpace):
    """The directions of feature space that change slowest along trajectories.

    Linear slow feature analysis (Wiskott & Sejnowski 2002) of the layer-normed patch tokens of a
    frame: whiten, keep the leading principal components, then rotate to the eigenvectors of the
    covariance of differences between neighbouring frames. On the data of a random walk these are
    the smoothest eigenfunctions of its graph Laplacian (Wu et al., arXiv:1810.04586), and the
    distance weighted by inverse speed is akin to commute time: states that a walk rarely connects
    are far apart however alike they look. Latents are the features over the square root of their
    speed, relative to the slowest (distances of such latents are commute-time distances), so what
    moves slowly weighs most in the loss of a world model; `distance` divides by that root once
    more, which tracked path length slightly better and does not depend on num_features.

    Args:
        num_features: slow directions kept, in all.
        num_tokens: latent tokens per frame that share them; must divide num_features.
        num_components: principal components kept before; the rest is treated as noise.
        pool_grid: patch tokens are first average-pooled to this (height, width); None keeps all.
    """

    output = "residual"
    mean: Tensor
    projection: Tensor
    speed: Tensor

    def __init__(
        self,
        *,
        num_features: int = 32,
        num_tokens: int = 1,
        num_components: int = 256,
        pool_grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if num_features < 1 or num_tokens < 1 or num_features % num_tokens:
            raise ValueError(
                f"num_features={num_features} must be a positive multiple of "
                f"num_tokens={num_tokens}"
            )
        if num_components < num_features:
            raise ValueError(
                f"num_components={num_components} is smaller than num_features={num_features}"
            )
        self.config = {
            "num_features": num_features,
            "num_tokens": num_tokens,
            "num_components": num_components,
            "pool_grid": pool_grid,
        }
        self.num_features, self.num_tokens = num_features, num_tokens
        self.num_components, self.pool_grid = num_components, pool_grid
        self.register_buffer("speed", torch.zeros(num_features))

    def build(self, grid: tuple[int, int], dim: int) -> None:
        """See `LatentSpace.build`."""
        self.patch_grid = grid
        height, width = self.pool_grid or grid
        num_inputs = height * width * dim
        if num_inputs > MAX_INPUTS:
            raise ValueError(
                f"slow features of {height} x {width} patches of {dim} are {num_inputs} inputs, "
                f"at most {MAX_INPUTS} are possible; set a smaller pool_grid"
            )
        if num_inputs < self.num_features:
            raise ValueError(
                f"num_features={self.num_features} exceeds the {num_inputs} inputs of {height} x "
                f"{width} patches of {dim}; lower it, or set a larger pool_grid"
            )
        self.speed.zero_()  # not fitted to this encoder yet
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("projection", torch.zeros(num_inputs, self.num_features))

    @property
    def grid(self) -> tuple[int, int]:
        """One row of tokens."""
        return 1, self.num_tokens

    @property
    def dim(self) -> int:
        """Features of one token."""
        return self.num_features // self.num_tokens

    @property
    def is_fitted(self) -> bool:
        """True once speeds are known."""
        return bool((self.speed > 0).all())

    @torch.no_grad()
    def draw_anew(self) -> None:
        """Random directions, no mean and equal speeds: features of about unit variance."""
        self.mean.zero_()
        self.projection.normal_(0.0, len(self.projection) ** -0.5)
        self.speed.fill_(1.0)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LatentSpace.forward`."""
        features = (self.flatten(tokens) - self.mean) @ self.projection
        return features.unflatten(-1, (self.num_tokens, self.dim))

    def distance(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Euclidean distance of the features over their speed, 1 for the slowest feature."""
        return ((latents - goal).flatten(-2) / self._root_speed()).norm(dim=-1)

    def flatten(self, tokens: Tensor) -> Tensor:
        """Layer-norms, pools and flattens (..., patches, encoder_dim) to (..., inputs)."""
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
        if self.pool_grid is not None:
            tokens = _average_pooled(tokens, self.patch_grid, self.pool_grid)
        return tokens.flatten(-2)

    @torch.no_grad()
    def fit(self, moments: FrameMoments) -> None:
        """Solves for the slow directions.

        Args:
            moments: of tokens, mapped by `flatten`, from as many trajectories as possible.

        Raises:
            ValueError: if there were too few frames, or the features do not vary.
        """
        num_components = min(self.num_components, moments.num_frames - 1)
        if num_components < self.num_features or not moments.num_changes:
            raise ValueError(
                f"{moments.num_frames} frames with {moments.num_changes} changes are too few for "
                f"{self.num_features} slow features"
            )
        whiten = self._whitening(moments, num_components)  # (inputs, components)
        change = moments.change_covariance()
        speed, rotation = torch.linalg.eigh(whiten.T @ change @ whiten)  # slowest first
        self.mean.copy_(moments.mean())
        self.speed.copy_(speed[: self.num_features].clamp_min(1e-6))
        directions = whiten @ rotation[:, : self.num_features]
        self.projection.copy_(directions / self._root_speed())

    def _whitening(self, moments: FrameMoments, num_components: int) -> Tensor:
        """Returns (inputs, components): the leading ones, each of unit variance."""
        covariance = moments.covariance()
        inputs_variance = covariance.diagonal()
        floor = MIN_VARIATION * (inputs_variance.mean() + moments.mean().square().mean())
        scale = inputs_variance.clamp_min(floor.item()).sqrt()
        variance, axes = torch.linalg.eigh(covariance / scale / scale[:, None])
        variance, axes = variance[-num_components:], axes[:, -num_components:]
        is_large = variance > 1e-9 * variance[-1]
        if inputs_variance.mean() <= floor or is_large.sum() < self.num_features:
            raise ValueError(
                "the encoder's features hardly vary over the trajectories: it has collapsed, or "
                "all frames are alike"
            )
        return axes[:, is_large] / variance[is_large].sqrt() / scale[:, None]

    def _root_speed(self) -> Tensor:
        """Returns (num_features,), the root of the speed relative to the slowest feature."""
        return (self.speed / self.speed[0]).sqrt()


class PooledTokens(LatentSpace):
    """One learned vector a frame: a linear map of pooled patch tokens (LeWM, arXiv:2603.19312).

    It is trained together with the encoder, see `jepa.training.joint_training.JointTraining`.
    Distance is the root of the mean squared difference.

    Args:
        dim: width of the vector. Wider than what there is to know, and a Gaussian cannot be reached
            (LeWM); narrower, and something is left out.
        pool_grid: patch tokens are averaged to this (height, width), which the map sees side by
            side; (1, 1) is the mean over the frame: the encoder must say by itself what is where.
        is_standardized: standardise the pooled features before the map, see
            `jepa.models.standardization.Standardization`.
        is_normed: layer-norm the vector, without learned scale (eb_jepa); dynamics then write an
            absolute latent. False leaves it free, and dynamics write its change.
        hidden_dim: width of a hidden layer between, with GELU; 0: the map is linear.

    Raises:
        ValueError: if a size is less than 1, or a vector of one number should be normed.
    """

    is_learned = True

    def __init__(
        self,
        *,
        dim: int = 64,
        pool_grid: tuple[int, int] = (1, 1),
        is_standardized: bool = True,
        is_normed: bool = False,
        hidden_dim: int = 0,
    ) -> None:
        super().__init__()
        if min(dim, *pool_grid) < 1 or (is_normed and dim < 2) or hidden_dim < 0:
            raise ValueError(
                "dim and pool_grid must be at least 1, dim at least 2 with is_normed, hidden_dim "
                f"at least 0; got dim={dim}, pool_grid={tuple(pool_grid)}, is_normed={is_normed}, "
                f"hidden_dim={hidden_dim}"
            )
        self.config = {
            "dim": dim,
            "pool_grid": tuple(pool_grid),
            "is_standardized": is_standardized,
            "is_normed": is_normed,
        }
        if hidden_dim:
            self.config["hidden_dim"] = hidden_dim
        self.output = "normed" if is_normed else "residual"
        self.pool_grid, self.hidden_dim = (pool_grid[0], pool_grid[1]), hidden_dim
        self.is_standardized, self.is_normed = is_standardized, is_normed
        self._dim = dim

    def build(self, grid: tuple[int, int], dim: int) -> None:
        """See `LatentSpace.build`."""
        if self.pool_grid[0] > grid[0] or self.pool_grid[1] > grid[1]:
            raise ValueError(
                f"pool_grid={self.pool_grid} exceeds the grid {tuple(grid)} of patch tokens; "
                "lower it"
            )
        self.patch_grid = grid
        num_inputs = self.pool_grid[0] * self.pool_grid[1] * dim
        self.standardize = Standardization(num_inputs) if self.is_standardized else nn.Identity()
        self.hidden = nn.Identity()
        if self.hidden_dim:
            self.hidden = nn.Sequential(nn.Linear(num_inputs, self.hidden_dim), nn.GELU())
        self.proj = nn.Linear(self.hidden_dim or num_inputs, self._dim)

    @property
    def grid(self) -> tuple[int, int]:
        """One token."""
        return 1, 1

    @property
    def dim(self) -> int:
        """Width of the vector."""
        return self._dim

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LatentSpace.forward`."""
        # In float32: what differs between frames is small beside what does not.
        pooled = _average_pooled(tokens.float(), self.patch_grid, self.pool_grid)
        features = self.standardize(pooled.flatten(-2))  # (..., inputs)
        hidden = self.hidden(features.to(self.proj.weight.dtype))
        latents = self.proj(hidden).unsqueeze(-2)  # (..., 1, dim)
        return F.layer_norm(latents, latents.shape[-1:]) if self.is_normed else latents

    def distance(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Root of the mean squared difference."""
        difference = (latents - goal).flatten(-2)
        # Unlike a root of squares, a norm has a gradient at 0, which is 0.
        return torch.linalg.vector_norm(difference, dim=-1) / difference.shape[-1] ** 0.5


class FrameMoments:
    """Sums for the covariance of features and of their change from one frame to the next.

    Args:
        num_inputs: features of a frame.
    """

    def __init__(self, num_inputs: int) -> None:
        self.num_frames = 0
        self.num_changes = 0
        self._sum = torch.zeros(num_inputs, dtype=torch.float64)
        self._outer = torch.zeros(num_inputs, num_inputs, dtype=torch.float64)
        self._change = torch.zeros(num_inputs, num_inputs, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Adds windows of neighbouring frames, (batch, time, inputs).

        Raises:
            ValueError: if the layout is another one.
        """
        if features.ndim != 3 or features.shape[-1] != len(self._sum):
            raise ValueError(
                f"features must be (batch, time, {len(self._sum)}), got {tuple(features.shape)}"
            )
        features = features.cpu().double()  # single precision would hide a small variance
        frames = features.flatten(0, 1)
        changes = features.diff(dim=1).flatten(0, 1)
        self.num_frames += frames.shape[0]
        self.num_changes += changes.shape[0]
        self._sum += frames.sum(0)
        self._outer += frames.T @ frames
        self._change += changes.T @ changes

    def mean(self) -> Tensor:
        """Returns the mean frame (inputs,)."""
        return self._sum / self.num_frames

    def covariance(self) -> Tensor:
        """Returns the covariance (inputs, inputs) of frames, as of a population."""
        mean = self.mean()
        return self._outer / self.num_frames - mean[:, None] * mean

    def change_covariance(self) -> Tensor:
        """Returns the mean square (inputs, inputs) of changes, whose mean is not removed."""
        return self._change / max(self.num_changes, 1)


def _average_pooled(tokens: Tensor, grid: tuple[int, int], pool_grid: tuple[int, int]) -> Tensor:
    """Averages (..., patches, dim) of a grid (height, width) to (..., pool height * width, dim)."""
    *leading, _, dim = tokens.shape
    image = tokens.reshape(-1, *grid, dim).permute(0, 3, 1, 2)
    pooled = F.adaptive_avg_pool2d(image, pool_grid).permute(0, 2, 3, 1)
    return pooled.reshape(*leading, -1, dim)
