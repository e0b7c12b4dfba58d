"""The training steps that `pretraining_step.py` compares: the official one, a plain one, ours.

All start from the same weights and are given the same clips and masks. A step is a generator of
its phases, so that one code is timed as a whole and phase by phase.

The official step is put together from the modules of a checkout of facebookresearch/vjepa2 (its
models, its wrappers of several masks, its gathering by masks), in the order of its training loop:
nothing of it is written here. Its loop casts on CUDA only, so on a CPU it runs in float32; with
autocast is what a CPU could have given it. The plain step is a textbook's, for whoever has no
checkout: rotary tables rebuilt in every layer, all tokens embedded for every mask, AdamW as it
comes.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.checkpoints.official_names import encoder_to_official, predictor_to_official
from jepa.masking import Mask, MaskSampler, ReferenceMultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder, normalize_pixels, take_tokens
from jepa.models.rope import grid_coordinates, rope_angles
from jepa.models.sizes import EncoderSize
from jepa.training.optimizers import adamw
from jepa.training.pretraining import Pretraining

LEARNING_RATE, WEIGHT_DECAY, MOMENTUM = 1e-4, 0.04, 0.99925
TUBELET, PATCH = 2, 16


class Case(NamedTuple):
    """A model and a batch.

    Attributes:
        name: as in the tables.
        size: of the encoder.
        frames: of a clip.
        pixels: height and width of a clip.
        batch: clips of a step.
        predictor: its width, depth and heads.
    """

    name: str
    size: EncoderSize
    frames: int
    pixels: int
    batch: int
    predictor: EncoderSize

    @property
    def grid(self) -> tuple[int, int, int]:
        """(time, height, width) in tokens."""
        return self.frames // TUBELET, self.pixels // PATCH, self.pixels // PATCH


class Work(NamedTuple):
    """What a step is given.

    Attributes:
        index: of the step; our step draws `masks` from it again.
        pixels: (batch, 3, time, height, width) uint8, which our step gets.
        video: the same, normalised, which the others get: there the loader does it.
        masks: of both samplers; the others get them: there the loader draws them.
    """

    index: int
    pixels: Tensor
    video: Tensor
    masks: list[Mask]


class Step:
    """A training step and its models."""

    encoder: nn.Module
    predictor: nn.Module
    target: nn.Module
    loss: Tensor
    dtype: torch.dtype | None = None  # of autocast
    keeps_casts = True  # whether autocast keeps its copies of the weights until the forward is over

    def forward(self, work: Work) -> Iterator[str]:
        """Computes `loss`; yields the name of every phase that is over."""
        raise NotImplementedError

    def update(self) -> Iterator[str]:
        """Steps the optimizer and the target, and drops the gradients."""
        raise NotImplementedError

    def phases(self, work: Work) -> Iterator[str]:
        """Runs the step; yields the name of every phase that is over."""
        with torch.autocast(
            work.video.device.type,
            self.dtype,
            enabled=self.dtype is not None,
            cache_enabled=self.keeps_casts,
        ):
            yield from self.forward(work)
        self.loss.backward()
        yield "backward"
        yield from self.update()

    def run(self, work: Work) -> float:
        """Runs the step and returns its loss."""
        for _ in self.phases(work):
            pass
        return float(self.loss.detach())

    def gradients(self, work: Work) -> dict[str, Tensor]:
        """Returns the gradients at this moment by official names, and updates nothing."""
        for phase in self.phases(work):
            if phase == "backward":
                break
        found = {
            f"{part}.{name}": parameter.grad.clone()
            for part in ("encoder", "predictor")
            for name, parameter in self._official(part)
            if parameter.grad is not None
        }
        for parameter in (*self.encoder.parameters(), *self.predictor.parameters()):
            parameter.grad = None
        return found

    def _official(self, part: str) -> Sequence[tuple[str, nn.Parameter]]:
        """Names parameters as the official modules do: a copy carries gradients as its weights."""
        online: nn.Module = getattr(self, part)
        model: Any = copy.deepcopy(online)
        for carrier, parameter in zip(model.parameters(), online.parameters(), strict=True):
            carrier.data = parameter.grad
        is_encoder = part == "encoder"
        state = (
            encoder_to_official(model)
            if is_encoder
            else predictor_to_official(model, has_one_mask_token=False)
        )
        found = {name: nn.Parameter(value) for name, value in state.items()}
        for parameter in found.values():
            parameter.grad = parameter.data
        return list(found.items())


class TextbookStep(Step):
    """What the official step and the plain one have in common: how they learn."""

    def prepare(self) -> None:
        """Makes target and optimizer from encoder and predictor."""
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        parameters = [*self.encoder.parameters(), *self.predictor.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)

    def update(self) -> Iterator[str]:
        """See `Step.update`."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        yield "optimizer"
        slow: list[Tensor] = list(self.target.parameters())
        with torch.no_grad():
            torch._foreach_mul_(slow, MOMENTUM)  # pyright: ignore[reportPrivateImportUsage]
            online: list[Tensor] = list(self.encoder.parameters())
            torch._foreach_add_(  # pyright: ignore[reportPrivateImportUsage]
                slow, online, alpha=1 - MOMENTUM
            )
        yield "moving average"


