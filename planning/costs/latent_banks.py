"""What latents of the training data look like, to tell when an imagined one looks like none.

A bank is fitted to some latents, and calibrated on others: its threshold is the distance that a
given share of latents, held out but of the same kind, stays below.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

MAX_FEATURES = 4096  # of a Gaussian: the covariance of more is too large to decompose
MAX_DISTANCES = 2**24  # of nearest latents at a time: 64 MiB in float32
FORMAT = "latent bank 1"


@dataclass(frozen=True)
class LatentBank(ABC):
    """Latents to be compared with.

    Attributes:
        threshold: distance from which on a latent is unlike the training data.
        is_pooled: a frame is its mean token; False: all of its tokens side by side.
    """

    threshold: float
    is_pooled: bool

    @abstractmethod
    def distance(self, tokens: Tensor) -> Tensor:
        """Returns how far latents (..., tokens, dim) are from the training data, (...), >= 0.

        Raises:
            ValueError: if they are latents of another world.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Returns what is to be saved beside the settings."""

    def excess(self, tokens: Tensor) -> Tensor:
        """Returns by how many thresholds latents are beyond the threshold, (...): 0 within it."""
        return (self.distance(tokens) / self.threshold - 1).clamp_min(0)

    def save(self, path: str | Path) -> Path:
        """Writes a safetensors file, whole or not at all; returns its path."""
        path, temporary = Path(path), Path(f"{path}.tmp")
        tensors = self.tensors()
        settings = {
            name: value for name, value in vars(self).items() if not isinstance(value, Tensor)
        }
        header = {"format": FORMAT, "kind": type(self).__name__, "settings": json.dumps(settings)}
        try:
            stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_file(stored, temporary, metadata=header)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    @staticmethod
    def load(path: str | Path, *, device: torch.device | str = "cpu") -> LatentBank:
        """Reads a file written by `save`, of any kind of bank.

        Args:
            path: of the file.
            device: where the world model is; a bank that is elsewhere is copied in every call.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is no such file.
        """
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        kinds = {kind.__name__: kind for kind in (Mahalanobis, NearestLatents)}
        if header.get("format") != FORMAT or header.get("kind") not in kinds:
            raise ValueError(f"{path} is not a {FORMAT} file")
        try:
            return kinds[header["kind"]](**json.loads(header["settings"]), **tensors)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a whole {FORMAT} file: {error}") from error

    def _features(self, tokens: Tensor, num_features: int) -> Tensor:
        """Returns latents (..., tokens, dim) as features (..., features)."""
        features = _features(tokens, self.is_pooled)
        if features.shape[-1] != num_features:
            raise ValueError(
                f"the bank holds latents of {num_features} features, these have "
                f"{features.shape[-1]}; build it with the same world model"
            )
        return features


@dataclass(frozen=True, eq=False)
class Mahalanobis(LatentBank):
    """One Gaussian: root mean square of the deviations along its axes, in standard deviations.

    Attributes:
        mean: (features,).
        whitening: (features, features), from deviations to standard deviations.
    """

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fit(
        cls,
        latents: Tensor,
        held_out: Tensor,
        *,
        quantile: float = 0.99,
        is_pooled: bool = False,
        shrinkage: float = 1e-3,
    ) -> Mahalanobis:
        """Fits it to latents, and calibrates it on others.

        Args:
            latents: (frames, tokens, dim), at least two.
            held_out: (frames, tokens, dim), of other trajectories.
            quantile: share of the held-out latents that are within the threshold, in (0, 1).
            is_pooled: see `LatentBank`.
            shrinkage: share of the mean variance that every direction has at least: what never
                varied in the data is no proof that it cannot.

        Raises:
            ValueError: if an argument is out of range, or the latents do not vary.
        """
        _refuse_other_latents(latents, held_out, quantile)
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage must be in (0, 1], got {shrinkage}")
        features = _features(latents, is_pooled)
        if features.shape[-1] > MAX_FEATURES:
            raise ValueError(
                f"a Gaussian of {features.shape[-1]} features is too large, at most {MAX_FEATURES}"
                " are possible; set is_pooled=True, or take NearestLatents"
            )
        mean = features.double().mean(0)
        deviations = features.double() - mean
        covariance = deviations.T @ deviations / len(features)
        if not covariance.diagonal().sum() > 0:
            raise ValueError("the latents are all equal: see whether the encoder has collapsed")
        variance, axes = torch.linalg.eigh(covariance)
        variance = variance.clamp_min(0) + shrinkage * covariance.diagonal().mean()
        whitening = (axes / variance.sqrt()).to(latents)
        bank = cls(1.0, is_pooled, mean.to(latents), whitening)
        return cls(_calibrated(bank, held_out, quantile), is_pooled, bank.mean, whitening)

    def distance(self, tokens: Tensor) -> Tensor:
        """See `LatentBank.distance`."""
        deviations = self._features(tokens, len(self.mean)) - self.mean.to(tokens)
        return _root_mean_square(deviations @ self.whitening.to(tokens))

    def tensors(self) -> dict[str, Tensor]:
        """See `LatentBank.tensors`."""
        return {"mean": self.mean, "whitening": self.whitening}


@dataclass(frozen=True, eq=False)
class NearestLatents(LatentBank):
    """All of them: root mean squared difference to the k-th nearest.

    Attributes:
        latents: (frames, features).
        neighbour: k.
    """

    latents: Tensor
    neighbour: int

    @classmethod
    def fit(
        cls,
        latents: Tensor,
        held_out: Tensor,
        *,
        quantile: float = 0.99,
        is_pooled: bool = False,
        neighbour: int = 5,
    ) -> NearestLatents:
        """Keeps latents, and calibrates on others; see `Mahalanobis.fit`.

        Args:
            latents: (frames, tokens, dim), at least `neighbour`.
            held_out: (frames, tokens, dim), of other trajectories.
            quantile: share of the held-out latents that are within the threshold, in (0, 1).
            is_pooled: see `LatentBank`.
            neighbour: the how-manyeth nearest counts: 1 forgives what was seen once, by mistake.

        Raises:
            ValueError: if an argument is out of range, or the latents do not vary.
        """
        _refuse_other_latents(latents, held_out, quantile)
        if not 1 <= neighbour <= len(latents):
            raise ValueError(
                f"neighbour must be from 1 to the {len(latents)} latents, got {neighbour}"
            )
        features = _features(latents, is_pooled).clone()
        bank = cls(1.0, is_pooled, features, neighbour)
        return cls(_calibrated(bank, held_out, quantile), is_pooled, features, neighbour)

    def distance(self, tokens: Tensor) -> Tensor:
        """See `LatentBank.distance`."""
        features = self._features(tokens, self.latents.shape[-1])
        rows = features.reshape(-1, features.shape[-1])
        bank = self.latents.to(rows)
        per_chunk = max(1, MAX_DISTANCES // len(bank))
        chunks = [self._kth_distance(chunk, bank) for chunk in rows.split(per_chunk)]
        return torch.cat(chunks).reshape(features.shape[:-1])

    def tensors(self) -> dict[str, Tensor]:
        """See `LatentBank.tensors`."""
        return {"latents": self.latents}

    def _kth_distance(self, rows: Tensor, bank: Tensor) -> Tensor:
        """Returns (rows,): found without a gradient, then computed with one, and without NaN."""
        with torch.no_grad():
            nearest = torch.cdist(rows, bank).topk(self.neighbour, largest=False).indices[:, -1]
        return _root_mean_square(rows - bank[nearest])


def _features(tokens: Tensor, is_pooled: bool) -> Tensor:
    return tokens.mean(-2) if is_pooled else tokens.flatten(-2)


def _root_mean_square(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dim=-1) / values.shape[-1] ** 0.5


def _calibrated(bank: LatentBank, held_out: Tensor, quantile: float) -> float:
    """Returns the distance that a share of the held-out latents is within."""
    threshold = torch.quantile(bank.distance(held_out).double(), quantile).item()
    if not threshold > 0:
        raise ValueError(
            "the held-out latents are all equal to those of the bank: take other trajectories, or "
            "see whether the encoder has collapsed"
        )
    return threshold


def _refuse_other_latents(latents: Tensor, held_out: Tensor, quantile: float) -> None:
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be in (0, 1), got {quantile}")
    if latents.ndim != 3 or held_out.shape[1:] != latents.shape[1:]:
        raise ValueError(
            "latents and held_out must be (frames, tokens, dim) of one world, got "
            f"{tuple(latents.shape)} and {tuple(held_out.shape)}"
        )
    if len(latents) < 2 or len(held_out) < 1:
        raise ValueError(
            f"a bank needs at least 2 latents and 1 held out, got {len(latents)} and "
            f"{len(held_out)}"
        )
    if not (latents.isfinite().all() and held_out.isfinite().all()):
        raise ValueError("latents and held_out must be finite")
