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
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from jepa.allowed_classes import only_allowed_classes, take_allowed
from jepa.config_errors import ConfigError, explain_refusal
from jepa.configs_folder import with_found_configs
from jepa.lightning_cli import JepaCLI, OneLineErrorParser
from jepa.scaling.report import (
    UTILIZATION,
    Run,
    clip_size,
    images_of,
    rate_here,
    rate_of_table,
    report,
)
from jepa.training.pretraining import Pretraining


def main(argv: list[str]) -> int:
    """Prints the estimate; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="jepa estimate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hardware", default="here", help="a name of the table, or 'here'")
    parser.add_argument(
        "--utilization", type=float, default=UTILIZATION, help="share of the rate, (0, 1]"
    )
    options, rest = parser.parse_known_args(argv)
    if not 0 < options.utilization <= 1:
        raise ValueError(f"--utilization must be above 0 and at most 1, got {options.utilization}")
    if not rest:
        raise ValueError("nothing to estimate: give --config, as for jepa fit")
    rate_of = rate_here if options.hardware == "here" else rate_of_table
    run = read_run(rest)
    rate = rate_of(options.hardware, half=run.half)
    for name, line in report(run, rate, utilization=options.utilization).items():
        print(f"{name:<8}  {line}")
    return 0


def read_run(arguments: Sequence[str]) -> Run:
    """Reads the options of `jepa fit`; no data are opened, no weights are made.

    Raises:
        ValueError: if the model is no pretraining, or the data are no clips.
    """
    rest, allowed = take_allowed(with_found_configs(arguments))
    with only_allowed_classes(allowed):
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
            args=rest,
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
        size=clip_size(data),
        batch_size=data.batch_size,
        accumulated=trainer["accumulate_grad_batches"],
        num_devices=max(devices, 1) * trainer["num_nodes"],
        steps=trainer["max_steps"] if trainer["max_steps"] > 0 else None,
        half="16" in precision,
        is_sharded="ModelParallel" in str(trainer["strategy"])
        or "fsdp" in str(trainer["strategy"]),
        images=images_of(data),
    )


class _ConfigOnly(LightningCLI):
    """Reads a config and builds model and data, without storage; no trainer, no run folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what `jepa fit` adds, so that its configs can be read."""
        JepaCLI.add_arguments_to_parser(self, parser)  # pyright: ignore[reportArgumentType]

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parses; without the parent's warning that sys.argv exists too."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Builds model and data; what a class refuses is one line."""
        try:
            with torch.device("meta"):
                self.config_init: Any = self.parser.instantiate_classes(self.config)
        except (TypeError, ValueError) as error:
            raise ConfigError(explain_refusal(str(error))) from error
        self.datamodule: Any = self.config_init["data"]
        self.model: Any = self.config_init["model"]
