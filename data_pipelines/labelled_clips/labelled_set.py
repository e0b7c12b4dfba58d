"""A set of labelled samples, each of which becomes the same clips whenever it is read."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from data_pipelines.batch import SkippedSample
from data_pipelines.clip_sampling import ClipTooShortError
from data_pipelines.frames import DecodeError
from data_pipelines.labelled_clips.clip_settings import ClipSettings
from data_pipelines.samples import Sample
from data_pipelines.tar_headers import ShardError

FORMAT = 1  # raise it when the same settings give other pixels


class LabelledSample(NamedTuple):
    """All clips of one sample.

    Attributes:
        key: of the sample.
        video: (clips * views, 3, time, height, width), uint8, RGB: moment after moment, and of each
            moment view after view.
    """

    key: str
    video: Tensor


@dataclass(frozen=True)
class LabelledClips(ABC):
    """Samples with one label each: `data[i]` reads one, and gives the same clips every time.

    Attributes:
        samples: where each is read.
        settings: what is cut out of it.
        keys: name of each sample, no two the same.
        labels: (samples,) int64 indices into `classes`, or (samples, targets) float32.
        classes: names of the classes; None: the labels are numbers to regress.
        targets: names of these numbers; () if there are classes.
        recordings: which recording each sample is of; what shares one must not be divided.
        identities: of each sample, a text that changes when its bytes do.
        left_out: what could not be used before any clip was read, and why.
    """

    samples: Sequence[Sample]
    settings: ClipSettings
    keys: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...] | None
    targets: tuple[str, ...]
    recordings: tuple[str, ...]
    identities: tuple[str, ...]
    left_out: tuple[SkippedSample, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> LabelledSample | SkippedSample:
        """Returns the clips of a sample, or why there are none."""
        seed = hashlib.sha256(f"{self.settings.seed} {self.keys[number]}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)
        try:
            video = self._read(number, generator)
        except DecodeError as error:
            return SkippedSample(self.keys[number], error.reason)
        except (ClipTooShortError, ShardError) as error:
            return SkippedSample(self.keys[number], str(error))
        return LabelledSample(self.keys[number], video.contiguous())

    @property
    def num_clips(self) -> int:
        """Returns how many moments each sample has."""
        return self.settings.num_clips

    @property
    def num_views(self) -> int:
        """Returns how many crops each moment has."""
        return self.settings.num_views

    @property
    def fingerprint(self) -> str:
        """Returns a hash of all that decides the clips and labels, in their order."""
        about = {"format": FORMAT, "kind": type(self).__name__, "classes": self.classes}
        about |= {"targets": self.targets, "settings": asdict(self.settings)}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for key, identity in zip(self.keys, self.identities, strict=True):
            digest.update(f"\0{key}\0{identity}".encode())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()

    def take(self, numbers: Sequence[int] | np.ndarray) -> Self:
        """Returns the samples of these numbers, in this order."""
        chosen = [int(number) for number in numbers]
        if not chosen:
            raise ValueError(f"no sample is left of {len(self)}")
        parts = {
            name: tuple(getattr(self, name)[number] for number in chosen)
            for name in ("samples", "keys", "recordings", "identities")
        }
        return replace(self, **parts, labels=self.labels[chosen])

    def with_random_views(
        self, num_views: int, *, crop_scale: tuple[float, float] = (0.3, 1.0), seed: int = 0
    ) -> Self:
        """Returns the same samples to train on: random crops, as many rows of each moment.

        Args:
            num_views: random crops of each moment.
            crop_scale: see `ClipSettings`.
            seed: other seeds draw other crops.
        """
        settings = replace(
            self.settings, num_views=num_views, crop_scale=crop_scale, random_views=True, seed=seed
        )
        return replace(self, settings=settings)

    @abstractmethod
    def _read(self, number: int, generator: torch.Generator) -> Tensor:
        """Returns the clips of a sample, see `LabelledSample`."""


def recording_of(sample: Sample) -> str:
    """Returns what a sample is a recording of.

    That is its group; without one, its very bytes where they are known, so that a video that was
    packed twice is one recording; else where it lies, and its key.
    """
    if sample.group:
        return f"group '{sample.group}'"
    known = [member for name, member in sorted(sample.members.items()) if name != "json"]
    if known and all(member.crc32 is not None for member in known):
        return "bytes " + " ".join(f"{member.size}-{member.crc32}" for member in known)
    return f"sample '{sample.key}' of {sample.shard}"


def identity_of(sample: Sample, changed: Sequence[object] = ()) -> str:
    """Returns a text that differs when a sample's bytes do, as far as sizes and times tell."""
    members = [(name, member.size, member.crc32) for name, member in sorted(sample.members.items())]
    return f"{members}{list(changed)}"
