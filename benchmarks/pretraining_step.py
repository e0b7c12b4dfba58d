"""Our pretraining step against that of the released V-JEPA 2, on the same work.

    python benchmarks/pretraining_step.py --official PATH [--cases T64 S112] [--rounds 7]

PATH is a checkout of github.com/facebookresearch/vjepa2 (measured with c2963a4); it needs timm.
Without it the opponent is the textbook's step in `pretraining_contenders.py`.

Same weights, clips and masks for all; other masks in every step. Before any ratio is printed the
loss and the gradients in float32 must agree to 1e-5, relative, and the losses in bfloat16 to 1e-3.
The contenders take turns in one process, there and back (A B C C B A); a ratio is the median over
rounds of paired ratios, with the smallest and the largest. FLOPs are those that the step cannot do
without; a share is that of the fastest product of matrices measured in the same run.

What helps or hurts whom: our step normalises the pixels and draws the masks within its time, the
official loader does that in other processes. oneDNN, which multiplies all bfloat16 and our float32,
takes a millisecond to make a kernel for every shape it meets; all steps meet the masks once before
they are timed, as they do in the first minutes of a run.
"""

from __future__ import annotations

import os

# Kept kernels of oneDNN; its own limit is reached where masks have many lengths.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")

import argparse
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from pretraining_contenders import (
    Case,
    OfficialStep,
    OurStep,
    PlainStep,
    Step,
    Work,
    make_pretraining,
    official_modules,
)

from jepa.models import normalize_pixels
from jepa.models.linear import Linear
from jepa.models.sizes import ENCODER_SIZES, EncoderSize
from jepa.training.model_blocks import compile_blocks
from jepa.training.pretraining import Pretraining

PREDICTOR = EncoderSize(192, 6, 6)
CASES = {
    "T64": Case("T64", ENCODER_SIZES["tiny"], 16, 64, 8, PREDICTOR),
    "S112": Case("S112", ENCODER_SIZES["small"], 16, 112, 4, PREDICTOR),
    "quick": Case("quick", EncoderSize(48, 2, 3), 4, 64, 2, EncoderSize(48, 2, 2)),
    "L256": Case("L256", ENCODER_SIZES["large"], 16, 256, 24, EncoderSize(384, 12, 12)),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE, BFLOAT16_TOLERANCE = 1e-5, 1e-3
KINDS = {  # of operators, by a part of their names; the first that fits
    "optimizer": ("adamw", "Optimizer", "foreach", "lerp"),
    "attention": ("scaled_dot_product",),
    "softmax": ("softmax",),
    "matrix products": ("mm", "linear_pointwise", "convolution"),
    "gelu": ("gelu",),
    "layer norm": ("layer_norm",),
    "copies": ("copy_", "cat", "gather", "index", "fill_", "zero_", "clone", "repeat"),
    "elementwise": ("aten::mul", "aten::add", "aten::sub", "aten::div", "aten::neg", "aten::sum",
                    "aten::sin", "aten::cos", "aten::pow", "aten::abs", "aten::sgn"),
}  # fmt: skip


class Row(NamedTuple):
    """A contender.

    Attributes:
        name: as printed.
        step: what runs.
        dtype: that its products are in.
    """

    name: str
    step: Step
    dtype: torch.dtype


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--official", type=Path, help="a checkout of facebookresearch/vjepa2")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clocks", nargs="+", choices=("1", "all"), default=["1", "all"])
    parser.add_argument("--no-compiled", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="of our rows"
    )
    parser.add_argument("--quick", action="store_true", help="one small case, one round: a test")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the official code: it asks for what is deprecated
    has_gpu = torch.cuda.is_available()
    names = arguments.cases or (["L256"] if has_gpu else ["T64", "S112"])
    if arguments.quick:
        names, arguments.rounds, arguments.clocks = ["quick"], 1, ["1"]
        arguments.no_compiled = True
    for name in names:
        compare(CASES[name], arguments, torch.device("cuda" if has_gpu else "cpu"))


def compare(case: Case, arguments: argparse.Namespace, device: torch.device) -> None:
    """Prints all tables of a case."""
    source = make_pretraining(case).to(device)
    works = [make_work(case, source, index) for index in range(2 * arguments.rounds)]
    rows = contenders(case, source, arguments)
    print(f"\n{case.name}: {case.size.dim} x {case.size.depth} encoder, {case.frames} frames of "
          f"{case.pixels} px, batch {case.batch}; {describe(device)}")  # fmt: skip
    print(f"opponent: {'official' if arguments.official else 'plain (no --official)'} step")
    refuse_unequal(rows, works)
    for threads in clocks(arguments.clocks, device):
        torch.set_num_threads(threads)
        measure(case, rows, works, threads, device)
    torch.set_num_threads(1)
    for row in (rows[0], *[row for row in rows if row.name in ("ours float32", "ours bfloat16")]):
        print_where_time_goes(row, works[0], device)


