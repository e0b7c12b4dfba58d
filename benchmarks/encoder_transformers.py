"""Our encoder against that of transformers, with the same weights on the same video.

    python benchmarks/encoder_transformers.py [--size small] [--pixels 128] [--repeats 5]

A random VJEPA2Model is saved by transformers and read by us; the tokens must agree to 1e-5 (of the
largest) before a ratio is printed. The two alternate within one run; a ratio is the median of
paired ratios, with the smallest and the largest. The masked row encodes a quarter of the tokens:
here they are dropped before the embedding, while transformers encodes all and selects afterwards.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import transformers
from torch import Tensor

from jepa.checkpoints.huggingface import read_huggingface
from jepa.models.sizes import ENCODER_SIZES

FRAMES, TOLERANCE = 16, 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=ENCODER_SIZES, default="small")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    theirs, ours = models(arguments.size, arguments.pixels)
    shape = (arguments.batch, 3, FRAMES, arguments.pixels, arguments.pixels)
    video = torch.randn(shape)
    frames = video.transpose(1, 2)  # transformers: (batch, time, 3, height, width)
    num_tokens = ours(video).shape[1]
    ids = torch.stack([torch.randperm(num_tokens)[: num_tokens // 4] for _ in video])
    size = f"{arguments.size}, {FRAMES} frames of {arguments.pixels} px, {num_tokens} tokens"
    print(f"{size}, batch {arguments.batch}, {arguments.threads} threads")
    print(f"{'':<22}{'speed-up':>10}{'min-max':>14}{'difference':>12}")

    def whole() -> Tensor:
        return theirs(frames, skip_predictor=True).last_hidden_state

    difference = relative(ours(video), whole())
    report("whole", ratios(whole, lambda: ours(video), arguments.repeats), difference)
    # There is nothing of theirs to compare the masked tokens with: they attend to hidden ones too.
    masked = ratios(whole, lambda: ours(video, token_ids=ids), arguments.repeats)
    report("a quarter of the tokens", masked, None)


def models(size: str, pixels: int) -> tuple[transformers.VJEPA2Model, torch.nn.Module]:
    """Returns the same encoder twice, theirs and ours."""
    sizes = ENCODER_SIZES[size]
    config = transformers.VJEPA2Config(
        crop_size=pixels,
        frames_per_clip=FRAMES,
        hidden_size=sizes.dim,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.num_heads,
        mlp_ratio=sizes.mlp_ratio,
        pred_num_hidden_layers=1,
    )
    theirs = transformers.VJEPA2Model(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, read_huggingface(folder).encoder


def ratios(slow: Callable[[], Tensor], fast: Callable[[], Tensor], repeats: int) -> list[float]:
    """Returns seconds of one over seconds of the other, pair by pair, after a warm-up."""
    slow(), fast()
    return [seconds(slow) / seconds(fast) for _ in range(repeats)]


def seconds(run: Callable[[], Tensor]) -> float:
    began = time.process_time()  # of all threads: what other programs do counts less
    run()
    return time.process_time() - began


def relative(found: Tensor, expected: Tensor) -> float:
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    if difference > TOLERANCE:
        raise SystemExit(f"the tokens differ by {difference:.1e}: no ratio without equal numbers")
    return difference


def report(name: str, found: list[float], difference: float | None) -> None:
    spread = f"{min(found):.2f}-{max(found):.2f}"
    said = "-" if difference is None else f"{difference:.0e}"
    print(f"{name:<22}{statistics.median(found):>9.2f}x{spread:>14}{said:>12}")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
