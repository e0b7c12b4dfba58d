import pytest

from jepa import scaling
from jepa.scaling.__main__ import main


def printed(capsys, *arguments):
    assert main(list(arguments)) == 0
    lines = capsys.readouterr().out.splitlines()
    return {name: line.strip() for name, _, line in (row.partition("  ") for row in lines)}


def test_a_paper_sized_run_on_hardware_that_is_not_here(capsys):
    lines = printed(capsys, "--config", "pretrain/vitl16_256.yaml", "--hardware", "h200")
    assert "encoder 303.9 M parameters" in lines["model"]
    assert "2048 tokens" in lines["clip"]
    assert lines["step"] == "48 clips x 64 devices x 1 accumulated = 3072 clips"
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