class OfficialStep(TextbookStep):
    """The step of the released V-JEPA 2 training loop.

    Args:
        modules: of the checkout, see `official_modules`.
        case: the model.
        ours: whose weights are copied.
        dtype: of autocast; None: float32.
        has_checkpointing: recompute activations, as its configurations do.
    """

    def __init__(
        self,
        modules: types.SimpleNamespace,
        case: Case,
        ours: Pretraining,
        *,
        dtype: torch.dtype | None = None,
        has_checkpointing: bool = False,
    ) -> None:
        size, predictor = case.size, case.predictor
        both: dict[str, Any] = {
            "img_size": (case.pixels, case.pixels),
            "patch_size": PATCH,
            "num_frames": case.frames,
            "tubelet_size": TUBELET,
            "embed_dim": size.dim,
            "use_rope": True,
            "use_activation_checkpointing": has_checkpointing,
            "norm_layer": lambda dim: nn.LayerNorm(dim, eps=1e-6),
            "mlp_ratio": 4.0,
            "qkv_bias": True,
        }
        encoder = modules.VisionTransformer(depth=size.depth, num_heads=size.num_heads, **both)
        masked = modules.VisionTransformerPredictor(
            predictor_embed_dim=predictor.dim,
            depth=predictor.depth,
            num_heads=predictor.num_heads,
            use_mask_tokens=True,
            num_mask_tokens=1,
            zero_init_mask_tokens=True,
            **both,
        )
        encoder.load_state_dict(encoder_to_official(ours.encoder))
        masked.load_state_dict(predictor_to_official(ours.predictor, has_one_mask_token=False))
        self.encoder = modules.MultiSeqWrapper(encoder)
        self.predictor = modules.PredictorMultiSeqWrapper(masked)
        self.apply_masks, self.dtype = modules.apply_masks, dtype
        self.prepare()

    def forward(self, work: Work) -> Iterator[str]:
        """See `Step.forward`."""
        shown = [[mask.context_ids for mask in work.masks]]  # one clip length: one list
        asked = [[mask.target_ids for mask in work.masks]]
        with torch.no_grad():
            targets = self.target([work.video])
            targets = [F.layer_norm(target, target.shape[-1:]) for target in targets]
        yield "target encoder"
        context = self.encoder([work.video], shown)
        yield "context encoder"
        predicted = self.predictor(context, shown, asked)
        yield "predictor"
        wanted = self.apply_masks(targets[0], asked[0], concat=False)
        pairs = list(zip(predicted[0], wanted, strict=True))
        self.loss = torch.stack([(z - h).abs().mean() for z, h in pairs]).mean()
        yield "objective"

    def _official(self, part: str) -> Sequence[tuple[str, nn.Parameter]]:
        return list(getattr(self, part).backbone.named_parameters())


