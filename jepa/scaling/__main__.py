"""`jepa estimate`: what a pretraining run will cost, before it starts and without its data.

    jepa estimate --config pretrain/vitl16_256.yaml --hardware h100
    jepa estimate --config pretrain/tiny.yaml                       # on this machine, measured
    jepa estimate --config pretrain/tiny.yaml --data.batch_size 64  # any option of jepa fit

Operations and parameters are exact; memory is what shapes tell, to which kernels add 10 to 20 %;
the time follows from the utilization that you assume (0.4 unless told: a good run on a GPU).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from jepa.configs_folder import with_found_configs
from jepa.lightning_cli import JepaCLI, OneLineErrorParser
from jepa.scaling.flops import StepFlops, step_flops
from jepa.scaling.hardware import hardware_named, measured_matmul_rate
from jepa.scaling.memory import StepMemory, count_parameters, step_memory
from jepa.training.pretraining import Pretraining


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


def main(argv: list[str]) -> int:
    """Prints the estimate; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="jepa estimate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hardware", default="here", help="a name of the table, or 'here'")
    parser.add_argument("--utilization", type=float, default=0.4, help="share of the rate, (0, 1]")
    options, rest = parser.parse_known_args(argv)
    if not 0 < options.utilization <= 1:
        raise ValueError(f"--utilization must be above 0 and at most 1, got {options.utilization}")
    if not rest:
        raise ValueError("nothing to estimate: give --config, as for jepa fit")
    rate_of = rate_here if options.hardware == "here" else rate_of_table
    run = read_run(rest)
    print("\n".join(report(run, rate_of(options.hardware, half=run.half), options.utilization)))
    return 0


def read_run(arguments: Sequence[str]) -> Run:
    """Reads the options of `jepa fit`; no data are opened, no weights are made.

    Raises:
        ValueError: if the model is no pretraining, or the data are no clips.
    """
    cli = _ConfigOnly(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        run=False,
        seed_everything_default=False,
        save_config_callback=None,
        auto_configure_optimizers=False,
        parser_class=OneLineErrorParser,
        args=with_found_configs(list(arguments)),
    )
    if not isinstance(cli.model, Pretraining):
        raise ValueError(
            f"jepa estimate knows pretraining, not {type(cli.model).__name__}: name a config whose "
            "model is a jepa.training pretraining"
        )
    trainer, data = cli.config["trainer"], cli.datamodule
    devices = trainer["devices"] if isinstance(trainer["devices"], int) else 1
    precision = str(trainer["precision"] or "32")
    return Run(
        module=cli.model,
        size=_size_of(data),
        batch_size=data.batch_size,
        accumulated=trainer["accumulate_grad_batches"],
        num_devices=max(devices, 1) * trainer["num_nodes"],
        steps=trainer["max_steps"] if trainer["max_steps"] > 0 else None,
        half="16" in precision,
        is_sharded="ModelParallel" in str(trainer["strategy"])
        or "fsdp" in str(trainer["strategy"]),
    )


def rate_of_table(name: str, *, half: bool) -> Rate:
    """Returns the rate of the data sheet."""
    row = hardware_named(name)
    teraflops = row.bf16_teraflops if half else row.fp32_teraflops
    origin = f"{name}, {teraflops:g} TFLOP/s by its data sheet"
    return Rate(1e12 * teraflops, origin, row.memory_gigabytes)


def rate_here(name: str, *, half: bool) -> Rate:
    """Returns the rate of a large matrix product on this machine, measured now."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    rate = measured_matmul_rate(device, torch.bfloat16 if half else torch.float32, seconds=0.5)
    memory = None
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 1e9
    return Rate(rate, f"this {device.type}, {_si(rate)}FLOP/s measured in a matrix product", memory)


def report(run: Run, rate: Rate, utilization: float) -> list[str]:
    """Returns the lines that are printed."""
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
    return [f"{name:<8}  {line}" for name, line in lines.items()]


class _ConfigOnly(LightningCLI):
    """Reads a config and builds model and data, without storage; no trainer, no run folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what `jepa fit` adds, so that its configs can be read."""
        JepaCLI.add_arguments_to_parser(self, parser)  # pyright: ignore[reportArgumentType]

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parses; without the parent's warning that sys.argv exists too."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Builds model and data."""
        with torch.device("meta"):
            self.config_init: Any = self.parser.instantiate_classes(self.config)
        self.datamodule: Any = self.config_init["data"]
        self.model: Any = self.config_init["model"]


def _size_of(data: Any) -> tuple[int, int, int]:  # noqa: ANN401 - data modules we may not import
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
