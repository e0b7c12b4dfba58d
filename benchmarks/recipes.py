"""Does every pretraining recipe learn, and what happens without what keeps it from collapsing?

    python benchmarks/recipes.py [--steps 500] [--seeds 0 1 2] [--only NAME ...]

Recordings of the two-rooms simulator, the tiny encoder (4 blocks of 96), a few hundred steps of 32
clips. One row a recipe and seed: the loss at the start and at the end, the effective rank of the
tokens and the monitor's floor of it, how far clips differ at the same place, how far the released
weights moved, what the collapse monitor said, and the probe: R2 of the agent's position from the
mean token, on other episodes, beside the same encoder before its first step. The rows below the
line lack the part that keeps the recipe from collapsing: no gradient is stopped, or no regularizer
acts. Last come means over seeds. A seed is that of the recordings, the weights and the order.

Clips and frames of a seed are read once, for all rows: 3 MB of memory a step, and 300 MB.
"""

# ruff: noqa: E402

from __future__ import annotations

import sys
from pathlib import Path

# Beside this file lies planning.py, which must not be taken for the package.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

# isort: split
import argparse
import logging
import statistics
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import data_pipelines  # noqa: F401  (before lightning: see data_pipelines.torchvision_on_cpu)

# isort: split
import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader

from data_pipelines.batch import ClipBatch, TrajectoryBatch
from data_pipelines.datamodules import ClipDataModule, TrajectoryDataModule
from jepa.checkpoints.native import load_encoder
from jepa.evaluation.probes import Features, frame_features, linear_probe
from jepa.masking import ImageMultiBlock, MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder, normalize_pixels
from jepa.objectives import DenseL1, LatentMSE, LatentSmoothL1, SIGReg, VICReg
from jepa.training.dense_pretraining import DensePretraining
from jepa.training.distillation import Distillation
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining
from planning.__main__ import main as plan

CLIPS_A_STEP, CLIPS_A_VIDEO = 32, 8
SIZE = {"image_size": 64, "clip_length_frames": 8, "patch_size": 16, "tubelet_size": 2}
MASKS = [MultiBlock(num_blocks=8, target_fraction=0.75)]


