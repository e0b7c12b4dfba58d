import re
from pathlib import Path

import pytest

from jepa import scaling
from jepa.checkpoints.native import save_encoder
from jepa.models import VideoEncoder
from jepa.scaling.__main__ import main

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "pretrain"
LARGE = sorted(path.stem for path in CONFIGS.glob("vit*.yaml"))
STAGES = {"vith16_256_cooldown": "vith16_256", "vitg16_256_cooldown": "vitg16_256",
          "vitl16_one_gpu": "vitl16_256"}  # fmt: skip


def printed(capsys, *arguments):
    assert main(list(arguments)) == 0
    lines = capsys.readouterr().out.splitlines()
    return {name: line.strip() for name, _, line in (row.partition("  ") for row in lines)}


def test_a_paper_sized_run_on_hardware_that_is_not_here(capsys):
    lines = printed(capsys, "--config", "pretrain/vitl16_256.yaml", "--hardware", "h200")
    assert "encoder 303.9 M parameters" in lines["model"]
    assert "2048 tokens" in lines["clip"]
    assert lines["step"] == "24 clips x 64 devices x 2 accumulated = 3072 clips"
    assert "of 141 GB" in lines["memory"]
    assert "h200, 989 TFLOP/s by its data sheet, 40% used" in lines["time"]
    assert "90000 steps in" in lines["time"]


def test_the_time_follows_from_operations_rate_and_utilization(capsys):
    slow, fast = (
        printed(
            capsys, "--config", "pretrain/vitl16_256.yaml", "--hardware", "a100-80",
            "--utilization", share,
        )["time"]
        for share in ("0.25", "0.5")
    )  # fmt: skip
    seconds = [float(line.partition("used: ")[2].split()[0]) for line in (slow, fast)]
    assert seconds[0] == pytest.approx(2 * seconds[1], rel=0.01)


def test_this_machine_is_measured(capsys):
    lines = printed(capsys, "--config", "pretrain/tiny.yaml")
    assert "measured in a matrix product" in lines["time"]


def test_options_of_fit_change_the_estimate(capsys):
    lines = printed(
        capsys, "--config", "pretrain/tiny.yaml", "--hardware", "t4", "--data.batch_size", "8",
        "--trainer.accumulate_grad_batches", "3",
    )  # fmt: skip
    assert lines["step"] == "8 clips x 1 devices x 3 accumulated = 24 clips"


def test_a_run_that_will_not_fit_is_told_so(capsys):
    lines = printed(capsys, "--config", "pretrain/vitl16_256.yaml", "--hardware", "t4")
    assert "of 16 GB: it will NOT fit" in lines["memory"]


@pytest.mark.parametrize("name", LARGE)
def test_a_large_config_fits_on_the_hardware_that_its_comment_names(name, capsys):
    """And needs there what the comment says, and has the clips a step of its recipe."""
    claim = re.search(r"^# fits: (\S+) \((\d+) GB", (CONFIGS / f"{name}.yaml").read_text(), re.M)
    assert claim, f"{name}.yaml has no line '# fits: HARDWARE (N GB, ...)'"
    stack = [STAGES[name], name] if name in STAGES else [name]
    arguments = [part for one in stack for part in ("--config", f"pretrain/{one}.yaml")]
    lines = printed(capsys, *arguments, "--hardware", claim[1])
    assert "NOT fit" not in lines["memory"]
    assert float(lines["memory"].split()[0]) == pytest.approx(float(claim[2]), rel=0.05)
    clips = 384 if name == "vits16_one_gpu" else 3072
    assert f"accumulated = {clips} clips" in lines["step"]


def test_a_mixture_is_told_both_kinds_of_batches(capsys):
    lines = printed(capsys, "--config", "pretrain/vitG16_256_dense.yaml", "--hardware", "h100")
    assert lines["clip"].count("tokens") == 2
    assert lines["step"].endswith("= 3072 clips; or, 50% of the batches, 36 images")


def test_a_distillation_is_told_its_teacher_and_a_missing_one_is_one_line(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments = ("--config", "pretrain/tiny_distillation.yaml", "--hardware", "t4")
    with pytest.raises(ValueError, match="no JepaModel in runs/pretrain/tiny: expected") as refusal:
        main(list(arguments))
    assert "\n" not in str(refusal.value)
    teacher = VideoEncoder(image_size=64, clip_length_frames=8, dim=96, depth=4, num_heads=4)
    save_encoder(teacher, tmp_path / "runs" / "pretrain" / "tiny")
    assert "Distillation: encoder" in printed(capsys, *arguments)["model"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to estimate: give --config"),
        (("--config", "pretrain/tiny.yaml", "--hardware", "abacus"), "no hardware 'abacus'"),
        (("--config", "pretrain/tiny.yaml", "--utilization", "0"), r"above 0 and at most 1, got 0"),
        (("--config", "world_model/tiny.yaml"), "knows pretraining, not WorldModelTraining"),
    ],
)
def test_what_cannot_be_estimated_is_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        main(list(arguments))


def test_the_package_offers_its_parts():
    assert set(scaling.__all__) <= set(dir(scaling))