def official_modules(checkout: Path) -> types.SimpleNamespace:
    """Imports the modules of a checkout of facebookresearch/vjepa2.

    It wants einops for a tokenizer that its models never make; without it a stand-in is enough.

    Raises:
        SystemExit: if there is no such checkout, or what it imports is missing.
    """
    if not (checkout / "src" / "models" / "vision_transformer.py").is_file():
        raise SystemExit(f"{checkout} is no checkout of facebookresearch/vjepa2")
    if "einops" not in sys.modules and importlib.util.find_spec("einops") is None:
        sys.modules["einops"] = types.ModuleType("einops")
        sys.modules["einops"].rearrange = None  # type: ignore[attr-defined]
    sys.path.insert(0, str(checkout))
    found = types.SimpleNamespace()
    for module, names in {
        "src.models.vision_transformer": ["VisionTransformer"],
        "src.models.predictor": ["VisionTransformerPredictor"],
        "src.utils.wrappers": ["MultiSeqWrapper", "PredictorMultiSeqWrapper"],
        "src.masks.utils": ["apply_masks"],
    }.items():
        for name in names:
            setattr(found, name, getattr(importlib.import_module(module), name))
    return found


class OurStep(Step):
    """`Pretraining`, phase by phase as its training_step and optimizer_step go."""

    keeps_casts = False  # so does Lightning's bf16-mixed

    def __init__(self, module: Pretraining, *, dtype: torch.dtype | None = None) -> None:
        self.module, self.dtype = module, dtype
        self.encoder, self.predictor = module.encoder, module.predictor
        self.optimizer = adamw(
            module.trained_modules(), learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )

    def forward(self, work: Work) -> Iterator[str]:
        """See `Step.forward`."""
        module = self.module
        video = normalize_pixels(work.pixels)
        yield "pixels"
        masks = module.sample_masks(video, step=work.index)
        yield "masks"
        target = module.target(video)
        yield "target encoder"
        predicted = module.predict(video, masks)
        yield "context encoder, predictor"
        grid = work_grid(module.encoder, video)
        self.loss = module.compare(predicted, target, masks, grid=grid).total
        yield "objective"

    def update(self) -> Iterator[str]:
        """See `Step.update`."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        yield "optimizer"
        self.module.target_encoder.update(self.module.encoder, progress=0.0)
        yield "moving average"


class PlainStep(TextbookStep):
    """A textbook's step on our weights, for whoever has no checkout of the official code.

    Rotary angles are computed in every layer, for queries and for keys; every mask embeds all
    tokens before it drops the hidden ones; the predictor sorts its tokens and sorts them back.

    Args:
        ours: whose weights are copied.
        dtype: of autocast; None: float32.
    """

    def __init__(self, ours: Pretraining, *, dtype: torch.dtype | None = None) -> None:
        self.encoder = copy.deepcopy(ours.encoder)
        self.predictor = copy.deepcopy(ours.predictor)
        self.dtype = dtype
        self.prepare()

    def forward(self, work: Work) -> Iterator[str]:
        """See `Step.forward`."""
        with torch.no_grad():
            target = plain_encoder(self.target, work.video, None)
            target = F.layer_norm(target, target.shape[-1:])
        yield "target encoder"
        context = [plain_encoder(self.encoder, work.video, m.context_ids) for m in work.masks]
        yield "context encoder"
        grid = work_grid(self.encoder, work.video)
        predicted = [
            plain_predictor(self.predictor, tokens, mask, grid)
            for tokens, mask in zip(context, work.masks, strict=True)
        ]
        yield "predictor"
        wanted = [take_tokens(target, mask.target_ids) for mask in work.masks]
        pairs = list(zip(predicted, wanted, strict=True))
        self.loss = torch.stack([(z - h).abs().mean() for z, h in pairs]).mean()
        yield "objective"


def work_grid(encoder: Any, video: Tensor) -> tuple[int, int, int]:
    """Returns (time, height, width) of a video in tokens."""
    time, height, width = video.shape[2:]
    return encoder.grid_of((time, height, width))


def plain_encoder(encoder: Any, video: Tensor, ids: Tensor | None) -> Tensor:
    """Embeds all tokens, keeps those of ids, and encodes them."""
    tokens = encoder.patch_embed(video).flatten(2).transpose(1, 2)  # (batch, tokens, dim)
    places = grid_coordinates(work_grid(encoder, video), video.device)
    if ids is not None:
        tokens, places = take_tokens(tokens, ids), places[ids]
    return plain_transformer(encoder.transformer, tokens, places)


def plain_predictor(
    predictor: Any,
    context: Tensor,
    mask: Mask,
    grid: tuple[int, int, int],
) -> Tensor:
    """Predicts, with all tokens in the order of their places."""
    asked = predictor.mask_tokens[0].expand(*mask.target_ids.shape, -1)
    tokens = torch.cat((predictor.embed(context), asked), dim=1)
    ids = torch.cat((mask.context_ids, mask.target_ids), dim=1)
    order = ids.argsort(dim=1)
    places = grid_coordinates(grid, context.device)[ids.gather(1, order)]
    tokens = plain_transformer(predictor.transformer, take_tokens(tokens, order), places)
    tokens = take_tokens(tokens, order.argsort(dim=1))
    return predictor.proj(tokens[:, context.shape[1] :])


def plain_transformer(transformer: Any, x: Tensor, places: Tensor) -> Tensor:
    """Runs pre-norm blocks and the final norm."""
    for block in transformer.blocks:
        qkv = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, block.attn.num_heads, -1))
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
        queries, keys = plain_rotation(queries, places), plain_rotation(keys, places)
        attended = F.scaled_dot_product_attention(queries, keys, values)
        x = x + block.attn.proj(attended.transpose(1, 2).flatten(2))
        x = x + nn.Sequential.forward(block.mlp, block.norm2(x))
    return transformer.norm(x)


def plain_rotation(x: Tensor, places: Tensor) -> Tensor:
    """Rotates (batch, heads, tokens, head_dim) by places (..., tokens, 3), tiled."""
    angles = rope_angles(places, head_dim=x.shape[-1], style="tiled").to(x.dtype)
    angles = angles.unsqueeze(-4) if angles.ndim == 4 else angles  # (..., 1, tokens, 2, pairs)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    first, second = angles.unbind(-2)
    turned = even * first.cos() - odd * first.sin(), odd * second.cos() + even * second.sin()
    return torch.stack(turned, dim=-1).flatten(-2)


def make_pretraining(case: Case, *, seed: int = 0) -> Pretraining:
    """Returns our module of a case, in the position style of the released V-JEPA 2."""
    torch.manual_seed(seed)
    encoder = VideoEncoder(
        image_size=case.pixels,
        clip_length_frames=case.frames,
        dim=case.size.dim,
        depth=case.size.depth,
        num_heads=case.size.num_heads,
        positions="rope_tiled",
    )
    predictor = MaskedLatentPredictor(
        encoder_dim=case.size.dim,
        dim=case.predictor.dim,
        depth=case.predictor.depth,
        num_heads=case.predictor.num_heads,
        positions="rope_tiled",
    )
    samplers: list[MaskSampler] = [
        ReferenceMultiBlock(num_blocks=8, spatial_scale=0.15),
        ReferenceMultiBlock(num_blocks=2, spatial_scale=0.7),
    ]
    return Pretraining(encoder, predictor, masks=samplers, ema_momentum=(MOMENTUM, MOMENTUM))
