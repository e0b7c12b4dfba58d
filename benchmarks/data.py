"""Reading clips: packed shards against a plain loop over loose files, in one run.

    python benchmarks/data.py [--quick]

Makes videos as cameras and web sites leave them (long GOP: a keyframe every 250 frames), packs them
in several ways, and asks all of them for the same clips: so many frames at an asked rate from a
random moment, cropped and resized. The plain loop is what the official loader does with a list of
files: one decord reader per visit, one clip, the same crop.

Clips are counted per second of processor time of the whole process, decoding threads included, so
that a decoder which takes two cores is not twice as good. All variants take turns in every round;
a ratio is the median of the rounds' ratios, and (min-max) are the least and the greatest of these.

It prints five tables: each decoder on each form of the data; which step of re-encoding brings
which part of the gain; how reading scales with workers; memory over many clips; and which share of
a small training step waits for data.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import decord
import numpy as np
import torch
from PIL import Image

from data_pipelines.clip_dataset import ClipDataset
from data_pipelines.datamodules import ClipDataModule
from data_pipelines.decoders.base import decoder_class, decoder_names
from data_pipelines.plan import Slot
from data_pipelines.recoding import RecodeSettings
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shards import pack_videos
from data_pipelines.transforms import RandomResizedClipCrop
from data_pipelines.video_writing import write_mp4

CLIP_FRAMES, CLIP_RATE, IMAGE_SIZE = 16, 4.0, 224
SOURCE_RATE, SOURCE_GOP = 30, 250

PARTS = ("decoders", "gain", "workers", "memory", "waiting")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small: to see that it runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-clips", type=int, default=5000)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = (96, 128) if arguments.quick else (480, 854)
    rounds = 1 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory() as folder:
        sets = make_sets(Path(folder), size=size, seconds=6 if arguments.quick else 12)
        num_clips = 100 if arguments.quick else arguments.memory_clips
        parts = {
            "decoders": lambda: compare_decoders(sets, rounds),
            "gain": lambda: explain_gain(sets, rounds),
            "workers": lambda: compare_workers(sets, 1 if arguments.quick else 3),
            "memory": lambda: watch_memory(sets, num_clips),
            "waiting": lambda: watch_waiting(sets, 10 if arguments.quick else 60),
        }
        for name in arguments.parts:
            parts[name]()


def make_sets(folder: Path, *, size: tuple[int, int], seconds: int) -> dict[str, Path]:
    """Writes the videos and packs them: name of the form -> folder."""
    videos = folder / "videos"
    for number in range(8):
        frames = camera_pan(number, size=size, num_frames=seconds * SOURCE_RATE)
        write_mp4(
            videos / f"{number}.mp4",
            frames,
            frames_per_second=SOURCE_RATE,
            crf=23,
            keyframe_interval=SOURCE_GOP,
        )
    sets = {"files": videos}
    short_side = 64 if size[0] < 200 else 256
    forms = {
        "copied": None,
        "short GOP": RecodeSettings(keyframe_interval=8),
        "+ small": RecodeSettings(keyframe_interval=8, short_side=short_side),
        "+ rate": RecodeSettings(
            keyframe_interval=8, short_side=short_side, frames_per_second=str(int(CLIP_RATE))
        ),
    }
    print(f"8 videos of {seconds} s, {size[1]}x{size[0]}, {SOURCE_RATE} fps, GOP {SOURCE_GOP}")
    for name, recode in forms.items():
        sets[name] = folder / name.strip("+ ")
        pack_videos(videos, sets[name], recode=recode)
        packed = sum(path.stat().st_size for path in sets[name].glob("*.tar"))
        print(f"  packed '{name}': {packed * 8e-6 / (8 * seconds):.2f} Mbit per second of video")
    print(f"clips of {CLIP_FRAMES} frames at {CLIP_RATE:g} fps, cropped to {IMAGE_SIZE} px\n")
    return sets


def camera_pan(seed: int, *, size: tuple[int, int], num_frames: int) -> np.ndarray:
    """A camera that pans over a textured scene with moving boxes and a little sensor noise."""
    rng = np.random.default_rng(seed)
    height, width = size
    rows, columns = height // 16 + 16, width // 16 + 32
    coarse = Image.fromarray(rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8))
    scene = np.asarray(coarse.resize((16 * columns, 16 * rows), Image.Resampling.BICUBIC))
    boxes = rng.uniform(0, 1, (6, 4))  # place and velocity
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for index in range(num_frames):
        left, top = index % 256, (index // 2) % 128
        frame = scene[top : top + height, left : left + width].copy()
        for number, (y, x, dy, dx) in enumerate(boxes):
            row = int((y + dy * index / 60) % 0.8 * height)
            column = int((x + dx * index / 60) % 0.8 * width)
            frame[row : row + height // 6, column : column + width // 8] = 40 * number
        noise = rng.integers(-2, 3, frame.shape, dtype=np.int8)
        frames[index] = np.clip(frame.astype(np.int16) + noise, 0, 255)
    return frames


def plain_loop(videos: Path) -> Callable[[int], int]:
    """What the official loader does with a list of files; returns clips per visit, one."""
    paths = sorted(videos.glob("*.mp4"))
    crop = RandomResizedClipCrop(IMAGE_SIZE)
    step = round(SOURCE_RATE / CLIP_RATE)

    def visit(number: int) -> int:
        generator = torch.Generator().manual_seed(number)
        reader = decord.VideoReader(str(paths[number % len(paths)]), num_threads=-1)
        last = len(reader) - (CLIP_FRAMES - 1) * step
        start = int(torch.randint(max(last, 1), (), generator=generator))
        wanted = np.minimum(start + np.arange(CLIP_FRAMES) * step, len(reader) - 1)
        crop(torch.from_numpy(reader.get_batch(wanted).asnumpy()), generator)
        return 1

    return visit


def shard_loop(shards: Path, decoder: str, clips_per_video: int = 1) -> Callable[[int], int]:
    """Reads clips of a packed set as training does; returns clips per visit."""
    index = ShardIndex.load(shards)
    dataset = ClipDataset(
        index,
        clip_length_frames=CLIP_FRAMES,
        transform=RandomResizedClipCrop(IMAGE_SIZE),
        frames_per_second=CLIP_RATE,
        clips_per_video=clips_per_video,
        decoder=decoder,
        isolate_decoding=False,
    )

    def visit(number: int) -> int:
        sample: Any = dataset[Slot(number % index.num_samples, seed=number)]
        assert not sample.skipped, sample.skipped
        return len(sample.video)

    return visit


def measure(variants: dict[str, Callable[[int], int]], rounds: int) -> dict[str, list[float]]:
    """Clips per second of processor time of each variant in each round; the first round warms."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, visit in variants.items():
            began, clips = time.process_time(), 0
            for number in range(8):
                clips += visit(8 * turn + number)
            if turn:
                rates[name].append(clips / (time.process_time() - began))
    return rates