def contenders(case: Case, source: Pretraining, arguments: argparse.Namespace) -> list[Row]:
    """Returns the opponent in float32, the opponent with autocast, then all others."""
    float32, bfloat16 = torch.float32, torch.bfloat16
    if arguments.official:
        modules = official_modules(arguments.official)
        rows = [
            Row("official float32", OfficialStep(modules, case, source), float32),
            Row(
                "official + autocast", OfficialStep(modules, case, source, dtype=bfloat16), bfloat16
            ),
            Row(
                "official + checkpointing",
                OfficialStep(modules, case, source, has_checkpointing=True),
                float32,
            ),
        ]
    else:
        rows = [
            Row("plain float32", PlainStep(source), float32),
            Row("plain + autocast", PlainStep(source, dtype=bfloat16), bfloat16),
        ]
    for name in arguments.dtypes:
        for is_compiled in (False,) if arguments.no_compiled else (False, True):
            ours, dtype = make_pretraining(case).to(source.device), DTYPES[name]
            if is_compiled:
                compile_blocks([ours.encoder, ours.predictor, *ours.frozen_modules()])
            step = OurStep(ours, dtype=None if dtype == float32 else dtype)
            rows.append(Row(f"ours {name}{' compiled' if is_compiled else ''}", step, dtype))
    return rows


def make_work(case: Case, source: Pretraining, index: int) -> Work:
    """Returns the batch of a step, of pixels that are noise."""
    device = source.device
    generator = torch.Generator(device).manual_seed(index)
    shape = (case.batch, 3, case.frames, case.pixels, case.pixels)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device, generator=generator)
    video = normalize_pixels(pixels)
    return Work(index, pixels, video, source.sample_masks(video, step=index))


