"""Does every pretraining recipe learn, and what happens without what keeps it from collapsing?

    python benchmarks/recipes.py [--steps 300] [--seed 0] [--only NAME ...]

Recordings of the two-rooms simulator, the tiny encoder (4 blocks of 96), a few hundred steps. One
row a recipe: the loss at the start and at the end, the effective rank of the tokens, how far clips
differ at the same place, what the collapse monitor said, and the probe: R2 of the agent's position
from the mean token, on other episodes, beside the same encoder untrained. The rows below the line
lack the part that keeps the recipe from collapsing: no gradient is stopped, or no regularizer acts.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_pipelines  # noqa: F401  (before lightning: see data_pipelines.torchvision_on_cpu)

# isort: split
import lightning.pytorch as L
import torch

from data_pipelines.datamodules import ClipDataModule
from jepa.checkpoints.native import load_encoder, save_encoder
from jepa.evaluation.__main__ import probe_against_untrained
from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.objectives import DenseL1, LatentMSE, LatentSmoothL1, SIGReg, VICReg
from jepa.training.dense_pretraining import DensePretraining
from jepa.training.distillation import Distillation
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining
from planning.__main__ import main as plan

SIZE = {"image_size": 64, "clip_length_frames": 8, "patch_size": 16, "tubelet_size": 2}
MASKS = [MultiBlock(num_blocks=8, target_fraction=0.75)]
Recipe = Callable[[Path], Pretraining]


def encoder(**options: Any) -> VideoEncoder:
    return VideoEncoder(**SIZE, **{"dim": 96, "depth": 4, "num_heads": 4, **options})


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


def v_jepa(folder: Path) -> Pretraining:
    return Pretraining(encoder(), predictor(), **WITH_TEACHER)


def i_jepa_loss(folder: Path) -> Pretraining:
    return Pretraining(encoder(), predictor(), objective=LatentSmoothL1(), **WITH_TEACHER)


def v_jepa_2_1(folder: Path) -> Pretraining:
    return DensePretraining(
        encoder(levels=(1, 3)),
        predictor(num_levels=2, predicts_context=True),
        objective=DenseL1(num_levels=2, warmup_start_step=30, warmup_end_step=60),
        **WITH_TEACHER,
    )


def sigreg(folder: Path) -> Pretraining:
    return RegularizedPretraining(
        encoder(),
        predictor(output_dim=16),
        regularizers=[SIGReg(weight=0.3)],
        embedding_dim=16,
        **SETTINGS,
    )


def vicreg(folder: Path) -> Pretraining:
    return RegularizedPretraining(
        encoder(), predictor(output_dim=16), regularizers=[VICReg()], embedding_dim=16, **SETTINGS
    )


def distillation(folder: Path) -> Pretraining:
    return Distillation(
        encoder(depth=2), predictor(), teacher=str(folder / "v-jepa"), **WITH_TEACHER
    )


def without_stop_gradient(folder: Path) -> Pretraining:
    return RegularizedPretraining(
        encoder(), predictor(output_dim=16), regularizers=[], embedding_dim=16,
        objective=LatentMSE(stop_gradient=False), **SETTINGS,
    )  # fmt: skip


def with_a_regularizer_of_no_weight(folder: Path) -> Pretraining:
    return RegularizedPretraining(
        encoder(),
        predictor(output_dim=16),
        regularizers=[SIGReg(weight=0.0)],
        embedding_dim=16,
        **SETTINGS,
    )


RECIPES: dict[str, Recipe] = {
    "v-jepa": v_jepa,
    "smooth-l1": i_jepa_loss,
    "v-jepa-2.1": v_jepa_2_1,
    "sigreg": sigreg,
    "vicreg": vicreg,
    "distillation": distillation,
}
BROKEN: dict[str, Recipe] = {
    "no stop-gradient": without_stop_gradient,
    "sigreg of weight 0": with_a_regularizer_of_no_weight,
}


class Losses(L.Callback):
    """Keeps every loss, and the last measurement of health."""

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None)
    arguments = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        record(folder, episodes=arguments.episodes, seed=arguments.seed)
        print(f"{arguments.steps} steps of 32 clips, seed {arguments.seed}")
        print(
            f"{'recipe':<20}{'loss':>7}{'':>4}{'':>7}{'rank':>6}{'clip std':>9}{'moved':>7}"
            f"{'R2':>7}{'untrained':>10}  monitor"
        )
        for recipes in (RECIPES, BROKEN):
            for name, make in recipes.items():
                if arguments.only is None or name in arguments.only or name == "v-jepa":
                    print(row(name, make, folder, arguments), flush=True)
            print("-" * 84)


def record(folder: Path, *, episodes: int, seed: int) -> None:
    for name, count, own_seed in (
        ("shards", episodes, seed),
        ("held_out", max(episodes // 4, 8), seed + 1_000_003),
    ):
        plan(["record", "--environment", "two_rooms", "--episodes", str(count), "--steps", "63",
              "--seed", str(own_seed), str(folder / name)])  # fmt: skip


def row(name: str, make: Recipe, folder: Path, arguments: argparse.Namespace) -> str:
    torch.manual_seed(arguments.seed)
    module, losses = make(folder), Losses()
    start = weights(module.released_encoder)
    trainer = L.Trainer(
        max_steps=arguments.steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder / name,
        callbacks=[losses],
    )
    data = ClipDataModule(
        str(folder / "shards"), 8, image_size=64, crop_scale=(1.0, 1.0),
        crop_aspect_ratio=(1.0, 1.0), horizontal_flip=False, batch_size=32, clips_per_video=8,
        steps_per_epoch=arguments.steps, seed=arguments.seed,
    )  # fmt: skip
    trainer.fit(module, data)
    released = load_encoder(folder / name)
    save_encoder(released, folder / name / "released")
    moved = (weights(module.released_encoder) - start).norm() / start.norm()
    scores = probe_against_untrained(
        folder / name, str(folder / "shards"), str(folder / "held_out"),
        num_rows=arguments.rows, num_test_rows=arguments.rows // 3, seed=arguments.seed,
    )  # fmt: skip
    health = trainer.callback_metrics
    said = "collapsing" if module.collapse.warned else "healthy"
    tenth = max(arguments.steps // 10, 1)
    return (
        f"{name:<20}{mean(losses.losses[:tenth]):>7.3f} -> {mean(losses.losses[-tenth:]):>7.3f}"
        f"{health['collapse/effective_rank']:>6.1f}{health['collapse/clip_std']:>9.4f}"
        f"{moved:>7.2f}{scores['trained']['pooled']:>7.3f}{scores['untrained']['pooled']:>10.3f}"
        f"  {said}"
    )


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