def ratio(rates: list[float], base: list[float]) -> str:
    ratios = [one / other for one, other in zip(rates, base, strict=True)]
    return f"{statistics.median(ratios):5.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def installed_decoders() -> list[str]:
    names = []
    for name in decoder_names():
        try:
            decoder_class(name)
        except ImportError as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}")
            continue
        names.append(name)
    return names


def compare_decoders(sets: dict[str, Path], rounds: int) -> None:
    decoders = installed_decoders()
    variants = {"plain": plain_loop(sets["files"])}
    for decoder, name in itertools.product(decoders, ("copied", "+ rate")):
        variants[f"{decoder} {name}"] = shard_loop(sets[name], decoder)
    rates = measure(variants, rounds)
    base = rates["plain"]
    print(f"plain decord loop over files: {statistics.median(base):.1f} clips per core-second")
    print(f"{'decoder':<12}{'source as it is':>22}{'re-encoded shard':>22}")
    for decoder in decoders:
        cells = [ratio(rates[f"{decoder} {name}"], base) for name in ("copied", "+ rate")]
        print(f"{decoder:<12}{cells[0]:>22}{cells[1]:>22}")
    print()


def explain_gain(sets: dict[str, Path], rounds: int) -> None:
    variants = {"plain": plain_loop(sets["files"])}
    for name in ("copied", "short GOP", "+ small", "+ rate"):
        variants[name] = shard_loop(sets[name], "decord")
    variants["+ 4 clips per visit"] = shard_loop(sets["+ rate"], "decord", clips_per_video=4)
    rates = measure(variants, rounds)
    print(f"{'where the gain comes from':<28}{'of the plain loop':>22}{'of the step before':>22}")
    for before, name in itertools.pairwise(rates):
        total, step = ratio(rates[name], rates["plain"]), ratio(rates[name], rates[before])
        print(f"{name:<28}{total:>22}{step:>22}")
    print()


