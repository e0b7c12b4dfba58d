"""Any encoder, by one interface: clips in, layers of tokens out.

load_probe_encoder("runs/demo/pretrain")            # ours; a run, or a checkpoint's folder
load_probe_encoder("vitl.pt", layers=(11, 17, 23))  # official, or a folder of transformers
load_probe_encoder("timm:vit_small_patch14_dinov2.lvd142m@224")
load_probe_encoder("untrained:runs/demo/pretrain")  # the same architecture, drawn anew
load_probe_encoder("pixels")                        # no learning at all
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from jepa.checkpoints.native import build_encoder
from jepa.checkpoints.pretrained import from_pretrained
from jepa.checkpoints.shipped import resolve_checkpoint
from jepa.evaluation.baselines import (
    PixelEncoder,
    efficientnet_lite0,
    untrained_efficientnet_lite0,
)
from jepa.models.encoder import VideoEncoder
from jepa.models.timm_encoder import TIMM_PREFIX, TimmEncoder, TimmSpec, timm_encoder_from
from jepa.models.world_model import LatentWorldModel

UNTRAINED, PIXELS, EFFICIENTNET = "untrained:", "pixels", "efficientnet-lite0"
FRAMES_OF_IMAGE_ENCODERS = 16  # of a clip, where nothing else is said


class ProbeEncoder(ABC):
    """A frozen encoder that is probed.

    Args:
        module: the encoder itself.
        name: as the user wrote it.
        clip_length_frames: frames of a clip that is encoded.
        image_size: height and width of a clip, in pixels.
        layers: blocks whose outputs are taken, from 0, ascending; None: the encoder's output.
    """

    def __init__(
        self,
        module: Any,  # noqa: ANN401 - a VideoEncoder, or a FrameEncoder that is a module
        *,
        name: str,
        clip_length_frames: int,
        image_size: int,
        layers: Sequence[int] | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.name = name
        self.clip_length_frames = clip_length_frames
        self.image_size = image_size
        self.layers = None if layers is None else _counted_from_the_start(module, layers)
        self.device = torch.device("cpu")

    @abstractmethod
    def _outputs(self, video: Tensor) -> list[Tensor]:
        """Returns (batch, tokens, dim) of every layer."""

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int, int]:
        """(time, height, width) in tokens of a clip, in which order the tokens come."""

    @cached_property
    def feature_shape(self) -> tuple[int, int, int]:
        """(layers, tokens, dim) of one clip; found out by encoding a black one."""
        size = self.image_size
        black = torch.zeros(1, 3, self.clip_length_frames, size, size, dtype=torch.uint8)
        layers, tokens, dim = self.encode(black).shape[1:]
        return layers, tokens, dim

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the architecture, the weights, and what is taken of them."""
        about = {
            "class": [type(self).__name__, type(self.module).__name__],
            "config": dict(self.module.config),
            "pixels": [getattr(self.module, name, None) for name in ("mean", "std")],
            "clip": [self.clip_length_frames, self.image_size, self.layers],
        }
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
            digest.update(_bytes_of(value))
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> Self:
        """Moves the encoder; clips are moved as they come."""
        self.module, self.device = self.module.to(device), torch.device(device)
        return self

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        """Encodes clips.

        Args:
            video: (batch, 3, time, height, width), uint8, RGB: every encoder normalises in its own
                way.

        Returns:
            (batch, layers, tokens, dim), float32, on the encoder's device; each layer normed as by
            `VideoEncoder.layers`.

        Raises:
            ValueError: if clips are of another size or type.
        """
        time, size = self.clip_length_frames, self.image_size
        if video.shape[1:] != (3, time, size, size) or video.dtype != torch.uint8:
            raise ValueError(
                f"{self.name} takes video (batch, 3, {time}, {size}, {size}) uint8, got "
                f"{tuple(video.shape)} {video.dtype}"
            )
        return torch.stack(self._outputs(video.to(self.device)), dim=1).float()


class WholeClipEncoder(ProbeEncoder):
    """A video encoder that sees all frames of a clip at once."""

    module: VideoEncoder

    @property
    def grid(self) -> tuple[int, int, int]:
        """See `ProbeEncoder.grid`."""
        return self.module.grid_of((self.clip_length_frames, self.image_size, self.image_size))

    def _outputs(self, video: Tensor) -> list[Tensor]:
        if self.layers is None:
            return [self.module(video)]
        return self.module.layers(video, self.layers)