class Probe:
    """Reads off an encoder where the agent is.

    Args:
        folder: of the recordings.
        rows: frames that a probe is fitted on, three times as many as it is scored on.
    """

    def __init__(self, folder: Path, *, rows: int) -> None:
        self.counts = (rows, rows // 3)
        self.batches = [
            read_frames(folder / name, count)
            for name, count in zip(("shards", "held_out"), self.counts, strict=True)
        ]
        self._untrained: dict[str, float] = {}

    def score(self, model: VideoEncoder) -> float:
        """Returns R2 of a ridge regression on the mean token."""
        features = [
            frame_features(model, iter(batches), count)
            for batches, count in zip(self.batches, self.counts, strict=True)
        ]
        means = [Features(f.pooled[:, None], f.targets) for f in features]
        return linear_probe(*means).pooled

    def score_untrained(self, model: VideoEncoder) -> float:
        """Returns the same of an encoder before its first step, which a seed has once a size."""
        key = str(model.config)
        if key not in self._untrained:
            self._untrained[key] = self.score(model)
        return self._untrained[key]


class Run(NamedTuple):
    """What the rows of a seed have in common.

    Attributes:
        folder: of the recordings, and of what the rows leave.
        seed: of all that is drawn.
        steps: of each row.
        clips: a batch a step.
        probe: knows the frames to probe on.
    """

    folder: Path
    seed: int
    steps: int
    clips: list[ClipBatch]
    probe: Probe


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes:
        make: returns a new module.
        is_of_images: of one frame of each clip, instead of the clip.
    """

    make: Callable[[Run], Pretraining]
    is_of_images: bool = False


class Found(NamedTuple):
    """What became of a recipe: a row."""

    name: str
    first_loss: float
    last_loss: float
    rank: float
    rank_floor: float
    clip_std: float
    moved: float
    r2: float
    untrained_r2: float
    has_collapsed: bool


def encoder(**options: Any) -> VideoEncoder:
    return VideoEncoder(**{**SIZE, "dim": 96, "depth": 4, "num_heads": 4, **options})


def predictor(**options: Any) -> MaskedLatentPredictor:
    return MaskedLatentPredictor(**{"encoder_dim": 96, "dim": 48, "depth": 2, "num_heads": 2,
                                    **options})  # fmt: skip


SETTINGS: dict[str, Any] = {
    "masks": MASKS,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "monitor_every_n_steps": 25,
}
WITH_TEACHER = {**SETTINGS, "ema_momentum": (0.99, 0.999)}


def v_jepa(run: Run) -> Pretraining:
    return Pretraining(encoder(), predictor(), **WITH_TEACHER)


def smooth_l1(run: Run) -> Pretraining:
    return Pretraining(encoder(), predictor(), objective=LatentSmoothL1(), **WITH_TEACHER)


def i_jepa(run: Run) -> Pretraining:
    return Pretraining(
        encoder(clip_length_frames=1, patch_size=8, tubelet_size=1),
        predictor(),
        objective=LatentSmoothL1(),
        image_masks=[ImageMultiBlock()],
        **WITH_TEACHER,
    )


def v_jepa_2_1(run: Run) -> Pretraining:
    return DensePretraining(
        encoder(levels=(1, 3)),
        predictor(num_levels=2, predicts_context=True),
        objective=DenseL1(
            num_levels=2, warmup_start_step=run.steps // 10, warmup_end_step=run.steps // 5
        ),
        **WITH_TEACHER,
    )


def sigreg(run: Run) -> Pretraining:
    return RegularizedPretraining(
        encoder(),
        predictor(output_dim=16),
        regularizers=[SIGReg(weight=0.3)],
        embedding_dim=16,
        **SETTINGS,
    )


def vicreg(run: Run) -> Pretraining:
    return RegularizedPretraining(
        encoder(), predictor(output_dim=16), regularizers=[VICReg()], embedding_dim=16, **SETTINGS
    )


def distillation(run: Run) -> Pretraining:
    return Distillation(
        encoder(depth=2), predictor(), teacher=str(run.folder / "v-jepa"), **WITH_TEACHER
    )


def without_stop_gradient(run: Run) -> Pretraining:
    return RegularizedPretraining(
        encoder(), predictor(output_dim=16), regularizers=[], embedding_dim=16,
        objective=LatentMSE(stop_gradient=False), **SETTINGS,
    )  # fmt: skip


def with_a_regularizer_of_no_weight(run: Run) -> Pretraining:
    return RegularizedPretraining(
        encoder(),
        predictor(output_dim=16),
        regularizers=[SIGReg(weight=0.0)],
        embedding_dim=16,
        **SETTINGS,
    )


RECIPES: dict[str, Recipe] = {
    "v-jepa": Recipe(v_jepa),
    "smooth-l1": Recipe(smooth_l1),
    "i-jepa-images": Recipe(i_jepa, is_of_images=True),
    "v-jepa-2.1": Recipe(v_jepa_2_1),
    "sigreg": Recipe(sigreg),
    "vicreg": Recipe(vicreg),
    "distillation": Recipe(distillation),
}
BROKEN: dict[str, Recipe] = {
    "no stop-gradient": Recipe(without_stop_gradient),
    "sigreg of weight 0": Recipe(with_a_regularizer_of_no_weight),
}


class Losses(L.Callback):
    """Keeps every loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.losses.append(float(outputs["loss"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=[*RECIPES, *BROKEN])
    arguments = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    found: dict[str, list[Found]] = defaultdict(list)
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            record(Path(folder), episodes=arguments.episodes, seed=seed)
            run = Run(
                Path(folder),
                seed,
                arguments.steps,
                read_clips(Path(folder), seed=seed, steps=arguments.steps),
                Probe(Path(folder), rows=arguments.rows),
            )
            for row in print_seed(run, arguments.only or [*RECIPES, *BROKEN]):
                found[row.name].append(row)
    if len(arguments.seeds) > 1:
        print_means(found)


def print_seed(run: Run, names: list[str]) -> list[Found]:
    """Prints and returns the rows of a seed."""
    print(f"{run.steps} steps of {CLIPS_A_STEP} clips, seed {run.seed}")
    print(
        f"{'recipe':<20}{'loss':>7}{'':>11}{'rank':>6}{'floor':>6}{'clip std':>9}{'moved':>7}"
        f"{'R2':>7}{'untrained':>10}  monitor"
    )
    found = []
    for recipes in (RECIPES, BROKEN):
        for name, recipe in recipes.items():
            is_teacher = name == "v-jepa" and "distillation" in names
            if name in names or is_teacher:
                found.append(train(name, recipe, run))
                print(line(found[-1]), flush=True)
        print("-" * 92)
    return found


def print_means(found: dict[str, list[Found]]) -> None:
    print(f"{'mean over seeds':<20}{'R2':>7}{'untrained':>10}{'gain':>7}   gain of each seed")
    for name, rows in found.items():
        gains = [row.r2 - row.untrained_r2 for row in rows]
        print(
            f"{name:<20}{statistics.mean(row.r2 for row in rows):>7.3f}"
            f"{statistics.mean(row.untrained_r2 for row in rows):>10.3f}"
            f"{statistics.mean(gains):>+7.3f}   {', '.join(f'{gain:+.3f}' for gain in gains)}"
        )


def record(folder: Path, *, episodes: int, seed: int) -> None:
    for name, count, own_seed in (
        ("shards", episodes, seed),
        ("held_out", max(episodes // 4, 8), seed + 1_000_003),
    ):
        plan(["record", "--environment", "two_rooms", "--episodes", str(count), "--steps", "63",
              "--seed", str(own_seed), str(folder / name)])  # fmt: skip


def read_clips(folder: Path, *, seed: int, steps: int) -> list[ClipBatch]:
    data = ClipDataModule(
        str(folder / "shards"), SIZE["clip_length_frames"], image_size=SIZE["image_size"],
        crop_scale=(1.0, 1.0), crop_aspect_ratio=(1.0, 1.0), horizontal_flip=False,
        batch_size=CLIPS_A_STEP, clips_per_video=CLIPS_A_VIDEO, steps_per_epoch=steps, seed=seed,
    )  # fmt: skip
    return list(data.train_dataloader())


def read_frames(shards: Path, count: int) -> list[TrajectoryBatch]:
    length = SIZE["clip_length_frames"]
    data = TrajectoryDataModule(
        str(shards), length, image_size=SIZE["image_size"], batch_size=8,
        steps_per_epoch=-(-count // (8 * length)),
    )  # fmt: skip
    return list(data.train_dataloader())


def frames_of(clips: list[ClipBatch]) -> list[ClipBatch]:
    """Returns one frame of each clip, another one at every step."""
    frames = []
    for step, batch in enumerate(clips):
        time = step % batch.video.shape[2]
        frames.append(batch._replace(video=batch.video[:, :, time : time + 1]))
    return frames


def train(name: str, recipe: Recipe, run: Run) -> Found:
    """Trains a recipe, and looks at what it left."""
    torch.manual_seed(run.seed)
    module, losses = recipe.make(run), Losses()
    start, untrained = weights(module.released_encoder), run.probe.score_untrained(module.encoder)
    trainer = L.Trainer(
        max_steps=run.steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run.folder / name,
        callbacks=[losses],
    )
    batches = frames_of(run.clips) if recipe.is_of_images else run.clips
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    health, tenth = trainer.callback_metrics, max(run.steps // 10, 1)
    return Found(
        name=name,
        first_loss=statistics.mean(losses.losses[:tenth]),
        last_loss=statistics.mean(losses.losses[-tenth:]),
        rank=float(health["collapse/effective_rank"]),
        rank_floor=rank_floor(module, batches[0].video[:2]),
        clip_std=float(health["collapse/clip_std"]),
        moved=float((weights(module.released_encoder) - start).norm() / start.norm()),
        r2=run.probe.score(load_encoder(run.folder / name)),
        untrained_r2=untrained,
        has_collapsed=module.collapse.warned,
    )


def line(row: Found) -> str:
    return (
        f"{row.name:<20}{row.first_loss:>7.3f} -> {row.last_loss:>7.3f}"
        f"{row.rank:>6.1f}{row.rank_floor:>6.1f}{row.clip_std:>9.4f}{row.moved:>7.2f}"
        f"{row.r2:>7.3f}{row.untrained_r2:>10.3f}"
        f"  {'collapsing' if row.has_collapsed else 'healthy'}"
    )


@torch.no_grad()
def rank_floor(module: Pretraining, pixels: torch.Tensor) -> float:
    """Returns the effective rank below which the monitor warns."""
    video = normalize_pixels(pixels)
    dim = module.watched_tokens(video, module.target(video)).shape[-1]
    return module.collapse.policy.rank_floor(dim)


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


if __name__ == "__main__":
    main()
