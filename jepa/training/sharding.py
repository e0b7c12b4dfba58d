"""Models cut over ranks (FSDP2), and put together again where a whole one is needed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.constants import default_pg_timeout
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from jepa.checkpoint_digest import refuse_damage
from jepa.checkpoints.native import load_weights
from jepa.models import JepaModel, MaskedLatentPredictor, VideoEncoder
from jepa.training.model_blocks import blocks_of

FORWARD_METHODS = ("levels", "predict_all", "encode_frames")  # compute as forward does


class Fsdp2Strategy(ModelParallelStrategy):
    """`--trainer.strategy fsdp2`: weights, gradients and moments are cut over all ranks.

    A checkpoint is one whole file, written by rank 0, as that of every other strategy: it resumes
    on any number of ranks. (Sharded checkpoint folders of torch run code when they are loaded.)

    Args:
        process_group_backend: None: that of the device.
        timeout: after which a rank that waits for another gives up. None: that of torch.
    """

    def __init__(
        self,
        process_group_backend: str | None = None,
        timeout: timedelta | None = None,
    ) -> None:
        super().__init__(
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout or default_pg_timeout,
        )

    def setup_environment(self) -> None:
        """One mesh of all ranks, where the parent takes a node's devices for one model."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads one that is not damaged; whatever is asked for, no code in it is run."""
        refuse_damage(Path(self.broadcast(checkpoint_path)))
        return super().load_checkpoint(checkpoint_path, weights_only=True)


def shard_over(mesh: DeviceMesh, modules: Iterable[nn.Module]) -> None:
    """Cuts modules, and each of their blocks by itself, over the ranks of a mesh."""
    for module in modules:
        if isinstance(module, nn.ModuleList):  # has no forward of its own to gather weights in
            shard_over(mesh, module)
        elif any(True for _ in module.parameters()):
            for part in (*blocks_of([module]), module):
                fully_shard(part, mesh=mesh, reshard_after_forward=True)  # or a target stays whole
            for name in FORWARD_METHODS:
                if hasattr(module, name):
                    register_fsdp_forward_method(module, name)


def is_sharded(module: nn.Module) -> bool:
    """True if this rank holds a part of the weights only."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole_model(model: JepaModel, *, keeps: bool) -> JepaModel:
    """Returns the model itself, or a whole copy of a sharded one. Every rank has to call this.

    Args:
        model: whole or sharded, with a predictor.
        keeps: this rank wants the copy; the others help, and get their shards back.
    """
    if not is_sharded(model):
        return model
    weights = {name: _gathered(value, keeps=keeps) for name, value in model.state_dict().items()}
    if not keeps:
        return model
    assert model.predictor is not None
    with torch.device("meta"):  # sharding gives modules classes of its own: these are the real ones
        encoder = VideoEncoder(**model.encoder.config)
        predictor = MaskedLatentPredictor(**model.predictor.config)
    copy = JepaModel(encoder, predictor=predictor, source=model.source)
    load_weights(copy, weights, source="the sharded model")
    return copy


def whole_tensor(value: Tensor) -> Tensor:
    """Returns a tensor itself, or all of a sharded one. Every rank has to call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def fill(parameter: Tensor, values: Tensor) -> None:
    """Writes values into a parameter, or each rank its part of them. Every rank has to call this.

    Args:
        parameter: whole or sharded.
        values: whole, in the shape of the parameter; of a sharded one those of rank 0 count.
    """
    if isinstance(parameter, DTensor):
        values = distribute_tensor(values, parameter.device_mesh, parameter.placements)
    parameter.copy_(values)


@torch.no_grad()
def _gathered(value: Tensor, *, keeps: bool) -> Tensor:
    whole = whole_tensor(value)
    return whole.cpu() if keeps else whole.new_empty(0)
