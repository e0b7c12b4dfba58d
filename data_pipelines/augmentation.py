"""Any `torchvision.transforms.v2` on whole clips: one draw for all frames, decided by a seed.

The same transforms run in a reading process or, after the transfer, on the model's device. Their
draws come from torch's generator on the CPU in both places, so both give the same clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

# Transforms that change colours and leave every pixel where it is.
COLOUR_TRANSFORMS: tuple[type[v2.Transform], ...] = (
    v2.ColorJitter,
    v2.GaussianBlur,
    v2.RandomAdjustSharpness,
    v2.RandomAutocontrast,
    v2.RandomChannelPermutation,
    v2.RandomEqualize,
    v2.RandomGrayscale,
    v2.RandomInvert,
    v2.RandomPhotometricDistort,
    v2.RandomPosterize,
    v2.RandomSolarize,
)
CONTAINERS: tuple[type[v2.Transform], ...] = (
    v2.Compose,
    v2.RandomApply,
    v2.RandomChoice,
    v2.RandomOrder,
)


class ClipAugmentation:
    """Transforms one after the other, each applied to all frames of a clip at once.

    What a transform draws, it draws once for a clip. What it measures (the mean that a contrast
    keeps, the histogram that is equalised) it measures in each frame. `GaussianNoise` is drawn for
    each pixel: it differs between frames, and between devices; factors, angles and boxes do not.

    Args:
        transforms: they must keep shape and uint8, and draw from torch's own generator.

    Raises:
        ValueError: if one of them is no transform, or draws for each frame what must be one.
    """

    def __init__(self, transforms: Sequence[v2.Transform]) -> None:
        for transform in transforms:
            if not isinstance(transform, v2.Transform):
                raise ValueError(
                    f"augmentation takes transforms of torchvision.transforms.v2, got {transform!r}"
                )
        for transform in _flat(transforms):
            if isinstance(transform, v2.AugMix):
                raise ValueError(
                    "AugMix mixes each frame of a clip by a draw of its own; use RandAugment"
                )
        self.transforms = tuple(transforms)

    def __call__(self, clip: Tensor, seed: int) -> Tensor:
        """Returns the augmented clip; torch's generators are left as they were.

        Args:
            clip: (3, time, height, width), uint8.
            seed: decides every draw.

        Raises:
            ValueError: if a transform changes shape or dtype, naming it.
        """
        frames = clip.transpose(0, 1).contiguous()  # (time, 3, height, width): one order of sums
        with torch.random.fork_rng(devices=_cuda_devices(frames)):
            _seed_generators(frames.device, seed)
            for transform in self.transforms:
                frames = _applied(transform, frames)
        return frames.transpose(0, 1)

    def to_batch(self, video: Tensor, seeds: Sequence[int]) -> Tensor:
        """Augments each clip by its own seed.

        Args:
            video: (batch, 3, time, height, width), uint8.
            seeds: one for each clip.

        Raises:
            ValueError: if there is not one seed for each clip.
        """
        if len(seeds) != len(video):
            raise ValueError(
                f"a batch of {len(video)} clips came with {len(seeds)} seeds: its dataset must "
                "give every clip a seed, or set augment_on to 'worker'"
            )
        clips = [self(clip, int(seed)) for clip, seed in zip(video, seeds, strict=True)]
        return torch.stack(clips) if clips else video


class ColourAugmentation(ClipAugmentation):
    """Colours only: for trajectories, whose actions would not follow a moved picture.

    Args:
        transforms: of `COLOUR_TRANSFORMS`, also inside `CONTAINERS`.

    Raises:
        ValueError: if one of them moves or hides pixels, or is not known to leave them in place.
    """

    def __init__(self, transforms: Sequence[v2.Transform]) -> None:
        super().__init__(transforms)
        refuse_moving_pixels(transforms)


def refuse_moving_pixels(transforms: Sequence[v2.Transform]) -> None:
    """Raises ValueError, naming the first transform that may do more than change colours."""
    for transform in _flat(transforms):
        if type(transform) not in COLOUR_TRANSFORMS:
            allowed = ", ".join(kind.__name__ for kind in COLOUR_TRANSFORMS)
            raise ValueError(
                f"{type(transform).__name__} may move or hide pixels, and actions and states "
                f"would not follow; trajectories allow {allowed}"
            )


def _flat(transforms: Sequence[v2.Transform]) -> Iterator[v2.Transform]:
    for transform in transforms:
        if type(transform) in CONTAINERS:
            contained: Any = transform.transforms
            yield from _flat(contained)
        else:
            yield transform


def _applied(transform: v2.Transform, frames: Tensor) -> Tensor:
    # An Image of many: of a Video some transforms (RandomGrayscale) change nothing, in silence.
    result = transform(tv_tensors.Image(frames)).as_subclass(Tensor)
    if result.shape != frames.shape or result.dtype != frames.dtype:
        raise ValueError(
            f"augmentation {type(transform).__name__} turned {_described(frames)} into "
            f"{_described(result)}; only transforms that keep shape and dtype are allowed"
        )
    return result


def _described(frames: Tensor) -> str:
    return f"{str(frames.dtype).removeprefix('torch.')} {tuple(frames.shape)}"


def _cuda_devices(frames: Tensor) -> list[torch.device]:
    return [frames.device] if frames.is_cuda else []


def _seed_generators(device: torch.device, seed: int) -> None:
    """Seeds the CPU's generator, and the device's for noise that is drawn on it; no other."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
