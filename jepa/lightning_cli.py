"""`jepa fit | validate | test | predict`: Lightning's command line, with a run folder.

    jepa fit --config pretrain/tiny.yaml --trainer.max_steps 100
    jepa fit --config pretrain/tiny.yaml --ckpt_path last          # goes on where it stopped
    jepa fit --config pretrain/tiny.yaml --config mine.yaml        # the later one wins
    jepa fit --config cooldown.yaml --from runs/pretrain/tiny/checkpoints/last.ckpt   # a new run
    jepa validate --config runs/pretrain/tiny/config.yaml --ckpt_path last

Model and data are any LightningModule and LightningDataModule, named by `class_path`. The config
says what the model is; a checkpoint holds only its state. See `jepa.run_folder` for what a run
leaves behind.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.strategies import StrategyRegistry

from jepa import run_folder
from jepa.allowed_classes import only_allowed_classes, take_allowed
from jepa.checkpoint_file import check_checkpoint, newest_good
from jepa.checkpoint_saving import AtomicCheckpointIO
from jepa.command_line import is_interrupt
from jepa.config_errors import ConfigError, explain, explain_refusal
from jepa.configs_folder import with_found_configs
from jepa.lost_rank import RankWatch, mark_launcher
from jepa.run_lock import RunLock
from jepa.scaling.report import rate_here, report, run_of
from jepa.termination import SaveWhenTerminated, WholeUpdateCheckpoint
from jepa.training.optimization import OptimizedModule
from jepa.training.pretraining import Pretraining
from jepa.training.sharding import Fsdp2Strategy
from jepa.wandb_account import has_wandb_key

SEED = 0
SECONDS_BETWEEN_LINES = 10.0
FAILED_SAVES_ALLOWED = 2  # in a row: a disk that is full for hours loses hours
NOISE = (
    "\N{ELECTRIC LIGHT BULB} Tip:",
    "TPU available",
    "\nDetected KeyboardInterrupt",  # said by `command_line.run`, with how to go on
)
CHECKPOINT_DEFAULTS = {
    "checkpoint.save_last": True,
    "checkpoint.save_top_k": 0,  # one file, always the newest: last.ckpt
    "checkpoint.enable_version_counter": False,  # an earlier run has been set aside
}


def main(argv: list[str]) -> int:
    """Runs one verb.

    Args:
        argv: the verb, then its options. With several processes, Lightning starts the others by
            the process's own command line, so it must say the same.

    Returns:
        The exit code.
    """
    _quieten_lightning()
    mark_launcher()
    if "fsdp2" not in StrategyRegistry:
        StrategyRegistry.register("fsdp2", Fsdp2Strategy, "weights cut over all ranks")
    arguments, allowed = take_allowed(with_found_configs(argv))
    with only_allowed_classes(allowed):
        JepaCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=SEED,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "use_distributed_sampler": False,  # the streams know their rank
                "callbacks": [SaveWhenTerminated(), RankWatch(), PredictionFiles()],
            },
            auto_configure_optimizers=False,
            parser_class=OneLineErrorParser,
            args=arguments,
        )
    return 0


class OneLineErrorParser(LightningArgumentParser):
    """Raises a ConfigError of one line, where the parent prints a page and exits."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises; parsers made inside jsonargparse keep its own way, as it catches their errors."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        raise ConfigError(explain(message, _option_names(parser))) from ex