def compare_workers(sets: dict[str, Path], rounds: int) -> None:
    """Wall-clock clips per second with more reading processes; nothing else is done with them."""
    rates: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for _ in range(rounds):
        for num_workers, found in rates.items():
            found.append(1 / median_seconds_per_clip(sets["+ rate"], num_workers))
    print(f"{'workers':<12}{'clips per second, of 1 worker':>34}")
    for num_workers, found in rates.items():
        print(f"{num_workers:<12}{ratio(found, rates[1]):>34}")
    print()


def median_seconds_per_clip(shards: Path, num_workers: int) -> float:
    data = data_module(shards, num_workers=num_workers, steps=24, batch_size=8)
    batches = iter(data.train_dataloader())
    for _ in range(4):  # workers have started, and their first batches wait
        next(batches)
    began = time.perf_counter()
    count = sum(len(batch.keys) for batch in batches)
    return (time.perf_counter() - began) / count


def data_module(shards: Path, *, num_workers: int, steps: int, batch_size: int) -> ClipDataModule:
    return ClipDataModule(
        str(shards),
        CLIP_FRAMES,
        frames_per_second=CLIP_RATE,
        image_size=IMAGE_SIZE,
        batch_size=batch_size,
        num_workers=num_workers,
        steps_per_epoch=steps,
    )


def watch_memory(sets: dict[str, Path], num_clips: int) -> None:
    """Resident memory of the reading process while clips pass by, for each decoder."""
    for decoder in installed_decoders():
        visit = shard_loop(sets["+ rate"], decoder)
        marks = [
            resident_megabytes()
            for number in range(num_clips)
            if visit(number) and (number + 1) % (num_clips // 10) == 0
        ]
        shown = " ".join(f"{mark:.0f}" for mark in marks)
        print(f"memory, {decoder}, MB after each tenth of {num_clips} clips: {shown}")
        print(f"  growth from the first tenth to the last: {marks[-1] - marks[0]:+.1f} MB")
    print()


def resident_megabytes() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:  # not Linux: the greatest so far must do
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return pages * resource.getpagesize() / 1e6


def watch_waiting(sets: dict[str, Path], steps: int) -> None:
    """Share of a step that the trainer waits for data, training a small encoder."""
    print(f"{'waiting, share of a small step':<34}{'0 workers':>12}{'1 worker':>12}")
    for name in ("copied", "+ rate"):
        shares = [wait_share(sets[name], num_workers, steps) for num_workers in (0, 1)]
        print(f"{name:<34}" + "".join(f"{share:>12.2f}" for share in shares))


def wait_share(shards: Path, num_workers: int, steps: int) -> float:
    from jepa.models import VideoEncoder

    data = data_module(shards, num_workers=num_workers, steps=steps + 5, batch_size=4)
    encoder = VideoEncoder(
        image_size=IMAGE_SIZE, clip_length_frames=CLIP_FRAMES, dim=96, depth=2, num_heads=3
    )
    waited, worked = [], []
    for batch, seconds in timed(iter(data.train_dataloader())):
        began = time.perf_counter()
        encoder(batch.video.float() / 255).square().mean().backward()
        encoder.zero_grad()
        waited.append(seconds)
        worked.append(time.perf_counter() - began)
    waits, works = sum(waited[5:]), sum(worked[5:])
    return waits / (waits + works)


def timed(batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Yields each batch and how long it let us wait."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began


if __name__ == "__main__":
    main()
