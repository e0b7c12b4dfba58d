"""What a run costs, in the lines that `jepa estimate` and the start of `jepa fit` print."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer

from jepa.scaling.flops import StepFlops, step_flops
from jepa.scaling.hardware import hardware_named, measured_matmul_rate
from jepa.scaling.memory import StepMemory, count_parameters, step_memory
from jepa.training.pretraining import Pretraining

UTILIZATION = 0.4  # that of a good run on a GPU


class Run(NamedTuple):
    """What a config says of a run.

    Attributes:
        module: with its parameters on the meta device: without storage.
        size: (frames, height, width) of a clip.
        batch_size: clips on one device.
        accumulated: batches of one step.
        num_devices: that share a step.
        steps: of the whole run; None if it has no end.
        half: matrix products in 16 bits.
        is_sharded: weights and moments are spread over the devices.
    """

    module: Pretraining
    size: tuple[int, int, int]
    batch_size: int
    accumulated: int
    num_devices: int
    steps: int | None
    half: bool
    is_sharded: bool


class Rate(NamedTuple):
    """Operations per second, and where the figure comes from."""

    flops_per_second: float
    origin: str
    memory_gigabytes: float | None


def run_of(trainer: Trainer, module: Pretraining, data: Any) -> Run:  # noqa: ANN401
    """Returns what is about to be run.

    Raises:
        ValueError: if the data do not say how long and large their clips are.
    """
    return Run(
        module=module,
        size=clip_size(data),
        batch_size=data.batch_size,
        accumulated=trainer.accumulate_grad_batches,
        num_devices=trainer.world_size,
        steps=trainer.max_steps if trainer.max_steps > 0 else None,
        half="16" in str(trainer.precision),
        is_sharded="Fsdp" in type(trainer.strategy).__name__,
    )


def rate_of_table(name: str, *, half: bool) -> Rate:
    """Returns the rate of the data sheet."""
    row = hardware_named(name)
    teraflops = row.bf16_teraflops if half else row.fp32_teraflops
    origin = f"{name}, {teraflops:g} TFLOP/s by its data sheet"
    return Rate(1e12 * teraflops, origin, row.memory_gigabytes)


def rate_here(name: str, *, half: bool, device: torch.device | None = None) -> Rate:
    """Returns the rate of a large matrix product on this machine, measured now."""
    found = torch.accelerator.current_accelerator(check_available=True)
    device = device or found or torch.device("cpu")
    rate = measured_matmul_rate(device, torch.bfloat16 if half else torch.float32)
    memory = None
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 1e9
    return Rate(rate, f"this {device.type}, {_si(rate)}FLOP/s measured in a matrix product", memory)


def report(run: Run, rate: Rate, *, utilization: float = UTILIZATION) -> dict[str, str]:
    """Returns the lines that are printed, by their names."""
    module = run.module
    flops = step_flops(module, run.size, batch_size=run.batch_size).times(run.accumulated)
    memory = step_memory(
        module,
        run.size,
        batch_size=run.batch_size,
        dtype=torch.bfloat16 if run.half else torch.float32,
        checkpoints_activations=module.checkpoint_activations,
        num_shards=run.num_devices if run.is_sharded else 1,
    )
    clips = run.batch_size * run.accumulated * run.num_devices
    seconds = flops.total / (rate.flops_per_second * utilization)
    lines = {
        "model": f"{type(module).__name__}: encoder {_millions(module.encoder)}, predictor "
        f"{_millions(module.predictor)}",
        "clip": _clip_line(run),
        "step": f"{run.batch_size} clips x {run.num_devices} devices x {run.accumulated} "
        f"accumulated = {clips} clips",
        "compute": _compute_line(flops, run),
        "memory": _memory_line(memory, rate),
        "time": f"{rate.origin}, {utilization:.0%} used: {seconds:.3g} s a step, "
        f"{clips / seconds:.4g} clips/s",
    }
    if run.steps:
        lines["time"] += f"; {run.steps} steps in {_duration(run.steps * seconds)}"
    return lines


def clip_size(data: Any) -> tuple[int, int, int]:  # noqa: ANN401 - data modules we may not import
    """Returns frames, height and width of the clips; of a mixture those of its first source."""
    source = data.sources[0] if hasattr(data, "sources") else data
    try:
        frames = getattr(source, "clip_length_frames", 1)  # images are clips of one frame
        return frames, source.image_size, source.image_size
    except AttributeError:
        raise ValueError(
            f"{type(data).__name__} does not say how long and large its clips are; "
            "jepa estimate knows ClipDataModule, ImageDataModule and mixtures of them"
        ) from None


def _clip_line(run: Run) -> str:
    frames, height, width = run.size
    grid = run.module.encoder.grid_of(run.size)
    masks = run.module.draw_masks(
        1, grid, is_image=frames == 1, generator=torch.Generator().manual_seed(0)
    )
    shown = ", ".join(str(mask.context_ids.shape[1]) for mask in masks)
    hidden = ", ".join(str(mask.target_ids.shape[1]) for mask in masks)
    tokens = grid[0] * grid[1] * grid[2]
    return (
        f"{frames} frames of {height} x {width}: {tokens} tokens; masks show {shown} and ask for "
        f"{hidden}"
    )


def _compute_line(flops: StepFlops, run: Run) -> str:
    parts = ", ".join(f"{name} {part / flops.total:.0%}" for name, part in flops._asdict().items())
    of_a_clip = flops.total / (run.batch_size * run.accumulated)
    return f"{_si(of_a_clip)}FLOP a clip, {_si(flops.total)}FLOP a step and device ({parts})"


def _memory_line(memory: StepMemory, rate: Rate) -> str:
    parts = ", ".join(f"{name} {part / 1e9:.3g}" for name, part in memory._asdict().items())
    line = f"{memory.total / 1e9:.3g} GB a device, and work space of kernels ({parts})"
    if rate.memory_gigabytes is None:
        return line
    fits = memory.total * 1.15 < 1e9 * rate.memory_gigabytes
    return line + f"; of {rate.memory_gigabytes:.4g} GB" + ("" if fits else ": it will NOT fit")


def _millions(module: torch.nn.Module) -> str:
    return f"{count_parameters(module) / 1e6:.4g} M parameters"


def _si(value: float) -> str:
    """A number in thousands: 3.58 T."""
    for factor, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g} "


def _duration(seconds: float) -> str:
    for length, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.3g} seconds"
