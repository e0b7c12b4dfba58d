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


class ImageBatches(NamedTuple):
    """What a mixture takes beside its videos.

    Attributes:
        size: (1, height, width) of an image.
        batch_size: images on one device.
        fraction: of the batches, in (0, 1).
    """

    size: tuple[int, int, int]
    batch_size: int
    fraction: float


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
        images: batches of images among those of clips; None: there are none.
    """

    module: Pretraining
    size: tuple[int, int, int]
    batch_size: int
    accumulated: int
    num_devices: int
    steps: int | None
    half: bool
    is_sharded: bool
    images: ImageBatches | None = None

    @property
    def batches(self) -> list[tuple[tuple[int, int, int], int, float]]:
        """Sizes, batch sizes and shares of the kinds of batches: one, or clips and images."""
        if self.images is None:
            return [(self.size, self.batch_size, 1.0)]
        size, batch_size, fraction = self.images
        return [(self.size, self.batch_size, 1 - fraction), (size, batch_size, fraction)]


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
        images=images_of(data),
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
    module, flops, memory = run.module, mean_flops(run), peak_memory(run)
    clips = _clips_of_a_step(run)
    seconds = flops.total / (rate.flops_per_second * utilization)
    lines = {
        "model": f"{type(module).__name__}: encoder {_millions(module.encoder)}, predictor "
        f"{_millions(module.predictor)}",
        "clip": _clip_line(run),
        "step": _step_line(run),
        "compute": _compute_line(flops, run),
        "memory": _memory_line(memory, rate),
        "time": f"{rate.origin}, {utilization:.0%} used: {seconds:.3g} s a step, "
        f"{clips / seconds:.4g} clips/s",
    }
    if run.steps:
        lines["time"] += f"; {run.steps} steps in {_duration(run.steps * seconds)}"
    return lines


def mean_flops(run: Run) -> StepFlops:
    """Returns the operations of one step and device: of a mixture's kinds of batches their mean."""
    parts = [0.0] * len(StepFlops._fields)
    for size, batch_size, share in run.batches:
        flops = step_flops(run.module, size, batch_size=batch_size).times(run.accumulated)
        parts = [total + share * part for total, part in zip(parts, flops, strict=True)]
    return StepFlops(*(round(part) for part in parts))


def peak_memory(run: Run) -> StepMemory:
    """Returns the bytes of the kind of batch that needs most."""
    memories = [
        step_memory(
            run.module,
            size,
            batch_size=batch_size,
            dtype=torch.bfloat16 if run.half else torch.float32,
            checkpoints_activations=run.module.checkpoint_activations,
            num_shards=run.num_devices if run.is_sharded else 1,
        )
        for size, batch_size, _ in run.batches
    ]
    return max(memories, key=lambda memory: memory.total)


def images_of(data: Any) -> ImageBatches | None:  # noqa: ANN401 - data modules we may not import
    """Returns what a mixture takes beside its videos; None of other data."""
    if getattr(data, "images", None) is None:
        return None
    side = data.images.image_size
    return ImageBatches((1, side, side), data.image_batch_size, data.image_fraction)


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


def _clips_of_a_step(run: Run) -> float:
    """Clips and images of all devices."""
    of_a_batch = sum(share * batch_size for _, batch_size, share in run.batches)
    return of_a_batch * run.accumulated * run.num_devices


def _step_line(run: Run) -> str:
    line = (
        f"{run.batch_size} clips x {run.num_devices} devices x {run.accumulated} accumulated = "
        f"{run.batch_size * run.num_devices * run.accumulated} clips"
    )
    if run.images is None:
        return line
    return f"{line}; or, {run.images.fraction:.0%} of the batches, {run.images.batch_size} images"


def _clip_line(run: Run) -> str:
    lines = [_size_line(run, size) for size, _, _ in run.batches]
    return "; or ".join(lines)


def _size_line(run: Run, size: tuple[int, int, int]) -> str:
    frames, height, width = size
    grid = run.module.encoder.grid_of(size)
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
    of_a_clip = flops.total * run.num_devices / _clips_of_a_step(run)
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
