"""Does pretraining tell more than the same encoder untrained, raw pixels, or an image model?

    python benchmarks/representation_table.py --folder runs/table [--steps 1500] [--seed 0]
    python benchmarks/representation_table.py --folder runs/table --encoder runs/table/pretrain

Made-up videos of a shape that crosses a background, both of random colours. A tiny encoder is
pretrained on them without labels: it predicts the latents of hidden blocks, and of the second half
of a clip from its first. Then, each with its 95 % interval over test videos, on videos and
trajectories that were not trained on:

- the direction of motion by the attentive, the linear and the nearest-neighbour probe. The shape
  starts anywhere and its frame's sides are joined, so that a single frame tells nothing: the row
  "one frame" is the proof.
- the shape's place at the end of a trajectory's window by the attentive and the linear probe. The
  attentive probe of raw pixels is as wide as a tubelet of pixels: leave it out there if in a hurry.

Beside it: the same encoder untrained, pixels, and EfficientNet-Lite0 trained on ImageNet, frame by
frame, if its package is installed (--baselines leaves it out). A recipe is found on seeds that are
not the reported ones.
"""

# ruff: noqa: E402

from __future__ import annotations

import sys
from pathlib import Path

# Beside this file lies planning.py, which must not be taken for the package.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

# isort: split
import argparse
import json
from dataclasses import dataclass, replace

from data_pipelines.__main__ import main as data
from jepa.evaluation.__main__ import table
from jepa.evaluation.head_training import Sweep
from jepa.evaluation.probing import Probe, ProbeData, Row, probe_table
from jepa.lightning_cli import main as fit

CLIP = {"clip_length_frames": 8, "image_size": 32}
RECIPE = {
    "model": {
        "class_path": "jepa.training.pretraining.Pretraining",
        "init_args": {
            "encoder": {
                "class_path": "jepa.models.VideoEncoder",
                "init_args": {**CLIP, "patch_size": 8, "tubelet_size": 2, "dim": 64, "depth": 4,
                              "num_heads": 4},
            },
            "predictor": {
                "class_path": "jepa.models.MaskedLatentPredictor",
                "init_args": {"encoder_dim": 64, "dim": 48, "depth": 2, "num_heads": 2},
            },
            "masks": [
                {"class_path": "jepa.masking.Future", "init_args": {"context_fraction": 0.5}},
                {"class_path": "jepa.masking.MultiBlock",
                 "init_args": {"num_blocks": 8, "target_fraction": 0.75}},
            ],
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "schedule": {"class_path": "jepa.training.schedules.WarmupCosine",
                         "init_args": {"warmup_fraction": 0.1}},
            "ema_momentum": [0.99, 0.999],
            "monitor_every_n_steps": 50,
        },
    },
    "data": {
        "class_path": "data_pipelines.datamodules.ClipDataModule",
        "init_args": {
            "shards": "named by the script", **CLIP,
            # Where a shape is and how it moves is what the encoder should know.
            "crop_scale": [1.0, 1.0], "crop_aspect_ratio": [1.0, 1.0], "horizontal_flip": False,
            "batch_size": 32, "clips_per_video": 4,
        },
    },
    "trainer": {"accelerator": "cpu", "log_every_n_steps": 50, "enable_progress_bar": False,
                "enable_model_summary": False},
}  # fmt: skip
SWEEP = Sweep(learning_rates=(3e-3, 1e-3, 3e-4), weight_decays=(0.01, 0.4), batch_size=64)
BASELINES = ("untrained", "pixels", "efficientnet-lite0")
TEST_SEED = 1_000_003  # added to the seed of what is trained on


@dataclass(frozen=True)
class Question:
    """One line of probes."""

    name: str
    data: ProbeData
    probe: Probe


def main() -> None:
    """Makes data, pretrains, probes, prints."""
    arguments = parse()
    folder: Path = arguments.folder
    make_data(arguments)
    encoder = arguments.encoder
    if encoder is None:
        encoder = pretrain(folder, steps=arguments.steps, seed=arguments.seed)
    report = known(folder / "table.json")
    for question in questions(folder, depth=arguments.depth, epochs=arguments.epochs):
        if question.name not in arguments.only:
            continue
        seeds = range(arguments.seed, arguments.seed + arguments.seeds)
        rows = answers(question, encoder, folder, seeds=seeds, baselines=arguments.baselines)
        print(f"\n{question.name}\n{table(rows)}", flush=True)
        report[question.name] = [row.to_json() for row in rows]
        (folder / "table.json").write_text(json.dumps(report, indent=1) + "\n")


