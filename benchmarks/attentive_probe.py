"""What a cache of features saves an attentive probe: epochs on it against encoding in each epoch.

    python benchmarks/attentive_probe.py [--heads 1 20] [--blocks 1 4] [--epochs 3]

Both ways run the same training loop on the same batches in the same order; only the features come
from the disk, or from decoding and encoding again. One process, one thread, so the ratio is of one
run; CPU seconds are shown beside wall seconds, since others may use the machine too. The cache has
a price, the first encoding: "pays after" is the number of epochs from which on it is the cheaper
way. Both probes are scored on the same held-out videos.

The saving is (decode + encode + heads) / (read + heads): large where heads are cheap beside the
encoder, as one head on a large encoder; small for twenty deep heads on a tiny one.
"""

# ruff: noqa: E402

from __future__ import annotations

import sys
from pathlib import Path

# Beside this file lies planning.py, which must not be taken for the package.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

# isort: split
import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from data_pipelines.synthetic import write_moving_shapes
from jepa.checkpoints.native import save_encoder
from jepa.evaluation.attentive_probe import Classifier
from jepa.evaluation.encoders import ProbeEncoder, load_probe_encoder
from jepa.evaluation.feature_store import FeatureSet, FeatureStore
from jepa.evaluation.head_training import LEARNING_RATES, WEIGHT_DECAYS, Sweep, predict, train_heads
from jepa.evaluation.labelled_clips import LabelledClips, read_labelled_clips
from jepa.evaluation.probe_result import main_score
from jepa.models import VideoEncoder

WIDTH = 14
TITLES = ("heads", "blocks", "cached s", "encoding s", "ratio", "CPU ratio", "pays after",
          "accuracy", "encoding's")  # fmt: skip
HEADS = {1: ((1e-3,), (0.1,)), 20: (LEARNING_RATES, WEIGHT_DECAYS)}


class Seconds(NamedTuple):
    """What something took."""

    wall: float
    cpu: float


class Encoding:
    """Stands where the features of a cache stand, and encodes each row whenever it is read."""

    def __init__(self, encoder: ProbeEncoder, data: LabelledClips) -> None:
        self.encoder, self.data = encoder, data
        rows = len(data) * data.num_clips * data.num_views
        self.shape, self.ndim, self.dtype = (rows, *encoder.feature_shape), 4, np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Returns the features of rows, whose clips and views are one: (..., layers, tokens, dim).

        Raises:
            ValueError: if a sample cannot be read.
        """
        videos = []
        for row in np.ravel(rows):
            sample: Any = self.data[int(row)]
            videos.append(sample.video)
        features = self.encoder.encode(torch.cat(videos)).numpy()
        return features.reshape(*np.shape(rows), *features.shape[1:])


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder, parts = prepare(folder, arguments)
        print(
            f"{len(parts[0])} videos to train on, features (layers, tokens, dim) "
            f"{encoder.feature_shape} each, encoder of {arguments.depth} blocks of {arguments.dim}"
        )
        stores, caching = timed(
            lambda: [FeatureStore.build(folder / "cache", encoder, part) for part in parts]
        )
        cached, test = (store.as_set() for store in stores)
        again = replace(cached, features=Encoding(encoder, parts[0]))
        print(f"the cache is written in {caching.wall:.1f} s ({caching.cpu:.1f} CPU s)")
        print("".join(f"{title:>{WIDTH}}" for title in TITLES))
        for heads in arguments.heads:
            for blocks in arguments.blocks:
                row(heads, blocks, arguments.epochs, cached, again, test, caching)


def row(
    heads: int,
    blocks: int,
    epochs: int,
    cached: FeatureSet,
    again: FeatureSet,
    test: FeatureSet,
    caching: Seconds,
) -> None:
    """Trains both ways, prints one line."""
    sweep = Sweep(*HEADS[heads], epochs=epochs, batch_size=16)
    classes = cached.classes or ()

    def make() -> Classifier:
        return Classifier(cached.features.shape[-1], len(classes), depth=blocks)

    found = []
    for data in (cached, again):
        trained, seconds = timed(lambda data=data: train_heads(make, data, sweep))
        scores = [main_score(answer, test) for answer in predict(trained, test, sweep, train=data)]
        found.append((seconds.wall / epochs, seconds.cpu / epochs, max(scores)))
    (wall, cpu, score), (wall_again, cpu_again, score_again) = found
    saved = cpu_again - cpu
    pays = f"{np.ceil(caching.cpu / saved):.0f}" if saved > 0 else "never"
    cells = [f"{heads}", f"{blocks}", f"{wall:.2f}", f"{wall_again:.2f}"]
    cells += [f"{wall_again / wall:.1f}x", f"{cpu_again / cpu:.1f}x", pays]
    cells += [f"{score:.3f}", f"{score_again:.3f}"]
    print("".join(f"{cell:>{WIDTH}}" for cell in cells), flush=True)


def timed(work: Callable[[], Any]) -> tuple[Any, Seconds]:
    """Returns what work returns, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def prepare(folder: Path, arguments: argparse.Namespace) -> tuple[ProbeEncoder, list[Any]]:
    """Writes videos and an encoder; returns the encoder, and samples to train and to test on."""
    size = arguments.size
    encoder = VideoEncoder(
        image_size=size, clip_length_frames=8, patch_size=16, dim=arguments.dim,
        depth=arguments.depth, num_heads=arguments.dim // 32,
    )  # fmt: skip
    save_encoder(encoder, folder / "encoder")
    loaded = load_probe_encoder(str(folder / "encoder"))
    parts = []
    for name, count, seed in (("train", arguments.videos, 0), ("test", arguments.videos // 2, 1)):
        write_moving_shapes(folder / name, num_videos=count, num_frames=16, size=size, seed=seed)
        parts.append(
            read_labelled_clips(folder / name, clip_length_frames=8, image_size=size, crop="whole")
        )
    return loaded, parts


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, nargs="+", choices=sorted(HEADS), default=[1, 20])
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 4], help="of the probe")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--videos", type=int, default=64, help="to train on; half of it to test")
    parser.add_argument("--size", type=int, default=64, help="of the videos, in pixels")
    parser.add_argument("--dim", type=int, default=192, help="of the encoder")
    parser.add_argument("--depth", type=int, default=12, help="of the encoder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