class FrameByFrameEncoder(ProbeEncoder):
    """An encoder that sees one frame at a time; tokens of all frames, one frame after the other."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """See `ProbeEncoder.grid`."""
        patch = self.module.tubelet[1]
        side = self.image_size // patch
        return self.clip_length_frames, side, side

    def _outputs(self, video: Tensor) -> list[Tensor]:
        if self.layers is None:
            return [self.module.encode_frames(video).flatten(1, 2)]
        if isinstance(self.module, VideoEncoder):
            return self._still_layers(video, self.layers)
        outputs = self.module.frame_layers(video, self.layers)
        return [output.flatten(1, 2) for output in outputs]

    def _still_layers(self, video: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """As `VideoEncoder.encode_frames`, of several layers."""
        stills = video.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (batch * time, 3, 1, h, w)
        stills = stills.expand(-1, -1, self.module.tubelet[0], -1, -1)
        outputs = self.module.layers(stills, layers)
        return [output.unflatten(0, (len(video), -1)).flatten(1, 2) for output in outputs]


def load_probe_encoder(
    source: str,
    *,
    layers: Sequence[int] | None = None,
    frame_by_frame: bool | None = None,
    clip_length_frames: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> ProbeEncoder:
    """Returns a frozen encoder, on the CPU.

    Args:
        source: whatever `jepa.from_pretrained` takes (the folder of a model or of the run that made
            it, an official .pt, a folder of transformers or its name on the hub); the name of a
            checkpoint that is shipped; a model of timm, "timm:NAME[@SIZE[:FILE]]";
            "efficientnet-lite0", whose weights a package ships; "pixels", see `PixelEncoder`; or
            "untrained:" and one of these.
        layers: blocks whose outputs are taken; negative ones count from the end, -1 is the last.
            None: the encoder's output.
        frame_by_frame: encode every frame on its own; None: as it was trained, image encoders and
            those of world models frame by frame, others whole clips.
        clip_length_frames: None: what the encoder is made for; 16 if it sees one frame at a time.
        image_size: height and width of clips, in pixels; None: what the encoder is made for.
        seed: of the weights of an untrained one.

    Raises:
        OSError: if there is none, or its weights cannot be downloaded.
        ImportError: if its package is not installed.
        ValueError: if weights do not fit, there are no such layers, or it cannot see whole clips.
    """
    module, sees_frames = _load(source, image_size=image_size, seed=seed)
    is_image_encoder = (
        not isinstance(module, VideoEncoder) or module.config["clip_length_frames"] == 1
    )
    if is_image_encoder and frame_by_frame is False:
        raise ValueError(f"{source} encodes single images; it cannot see a whole clip at once")
    if frame_by_frame is None:
        frame_by_frame = is_image_encoder or sees_frames
    kind = FrameByFrameEncoder if frame_by_frame else WholeClipEncoder
    own_length = module.grid[0] * module.tubelet[0]
    return kind(
        module,
        name=source,
        clip_length_frames=clip_length_frames
        or (FRAMES_OF_IMAGE_ENCODERS if frame_by_frame else own_length),
        image_size=image_size or module.grid[1] * module.tubelet[1],
        layers=layers,
    )


def _load(source: str, *, image_size: int | None, seed: int) -> tuple[Any, bool]:
    """Returns the encoder, and whether it was trained to see one frame at a time."""
    if source.startswith(UNTRAINED):
        return _load_untrained(source.removeprefix(UNTRAINED), image_size=image_size, seed=seed)
    if source == PIXELS:
        return PixelEncoder(image_size=image_size or 64), True
    if source == EFFICIENTNET:
        return efficientnet_lite0(image_size=image_size or 224), True
    if source.startswith(TIMM_PREFIX):
        return timm_encoder_from(str(_sized(source, image_size))), True
    model = from_pretrained(resolve_checkpoint(source))
    return model.encoder, isinstance(model, LatentWorldModel)


def _load_untrained(source: str, *, image_size: int | None, seed: int) -> tuple[Any, bool]:
    """Returns the same architecture with fresh weights; no weights of timm are downloaded."""
    if source == PIXELS or source.startswith(UNTRAINED):
        raise ValueError(f"{UNTRAINED}{source}: there is nothing trained in it to be left out")
    with torch.random.fork_rng(devices=[]):
        if source == EFFICIENTNET:
            torch.manual_seed(seed)
            return untrained_efficientnet_lite0(image_size=image_size or 224), True
        if source.startswith(TIMM_PREFIX):
            torch.manual_seed(seed)
            spec = _sized(source, image_size)
            return TimmEncoder(name=spec.name, image_size=spec.image_size), True
        trained, sees_frames = _load(source, image_size=image_size, seed=seed)
        described = {"class": type(trained).__name__, **trained.config}
        torch.manual_seed(seed)
        return build_encoder({"encoder": described}, device="cpu"), sees_frames


def _sized(source: str, image_size: int | None) -> TimmSpec:
    spec = TimmSpec.parse(source)
    return spec if image_size is None else spec._replace(image_size=image_size)


def _counted_from_the_start(module: nn.Module, layers: Sequence[int]) -> tuple[int, ...]:
    """Returns block indices from 0; whether there are such blocks is said by who takes them."""
    blocks = getattr(getattr(module, "transformer", getattr(module, "model", None)), "blocks", None)
    if blocks is None:
        raise ValueError(
            f"{type(module).__name__} has no blocks to take layers {list(layers)} of; "
            "leave them out"
        )
    return tuple(index + len(blocks) if index < 0 else index for index in layers)


def _bytes_of(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