class JepaCLI(LightningCLI):
    """LightningCLI with a run folder, --wandb, --name, --from and `--ckpt_path last`."""

    folder: Path
    checkpoint: Path | None = None
    resumed_step: int = 0
    lock: RunLock | None = None  # of rank 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - LightningCLI's own
        """Runs the verb; whatever happens, the run's folder is free again at the end."""
        try:
            super().__init__(*args, **kwargs)
        finally:
            if self.lock:
                self.lock.release()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds --name, --from, --wandb and the checkpoint section."""
        parser.add_argument(
            "--name",
            type=str | None,
            help="The run goes to runs/<name>. Default: the name of the first config.",
        )
        parser.add_argument(
            "--from",
            type=str | None,
            help="Start a new run (fit) from the weights of a checkpoint or of a model's folder. "
            "With --ckpt_path, which goes on with this run, it is history.",
        )
        parser.add_argument(
            "--from_optimizer",
            type=bool,
            default=False,
            help="With --from a checkpoint: start with the moments of its optimizer too.",
        )
        parser.add_argument(
            "--wandb",
            type=bool | Literal["online", "offline"],
            default=False,
            help="Log to Weights & Biases too; offline needs no account. metrics.csv is always on.",
        )
        parser.add_lightning_class_args(WholeUpdateCheckpoint, "checkpoint")
        parser.set_defaults(CHECKPOINT_DEFAULTS)

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Parses; without the parent's warning that sys.argv exists too, as it says the same."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leaves the config as it is: the parent would replace it by what the checkpoint holds."""

    def before_instantiate_classes(self) -> None:
        """Finds out all that can be wrong outside of the model, before it is built."""
        self.folder = self._choose_folder()
        if rank_zero_only.rank == 0:
            run_folder.make_writable(self.verb_folder)
            self.lock = RunLock(self.verb_folder)
            self.lock.take()
        if self.settings.ckpt_path:
            self._choose_checkpoint(self.settings.ckpt_path)
        if self.settings.wandb:
            _check_wandb_account(self.settings.wandb)

    def instantiate_classes(self) -> None:
        """Builds model, data and trainer; an argument of a wrong kind is the config's fault."""
        try:
            super().instantiate_classes()
        except TypeError as error:
            raise ConfigError(f"the config cannot be built: {error}") from error
        except ValueError as error:
            raise ConfigError(explain_refusal(str(error))) from error
        self.config_init[self.verb].ckpt_path = self.checkpoint and str(self.checkpoint)
        if isinstance(self.model, OptimizedModule) and self.verb == "fit":
            self._prepare_weights(self.model)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Trainer's own
        """The configured trainer, with our loggers and our way to write checkpoints."""
        checkpoint = self.config_init[self.verb].checkpoint
        checkpoint.dirpath = checkpoint.dirpath or str(self.folder / "checkpoints")
        configured = self.config_init[self.verb].trainer
        if configured.enable_checkpointing is False:
            self._parser(self.verb).callback_keys.remove("checkpoint")
        kwargs["default_root_dir"] = str(self.folder)
        if configured.logger is not False:
            kwargs["logger"] = self._loggers(configured.logger)
        self.saving = AtomicCheckpointIO(failures_allowed=FAILED_SAVES_ALLOWED)
        kwargs["plugins"] = [*_as_list(configured.plugins), self.saving]
        if configured.enable_progress_bar is None and not sys.stdout.isatty():
            kwargs["enable_progress_bar"] = False
            kwargs["callbacks"] = [*_as_list(configured.callbacks), ProgressLines()]
        return super().instantiate_trainer(**kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        """Says what is going to happen, clears the desk, and lets it happen."""
        if rank_zero_only.rank == 0:
            if subcommand == "fit":
                self._print_banner()
            self._prepare_folder()
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            self._explain_lost_rank(error)
            raise
        except (KeyboardInterrupt, SystemExit) as stop:
            if not is_interrupt(stop):
                raise
            raise KeyboardInterrupt(self._how_to_go_on()) from None

    @rank_zero_only
    def after_fit(self) -> None:
        """Says where the results are; a run whose last save failed has not ended well."""
        if self.saving.failures:
            raise OSError("the run ended, and its last checkpoint could not be written: see above")
        print(f"done after step {self.trainer.global_step}: {self.folder}")

    @property
    def verb(self) -> str:
        """Fit, validate, test or predict."""
        return str(self.subcommand)

    @property
    def settings(self) -> Namespace:
        """The configuration of the verb."""
        return self.config[self.verb]

    @property
    def verb_folder(self) -> Path:
        """Where this verb writes: training at the top, so that the others cannot disturb it."""
        return self.folder if self.verb == "fit" else self.folder / self.verb

    def _choose_folder(self) -> Path:
        if self.settings.trainer.default_root_dir:
            return Path(self.settings.trainer.default_root_dir)
        if not self.settings.name:
            paths = [Path(path.absolute) for path in self.settings.config or []]
            class_name = self.settings.model.class_path.rpartition(".")[2]
            self.settings.name = run_folder.name_after_config(paths) or class_name
        return run_folder.folder_named(self.settings.name)

    def _choose_checkpoint(self, wanted: str) -> None:
        resumes = self.verb == "fit"
        folder = Path(self.settings.checkpoint.dirpath or self.folder / "checkpoints")
        if wanted == "last":
            left = run_folder.last_checkpoints(folder)
            self.checkpoint, self.resumed_step = newest_good(left, resumes=resumes)
        else:
            self.checkpoint = Path(wanted)
            self.resumed_step = check_checkpoint(self.checkpoint, resumes=resumes)

    def _prepare_weights(self, model: OptimizedModule) -> None:
        """Loads what --from names; or refuses a checkpoint that does not fit, before it is used."""
        if self.checkpoint:
            content = torch.load(self.checkpoint, weights_only=True, mmap=True, map_location="cpu")
            model.refuse_to_resume(content)
        elif self._starts_from:
            self._refuse_moments_for_shards()
            model.start_from(self._starts_from, with_optimizer=self.settings.from_optimizer)

    def _refuse_moments_for_shards(self) -> None:
        if self.settings.from_optimizer and isinstance(self.trainer.strategy, Fsdp2Strategy):
            raise ConfigError(
                "--from_optimizer true: whole moments cannot be cut over the ranks of fsdp2; leave "
                "it out (weights alone are fine), or take --trainer.strategy ddp"
            )

    @property
    def _starts_from(self) -> Path | None:
        """What --from names; nothing when a run that once started from it is resumed."""
        named = getattr(self.settings, "from")  # a word of Python
        if named and self.verb != "fit":
            raise ConfigError(f"--from starts a new run: it is for fit, not {self.verb}")
        return Path(named) if named and not self.checkpoint else None

    def _loggers(self, configured: Logger | list[Logger] | bool | None) -> list[Logger]:
        loggers: list[Logger] = [MetricsFile(self.verb_folder)]
        loggers += [logger for logger in _as_list(configured) if isinstance(logger, Logger)]
        if self.settings.wandb:
            loggers.append(
                WandbLogger(
                    project="jepa",
                    name=self.settings.name or self.folder.name,
                    save_dir=self.verb_folder,
                    offline=self.settings.wandb == "offline",
                )
            )
        return loggers

    def _prepare_folder(self) -> None:
        if self.settings.trainer.fast_dev_run:
            return
        if self.verb == "fit" and self.checkpoint:
            run_folder.drop_metrics_from(self.folder / "metrics.csv", step=self.resumed_step)
        elif place := run_folder.set_aside_earlier_run(self.verb_folder):
            print(f"set aside      an earlier run of this name: {place}")

    def _explain_lost_rank(self, error: RuntimeError) -> None:
        """Raises what a broken connection means, if it means that another process was killed."""
        callbacks: list[Any] = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        stopping = next(one for one in callbacks if isinstance(one, SaveWhenTerminated))
        watch = next(one for one in callbacks if isinstance(one, RankWatch))
        watch.explain(error, is_told=stopping.is_told, way_out=self._how_to_go_on())

    def _how_to_go_on(self) -> str:
        """Says how a run that was interrupted goes on, if it does."""
        callback = self.trainer.checkpoint_callback
        folder = callback.dirpath if isinstance(callback, ModelCheckpoint) else None
        if self.verb != "fit" or folder is None or not Path(folder, "last.ckpt").exists():
            return ""
        return f"the same command with --ckpt_path last goes on from {Path(folder, 'last.ckpt')}"

    def _print_banner(self) -> None:
        trainer = self.trainer
        last = trainer.max_steps if trainer.max_steps >= 0 else f"end of epoch {trainer.max_epochs}"
        device = trainer.strategy.root_device.type
        lines = {
            "run folder": str(self.folder),
            "devices": f"{trainer.world_size} x {device}, precision {trainer.precision}",
            "steps": f"{self.resumed_step} to {last}",
        }
        if self.checkpoint:
            lines["resumes"] = str(self.checkpoint)
        if self._starts_from:
            with_moments = " with its optimizer" if self.settings.from_optimizer else ""
            lines["starts from"] = f"{self._starts_from}{with_moments}"
        if describe := getattr(self.datamodule, "describe", None):
            self.datamodule.trainer = trainer  # knows how many processes share the data
            lines["data"] = describe()
        if isinstance(self.model, OptimizedModule):
            lines["learning rate"] = self.model.describe_optimization(trainer, self.datamodule)
        lines |= self._costs()
        for name, line in lines.items():
            print(f"{name:<13}  {line}", flush=True)

    def _costs(self) -> dict[str, str]:
        """Operations, memory and time of a pretraining run; the time is that of this device."""
        if not isinstance(self.model, Pretraining) or not hasattr(self.datamodule, "batch_size"):
            return {}
        run = run_of(self.trainer, self.model, self.datamodule)
        rate = rate_here("here", half=run.half, device=self.trainer.strategy.root_device)
        lines = report(run, rate)
        return {name: lines[name] for name in ("compute", "memory", "time")}


class MetricsFile(CSVLogger):
    """metrics.csv in the folder itself, and nothing else there: config.yaml holds the rest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=1)

    @property
    def experiment(self) -> ExperimentWriter:
        """The writer, which adds to the metrics that are there."""
        if self._experiment is None and rank_zero_only.rank == 0:
            self._experiment = _AppendingWriter(self.log_dir)
        return super().experiment

    def log_hyperparams(self, params: object = None) -> None:
        """Writes nothing: the parent's hparams.yaml is a part of config.yaml."""


class _AppendingWriter(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Reads the header, where the parent deletes the file: a resumed run goes on with it."""
        path = Path(self.metrics_file_path)
        if path.is_file():
            header = path.read_text().partition("\n")[0].strip()
            self.metrics_keys = header.split(",") if header else []


class PredictionFiles(BasePredictionWriter):
    """Writes what `predict_step` returns: one file a batch, read with torch.load."""

    def __init__(self) -> None:
        super().__init__(write_interval="batch")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: object,
        batch_indices: Sequence[int] | None,
        batch: object,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Writes <run folder>/predict/predictions/rank-0-batch-000000.pt and so on."""
        folder = self._folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(prediction, folder / f"rank-{trainer.global_rank}-batch-{batch_idx:06d}.pt")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says where they are."""
        if trainer.is_global_zero:
            print(f"predictions    {self._folder(trainer)}")

    @staticmethod
    def _folder(trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "predict" / "predictions"


class ProgressLines(Callback):
    """A line every ten seconds, for logs that are files: a bar there is a page of noise."""

    def __init__(self) -> None:
        self._next_line_seconds = 0.0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Prints the step and the numbers that a progress bar would show."""
        now = time.monotonic()
        if not trainer.is_global_zero or now < self._next_line_seconds:
            return
        self._next_line_seconds = now + SECONDS_BETWEEN_LINES
        metrics = {k: v for k, v in trainer.progress_bar_metrics.items() if isinstance(v, float)}
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        print(f"step {trainer.global_step}  {numbers}", flush=True)


def _quieten_lightning() -> None:
    """Drops what Lightning prints at every start and nobody here can act on."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", message=".*returned a view tensor")  # nothing writes into it
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: not record.getMessage().startswith(NOISE))


def _check_wandb_account(mode: bool | str) -> None:
    """Refuses an online run that would stop at its first log line, asking for a key."""
    quiet = mode == "offline" or os.environ.get("WANDB_MODE") in ("offline", "disabled")
    if not (quiet or has_wandb_key() or sys.stdin.isatty()):
        raise ConfigError(
            "--wandb needs an account, and no key is set (`wandb login`); "
            "--wandb offline needs none"
        )


def _option_names(parser: LightningArgumentParser) -> list[str]:
    options = [name for action in parser._actions for name in action.option_strings]
    return [name.lstrip("-") for name in options if name.startswith("--")]


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401 - a trainer argument: None, one or several
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
