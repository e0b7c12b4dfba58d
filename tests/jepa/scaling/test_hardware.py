import pytest
import torch

from jepa.scaling.hardware import HARDWARE, hardware_named, measured_matmul_rate


def test_the_rate_is_that_of_a_timed_product_in_this_process():
    rate = measured_matmul_rate(torch.device("cpu"), torch.float32, seconds=0.02)
    assert 1e9 < rate < 1e14  # between a pocket calculator and a rack


def test_the_table_grows_with_the_years():
    assert HARDWARE["h100"].bf16_teraflops > HARDWARE["a100-80"].bf16_teraflops
    assert all(row.bf16_teraflops >= row.fp32_teraflops > 0 for row in HARDWARE.values())


def test_unknown_hardware_is_refused_with_the_names():
    with pytest.raises(ValueError, match="no hardware 'tpu' in the table; there are b200, h200"):
        hardware_named("tpu")
