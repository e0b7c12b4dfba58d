"""Augmentation in the reading process against augmentation on the device, from the same frames.

    python benchmarks/augmentation.py [--image-size 224] [--clips 16] [--repeats 5]

For each augmentation: both ways cut and resize each clip in the worker and end with the same
augmented batch on the device; bytes are compared first, and the part that differs is printed.
"cost" is a worker's time for crop, resize and augmentation over its time for crop and resize
alone: by how much augmenting there multiplies the workers. "in turn" is clips per second with the
augmentation on the device over clips per second with it in the worker, one after the other; "at
once" the same while worker and device work side by side, as in training. Augmenting on the device
pays where "at once" is well above 1 and the device has time to spare. Without CUDA the device is
this CPU: the script says so, "in turn" is 1 but for noise, and "at once" is left out.

The second table is the resizing: the decoder's own order of bytes (channels last) against a copy in
planes first, results equal. All ratios are medians of pairs from one run, with their range.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import data_pipelines  # noqa: F401  (before torchvision: see data_pipelines.torchvision_on_cpu)

# isort: split
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from data_pipelines.augmentation import ClipAugmentation
from data_pipelines.transforms import CropBox, RandomResizedClipCrop, crop_and_resize

AUGMENTATIONS = {
    "ColorJitter": [v2.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    "GaussianBlur": [v2.GaussianBlur(9)],
    "RandAugment": [v2.RandAugment(num_ops=2, magnitude=7)],
    "RandomErasing": [v2.RandomErasing(0.25)],
    "all of these": [
        v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        v2.GaussianBlur(9),
        v2.RandAugment(num_ops=2, magnitude=7),
        v2.RandomErasing(0.25),
    ],
}
FRAME_SIZES = ((256, 340), (480, 640), (1080, 1920))  # height, width of the source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a worker has one
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        print("no CUDA here: the device is this CPU; nothing is said about a GPU")
    print_augmentations(device, arguments)
    print()
    print_resizing(arguments)


def print_augmentations(device: torch.device, arguments: argparse.Namespace) -> None:
    print(f"{'augmentation':>14}{'cost':>20}{'in turn':>20}{'at once':>20}{'unequal':>9}")
    for name, transforms in AUGMENTATIONS.items():
        rows, unequal = compare_places(ClipAugmentation(transforms), device, arguments)
        if device.type == "cpu" and unequal:
            raise SystemExit(f"{name}: {unequal:.1%} of the bytes differ between worker and device")
        cost, in_turn, at_once = map(with_range, zip(*rows, strict=True))
        at_once = at_once if device.type == "cuda" else "-"
        print(f"{name:>14}{cost:>20}{in_turn:>20}{at_once:>20}{unequal:>9.2%}")


def compare_places(
    augmentation: ClipAugmentation, device: torch.device, arguments: argparse.Namespace
) -> tuple[list[tuple[float, float, float]], float]:
    """Returns (cost, in turn, at once) of each repeat, and the part of unequal bytes."""
    frames = torch.randint(0, 256, (arguments.frames, 256, 340, 3), dtype=torch.uint8)
    crop, seeds = RandomResizedClipCrop(arguments.image_size), range(arguments.clips)
    clips = cut(frames, crop, seeds)

    def on_device() -> Tensor:
        return augmentation.to_batch(clips.to(device), seeds)

    unequal = float((augmentation.to_batch(clips, seeds) != on_device().cpu()).float().mean())
    rows = []
    for _ in range(arguments.repeats):
        cutting = seconds(lambda: cut(frames, crop, seeds))
        both = cutting + seconds(lambda: augmentation.to_batch(clips, seeds))
        moved = seconds(on_device, device)
        rows.append((both / cutting, both / (cutting + moved), both / max(cutting, moved)))
    return rows, unequal


def print_resizing(arguments: argparse.Namespace) -> None:
    print(f"{'frame':>14}{'over planes':>20}{'over one piece':>20}")
    for height, width in FRAME_SIZES:
        frames = torch.randint(0, 256, (arguments.frames, height, width, 3), dtype=torch.uint8)
        box = CropBox(height // 10, width // 10, height * 3 // 4, height * 3 // 4)
        rows = compare_resizing(frames, box, arguments)
        columns = "".join(f"{with_range(column):>20}" for column in zip(*rows, strict=True))
        print(f"{f'{height}x{width}':>14}{columns}")


def compare_resizing(
    frames: Tensor, box: CropBox, arguments: argparse.Namespace
) -> list[tuple[float, float]]:
    """Returns our clips per second over those of planes, and over those of one piece."""
    size = (arguments.image_size, arguments.image_size)

    def ours() -> Tensor:
        return torch.stack([crop_and_resize(frames, box, size, antialias=True)])

    def of_planes() -> Tensor:
        images = functional.resize(piece(frames, box).contiguous(), list(size))
        return torch.stack([images.transpose(0, 1)])

    def of_one_piece() -> Tensor:
        return torch.stack([functional.resize(piece(frames, box), list(size)).transpose(0, 1)])

    if not (torch.equal(ours(), of_planes()) and torch.equal(ours(), of_one_piece())):
        raise SystemExit("the ways of resizing do not agree")
    rows = []
    for _ in range(arguments.repeats):
        fast, planes, whole = seconds(ours), seconds(of_planes), seconds(of_one_piece)
        rows.append((planes / fast, whole / fast))
    return rows


def cut(frames: Tensor, crop: RandomResizedClipCrop, seeds: range) -> Tensor:
    """Crops and resizes as many clips as there are seeds: (batch, 3, time, size, size)."""
    return torch.stack([crop(frames, torch.Generator().manual_seed(seed)) for seed in seeds])


def piece(frames: Tensor, box: CropBox) -> Tensor:
    """Returns the box of all frames: (time, 3, height, width), bytes where the decoder put them."""
    top, left, height, width = box
    return frames[:, top : top + height, left : left + width].permute(0, 3, 1, 2)


def seconds(run: Callable[[], Tensor], device: torch.device | None = None) -> float:
    began = time.perf_counter()
    run()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def with_range(ratios: tuple[float, ...]) -> str:
    return f"{statistics.median(ratios):.2f}x {min(ratios):.2f}-{max(ratios):.2f}"


if __name__ == "__main__":
    main()
