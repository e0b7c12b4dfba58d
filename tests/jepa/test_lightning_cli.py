"""The mechanics of `jepa fit`, with Lightning's boring model: folders, resuming, errors, ranks."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from jepa.__main__ import main

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")

ROOT = Path(__file__).resolve().parents[2]
BORING = "lightning.pytorch.demos.boring_classes"
TOY = """
import torch
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel


class Toy(BoringModel):
    def __init__(self, width: int = 2, failing_rank: int = -1) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(32, width)
        self.failing_rank = failing_rank

    def training_step(self, batch, batch_idx):
        if self.failing_rank == self.global_rank:
            raise ValueError("shard-000007.tar is cut short")
        step = super().training_step(batch, batch_idx)
        self.log("loss/total", step["loss"], prog_bar=True)
        return step


class ToyData(BoringDataModule):
    def describe(self) -> str:
        return "64 random rows"
"""
CPU = ["--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1"]
CPU += ["--trainer.limit_val_batches", "2", "--trainer.enable_model_summary", "false"]
SMALL = ["--model", "toy.Toy", "--data", "toy.ToyData", *CPU]


@pytest.fixture(autouse=True)
def in_an_empty_folder_with_a_toy(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def fit(*arguments, steps=3):
    return main(["fit", *SMALL, "--trainer.max_steps", str(steps), *arguments])


def steps_in(metrics):
    with Path(metrics).open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["loss/total"]]


def error_of(arguments, capsys):
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


def test_a_run_leaves_its_config_its_metrics_and_a_checkpoint(capsys):
    assert fit("--name", "first/try") == 0
    folder = Path("runs/first/try")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "config.yaml", "metrics.csv",
    ]  # fmt: skip
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert steps_in(folder / "metrics.csv") == [0, 1, 2]
    banner = capsys.readouterr().out
    assert "runs/first/try" in banner
    assert "64 random rows" in banner


def test_resuming_goes_on_with_the_weights_and_the_metrics():
    fit(steps=3)
    before = torch.load("runs/Toy/checkpoints/last.ckpt", weights_only=True)
    assert fit("--ckpt_path", "last", steps=5) == 0
    after = torch.load("runs/Toy/checkpoints/last.ckpt", weights_only=True)
    assert (before["global_step"], after["global_step"]) == (3, 5)
    assert steps_in("runs/Toy/metrics.csv") == [0, 1, 2, 3, 4]


def test_the_same_seed_gives_the_same_weights_and_a_saved_config_runs_again():
    fit("--name", "one")
    again = ["fit", "--config", "runs/one/config.yaml", "--name", "two", "--allow-class", "toy"]
    assert main(again) == 0
    one, two = (
        torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    )
    assert torch.equal(one["layer.weight"], two["layer.weight"])


def test_a_second_run_of_a_name_sets_the_first_aside():
    fit(steps=4)
    fit(steps=2)
    assert steps_in("runs/Toy/metrics.csv") == [0, 1]
    assert steps_in("runs/Toy/earlier_runs/1/metrics.csv") == [0, 1, 2, 3]


def test_a_run_that_cannot_start_leaves_the_one_before_in_its_place():
    fit(steps=2)
    Path("toy_without_data.py").write_text(
        "from toy import ToyData\n\n\n"
        "class NoData(ToyData):\n"
        "    def describe(self):\n"
        "        raise FileNotFoundError('no shard at nowhere')\n"
    )
    assert fit("--data", "toy_without_data.NoData") == 2
    assert steps_in("runs/Toy/metrics.csv") == [0, 1]


def test_checkpoints_can_be_switched_off():
    assert fit("--trainer.enable_checkpointing", "false") == 0
    assert not Path("runs/Toy/checkpoints").exists()


def test_validating_leaves_the_metrics_of_training_alone():
    fit()
    arguments = ["--config", "runs/Toy/config.yaml", "--ckpt_path", "last"]
    assert main(["validate", *arguments, "--allow-class", "toy"]) == 0
    assert steps_in("runs/Toy/metrics.csv") == [0, 1, 2]
    assert Path("runs/Toy/validate/config.yaml").is_file()


def test_predicting_writes_what_the_model_returns():
    fit()
    arguments = ["--ckpt_path", "last", "--trainer.limit_predict_batches", "2"]
    assert main(["predict", *SMALL, *arguments]) == 0
    files = sorted(Path("runs/Toy/predict/predictions").iterdir())
    assert [path.name for path in files] == ["rank-0-batch-000000.pt", "rank-0-batch-000001.pt"]
    assert torch.load(files[0], weights_only=True).shape == (1, 2)


def test_later_configs_and_dotted_overrides_win(capsys):
    Path("base.yaml").write_text(
        f"model: {BORING}.BoringModel\ndata: {BORING}.BoringDataModule\n"
        "trainer: {max_steps: 9, max_epochs: 7, accelerator: cpu}\n"
    )
    Path("mine.yaml").write_text("trainer: {max_steps: 5}\n")
    configs = ["--config", "base.yaml", "--config", "mine.yaml"]
    assert main(["fit", *configs, "--trainer.accelerator", "auto", "--print_config"]) == 0
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert (trainer["max_steps"], trainer["max_epochs"]) == (5, 7)
    assert trainer["accelerator"] == "auto"
    assert trainer["use_distributed_sampler"] is False
    assert not Path("runs").exists()


def test_the_run_is_named_after_its_first_config():
    Path("configs/pretrain").mkdir(parents=True)
    Path("configs/pretrain/toy.yaml").write_text("model: toy.Toy\ndata: toy.ToyData\n")
    arguments = ["--config", "configs/pretrain/toy.yaml", *CPU, "--trainer.max_steps", "1"]
    assert main(["fit", *arguments, "--allow-class=toy"]) == 0
    assert Path("runs/pretrain/toy/checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainer.max_stepss", "3"], "did you mean '--trainer.max_steps'?"),
        (["--model.widht", "3"], "toy.Toy has no option 'widht'; did you mean 'width'?"),
        (["--model", "toy.Tooy"], "toy has no class 'Tooy'; did you mean 'Toy'?"),
        (["--model.width", "wide"], "Expected int"),
        (["--model.width", "-1"], "negative dimension"),
        (["--ckpt_path", "last"], "--ckpt_path last: there is no runs/Toy/checkpoints/last.ckpt"),
        (["--ckpt_path", "toy.py"], "toy.py cannot be read as a checkpoint"),
        (["--name", "../elsewhere"], "--name must be a relative path"),
        (["--trainer.default_root_dir", "toy.py/run"], "cannot write in the run folder toy.py/run"),
        (["--trainer.strategy", "dddp"], "invalid strategy name"),
        (["--config", "nowhere.yaml"], "no config 'nowhere.yaml'"),
    ],
)
def test_a_fault_of_the_user_is_one_line(arguments, words, capsys):
    assert words in error_of(["fit", *SMALL, "--trainer.max_steps", "1", *arguments], capsys)


def test_a_misspelt_key_in_a_file_is_one_line(capsys):
    Path("mine.yaml").write_text("trainer: {max_stpes: 3}\n")
    line = error_of(["fit", *SMALL, "--config", "mine.yaml"], capsys)
    assert "'trainer.max_stpes'; did you mean 'trainer.max_steps'?" in line


def test_a_checkpoint_of_another_model_is_one_line(capsys):
    fit()
    capsys.readouterr()
    line = error_of(["fit", *SMALL, "--model.width", "3", "--ckpt_path", "last"], capsys)
    assert "the checkpoint does not fit the configured Toy: size mismatch for layer.weight" in line


def test_moments_for_a_sharded_run_are_refused_before_it_starts(capsys, clip_shards):
    run = ["fit", "--config", "pretrain/tiny.yaml", "--data.shards", clip_shards, *CPU]
    moments = ["--from", "any.ckpt", "--from_optimizer", "true", "--trainer.strategy", "fsdp2"]
    words = "whole moments cannot be cut over the ranks of fsdp2; leave it out"
    assert words in error_of([*run, *moments], capsys)
    assert not list(Path("runs").rglob("*.yaml"))


def test_wandb_online_without_an_account_is_refused_before_training(capsys, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "nowhere")
    assert "--wandb offline needs none" in error_of(["fit", *SMALL, "--wandb", "true"], capsys)


@pytest.mark.slow
def test_wandb_offline_needs_no_account_and_keeps_the_metrics_file():
    assert fit("--wandb", "offline") == 0
    assert steps_in("runs/Toy/metrics.csv") == [0, 1, 2]
    assert list(Path("runs/Toy/wandb").glob("offline-run-*"))


def in_two_processes(command, *arguments):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path.cwd()}"}
    ranks = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.max_steps", "3"]
    return subprocess.run(
        [*command, "fit", *SMALL, *ranks, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["module", pytest.param("script", marks=LONG)])
def test_two_processes_run_and_write_one_run(way):
    if way == "script":  # as pip writes it
        Path("jepa_script").write_text(
            "import sys\nfrom jepa.__main__ import main\nsys.exit(main())\n"
        )
    command = {"module": [sys.executable, "-m", "jepa"], "script": [sys.executable, "jepa_script"]}
    run = in_two_processes(command[way])
    assert run.returncode == 0, run.stderr
    assert "2 x cpu" in run.stdout
    assert run.stdout.count("run folder") == 1
    assert steps_in("runs/Toy/metrics.csv") == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "label"),
    [pytest.param(0, "error: shard", marks=LONG), (1, "error: [rank 1] shard")],
)
def test_an_error_in_one_of_two_processes_is_told_once(rank, label):
    run = in_two_processes([sys.executable, "-m", "jepa"], "--model.failing_rank", str(rank))
    assert run.returncode != 0
    assert run.stderr.count("shard-000007.tar is cut short") == 1
    assert label in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_its_code_and_what_to_do_and_sigterm_saves_first(number, code):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jepa", "fit", *SMALL, "--trainer.max_steps", "-1"),
            *("--checkpoint.every_n_train_steps", "1"),
        ],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path.cwd()}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("step "):
        assert process.poll() is None, process.communicate()
    while not Path("runs/Toy/checkpoints/last.ckpt").exists():
        time.sleep(0.01)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "Traceback" not in errors
    if number == signal.SIGTERM:
        saved = torch.load("runs/Toy/checkpoints/last.ckpt", weights_only=True)
        assert saved["global_step"] == steps_in("runs/Toy/metrics.csv")[-1] + 1
        return
    assert "Detected KeyboardInterrupt" not in errors
    assert errors.splitlines()[-1] == (
        "interrupted; the same command with --ckpt_path last goes on from "
        "runs/Toy/checkpoints/last.ckpt"
    )
    step = torch.load("runs/Toy/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert fit("--ckpt_path", "last", steps=step + 2) == 0
