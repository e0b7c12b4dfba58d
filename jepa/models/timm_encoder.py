"""Frozen image models of timm as frame encoders: DINOv2, DINOv3, SigLIP, any ViT or conv net."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from timm.models import PretrainedCfg
    from typing_extensions import Self

TimmModel = Any  # timm's many classes agree on forward_features, and share no base that has it
TIMM_PREFIX = "timm:"
_SPEC = re.compile(TIMM_PREFIX + r"([^@:]+)(?:@([1-9][0-9]*))?(?::(.+))?")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
WEIGHT_PLACES = ("state_dict_ema", "model_ema", "state_dict", "model")  # where timm looks, in order


class TimmEncoder(nn.Module):
    """Frames to tokens with an image model of timm, always frozen and in evaluation mode.

    Args:
        name: timm's name, with the tag of its weights: "vit_small_patch14_dinov2.lvd142m". The tag
            also says how pixels are normalised.
        image_size: height and width in pixels; None: what the model was made for. Positions of a
            transformer are interpolated to it.
        pretrained: True downloads the weights that the name stands for; a path reads a local
            .safetensors or .pth file instead; False leaves them random, to be loaded.

    Raises:
        ValueError: if there is no such model, it cannot take the size, its features are no grid of
            tokens, or the file does not fit.
        OSError: if the weights cannot be downloaded or found.
    """

    def __init__(
        self,
        *,
        name: str,
        image_size: int | None = None,
        pretrained: bool | str | Path = False,
    ) -> None:
        super().__init__()
        settings = _settings_of(name)
        if image_size is None:
            image_size = _square(name, settings.input_size)
        if type(image_size) is not int:
            raise ValueError(f"image_size must be a whole number of pixels, got {image_size!r}")
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1 pixel, got {image_size}")
        self.config = {"name": name, "image_size": image_size}
        self.takes_one_size = bool(settings.fixed_input_size)
        try:
            self.model = _create(name, settings, image_size=image_size, pretrained=pretrained)
            features = _features_of_a_blank(self.model, name, image_size)
        except (AssertionError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{name}, made for {settings.input_size[-1]} pixels, cannot take "
                f"image_size={image_size}: {_first_line(error)}"
            ) from error
        self.mean, self.std = _pixel_statistics(self.model)
        self.is_channels_last = features.ndim == 4 and features.shape[1] == features.shape[2]
        tokens = self._tokens(features)  # (1, tokens, dim)
        self.dim = tokens.shape[-1]
        side, stride = _grid_of(tokens, self.model, name, image_size)
        self.grid, self.tubelet = (1, side, side), (1, stride, stride)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: neither dropout nor batch statistics in a frozen model."""
        return super().train(False)

    @torch.no_grad()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encodes every frame on its own.

        Args:
            frames: (batch, 3, time, height, width): pixels as uint8 in [0, 255], or as floats from
                which the mean and the standard deviation of this model are removed already.

        Returns:
            (batch, time, tokens of one frame, dim), row by row, without class and register tokens.

        Raises:
            ValueError: if the layout, the type or the size does not fit.
        """
        images = self._images(frames)
        tokens = self._tokens(self.model.forward_features(images))
        return tokens.unflatten(0, (len(frames), frames.shape[2]))

    @torch.no_grad()
    def frame_layers(self, frames: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Encodes, and returns what intermediate blocks of a transformer put out, normed.

        Args:
            frames: as for `encode_frames`.
            indices: blocks, from 0, ascending.

        Returns:
            For each index (batch, time, tokens of one frame, dim), through the model's last norm.

        Raises:
            ValueError: as `encode_frames`, or if there are no such blocks.
        """
        depth = len(getattr(self.model, "blocks", ()))
        if not hasattr(self.model, "forward_intermediates") or self.is_channels_last or depth == 0:
            raise ValueError(f"{self.config['name']} has no blocks of one width to take layers of")
        if not indices or list(indices) != sorted({i for i in indices if 0 <= i < depth}):
            raise ValueError(
                f"layers must be ascending block indices from 0 to {depth - 1}, got {list(indices)}"
            )
        outputs = self.model.forward_intermediates(
            self._images(frames),
            indices=list(indices),
            norm=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return [output.unflatten(0, (len(frames), frames.shape[2])) for output in outputs]

    def _images(self, frames: Tensor) -> Tensor:
        """Returns frames as normalised images (batch * time, 3, height, width)."""
        self._refuse_other_frames(frames)
        images = frames.transpose(1, 2).flatten(0, 1)
        return self._normalize(images) if images.dtype == torch.uint8 else images

    def _normalize(self, images: Tensor) -> Tensor:
        """Removes the model's own statistics from images (images, 3, height, width) uint8."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        normal = images.float().mul_(1 / 255).sub_(mean).div_(std)
        return normal.to(next(self.model.parameters()).dtype)

    def _tokens(self, features: Tensor) -> Tensor:
        """Turns what timm puts out into (images, tokens, dim)."""
        if features.ndim == 3:
            return features[:, _num_prefix_tokens(self.model) :]
        return features.flatten(1, 2) if self.is_channels_last else features.flatten(2).mT

    def _refuse_other_frames(self, frames: Tensor) -> None:
        if frames.ndim != 5 or frames.shape[1] != 3:
            raise ValueError(
                f"frames must be (batch, 3, time, height, width), got {tuple(frames.shape)}"
            )
        if frames.dtype != torch.uint8 and not frames.is_floating_point():
            raise ValueError(f"frames must be uint8 in [0, 255] or floats, got {frames.dtype}")
        (height, width), stride = frames.shape[-2:], self.tubelet[1]
        name, size = self.config["name"], self.config["image_size"]
        if self.takes_one_size and (height, width) != (size, size):
            raise ValueError(
                f"{name} is made for frames of {size} x {size} pixels, got {height} x {width}; "
                "resize them, or set another image_size"
            )
        if min(height, width) < stride or height % stride or width % stride:
            raise ValueError(
                f"{name} takes frames of multiples of {stride} pixels, got {height} x {width}"
            )


class TimmSpec(NamedTuple):
    """What "timm:NAME@SIZE:FILE" says; SIZE and FILE may be left out.

    Attributes:
        name: timm's name of the model.
        image_size: height and width in pixels; None: the model's own.
        weights_file: local weights, absolute; None: timm's, downloaded.
    """

    name: str
    image_size: int | None = None
    weights_file: Path | None = None

    @classmethod
    def parse(cls, spec: str) -> TimmSpec:
        """Reads a spec.

        Raises:
            ValueError: if it is none.
        """
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise ValueError(
                "an encoder of timm is timm:NAME, timm:NAME@SIZE or timm:NAME@SIZE:FILE, as in "
                f"timm:vit_small_patch14_dinov2.lvd142m@224; got {spec!r}"
            )
        name, size, file = match.groups()
        return cls(name, int(size) if size else None, Path(file).resolve() if file else None)

    def __str__(self) -> str:
        size = "" if self.image_size is None else f"@{self.image_size}"
        file = "" if self.weights_file is None else f":{self.weights_file}"
        return f"{TIMM_PREFIX}{self.name}{size}{file}"


def timm_encoder_from(spec: str) -> TimmEncoder:
    """Returns the pretrained encoder that a spec names.

    Args:
        spec: "timm:NAME", "timm:NAME@SIZE" or "timm:NAME@SIZE:FILE", see `TimmSpec`.

    Raises:
        ValueError: if it is no spec, or as `TimmEncoder`.
        OSError: as `TimmEncoder`.
    """
    name, image_size, weights_file = TimmSpec.parse(spec)
    return TimmEncoder(name=name, image_size=image_size, pretrained=weights_file or True)


def _settings_of(name: str) -> PretrainedCfg:
    """Returns what timm knows of a model without building it."""
    import timm

    if not isinstance(name, str):  # as a config.json may have it
        raise ValueError(f"the name of a model of timm must be a string, got {name!r}")
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(f"timm has no model {name!r}{_similar(architecture, timm.list_models())}")
    try:
        settings = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        known = timm.list_pretrained(f"{architecture}.*")
        raise ValueError(f"timm has no weights {name!r}{_similar(name, known)}") from error
    if settings is None:
        raise ValueError(f"timm has no settings for {name!r}; choose a model of timm.list_models()")
    return settings


def _similar(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else "; timm.list_models() names all"


def _square(name: str, input_size: tuple[int, int, int]) -> int:
    _, height, width = input_size
    if height != width:
        raise ValueError(f"{name} is made for {height} x {width} pixels: set image_size")
    return height


def _create(
    name: str,
    settings: PretrainedCfg,
    *,
    image_size: int,
    pretrained: bool | str | Path,
) -> TimmModel:
    import timm

    options: dict[str, Any] = {"num_classes": 0, "pretrained": bool(pretrained)}
    if image_size != settings.input_size[-1] and settings.fixed_input_size:
        options["img_size"] = image_size
    try:
        if isinstance(pretrained, str | Path):
            return _with_weights_of(Path(pretrained), name, settings, options)
        if pretrained and not settings.has_weights:
            raise ValueError(
                f"timm has no weights for {name!r}: give a file, {TIMM_PREFIX}{name}@SIZE:FILE"
            )
        return timm.create_model(name, **options)
    except OSError as error:
        if pretrained is not True:
            raise
        raise OSError(
            f"the weights of {name!r} could not be downloaded: check the connection, or download "
            f"them elsewhere and give the file as {TIMM_PREFIX}{name}@{image_size}:FILE "
            f"({_first_line(error)})"
        ) from error


def _with_weights_of(
    file: Path,
    name: str,
    settings: PretrainedCfg,
    options: dict[str, Any],
) -> TimmModel:
    """Builds a model with the weights of a local file: all of them, except its classifier.

    timm renames and interpolates what it reads. It forgives missing weights as soon as the number
    of classes is changed, so the file is told to be without classes, too.
    """
    import timm

    weights = _read_weights(file)
    classifiers = settings.classifier or ()
    for classifier in (classifiers,) if isinstance(classifiers, str) else classifiers:
        for kind in ("weight", "bias"):
            weights.pop(f"{classifier}.{kind}", None)
    if not weights:
        raise ValueError(f"{file} holds no weights of {name!r}")
    headless = {"state_dict": weights, "num_classes": 0, "label_offset": 0, "custom_load": False}
    try:
        model: TimmModel = timm.create_model(name, pretrained_cfg_overlay=headless, **options)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{file} does not fit {name!r}: {reason}") from error
    model.pretrained_cfg.pop("state_dict", None)  # else the model keeps them a second time
    return model


def _read_weights(file: Path) -> dict[str, Tensor]:
    from timm.models import clean_state_dict

    from jepa.checkpoints.official_file import open_checkpoint

    if not file.is_file():
        raise FileNotFoundError(f"no weights at {file}")
    if file.suffix not in WEIGHT_SUFFIXES:
        raise ValueError(f"weights must be one of {', '.join(WEIGHT_SUFFIXES)}, got {file}")
    if file.suffix == ".safetensors":
        try:
            weights = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} cannot be read: {_first_line(error)}") from error
    else:
        content = open_checkpoint(file)
        place = next((key for key in WEIGHT_PLACES if content.get(key) is not None), None)
        weights = content if place is None else content[place]
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"{file} holds something else than the weights of a model")
    return clean_state_dict(weights)


def _pixel_statistics(model: TimmModel) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of red, green and blue in [0, 1]."""
    from timm.data.config import resolve_model_data_config

    data = resolve_model_data_config(model)
    return tuple(data["mean"]), tuple(data["std"])


@torch.no_grad()
def _features_of_a_blank(model: TimmModel, name: str, image_size: int) -> Tensor:
    """Returns the features of one black image: a look says more than timm's many attributes."""
    features = model.eval().forward_features(torch.zeros(1, 3, image_size, image_size))
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"{name} has no grid of tokens: its features are {shape}, not (batch, tokens, dim), "
            "(batch, dim, height, width) or (batch, height, width, dim)"
        )
    if features.ndim == 3 and features.shape[1] == 1 and not _num_prefix_tokens(model):
        raise ValueError(f"{name} has no grid of tokens: its features are one token of the image")
    return features


def _grid_of(tokens: Tensor, model: TimmModel, name: str, image_size: int) -> tuple[int, int]:
    """Returns the tokens of a row, and the pixels of a token."""
    num_tokens = tokens.shape[1]
    side = round(num_tokens**0.5)
    if side**2 != num_tokens:
        raise ValueError(f"{name} has no square grid of tokens: its features hold {num_tokens}")
    feature_info = getattr(model, "feature_info", None)
    stride = feature_info[-1]["reduction"] if feature_info else max(1, image_size // side)
    if side * stride != image_size:
        low = max(stride, image_size // stride * stride)
        raise ValueError(
            f"{name} cuts image_size={image_size} into {side} x {side} tokens of {stride} pixels, "
            f"which do not fill it; use {low} or {low + stride}"
        )
    return side, stride


def _num_prefix_tokens(model: TimmModel) -> int:
    """Returns how many class and register tokens come before those of patches."""
    return getattr(model, "num_prefix_tokens", 0)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