def refuse_unequal(rows: list[Row], works: list[Work]) -> None:
    """Prints how far the contenders are from the first, at two masks.

    In bfloat16 the opponent's own distance is the measure where it is above the tolerance.

    Raises:
        SystemExit: if one computes other numbers.
    """
    for work in works[:2]:
        expected, loss = rows[0].step.gradients(work), rows[0].step.loss.item()
        tolerance = BFLOAT16_TOLERANCE
        for row in rows[1:]:
            found = row.step.gradients(work)
            loss_apart = abs(row.step.loss.item() - loss) / abs(loss)
            apart = distance(found, expected)
            print(f"  {row.name:<26} loss {loss_apart:.1e}, gradients {apart:.1e} from the first")
            if row is rows[1]:
                tolerance = max(tolerance, 2 * loss_apart)
            elif row.dtype == torch.float32 and max(loss_apart, apart) > TOLERANCE:
                raise SystemExit(f"{row.name} computes other numbers: no ratio is printed")
            elif loss_apart > tolerance:
                raise SystemExit(f"{row.name} is too far from float32: no ratio is printed")


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Returns the relative L2 distance of two sets of gradients with the same names."""
    if found.keys() != expected.keys():
        raise SystemExit(f"gradients of {found.keys() ^ expected.keys()} are on one side only")
    squares = [
        torch.stack([(found[n].float() - e.float()).square().sum(), e.float().square().sum()])
        for n, e in expected.items()
    ]
    apart, size = torch.stack(squares).sum(0).tolist()
    return (apart / size) ** 0.5


def measure(
    case: Case, rows: list[Row], works: list[Work], threads: int, device: torch.device
) -> None:
    """Prints the table of ratios of one clock."""
    clock = clock_of(threads, device)
    for row in rows:
        for work in works:
            row.step.run(work)
    seconds: dict[str, list[float]] = defaultdict(list)
    for there, back in zip(works[::2], works[1::2], strict=True):
        took: dict[str, float] = defaultdict(float)
        for work, order in ((there, rows), (back, rows[::-1])):
            for row in order:
                began = clock()
                row.step.run(work)
                took[row.name] += clock() - began
        for name, value in took.items():
            seconds[name].append(value)
    print_ratios(case, rows, works, seconds, device)


def print_ratios(
    case: Case,
    rows: list[Row],
    works: list[Work],
    seconds: dict[str, list[float]],
    device: torch.device,
) -> None:
    """Prints the table of ratios."""
    flops = 2 * statistics.mean(necessary_flops(case, work) for work in works)  # of two steps
    peaks = {dtype: peak(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    rates = ", ".join(f"{str(dtype)[6:]} {rate / 1e9:,.0f}" for dtype, rate in peaks.items())
    print(
        f"{torch.get_num_threads()} threads; {flops / 2e9:.1f} GFLOP a step; peak GFLOP/s: {rates}"
    )
    print(f"{'':<26}{'ms':>8}{'x ' + rows[0].name:>22}{'x ' + rows[1].name:>26}{'of peak':>9}")
    for row in rows:
        columns = [paired(seconds[other.name], seconds[row.name]) for other in rows[:2]]
        took = statistics.median(seconds[row.name])
        share = flops / took / peaks[row.dtype]
        print(f"{row.name:<26}{took / 2 * 1e3:>8.1f}{columns[0]:>22}{columns[1]:>26}{share:>9.0%}")


def paired(slow: list[float], fast: list[float]) -> str:
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def necessary_flops(case: Case, work: Work) -> float:
    """Returns the FLOPs that no way of computing this step can do without.

    Products of matrices only: the target encoder once, encoder and predictor three times (forward,
    gradient of the input, gradient of the weights), hidden pixels not embedded, and nothing of the
    predictor's last block that only context tokens would need.
    """
    size, predictor = case.size, case.predictor
    values = 3 * 2 * 16 * 16  # of a tubelet
    time, height, width = case.grid
    total = transformer_flops(time * height * width, size) + embedding(
        time * height * width, values, size.dim
    )
    for mask in work.masks:
        context, targets = mask.context_ids.shape[1], mask.target_ids.shape[1]
        total += 2 * embedding(context, values, size.dim)  # pixels have no gradient
        total += 3 * transformer_flops(context, size)
        unneeded = context * (2 + 4 * predictor.mlp_ratio) * predictor.dim**2
        total += 3 * (transformer_flops(context + targets, predictor) - unneeded)
        total += 3 * embedding(context + targets, size.dim, predictor.dim)
    return case.batch * total


def transformer_flops(tokens: int, size: EncoderSize) -> float:
    products = tokens * (8 + 4 * size.mlp_ratio) * size.dim**2
    return size.depth * (products + 4 * tokens**2 * size.dim)


def embedding(tokens: int, values: int, dim: int) -> float:
    return 2 * tokens * values * dim


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Returns the FLOP/s of the fastest product of matrices, by either library."""
    sizes = (8192,) if device.type == "cuda" else (512, 1024, 2048)
    best = 0.0
    clock = clock_of(torch.get_num_threads(), device)
    for size in sizes:
        x = torch.randn(size, size, device=device, dtype=dtype)
        linear = Linear(size, size, bias=False, device=device, dtype=dtype)
        for product in (lambda x=x: x @ x, lambda x=x, linear=linear: linear(x)):
            for _ in range(8):
                began = clock()
                with torch.no_grad():
                    product()
                best = max(best, 2 * size**3 / (clock() - began))
    return best


def print_where_time_goes(row: Row, work: Work, device: torch.device) -> None:
    """Prints the shares of phases and of kinds of operators."""
    clock = clock_of(1, device)
    row.step.run(work)
    phases: dict[str, float] = {}
    began = clock()
    for phase in row.step.phases(work):
        now = clock()
        phases[phase], began = now - began, now
    print(f"\n{row.name}, where one thread's time goes\n  by phase: {shares(phases)}")
    on_gpu = device.type == "cuda"
    with torch.profiler.profile() as profiler:
        row.step.run(work)
    kinds: dict[str, float] = defaultdict(float)
    calls = 0
    for event in profiler.key_averages():
        took = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        kinds[kind_of(event.key)] += took
        calls += event.count
    print(f"  by kind of operator, {calls:,} calls: {shares(kinds)}")


def kind_of(operator: str) -> str:
    for kind, parts in KINDS.items():
        if any(part in operator for part in parts):
            return kind
    return "the rest: Python, autograd, allocation, views"


def shares(seconds: dict[str, float]) -> str:
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value / total:.0%}" for name, value in ordered)


def clocks(wanted: Iterable[str], device: torch.device) -> list[int]:
    """Returns numbers of threads: 1 is timed by the processor's time, more by the clock."""
    if device.type == "cuda":
        return [torch.get_num_threads()]
    return [1 if name == "1" else os.cpu_count() or 1 for name in wanted]


def clock_of(threads: int, device: torch.device) -> Callable[[], float]:
    """Returns what tells seconds."""
    if device.type == "cuda":
        return synchronized
    return time.process_time if threads == 1 else time.perf_counter


def synchronized() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