def known(path: Path) -> dict[str, list]:
    """Returns what earlier runs in this folder found; a run may ask some of the questions only."""
    return json.loads(path.read_text()) if path.exists() else {}


def answers(
    question: Question, encoder: str, folder: Path, *, seeds: range, baselines: list[str]
) -> list[Row]:
    """Returns the rows of one question; where motion is asked for, also those of a single frame."""
    rows = probe_table(
        str(encoder),
        question.data,
        question.probe,
        baselines=baselines,
        cache=folder / "features",
        seeds=seeds,
    )
    if question.name.startswith("motion"):
        still = probe_table(
            "pixels",
            question.data,
            question.probe,
            baselines=(),
            clip_length_frames=1,
            cache=folder / "features",
            seeds=seeds,
        )[0]
        rows.insert(-1, replace(still, name="one frame (pixels)"))
    return rows


def questions(folder: Path, *, depth: int, epochs: int) -> list[Question]:
    """What is asked, and by which probe."""
    motion = ProbeData(train=str(folder / "shards"), test=str(folder / "test_shards"))
    state = ProbeData(train=str(folder / "episodes"), test=str(folder / "test_episodes"))
    sweep = replace(SWEEP, epochs=epochs)
    return [
        Question("state, linear", state, Probe("linear")),
        Question("state, attentive", state, Probe("attentive", sweep=sweep, depth=depth)),
        Question("motion, linear", motion, Probe("linear")),
        Question("motion, knn", motion, Probe("knn")),
        Question("motion, attentive", motion, Probe("attentive", sweep=sweep, depth=depth)),
    ]


def make_data(arguments: argparse.Namespace) -> None:
    """Writes videos, their shards, and trajectories, of which no two sets share a seed."""
    folder, seed = arguments.folder, arguments.seed
    size = ["--size", str(CLIP["image_size"])]
    for name, number, of in (("", 4, seed), ("test_", 1, seed + TEST_SEED)):
        if (folder / f"{name}episodes").exists():
            continue
        videos, episodes = folder / f"{name}videos", folder / f"{name}episodes"
        count = number * arguments.videos // 4
        run("synthesize", videos, "--videos", count, "--frames", 16, "--seed", of, *size)
        run("pack", videos, folder / f"{name}shards")
        count = number * arguments.episodes // 4
        run("synthesize", episodes, "--trajectories", count, "--frames", 16, "--seed", of, *size)


def run(verb: str, *words: object) -> None:
    """Runs `jepa data`."""
    if data([verb, *map(str, words)]) != 0:
        raise RuntimeError(f"jepa data {verb} failed")


def pretrain(folder: Path, *, steps: int, seed: int) -> str:
    """Pretrains on the videos alone; returns the run's folder."""
    config = folder / "recipe.yaml"
    config.write_text(json.dumps(RECIPE, indent=1))  # JSON is YAML
    words = ["--config", config, "--data.shards", folder / "shards", "--trainer.max_steps", steps,
             "--data.steps_per_epoch", steps, "--seed_everything", seed,
             "--trainer.default_root_dir", folder / "pretrain"]  # fmt: skip
    if fit(["fit", *map(str, words)]) != 0:
        raise RuntimeError("jepa fit failed")
    return str(folder / "pretrain")


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="of data, run and features")
    parser.add_argument("--encoder", help="one that is pretrained already")
    parser.add_argument("--steps", type=int, default=1500, help="of pretraining")
    parser.add_argument("--videos", type=int, default=1200, help="to train on; a quarter to test")
    parser.add_argument("--episodes", type=int, default=120, help="likewise")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="of probes and untrained weights")
    parser.add_argument("--depth", type=int, default=2, help="blocks of the attentive probe")
    parser.add_argument("--epochs", type=int, default=20, help="of the attentive probe")
    parser.add_argument("--baselines", nargs="*", default=list(BASELINES))
    names = [question.name for question in questions(Path(), depth=1, epochs=1)]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    main()
