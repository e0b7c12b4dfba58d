import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jepa.models import eager_cpu
from jepa.models.eager_cpu import (
    compute_dtype,
    multiplies_bfloat16,
    onednn_is_faster_in_float32,
    runs_on_eager_cpu,
)


def test_plain_tensors_on_the_cpu_run_there_in_eager_mode():
    assert runs_on_eager_cpu(torch.ones(2), torch.nn.Parameter(torch.ones(2)))


def test_another_device_is_no_cpu():
    assert not runs_on_eager_cpu(torch.ones(2), torch.ones(2, device="meta"))


def test_whoever_counts_operations_sees_those_of_torch():
    with FlopCounterMode(display=False):
        assert not runs_on_eager_cpu(torch.ones(2))


def test_a_functional_transform_sees_the_operations_of_torch():
    seen = []

    def look(x):
        seen.append(runs_on_eager_cpu(x))
        return x.sum()

    torch.func.vmap(look)(torch.ones(3, 2))
    torch.func.grad(look)(torch.ones(2))
    assert seen == [False, False]


def test_what_is_compiled_or_exported_is_not_eager():
    class Module(torch.nn.Module):
        def forward(self, x):
            return x + 1 if runs_on_eager_cpu(x) else x + 2

    x = torch.zeros(2)
    assert Module()(x).tolist() == [1, 1]
    assert torch.export.export(Module(), (x,)).module()(x).tolist() == [2, 2]
    assert torch.compile(Module(), backend="eager")(x).tolist() == [2, 2]


def test_autocast_says_what_is_multiplied_in():
    x = torch.ones(2)
    assert compute_dtype(x) == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute_dtype(x) == torch.bfloat16
        assert compute_dtype(torch.ones(2, dtype=torch.int64)) == torch.int64


def test_what_the_machine_can_do_is_asked_once_and_is_a_bool():
    assert isinstance(multiplies_bfloat16(), bool)
    assert onednn_is_faster_in_float32() in (True, False)
    assert onednn_is_faster_in_float32.cache_info().currsize == 1


@pytest.mark.parametrize(("capability", "is_amd"), [("AVX2", True), ("AVX512", False)])
def test_only_wide_processors_of_amd_are_helped(monkeypatch, capability, is_amd):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(eager_cpu, "_is_made_by_amd", lambda: is_amd)
    assert not onednn_is_faster_in_float32.__wrapped__()
