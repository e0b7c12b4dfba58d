"""For every test: no network, no window; and torchvision beside a CPU-only torch."""

import os

import data_pipelines  # noqa: F401  (its hook must be there before anything imports torchvision)

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", MPLBACKEND="Agg")
